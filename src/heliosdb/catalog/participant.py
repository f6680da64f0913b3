"""A node's own database: what is shared, what was charged, and what was released.

What always holds: a charge and the terms it agrees to are written in one transaction, under the lock of its
base tables and with its dataset still there, and so is a release.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from heliosdb.catalog.connection import Connection, Row, Statements
from heliosdb.catalog.ledger import read_mechanism
from heliosdb.domain.disclosure_rules import DEFAULT_RULES, DisclosureRules
from heliosdb.domain.handshake import DatasetDescription
from heliosdb.domain.ids import DatasetName, RunId, WorkspaceName
from heliosdb.domain.privacy import Budget, Mechanism, Spending
from heliosdb.domain.task import TaskKey

_SQL = Statements("participant.sql")

DEFAULT_EXPORTS_PER_DAY = 10
_CONTENT_BYTES = 32


@dataclass(frozen=True, slots=True)
class SharedDataset:
    """A dataset as its DBA shared it; two that are equal answer every task alike.

    relation: what it was shared from. predicate: SQL that chooses the rows; None: all. subject: the column
    that names the data subject; None: a row is one. row_key: the table's primary key; (): it has none.
    plain_answers: whether answers may leave without noise; None: as the site's setting says.
    rules: what its DBA lets answers without noise be about. require_consent: whether the rows of consenting
    subjects alone are read; None: as the compliance mode says. purpose: for which consent counts; None: any.
    consent_query: SQL that says who has consented; None: the node's register does. plain_withdrawals: whether
    plain answers go on without who withdraws. deletes: whether the rows of who is erased are deleted.
    phi_check: what becomes of columns that look like identifiers of people; None: what the workspace's mode
    asks for. phi_accepted: those that may be read. exports: whether a data subject may be given its rows;
    exports_per_day: of how many within 24 hours.
    """

    dataset_id: int
    description: DatasetDescription
    relation: str
    predicate: str | None
    subject: str | None
    rules: DisclosureRules = DEFAULT_RULES
    max_epsilon: float | None = None
    row_key: tuple[str, ...] = ()
    plain_answers: bool | None = None
    require_consent: bool | None = None
    purpose: str | None = None
    consent_query: str | None = None
    plain_withdrawals: bool = False
    exports: bool = False
    exports_per_day: int = DEFAULT_EXPORTS_PER_DAY
    deletes: bool = False
    phi_check: str | None = None
    phi_accepted: tuple[str, ...] = ()

    @property
    def name(self) -> DatasetName:
        """The dataset's name."""
        return self.description.name

    @property
    def paused(self) -> bool:
        """Whether its DBA has it answer nothing for now."""
        return self.description.paused

    @property
    def known_by(self) -> tuple[str, ...]:
        """The columns by which a row is known: the primary key, else all that is shared."""
        if self.row_key:
            return self.row_key
        return (*self.description.columns, *([] if self.subject is None else [self.subject]))

    @classmethod
    def from_row(cls, row: Row) -> SharedDataset:
        """Read a row of federated.dataset."""
        options = json.loads(row["options"])
        plain = options.get("plain_answers")
        return cls(
            dataset_id=row["dataset_id"],
            description=DatasetDescription(
                DatasetName(row["name"]),
                tuple(row["columns"]),
                tuple(row["types"]),
                plain is True,
                paused=options.get("paused", False),
            ),
            relation=row["relation"],
            predicate=row["predicate"],
            subject=options.get("subject"),
            rules=DisclosureRules.from_options(options),
            max_epsilon=options.get("max_epsilon"),
            row_key=tuple(row["row_key"] or ()),
            plain_answers=plain,
            require_consent=options.get("require_consent"),
            purpose=options.get("purpose"),
            consent_query=options.get("consent_query"),
            plain_withdrawals=options.get("plain_withdrawals", False),
            exports=options.get("exports", False),
            exports_per_day=options.get("exports_per_day", DEFAULT_EXPORTS_PER_DAY),
            deletes=options.get("erasure") == "delete",
            phi_check=options.get("phi_check"),
            phi_accepted=tuple(options.get("phi_accepted") or ()),
        )


class ReleaseState(StrEnum):
    """How a release stands; the values are those of federated.release_state."""

    CHARGED = "charged"
    RELEASED = "released"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class RowsRead:
    """What a plain answer was computed from. admission: digest of who was left out; b"": nobody. content:
    keyed hash of the rows, 32 bytes."""

    admission: bytes
    content: bytes

    @classmethod
    def from_bytes(cls, raw: bytes) -> RowsRead:
        """Read both, one behind the other."""
        return cls(raw[:-_CONTENT_BYTES], raw[-_CONTENT_BYTES:])


@dataclass(frozen=True, slots=True)
class StoredRelease:
    """A release as it was stored: `header` is None before it was let out, `payload` also once its run has
    moved on. rows_read: of a plain one."""

    state: ReleaseState
    task_sha256: bytes
    header: bytes | None
    payload: bytes | None
    rows_read: RowsRead | None = None


@dataclass(frozen=True, slots=True)
class NodeCharge:
    """What a release costs, at `delta`, and the terms that it binds its workspace to.

    base_tables: those that pay. spending: what the ledger of the most charged one shows with `mechanism`;
    workspace_spending: of that, what the workspace has spent.
    """

    base_tables: tuple[int, ...]
    mechanism: Mechanism
    spending: Spending
    workspace_spending: Spending
    delta: float
    terms: Budget


@dataclass(frozen=True, slots=True)
class ReaderState:
    """What the connection's role may do. unbounded: more than a reader may; member: what one needs."""

    unbounded: bool
    member: bool


def read_reader_state(connection: Connection) -> ReaderState:
    """Return what the reader's role may do."""
    (row,) = _SQL.query(connection, "reader_state")
    return ReaderState(row["unbounded"], row["member"])


def list_shared_datasets(connection: Connection, workspace: WorkspaceName) -> list[SharedDataset]:
    """Return the datasets that are shared with `workspace`, by name."""
    return [SharedDataset.from_row(row) for row in _SQL.query(connection, "list_shared_datasets", workspace)]


@dataclass(frozen=True, slots=True)
class PlainTerms:
    """What a run's plain answers so far were about.

    measured: the datasets of which it has had an answer of round 0 that depends on no scaling. terms: of all
    others. rows_read: what any was computed from.
    Messages of sum protocols are about no dataset, and private answers are not plain: neither counts here.
    """

    measured: frozenset[str]
    terms: frozenset[bytes]
    rows_read: frozenset[RowsRead] = frozenset()

    @classmethod
    def from_row(cls, row: Row) -> PlainTerms:
        """Read their three columns."""
        return cls(
            frozenset(row["measured"]),
            frozenset(map(bytes, row["terms"])),
            frozenset(RowsRead.from_bytes(bytes(one)) for one in row["rows_read"]),
        )


@dataclass(frozen=True, slots=True)
class NeverPlain:
    """Whether the base tables of a dataset have a ceiling, and whether they have spent a budget."""

    has_ceiling: bool
    has_spent: bool


@dataclass(frozen=True, slots=True)
class StoredMemory:
    """What the node keeps of a run, sealed. version: counts the writes, from 1."""

    sealed: bytes
    version: int


@dataclass(frozen=True, slots=True)
class LookedUp:
    """What is stored for a task and for its run, and what is shared with its workspace, by name.

    charged_tables: the base tables that pay for the task; () where it was not charged. By a dataset's id,
    base_tables: as last claimed; never_plain: why it gives no plain answer. memory: what the node keeps of
    the run. unpopulated: the datasets of materialized views that hold nothing.
    """

    release: StoredRelease | None
    charged_tables: tuple[int, ...]
    shared: tuple[SharedDataset, ...]
    terms: PlainTerms
    base_tables: Mapping[int, tuple[int, ...]]
    never_plain: Mapping[int, NeverPlain]
    memory: StoredMemory | None = None
    unpopulated: frozenset[int] = frozenset()


def look_up(connection: Connection, key: TaskKey) -> LookedUp:
    """Return what the catalog holds about a task; without a lock."""
    rows = _SQL.query(connection, "look_up", key.workspace, *_place(key))
    there = [row for row in rows if row["dataset_id"] is not None]
    return LookedUp(
        _stored(rows[0]),
        tuple(rows[0]["charged_tables"] or ()),
        tuple(SharedDataset.from_row(row) for row in there),
        PlainTerms.from_row(rows[0]),
        {row["dataset_id"]: tuple(row["base_tables"]) for row in there},
        {row["dataset_id"]: NeverPlain(row["has_ceiling"], row["has_spent"]) for row in there},
        _memory(rows[0]),
        frozenset(row["dataset_id"] for row in there if row["is_unpopulated"]),
    )


@dataclass(frozen=True, slots=True)
class BaseLedger:
    """What was ever spent from one base table, of that by one workspace, and what bounds it.

    agreed: the smallest terms of the workspace's private releases from it. max_epsilon: the smallest
    ceiling that any dataset over it ever had.
    """

    base_table_id: int
    spent: tuple[Mechanism, ...] = ()
    spent_here: tuple[Mechanism, ...] = ()
    agreed: Budget | None = None
    max_epsilon: float | None = None

    @classmethod
    def from_row(cls, row: Row) -> BaseLedger:
        """Read a row of `read_ledgers`."""
        mechanisms = tuple(
            Mechanism(*each)
            for each in zip(
                row["noise_multipliers"], row["sampling_rates"], row["steps"], row["noises"], strict=True
            )
        )
        here = tuple(one for one, ours in zip(mechanisms, row["here"], strict=True) if ours)
        agreed = row["agreed_epsilon"]
        return cls(
            row["base_table_id"],
            mechanisms,
            here,
            None if agreed is None else Budget(agreed, row["agreed_delta"]),
            row["max_epsilon"],
        )


@dataclass(frozen=True, slots=True)
class LedgerState:
    """What the catalog holds under the lock of a dataset and its base tables.

    release: for the task, where there is one. dataset: as it is shared now; None: no more. terms: of the
    run's plain answers. all_accepted: whether the dataset's DBA lets plain answers go on without each of the
    subjects who were withdrawn.
    """

    release: StoredRelease | None
    ledgers: tuple[BaseLedger, ...]
    dataset: SharedDataset | None
    terms: PlainTerms
    all_accepted: bool = True

    @property
    def never_plain(self) -> NeverPlain:
        """What of the ledgers stands against a plain answer."""
        return NeverPlain(
            any(one.max_epsilon is not None for one in self.ledgers),
            any(one.spent or one.agreed is not None for one in self.ledgers),
        )


def lock_ledgers(connection: Connection, key: TaskKey, dataset: SharedDataset) -> LedgerState:
    """Until the transaction ends, let nobody else spend from the dataset's base tables, nor change or drop
    the
    dataset; the transaction's commit will be durable."""
    lock_dataset(connection, dataset)
    # A statement of its own: its snapshot has to be taken after the lock.
    rows = _SQL.query(connection, "read_ledgers", dataset.dataset_id, key.workspace, *_place(key))
    return LedgerState(
        release=_stored(rows[0]),
        ledgers=tuple(BaseLedger.from_row(row) for row in rows if row["base_table_id"] is not None),
        dataset=_dataset(rows[0]),
        terms=PlainTerms.from_row(rows[0]),
        all_accepted=rows[0]["all_accepted"],
    )


def lock_dataset(connection: Connection, dataset: SharedDataset) -> None:
    """Take the lock of a dataset and its base tables, which are looked up anew."""
    _SQL.execute(connection, "lock_dataset", dataset.dataset_id)


@dataclass(frozen=True, slots=True)
class ChargeState:
    """What a charge left in the catalog, and the dataset as it is shared now.

    is_paid_by_all: whether every base table of the dataset, as it is now, pays for it.
    """

    release: StoredRelease
    mechanism: Mechanism
    spending: Spending
    dataset: SharedDataset | None
    is_paid_by_all: bool


def lock_charge(connection: Connection, key: TaskKey, dataset: SharedDataset) -> ChargeState:
    """Return the charge of a task, under the lock of its dataset."""
    lock_dataset(connection, dataset)
    (row,) = _SQL.query(connection, "read_charge", dataset.dataset_id, key.workspace, *_place(key))
    release = _stored(row)
    assert release is not None
    return ChargeState(
        release,
        read_mechanism(row),
        Spending(row["workspace_epsilon_basic"], row["workspace_epsilon_tight"]),
        _dataset(row),
        bool(row["is_paid_by_all"]),
    )


def lock_message(
    connection: Connection, key: TaskKey, dataset: SharedDataset
) -> tuple[StoredRelease | None, SharedDataset | None]:
    """Return what was released for a task, and its dataset as it is shared now, under that one's lock: what a
    message without a vector is held against. No ledger is read."""
    lock_dataset(connection, dataset)
    (row,) = _SQL.query(connection, "read_message", dataset.dataset_id, key.workspace, *_place(key))
    return _stored(row), _dataset(row)


def _place(key: TaskKey) -> tuple[object, ...]:
    return (key.run, key.round, key.exchange, key.step, key.node)


def _dataset(row: Row) -> SharedDataset | None:
    return None if row["dataset_id"] is None else SharedDataset.from_row(row)


def _memory(row: Row) -> StoredMemory | None:
    version = row["memory_version"]
    return None if version is None else StoredMemory(bytes(row["memory"]), version)


def _stored(row: Row) -> StoredRelease | None:
    if row["task_sha256"] is None:
        return None
    return StoredRelease(ReleaseState(row["state"]), row["task_sha256"], row["header"], row["payload"])


def insert_charge(
    connection: Connection,
    key: TaskKey,
    dataset: SharedDataset,
    task_sha256: bytes,
    charge: NodeCharge,
) -> None:
    """Record what a task costs, before it is computed, and the first time its terms."""
    _SQL.execute(
        connection,
        "insert_charge",
        key.workspace,
        *_place(key),
        dataset.name,
        dataset.relation,
        task_sha256,
        list(charge.base_tables),
        charge.mechanism.noise_multiplier,
        charge.mechanism.sampling_rate,
        charge.mechanism.steps,
        charge.spending.epsilon_basic,
        charge.spending.epsilon_tight,
        charge.workspace_spending.epsilon_basic,
        charge.workspace_spending.epsilon_tight,
        charge.delta,
        charge.terms.epsilon,
        charge.terms.delta,
        charge.mechanism.noise,
    )


def insert_noise_share(  # noqa: PLR0917
    connection: Connection, key: TaskKey, nodes: int, threshold: int, honest: int, share: float
) -> None:
    """Record on what a charge of shared noise rests; in the transaction that charges it."""
    _SQL.execute(connection, "insert_noise_share", *_place(key), nodes, threshold, honest, share)


def finish_release(connection: Connection, key: TaskKey, header: bytes, payload: bytes) -> None:
    """Turn a charge into a release; drop the payloads of earlier rounds."""
    _SQL.execute(connection, "finish_release", *_place(key), header, payload, len(payload))


def fail_release(connection: Connection, key: TaskKey, task_sha256: bytes) -> None:
    """Record that a charged task cannot be computed: it will not be tried again."""
    _SQL.query(connection, "fail_release", *_place(key), task_sha256)


def insert_plain_release(
    connection: Connection,
    key: TaskKey,
    dataset: SharedDataset,
    terms: bytes | None,
    release: StoredRelease,
) -> None:
    """Record a release without noise; drop the payloads of earlier rounds."""
    _insert_free_release(connection, key, dataset, release, terms, is_message=False)


def insert_message_release(
    connection: Connection, key: TaskKey, dataset: SharedDataset, release: StoredRelease
) -> None:
    """Record a message of a sum protocol, made without a row: without charge and without terms."""
    _insert_free_release(connection, key, dataset, release, None, is_message=True)


def _insert_free_release(
    connection: Connection,
    key: TaskKey,
    dataset: SharedDataset,
    release: StoredRelease,
    terms: bytes | None,
    *,
    is_message: bool,
) -> None:
    assert release.payload is not None
    read = release.rows_read
    _SQL.execute(
        connection,
        "insert_free_release",
        key.workspace,
        *_place(key),
        dataset.name,
        release.task_sha256,
        release.header,
        release.payload,
        len(release.payload),
        terms,
        is_message,
        None if read is None else read.content,
        None if read is None else read.admission or None,
    )


def put_memory(connection: Connection, key: TaskKey, sealed: bytes, expected_version: int) -> bool:
    """Keep what the node remembers of a task's run, in place of the version that the task read.

    expected_version 0: there was none. False, and nothing is kept, where another task of the run wrote
    meanwhile. Memories that were not written for 30 days are dropped. At most 256 MiB: psycopg's
    CheckViolation for more.
    """
    rows = _SQL.query(connection, "put_memory", key.workspace, key.run, key.node, sealed, expected_version)
    return bool(rows)


def forget_memory(connection: Connection, workspace: WorkspaceName, ended_runs: Sequence[RunId]) -> None:
    """Drop what the node remembers of runs of a workspace that have ended."""
    _SQL.query(connection, "forget_memory", workspace, list(ended_runs))
