"""A report's page: what was asked, what was found, and what the catalog holds beside it.

What always holds: it says how many requirements pass, fail and are left to people, never that all is well.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from federated_sql.render import quote_name, quote_string
from heliosdb.catalog.evidence import Evidence, Finding
from heliosdb.cli.reports.page import Page, Section, section, show

FINDING_COLUMNS = ("requirement", "status", "what was found", "evidence", "reference", "what to do")
_DISCLAIMER = (
    "PASS was checked just now, or a person attested it. MANUAL is what no program can know, or what the role"
    " that made this report may not see. This is no legal advice and no certificate."
)


def evidence_json(evidence: Evidence) -> bytes:
    """The evidence as canonical JSON: sorted keys, no spaces, UTF-8; its SHA-256 is what reports name."""
    return json.dumps(
        asdict(evidence), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def evidence_sha256(evidence: Evidence) -> str:
    """SHA-256 of `evidence_json`, hexadecimal."""
    return hashlib.sha256(evidence_json(evidence)).hexdigest()


def page_of(evidence: Evidence) -> Page:
    """The report, for people."""
    return Page(
        f"{evidence.regulation} compliance report of workspace {show(evidence.workspace)}",
        tuple(_facts(evidence)),
        (
            section(
                "Requirements",
                FINDING_COLUMNS,
                (finding_row(one, evidence.workspace) for one in evidence.findings),
                _DISCLAIMER,
            ),
            *(section(table.title, table.columns, table.rows) for table in evidence.tables),
            *record_sections(evidence.record),
        ),
    )


def finding_row(finding: Finding, workspace: str) -> tuple[str, ...]:
    """A finding as a row of `FINDING_COLUMNS`."""
    return (
        finding.requirement,
        finding.status,
        finding.details,
        finding.evidence,
        finding.reference,
        _what_to_do(finding, workspace),
    )


def _what_to_do(finding: Finding, workspace: str) -> str:
    if finding.status == "PASS":
        return "nothing"
    if finding.status == "FAIL":
        return finding.remediation
    attest = f"ATTEST FEDERATED COMPLIANCE {quote_name(workspace)} FOR {quote_string(finding.requirement)}"
    return f"{finding.remediation} Then: {attest} UNTIL 'YYYY-MM-DD' AS '…'"


def _facts(evidence: Evidence) -> Iterator[tuple[str, str]]:
    origin = evidence.origin
    for status, what in (
        ("PASS", "Requirements that pass"),
        ("FAIL", "Requirements that fail"),
        ("MANUAL", "Requirements left to a person"),
    ):
        yield what, f"{evidence.count(status)} of {len(evidence.findings)}"  # type: ignore[arg-type]
    yield "Made at (UTC)", show(origin.made_at)
    yield "Made by the role", show(origin.made_by)
    yield (
        "Database",
        f"{show(origin.database)}, PostgreSQL {show(origin.server_version)}, "
        f"catalog {show(origin.catalog_version)}",
    )
    yield "SHA-256 of the evidence", evidence_sha256(evidence)


def record_sections(record: Mapping[str, Any]) -> Iterator[Section]:
    """The record of processing activities, section by section."""
    participants = ("node", "contact", "data_residency", "status", "registered_at")
    purposes = ("model", "intended_use", "owner", "owner_contact", "algorithm", "target", "features", "runs")
    yield _listed("Record of processing: participants", participants, record["participants"])
    yield _listed("Record of processing: purposes", purposes, record["purposes"])
    yield section(
        "Record of processing: categories of data",
        ("node", "dataset", "columns", "answers without noise"),
        (
            (
                one["node"],
                one["dataset"],
                [f"{column['column']} {column['type']}" for column in one["columns"] or ()],
                one["plain_answers"],
            )
            for one in record["categories_of_data"]
        ),
    )
    recipients = record["recipients"]
    yield _listed("Record of processing: who may log in", ("role", "member_of"), recipients["roles"])
    yield _listed("Record of processing: models granted", ("model", "to"), recipients["models_granted"])
    kept = {
        "categories of data subjects": record["categories_of_data_subjects"],
        "superusers": recipients["superusers"],
        **record["transfers"],
        **record["retention"],
        **record["security_measures"],
    }
    yield section("Record of processing: transfers, retention and measures", ("what", "value"), kept.items())


def _listed(title: str, columns: tuple[str, ...], rows: list[Mapping[str, Any]]) -> Section:
    return section(title, columns, ([row[column] for column in columns] for row in rows))
