"""A node's sampled metrics: what is under way, and what its ledger holds by dataset.

What always holds: they are its own DBA's, read over a connection of their own; how many rows there are, what
they hold, and when a task under a budget begins and ends, is in none of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence

from heliosdb.catalog.figures import read_node_figures
from heliosdb.catalog.participant_view import DatasetBudget
from heliosdb.catalog.psycopg_connection import connected
from heliosdb.observing import table
from heliosdb.observing.metric import Sample, Source
from heliosdb.observing.running import CachedReading

MOST_DATASETS = 100


def node_source(conninfo: str, interval: float, under_way: Callable[[], int]) -> Source:
    """interval: seconds for which a reading of the ledger is shown again. under_way: how many tasks without a
    budget are."""

    def read_ledger() -> list[Sample]:
        with connected(conninfo, application_name="heliosdb node metrics") as connection:
            return list(_samples(read_node_figures(connection)))

    async def read_catalog() -> Sequence[Sample]:
        return await asyncio.to_thread(read_ledger)

    catalog = CachedReading(table.NODE_CATALOG_UP, read_catalog, interval)

    async def read() -> Sequence[Sample]:
        return [Sample(table.TASKS_UNDER_WAY, (), under_way()), *await catalog()]

    return read


def _samples(budgets: Sequence[DatasetBudget]) -> Iterator[Sample]:
    by_dataset = {one.dataset: one for one in budgets if one.state != "dropped"}
    for name, budget in list(by_dataset.items())[:MOST_DATASETS]:
        if budget.total_epsilon is not None:
            yield Sample(table.DATASET_SPENT, (name,), budget.total_epsilon)
        if budget.max_epsilon is not None:
            yield Sample(table.DATASET_CEILING, (name,), budget.max_epsilon)
