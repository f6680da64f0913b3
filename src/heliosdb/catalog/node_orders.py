"""Subject orders in a node's own database: what was answered, whose rows are left out, and the identifier
while an order is carried out.

What always holds: the identifier reaches the database as COPY data, into a table that is gone with the
transaction: never in a statement or a parameter, which a server may log. All of it is one transaction with
what the order asks for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from heliosdb.catalog.connection import Connection, Statements
from heliosdb.catalog.psycopg_connection import PsycopgConnection
from heliosdb.domain.ids import DatasetName, WorkspaceName
from heliosdb.domain.orders import Order, SignedStatement, read_statement

_SQL = Statements("node_orders.sql")
_COPY = b"COPY pg_temp.asked_subject (subject) FROM STDIN (FORMAT binary)"


@dataclass(frozen=True, slots=True)
class StoredOrder:
    """What was answered to an order. mac: of the order, under a key of the node."""

    mac: bytes
    signed: SignedStatement
    body: bytes = field(default=b"", repr=False)


def limit_waiting(connection: Connection) -> None:
    """Have the transaction fail, as one that may be tried again, rather than wait for long for a lock."""
    _SQL.query(connection, "limit_waiting")


def find_order(connection: Connection, order: Order) -> StoredOrder | None:
    """Return what was answered to an order of this id; None where nothing was."""
    rows = _SQL.query(connection, "find_order", order.workspace, order.order_id)
    if not rows:
        return None
    row = rows[0]
    signed = SignedStatement(
        bytes(row["statement"]), bytes(row["signature"]), bytes(row["certificate_sha256"])
    )
    return StoredOrder(bytes(row["order_mac"]), signed, bytes(row["body"] or b""))


def insert_order(connection: Connection, order: Order, stored: StoredOrder) -> None:
    """Record what is answered to an order."""
    signed, body = stored.signed, stored.body or None
    _SQL.query(
        connection,
        "insert_order",
        order.workspace,
        order.order_id,
        order.kind.value,
        order.deadline,
        stored.mac,
        str(read_statement(signed.statement)["outcome"]),
        signed.statement,
        signed.signature,
        signed.certificate_sha256,
        None if body is None else hashlib.sha256(body).digest(),
        body,
    )


def sign_order_anew(connection: Connection, order: Order, signed: SignedStatement) -> None:
    """Record the signature of another certificate over what was answered."""
    made = (signed.signature, signed.certificate_sha256)
    _SQL.query(connection, "sign_order_anew", order.workspace, order.order_id, *made)


def hold_subject(connection: Connection, subject: str) -> bool:
    """Hold an identifier until the transaction ends; False where the database cannot have such a text."""
    assert isinstance(connection, PsycopgConnection)
    _SQL.query(connection, "hold_subject")
    with connection.raw.cursor().copy(_COPY) as copy:
        copy.set_types(["bytea"])
        copy.write_row((subject.encode(),))
    return bool(_SQL.query(connection, "is_text")[0]["is_text"])


def count_subject_rows(connection: Connection, dataset: DatasetName) -> int:
    """Return how many rows of a dataset the subject has that is held."""
    return int(_SQL.query(connection, "subject_rows", dataset)[0]["rows"])


def erase_subject_rows(connection: Connection, dataset: DatasetName) -> int:
    """Delete the rows that the subject has in a dataset; what would fail at the end of the transaction fails
    here."""
    deleted = int(_SQL.query(connection, "erase_rows", dataset)[0]["rows"])
    _SQL.query(connection, "check_constraints")
    _SQL.query(connection, "defer_constraints")
    return deleted


def list_subject_codes(connection: Connection, workspace: WorkspaceName) -> list[int]:
    """Return the hashes by which rows that are read name the subject that is held."""
    return [int(row["code"]) for row in _SQL.query(connection, "subject_codes", workspace)]


@dataclass(frozen=True, slots=True)
class SubjectDigests:
    """How a data subject is named without being known, 8 bytes each: for what is read, and in row sets."""

    digest: bytes
    row_set_digest: bytes


def lock_withdrawals(connection: Connection) -> None:
    """Until the transaction ends nobody else withdraws, and nothing that was read before is let out."""
    _SQL.query(connection, "lock_withdrawals")


def is_withdrawn(
    connection: Connection, order: Order, subject: Sequence[SubjectDigests], reason: str
) -> bool:
    """Whether a subject is left out of the workspace's answers already, for this reason."""
    digests = [one.digest for one in subject]
    return bool(_SQL.query(connection, "is_withdrawn", order.workspace, digests, reason)[0]["withdrawn"])


def withdraw(connection: Connection, order: Order, subject: Sequence[SubjectDigests], reason: str) -> None:
    """Have no answer to the workspace be about a subject's rows from now on; the lock is taken first.

    reason: erased, consent or opt-out; each counts by itself.
    """
    lock_withdrawals(connection)
    digests = [one.digest for one in subject], [one.row_set_digest for one in subject]
    _SQL.query(connection, "withdraw", order.workspace, *digests, reason, order.order_id)


def readmit(connection: Connection, order: Order, subject: Sequence[SubjectDigests], reason: str) -> None:
    """Take a withdrawal for one reason back; others stay."""
    lock_withdrawals(connection)
    _SQL.query(connection, "readmit", order.workspace, [one.digest for one in subject], reason)
