"""What a node says of the columns that it shares: their types, and the values that its catalog declares.

What always holds: it is told from the catalog alone, never from a row; what is not declared is not guessed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from heliosdb.catalog.connection import Connection, Row, Statements
from heliosdb.catalog.declared import declared_values, fitting
from heliosdb.catalog.participant import SharedDataset, list_shared_datasets
from heliosdb.domain.handshake import GONE, DatasetDescription, DeclaredValues
from heliosdb.domain.ids import WorkspaceName

_SQL = Statements("description.sql")


def describe_datasets(connection: Connection, workspace: WorkspaceName) -> list[DatasetDescription]:
    """Return what is shared with a workspace as the catalog is now: types, of a domain what it is made of
    (GONE for a column that is gone), and declared values."""
    columns = {
        (row["dataset"], row["name"]): row for row in _SQL.query(connection, "describe_columns", workspace)
    }
    return [_described(one, columns) for one in list_shared_datasets(connection, workspace)]


def _described(dataset: SharedDataset, columns: Mapping[tuple[str, str], Row]) -> DatasetDescription:
    found = {name: columns.get((dataset.name, name)) for name in dataset.description.columns}
    declared = [
        DeclaredValues(name, values)
        for name, row in found.items()
        if row is not None and (values := _declared(row)) is not None
    ]
    types = tuple(GONE if row is None else row["type"] for row in found.values())
    return replace(dataset.description, types=types, declared=tuple(declared))


def _declared(row: Row) -> tuple[str, ...] | None:
    """The values that an enum, and every CHECK that lists any, let through."""
    lists = [
        declared_values(definition, subject, row["type"])
        for subject, definition in zip(row["subjects"], row["definitions"], strict=True)
    ]
    given = [one for one in (fitting(tuple(row["labels"])), *lists) if one is not None]
    if not given:
        return None
    return tuple(value for value in given[0] if all(value in other for other in given[1:]))
