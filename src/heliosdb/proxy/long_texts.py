"""The clients that wait for what their text becomes, each in its turn.

What always holds: one text is worked out at a time, and a client has one in the queue; a client that leaves
takes its text along, so nobody waits for the text of somebody who is gone.
"""

from __future__ import annotations

import asyncio
import select
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

Outcome = TypeVar("Outcome")


@dataclass(slots=True, eq=False)
class Turn(Generic[Outcome]):
    """A text that waits; `gone` says at its turn whether its client has vanished, `done` gets the outcome."""

    text: str
    gone: Callable[[], bool]
    done: Callable[[Outcome], None]
    work: asyncio.Future[Outcome] | None = None


class LongTexts(Generic[Outcome]):
    """The queue; `begin` starts the work on one text, beside the loop."""

    def __init__(self, begin: Callable[[str], Future[Outcome]]) -> None:
        self._begin = begin
        self._waiting: deque[Turn[Outcome]] = deque()
        self._busy = False

    def take(self, text: str, *, gone: Callable[[], bool], done: Callable[[Outcome], None]) -> Turn[Outcome]:
        """Queue up; `done` is called later, never at once."""
        turn = Turn(text, gone, done)
        self._waiting.append(turn)
        self._next()
        return turn

    def leave(self, turn: Turn[Outcome]) -> None:
        """Give the turn up; its outcome is wanted no more."""
        if turn.work is not None:
            turn.work.cancel()
        elif turn in self._waiting:
            self._waiting.remove(turn)

    def _next(self) -> None:
        while self._waiting and not self._busy:
            turn = self._waiting.popleft()
            if not turn.gone():
                self._busy = True
                turn.work = asyncio.wrap_future(self._begin(turn.text))
                turn.work.add_done_callback(partial(self._ended, turn))

    def _ended(self, turn: Turn[Outcome], work: asyncio.Future[Outcome]) -> None:
        self._busy = False
        try:
            if not work.cancelled():
                turn.done(work.result())
        finally:
            self._next()


def vanished(transport: asyncio.Transport) -> bool:
    """Whether the peer can take nothing any more; a connection that is not read does not tell by itself."""
    peer = transport.get_extra_info("socket")
    if peer is None or peer.fileno() < 0:
        return True
    poll = select.poll()
    poll.register(peer.fileno(), 0)  # what cannot be masked: an error, or both directions closed
    return bool(poll.poll(0))
