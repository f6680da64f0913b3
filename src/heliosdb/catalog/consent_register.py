"""The register of consent in a node's own database, as its daemon keeps it.

What always holds: a data subject is in it as keyed hashes, or sealed to the node until its daemon has taken
what was said; what was said once is never changed; nobody's word is entered while an answer is let out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from heliosdb.catalog.connection import Connection, Statements
from heliosdb.catalog.consents import Said
from heliosdb.catalog.node_orders import SubjectDigests, lock_withdrawals
from heliosdb.catalog.participant import SharedDataset

_SQL = Statements("consents.sql")

MOST_REQUESTS = 1_000
"""So many are taken in one transaction."""


@dataclass(frozen=True, slots=True)
class Request:
    """What was said at the node, and its daemon has not taken yet."""

    request_id: int
    said: Said
    sealed: bytes = field(repr=False)


def publish_node_key(connection: Connection, public: bytes) -> None:
    """Publish the node's key where there is none yet."""
    _SQL.execute(connection, "publish_node_key", public)


def list_requests(connection: Connection) -> list[Request]:
    """Return what waits to be taken, as it was said."""
    return [
        Request(
            row["request_id"],
            Said(row["workspace"], row["kind"], row["purpose"], row["version"]),
            bytes(row["sealed"]),
        )
        for row in _SQL.query(connection, "list_requests", MOST_REQUESTS)
    ]


def record_request(connection: Connection, request: Request, subject: Sequence[SubjectDigests]) -> None:
    """Enter what was said at this node into its register, where that has not been done."""
    lock_withdrawals(connection)
    _SQL.execute(connection, "record_request", request.request_id, *_columns(subject))


def drop_request(connection: Connection, request: Request) -> None:
    """Forget a request that this node cannot open."""
    _SQL.execute(connection, "drop_request", request.request_id)


def record_order(
    connection: Connection, said: Said, subject: Sequence[SubjectDigests], order: UUID, said_at: datetime
) -> None:
    """Enter what the coordinator ordered; said_at: by its clock; what lies ahead counts as now."""
    lock_withdrawals(connection)
    values = (said.kind, said.purpose, said.version, order, said_at)
    _SQL.execute(connection, "record_order", said.workspace, *_columns(subject), *values)


def _columns(subject: Sequence[SubjectDigests]) -> tuple[list[bytes], list[bytes]]:
    return [one.digest for one in subject], [one.row_set_digest for one in subject]


@dataclass(frozen=True, slots=True)
class Words:
    """Digests of 8 bytes each, rising, in one. withdrawn: of whose rows no answer from a dataset is about.
    granted: who has consented; unexplained: who has opted out of explanations; None: not asked for. waits:
    whether anything was said at the node that its daemon has not taken yet."""

    withdrawn: bytes
    granted: bytes | None
    unexplained: bytes | None = None
    waits: bool = False


def read_words(
    connection: Connection, dataset: SharedDataset, *, granted: bool, unexplained: bool = False
) -> Words:
    """Return who has withdrawn or was erased and, where it is asked for, who has consented, and who has opted
    out of explanations."""
    (row,) = _SQL.query(connection, "read_words", dataset.dataset_id, granted, unexplained)
    asked = {name: None if row[name] is None else bytes(row[name]) for name in ("granted", "unexplained")}
    return Words(bytes(row["withdrawn"]), **asked, waits=row["waits"])
