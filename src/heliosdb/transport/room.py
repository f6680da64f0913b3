"""How many bytes of updates the coordinator holds at once, whatever the number of nodes.

What always holds: what is held at once is bounded by the room, or by the largest update where that is more;
whoever waits is let in in the order in which it came; nobody can keep others out: a place lapses after as
long as an update of its size takes over a slow line, whether its update is there or not, and is then no
longer counted.

So memory is bounded as long as nodes send at `SLOWEST` or faster; slower ones are held beside the room, and
the others' round does not wait for them.
"""

from __future__ import annotations

import asyncio
from collections import deque

ROOM = 32 * 1024 * 1024
"""Bytes of updates on their way, or waiting to be taken in."""

SMALL = 64 * 1024
"""Updates of no more bytes are not counted."""

SLOWEST = 4e6
"""Bytes in a second at which updates are expected to come at least."""

_GRACE = 2.0


class Room:
    """Shared by all exchanges of a coordinator. capacity: in bytes."""

    def __init__(self, capacity: int = ROOM) -> None:
        self._capacity = capacity
        self._held = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def held(self) -> int:
        """Bytes that are counted now."""
        return self._held

    async def enter(self, size: int) -> None:
        """Wait until there is room for so many bytes, and count them."""
        if not self._waiting and self._fits(size):
            self._held += size
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((size, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.leave(size)
            else:
                self._waiting.remove((size, turn))
                self._let_in()
            raise

    def leave(self, size: int) -> None:
        """Give back what `enter` has counted."""
        self._held -= size
        self._let_in()

    def _fits(self, size: int) -> bool:
        return not self._held or self._held + size <= self._capacity

    def _let_in(self) -> None:
        while self._waiting and self._fits(self._waiting[0][0]):
            size, turn = self._waiting.popleft()
            if turn.cancelled():
                continue
            self._held += size
            turn.set_result(None)


class Place:
    """The place of one update: taken when it is announced, left when it was taken in, or lapsed."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._size = 0
        self._lapse: asyncio.TimerHandle | None = None

    async def take(self, size: int) -> None:
        """Wait for a place of so many bytes."""
        self.leave()
        if size <= SMALL:
            return
        await self._room.enter(size)
        self._size = size
        self._lapse = asyncio.get_running_loop().call_later(_GRACE + size / SLOWEST, self.leave)

    def leave(self) -> None:
        """Give the place back; nothing where there is none any more."""
        if self._lapse is not None:
            self._lapse.cancel()
            self._lapse = None
        size, self._size = self._size, 0
        if size:
            self._room.leave(size)
