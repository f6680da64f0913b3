"""Subject orders: what a workspace's owner asks of every node about one data subject, and what nodes answer.

What always holds: the subject's identifier is in an `Order` alone, whose text does not show it; a statement
of a node holds neither it nor anything that could be computed from it without a key.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from heliosdb.domain.errors import invalid_value
from heliosdb.domain.ids import DatasetName, NodeName, OrderId, WorkspaceName

MAX_SUBJECT_BYTES: Final = 1024
MAX_TERMS_BYTES: Final = 4096
MAX_STATEMENT_BYTES: Final = 1024 * 1024


class OrderKind(StrEnum):
    """What is asked; the values are those of the catalog."""

    ERASE = "erase"
    GRANT = "grant"
    REVOKE = "revoke"
    EXPORT = "export"


@dataclass(frozen=True, slots=True)
class Order:
    """What one node is asked about one data subject.

    subject: the identifier, as the datasets' subject column would show it as text. terms: what else there is
    to know, such as a purpose, and never about the subject. deadline: until when an answer is waited for.
    """

    order_id: OrderId
    kind: OrderKind
    workspace: WorkspaceName
    node: NodeName
    subject: str = field(repr=False)
    terms: Mapping[str, Any]
    deadline: datetime


@dataclass(frozen=True, slots=True)
class DatasetOutcome:
    """What became of the subject's rows in one dataset. rows: how many there are or were; None: not known.
    failure: why no more was done; None where nothing failed."""

    dataset: DatasetName
    relation: str
    rows: int | None
    action: str
    failure: str | None = None

    def to_json(self) -> dict[str, Any]:
        """For a statement."""
        said = {"dataset": self.dataset, "relation": self.relation, "rows": self.rows, "action": self.action}
        return said if self.failure is None else {**said, "failure": self.failure}


@dataclass(frozen=True, slots=True)
class OrderOutcome:
    """What a node has done. outcome: one word for all of it. further: members of the statement that are of
    the order's kind. body: what follows the statement; only an export has one."""

    outcome: str
    datasets: Sequence[DatasetOutcome] = ()
    further: Mapping[str, Any] = field(default_factory=dict)
    body: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class SignedStatement:
    """A node's statement as it was signed. certificate_sha256: of the certificate whose key signed it."""

    statement: bytes
    signature: bytes
    certificate_sha256: bytes

    def read(self) -> dict[str, Any]:
        """The statement's members."""
        return read_statement(self.statement)


def canonical_json(value: Mapping[str, Any]) -> bytes:
    """JSON as it is signed: keys in order, no spaces, UTF-8."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def read_statement(raw: bytes) -> dict[str, Any]:
    """Read a statement; FederatedError INVALID_VALUE for what is none."""
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError):
        raise invalid_value("the statement is not JSON") from None
    if not isinstance(found, dict) or not isinstance(found.get("outcome"), str):
        raise invalid_value("the statement is none")
    return found
