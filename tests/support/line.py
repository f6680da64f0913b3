"""A line between two daemons, which a test can cut, slow down, part for a while, or have go deaf.

What always holds: bytes pass as they are, in both directions; whoever is cut off is told by a reset, whoever
is on a deaf or parted line is told nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field

from tests.support.ports import free_port

_BLOCK = 1 << 16
_UNDER_WAY = 64
"""Blocks that a slow line holds in one direction before it takes no more."""


@dataclass(frozen=True)
class Pace:
    """How slow a line is. delay: seconds one way. rate: bytes a second, each way of each connection."""

    delay: float
    rate: float


@dataclass(eq=False)
class _Leg:
    """One connection through the line."""

    writers: tuple[asyncio.StreamWriter, asyncio.StreamWriter]
    deaf: bool = False

    def reset(self) -> None:
        for writer in self.writers:
            writer.transport.abort()


@dataclass
class Line:
    """Leads from `port` to another one. accepted: connections so far; blocks: reads from whoever connected."""

    to: int
    port: int = field(default_factory=free_port)
    accepted: int = 0
    blocks: int = 0
    pace: Pace | None = None
    _parted: bool = False
    _legs: set[_Leg] = field(default_factory=set)
    _server: asyncio.Server | None = None

    async def open(self) -> None:
        """Take connections."""
        self._server = await asyncio.start_server(self._connect, "127.0.0.1", self.port)

    async def close(self) -> None:
        """Take no connection, and cut those that there are."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.cut()

    def cut(self) -> None:
        """Reset every connection; another one may be made."""
        for leg in list(self._legs):
            leg.reset()

    def deafen(self) -> int:
        """Carry nothing more for the connections that there are, as a NAT that forgot them; returns how many."""
        for leg in self._legs:
            leg.deaf = True
        return len(self._legs)

    def part(self) -> None:
        """Carry nothing any more, also for connections that are made from now on: a network in two halves."""
        self._parted = True
        self.deafen()

    def join(self) -> None:
        """Carry again. What was lost meanwhile is lost: its connections are reset, as where a packet comes late."""
        self._parted = False
        for leg in list(self._legs):
            if leg.deaf:
                leg.reset()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        try:
            their_reader, their_writer = await asyncio.open_connection("127.0.0.1", self.to)
        except OSError:
            writer.transport.abort()
            return
        leg = _Leg((writer, their_writer), deaf=self._parted)
        self._legs.add(leg)
        try:
            await asyncio.gather(
                self._carry(leg, reader, their_writer, counted=True),
                self._carry(leg, their_reader, writer, counted=False),
            )
        finally:
            self._legs.discard(leg)
            leg.reset()

    async def _carry(
        self, leg: _Leg, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, counted: bool
    ) -> None:
        async with contextlib.aclosing(self._paced(reader)) as blocks:
            with contextlib.suppress(OSError):
                async for block in blocks:
                    if leg.deaf:
                        continue
                    self.blocks += counted
                    writer.write(block)
                    await writer.drain()
        if not leg.deaf:
            leg.reset()

    async def _paced(self, reader: asyncio.StreamReader) -> AsyncGenerator[bytes]:
        """What arrives at the other end, when it does."""
        if self.pace is None:
            while block := await reader.read(_BLOCK):
                yield block
            return
        loop, pace = asyncio.get_running_loop(), self.pace
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_UNDER_WAY)

        async def send() -> None:
            block = b"-"
            while block:
                try:
                    block = await reader.read(_BLOCK)
                except OSError:
                    block = b""
                await asyncio.sleep(len(block) / pace.rate)
                await under_way.put((loop.time() + pace.delay, block))

        sending = asyncio.create_task(send())
        try:
            while True:
                due, block = await under_way.get()
                await asyncio.sleep(max(due - loop.time(), 0.0))
                if not block:
                    return
                yield block
        finally:
            sending.cancel()


@contextlib.asynccontextmanager
async def opened(to: int) -> AsyncIterator[Line]:
    """An open line to a port of this machine."""
    line = Line(to)
    await line.open()
    try:
        yield line
    finally:
        await line.close()
