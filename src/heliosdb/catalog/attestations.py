"""Attestations and what they may be about, as rows.

What always holds: who attested, when and what was seen then is written by the database itself.
"""

from __future__ import annotations

from datetime import date

from heliosdb.catalog.connection import Connection, Statements

_SQL = Statements("attestations.sql")


def find_workspace_id(connection: Connection, name: str) -> int | None:
    """Return the key of the workspace of that name."""
    rows = _SQL.query(connection, "find_workspace_id", name)
    return int(rows[0]["workspace_id"]) if rows else None


def list_requirements(connection: Connection) -> list[str]:
    """Return what the compliance check goes through, each once, in its order."""
    return [row["requirement"] for row in _SQL.query(connection, "list_requirements")]


def insert_attestation(
    connection: Connection, workspace_id: int, requirement: str, until: date, statement: str
) -> str:
    """Add an attestation; return what the check said of the requirement just then: PASS or MANUAL.

    The database raises 22023 for a day that is past or too far away, 55000 for a requirement that fails.
    """
    values = (workspace_id, requirement, until.isoformat(), statement)
    return str(_SQL.query(connection, "insert_attestation", *values)[0]["status"])
