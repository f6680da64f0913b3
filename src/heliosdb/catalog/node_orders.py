"""Subject orders in a node's own database: what was answered, whose rows are left out, and the identifier while
an order is carried out.

What always holds: the identifier reaches the database as COPY data, into a table that is gone with the
transaction: never in a statement or a parameter, which a server may log. All of it is one transaction with
what the order asks for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from psycopg import _encodings

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
    encoding = str(_SQL.query(connection, "server_encoding")[0]["name"])
    try:
        raw = subject.encode(_encodings.pg2pyenc(encoding.encode()))
    except UnicodeEncodeError:
        return False
    _SQL.query(connection, "hold_subject")
    with connection.raw.cursor().copy(_COPY) as copy:
        copy.set_types(["bytea"])
        copy.write_row((raw,))
    return True


def count_subject_rows(connection: Connection, dataset: DatasetName) -> int:
    """Return how many rows of a dataset the subject has that is held."""
    return int(_SQL.query(connection, "subject_rows", dataset)[0]["rows"])


def list_subject_codes(connection: Connection, workspace: WorkspaceName) -> list[int]:
    """Return the hashes by which rows that are read name the subject that is held."""
    return [int(row["code"]) for row in _SQL.query(connection, "subject_codes", workspace)]


def withdraw(connection: Connection, order: Order, digests: Sequence[bytes], reason: str) -> None:
    """Have no answer to the workspace be about these subjects' rows from now on."""
    _SQL.query(connection, "withdraw", order.workspace, list(digests), reason, order.order_id)


def list_withdrawn(connection: Connection, workspace: WorkspaceName) -> bytes:
    """Return the digests of the subjects that are left out of a workspace's answers, 8 bytes each, rising."""
    return bytes(_SQL.query(connection, "list_withdrawn", workspace)[0]["digests"])
