"""A page as PDF: text and tables. Needs fpdf2, which the extra `reports` brings.

What always holds: what the font cannot show stands as its code point, and the first page says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from heliosdb.cli.reports.page import Page, Section
from heliosdb.domain.errors import ErrorCode, FederatedError, invalid_value

_FACE = "Helvetica"
_OWN_FACE = "Given"
_NARROWEST, _WIDEST = 6, 48
_LONGEST = 500
"""Characters of a cell before it goes on in the next row."""
_CODES_NOTE = (
    "Characters that the font lacks stand as their code points behind a backslash; --font takes another."
)


def render_pdf(page: Page, font: Path | None = None) -> bytes:
    """The file. font: a TrueType font in place of Helvetica, which has the characters of Latin-1 alone.

    FederatedError NOT_SUPPORTED where fpdf2 is not installed, INVALID_VALUE for a font that cannot be read.
    """
    try:
        from fpdf import FPDF
    except ImportError as error:
        raise FederatedError(
            ErrorCode.NOT_SUPPORTED,
            "PDF needs the package fpdf2, which is not installed",
            hint="pip install 'heliosdb-federated-learning[reports]', or print what --format html gives.",
        ) from error
    pdf = FPDF(orientation="landscape", format="A4")
    pdf.set_auto_page_break(True, margin=12)
    pdf.set_title(page.title)
    pdf.set_lang("en")
    writer = _Writer(pdf, _face(pdf, font))
    pdf.add_page()
    writer.write(page)
    return bytes(pdf.output())


def _face(pdf: Any, font: Path | None) -> str:
    if font is None:
        return _FACE
    try:
        for style in ("", "B"):
            pdf.add_font(_OWN_FACE, style, font)
    except Exception as error:  # fontTools raises errors of many kinds for a file that is no font
        raise invalid_value(f"the font {font} cannot be read", detail=type(error).__name__) from error
    return _OWN_FACE


class _Writer:
    """Writes one page of data onto as many of paper as it takes."""

    def __init__(self, pdf: Any, face: str) -> None:
        self._pdf, self._face = pdf, face

    def write(self, page: Page) -> None:
        """Title, facts, and the sections in order."""
        self._line(page.title, size=16, bold=True)
        texts = (page.title, *(text for fact in page.facts for text in fact), *_texts(page.sections))
        if any(self._shown(text) != text for text in texts):
            self._line(_CODES_NOTE, size=8)
        for label, value in page.facts:
            self._line(f"{label}: {value}", size=9)
        for one in page.sections:
            self._section(one)

    def _section(self, section: Section) -> None:
        self._pdf.ln(4)
        self._line(section.title, size=12, bold=True)
        if section.note is not None:
            self._line(section.note, size=8)
        if not section.rows:
            self._line("none", size=8)
            return
        self._pdf.set_font(self._face, size=7)
        widths = _widths(section)
        with self._pdf.table(col_widths=widths, line_height=3.4, text_align="LEFT", padding=0.6) as table:
            table.row([self._shown(cell) for cell in section.columns])
            for row in section.rows:
                for part in _parts(tuple(map(self._shown, row))):
                    table.row(list(part))

    def _line(self, text: str, *, size: int, bold: bool = False) -> None:
        self._pdf.set_font(self._face, style="B" if bold else "", size=size)
        self._pdf.multi_cell(0, None, self._shown(text), new_x="LMARGIN", new_y="NEXT", align="L")

    def _shown(self, text: str) -> str:
        if self._face == _FACE:
            return text.encode("latin-1", "backslashreplace").decode("latin-1")
        known = self._pdf.fonts[self._face.lower()].cmap
        return "".join(c if ord(c) in known else f"\\u{ord(c):04x}" for c in text)


def _widths(section: Section) -> tuple[int, ...]:
    """How wide columns are to each other: by their longest cell, within bounds."""
    columns = zip(section.columns, *section.rows, strict=True)
    return tuple(min(max(map(len, column)), _WIDEST) + _NARROWEST for column in columns)


def _parts(row: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """A row as several, of which none is higher than a page."""
    length = max(map(len, row), default=0)
    for start in range(0, max(length, 1), _LONGEST):
        yield tuple(cell[start : start + _LONGEST] for cell in row)


def _texts(sections: tuple[Section, ...]) -> list[str]:
    return [
        cell
        for one in sections
        for row in (one.columns, (one.title, one.note or ""), *one.rows)
        for cell in row
    ]
