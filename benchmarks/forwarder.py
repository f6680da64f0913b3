"""The least that a proxy can do: bytes in, bytes out, on the proxy's event loop and with nothing looked at.

What always holds: it has no flow control and no limits, so it is a yardstick and nothing to use.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import cast

import uvloop


class _End(asyncio.Protocol):
    """One connection; `pass_on` takes what arrives."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.pass_on: Callable[[bytes], object] = lambda _data: None
        self.other: _End | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.pass_on(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.close()

    def join(self, other: _End) -> None:
        """Give the other end what arrives here."""
        assert other.transport is not None
        self.other, self.pass_on = other, other.transport.write


class _ClientEnd(_End):
    """A client; what it says before its server is reached waits."""

    def __init__(self, server_path: str) -> None:
        super().__init__()
        self._server_path = server_path
        self._waiting = bytearray()
        self.pass_on = self._waiting.extend

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._task = asyncio.get_running_loop().create_task(self._reach())

    async def _reach(self) -> None:
        server = _End()
        await asyncio.get_running_loop().create_unix_connection(lambda: server, self._server_path)
        server.join(self)
        self.join(server)
        self.pass_on(bytes(self._waiting))


async def _serve(server_path: str) -> None:
    server = await asyncio.get_running_loop().create_server(lambda: _ClientEnd(server_path), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(sys.argv[1]))
