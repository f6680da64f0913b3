"""How often one caller may call, and how much of it may be under way, in bounded memory.

What always holds: however many callers there are, no more than `_MOST` are remembered; who is forgotten is
the one who has not called for longest, and begins with a full bucket.
"""

from __future__ import annotations

import asyncio
import ipaddress
import math
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

from heliosdb.api.config import RateLimit
from heliosdb.api.problems import Problem

_MOST = 10_000


class Buckets:
    """One token bucket a key. clock: seconds, monotonic."""

    def __init__(self, limit: RateLimit, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._clock = clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, key: str) -> None:
        """Count one call; for one too many a Problem 429 that says after how many seconds to come again."""
        now = self._clock()
        left, since = self._left.get(key, (float(self._limit.burst), now))
        left = min(float(self._limit.burst), left + (now - since) * self._limit.per_second)
        self._left[key] = (max(left - 1.0, 0.0) if left >= 1.0 else left, now)
        self._left.move_to_end(key)
        if len(self._left) > _MOST:
            self._left.popitem(last=False)
        if left < 1.0:
            wait = math.ceil((1.0 - left) / self._limit.per_second)
            raise Problem(429, "This caller calls too often.", retry_after=max(1, wait))


class Places:
    """How many of a kind there are at once. refusal: what one too many is told, to try again after
    `pause` seconds."""

    def __init__(self, most: int, most_each: int, refusal: str, pause: int = 10) -> None:
        self._most = most
        self._most_each = most_each
        self._refusal = refusal
        self._pause = pause
        self._taken: dict[str, int] = {}

    @contextmanager
    def one_more(self, key: str) -> Iterator[None]:
        """Count one for as long as the block runs; a Problem 429 where there are too many."""
        if sum(self._taken.values()) >= self._most or self._taken.get(key, 0) >= self._most_each:
            raise Problem(429, self._refusal, retry_after=self._pause)
        self._taken[key] = self._taken.get(key, 0) + 1
        try:
            yield
        finally:
            self._taken[key] -= 1
            if not self._taken[key]:
                del self._taken[key]


class Shares:
    """How many of a kind one caller has at once. patience: seconds that one too many waits for its turn."""

    def __init__(self, most_each: int, patience: float) -> None:
        self._most_each = most_each
        self._patience = patience
        self._turns: dict[str, tuple[asyncio.Semaphore, int]] = {}

    @asynccontextmanager
    async def one_of(self, key: str) -> AsyncIterator[None]:
        """Hold one for as long as the block runs; a Problem 429 where none came free in time."""
        turn, users = self._turns.get(key) or (asyncio.Semaphore(self._most_each), 0)
        self._turns[key] = (turn, users + 1)
        try:
            try:
                async with asyncio.timeout(self._patience):
                    await turn.acquire()
            except TimeoutError:
                raise Problem(429, "This role has too many calls under way.", retry_after=1) from None
            try:
                yield
            finally:
                turn.release()
        finally:
            turn, users = self._turns[key]
            self._turns[key] = (turn, users - 1)
            if users == 1:
                del self._turns[key]


def address_key(host: str | None) -> str:
    """What an address is counted as: of IPv6 its network, all of which one caller may have."""
    if host is None:
        return "none"
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if address.version == 6:
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)
