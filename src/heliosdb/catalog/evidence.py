"""What a compliance report is made of: read in one snapshot, as an auditor's role sees it.

What always holds: every figure is the catalog's; what nobody recorded is None; without `record` the
transaction is read-only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from heliosdb.catalog.connection import Connection, Row, Statements
from heliosdb.domain.errors import ErrorCode, FederatedError

_SQL = Statements("evidence.sql")

Status = Literal["PASS", "FAIL", "MANUAL"]
Cell = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Finding:
    """What the check says of a requirement. remediation: what to do where it is not met."""

    requirement: str
    status: Status
    details: str
    evidence: str
    reference: str
    remediation: str


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of a view, in order. name: the key in the evidence's JSON, title: what people read."""

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where evidence is from. made_at: UTC, as 2026-01-31T23:59:59Z. made_by: the role that read it."""

    made_at: str
    made_by: str
    database: str
    server_version: str
    catalog_version: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """All of a report on one workspace. record: federated_processing_record, as JSON."""

    workspace: str
    regulation: str
    origin: Origin
    findings: tuple[Finding, ...]
    tables: tuple[Table, ...]
    record: Mapping[str, Any]

    def count(self, status: Status) -> int:
        """How many requirements have that status."""
        return sum(finding.status == status for finding in self.findings)


_TABLES: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    (
        "attestations",
        "Attestations",
        (
            "requirement",
            "state",
            "author",
            "attested_at",
            "valid_until",
            "statement",
            "evidence_then",
            "statement_sha256",
        ),
    ),
    (
        "nodes",
        "Nodes",
        (
            "node",
            "status",
            "contact",
            "data_residency",
            "registered_at",
            "last_seen",
            "certificate_expires",
            "plain_answers",
        ),
    ),
    (
        "versions",
        "Versions of models",
        (
            "model",
            "version",
            "is_current",
            "created_at",
            "epsilon",
            "global_loss",
            "global_accuracy",
            "parameters_sha256",
        ),
    ),
    (
        "runs",
        "Latest runs, 1,000 at most",
        ("model", "run", "status", "started_by", "started_at", "finished_at", "rounds", "message"),
    ),
    (
        "budgets",
        "Privacy budget",
        ("total_epsilon", "consumed_epsilon", "remaining_epsilon", "delta", "rounds_completed"),
    ),
    (
        "spending",
        "Spent by node, as the ledger has it",
        ("node", "releases", "epsilon_basic", "epsilon_tight", "last_at"),
    ),
    ("audit_heads", "Heads of the audit log", ("origin", "entries", "head_hash", "adopted")),
    (
        "signed_heads",
        "Signed heads of the audit log, the latest 100",
        ("entries", "root_sha256", "signed_at", "witnesses", "signature"),
    ),
    (
        "requests",
        "Requests about data subjects, the latest 1,000 answers",
        (
            "request",
            "kind",
            "requested_at",
            "deadline",
            "state",
            "node",
            "node_state",
            "outcome",
            "answered_at",
        ),
    ),
    (
        "erasures",
        "Erasures, the latest 1,000",
        (
            "request",
            "requested_at",
            "deadline",
            "status",
            "method",
            "exactness",
            "versions",
            "completed_at",
        ),
    ),
    (
        "exports",
        "Exports, the latest 1,000",
        (
            "request",
            "requested_at",
            "state",
            "format",
            "nodes_answered",
            "nodes_refused",
            "nodes_pending",
            "written_at",
            "sha256",
        ),
    ),
    ("consents", "Consent by purpose", ("purpose", "status", "subjects")),
    (
        "breaches",
        "Breaches of security, the latest 1,000",
        (
            "workspace",
            "breach",
            "seen_at",
            "events",
            "last_event_at",
            "notify_authority_by",
            "notify_people_by",
            "told_at",
            "failure",
        ),
    ),
    (
        "deletions",
        "Deleted for its age, the latest 1,000",
        ("what", "entries", "older_than", "deleted_at", "signature"),
    ),
    ("security_checks", "Security audit", ("check_name", "status", "recommendation")),
    (
        "records",
        "Checks on record, 1,000 at most",
        ("recorded_at", "regulation", "recorded_by", "pass", "fail", "manual", "findings_sha256"),
    ),
)


def read_evidence(
    connection: Connection, workspace: str, regulation: str, *, record: bool = False
) -> Evidence:
    """Read all of it in one snapshot; `record` has the check put on record before.

    FederatedError WRONG_STATE where the extension is not in the database; the server's own errors go through.
    """
    if record:
        with connection.transaction():
            enter_schema(connection)
            _SQL.query(connection, "record_check", workspace, regulation)
    with connection.transaction():
        _SQL.execute(connection, "begin_reading")
        version = enter_schema(connection)
        findings = _SQL.query(connection, "list_findings", workspace, regulation)
        return Evidence(
            workspace,
            regulation,
            Origin(**_SQL.query(connection, "read_origin")[0], catalog_version=version),
            tuple(Finding(**row) for row in findings),
            tuple(_read_table(connection, workspace, *table) for table in _TABLES),
            json.loads(_SQL.query(connection, "read_processing_record", workspace)[0]["record"]),
        )


def read_model_card(connection: Connection, model: str) -> Mapping[str, Any]:
    """Return federated_model_card of a model, or of model@tag; errors as for `read_evidence`."""
    with connection.transaction():
        _SQL.execute(connection, "begin_reading")
        enter_schema(connection)
        card: Mapping[str, Any] = json.loads(_SQL.query(connection, "read_model_card", model)[0]["card"])
        return card


def enter_schema(connection: Connection) -> str:
    """Find the extension's functions, and its version."""
    found = _SQL.query(connection, "find_extension_schema")
    if not found:
        raise FederatedError(
            ErrorCode.WRONG_STATE, "the extension heliosdb_federated_learning is not in the database"
        )
    _SQL.query(connection, "set_time_zone")
    return str(found[0]["version"])


def _read_table(
    connection: Connection, workspace: str, name: str, title: str, columns: tuple[str, ...]
) -> Table:
    rows = _SQL.query(connection, f"list_{name}", workspace)
    return Table(name, title, columns, tuple(_cells(row, columns) for row in rows))


def _cells(row: Row, columns: tuple[str, ...]) -> tuple[Cell, ...]:
    return tuple(row[column] for column in columns)
