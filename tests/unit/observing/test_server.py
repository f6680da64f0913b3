"""Metrics are served at one path, to few at a time, and over TLS to those who show a certificate alone."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from federated_sql.errors import FederatedError
from heliosdb.observing import server as serving
from heliosdb.observing.server import MetricsServer
from heliosdb.observing.settings import MetricsSettings
from heliosdb.transport.authority import Authority

BODY = b"heliosdb_ready 1\n"


async def render() -> bytes:
    return BODY


@contextlib.asynccontextmanager
async def listening(settings: MetricsSettings | None = None) -> AsyncIterator[MetricsServer]:
    made = MetricsServer(
        settings or MetricsSettings(listen="127.0.0.1:0"), render, "text/plain; version=0.0.4"
    )
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


async def say(port: int, request: bytes, tls: ssl.SSLContext | None = None) -> tuple[bytes, bytes]:
    """Send a request; the head and the body of all that comes back."""
    name = "localhost" if tls else None
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls, server_hostname=name)
    try:
        writer.write(request)
        await writer.drain()
        async with asyncio.timeout(60):
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        return head, body
    finally:
        writer.close()


async def test_metrics_are_shown() -> None:
    async with listening() as server:
        head, body = await say(server.port, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert b"Content-Type: text/plain; version=0.0.4" in head
    assert body == BODY


async def test_head_has_no_body() -> None:
    async with listening() as server:
        head, body = await say(server.port, b"HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    assert f"Content-Length: {len(BODY)}".encode() in head
    assert body == b""


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        (b"GET / HTTP/1.1", b"404"),
        (b"GET /metrics/ HTTP/1.1", b"404"),
        (b"GET /metrics/../etc/passwd HTTP/1.1", b"404"),
        (b"POST /metrics HTTP/1.1", b"405"),
        (b"DELETE /metrics HTTP/1.1", b"405"),
        (b"GET /metrics?name[]=x HTTP/1.1", b"200"),
        (b"nonsense", b"400"),
        (b"GET /" + b"a" * 20_000 + b" HTTP/1.1", b"431"),
    ],
)
async def test_other_requests_are_refused(request_line: bytes, status: bytes) -> None:
    async with listening() as server:
        head, _ = await say(server.port, request_line + b"\r\nHost: x\r\n\r\n")
    assert head.split(b" ")[1] == status


async def test_no_more_connections_than_there_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "MOST_CONNECTIONS", 2)
    async with listening() as server:
        silent = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(2)]
        head, _ = await say(server.port, b"")
        assert head == b""
        for _, writer in silent:
            writer.close()


async def test_a_silent_client_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "TIMEOUT_S", 0.05)
    async with listening() as server:
        assert await say(server.port, b"GET /metrics") == (b"", b"")


async def test_an_address_that_is_taken_is_one_clear_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = MetricsSettings(listen=f"127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(FederatedError, match="metrics cannot be served at"):
            async with listening(settings):
                pass


async def test_a_successor_waits_for_the_address() -> None:
    first = MetricsServer(MetricsSettings(listen="127.0.0.1:0"), render, "text/plain")
    await first.start()
    second = MetricsServer(MetricsSettings(listen=f"127.0.0.1:{first.port}"), render, "text/plain")
    await second.start(patiently=True)
    assert second.port == 0
    await first.stop()
    async with asyncio.timeout(60):
        while second.port == 0:  # noqa: ASYNC110 - it says nothing when it listens
            await asyncio.sleep(0.02)
        _, body = await say(second.port, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    assert body == BODY
    await second.stop()


class Certificates:
    """A server's and a client's, each of an authority of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.servers, self.clients = Authority.create("servers"), Authority.create("clients")
        (directory / "servers.pem").write_bytes(self.servers.certificate_pem)
        (directory / "clients.pem").write_bytes(self.clients.certificate_pem)
        self.issue("server", self.servers)
        self.issue("client", self.clients)

    def issue(self, name: str, authority: Authority) -> None:
        identity = authority.issue(name, ["localhost"])
        (self.directory / f"{name}.pem").write_bytes(identity.certificate_pem)
        (self.directory / f"{name}.key").write_bytes(identity.private_key_pem)

    def settings(self) -> MetricsSettings:
        return MetricsSettings(
            listen="127.0.0.1:0",
            certificate=self.directory / "server.pem",
            private_key=self.directory / "server.key",
            client_ca=self.directory / "clients.pem",
        )

    def context(self, client: str | None) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.directory / "servers.pem")
        if client is not None:
            context.load_cert_chain(self.directory / f"{client}.pem", self.directory / f"{client}.key")
        return context


async def test_over_tls_only_a_client_of_the_authority_is_answered(tmp_path: Path) -> None:
    made = Certificates(tmp_path)
    request = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"
    async with listening(made.settings()) as server:
        head, body = await say(server.port, request, made.context("client"))
        assert (head.split(b" ")[1], body) == (b"200", BODY)
        for stranger in (None, "server"):
            with pytest.raises((ssl.SSLError, ConnectionError)):
                _, body = await say(server.port, request, made.context(stranger))
                raise ConnectionError(f"answered with {body!r}" if body else "closed")
        assert await _plain(server.port, request) == b""


async def _plain(port: int, request: bytes) -> bytes:
    try:
        return (await say(port, request))[1]
    except ConnectionError:
        return b""


async def test_a_renewed_certificate_is_shown_without_a_restart(tmp_path: Path) -> None:
    made = Certificates(tmp_path)
    async with listening(made.settings()) as server:
        before = await _shown(server.port, made)
        made.issue("server", made.servers)
        assert await _shown(server.port, made) != before


async def _shown(port: int, made: Certificates) -> bytes | None:
    context = made.context("client")
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")
    try:
        return bytes(writer.get_extra_info("ssl_object").getpeercert(binary_form=True))
    finally:
        writer.close()


async def test_a_certificate_that_cannot_be_used_is_one_clear_error(tmp_path: Path) -> None:
    made = Certificates(tmp_path)
    (tmp_path / "server.key").write_text("no key")
    with pytest.raises(FederatedError, match="certificate, key or client_ca"):
        MetricsServer(made.settings(), render, "text/plain")
