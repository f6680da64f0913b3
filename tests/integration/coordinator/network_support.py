"""Three nodes that share out rows among them, for tests of networks: each with its part, all beside the catalog."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg import sql

from tests.integration.coordinator.support import MODEL, WORKSPACE, Site, World

NODES = ("east", "north", "west")
Rows = NDArray[np.float64]

Put = Callable[[str, NDArray[np.int64], bool], None]
"""Makes the table in a database, of the rows at these places, and shares it, where that is said."""


async def spread(world: World, rows: int, put: Put) -> None:
    """Share out so many rows among three nodes, and put all of them beside the catalog."""
    order = np.random.default_rng(3).permutation(rows)
    for name, chosen in zip(NODES, np.array_split(order, len(NODES)), strict=True):
        site = Site(name, world.cluster.create_database("federated_template"))
        put(site.database, chosen, True)
        world.sites.append(site)
        await world.start_site(site)
        world.register(site)
    put(world.database, np.arange(rows), False)


def put_table(
    world: World,
    database: str,
    table: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    *,
    dataset: str | None,
) -> None:
    """Make a table with an id and these columns, each with its type. dataset: what its statement says behind TABLE."""
    with world.cluster.connect(database) as connection:
        definition = sql.SQL(", ").join(map(sql.SQL, ("id integer PRIMARY KEY", *columns)))  # type: ignore[arg-type]
        connection.execute(sql.SQL("CREATE TABLE {} ({})").format(sql.Identifier(table), definition))
        with connection.cursor().copy(sql.SQL("COPY {} FROM STDIN").format(sql.Identifier(table))) as copy:
            for number, row in enumerate(rows):
                copy.write_row((number, *row))
        if dataset is not None:
            share = f"CREATE FEDERATED DATASET {table}s FOR TABLE {table} {dataset}"
            connection.execute("CALL federated.execute(%s)", [share])


async def trained(world: World, *, count: int = 1) -> dict[str, Any]:
    """START, and the run that so many have ended with."""
    world.execute(f"START FEDERATED TRAINING {MODEL}")
    return await world.finished(count=count)


def started(world: World) -> tuple[psycopg.Error | None, list[str]]:
    """START; its error, and what notices said."""
    said: list[str] = []
    with world.catalog() as connection:
        connection.add_notice_handler(lambda one: said.append(str(one.message_primary)))
        try:
            connection.execute("CALL federated.execute(%s)", [f"START FEDERATED TRAINING {MODEL}"])
        except psycopg.Error as error:
            return error, said
    return None, said


def shared_columns(names: Sequence[str], options: str) -> str:
    """Behind TABLE: columns, workspace and options."""
    return f"({', '.join(names)}) IN WORKSPACE {WORKSPACE} WITH ({options})"
