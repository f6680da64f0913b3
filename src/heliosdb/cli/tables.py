"""Tables of plain text, as the commands show what they read.

What always holds: text from elsewhere is shown without control characters, whatever it holds; the last column
is as wide as its values, the others are cut.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

_WIDEST = 60


def section(title: str, heads: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[str]:
    """A title and a table, its last column as wide as it is; "none" in place of an empty one."""
    yield ""
    yield title
    table = [[cell(value, cut=place < len(heads) - 1) for place, value in enumerate(row)] for row in rows]
    if not table:
        yield "  none"
        return
    lines = [list(heads), *table]
    widths = [max(len(line[place]) for line in lines) for place in range(len(heads))]
    for line in lines:
        yield "  " + "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()


def cell(value: object, *, cut: bool) -> str:
    """A value as it stands in a table; "-" for None."""
    text = "-" if value is None else clean(str(value))
    return f"{text[: _WIDEST - 1]}…" if cut and len(text) > _WIDEST else text


def clean(text: str) -> str:
    """A text without control characters."""
    return "".join(c if c.isprintable() else " " for c in text)
