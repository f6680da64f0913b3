"""A page as data, before it has a format: a title, facts, and sections with a table each.

What always holds: cells are plain text of one line, without control characters; what is not recorded says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

NOT_RECORDED = "not recorded"


@dataclass(frozen=True, slots=True)
class Section:
    """A table under a title. note: a sentence above it. Without rows it says "none"."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """facts: label and value, in order."""

    title: str
    facts: tuple[tuple[str, str], ...]
    sections: tuple[Section, ...]


def show(value: object) -> str:
    """A value as text of one line; None is "not recorded", a list its items with commas between them."""
    match value:
        case None:
            return NOT_RECORDED
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.6g}"
        case list() | tuple():
            return ", ".join(map(show, value)) if value else "none"
    return clean(str(value))


def clean(text: str) -> str:
    """`text` with a space for each character that is not printed: line ends, controls, bidirectional ones."""
    return "".join(c if c.isprintable() else " " for c in text)


def section(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[object]], note: str | None = None
) -> Section:
    """A section of values; names of columns lose their underscores."""
    heads = tuple(column.replace("_", " ") for column in columns)
    return Section(title, heads, tuple(tuple(map(show, row)) for row in rows), note)
