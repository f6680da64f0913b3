"""Writing TOML: the small part that the daemons' configuration files use.

What always holds: what is written, `tomllib` reads back as it was given.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TypeAlias

Scalar: TypeAlias = "str | int | float | bool | Sequence[Scalar] | Mapping[str, Scalar]"
Settings: TypeAlias = "Mapping[str, Scalar | Settings]"


def render_toml(settings: Settings) -> str:
    """`settings` as a TOML document: scalars first, then a table for each mapping."""
    return "".join(_render_table(settings, ()))


def _render_table(settings: Settings, path: tuple[str, ...]) -> list[str]:
    header = ".".join(_render_string(part) for part in path)
    lines = [f"\n[{header}]\n"] if path else []
    tables: list[str] = []
    for name, value in settings.items():
        if isinstance(value, Mapping):
            tables += _render_table(value, (*path, name))
        else:
            lines.append(f"{_render_string(name)} = {_render_scalar(value)}\n")
    return lines + tables


def _render_scalar(value: Scalar) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _render_string(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_render_string(k)} = {_render_scalar(v)}" for k, v in value.items()) + "}"
    if isinstance(value, Sequence):
        return "[" + ", ".join(map(_render_scalar, value)) + "]"
    return repr(value)


def _render_string(value: str) -> str:
    # A JSON string is a TOML basic string, but for DEL, which TOML wants escaped.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
