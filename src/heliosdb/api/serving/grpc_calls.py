"""One call by gRPC: who makes it, and its message once that is known.

What always holds: of whom the database has not confirmed no message is read, and nothing is held but while it
is asked; a message comes in time or not at all, and a caller has half of the places at most.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
from fastapi import Request

from heliosdb.api.database import Identity, Right
from heliosdb.api.guard import Services
from heliosdb.api.identity import Claim, identify
from heliosdb.api.limits import Places, address_key
from heliosdb.api.problems import Problem, as_problem
from heliosdb.api.serving.admission import Admitted
from heliosdb.api.serving.tensors import misfit

_MOST_KNOWN = 10_000


class Callers:
    """Whom the database has confirmed, by what they show, and whom it is being asked about."""

    def __init__(self, services: Services) -> None:
        most = services.config.inferences
        self._database = services.database
        self._asking = Places(most, max(1, most // 2), "Too many calls come from this address.", 1)
        self._known: OrderedDict[str, str] = OrderedDict()

    async def confirm(self, claim: Claim, address: str) -> Identity:
        """Ask the database; a Problem 401, 403 or 429."""
        with self._asking.one_more(address):
            identity = await self._database.confirm(claim, Right.PREDICT)
        self._known[claim.key] = identity.key
        if len(self._known) > _MOST_KNOWN:
            self._known.popitem(last=False)
        return identity

    async def key_of(self, claim: Claim, address: str) -> str:
        """What a caller's calls are counted under; asks where it is not known. It is no admission."""
        known = self._known.get(claim.key)
        if known is None:
            return (await self.confirm(claim, address)).key
        self._known.move_to_end(claim.key)
        return known

    def forget(self, claim: Claim) -> None:
        """Ask again at the next call."""
        self._known.pop(claim.key, None)


class Call:
    """One call: who makes it, as far as is known yet."""

    def __init__(
        self, services: Services, callers: Callers, messages: AsyncIterator[bytes], context: Any
    ) -> None:
        self.services = services
        self.role: str | None = None
        self._callers = callers
        self._messages = messages
        self._context = context
        # ipv4:127.0.0.1:5555 or ipv6:%5B::1%5D:5555
        host = context.peer().partition(":")[2].rpartition(":")[0]
        self._address = address_key(host.removeprefix("%5B").removesuffix("%5D") or None)

    def count_address(self) -> None:
        """Count where it comes from; a Problem 429."""
        self.services.addresses.take(self._address)

    async def confirm(self) -> None:
        """Have the database say that the caller may predict; a Problem 401, 403 or 429."""
        identity = await self._callers.confirm(await self._claim(), self._address)
        self.role = identity.role
        self.services.identities.take(identity.key)

    @asynccontextmanager
    async def message(self) -> AsyncIterator[tuple[Claim, bytes]]:
        """Who calls and the message, for as long as the block runs; a Problem 401, 403, 408, 422 or 429."""
        claim = await self._claim()
        with self.services.inference.places.one_more(await self._callers.key_of(claim, self._address)):
            yield claim, await self._read()

    async def admit(self, claim: Claim, model: str, version: str) -> Admitted:
        """Let it in; a Problem 401, 403, 404, 409 or 429."""
        try:
            admitted = await self.services.inference.admit(claim, model, version)
        except (psycopg.Error, Problem) as error:
            if as_problem(error).status in (401, 403):
                self._callers.forget(claim)
            raise
        self.role = admitted.identity.role
        return admitted

    async def _claim(self) -> Claim:
        """Who says to call, found as of a request by HTTP; a Problem 401 or 429."""
        sent = self._context.invocation_metadata() or ()
        headers = [(key.encode(), _bytes(value)) for key, value in sent if key == "authorization"]
        claim = await identify(Request({"type": "http", "headers": headers}), self.services.ways)
        self.services.claims.take(claim.key)
        return claim

    async def _read(self) -> bytes:
        try:
            async with asyncio.timeout(self.services.config.body_timeout):
                return await anext(self._messages)
        except TimeoutError:
            raise Problem(408, "The message did not arrive in time.") from None
        except StopAsyncIteration:
            raise misfit("The call has no message.") from None


def _bytes(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode("latin-1", "replace")
