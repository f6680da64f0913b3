"""What a metric is.

What always holds: its name says its unit and ends as its kind demands (`_total` of a counter, `_seconds` of
times), and its labels have few values.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum


class Daemon(StrEnum):
    """Whose metrics they are."""

    COORDINATOR = "coordinator"
    NODE = "node"
    PROXY = "proxy"


class Kind(StrEnum):
    """As Prometheus names them."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric. meaning: what a reader of the documentation, and of the metric's HELP, is told.

    sampled: its values are not counted as things happen but read at a scrape. buckets: upper bounds of a
    histogram's buckets, in the metric's unit.
    """

    name: str
    kind: Kind
    meaning: str
    labels: tuple[str, ...] = ()
    sampled: bool = False
    buckets: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Sample:
    """The value of a sampled metric at a scrape; the labels' values in the metric's order."""

    metric: Metric
    labels: tuple[str, ...]
    value: float


Source = Callable[[], Awaitable[Sequence[Sample]]]
"""Reads the values of sampled metrics; it never raises."""
