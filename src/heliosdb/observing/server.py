"""Serves `/metrics`, and nothing else, over HTTP/1.1.

What always holds: a connection is one request and has seconds for it; few are open at once, and a request's
head is bounded; with a certificate, nobody is answered who has not shown one of the authority that is named.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import h11

from federated_sql.errors import invalid_value
from heliosdb.observing.settings import MetricsSettings

log = logging.getLogger(__name__)

PATH = b"/metrics"
MOST_CONNECTIONS = 16
LARGEST_HEAD = 8192
TIMEOUT_S = 15.0
_RETRY_S = 0.5

Render = Callable[[], Awaitable[bytes]]


class MetricsServer:
    """Listens for scrapes. render: what is shown; content_type: of that."""

    def __init__(self, settings: MetricsSettings, render: Render, content_type: str) -> None:
        self._settings = settings
        self._render = render
        self._content_type = content_type
        self._certificates = _Certificates.load(settings)
        self._server: asyncio.Server | None = None
        self._starting: asyncio.Task[None] | None = None
        self._open: set[asyncio.Task[None]] = set()

    @property
    def port(self) -> int:
        """The port that it listens on; 0 before."""
        if self._server is None:
            return 0
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def start(self, *, patiently: bool = False) -> None:
        """Listen. patiently: wait for a process that still listens there, meanwhile return. Raises
        FederatedError where the address cannot be listened on."""
        try:
            await self._listen()
        except OSError as error:
            if not patiently:
                raise invalid_value(
                    f"metrics cannot be served at {self._settings.listen}", detail=error.strerror
                ) from error
            self._starting = asyncio.create_task(self._listen_later(), name="metrics")

    async def _listen(self) -> None:
        host, port = self._settings.address
        tls = None if self._certificates is None else self._certificates.context
        self._server = await asyncio.start_server(self._accept, host, port, ssl=tls, limit=LARGEST_HEAD)
        scheme = "http" if tls is None else "https"
        log.info("metrics at %s://%s%s", scheme, self._settings.listen, PATH.decode())

    async def _listen_later(self) -> None:
        while self._server is None:
            await asyncio.sleep(_RETRY_S)
            with contextlib.suppress(OSError):
                await self._listen()

    async def stop(self) -> None:
        """Close the listener and every connection."""
        if self._starting is not None:
            self._starting.cancel()
        if self._server is not None:
            self._server.close()
        tasks = [task for task in (*self._open, self._starting) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        try:
            if len(self._open) >= MOST_CONNECTIONS:
                return
            self._open.add(task)
            with contextlib.suppress(OSError, TimeoutError, h11.ProtocolError):
                async with asyncio.timeout(TIMEOUT_S):
                    await self._converse(reader, writer)
        finally:
            self._open.discard(task)
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=LARGEST_HEAD)
        silent = False
        try:
            request = await _read_request(connection, reader)
            if request is None:
                return
            silent = request.method == b"HEAD"
            answer = await self._respond(request)
        except h11.RemoteProtocolError as error:
            answer = _Answer(error.error_status_hint, b"bad request\n")
        for event in answer.events(silent=silent):
            writer.write(connection.send(event) or b"")
        await writer.drain()

    async def _respond(self, request: h11.Request) -> _Answer:
        if request.target.split(b"?", 1)[0] != PATH:
            return _Answer(404, b"metrics are at /metrics\n")
        if request.method not in (b"GET", b"HEAD"):
            return _Answer(405, b"only GET\n", headers=(("Allow", "GET, HEAD"),))
        return _Answer(200, await self._render(), self._content_type, (("Cache-Control", "no-store"),))


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    body: bytes
    content_type: str = "text/plain; charset=utf-8"
    headers: tuple[tuple[str, str], ...] = ()

    def events(self, *, silent: bool) -> Iterator[h11.Event]:
        """What is sent; silent: without the body, as HEAD asks."""
        told = (
            ("Content-Type", self.content_type),
            ("Content-Length", str(len(self.body))),
            ("X-Content-Type-Options", "nosniff"),
            ("Connection", "close"),
        )
        yield h11.Response(status_code=self.status, headers=[*told, *self.headers])
        if not silent:
            yield h11.Data(data=self.body)
        yield h11.EndOfMessage()


async def _read_request(connection: h11.Connection, reader: asyncio.StreamReader) -> h11.Request | None:
    """The request, without a body it may have; None where the client left. Raises RemoteProtocolError."""
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await reader.read(LARGEST_HEAD))
        elif isinstance(event, h11.Request):
            return event
        else:
            return None


class _Certificates:
    """The server's certificate, loaded again when its files change; the authority is the one at the start."""

    def __init__(self, certificate: Path, private_key: Path, client_ca: Path) -> None:
        self._files = (certificate, private_key)
        self._client_ca = client_ca
        self._stamp = self._stamps()
        self._current = self.context = self._load()
        self.context.sni_callback = self._choose

    @classmethod
    def load(cls, settings: MetricsSettings) -> _Certificates | None:
        """None where metrics are not encrypted. Raises FederatedError where a file cannot be used."""
        files = (settings.certificate, settings.private_key, settings.client_ca)
        if not all(files):
            return None
        try:
            return cls(*(file for file in files if file is not None))
        except (OSError, ssl.SSLError, ValueError) as error:
            raise invalid_value(
                "the certificate, key or client_ca of metrics cannot be used", detail=str(error)
            ) from error

    def _choose(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        stamp = self._stamps()
        if stamp != self._stamp:
            try:
                self._current, self._stamp = self._load(), stamp
            except (OSError, ssl.SSLError, ValueError) as error:
                # Half of a pair may be new: the next handshake looks again.
                log.warning("the certificate of metrics stays as it was: %s", error)
        connection.context = self._current

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(self._client_ca)
        context.load_cert_chain(*self._files, password=_refuse_passphrase)
        return context

    def _stamps(self) -> tuple[tuple[int, int] | None, ...]:
        return tuple(_stamp(path) for path in self._files)


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino


def _refuse_passphrase() -> str:
    raise ssl.SSLError("the key is protected by a passphrase")
