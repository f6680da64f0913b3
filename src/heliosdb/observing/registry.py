"""The metrics of one daemon in a Prometheus registry, and what a scrape of it shows.

What always holds: a label has at most `MOST_VALUES` short values and a metric at most `MOST_SERIES` of them
together; what comes beyond counts under the value `other`, so that memory is bounded whatever is named.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import version
from threading import Lock

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from heliosdb.observing import table
from heliosdb.observing.metric import Daemon, Kind, Metric, Sample, Source

MOST_VALUES = 100
MOST_SERIES = 1000
LONGEST_VALUE = 63
OTHER = "other"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class _Bounded:
    """The label sets of one metric that are shown by their names."""

    def __init__(self) -> None:
        self._sets: set[tuple[str, ...]] = set()
        self._values: list[set[str]] = []

    def admit(self, labels: tuple[str, ...]) -> tuple[str, ...]:
        if labels in self._sets:
            return labels
        labels = tuple(label if len(label) <= LONGEST_VALUE else OTHER for label in labels)
        if not self._values:
            self._values = [set() for _ in labels]
        known = tuple(
            label if label in values or len(values) < MOST_VALUES else OTHER
            for label, values in zip(labels, self._values, strict=True)
        )
        if known not in self._sets and len(self._sets) >= MOST_SERIES:
            return (OTHER,) * len(labels)
        for label, values in zip(known, self._values, strict=True):
            values.add(label)
        self._sets.add(known)
        return known


class _Sampled(Collector):
    """Shows the samples of the last reading."""

    def __init__(self) -> None:
        self.samples: Sequence[Sample] = ()

    def describe(self) -> Iterable[CounterMetricFamily]:
        """Nothing: what is shown is known at a scrape."""
        return []

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        """One family a metric."""
        by_metric: dict[Metric, list[Sample]] = {}
        for sample in self.samples:
            by_metric.setdefault(sample.metric, []).append(sample)
        for metric, samples in by_metric.items():
            make = CounterMetricFamily if metric.kind is Kind.COUNTER else GaugeMetricFamily
            family = make(metric.name, metric.meaning, labels=metric.labels)
            for sample in samples[:MOST_SERIES]:
                family.add_metric(sample.labels, sample.value)
            yield family


class PrometheusMeter:
    """Keeps what is reported, and renders it together with what the sources read."""

    def __init__(self, daemon: Daemon, sources: Sequence[Source] = ()) -> None:
        self._daemon = daemon
        self._sources = tuple(sources)
        self._registry = CollectorRegistry(auto_describe=False)
        self._sampled = _Sampled()
        self._registry.register(self._sampled)
        # A node's processor time and memory follow the rows, of tasks under a budget too.
        if daemon is not Daemon.NODE:
            ProcessCollector(registry=self._registry)
        self._counters: dict[Metric, Counter] = {}
        self._histograms: dict[Metric, Histogram] = {}
        self._bounds: dict[Metric, _Bounded] = {}
        self._lock = Lock()
        self._turn = asyncio.Lock()
        for metric in table.METRICS[daemon]:
            self._register(metric)

    def _register(self, metric: Metric) -> None:
        if metric.sampled:
            return
        self._bounds[metric] = _Bounded()
        if metric.kind is Kind.HISTOGRAM:
            self._histograms[metric] = Histogram(
                metric.name, metric.meaning, metric.labels, buckets=metric.buckets, registry=self._registry
            )
        else:
            self._counters[metric] = Counter(
                metric.name, metric.meaning, metric.labels, registry=self._registry
            )

    def add(self, metric: Metric, labels: tuple[str, ...], amount: float) -> None:
        """Raise a counter of this daemon's; another's is not kept."""
        counter = self._counters.get(metric)
        if counter is not None:
            (counter.labels(*self._admit(metric, labels)) if labels else counter).inc(amount)

    def observe(self, metric: Metric, labels: tuple[str, ...], value: float) -> None:
        """Add a value to a histogram of this daemon's; another's is not kept."""
        histogram = self._histograms.get(metric)
        if histogram is not None and math.isfinite(value):
            (histogram.labels(*self._admit(metric, labels)) if labels else histogram).observe(value)

    def _admit(self, metric: Metric, labels: tuple[str, ...]) -> tuple[str, ...]:
        with self._lock:
            return self._bounds[metric].admit(labels)

    async def render(self) -> bytes:
        """What a scrape gets, in the text format 0.0.4; one after the other, beside the event loop."""
        async with self._turn:
            daemon = str(self._daemon)
            samples = [Sample(table.BUILD_INFO, (daemon, version("heliosdb-federated-learning")), 1.0)]
            for source in self._sources:
                samples += await source()
            self._sampled.samples = samples
            return await asyncio.to_thread(generate_latest, self._registry)
