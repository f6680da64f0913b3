"""A page as Markdown, in which no text from outside is markup.

What always holds: what Markdown or HTML would read as more than a character stands behind a backslash.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from heliosdb.cli.reports.page import Page, Section

_MARKUP = re.compile(r"([\\`*_{}\[\]()#+!|<>~&-])")


def render_markdown(page: Page) -> str:
    """The whole file, as UTF-8 text."""
    return "\n".join(_lines(page)) + "\n"


def _lines(page: Page) -> Iterator[str]:
    yield f"# {_quote(page.title)}"
    yield ""
    for label, value in page.facts:
        yield f"- **{_quote(label)}**: {_quote(value)}"
    for one in page.sections:
        yield from _section(one)


def _section(section: Section) -> Iterator[str]:
    yield ""
    yield f"## {_quote(section.title)}"
    yield ""
    if section.note is not None:
        yield _quote(section.note)
        yield ""
    if not section.rows:
        yield "none"
        return
    yield _row(section.columns)
    yield "|" + "---|" * len(section.columns)
    yield from map(_row, section.rows)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(map(_quote, cells))} |"


def _quote(text: str) -> str:
    # A bare address would become a link without any markup of its own.
    return _MARKUP.sub(r"\\\1", text).replace("://", ":\\//")
