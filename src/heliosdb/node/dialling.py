"""A node that dials: it keeps a connection to the coordinator, and takes its calls over it.

What always holds: nothing listens; addresses are tried in their order, and again with growing, uneven pauses;
what is in the way is what the node says of itself until a connection stands; where its certificate changes,
a connection made with the new one stands before the former is left; where the coordinator's is pinned no
longer, the former is cut.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Sequence

from heliosdb.domain.errors import ErrorCode, FederatedError, place_of
from heliosdb.liveness.standing import Obstacle
from heliosdb.node.config import NodeConfig
from heliosdb.node.site import Site
from heliosdb.transport.carriers import Answering
from heliosdb.transport.dialling import Line
from heliosdb.transport.server import ServerIdentity

log = logging.getLogger(__name__)

_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 5.0
_STANDS_AFTER = 10.0
"""A connection that stood for so many seconds is not one of a row of failures."""
_LOOK_SECONDS = 1.0
_SETTLE_SECONDS, _GRACE_SECONDS = 2.0, 2.0


class Dialler:
    """Connects, and connects again, until it is cancelled."""

    def __init__(
        self, config: NodeConfig, identity: Callable[[], ServerIdentity], answering: Answering, site: Site
    ) -> None:
        self._addresses = config.dial
        self._proxy = None if config.proxy is None else config.proxy.get_secret_value()
        self._keepalive = config.keepalive_interval
        self._identity = identity
        self._answering = answering
        self._site = site
        self._line: Line | None = None
        self._pinned: frozenset[bytes] = frozenset()
        self._draining: set[asyncio.Task[None]] = set()
        site.note_link(Obstacle("dial", "starting: it has not reached the coordinator yet"))

    async def run(self) -> None:
        """Keep a connection up; at the end, calls under way are given a moment."""
        loop, attempt = asyncio.get_running_loop(), 0
        # Whom it dials asks at once, and is answered by what was found.
        await self._site.look()
        try:
            while True:
                identity = self._identity()
                pinned = frozenset(identity.pinned)
                if not self._pinned & pinned:
                    await self._cut()
                line = await self._connect(identity, attempt)
                if line is None:
                    if self._pinned - pinned:
                        # Not a rotation: nobody showed one of those that are left.
                        await self._cut()
                    attempt += 1
                    continue
                began, self._pinned = loop.time(), pinned
                self._take(line)
                failure = await self._keep(line, identity)
                attempt = 0 if failure is None or loop.time() > began + _STANDS_AFTER else attempt + 1
                if failure is not None:
                    self._note([failure])
                    await asyncio.sleep(_pause(attempt))
        finally:
            await self._leave()

    async def _connect(self, identity: ServerIdentity, attempt: int) -> Line | None:
        """A connection to the first address that answers; None after a pause where none does."""
        failures: list[FederatedError] = []
        for address in self._addresses:
            try:
                return await self._open(address, identity)
            except FederatedError as error:
                failures.append(error)
            except Exception as error:  # noqa: BLE001 -- a node outlives what one connection could not handle
                log.error("dialling %s failed: %s", address, place_of(error))
                failures.append(FederatedError(ErrorCode.INTERNAL, "dialling failed inside the node"))
        self._note(failures)
        await asyncio.sleep(_pause(attempt))
        return None

    async def _open(self, address: str, identity: ServerIdentity) -> Line:
        line = Line(address, identity, self._answering, proxy=self._proxy, keepalive=self._keepalive)
        try:
            await line.open()
        except BaseException:
            await line.close()
            raise
        return line

    def _take(self, line: Line) -> None:
        """Go on over this connection; calls of the former one are answered on there."""
        former, self._line = self._line, line
        if former is not None:
            draining = asyncio.create_task(former.drain(_SETTLE_SECONDS))
            self._draining.add(draining)
            draining.add_done_callback(self._draining.discard)
        log.info("connected to %s", line.address)
        self._site.note_link(None)

    async def _keep(self, line: Line, identity: ServerIdentity) -> FederatedError | None:
        """Wait until the connection is lost, and say why; None where another certificate is to be shown."""
        broken = asyncio.ensure_future(line.broken())
        try:
            while self._identity() == identity:
                await asyncio.wait({broken}, timeout=_LOOK_SECONDS)
                if broken.done():
                    return broken.result()
            return None
        finally:
            broken.cancel()

    async def _cut(self) -> None:
        """Close the connection at once, with the calls on it: to whom it leads may be trusted no longer."""
        line, self._line = self._line, None
        if line is not None:
            log.warning("the connection to %s is cut: its certificate is pinned no longer", line.address)
            await line.close()

    def _note(self, failures: Sequence[FederatedError]) -> None:
        """Say what is in the way, unless the former connection stands."""
        if self._line is not None and not self._line.is_broken:
            log.warning("the new certificate is not accepted: %s", failures[-1].message)
            return
        hints = dict.fromkeys(error.hint for error in failures if error.hint)
        reason = "; ".join(error.message for error in failures)
        self._site.note_link(Obstacle("dial", f"not ready: {reason}", " ".join(hints)))

    async def _leave(self) -> None:
        if self._line is not None:
            self._draining.add(asyncio.create_task(self._line.drain()))
        if self._draining:
            _, late = await asyncio.wait(self._draining, timeout=_GRACE_SECONDS)
            for draining in late:
                draining.cancel()
        if self._line is not None:
            await self._line.close()


def _pause(attempt: int) -> float:
    """Seconds, spread so that the nodes of a coordinator that comes back do not all come at once."""
    longest = min(_FIRST_PAUSE * 2.0 ** min(attempt, 30), _LONGEST_PAUSE)
    return longest * random.uniform(0.5, 1.0)  # noqa: S311 - spreads reconnections, decides nothing
