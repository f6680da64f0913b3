"""A node's own database: what is shared, what was released and spent, and the rows of a dataset.

What always holds: a release, its spending and the terms it agreed to are written in one transaction, under
the lock of its table and with its dataset still there; rows are read only through the dataset's view, by a
connection of the reader's role, as numbers.
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
from heliosdb.domain.privacy import Budget, Mechanism, Spending
from heliosdb.domain.task import TaskKey

DEFAULT_MIN_ROWS = 20


@dataclass(frozen=True, slots=True)
class SharedDataset:
    """A dataset as its DBA shared it; two that are equal answer every task alike.

    relation: the table behind it, by which spending is composed. predicate: SQL that chooses the rows; None:
    all. subject: the column that names the data subject; None: a row is one.
    """

    dataset_id: int
    description: DatasetDescription
    relation: str
    predicate: str | None
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
            relation=row["relation"],
            predicate=row["predicate"],
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
    """What a release cost: its mechanism, what the ledger shows with it, at `delta`, and the terms it binds
    its workspace to."""

    mechanism: Mechanism
    spending: Spending
    delta: float
    terms: Budget


def _run(connection: Connection, name: str, *values: object) -> Sequence[Row]:
    return connection.query(load_statements("participant.sql")[name], *values)


def ping(connection: Connection) -> None:
    """Have the database answer."""
    _run(connection, "ping")


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
    """What a ledger holds under its lock.

    release: for the task, where there is one. spent: all that was ever spent from the dataset's table.
    agreed: the terms of the workspace's first private release from it. dataset: as it is shared now; None: no
    more.
    """

    release: StoredRelease | None
    spent: tuple[Mechanism, ...]
    agreed: Budget | None
    dataset: SharedDataset | None


def lock_ledger(connection: Connection, key: TaskKey, dataset: SharedDataset) -> LedgerState:
    """Until the transaction ends, let nobody else spend from the dataset's table, nor change or drop the
    dataset; the transaction's commit will be durable."""
    connection.execute(load_statements("participant.sql")["lock_ledger"], dataset.relation)
    # A statement of its own: its snapshot has to be taken after the lock.
    (row,) = _run(
        connection,
        "read_ledger",
        dataset.dataset_id,
        dataset.relation,
        key.workspace,
        key.run,
        key.round,
        key.step.value,
        key.node,
    )
    mechanisms = zip(row["noise_multipliers"], row["sampling_rates"], row["steps"], strict=True)
    return LedgerState(
        release=_stored(row),
        spent=tuple(Mechanism(*each) for each in mechanisms),
        agreed=None if row["agreed_epsilon"] is None else Budget(row["agreed_epsilon"], row["agreed_delta"]),
        dataset=None if row["dataset_id"] is None else SharedDataset.from_row(row),
    )


def _stored(row: Row) -> StoredRelease | None:
    if row["task_sha256"] is None:
        return None
    return StoredRelease(row["task_sha256"], row["header"], row["payload"])


def insert_release(
    connection: Connection,
    key: TaskKey,
    dataset: SharedDataset,
    release: StoredRelease,
    charge: Charge | None,
) -> None:
    """Record a release, what it cost and, the first time, its terms; drop the payloads of earlier rounds."""
    assert release.payload is not None
    connection.execute(
        load_statements("participant.sql")["insert_release"],
        key.workspace,
        key.run,
        key.round,
        key.step.value,
        key.node,
        dataset.name,
        dataset.relation,
        release.task_sha256,
        release.header,
        release.payload,
        len(release.payload),
        *(_NO_CHARGE if charge is None else _charge_values(charge)),
    )


_NO_CHARGE = (None,) * 8


def _charge_values(charge: Charge) -> tuple[float | int, ...]:
    return (
        charge.mechanism.noise_multiplier,
        charge.mechanism.sampling_rate,
        charge.mechanism.steps,
        charge.spending.epsilon_basic,
        charge.spending.epsilon_tight,
        charge.delta,
        charge.terms.epsilon,
        charge.terms.delta,
    )


@dataclass(frozen=True, slots=True)
class RowQuery:
    """Which columns of a dataset to read as numbers, and its subject column."""

    dataset: DatasetName
    columns: tuple[str, ...]
    subject: str | None


_SMALL_INTEGER, _INTEGER, _BIGINT, _NUMERIC = 21, 23, 20, 1700
_REAL, _DOUBLE, _BOOLEAN = 700, 701, 16
NUMERIC_TYPES = frozenset({_SMALL_INTEGER, _INTEGER, _BIGINT, _NUMERIC, _REAL, _DOUBLE})


def type_name(raw: psycopg.Connection[Any], type_oid: int) -> str:
    """Return the SQL name of a type."""
    row = raw.execute("SELECT pg_catalog.format_type(%s::oid, NULL)", [type_oid]).fetchone()
    assert row is not None
    return str(row[0])


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
    """Yield the rows as binary COPY: each column a float8 (NULL is NaN), then the subject's code, int8.

    The code is a hash without a key: a statement is seen by whoever reads the server's log, so none holds a
    secret. Whoever needs one keys the codes.
    """
    columns: list[sql.Composable] = [
        _as_number(name, type_oid) for name, type_oid in zip(query.columns, types, strict=True)
    ]
    if query.subject is not None:
        # Rows without a subject count as one subject's: that bounds them together.
        columns.append(
            sql.SQL("coalesce(hashtextextended({}::text, 0), 0)").format(sql.Identifier(query.subject))
        )
    statement = sql.SQL("COPY (SELECT {} FROM {}) TO STDOUT (FORMAT binary)").format(
        sql.SQL(", ").join(columns), _view(query)
    )
    with raw.cursor() as cursor, cursor.copy(statement) as copy:
        for chunk in copy:
            yield bytes(chunk)


def _as_number(column: str, type_oid: int) -> sql.Composed:
    number = _CONVERSIONS.get(type_oid, _CONVERSION).format(c=sql.Identifier(column))
    return sql.SQL("coalesce({}, 'NaN'::double precision)").format(number)


_CONVERSION = sql.SQL("{c}::double precision")
_CONVERSIONS = {
    _BOOLEAN: sql.SQL("{c}::integer::double precision"),
    # What a double cannot hold would be an error, which would tell that one row holds such a value.
    _NUMERIC: sql.SQL(
        "CASE WHEN abs({c}) BETWEEN 1e-300 AND 1e300 THEN {c}::double precision "
        "WHEN abs({c}) < 1e-300 THEN 0 END"
    ),
}


def _view(query: RowQuery) -> sql.Identifier:
    return sql.Identifier("federated_dataset", query.dataset)
