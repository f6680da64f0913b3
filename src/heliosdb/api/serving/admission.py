"""Who may have a prediction, and by which version: one statement, shared by calls that ask the same.

What always holds: the statement that answers a call began after the call came, so that a REVOKE, a
revoked token or a new version that committed before is seen by it; calls share one only where their claim
and the version's name are the same. While nothing is under way a call waits for nobody.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from heliosdb.api.config import ApiConfig
from heliosdb.api.database import OWN_ROLE, Connection, Identity, make_pool, run, ungranted
from heliosdb.api.identity import Claim, TokenClaim, claim_to_confirm
from heliosdb.api.limits import Shares
from heliosdb.api.problems import Problem, forbidden, missing, unauthenticated

_RECENT = 64


@dataclass(frozen=True, slots=True)
class Question:
    """A claim, and the name of a version: model, model@tag or model@number."""

    claim: Claim
    reference: str


@dataclass(frozen=True, slots=True)
class Admitted:
    """A call that may be answered, by the version of that key. asked: seconds, by the loop's clock, when
    the database was asked."""

    identity: Identity
    reference: str
    model: str
    version: int
    key: UUID
    asked: float


def refer_to(model: str, version: str | None) -> str:
    """The name that SQL has for a version of a model; "" and None mean the current one."""
    if not version:
        return model
    if "@" in version:
        raise missing("version", f"{model}@{version}")
    return f"{model}@{version}"


class Admissions:
    """The connections that ask; each is the API's own role between two statements."""

    def __init__(self, config: ApiConfig) -> None:
        self._pool = make_pool(config, config.serving_connections, _configure)
        self._shares = Shares(max(1, config.serving_connections // 2), config.connection_timeout)
        self._waiting: dict[Question, asyncio.Future[Admitted]] = {}
        self._asking: set[Question] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._recent: OrderedDict[Question, None] = OrderedDict()

    async def open(self) -> None:
        """Begin to connect; does not wait for it."""
        await self._pool.open()

    async def close(self) -> None:
        """Close all connections."""
        for task in self._tasks:
            task.cancel()
        await self._pool.close()

    @property
    def recent(self) -> list[Question]:
        """What was asked lately and admitted."""
        return list(self._recent)

    async def admit(self, question: Question) -> Admitted:
        """Ask; a Problem 401, 403 or 429, or the error that SQL has for the version."""
        waiting = self._waiting.get(question)
        if waiting is None:
            waiting = self._waiting[question] = asyncio.get_running_loop().create_future()
            if question not in self._asking:
                self._begin(question)
        return await asyncio.shield(waiting)

    def _begin(self, question: Question) -> None:
        self._asking.add(question)
        task = asyncio.create_task(self._ask(question))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _ask(self, question: Question) -> None:
        """Answer all that wait with a question, then those that came meanwhile."""
        waiting = self._waiting[question]
        try:
            async with self._shares.one_of(question.claim.key), self._pool.connection() as connection:
                # Whoever comes from here on is answered by the next statement.
                del self._waiting[question]
                found = await _admit(connection, question)
            self._remember(question)
            if not waiting.done():
                waiting.set_result(found)
        except Exception as error:  # noqa: BLE001 -- it is raised where the answer is waited for
            if self._waiting.get(question) is waiting:
                del self._waiting[question]
            self._recent.pop(question, None)
            waiting.set_exception(error)
            # That nobody waits any more is no fault.
            waiting.exception()
        finally:
            self._asking.discard(question)
            if question in self._waiting:
                self._begin(question)

    def _remember(self, question: Question) -> None:
        self._recent[question] = None
        self._recent.move_to_end(question)
        if len(self._recent) > _RECENT:
            self._recent.popitem(last=False)

    async def read(self, admitted: Admitted) -> Mapping[str, Any] | None:
        """The numbers of a version, for its caller; None where its name leads to another one by now."""
        async with self._pool.connection() as connection:
            found = await run(
                connection, "served_numbers", admitted.identity.role, admitted.reference, admitted.key
            )
        return found[0] if found else None

    async def predicting(self, keys: list[UUID]) -> set[UUID]:
        """Which of these versions predict still."""
        async with self._pool.connection() as connection:
            [row] = await run(connection, "still_predict", keys)
        return set(row["keys"])


async def _admit(connection: Connection, question: Question) -> Admitted:
    claim = claim_to_confirm(question.claim)
    asked = asyncio.get_running_loop().time()
    digest, vouched = (claim.digest, None) if isinstance(claim, TokenClaim) else (None, claim.role)
    [row] = await run(connection, "admit_call", digest, vouched, question.reference)
    match row["outcome"]:
        case "admitted":
            identity = Identity(claim, row["role"])
            return Admitted(
                identity, question.reference, row["model_name"], row["version"], row["numbers_id"], asked
            )
        case "unknown":
            raise unauthenticated()
        case "ungranted":
            raise ungranted(connection, row["role"])
        case "forbidden":
            raise forbidden()
    raise Problem(500, "The server could not carry this out; its log says why.", sqlstate="XX000")


async def _configure(connection: Connection) -> None:
    await connection.execute("SELECT pg_catalog.set_config('role', $1, false)", [OWN_ROLE])
