"""How fast one end sends: a token bucket that is paid after the message.

What always holds: of messages that were reserved in a span of T seconds no more has left than T seconds'
worth and one message. A bucket holds no more than that one message: time in which nothing was sent is not
saved up.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from heliosdb.domain.clock import Clock, SystemClock

BITS_A_MEGABIT = 1_000_000

_MOST_LINES = 1024


class TokenBucket:
    """One line. Each message may be reserved at a rate of its own."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._free_at = 0.0

    def reserve(self, size: int, mbps: float | None) -> float:
        """Take so many bytes; return in how many seconds they may leave, 0.0 where at once.

        mbps: 10^6 bits a second, more than 0; None: no limit.
        """
        if mbps is None:
            return 0.0
        now = self._clock.monotonic()
        begins = max(self._free_at, now)
        self._free_at = begins + 8.0 * size / (mbps * BITS_A_MEGABIT)
        return begins - now

    def beside(self) -> TokenBucket:
        """Another line, by the same clock."""
        return TokenBucket(self._clock)


class Pace:
    """A bucket whose messages are waited for. mbps None: nothing is."""

    def __init__(
        self,
        mbps: float | None = None,
        *,
        bucket: TokenBucket | None = None,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._mbps = mbps
        self._bucket = bucket or TokenBucket()
        self._sleep = sleep
        self._below: OrderedDict[tuple[str, float], TokenBucket] = OrderedDict()
        self._above: Pace | None = None

    def at(self, mbps: float | None, whose: str) -> Pace:
        """Return the same line with a narrower one before it, at a rate that somebody asks for.

        Each who asks, and each rate, has one of its own: whoever asks for too little waits for it alone, and
        no longer than he asks for it.
        """
        if mbps is None:
            return self
        name = (whose, mbps)
        bucket = self._below.setdefault(name, self._bucket.beside())
        self._below.move_to_end(name)
        if len(self._below) > _MOST_LINES:
            self._below.popitem(last=False)
        made = Pace(mbps, bucket=bucket, sleep=self._sleep)
        made._above = self
        return made

    async def wait(self, size: int) -> None:
        """Return once so many bytes may leave."""
        seconds = self._bucket.reserve(size, self._mbps)
        if seconds > 0.0:
            await self._sleep(seconds)
        # Not before: of the line that all share nothing is taken for what does not leave yet.
        if self._above is not None:
            await self._above.wait(size)
