"""An HTTP proxy that knows CONNECT and nothing else, as hospitals have them between their nodes and the world."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field


@dataclass
class ConnectProxy:
    """Its port, the targets that it has connected to, and the links that are open."""

    port: int = 0
    expected: str | None = None
    targets: list[str] = field(default_factory=list)
    writers: set[asyncio.StreamWriter] = field(default_factory=set)

    def forget_password(self) -> None:
        """Ask for none from now on."""
        self.expected = None

    def cut(self) -> None:
        """Break every link that is open."""
        for writer in self.writers:
            writer.transport.abort()


@asynccontextmanager
async def connect_proxy(*, password: str | None = None) -> AsyncIterator[ConnectProxy]:
    """A running proxy. password: what it asks for, of the user `node`; None: it asks for none."""
    expected = None if password is None else base64.b64encode(f"node:{password}".encode()).decode()
    proxy = ConnectProxy(expected=expected)

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            await _serve(proxy, reader, writer)
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        proxy.cut()


async def _serve(proxy: ConnectProxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    method, target, _ = head.split("\r\n")[0].split(" ")
    if proxy.expected is not None and f"Basic {proxy.expected}" not in head:
        writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        return
    assert method == "CONNECT"
    proxy.targets.append(target)
    host, _, port = target.rpartition(":")
    far_reader, far_writer = await asyncio.open_connection(host.strip("[]"), int(port))
    writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
    proxy.writers |= {writer, far_writer}
    await asyncio.gather(_copy(reader, far_writer), _copy(far_reader, writer))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.close()
