"""`heliosdb report` and `heliosdb model-card`: read in one snapshot, written once.

What always holds: without --record nothing in the database changes; a file that exists is not written over; a
report that was asked to be signed is not there without its signature.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import psycopg

from heliosdb.catalog.evidence import Evidence, read_evidence, read_model_card
from heliosdb.catalog.psycopg_connection import PsycopgConnection, connected
from heliosdb.cli.embedded.files import write_atomically
from heliosdb.cli.reports.card_page import card_page
from heliosdb.cli.reports.csv_table import render_csv
from heliosdb.cli.reports.evidence_page import (
    FINDING_COLUMNS,
    evidence_json,
    evidence_sha256,
    finding_row,
    page_of,
)
from heliosdb.cli.reports.formats import CardFormat, Regulation, ReportFormat
from heliosdb.cli.reports.html_page import render_html
from heliosdb.cli.reports.markdown import render_markdown
from heliosdb.cli.reports.oscal import oscal_results
from heliosdb.cli.reports.signing import MAX_SIGNATURE_FILE, sign_report, signature_path, verify_report
from heliosdb.domain.errors import ErrorCode, FederatedError, invalid_value
from heliosdb.transport.identity import Identity

_Read = TypeVar("_Read")

_RIGHTS = "A report needs the rights of federated_auditor; those of federated_analyst do for a model card."


@dataclass(frozen=True, slots=True)
class ReportWishes:
    """What is wanted of a report.

    evidence: where its evidence goes as JSON. font: of a PDF. record: whether the check is put on record.
    identity: whose signature goes beside it.
    """

    format: ReportFormat
    evidence: Path | None = None
    font: Path | None = None
    record: bool = False
    identity: Identity | None = None


def make_report(
    conninfo: str, workspace: str, regulation: Regulation, output: Path | None, wishes: ReportWishes
) -> bytes | None:
    """Write the report to `output`, or return it where there is none; FederatedError says what is wrong."""
    if output is None and (wishes.format is ReportFormat.PDF or wishes.identity is not None):
        raise invalid_value("a PDF, and a report that is signed, need a file", hint="Give --output.")
    places = [path for path in (output, wishes.evidence) if path is not None]
    if output is not None and wishes.identity is not None:
        places.append(signature_path(output))
    _refuse_existing(places)
    evidence = ask(
        conninfo,
        "heliosdb report",
        lambda connection: read_evidence(connection, workspace, regulation.value, record=wishes.record),
        _RIGHTS,
    )
    content = render_report(evidence, wishes.format, wishes.font)
    if wishes.evidence is not None:
        _write(wishes.evidence, evidence_json(evidence))
    if output is None:
        return content
    if wishes.identity is not None:
        signed = sign_report(
            wishes.identity,
            content,
            evidence_sha256=evidence_sha256(evidence),
            signed_at=evidence.origin.made_at,
        )
        _write(signature_path(output), signed)
    _write(output, content)
    return None


def render_report(evidence: Evidence, form: ReportFormat, font: Path | None = None) -> bytes:
    """A report's bytes in one format."""
    match form:
        case ReportFormat.HTML:
            return render_html(page_of(evidence)).encode()
        case ReportFormat.JSON:
            whole = {
                "evidence_sha256": evidence_sha256(evidence),
                "evidence": json.loads(evidence_json(evidence)),
            }
            return _pretty(whole)
        case ReportFormat.CSV:
            return _csv(evidence).encode()
        case ReportFormat.OSCAL:
            return _pretty(oscal_results(evidence))
        case ReportFormat.PDF:
            from heliosdb.cli.reports.pdf_pages import render_pdf

            return render_pdf(page_of(evidence), font)


def _csv(evidence: Evidence) -> str:
    about = (evidence.workspace, evidence.regulation, evidence.origin.made_at, evidence_sha256(evidence))
    columns = (
        "workspace",
        "regulation",
        "made_at",
        "evidence_sha256",
        *(column.replace(" ", "_") for column in FINDING_COLUMNS),
    )
    return render_csv(columns, [(*about, *finding_row(one, evidence.workspace)) for one in evidence.findings])


def make_card(conninfo: str, model: str, output: Path | None, form: CardFormat) -> bytes | None:
    """Write a model's card to `output`, or return it where there is none."""
    _refuse_existing([] if output is None else [output])
    card = ask(
        conninfo, "heliosdb model-card", lambda connection: read_model_card(connection, model), _RIGHTS
    )
    content = render_card(card, form)
    if output is None:
        return content
    _write(output, content)
    return None


def render_card(card: Mapping[str, Any], form: CardFormat) -> bytes:
    """A card's bytes in one format."""
    match form:
        case CardFormat.JSON:
            return _pretty(card)
        case CardFormat.MARKDOWN:
            return render_markdown(card_page(card)).encode()
        case CardFormat.HTML:
            return render_html(card_page(card)).encode()


def check_signature(report: Path, signature: Path | None, certificate: Path) -> str:
    """Return a line that says what was signed and when; FederatedError where the signature does not hold."""
    signed = _read(signature or signature_path(report), MAX_SIGNATURE_FILE)
    statement = verify_report(_read(report), signed, _read(certificate, MAX_SIGNATURE_FILE))
    return f"signed at {statement['signed_at']}, evidence {statement['evidence_sha256']}"


def ask(conninfo: str, name: str, read: Callable[[PsycopgConnection], _Read], rights: str) -> _Read:
    """Return what `read` finds in a database; the server's errors are FederatedErrors. rights: a sentence on
    those that it needs."""
    try:
        with connected(conninfo, application_name=name) as connection:
            return read(connection)
    except (psycopg.OperationalError, psycopg.ProgrammingError) as error:
        if error.sqlstate is None:
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise FederatedError(ErrorCode.UNREACHABLE, "cannot reach the catalog", detail=reason) from error
        raise _told(error, rights) from error
    except psycopg.Error as error:
        raise _told(error, rights) from error


def _told(error: psycopg.Error, rights: str) -> FederatedError:
    """The server's error as one of the product's, its words and its SQLSTATE where that is one of ours."""
    message = error.diag.message_primary or type(error).__name__
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        return FederatedError(ErrorCode.PRIVILEGE, f"cannot read the catalog: {message}", hint=rights)
    with suppress(ValueError):
        return FederatedError(
            ErrorCode(error.sqlstate), message, detail=error.diag.message_detail, hint=error.diag.message_hint
        )
    hint = "Where the catalog is of an older version: ALTER EXTENSION heliosdb_federated_learning UPDATE."
    return FederatedError(ErrorCode.WRONG_STATE, f"cannot read the catalog: {message}", hint=hint)


def _refuse_existing(places: list[Path]) -> None:
    for place in places:
        if place.exists() or place.is_symlink():
            raise FederatedError(
                ErrorCode.DUPLICATE_OBJECT, f"the file {place} exists", hint="Name another, or remove it."
            )
        if not place.parent.is_dir():
            raise FederatedError(ErrorCode.UNDEFINED_OBJECT, f"directory {place.parent} does not exist")


def _write(path: Path, content: bytes) -> None:
    try:
        write_atomically(path, content, 0o600)
    except OSError as error:
        raise invalid_value(f"cannot write {path}", detail=error.strerror) from error


def _read(path: Path, most: int | None = None) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(-1 if most is None else most)
    except OSError as error:
        raise invalid_value(f"cannot read {path}", detail=error.strerror) from error


def _pretty(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False).encode() + b"\n"
