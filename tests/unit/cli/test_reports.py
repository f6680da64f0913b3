"""Reports and cards in each format: whole, escaped, and the same for the same evidence."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import sys
import zlib
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from trestle.oscal.assessment_results import Model

from heliosdb.catalog.evidence import Table
from heliosdb.cli.embedded.pki import ensure_authority, ensure_identity
from heliosdb.cli.reports.command import render_card, render_report
from heliosdb.cli.reports.csv_table import guard
from heliosdb.cli.reports.evidence_page import evidence_json, evidence_sha256, page_of
from heliosdb.cli.reports.formats import CardFormat, ReportFormat
from heliosdb.cli.reports.pdf_pages import render_pdf
from heliosdb.cli.reports.signing import sign_report, verify_report
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.transport.identity import Identity
from tests.unit.cli.report_evidence import CARD, EVIDENCE, FORMULA, HOSTILE


class Reader(HTMLParser):
    """Takes a page apart: its elements, attributes and text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes.extend(attrs)

    def handle_data(self, data: str) -> None:
        self.text += data


def read(page: bytes) -> Reader:
    reader = Reader()
    reader.feed(page.decode())
    reader.close()
    return reader


@pytest.mark.parametrize(
    "page",
    [render_report(EVIDENCE, ReportFormat.HTML), render_card(CARD, CardFormat.HTML)],
    ids=["report", "card"],
)
def test_an_html_page_runs_and_loads_nothing_whatever_a_name_holds(page: bytes) -> None:
    reader = read(page)
    assert not {"script", "img", "link", "iframe", "a", "svg"} & set(reader.tags)
    assert not [
        name for name, _ in reader.attributes if name.startswith("on") or name in ("src", "href", "style")
    ]
    assert "<script>alert(1)</script>" in reader.text
    assert "\u202e" not in reader.text
    assert reader.tags[:2] == ["html", "head"]
    assert ("lang", "en") in reader.attributes
    assert reader.tags.count("caption") == reader.tags.count("table") > 0
    assert reader.tags.count("th") == reader.attributes.count(("scope", "col"))


def test_a_report_counts_and_never_calls_the_whole_compliant() -> None:
    page = page_of(EVIDENCE)
    facts = dict(page.facts)
    assert facts["Requirements that pass"] == "1 of 3"
    assert facts["Requirements that fail"] == "1 of 3"
    assert facts["Requirements left to a person"] == "1 of 3"
    assert facts["SHA-256 of the evidence"] == hashlib.sha256(evidence_json(EVIDENCE)).hexdigest()
    assert "compliant" not in render_report(EVIDENCE, ReportFormat.HTML).decode()


def test_what_is_to_do_depends_on_the_status() -> None:
    [requirements, *_] = page_of(EVIDENCE).sections
    to_do = {row[0]: row[-1] for row in requirements.rows}
    assert to_do["Access control"] == "nothing"
    assert to_do["Authentication of users"] == "Write scram."
    assert re.search(r"ATTEST FEDERATED COMPLIANCE \".*\" FOR 'Risk analysis' UNTIL", to_do["Risk analysis"])


def test_what_nobody_recorded_says_so() -> None:
    nodes = next(one for one in page_of(EVIDENCE).sections if one.title == "Nodes")
    assert nodes.rows[0][1:] == ("not recorded", "yes")
    assert "none" in read(render_report(EVIDENCE, ReportFormat.HTML)).text


def test_the_json_is_the_evidence_and_its_hash() -> None:
    whole = json.loads(render_report(EVIDENCE, ReportFormat.JSON))
    assert whole["evidence_sha256"] == evidence_sha256(EVIDENCE)
    assert whole["evidence"]["workspace"] == HOSTILE
    assert evidence_sha256(replace(EVIDENCE, workspace="other")) != whole["evidence_sha256"]


def test_a_csv_has_a_line_a_requirement_and_no_formula() -> None:
    [head, *rows] = csv.reader(io.StringIO(render_report(EVIDENCE, ReportFormat.CSV).decode()))
    assert head[4:] == ["requirement", "status", "what_was_found", "evidence", "reference", "what_to_do"]
    assert [row[5] for row in rows] == ["PASS", "MANUAL", "FAIL"]
    assert rows[1][head.index("evidence")] == "'" + FORMULA
    assert not any(cell.startswith(tuple("=+-@\t\r")) for row in rows for cell in row)


@pytest.mark.parametrize("cell", ["=1", "+1", "-1", "@x", "\t=1", "\r=1", " =1", "\u202e=1", "＝1", "\n@x"])
def test_a_cell_that_a_spreadsheet_would_compute_is_text(cell: str) -> None:
    assert guard(cell).startswith("'")


def test_a_cell_that_computes_nothing_is_left_alone() -> None:
    assert [guard(cell) for cell in ("a=1", "", "1-2", "x@example.com")] == [
        "a=1",
        "",
        "1-2",
        "x@example.com",
    ]


def test_the_oscal_document_is_valid_and_each_requirement_is_in_it() -> None:
    document = json.loads(render_report(EVIDENCE, ReportFormat.OSCAL))
    results = Model.model_validate(document).assessment_results
    [result] = results.results
    states = {one.title: one.target.status.state for one in result.findings or []}
    assert {title: str(getattr(state, "value", state)) for title, state in states.items()} == {
        "Access control": "satisfied",
        "Risk analysis": "not-satisfied",
        "Authentication of users": "not-satisfied",
    }
    observed = {one.uuid for one in result.observations or []}
    related = {
        one.observation_uuid
        for finding in result.findings or []
        for one in finding.related_observations or []
    }
    assert related == observed
    assert document == json.loads(render_report(EVIDENCE, ReportFormat.OSCAL))


def drawn(pdf: bytes) -> bytes:
    """What is drawn on the pages, uncompressed."""
    assert pdf.startswith(b"%PDF-")
    return b"".join(zlib.decompress(one) for one in re.findall(rb"stream\n(.*?)\nendstream", pdf, re.DOTALL))


def test_a_pdf_says_so_where_its_font_lacks_a_character() -> None:
    text = drawn(render_report(EVIDENCE, ReportFormat.PDF))
    assert b"evil \\\\u03b5" in text
    assert b"lacks stand as their code points" in text
    plain = replace(
        EVIDENCE,
        workspace="w",
        findings=EVIDENCE.findings[:1],
        tables=(),
        record={**EVIDENCE.record, "purposes": [], "participants": []},
    )
    assert b"code points" not in drawn(render_report(plain, ReportFormat.PDF))


def test_a_cell_longer_than_a_page_goes_on_in_a_pdf() -> None:
    long = " ".join(f"word{number}" for number in range(3000))
    table = Table("attestations", "Attestations", tuple("abcdefgh"), (("x", *[long] * 6, "y" * 20_000),))
    text = drawn(render_report(replace(EVIDENCE, tables=(table,)), ReportFormat.PDF))
    assert b"word2999" in text


def test_without_fpdf2_a_pdf_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fpdf", None)
    with pytest.raises(FederatedError) as caught:
        render_pdf(page_of(EVIDENCE))
    assert caught.value.code is ErrorCode.NOT_SUPPORTED
    assert "[reports]" in (caught.value.hint or "")


def test_a_file_that_is_no_font_is_one_clear_error(tmp_path: Path) -> None:
    font = tmp_path / "font.ttf"
    font.write_bytes(b"no font")
    with pytest.raises(FederatedError) as caught:
        render_pdf(page_of(EVIDENCE), font)
    assert caught.value.code is ErrorCode.INVALID_VALUE


def test_a_card_in_markdown_holds_no_markup_from_outside() -> None:
    text = render_card(CARD, CardFormat.MARKDOWN).decode()
    assert "<script>" not in text
    assert "](" not in text
    [line] = [line for line in text.splitlines() if "intended use" in line]
    assert r"\<script\>alert\(1\)\</script\>" in line
    assert "| what | value |" in text
    assert "| accuracy | not recorded |" in text


def test_a_card_without_a_version_says_so() -> None:
    text = render_card({**CARD, "version": None}, CardFormat.MARKDOWN).decode()
    assert "**version**: none yet" in text


@pytest.fixture(scope="module")
def signers(tmp_path_factory: pytest.TempPathFactory) -> tuple[Identity, Identity]:
    place = tmp_path_factory.mktemp("pki")
    authority = ensure_authority(place / "ca")
    made = [ensure_identity(authority, place, name) for name in ("coordinator", "other")]
    return tuple(Identity.load(one.certificate, one.private_key) for one in made)  # type: ignore[return-value]


def test_a_signature_is_of_these_bytes_by_this_key(signers: tuple[Identity, Identity]) -> None:
    ours, other = signers
    signed = sign_report(ours, b"report", evidence_sha256="ab", signed_at="2026-11-30T12:00:00Z")
    statement = verify_report(b"report", signed, ours.certificate_pem)
    assert statement["evidence_sha256"] == "ab"
    later = json.dumps(
        {**json.loads(signed), "statement": {**statement, "signed_at": "2027-01-01T00:00:00Z"}}
    ).encode()
    for content, file, certificate in (
        (b"other", signed, ours.certificate_pem),
        (b"report", signed, other.certificate_pem),
        (b"report", later, ours.certificate_pem),
    ):
        with pytest.raises(FederatedError) as caught:
            verify_report(content, file, certificate)
        assert caught.value.code is ErrorCode.IDENTITY


@pytest.mark.parametrize("file", [b"", b"[]", b"{}", b'{"statement": {}, "signature": "zz"}', b"\xff"])
def test_what_is_no_signature_file_is_one_clear_error(
    file: bytes, signers: tuple[Identity, Identity]
) -> None:
    with pytest.raises(FederatedError) as caught:
        verify_report(b"report", file, signers[0].certificate_pem)
    assert caught.value.code is ErrorCode.INVALID_VALUE
