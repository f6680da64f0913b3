"""Exports in a node's own database: a data subject's rows, and the record that they left.

What always holds: which subject it is, the table says that holds its identifier until the transaction ends
(catalog/node_orders.py), and no statement.
"""

from __future__ import annotations

from heliosdb.catalog.connection import Connection, Statements
from heliosdb.domain.ids import DatasetName
from heliosdb.domain.orders import Order
from heliosdb.domain.subject_export import MOST_BYTES, HeldDataset, Value

_SQL = Statements("node_exports.sql")


def count_recent_exports(connection: Connection, dataset: DatasetName) -> int:
    """Return about how many subjects a dataset's rows were exported within the last 24 hours."""
    return int(_SQL.query(connection, "count_recent_exports", dataset)[0]["exports"])


def read_subject(
    connection: Connection, dataset: DatasetName
) -> tuple[tuple[tuple[str, str], ...], tuple[tuple[Value, ...], ...]]:
    """Return a dataset's columns with their types, and the rows of the subject that is held.

    psycopg's ProgramLimitExceeded where these are longer than an export takes.
    """
    columns = tuple((row["name"], row["type"]) for row in _SQL.query(connection, "list_columns", dataset))
    found = _SQL.query(connection, "read_values", dataset, MOST_BYTES)
    return columns, tuple(tuple(row["values"]) for row in found)


def insert_export(
    connection: Connection, order: Order, dataset: DatasetName, recipient: bytes, held: HeldDataset
) -> None:
    """Write down that a subject's rows leave."""
    size = sum(len(value.encode()) for row in held.rows for value in row if value is not None)
    record = (order.workspace, order.order_id, dataset, order.node, recipient, len(held.rows), size)
    _SQL.execute(connection, "insert_export", *record)


def forget_bodies(connection: Connection) -> None:
    """Destroy what was sent for orders whose deadline is over: nobody asks for it any more."""
    _SQL.execute(connection, "forget_bodies")
