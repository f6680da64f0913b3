"""What work took: measured by this process's own clocks, plausible or not, and no finer than allowed."""

from __future__ import annotations

import math

import numpy as np
import pytest

from heliosdb.domain.usage import MOST_BYTES, MOST_SECONDS, Meter, Moment, Usage, measure, peak_memory


def work(seconds: float) -> None:
    """Keep the processor busy for so long of its own time."""
    start = Moment.now()
    while measure(start).cpu_seconds < seconds:
        pass


def test_processor_time_is_that_of_the_work_and_no_more_than_wall_time_by_core() -> None:
    start = Moment.now()
    work(0.05)
    used = measure(start)
    assert 0.05 <= used.cpu_seconds <= used.seconds * 1.5 + 0.05
    assert used.is_plausible()


def test_memory_is_the_highest_so_far() -> None:
    before = peak_memory()
    block = np.ones(max(int(before), 64 * 2**20) // 8)
    after = peak_memory()
    del block
    assert after > before > 2**20
    # The kernel counts in batches.
    assert peak_memory() > after - 2**20


def test_a_meter_adds_up_stretches_and_leaves_out_what_lies_between() -> None:
    meter = Meter()
    meter.start()
    work(0.02)
    meter.pause()
    paused = meter.read()
    work(0.05)
    assert meter.read().cpu_seconds == paused.cpu_seconds
    meter.start()
    work(0.02)
    total = meter.read()
    assert total.cpu_seconds >= paused.cpu_seconds + 0.02
    assert paused.cpu_seconds >= 0.02
    assert total.seconds > paused.seconds


@pytest.mark.parametrize(
    ("usage", "plausible"),
    [
        (Usage(0.0, 0.0, 0.0), True),
        (Usage(MOST_SECONDS, MOST_SECONDS, MOST_BYTES), True),
        (Usage(-1e-9, 0.0, 0.0), False),
        (Usage(0.0, math.nan, 0.0), False),
        (Usage(math.inf, 0.0, 0.0), False),
        (Usage(0.0, 0.0, 2 * MOST_BYTES), False),
    ],
)
def test_what_cannot_be_is_known_as_such(usage: Usage, plausible: bool) -> None:
    assert usage.is_plausible() is plausible
