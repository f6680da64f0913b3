"""Passing over whole messages that concern nothing federated, with a few bytecodes each.

What always holds: it stops before the first message that is not all there or needs a closer look, and leaves
the queue as the walk over the same messages would.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from heliosdb.proxy.awaited import Awaited
from heliosdb.proxy.kinds import (
    CLIENT_SKIMMED,
    ENDED_BY_READY,
    READY,
    READY_LENGTH,
    SERVER_SKIMMED,
    TEXTS,
    WALK,
)
from heliosdb.proxy.wire import HEAD, HEADER


def skim_client(data: bytes, at: int, queue: deque[Awaited], may_concern: Callable[[bytes], bool]) -> int:
    """Queue what the client said from `at` on; return where the first message begins that needs the walk.

    `may_concern` is asked once, about all of `data`, and only where there is text in it.
    """
    end, clear = len(data), False
    last, unpack, append, skimmed = end - HEADER, HEAD.unpack_from, queue.append, CLIENT_SKIMMED
    while at <= last:
        kind, length = unpack(data, at)
        after = at + length + 1
        if after > end or length < 4 or kind not in skimmed:
            return at
        if not clear and kind in TEXTS:
            if may_concern(data):
                return at
            clear = True
        awaited = skimmed[kind]
        if awaited is not None:
            append(awaited)
        at = after
    return at


def skim_server(data: bytes, at: int, queue: deque[Awaited]) -> tuple[int, int, int, int]:
    """Take off the queue what the server answered from `at` on.

    Returns where the first message begins that needs the walk, what the last answer ended (0: there was
    none), how many ReadyForQuery there were, and where the last of them begins.
    """
    end, said, readies, ready = len(data), 0, 0, 0
    last, unpack, skimmed = end - HEADER, HEAD.unpack_from, SERVER_SKIMMED
    while at <= last:
        kind, length = unpack(data, at)
        after = at + length + 1
        if after > end or length < 4:
            break
        ended = skimmed[kind]
        if ended:
            if ended == READY:
                if length != READY_LENGTH:
                    break
                readies, ready = readies + 1, at
                while queue and queue.popleft().kind not in ENDED_BY_READY:
                    pass
            elif ended == WALK:
                break
            elif queue and queue[0].kind == ended:
                queue.popleft()
            said = ended
        at = after
    return at, said, readies, ready
