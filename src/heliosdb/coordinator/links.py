"""The link to one node: where it is called, what it must show there, and the client that is in use.

What always holds: the client in use is one over which the node has answered as who it is pinned to be; it is
called at its endpoint, and at its backup_endpoint only while it cannot be reached there; a client whose place
another takes goes on with the calls that it has and closes when the last of them lets go of it, so that no
call fails for a rotation of certificates or for the way back to the endpoint.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from weakref import WeakSet

from heliosdb.catalog.nodes import NodeRecord
from heliosdb.coordinator.arrivals import Arrivals
from heliosdb.coordinator.certificates import (
    PASSING,
    check_not_expired,
    names_file,
    read_given,
    resolve_certificates,
)
from heliosdb.coordinator.config import CoordinatorConfig
from heliosdb.domain.clock import Clock
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.handshake import Greeting, Introduction
from heliosdb.domain.ids import NodeName
from heliosdb.transport.client import NodeClient
from heliosdb.transport.identity import Identity, fingerprint
from heliosdb.transport.possession import check_possession, new_challenge

log = logging.getLogger(__name__)

_ARRIVAL_SECONDS = 10.0
"""How long a node that comes by itself may take: longer than one that dials pauses between two attempts."""

Pins = tuple[bytes, ...]
"""Certificates (PEM), one of which a node must show and sign with."""


@dataclass(frozen=True, slots=True)
class _Terms:
    """What a connection is made under: another of these makes another connection.

    given: the pins as the registration gives them, those that have ended included.
    """

    pins: Pins
    identity: Identity
    keepalive: int
    given: Pins


class Link:
    """Finds the way to one node, and the next one where that is lost or to be made anew."""

    def __init__(
        self,
        config: CoordinatorConfig,
        identity: Callable[[], Identity],
        clock: Clock,
        arrivals: Arrivals | None = None,
    ) -> None:
        """arrivals: where nodes come in by themselves; None: nowhere."""
        self._config = config
        self._arrivals = arrivals or Arrivals()
        self._identity = identity
        self._clock = clock
        self._terms: _Terms | None = None
        self._clients: dict[str, NodeClient] = {}
        self._retired: WeakSet[NodeClient] = WeakSet()
        self._warned = False
        self.client: NodeClient | None = None
        self.endpoint = ""
        self.certificate = b""

    @property
    def pins(self) -> Pins:
        """The certificates that are accepted from the node; none before it was met."""
        return () if self._terms is None else self._terms.pins

    async def meet(self, record: NodeRecord, check: Callable[[Pins], None]) -> Introduction:
        """Greet the node at the first of its endpoints at which it can be reached, and go on there.

        check: raises where these pins may not be the node's. FederatedError says why it could not be met.
        """
        terms = await self._find_terms(record)
        check(terms.pins)
        await self._take(terms, record.name)
        if record.link.nodes_come:
            # From here on it is let in.
            await self._client_at(record.endpoint, record).arrival(_ARRIVAL_SECONDS)
        first, *others = record.endpoints
        try:
            return await self._greet_at(first, record)
        except FederatedError as error:
            if not others or error.code not in PASSING:
                raise
            failure = error
        try:
            return await self._greet_at(others[0], record)
        except FederatedError as error:
            if error.code not in PASSING:
                raise
            both = f"{failure.message}; at its backup_endpoint: {error.message}"
            raise FederatedError(failure.code, both, hint=failure.hint) from error

    async def greet(self, record: NodeRecord) -> Introduction:
        """Greet the node again where it was met."""
        return await self._greet_at(self.endpoint, record)

    async def return_to_endpoint(self, record: NodeRecord) -> Introduction | None:
        """Go back from the backup_endpoint; None where the node cannot be reached at its endpoint yet."""
        try:
            return await self._greet_at(record.endpoint, record)
        except FederatedError as error:
            level = logging.INFO if error.code in PASSING else logging.WARNING
            log.log(level, "node %s stays at its backup_endpoint: %s", record.name, error.message)
            return None

    async def is_outdated(self, record: NodeRecord) -> bool:
        """Whether the coordinator's certificate, the node's file or the keepalive are others by now."""
        terms = self._terms
        assert terms is not None
        if (terms.identity, terms.keepalive) != (self._identity(), record.link.keepalive_interval):
            return True
        if record.given_certificate is None or not names_file(record.given_certificate):
            return False
        try:
            given = await asyncio.to_thread(read_given, record.given_certificate)
        except FederatedError as error:
            # Half written, or gone: the pins stay as they were until it can be read again.
            if not self._warned:
                log.warning("the certificates of node %s are not changed: %s", record.name, error.message)
            self._warned = True
            return False
        self._warned = False
        return given != terms.given

    async def close(self) -> None:
        """Close every client; what is under way fails."""
        clients = {*self._clients.values(), *self._retired}
        if self.client is not None:
            clients.add(self.client)
        self.client, self._clients = None, {}
        for client in clients:
            await client.close()

    async def _find_terms(self, record: NodeRecord) -> _Terms:
        identity = self._identity()
        given = await asyncio.to_thread(resolve_certificates, record, identity, self._config.ca_bundle)
        pins = check_not_expired(given, self._clock.time())
        return _Terms(pins, identity, record.link.keepalive_interval, given)

    async def _take(self, terms: _Terms, name: NodeName) -> None:
        former, self._terms = self._terms, terms
        if former is None or former == terms:
            return
        log.info("connections to node %s are made anew: certificates=%d", name, len(terms.pins))
        if not set(former.pins) & set(terms.pins):
            # Not a rotation: whoever had the former certificate is not spoken to any more.
            await self.close()
        if self.client is not None:
            self.client.accept(terms.pins)
        clients, self._clients = self._clients, {}
        for client in clients.values():
            await self._let_go(client)

    async def _let_go(self, client: NodeClient) -> None:
        """Keep no client that is not in use; one that was, its calls keep until they are over."""
        if client is self.client:
            self._retired.add(client)
        else:
            await client.close()

    async def _greet_at(self, endpoint: str, record: NodeRecord) -> Introduction:
        client = self._client_at(endpoint, record)
        greeting = Greeting(record.workspace, record.name, new_challenge())
        said = await client.greet(greeting, self._config.heartbeat_timeout)
        fault = record.residency.fault_of(said.data_residency)
        if fault is not None:
            raise FederatedError(ErrorCode.NOT_SUPPORTED, fault)
        certificate = _shown(self.pins, said.certificate_sha256)
        is_first = record.certificate is None and record.given_certificate is None
        check_possession(greeting, said, certificate, required=is_first)
        client.certificate = certificate
        await self._use(endpoint, client, record)
        return said

    def _client_at(self, endpoint: str, record: NodeRecord) -> NodeClient:
        """The client for an endpoint under the terms of now; "": for a node that comes by itself."""
        if endpoint not in self._clients:
            assert self._terms is not None
            self._clients[endpoint] = self._connect(endpoint, record, self._terms)
        return self._clients[endpoint]

    def _connect(self, endpoint: str, record: NodeRecord, terms: _Terms) -> NodeClient:
        if not record.link.nodes_come:
            return NodeClient(
                endpoint, terms.pins, terms.identity, keepalive=terms.keepalive, limits=record.limits
            )
        carrier = self._arrivals.carrier(record.link.protocol, terms.pins)
        return NodeClient("the node", terms.pins, terms.identity, limits=record.limits, carrier=carrier)

    async def _use(self, endpoint: str, client: NodeClient, record: NodeRecord) -> None:
        former, self.client = self.client, client
        self.endpoint, self.certificate = endpoint, client.certificate
        if former is not None and former is not client:
            self._retired.add(former)
        if endpoint != record.endpoint:
            return
        for other in [one for one in self._clients if one != endpoint]:
            left = self._clients.pop(other)
            if left is not former:
                await left.close()


def _shown(pins: Pins, sha256: bytes) -> bytes:
    """Which of its pins the node signs with; the first for one that does not say."""
    if not sha256:
        return pins[0]
    for pem in pins:
        if bytes.fromhex(fingerprint(pem)) == sha256:
            return pem
    raise FederatedError(
        ErrorCode.IDENTITY,
        f"it signs with a certificate that is not pinned (SHA-256 {sha256.hex()})",
        hint="Pin the old certificate and the new one before the node has the new one.",
    )
