"""Which rows a node's plain answers were about, as recorded in its own database.

What always holds: they are read under the lock of the dataset's base tables, and one is recorded only where
no other came in between.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from heliosdb.catalog.connection import Connection, Statements
from heliosdb.catalog.participant import SharedDataset, lock_dataset

_SQL = Statements("participant.sql")


@dataclass(frozen=True, slots=True)
class StoredRowSets:
    """The row sets of all plain answers from a dataset's tables; latest: the highest id, 0 for none.

    base_tables: of the dataset, as claimed with them. known_by: the columns by which each knows its rows.
    accepted: how row sets name the withdrawn subjects without whom the dataset's DBA lets plain answers go
    on, 8 bytes each. recorded: the row sets as they are there, where `contents` are not them.
    """

    base_tables: tuple[int, ...]
    latest: int
    known_by: tuple[tuple[str, ...], ...]
    contents: tuple[bytes, ...]
    accepted: bytes = b""
    recorded: tuple[bytes, ...] | None = None

    def holds(self, content: bytes) -> bool:
        """Whether a row set is recorded."""
        return content in (self.contents if self.recorded is None else self.recorded)


def list_row_sets(connection: Connection, dataset: SharedDataset) -> StoredRowSets:
    """Return the recorded row sets."""
    with connection.transaction():
        lock_dataset(connection, dataset)
        found = _SQL.query(connection, "list_row_sets", dataset.dataset_id)
    rows = [row for row in found if row["row_set_id"] is not None]
    return StoredRowSets(
        tuple(found[0]["base_tables"]) if found else (),
        max((row["row_set_id"] for row in rows), default=0),
        tuple(tuple(row["known_by"]) for row in rows),
        tuple(bytes(row["content"]) for row in rows),
        bytes(found[0]["accepted"]) if found else b"",
    )


def record_plain_dataset(connection: Connection, dataset: SharedDataset, most: int) -> bool:
    """Record that answers without noise leave from a dataset; False where they have left from `most` others
    over its tables. Under the lock of these."""
    about = (dataset.relation, dataset.description.columns, dataset.predicate, dataset.subject)
    shared = hashlib.sha256(repr(about).encode()).digest()
    (row,) = _SQL.query(connection, "record_plain_dataset", dataset.dataset_id, shared, most)
    return bool(row["is_recorded"])


def insert_row_set(connection: Connection, dataset: SharedDataset, content: bytes, latest: int) -> bool:
    """Record a row set; False where another one came after `latest`."""
    known_by = list(dataset.known_by)
    return bool(_SQL.query(connection, "insert_row_set", dataset.dataset_id, known_by, content, latest))
