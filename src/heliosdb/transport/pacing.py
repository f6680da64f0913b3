"""How fast one end sends: a token bucket that is paid after the message.

What always holds: of messages that were reserved in a span of T seconds no more has left than T seconds'
worth and one message. A bucket holds no more than that one message: time in which nothing was sent is not
saved up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from heliosdb.domain.clock import Clock, SystemClock

BITS_A_MEGABIT = 1_000_000


class TokenBucket:
    """The line of one sender. Each message may be reserved at a rate of its own."""

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

    def at(self, mbps: float | None) -> Pace:
        """Return the same line at another rate, which is not above its own."""
        rates = [rate for rate in (self._mbps, mbps) if rate is not None]
        return Pace(min(rates) if rates else None, bucket=self._bucket, sleep=self._sleep)

    async def wait(self, size: int) -> None:
        """Return once so many bytes may leave."""
        seconds = self._bucket.reserve(size, self._mbps)
        if seconds > 0.0:
            await self._sleep(seconds)
