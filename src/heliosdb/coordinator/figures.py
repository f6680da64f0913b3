"""The coordinator's sampled metrics: whether it leads, when its certificate ends, and what the catalog holds.

What always holds: they are read over a connection of their own, so that no round waits for a scrape; a
coordinator that stands by shows nothing of the catalog, which the leader shows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from heliosdb.catalog.figures import CatalogFigures, read_catalog_figures
from heliosdb.coordinator.session import CatalogSession
from heliosdb.observing import table
from heliosdb.observing.metric import Sample, Source
from heliosdb.observing.running import CachedReading
from heliosdb.transport.identity import Identity

MOST_WORKSPACES = 100
MOST_NODES = 1000


def coordinator_source(
    conninfo: str, interval: float, leads: Callable[[], bool], identity: Callable[[], Identity]
) -> Source:
    """interval: seconds for which a reading of the catalog is shown again."""

    async def read_catalog() -> Sequence[Sample]:
        async with CatalogSession(conninfo, "metrics") as session:
            figures = await session.call(
                read_catalog_figures, most_workspaces=MOST_WORKSPACES, most_nodes=MOST_NODES
            )
        return list(_samples(figures))

    catalog = CachedReading(table.CATALOG_UP, read_catalog, interval)

    async def read() -> Sequence[Sample]:
        leading = leads()
        return [
            Sample(table.LEADING, (), float(leading)),
            Sample(table.CERTIFICATE, (), identity().expires.timestamp()),
            *(await catalog() if leading else ()),
        ]

    return read


def _samples(figures: CatalogFigures) -> Iterator[Sample]:
    for workspace, name, value in figures.values:
        metric, factor = table.WORKSPACE[name]
        yield Sample(metric, (workspace,), value * factor)
    for workspace, status, runs in figures.runs:
        yield Sample(table.RUNS_NOW, (workspace, status), runs)
    for node in figures.nodes:
        labels = (node.workspace, node.node)
        yield Sample(table.NODE_UP, labels, float(node.is_up))
        if node.last_seen is not None:
            yield Sample(table.NODE_SEEN, labels, node.last_seen)
        if node.certificate_expires is not None:
            yield Sample(table.NODE_CERTIFICATE, labels, node.certificate_expires)
    yield Sample(table.UNDELIVERED, (), figures.notifications)
    yield Sample(table.LEFT_OUT, ("workspaces",), max(figures.workspaces - MOST_WORKSPACES, 0))
    yield Sample(table.LEFT_OUT, ("nodes",), max(figures.all_nodes - len(figures.nodes), 0))
