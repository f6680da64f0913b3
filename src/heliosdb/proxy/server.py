"""The listening proxy: accepts clients, counts them, changes its settings, and stops in good order.

What always holds: no more than `max_connections` sessions exist, and `reserved_connections` more of clients
for whom they are kept, each with one server connection of its own; the clients that are greeting, asking for
a cancel or administering are bounded too; settings change as a whole or not at all; and when `Proxy.stop` or
`Proxy.drain` returns, no connection is left.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from federated_sql.errors import FederatedError, invalid_value
from heliosdb.observing.metric import Daemon
from heliosdb.observing.running import observing
from heliosdb.proxy.cancel import MAX_SEEKING, BackendKey
from heliosdb.proxy.compiled import is_compiled
from heliosdb.proxy.config import ProxyConfig, Upstream, load_config
from heliosdb.proxy.console import ConsoleEnd, may_administer
from heliosdb.proxy.counting import proxy_source
from heliosdb.proxy.ends import as_protocol
from heliosdb.proxy.figures import Totals
from heliosdb.proxy.handover import OWNED, Listener
from heliosdb.proxy.last_words import TOO_MANY
from heliosdb.proxy.layouts import Known
from heliosdb.proxy.relay import Relay
from heliosdb.proxy.reload import BACKLOG, Settings, changed_in_vain, keep_fixed, prepare
from heliosdb.proxy.rewriting import Rewriter, TextRewriter, federated_rewriter
from heliosdb.proxy.socketfile import SocketFile, listen_at
from heliosdb.proxy.subjects import SealingRewriter, sealing_rewriter
from heliosdb.proxy.wire import StartupMessage

log = logging.getLogger(__name__)

MAX_GUESTS = 8  # clients of the proxy's own database, beyond all other limits


class Proxy:
    """All relays of one process."""

    def __init__(self, config: ProxyConfig, rewriter: Rewriter, path: Path | None = None) -> None:
        """`path` is the file that the settings came from, for `reload`."""
        self._path = path
        prepared = prepare(config)
        self.config, self.tls, self._room = config, prepared.tls, prepared.room
        self.rewriter = rewriter
        self._sealing = self._sealing_rewriters(prepared)
        self.routes: dict[BackendKey, Upstream] = {}
        self.seeking = asyncio.Semaphore(MAX_SEEKING)
        self.totals = Totals()
        self.known = Known()
        self.started = self.config_loaded = time.time()
        self.reload_error: str | None = None
        self.state = "serving"
        self._relays: set[Relay] = set()
        self._sessions: set[Relay] = set()
        self._guests: set[ConsoleEnd] = set()
        self._servers: list[tuple[asyncio.Server, bool]] = []  # with: is its file ours to remove?
        self._file: SocketFile | None = None  # of the Unix socket, if it is ours to remove
        self._file_is_ours = True
        self._empty = asyncio.Event()
        self._empty.set()

    # What is there

    @property
    def connections(self) -> int:
        """How many clients are connected, in whatever state."""
        return len(self._relays) + len(self._guests)

    @property
    def config_path(self) -> str | None:
        """The settings file, or None where there is none."""
        return str(self._path) if self._path is not None else None

    @property
    def listeners(self) -> Sequence[tuple[str, int | None]]:
        """Where the proxy listens: (address, port), or (path, None)."""
        names = [each.getsockname() for server, _ in self._servers for each in server.sockets]
        return [(name, None) if isinstance(name, str) else (name[0], name[1]) for name in names]

    @property
    def relays(self) -> Iterable[Relay]:
        """All connections of clients."""
        return tuple(self._relays)

    @property
    def guests(self) -> Iterable[ConsoleEnd]:
        """All clients of the proxy's own database."""
        return tuple(self._guests)

    def is_session(self, relay: Relay) -> bool:
        """Whether this connection counts as a session."""
        return relay in self._sessions

    # What texts become

    def rewriter_for(self, upstream: Upstream) -> TextRewriter:
        """Return what a session with this server has its texts rewritten by."""
        if upstream.subject_key is None:
            return self.rewriter
        return self._sealing.get(upstream.subject_key, self.rewriter)

    def _sealing_rewriters(self, prepared: Settings) -> dict[Path, SealingRewriter]:
        return {path: sealing_rewriter(self.rewriter, seal) for path, seal in prepared.seals.items()}

    # Listening

    async def start(self, inherited: Sequence[Listener] = ()) -> int:
        """Listen, on the inherited sockets if there are any; return the TCP port, or 0 without one."""
        try:
            await (self._listen_on(inherited) if inherited else self._listen())
        except (OSError, ValueError) as error:  # ValueError: a name that cannot be encoded
            await self.stop()
            raise invalid_value("the proxy cannot listen", detail=str(error)) from error
        for address, port in self.listeners:
            log.info("listening on %s%s", address, "" if port is None else f" port {port}")
        log.info("what is done with each read runs %s", "compiled" if is_compiled() else "as Python")
        return next((port for _, port in self.listeners if port is not None), 0)

    async def _listen(self) -> None:
        loop, config = asyncio.get_running_loop(), self.config
        server = await loop.create_server(
            self._client_end, config.listen_address, config.listen_port, backlog=BACKLOG
        )
        self._servers.append((server, True))
        if config.unix_socket_directory is not None:
            port: int = server.sockets[0].getsockname()[1]
            path = config.unix_socket_directory / f".s.PGSQL.{port}"
            sock, self._file = listen_at(path, config.unix_socket_mode, BACKLOG)
            local = await loop.create_unix_server(self._local_end, sock=sock, backlog=BACKLOG)
            self._servers.append((local, True))

    async def _listen_on(self, inherited: Sequence[Listener]) -> None:
        loop = asyncio.get_running_loop()
        for listener in inherited:
            if listener.local:
                if listener.owned:
                    self._file = SocketFile.at(Path(listener.socket.getsockname()))
                server = await loop.create_unix_server(self._local_end, sock=listener.socket, backlog=BACKLOG)
            else:
                server = await loop.create_server(self._client_end, sock=listener.socket, backlog=BACKLOG)
            self._servers.append((server, listener.owned))

    def _client_end(self) -> asyncio.Protocol:
        return as_protocol(Relay(self))

    def _local_end(self) -> asyncio.Protocol:
        return as_protocol(Relay(self, local=True))

    def sockets_to_hand_over(self) -> list[tuple[int, str]]:
        """The listening sockets for a successor: file numbers and names."""
        return [
            (each.fileno(), OWNED if owned else "")
            for server, owned in self._servers
            for each in server.sockets
        ]

    # Settings

    def reload(self) -> list[str]:
        """Read the settings file again; return the names of settings that need a restart.

        Raises FederatedError, and has changed nothing, where the file cannot be used.
        """
        if self._path is None:
            raise invalid_value("the proxy was started without a settings file")
        try:
            read = load_config(self._path)
            in_vain = changed_in_vain(self.config, read)
            prepared = prepare(keep_fixed(self.config, read))
        except FederatedError as error:
            self.reload_error = f"{error.message}: {error.detail}" if error.detail else error.message
            log.error("the settings stay as they were: %s", self.reload_error)
            raise
        self.config, self.tls, self._room = prepared.config, prepared.tls, prepared.room
        self._sealing = self._sealing_rewriters(prepared)
        self.config_loaded, self.reload_error = time.time(), None
        log.info("the settings were read again%s", f"; restart for {', '.join(in_vain)}" if in_vain else "")
        return in_vain

    # Ending

    async def drain(self) -> None:
        """Accept nobody any more and wait until the last client has left; a successor may listen already."""
        self.state = "draining"
        self._close_listeners()
        for guest in self.guests:
            guest.stop()
        await self._empty.wait()

    async def stop(self) -> None:
        """Accept nobody any more, let open transactions end within `stop_timeout_s`, cut off the rest."""
        self.state = "stopping"
        self._close_listeners()
        for each in self._everybody():
            each.stop()
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.config.stop_timeout_s):
                    await self._empty.wait()
        finally:
            for each in self._everybody():
                each.abort()
        await self._empty.wait()

    def _everybody(self) -> list[Relay | ConsoleEnd]:
        return [*self._relays, *self._guests]

    def leave_file(self) -> None:
        """Leave the Unix socket's file to another process: a successor, or a serving predecessor."""
        self._file_is_ours = False

    def take_file(self) -> None:
        """Remove the Unix socket's file at the end, as it is where nobody else is there."""
        self._file_is_ours = True

    def _close_listeners(self) -> None:
        if self._file is not None and self._file_is_ours:
            self._file.remove()
        self._file = None
        for server, _ in self._servers:
            server.close()
        self._servers.clear()

    # The host of relays and consoles

    def enter(self, relay: Relay) -> bytes | None:
        """Remember a new connection, or return the refusal to send."""
        self._relays.add(relay)
        self._empty.clear()
        if len(self._relays) <= self._room or self._is_administrator(relay):
            return None
        self.totals.refused += 1
        return TOO_MANY

    def _is_administrator(self, relay: Relay) -> bool:
        """Whether it may be let in beyond the limits, for it may be about to administer."""
        room = len(self._guests) < MAX_GUESTS
        return relay.local and room and relay.transport is not None and may_administer(relay.transport)

    def _has_reserve(self, relay: Relay) -> bool:
        """Whether places are kept for it: by the user's name, not proven yet, or by the kernel's word."""
        said = relay.startup.parameters if relay.startup is not None else {}
        if said.get("user") in self.config.reserved_for:
            return True
        return relay.local and relay.transport is not None and may_administer(relay.transport)

    def admit(self, relay: Relay) -> bytes | None:
        """Count the relay as a session, or return the refusal to send."""
        config = self.config
        places = config.most_sessions if self._has_reserve(relay) else config.max_connections
        if len(self._sessions) >= places:
            self.totals.refused += 1
            log.warning("a client was refused: %s sessions are open", len(self._sessions))
            return TOO_MANY
        self.totals.sessions += 1
        self._sessions.add(relay)
        return None

    def forget(self, relay: Relay) -> None:
        """Drop the relay; called once, when both its connections are closed."""
        self._relays.discard(relay)
        self._sessions.discard(relay)
        self.totals.requests += relay.answered
        self.totals.received += relay.received
        self.totals.sent += relay.sent
        self._note_empty()

    def administers(self, startup: StartupMessage) -> bool:
        """Whether this start-up message, come by the Unix socket, is for the proxy itself."""
        name = self.config.admin_database
        return name != "" and startup.major == 3 and startup.database == name

    def open_console(self, transport: asyncio.Transport, startup: StartupMessage, rest: bytes) -> None:
        """Take the connection over; `rest` is what the client has already sent."""
        guest = ConsoleEnd(self, transport, startup)
        full = len(self._guests) >= MAX_GUESTS
        self._guests.add(guest)
        self._empty.clear()
        guest.begin(startup, rest, refusal=TOO_MANY if full else None)

    def leave(self, guest: ConsoleEnd) -> None:
        """Forget the guest; called once."""
        self._guests.discard(guest)
        self._note_empty()

    def _note_empty(self) -> None:
        if not self._relays and not self._guests:
            self._empty.set()


async def serve(config: ProxyConfig, *, ready: Callable[[int], None] | None = None) -> None:
    """Run a proxy until cancelled, then stop it in good order; `ready` is called with the TCP port.

    Raises FederatedError where the settings cannot be used (address taken, certificate unreadable).
    """
    proxy = Proxy(config, federated_rewriter())
    async with observing(config, Daemon.PROXY, [proxy_source(proxy)]):
        port = await proxy.start()
        try:
            if ready is not None:
                ready(port)
            await asyncio.get_running_loop().create_future()
        finally:
            await proxy.stop()


def run(config_path: Path, *, ready: Callable[[int], None] | None = None) -> None:
    """Run a proxy with the settings of a file until a signal ends it (see `heliosdb.proxy.process`)."""
    from heliosdb.proxy.process import run_process

    run_process(config_path, ready=ready)
