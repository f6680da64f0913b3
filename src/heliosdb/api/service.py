"""The process: settings, TLS, and the server that runs the application until a signal ends it.

What always holds: it listens in plain on loopback alone; TLS is 1.3, or 1.2 with what browsers speak; what is
logged are lines of `heliosdb.api`, and none of the server's own about requests.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import signal
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import uvicorn
import uvloop

from heliosdb.api.app import create_app
from heliosdb.api.config import ApiConfig, load_config
from heliosdb.api.database import Database
from heliosdb.api.guard import Services
from heliosdb.api.protocol import BoundedConfig
from heliosdb.api.serving.grpc_door import serving_grpc
from heliosdb.api.serving.listener import VersionListener
from heliosdb.domain.errors import invalid_value
from heliosdb.liveness.answering import answering
from heliosdb.liveness.manager import notify, watched
from heliosdb.liveness.standing import EXTENSION, Obstacle, Standing

log = logging.getLogger(__name__)

_SHUTDOWN = 10
_LOOK = 2.0
_NO_EXTENSION = Obstacle(EXTENSION, "waiting for CREATE EXTENSION heliosdb_federated_learning")


def run(config_path: Path, *, ready: Callable[[int], None] | None = None) -> None:
    """Serve until SIGTERM or SIGINT; `ready` is called with the port once it listens."""
    config = load_config(config_path)
    # The pool says of each failed attempt to connect what the standing says once.
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)
    uvloop.run(serve(config, ready))


class Server(uvicorn.Server):
    """uvicorn's server, which says when it listens and where, and leaves signals to the process."""

    def __init__(self, config: BoundedConfig) -> None:
        super().__init__(config)
        self._head_timeout = config.head_timeout
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen; SystemExit where the address cannot be had."""
        loop = asyncio.get_running_loop()
        if self.config.is_ssl:
            # uvicorn passes no such limit on, and asyncio's own is a minute.
            limited = functools.partial(loop.create_server, ssl_handshake_timeout=self._head_timeout)
            loop.create_server = limited  # type: ignore[method-assign]
        try:
            await super().startup(sockets)
        finally:
            vars(loop).pop("create_server", None)
        if self.started:
            self.listening.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Its own way would end the process by the signal again once all is closed."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        yield

    def port(self) -> int:
        """The port, once it has started."""
        return int(self.servers[0].sockets[0].getsockname()[1])


async def serve(config: ApiConfig, ready: Callable[[int], None] | None = None) -> None:
    """Serve until a signal asks to stop."""
    standing = Standing(config.ready_file, log)
    server = Server(make_server_config(config))

    async with watched(), answering(config.health_socket, standing.state), asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(server.serve())
        beside = tasks.create_task(_beside(config, server, standing, ready))
        await serving
        beside.cancel()
    notify(STOPPING=1)
    log.info("stopped")


async def _beside(
    config: ApiConfig, server: Server, standing: Standing, ready: Callable[[int], None] | None
) -> None:
    """What runs once the server listens: gRPC, what hears of new versions, and the word how it stands."""
    await server.listening.wait()
    services: Services = server.config.app.state.services  # type: ignore[union-attr]
    async with serving_grpc(config, services), asyncio.TaskGroup() as tasks:
        tasks.create_task(VersionListener(config, services.inference).run())
        tasks.create_task(_look(config, server, services.database, standing, ready))


async def _look(
    config: ApiConfig,
    server: Server,
    database: Database,
    standing: Standing,
    ready: Callable[[int], None] | None,
) -> None:
    """Say once that it listens, and from then on whether the database answers."""
    scheme = "http" if config.certificate is None else "https"
    log.info("listening on %s port %d (%s)", config.listen_host, server.port(), scheme)
    notify(READY=1)
    if ready is not None:
        ready(server.port())
    while True:
        try:
            if await database.answers():
                standing.ready()
            else:
                standing.waits(_NO_EXTENSION)
        except psycopg.Error:
            standing.waits(Obstacle("unreachable", "the database does not answer"))
        await asyncio.sleep(_LOOK)


def make_server_config(config: ApiConfig) -> BoundedConfig:
    """The server's settings; FederatedError INVALID_VALUE for certificates that cannot be used."""
    context = None if config.certificate is None else make_context(config)
    return BoundedConfig(
        create_app(config),
        client_connections=config.client_connections,
        head_timeout=config.head_timeout,
        host=config.listen_host,
        port=config.listen_port,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        # Nobody's word about where a call came from is taken.
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=_SHUTDOWN,
        ssl_context_factory=None if context is None else lambda _config, _default: context,
    )


def make_context(config: ApiConfig) -> ssl.SSLContext:
    """TLS with the API's certificate, and that of clients verified where they show one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE+AESGCM:ECDHE+CHACHA20")
    assert config.certificate is not None
    try:
        context.load_cert_chain(config.certificate, config.private_key)
        if config.client_certificates is not None:
            context.load_verify_locations(config.client_certificates.authority)
            context.verify_mode = ssl.CERT_OPTIONAL
    except (OSError, ssl.SSLError) as error:
        raise invalid_value(
            "the certificates of the configuration cannot be used", detail=str(error)
        ) from error
    return context
