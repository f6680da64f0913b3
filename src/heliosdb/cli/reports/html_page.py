"""A page as one HTML file: printable, readable by a screen reader; nothing is loaded and nothing runs.

What always holds: every text is escaped, attributes hold no text from outside, and the page's own policy
forbids scripts.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from heliosdb.cli.reports.page import Page, Section
from heliosdb.domain.wording import counted

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #1a1a1a; background: #fff; }
body { margin: 2rem auto; max-width: 76rem; padding: 0 1rem; }
h1 { font-size: 1.6rem; }
h2 { font-size: 1.2rem; margin-top: 2rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; }
dt { font-weight: 600; }
dd { margin: 0; overflow-wrap: anywhere; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
caption { text-align: left; padding: .3rem 0; }
th, td { border: 1px solid #b5b5b5; padding: .35rem .5rem; text-align: left; vertical-align: top; }
th, td { overflow-wrap: anywhere; }
th { background: #eef1f4; }
.PASS { color: #0a5c2b; }
.FAIL { color: #9b1c1c; font-weight: 700; }
.MANUAL { color: #6b4a00; }
@media print {
  body { margin: 0; max-width: none; font-size: 11px; }
  thead { display: table-header-group; }
  tr { break-inside: avoid; }
}
"""
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_STATUSES = frozenset({"PASS", "FAIL", "MANUAL"})


def render_html(page: Page) -> str:
    """The whole file, as UTF-8 text."""
    return "\n".join(_lines(page)) + "\n"


def _lines(page: Page) -> Iterator[str]:
    title = escape(page.title)
    yield "<!DOCTYPE html>"
    yield '<html lang="en"><head><meta charset="utf-8">'
    yield f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>{title}</title><style>{_STYLE}</style></head><body><main>"
    yield f"<h1>{title}</h1><dl>"
    for label, value in page.facts:
        yield f"<dt>{escape(label)}</dt><dd>{escape(value)}</dd>"
    yield "</dl>"
    for one in page.sections:
        yield from _section(one)
    yield "</main></body></html>"


def _section(section: Section) -> Iterator[str]:
    title = escape(section.title)
    yield f"<section><h2>{title}</h2>"
    if section.note is not None:
        yield f"<p>{escape(section.note)}</p>"
    if section.rows:
        heads = "".join(f'<th scope="col">{escape(column)}</th>' for column in section.columns)
        yield f"<table><caption>{title}: {counted(len(section.rows), 'row')}</caption>"
        yield f"<thead><tr>{heads}</tr></thead><tbody>"
        for row in section.rows:
            yield f"<tr>{''.join(map(_cell, row))}</tr>"
        yield "</tbody></table>"
    else:
        yield "<p>none</p>"
    yield "</section>"


def _cell(text: str) -> str:
    kind = f' class="{text}"' if text in _STATUSES else ""
    return f"<td{kind}>{escape(text)}</td>"
