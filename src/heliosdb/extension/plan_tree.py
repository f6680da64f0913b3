"""A plan as EXPLAIN shows it: named values and groups of them, as lines of text or as one JSON document.

What always holds: both forms hold the same values under the same names; a text keeps to one line.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

Value = str | int | float | bool | None | tuple[str, ...]
Json = str | int | float | bool | list["Json"] | dict[str, "Json"] | None

UNKNOWN = "unknown"
"""What text shows for what is known only once the run is under way; JSON has null."""

_INDENT = "  "


@dataclass(frozen=True, slots=True)
class Property:
    """A named value. unit: behind a number, in text."""

    name: str
    value: Value
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Group:
    """Properties of one thing. title: what stands behind the name in text, and what JSON calls `Name`."""

    name: str
    title: str
    parts: tuple[Property | Group | Listed, ...] = ()


@dataclass(frozen=True, slots=True)
class Listed:
    """Groups of one kind: in text each by itself, in JSON an array."""

    name: str
    groups: tuple[Group, ...]


Part = Property | Group | Listed


def text_lines(plan: Group) -> list[str]:
    """Return the plan as lines, indented as PostgreSQL's own are."""
    return [f"{plan.name}: {_one_line(plan.title)}", *_indented(plan.parts, 1)]


def json_text(plan: Group) -> str:
    """Return the plan as one JSON document: an array of one object, as PostgreSQL's own are."""
    return json.dumps([{plan.name: _object(plan)}], ensure_ascii=False, indent=2)


def _indented(parts: Sequence[Part], depth: int) -> Iterator[str]:
    pad = _INDENT * depth
    for part in parts:
        match part:
            case Property():
                yield f"{pad}{part.name}: {_shown(part)}"
            case Group():
                yield f"{pad}->  {part.name}: {_one_line(part.title)}"
                yield from _indented(part.parts, depth + 3)
            case Listed():
                for group in part.groups:
                    yield from _indented((group,), depth)


def _shown(part: Property) -> str:
    value = part.value
    if value is None:
        return UNKNOWN
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ", ".join(map(_one_line, value)) or "none"
    shown = f"{value:.4g}" if isinstance(value, float) else _one_line(str(value))
    return f"{shown} {part.unit}".rstrip()


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _object(group: Group) -> Json:
    found: dict[str, Json] = {"Name": group.title}
    for part in group.parts:
        match part:
            case Property():
                found[part.name] = list(part.value) if isinstance(part.value, tuple) else part.value
            case Group():
                found[part.name] = _object(part)
            case Listed():
                found[part.name] = [_object(one) for one in part.groups]
    return found
