"""Starts and ends what observes a daemon.

What always holds: it ends with the block, also where the block fails; what cannot be had is one error before
the daemon does anything.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

from heliosdb.observing import observed
from heliosdb.observing.metric import Daemon, Metric, Sample, Source
from heliosdb.observing.settings import MetricsSettings, ObservingSettings, TracedSettings
from heliosdb.observing.table import READY
from heliosdb.observing.tracing import tracing

log = logging.getLogger(__name__)

READING_TIMEOUT_S = 10.0


@asynccontextmanager
async def observing(
    settings: ObservingSettings, daemon: Daemon, sources: Sequence[Source] = (), *, patiently: bool = False
) -> AsyncIterator[None]:
    """Observe a daemon for the length of a block. sources: read its sampled metrics. patiently: a process
    that it replaces may still serve the metrics. Raises FederatedError."""
    traced = settings.tracing if isinstance(settings, TracedSettings) else None
    with tracing(traced, daemon):
        if settings.metrics is None:
            yield
            return
        async with _measuring(settings.metrics, daemon, sources, patiently=patiently):
            yield


@asynccontextmanager
async def _measuring(
    settings: MetricsSettings, daemon: Daemon, sources: Sequence[Source], *, patiently: bool
) -> AsyncIterator[None]:
    from heliosdb.observing.registry import CONTENT_TYPE, PrometheusMeter
    from heliosdb.observing.server import MetricsServer

    meter = PrometheusMeter(daemon, sources)
    server = MetricsServer(settings, meter.render, CONTENT_TYPE)
    await server.start(patiently=patiently)
    observed.turn_on(meter)
    try:
        yield
    finally:
        observed.turn_off()
        await server.stop()


def readiness(daemon: Daemon, is_well: Callable[[], bool]) -> Source:
    """The source of `heliosdb_ready`."""

    async def read() -> Sequence[Sample]:
        return [Sample(READY, (str(daemon),), float(is_well()))]

    return read


class CachedReading:
    """A source that reads at most once in `interval` seconds, and shows nothing old where it cannot.

    up: the metric that says whether it could.
    """

    def __init__(self, up: Metric, read: Callable[[], Awaitable[Sequence[Sample]]], interval: float) -> None:
        self._up = up
        self._read = read
        self._interval = interval
        self._until = 0.0
        self._samples: Sequence[Sample] = ()

    async def __call__(self) -> Sequence[Sample]:
        """The last reading, or a new one."""
        if time.monotonic() >= self._until:
            self._samples = await self._attempt()
            self._until = time.monotonic() + self._interval
        return self._samples

    async def _attempt(self) -> Sequence[Sample]:
        try:
            async with asyncio.timeout(READING_TIMEOUT_S):
                return [Sample(self._up, (), 1.0), *await self._read()]
        except Exception as error:  # noqa: BLE001 - a scrape must end no daemon, whatever its reading met
            log.warning("the catalog could not be read for metrics: %s", type(error).__name__)
            return [Sample(self._up, (), 0.0)]
