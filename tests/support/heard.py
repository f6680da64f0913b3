"""What daemons reported, for tests of who reports what."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator

from heliosdb.observing import observed
from heliosdb.observing.metric import Metric


class Heard:
    """Counters by (name, labels), and how many values each histogram was given."""

    def __init__(self) -> None:
        self.counted: Counter[tuple[str, tuple[str, ...]]] = Counter()
        self.observed: Counter[str] = Counter()

    def add(self, metric: Metric, labels: tuple[str, ...], amount: float) -> None:
        """Count."""
        assert len(labels) == len(metric.labels)
        self.counted[metric.name, labels] += int(amount)

    def observe(self, metric: Metric, labels: tuple[str, ...], value: float) -> None:
        """Count the value."""
        assert len(labels) == len(metric.labels)
        assert value >= 0
        self.observed[metric.name] += 1

    def of(self, metric: Metric) -> dict[tuple[str, ...], int]:
        """What was counted of a metric, by labels."""
        return {labels: amount for (name, labels), amount in self.counted.items() if name == metric.name}


@contextlib.contextmanager
def hearing() -> Iterator[Heard]:
    """Hear what is reported within the block."""
    heard = Heard()
    observed.turn_on(heard)
    try:
        yield heard
    finally:
        observed.turn_off()
