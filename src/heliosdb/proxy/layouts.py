"""Reads known again by the headers of their messages, so that they need no walk: what an earlier one came to.

What always holds: a read is taken for a known one only if it has the same messages, type for type and length
for length, and ends where its last message ends; then walking it could come to nothing else, as long as
nothing federated is followed. Of what was said nothing is kept but types, lengths and the transaction status.

Clients repeat themselves: the same statements, in the same few messages, with values of a few lengths. One
comparison of all the headers costs less than a look at each of them.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from heliosdb.proxy.awaited import Awaited
from heliosdb.proxy.kinds import CLIENT_SKIMMED, READY, READY_LENGTH, SERVER_SKIMMED, TEXTS, WALK
from heliosdb.proxy.wire import HEAD, HEADER

MAX_READ = 1024  # bytes of a read that is worth knowing; there is one known read of each length
MAX_MESSAGES = 16
ONE_IN = 64  # of so many unknown reads one is learned: talk that never repeats itself pays little for it


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the headers are in a read, and what they are: `read(data) == heads` for one that is the same.

    A ReadyForQuery counts with its status. `kinds` are the types of the messages in order.
    """

    read: Callable[[bytes], tuple[int, ...]]
    heads: tuple[int, ...]
    kinds: tuple[int, ...]

    @classmethod
    def of(cls, data: bytes) -> Layout | None:
        """Return the layout of a read that is whole messages, and not too many; None of any other."""
        at, end, places, kinds = 0, len(data), ["!"], list[int]()
        while at <= end - HEADER and len(kinds) < MAX_MESSAGES:
            kind, length = HEAD.unpack_from(data, at)
            at += length + 1
            if length < 4 or at > end:
                return None
            kinds.append(kind)
            places.append("BIB" if (kind, length) == (READY, READY_LENGTH) else f"BI{length - 4}x")
        if at != end:
            return None
        read = struct.Struct("".join(places)).unpack
        return cls(read, read(data), tuple(kinds))


@dataclass(frozen=True, slots=True)
class Request:
    """A read of the client: what its messages put in a session's queue, and whether there is text in them."""

    read: Callable[[bytes], tuple[int, ...]]
    heads: tuple[int, ...]
    awaited: tuple[Awaited, ...]
    has_text: bool

    @classmethod
    def of(cls, data: bytes) -> Request | None:
        """Return what a read of the client comes to, None where that takes a walk."""
        layout = Layout.of(data)
        if layout is None or not all(kind in CLIENT_SKIMMED for kind in layout.kinds):
            return None
        each = [CLIENT_SKIMMED[kind] for kind in layout.kinds]
        awaited = tuple(one for one in each if one is not None)
        return cls(layout.read, layout.heads, awaited, not TEXTS.isdisjoint(layout.kinds))


@dataclass(frozen=True, slots=True)
class Answer:
    """A read of the server that ends in its only ReadyForQuery and answers all that is in the queue."""

    read: Callable[[bytes], tuple[int, ...]]
    heads: tuple[int, ...]
    awaited: deque[Awaited]
    status: bytes

    @classmethod
    def of(cls, data: bytes, awaited: deque[Awaited]) -> Answer | None:
        """Return what a read comes to that has answered `awaited`, None where it takes a walk."""
        layout = Layout.of(data) if len(awaited) <= MAX_MESSAGES else None
        if layout is None or layout.kinds.count(READY) != 1 or layout.heads[-3:-1] != (READY, READY_LENGTH):
            return None
        if any(SERVER_SKIMMED[kind] == WALK for kind in layout.kinds):
            return None
        return cls(layout.read, layout.heads, awaited, data[-1:])


class Known:
    """The reads that the sessions of one proxy have in common, by their length in bytes."""

    def __init__(self, one_in: int = ONE_IN) -> None:
        self.requests: dict[int, Request] = {}
        self.answers: dict[int, Answer] = {}
        self._one_in = one_in
        self._unknown = 0

    def learns(self, data: bytes) -> bool:
        """Whether this unknown read is to be learned."""
        self._unknown += 1
        return not self._unknown % self._one_in and len(data) <= MAX_READ

    def learn_request(self, data: bytes) -> None:
        """Know a read of the client again, if it is one that needs no walk."""
        request = Request.of(data)
        if request is not None:
            self.requests[len(data)] = request

    def learn_answer(self, data: bytes, awaited: deque[Awaited]) -> None:
        """Know a read of the server again, if it is one that needs no walk; it has answered `awaited`."""
        answer = Answer.of(data, awaited)
        if answer is not None:
            self.answers[len(data)] = answer
