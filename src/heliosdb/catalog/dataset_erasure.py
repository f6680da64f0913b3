"""Whether subject orders may delete rows through a dataset's view."""

from __future__ import annotations

from heliosdb.catalog.connection import Connection, Statements
from heliosdb.domain.ids import DatasetName

_SQL = Statements("commands.sql")


def let_erase(connection: Connection, dataset: DatasetName, *, lets: bool) -> None:
    """Grant it or revoke it; the server's error where rows cannot be deleted through the view."""
    _SQL.query(connection, "let_erase", dataset, lets)
