"""The listening proxy: accepts clients, counts them, and stops in good order.

What always holds: no more than `max_connections` sessions exist, each with one server connection of its
own; as many clients again may be greeting or asking for a cancel; and when `Proxy.stop` returns, no
connection is left.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import ssl
from collections.abc import Callable
from pathlib import Path

import uvloop

from federated_sql.errors import invalid_value
from heliosdb.proxy.config import ProxyConfig, Upstream, load_config
from heliosdb.proxy.relay import BackendKey, Relay
from heliosdb.proxy.rewriting import Rewriter, federated_rewriter
from heliosdb.proxy.wire import build_error

log = logging.getLogger(__name__)

TOO_MANY = build_error("53300", "sorry, too many clients already")


class Proxy:
    """All relays of one process."""

    def __init__(self, config: ProxyConfig, rewriter: Rewriter) -> None:
        self.config = config
        self.rewriter = rewriter
        self.tls = _tls_context(config)
        self.routes: dict[BackendKey, Upstream] = {}
        self._relays: set[Relay] = set()
        self._sessions: set[Relay] = set()
        self._servers: list[asyncio.AbstractServer] = []
        self._socket_path: Path | None = None
        self._empty = asyncio.Event()
        self._empty.set()

    @property
    def connections(self) -> int:
        """How many clients are connected, in whatever state."""
        return len(self._relays)

    async def start(self) -> int:
        """Listen; return the TCP port."""
        loop = asyncio.get_running_loop()
        config = self.config
        try:
            server = await loop.create_server(
                lambda: Relay(self), config.listen_address, config.listen_port, backlog=1024
            )
            self._servers.append(server)
            port: int = server.sockets[0].getsockname()[1]
            if config.unix_socket_directory is not None:
                self._socket_path = config.unix_socket_directory / f".s.PGSQL.{port}"
                self._servers.append(
                    await loop.create_unix_server(lambda: Relay(self), str(self._socket_path))
                )
                self._socket_path.chmod(config.unix_socket_mode)
        except OSError as error:
            await self.stop()
            raise invalid_value("the proxy cannot listen", detail=str(error)) from error
        log.info("listening on %s port %s", config.listen_address, port)
        return port

    async def stop(self) -> None:
        """Accept nobody any more, let open transactions end within `stop_timeout_s`, cut off the rest."""
        for server in self._servers:
            server.close()
        if self._socket_path is not None:
            self._socket_path.unlink(missing_ok=True)
        for relay in tuple(self._relays):
            relay.stop()
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.config.stop_timeout_s):
                    await self._empty.wait()
        finally:
            for relay in tuple(self._relays):
                relay.abort()
        await self._empty.wait()

    def enter(self, relay: Relay) -> bytes | None:
        """Remember a new connection, or return the refusal to send."""
        self._relays.add(relay)
        self._empty.clear()
        return TOO_MANY if len(self._relays) > 2 * self.config.max_connections else None

    def admit(self, relay: Relay) -> bytes | None:
        """Count the relay as a session, or return the refusal to send."""
        if len(self._sessions) >= self.config.max_connections:
            log.warning("a client was refused: %s sessions are open", len(self._sessions))
            return TOO_MANY
        self._sessions.add(relay)
        return None

    def forget(self, relay: Relay) -> None:
        """Drop the relay; called once, when both its connections are closed."""
        self._relays.discard(relay)
        self._sessions.discard(relay)
        if not self._relays:
            self._empty.set()


async def serve(config: ProxyConfig, *, ready: Callable[[int], None] | None = None) -> None:
    """Run a proxy until cancelled, then stop it in good order; `ready` is called with the TCP port.

    Raises FederatedError where the settings cannot be used (address taken, certificate unreadable).
    """
    proxy = Proxy(config, federated_rewriter())
    port = await proxy.start()
    try:
        if ready is not None:
            ready(port)
        await asyncio.get_running_loop().create_future()
    finally:
        await proxy.stop()


def run(config_path: Path, *, ready: Callable[[int], None] | None = None) -> None:
    """Run a proxy with the settings of a file until SIGTERM or SIGINT; a second one cuts the stop short."""
    config = load_config(config_path)

    async def main() -> None:
        serving = asyncio.ensure_future(serve(config, ready=ready))
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, serving.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await serving

    uvloop.run(main())


def _tls_context(config: ProxyConfig) -> ssl.SSLContext | None:
    if config.tls_certificate is None or config.tls_key is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["postgresql"])
    try:
        context.load_cert_chain(config.tls_certificate, config.tls_key)
    except (OSError, ssl.SSLError) as error:
        raise invalid_value("the proxy's TLS certificate or key cannot be used", detail=str(error)) from error
    return context
