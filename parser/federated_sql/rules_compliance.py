"""Statements about compliance: attestations."""

from __future__ import annotations

from federated_sql.clauses import Rule, text
from federated_sql.compliance_statements import AttestCompliance
from federated_sql.cursor import Cursor
from federated_sql.statements import Command

MAX_ATTESTATION_BYTES = 4_096
"""Longest text of an attestation."""


def _attest_compliance(cursor: Cursor) -> Command:
    workspace = cursor.name("workspace")
    cursor.expect_words("for")
    requirement = text(cursor, "requirement")
    cursor.expect_words("until")
    until = text(cursor, "date")
    cursor.expect_words("as")
    return AttestCompliance(workspace, requirement, until, text(cursor, "text", MAX_ATTESTATION_BYTES))


RULES = (
    Rule(
        "ATTEST FEDERATED COMPLIANCE",
        "ATTEST FEDERATED COMPLIANCE workspace FOR 'requirement' UNTIL 'YYYY-MM-DD' AS 'text'",
        _attest_compliance,
    ),
)
