"""An end of a relay sends at once what its socket takes, the rest in order, and nothing after it is done."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest
import uvloop

from heliosdb.proxy.config import ProxyConfig
from heliosdb.proxy.ends import ServerEnd, as_protocol

CHUNK = bytes(range(256)) * 64


@dataclass
class Client:
    """What a server's end tells."""

    congested: list[bool] = field(default_factory=list)
    said: list[bytes] = field(default_factory=list)

    def server_said(self, data: bytes) -> None:
        self.said.append(data)

    def server_ended(self) -> None:
        pass

    def server_congested(self, congested: bool) -> None:
        self.congested.append(congested)

    def settle(self) -> None:
        pass


def play(scene: Callable[[ServerEnd, Client, socket.socket], Awaitable[None]]) -> None:
    """Run a scene with an end that writes to the socket itself, and with its peer."""

    async def main() -> None:
        ours, peer = socket.socketpair()
        with peer:
            peer.setblocking(False)
            client = Client()
            end = ServerEnd(ProxyConfig(), client)
            await asyncio.get_running_loop().create_unix_connection(lambda: as_protocol(end), sock=ours)
            end.hasten()
            try:
                await scene(end, client, peer)
            finally:
                end.reset()

    uvloop.run(main())


async def take(peer: socket.socket, count: int) -> bytes:
    """Read exactly so many bytes."""
    taken = bytearray()
    while len(taken) < count:
        taken += await asyncio.get_running_loop().sock_recv(peer, count - len(taken))
    return bytes(taken)


def test_what_the_socket_takes_is_there_before_the_loop_turns():
    async def scene(end: ServerEnd, _client: Client, peer: socket.socket) -> None:
        end.write(b"first")
        assert peer.recv(100) == b"first"

    play(scene)


def test_bytes_arrive_in_order_whether_the_socket_takes_them_or_the_transport():
    async def scene(end: ServerEnd, client: Client, peer: socket.socket) -> None:
        chunks = [CHUNK[n:] + CHUNK[:n] for n in range(200)]
        for each in chunks:
            end.write(each)
        assert client.congested == [True]
        assert await take(peer, 200 * len(CHUNK)) == b"".join(chunks)
        assert client.congested == [True, False]
        end.write(b"at once")
        assert peer.recv(100) == b"at once"

    play(scene)


@pytest.mark.parametrize("done", [ServerEnd.say_no_more, ServerEnd.finish, ServerEnd.reset, ServerEnd.closed])
def test_nothing_is_sent_after_the_end(done):
    async def scene(end: ServerEnd, _client: Client, peer: socket.socket) -> None:
        end.write(b"before")
        transport = end.transport
        assert transport is not None
        done(end)
        end.write(b"after")
        transport.close()
        assert await asyncio.get_running_loop().sock_recv(peer, 100) in (b"before", b"")
        assert await asyncio.get_running_loop().sock_recv(peer, 100) == b""

    play(scene)


def test_a_peer_that_is_gone_is_the_transports_to_find():
    async def scene(end: ServerEnd, client: Client, peer: socket.socket) -> None:
        end.write(b"first")
        peer.close()
        while end.transport is not None:
            end.write(CHUNK)
            await asyncio.sleep(0)
        end.write(b"to nobody")
        assert not end.open

    play(scene)
