"""What carries batches between a coordinator's socket and nodes, in this event loop: honestly, or as a test says.

It stands where Flower stands, and does what Flower's two programs of ours do, without Flower.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from heliosdb.transport.relay_lines import batch_frame
from heliosdb.transport.relay_sockets import read_blob, write_blob

Exchange = Callable[[bytes], Awaitable[bytes]]
Meddle = Callable[[int, bytes], bytes | None]
"""What becomes of a batch for a place, or from one; None: it is dropped, and nobody says so."""

_PLACE = struct.Struct("!Q")


def honest(_: int, batch: bytes) -> bytes:
    """As it is."""
    return batch


class Courier:
    """Takes batches along. places: what answers at each place."""

    def __init__(
        self,
        socket: Path,
        places: dict[int, Exchange],
        *,
        down: Meddle = honest,
        up: Meddle = honest,
        lasting: bool = False,
    ) -> None:
        """lasting: whether it connects again where the coordinator has closed the connection."""
        self.places, self.down, self.up = places, down, up
        self.socket = socket
        self._lasting = lasting
        self._tasks: set[asyncio.Task[None]] = set()
        self._writer: asyncio.StreamWriter | None = None

    async def run(self) -> None:
        """Carry until the connection ends; a coordinator that does not listen yet is waited for."""
        await self._carry_all()
        while self._lasting:
            await self._carry_all()

    async def _carry_all(self) -> None:
        reader, self._writer = await self._connected()
        try:
            await self.tell_places()
            while (blob := await read_blob(reader)) is not None:
                task = asyncio.create_task(self._carry(_PLACE.unpack(blob[1:9])[0], blob[9:]))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        finally:
            for task in self._tasks:
                task.cancel()
            self._writer.close()

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        while True:
            with suppress(FileNotFoundError, ConnectionRefusedError):
                return await asyncio.open_unix_connection(str(self.socket))
            await asyncio.sleep(0.02)

    async def tell_places(self) -> None:
        """Say which places there are."""
        await self._say(b"P" + b"".join(map(_PLACE.pack, self.places)))

    async def lose(self, place: int) -> None:
        """Say that a batch was lost."""
        await self._say(b"L" + _PLACE.pack(place))

    async def _say(self, blob: bytes) -> None:
        assert self._writer is not None
        with suppress(OSError):
            await write_blob(self._writer, blob)

    async def _carry(self, place: int, batch: bytes) -> None:
        down = self.down(place, batch)
        if down is None:
            return
        try:
            answer = await self.places[place](down)
        except Exception:  # noqa: BLE001 -- Flower answers with an error for whatever its program raises
            await self.lose(place)
            return
        up = self.up(place, answer)
        if up is not None:
            await self._say(batch_frame(place, up))


@asynccontextmanager
async def carrying(courier: Courier) -> AsyncIterator[Courier]:
    """Have it carry for the length of a block."""
    running = asyncio.create_task(courier.run())
    try:
        yield courier
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


def at_socket(path: Path) -> Exchange:
    """What answers at a node's socket: as Flower's ClientApp asks it, a connection a batch."""

    async def exchange(batch: bytes) -> bytes:
        reader, writer = await asyncio.open_unix_connection(str(path))
        try:
            await write_blob(writer, batch)
            answer = await read_blob(reader)
        finally:
            writer.close()
        if answer is None:
            raise ConnectionError("the node has not answered")
        return answer

    return exchange
