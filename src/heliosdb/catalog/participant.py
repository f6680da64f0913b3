"""A node's own database: what is shared, what was released and spent, and the rows of a dataset.

What always holds: a release and its spending are written in one transaction, under the dataset's lock; rows
are read only through the dataset's view, by a connection of the reader's role, as numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from heliosdb.catalog.connection import Connection, Row, load_statements
from heliosdb.domain.handshake import DatasetDescription
from heliosdb.domain.ids import DatasetName, WorkspaceName
from heliosdb.domain.privacy import Mechanism, Spending
from heliosdb.domain.task import TaskKey

DEFAULT_MIN_ROWS = 20


@dataclass(frozen=True, slots=True)
class SharedDataset:
    """A dataset as its DBA shared it. subject: the column that names the data subject; None: a row is one."""

    dataset_id: int
    description: DatasetDescription
    subject: str | None
    min_rows: int
    max_epsilon: float | None

    @property
    def name(self) -> DatasetName:
        """The dataset's name."""
        return self.description.name

    @classmethod
    def from_row(cls, row: Row) -> SharedDataset:
        """Read a row of federated.dataset."""
        return cls(
            dataset_id=row["dataset_id"],
            description=DatasetDescription(
                DatasetName(row["name"]), tuple(row["columns"]), tuple(row["types"])
            ),
            subject=row["subject"],
            min_rows=DEFAULT_MIN_ROWS if row["min_rows"] is None else row["min_rows"],
            max_epsilon=row["max_epsilon"],
        )


@dataclass(frozen=True, slots=True)
class StoredRelease:
    """A release as it was stored: `payload` is None once its run has moved on."""

    task_sha256: bytes
    header: bytes
    payload: bytes | None


@dataclass(frozen=True, slots=True)
class Charge:
    """What a release cost: its mechanism, and what the ledger shows with it, at `delta`."""

    mechanism: Mechanism
    spending: Spending
    delta: float


def _run(connection: Connection, name: str, *values: object) -> Sequence[Row]:
    return connection.query(load_statements("participant.sql")[name], *values)


def list_shared_datasets(connection: Connection, workspace: WorkspaceName) -> list[SharedDataset]:
    """Return the datasets that are shared with `workspace`, by name."""
    return [SharedDataset.from_row(row) for row in _run(connection, "list_shared_datasets", workspace)]


def look_up(connection: Connection, key: TaskKey) -> tuple[StoredRelease | None, list[SharedDataset]]:
    """Return what was released for a task, and the datasets that are shared with its workspace, by name."""
    rows = _run(connection, "look_up", key.workspace, key.run, key.round, key.step.value, key.node)
    shared = [SharedDataset.from_row(row) for row in rows if row["dataset_id"] is not None]
    return _stored(rows[0]), shared


@dataclass(frozen=True, slots=True)
class LedgerState:
    """What a dataset's ledger holds under its lock: a release for the task, and all that was ever spent."""

    release: StoredRelease | None
    spent: tuple[Mechanism, ...]


def lock_ledger(connection: Connection, key: TaskKey, dataset: DatasetName) -> LedgerState:
    """Until the transaction ends, let nobody else spend on `dataset`; its commit will be durable."""
    connection.execute(load_statements("participant.sql")["lock_ledger"], dataset)
    # A statement of its own: its snapshot has to be taken after the lock.
    (row,) = _run(connection, "read_ledger", dataset, key.run, key.round, key.step.value, key.node)
    mechanisms = zip(row["noise_multipliers"], row["sampling_rates"], row["steps"], strict=True)
    return LedgerState(_stored(row), tuple(Mechanism(*each) for each in mechanisms))


def _stored(row: Row) -> StoredRelease | None:
    if row["task_sha256"] is None:
        return None
    return StoredRelease(row["task_sha256"], row["header"], row["payload"])


def insert_release(
    connection: Connection, key: TaskKey, dataset: DatasetName, release: StoredRelease, charge: Charge | None
) -> None:
    """Record a release and what it cost, and drop the payloads of the run's earlier rounds."""
    assert release.payload is not None
    connection.execute(
        load_statements("participant.sql")["insert_release"],
        key.workspace,
        key.run,
        key.round,
        key.step.value,
        key.node,
        dataset,
        release.task_sha256,
        release.header,
        release.payload,
        len(release.payload),
        None if charge is None else charge.mechanism.noise_multiplier,
        None if charge is None else charge.mechanism.sampling_rate,
        None if charge is None else charge.mechanism.steps,
        None if charge is None else charge.spending.epsilon_basic,
        None if charge is None else charge.spending.epsilon_tight,
        None if charge is None else charge.delta,
    )


@dataclass(frozen=True, slots=True)
class RowQuery:
    """Which columns of a dataset to read as numbers, and its subject column with the seed of its codes."""

    dataset: DatasetName
    columns: tuple[str, ...]
    subject: str | None
    subject_seed: int


_SMALL_INTEGER, _INTEGER, _BIGINT, _NUMERIC = 21, 23, 20, 1700
_REAL, _DOUBLE, _BOOLEAN = 700, 701, 16
NUMERIC_TYPES = frozenset({_SMALL_INTEGER, _INTEGER, _BIGINT, _NUMERIC, _REAL, _DOUBLE})


def column_types(raw: psycopg.Connection[Any], query: RowQuery) -> list[int]:
    """Return the type OIDs of the columns to be read; a domain counts as what it is made of."""
    names = sql.SQL(", ").join(map(sql.Identifier, query.columns))
    statement = sql.SQL("SELECT {} FROM {} LIMIT 0").format(names, _view(query))
    description = raw.execute(statement).description
    assert description is not None
    return [column.type_code for column in description]


def is_number(type_oid: int) -> bool:
    """Whether values of this type can be read as numbers."""
    return type_oid == _BOOLEAN or type_oid in NUMERIC_TYPES


def copy_rows(raw: psycopg.Connection[Any], query: RowQuery, types: Sequence[int]) -> Iterator[bytes]:
    """Yield the rows as binary COPY: each column a float8 (NULL is NaN), then the subject's code, int8."""
    columns: list[sql.Composable] = [
        _as_number(name, type_oid) for name, type_oid in zip(query.columns, types, strict=True)
    ]
    if query.subject is not None:
        # Rows without a subject count as one subject's: that bounds them together.
        columns.append(
            sql.SQL("coalesce(hashtextextended({}::text, {seed}), {seed})").format(
                sql.Identifier(query.subject),
                seed=sql.SQL("{}::bigint").format(sql.Literal(query.subject_seed)),
            )
        )
    statement = sql.SQL("COPY (SELECT {} FROM {}) TO STDOUT (FORMAT binary)").format(
        sql.SQL(", ").join(columns), _view(query)
    )
    with raw.cursor() as cursor, cursor.copy(statement) as copy:
        for chunk in copy:
            yield bytes(chunk)


def _as_number(column: str, type_oid: int) -> sql.Composed:
    template = "{}::integer::double precision" if type_oid == _BOOLEAN else "{}::double precision"
    number = sql.SQL(template).format(sql.Identifier(column))
    return sql.SQL("coalesce({}, 'NaN'::double precision)").format(number)


def _view(query: RowQuery) -> sql.Identifier:
    return sql.Identifier("federated_dataset", query.dataset)
