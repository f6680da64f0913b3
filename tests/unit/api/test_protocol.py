"""Connections of whoever has not said who it is are bounded, in number and in time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from heliosdb.api.config import ApiConfig
from heliosdb.api.service import Server, make_server_config
from heliosdb.transport.authority import Authority

SETTINGS = {"database": "host=/nonexistent dbname=x", "connection_timeout": 0.05, "listen_port": 0}
DEADLINE = 60
GET = b"GET /nowhere HTTP/1.1\r\nHost: api\r\n\r\n"
BEGUN = b"POST /nowhere HTTP/1.1\r\nHost: api\r\nContent-Length: 1000\r\n\r\nx"


@asynccontextmanager
async def serving(**changes: object) -> AsyncIterator[int]:
    """Run the server itself, on a port of its own."""
    server = Server(make_server_config(ApiConfig.model_validate(SETTINGS | changes)))
    running = asyncio.create_task(server.serve())
    await asyncio.wait_for(server.listening.wait(), DEADLINE)
    try:
        yield server.port()
    finally:
        server.should_exit = True
        await running


async def told(reader: asyncio.StreamReader, deadline: float = DEADLINE) -> bytes:
    """What is sent until the connection ends."""
    with suppress(ConnectionResetError):
        return await asyncio.wait_for(reader.read(), deadline)
    return b""


async def answer(reader: asyncio.StreamReader) -> bytes:
    """The head of one answer, its body read too."""
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), DEADLINE)
    [length] = [line.split(b":")[1] for line in head.split(b"\r\n") if line.startswith(b"content-length")]
    await asyncio.wait_for(reader.readexactly(int(length)), DEADLINE)
    return head


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHost: a", GET, GET + b"GET / HT", BEGUN])
async def test_who_never_ends_a_request_is_cut_off(sent: bytes) -> None:
    async with serving(head_timeout=0.2) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        if b"\r\n\r\n" in sent:
            assert b" 404 " in await answer(reader)
            # A byte now and then ends the server's own limit between requests.
            writer.write(b"x" if sent is BEGUN else b"G")
        assert await told(reader) == b""
        writer.close()


async def test_requests_one_after_the_other_are_served_for_as_long_as_they_come() -> None:
    async with serving(head_timeout=0.2) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        end = asyncio.get_running_loop().time() + 0.6
        while asyncio.get_running_loop().time() < end:
            writer.write(GET)
            # On a fast machine they are more than one address may send.
            assert (await answer(reader)).startswith((b"HTTP/1.1 404 ", b"HTTP/1.1 429 "))
        writer.close()


async def test_one_client_too_many_is_cut_off_and_those_before_stay() -> None:
    async with serving(client_connections=2) as port:
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        for reader, writer in held:
            writer.write(GET)
            assert b" 404 " in await answer(reader)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert await told(reader) == b""
        writer.close()
        held[0][1].write(GET)
        assert b" 404 " in await answer(held[0][0])
        for _, writer in held:
            writer.close()


async def test_who_never_begins_tls_is_cut_off(tmp_path: Path) -> None:
    pair = Authority.create("test").issue("api", ["localhost"])
    (tmp_path / "api.pem").write_bytes(pair.certificate_pem)
    (tmp_path / "api.key").write_bytes(pair.private_key_pem)
    files = {"certificate": tmp_path / "api.pem", "private_key": tmp_path / "api.key"}
    async with serving(head_timeout=0.2, **files) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        # Sooner than asyncio's own limit, a minute.
        assert await told(reader, DEADLINE / 2) == b""
        writer.close()
