"""How fast one end sends: the line of a token bucket, its clock moved by hand."""

from __future__ import annotations

import math

import pytest

from heliosdb.transport.pacing import Pace, TokenBucket
from heliosdb.transport.streams import cut

MEGABYTE = 1_000_000


class HandClock:
    """A clock that a test moves."""

    now = 100.0

    def monotonic(self) -> float:
        """Seconds."""
        return self.now

    def time(self) -> float:
        """Seconds."""
        return self.now

    async def sleep(self, seconds: float) -> None:
        """Let them pass."""
        self.now += seconds


async def test_two_megabytes_at_eight_megabit_take_two_seconds_but_the_last_chunks_own_time() -> None:
    clock = HandClock()
    pace = Pace(8.0, bucket=TokenBucket(clock), sleep=clock.sleep)
    chunks = list(cut(bytes(2 * MEGABYTE)))
    for chunk in chunks:
        await pace.wait(len(chunk))
    assert math.isclose(clock.now - 100.0, 2.0 - len(chunks[-1]) / MEGABYTE)


async def test_several_senders_share_a_line_and_none_is_saved_up_while_it_is_idle() -> None:
    clock = HandClock()
    line = Pace(8.0, bucket=TokenBucket(clock), sleep=clock.sleep)
    for number in range(4):
        await line.at(800.0, f"w{number}").wait(MEGABYTE)
    assert math.isclose(clock.now, 103.0)
    clock.now = 200.0
    for _ in range(3):
        await line.at(8.0, "w").wait(MEGABYTE)
    assert math.isclose(clock.now, 202.0)


async def test_who_asks_for_too_little_holds_up_nobody_else_and_himself_while_he_asks_for_it() -> None:
    clock = HandClock()
    line = Pace(8.0, bucket=TokenBucket(clock), sleep=clock.sleep)
    await line.at(0.001, "careless").wait(MEGABYTE)
    for _ in range(2):
        await line.at(None, "other").wait(MEGABYTE)
    await line.at(8.0, "careless").wait(MEGABYTE)
    assert math.isclose(clock.now, 103.0)
    await line.at(0.001, "careless").wait(MEGABYTE)
    assert math.isclose(clock.now, 100.0 + 8_000.0)


@pytest.mark.parametrize(("own", "asked", "seconds"), [(8.0, 80.0, 1.0), (80.0, 8.0, 1.0), (None, None, 0.0)])
async def test_the_lower_of_two_rates_holds(own: float | None, asked: float | None, seconds: float) -> None:
    clock = HandClock()
    pace = Pace(own, bucket=TokenBucket(clock), sleep=clock.sleep).at(asked, "w")
    for _ in range(2):
        await pace.wait(MEGABYTE)
    assert math.isclose(clock.now - 100.0, seconds)
