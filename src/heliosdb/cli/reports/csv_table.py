"""The findings as one CSV table, for a spreadsheet that would take a cell for a formula.

What always holds: no cell begins with a character at which spreadsheets begin to compute; such a cell has an
apostrophe before it.
"""

from __future__ import annotations

import csv
import io

from heliosdb.cli.reports.page import clean

_COMPUTES = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def render_csv(columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A header and a line for each row, by RFC 4180."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(columns)
    writer.writerows([[guard(cell) for cell in row] for row in rows])
    return text.getvalue()


def guard(cell: str) -> str:
    """The cell as text that a spreadsheet shows and does not compute."""
    shown = clean(cell)
    return f"'{shown}" if cell.startswith(_COMPUTES) or shown.lstrip().startswith(_COMPUTES) else shown
