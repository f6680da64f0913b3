"""The sockets of one client and its server: transports in, transports out, and nothing decided about SQL.

What always holds: no side is read faster than the other side takes it; when one side ends, the other gets
what was already said and then ends too, by force after `close_timeout_s`; a client that resets its
connection, or is lost, is lost to its server at once, whether or not it was being read; and a relay is
forgotten by its host exactly once, when both connections are closed.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
import traceback
from collections.abc import Callable, Coroutine
from typing import Final, Protocol

from heliosdb.proxy.cancel import BackendKey, relay_cancel
from heliosdb.proxy.config import ProxyConfig, Upstream
from heliosdb.proxy.ends import End, Lookout, ServerEnd, as_protocol, has_said_all
from heliosdb.proxy.figures import Totals
from heliosdb.proxy.greeting import Cancel, Connect, Greeting, Refuse, Reply, StartTls
from heliosdb.proxy.last_words import GONE, NEVER_THERE, STOPPING, TURNED_AWAY, unreachable
from heliosdb.proxy.layouts import Known
from heliosdb.proxy.long_texts import Turn, vanished
from heliosdb.proxy.rewriting import Rewrite, TextRewriter
from heliosdb.proxy.session import ClientSession
from heliosdb.proxy.wire import CancelRequest, StartupMessage, build_message

log = logging.getLogger(__name__)

TERMINATE = build_message(b"X")
MAX_OUTSTANDING: Final = 10_000  # messages of a client that are not answered; with more it is read no further


class Host(Protocol):
    """What a relay needs from the proxy that it belongs to."""

    config: ProxyConfig
    tls: ssl.SSLContext | None
    routes: dict[BackendKey, Upstream]
    seeking: asyncio.Semaphore
    totals: Totals
    known: Known

    def enter(self, relay: Relay) -> bytes | None:
        """Remember a new connection, or return the refusal to send."""

    def rewriter_for(self, upstream: Upstream) -> TextRewriter:
        """Return what a session with this server has its texts rewritten by."""

    def admit(self, relay: Relay) -> bytes | None:
        """Count the relay as a session, or return the refusal to send."""

    def forget(self, relay: Relay) -> None:
        """Drop the relay; called once, when both its connections are closed."""

    def administers(self, startup: StartupMessage) -> bool:
        """Whether this start-up message, come by the Unix socket, is for the proxy itself."""

    def open_console(self, transport: asyncio.Transport, startup: StartupMessage, rest: bytes) -> None:
        """Take the connection over; `rest` is what the client has already sent."""


class Relay(End):
    """The client's connection, and all that belongs to it.

    It goes through: greeting (`_waiting` is None), a task at work (`_waiting` gathers what arrives
    meanwhile), session (`_session` is set), closing. `local` says that the client came by the Unix socket:
    there, as with the server itself, TLS is neither offered nor required.
    """

    __slots__ = (
        "_at_stop", "_attentive", "_client_ended", "_congested", "_crowded", "_deadline", "_encrypted",
        "_greeting", "_half_closed", "_host", "_key", "_lookout", "_lost", "_rewriter", "_said_all",
        "_server", "_session", "_settled", "_stopping", "_task", "_tls", "_turn", "_upstream", "_waiting",
        "local", "received", "sent", "since", "startup",
    )  # fmt: skip

    def __init__(self, host: Host, *, local: bool = False) -> None:
        super().__init__(host.config)
        self._host = host
        self._tls = None if local else host.tls
        self._greeting = Greeting(
            tls_available=self._tls is not None, tls_required=host.config.tls_required and not local
        )
        self.local = local
        self.since = time.time()
        self.startup: StartupMessage | None = None
        self.received = 0  # bytes of the client
        self.sent = 0  # bytes of the server
        self._waiting: bytearray | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._session: ClientSession | None = None
        self._server: ServerEnd | None = None
        self._upstream: Upstream | None = None
        self._key: BackendKey | None = None
        self._encrypted = False
        self._congested = False  # the server takes no more
        self._rewriter: TextRewriter | None = None  # of the session
        self._turn: Turn[Rewrite | None] | None = None  # a text of the client is being worked out
        self._crowded = False  # too many messages of the client are not answered yet
        self._lookout = Lookout(self._look)
        self._lost = False  # the client vanished while it was not read
        self._said_all = False  # all that the client will ever say has arrived
        self._half_closed = False  # the client says nothing more, once its text is worked out
        self._client_ended = False
        self._attentive = True  # the server's answers matter to the relay itself
        self._stopping = False
        self._at_stop: Callable[[], None] = self._turn_away  # until there is a session
        self._settled = False

    # The client's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._deadline = asyncio.get_running_loop().call_later(
            self._host.config.startup_timeout_s, self._too_slow
        )
        refusal = self._host.enter(self)
        if refusal is not None:
            self._refuse(refusal)

    def data_received(self, data: bytes) -> None:
        self.received += len(data)
        session, server = self._session, self._server
        if session is not None and server is not None:
            server.write(session.from_client(data))
            if session.wanted is not None:
                self._think(session, session.wanted)
            elif len(session.queue) > MAX_OUTSTANDING and not self._said_all:
                self._crowded = True
                self._pace()
        elif self._waiting is not None:
            self._waiting += data
        else:
            self._greet(data)

    def eof_received(self) -> bool:
        """Pass a half-close on, for the server may still answer; a TLS connection cannot be half closed."""
        if self._session is None or self._server is None or self._encrypted:
            self.say_no_more()
            return False
        if self._turn is None:
            self._end_client()
            self._server.finish()
        self._half_closed = True
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed()
        if self._deadline is not None:
            self._deadline.cancel()
        if self._turn is not None and self._rewriter is not None:
            self._rewriter.long_texts.leave(self._turn)
            self._turn = None
        self._lookout.stop()
        self._end_client()
        if self._server is not None:
            if exc is not None or self._lost:
                self._server.reset()
            else:
                self._server.close(self._host.config.close_timeout_s)
        self.settle()

    def pause_writing(self) -> None:
        if self._server is not None:
            self._server.hold(True)

    def resume_writing(self) -> None:
        if self._server is not None:
            self._server.hold(False)

    def _end_client(self) -> None:
        """Let the server have the rest, so that it judges a cut-off message itself."""
        if not self._client_ended and self._session is not None and self._server is not None:
            self._server.write(self._session.client_ended())
        self._client_ended = True

    # Greeting

    def _greet(self, data: bytes) -> None:
        action = self._greeting.feed(data)
        while isinstance(action, Reply):
            self.write(action.data)
            action = self._greeting.feed(b"")
        match action:
            case StartTls():
                self._work(self._start_tls(), at_stop=self.abort)
            case Cancel(request):
                self._work(self._cancel(request), at_stop=lambda: None)
            case Connect(startup, rest) if self.local and self._host.administers(startup):
                self._give_away(startup, rest)
            case Connect(startup):
                self.startup = startup
                refusal = self._host.admit(self)
                if refusal is None:
                    self._work(self._connect(action), at_stop=self._turn_away)
                else:
                    self._refuse(refusal)
            case Refuse(answer):
                self._refuse(answer)

    def _work(self, work: Coroutine[None, None, None], *, at_stop: Callable[[], None]) -> None:
        """Read nothing more until `work` is done; `at_stop` says what a stop of the proxy does meanwhile."""
        self._waiting, self._at_stop = bytearray(), at_stop
        self.hold(True)
        self._task = asyncio.get_running_loop().create_task(work)
        self._task.add_done_callback(self._worked)

    def _worked(self, task: asyncio.Task[None]) -> None:
        """A defect of ours must not leave the client waiting."""
        if not task.cancelled() and (error := task.exception()) is not None:
            # Where it happened, but not what it says: that may hold what the client said.
            where = "".join(traceback.format_tb(error.__traceback__))
            log.error("a connection ends by an internal error: %s\n%s", type(error).__name__, where)
            self.abort()
        if task.cancelled() and self._server is not None:
            # An event loop need not tell of a connection that was made just as its maker was cancelled.
            self._server.reset()
            self._server.closed()
        self.settle()

    @property
    def _working(self) -> bool:
        return self._task is not None and not self._task.done()

    def _give_away(self, startup: StartupMessage, rest: bytes) -> None:
        """Leave the connection to the console, and be done."""
        transport = self.transport
        if self._deadline is not None:
            self._deadline.cancel()
        self.closed()
        if transport is not None:
            self._host.open_console(transport, startup, rest)
        self.settle()

    def _refuse(self, answer: bytes) -> None:
        self._waiting = bytearray()
        self.write(answer)
        self.close(self._host.config.close_timeout_s)

    def _turn_away(self) -> None:
        """Send a client away that has no session yet."""
        if self._task is not None:
            self._task.cancel()
        self._refuse(TURNED_AWAY)

    def _too_slow(self) -> None:
        if self._session is None and self.transport is not None:
            log.info("a client did not start a session in time")
            self.transport.abort()

    async def _start_tls(self) -> None:
        raw, tls = self.transport, self._tls
        if raw is None or tls is None:
            return
        raw.write(b"S")
        encrypted = None
        try:
            encrypted = await asyncio.get_running_loop().start_tls(
                raw,
                as_protocol(self),
                tls,
                server_side=True,
                ssl_handshake_timeout=self._host.config.startup_timeout_s,
            )
        except (OSError, ssl.SSLError) as error:
            log.info("a TLS handshake failed: %s", type(error).__name__)
        finally:
            if encrypted is None or raw.is_closing():
                # A protocol hears nothing of a connection lost in the handshake, which may even seem made.
                raw.abort()
                self.connection_lost(None)
        if encrypted is None or self.transport is None:
            return
        self.use(encrypted)
        self._held, self._encrypted = False, True
        self._at_stop = self._turn_away
        self._greeting.encrypted()
        arrived, self._waiting = bytes(self._waiting or b""), None
        if arrived:
            self._greet(arrived)

    async def _cancel(self, request: CancelRequest) -> None:
        """Relay the request; the server answers by closing, so do we."""
        await relay_cancel(self._host, request)
        self.close(self._host.config.close_timeout_s)

    async def _connect(self, action: Connect) -> None:
        database = action.startup.database
        self._upstream = upstream = self._host.config.upstream_for(database)
        self._server = server = ServerEnd(self._host.config, self)
        try:
            async with asyncio.timeout(self._host.config.connect_timeout_s):
                await _open(upstream, server)
        except (OSError, ValueError) as error:  # ValueError: a host that cannot be encoded
            self._host.totals.unreachable += 1
            log.warning("cannot connect to %s:%s: %s", upstream.host, upstream.port, type(error).__name__)
            self._refuse(unreachable(database))
            return
        if not self.open or not server.open:
            self._refuse(NEVER_THERE)
            server.close(self._host.config.close_timeout_s)
            return
        self._begin(action, server)

    def _begin(self, action: Connect, server: ServerEnd) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._rewriter = self._host.rewriter_for(self._host.config.upstream_for(action.startup.database))
        self._session = ClientSession(
            self._rewriter, rewriting=not action.startup.replicates, known=self._host.known
        )
        self.hasten()
        server.hasten()
        server.write(action.startup.raw)
        arrived, self._waiting = action.rest + bytes(self._waiting or b""), None
        if arrived:
            self.received -= len(arrived)  # they were counted when they came
            self.data_received(arrived)
        self._pace()

    # Long texts

    def _think(self, session: ClientSession, text: str) -> None:
        """Read no more of this client until it is known what its long text becomes."""
        if self._turn is None and self._rewriter is not None:
            self._turn = self._rewriter.long_texts.take(
                text, gone=self._vanished, done=lambda outcome: self._thought(session, text, outcome)
            )
            self._pace()

    def _vanished(self) -> bool:
        """Whether nobody is there any more to take an answer; then it all ends, and the text is not sent."""
        if self.transport is not None and not vanished(self.transport):
            return False
        self._turn = None
        self.abort()
        return True

    def _thought(self, session: ClientSession, text: str, outcome: Rewrite | None) -> None:
        self._turn = None
        if self._server is None:
            return
        self._server.write(session.resume(text, outcome))
        if session.wanted is not None:
            self._think(session, session.wanted)
        elif self._half_closed:
            self._end_client()
            self._server.finish()
        self._pace()

    # The server's side

    def server_congested(self, congested: bool) -> None:
        """Do not read the client faster than the server takes it."""
        self._congested = congested
        self._pace()

    def _pace(self) -> None:
        wait = self._congested or self._crowded or self._turn is not None
        self.hold(wait)
        self._lookout.keep(wait and self.transport is not None)

    def _look(self) -> None:
        """Notice what a client does that is not read: that it vanishes, or that it has ended.

        What is left to read of one that has ended is bounded. It is read, so that the end reaches the server.
        """
        if self.transport is None:
            return
        if vanished(self.transport):
            self._lost = True
            self.reset()
        elif self._crowded and has_said_all(self.transport):
            self._said_all, self._crowded = True, False
            self._pace()

    def server_said(self, data: bytes) -> None:
        """Pass the server's bytes on."""
        session = self._session
        if session is not None:
            self.sent += len(data)
            self.write(session.from_server(data))
            if self._crowded and len(session.queue) <= MAX_OUTSTANDING // 2:
                self._crowded = False
                self._pace()
            if self._attentive:
                self._attend(session)

    def _attend(self, session: ClientSession) -> None:
        """Note the key that cancels what this session does; stop when it is idle, if it shall."""
        if self._key is None and session.backend_key is not None and self._upstream is not None:
            self._key = session.backend_key
            self._host.routes[self._key] = self._upstream
            self._attentive = self._stopping
        if self._stopping:
            self.stop()

    def server_ended(self) -> None:
        """Pass the rest on and, where the server died without a word, say so."""
        if self._session is None:
            return
        self.write(self._session.server_ended())
        if self._session.may_add_error and not self._client_ended and not self._stopping:
            self.write(GONE if self._session.started else NEVER_THERE)
        self.close(self._host.config.close_timeout_s)

    # What an operator may see

    @property
    def state(self) -> str:
        """What the connection is doing, as the last ReadyForQuery says."""
        if self._session is None:
            return "starting"
        if self._session.idle:
            return "idle"
        status = self._session.transaction_status
        return {b"": "authenticating", b"I": "active", b"T": "in transaction"}.get(
            status, "in failed transaction"
        )

    @property
    def answered(self) -> int:
        """How many requests the server has answered with ReadyForQuery."""
        return self._session.answered if self._session is not None else 0

    @property
    def upstream(self) -> Upstream | None:
        """The server that the session is on."""
        return self._upstream

    @property
    def server_pid(self) -> int | None:
        """The backend's process; never its secret key."""
        return self._key[0] if self._key is not None else None

    @property
    def encrypted(self) -> bool:
        """Whether the client speaks TLS."""
        return self._encrypted

    # The end

    def stop(self) -> None:
        """End now if the client loses nothing by it, or else as soon as its transaction has ended."""
        self._stopping = self._attentive = True
        session, timeout_s = self._session, self._host.config.close_timeout_s
        if session is None:
            self._at_stop()
        elif session.may_be_ended and self.open:
            self.write(STOPPING if session.started else TURNED_AWAY)
            self.close(timeout_s)
            if self._server is not None:
                self._server.write(TERMINATE if session.started else b"")
                self._server.close(timeout_s)

    def abort(self) -> None:
        """End at once."""
        if self._task is not None:
            self._task.cancel()
        if self.transport is not None:
            self.transport.abort()
        if self._server is not None:
            self._server.reset()

    def settle(self) -> None:
        """Forget the relay when both connections are closed and no task may open another."""
        gone = self._server is None or self._server.transport is None
        if gone and self.transport is None and not self._working and not self._settled:
            self._settled = True
            if self._key is not None:
                self._host.routes.pop(self._key, None)
            self._host.forget(self)


async def _open(upstream: Upstream, server: ServerEnd) -> None:
    loop = asyncio.get_running_loop()
    if upstream.socket_path is not None:
        await loop.create_unix_connection(lambda: as_protocol(server), upstream.socket_path)
    else:
        await loop.create_connection(lambda: as_protocol(server), upstream.host, upstream.port)
