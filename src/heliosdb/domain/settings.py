"""Settings of parts: frozen dataclasses whose fields are named as the language's options, read generically.

What always holds: `read_settings` gives an object whose every field is of its type and within its bounds, or
raises FederatedError INVALID_VALUE that names the field; what `settings_of` writes, `read_settings` reads
back the same. No numpy here: the extension reads settings too.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar, Union, get_args, get_origin

from heliosdb.domain.bounds import Bounds
from heliosdb.domain.errors import FederatedError, invalid_value

Setting = bool | int | float | str | tuple[bool, ...] | tuple[int, ...] | tuple[float, ...] | tuple[str, ...]
"""What a setting may be: on the wire, in a run's options and in a dataclass."""

Settings = Mapping[str, Setting]
S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class NoSettings:
    """Of a part that has none."""


def within(bounds: Bounds, **field: Any) -> Any:
    """A dataclass field whose number, or each of whose numbers, lies within bounds; takes `default`."""
    return dataclasses.field(metadata={"within": bounds}, **field)


def option_names(kind: type) -> tuple[str, ...]:
    """The names of a settings class's fields."""
    return tuple(field.name for field in dataclasses.fields(kind))


def listed_values(kind: type) -> dict[str, tuple[Any, ...] | None]:
    """The values that each field of a settings class may have, None where its type does not list them."""
    hints = _hints(kind)
    return {name: _listed(_alternatives(hints[name])[0]) for name in option_names(kind)}


@lru_cache(maxsize=256)
def _hints(kind: type) -> Mapping[str, Any]:
    """The types of a class's fields: to find them takes longer than to read the settings."""
    return typing.get_type_hints(kind)


def _listed(annotation: Any) -> tuple[Any, ...] | None:
    return get_args(annotation) if get_origin(annotation) is typing.Literal else None


def read_settings(kind: type[S], given: Mapping[str, object], *, exact: bool = False) -> S:
    """Make a settings object from what is given of its fields; what is None or absent has its default.

    exact: what is given and no field is an error, not ignored.
    """
    fields = dataclasses.fields(kind)  # type: ignore[arg-type]
    if exact and (strange := sorted(given.keys() - {field.name for field in fields})):
        raise invalid_value(f"{strange[0]} is no setting here")
    hints = _hints(kind)  # type: ignore[arg-type]
    found: dict[str, Setting | None] = {}
    for field in fields:
        value = given.get(field.name)
        if value is not None:
            found[field.name] = _read(field.name, hints[field.name], value, field.metadata.get("within"))
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            if not _is_optional(hints[field.name]):
                raise invalid_value(f"{field.name} is missing")
            found[field.name] = None
    return kind(**found)


def settings_of(settings: object) -> dict[str, Setting]:
    """The fields that are not None, by name."""
    named = ((field.name, getattr(settings, field.name)) for field in dataclasses.fields(settings))  # type: ignore[arg-type]
    return {name: value for name, value in named if value is not None}


def _alternatives(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)


def _is_optional(annotation: Any) -> bool:
    return type(None) in _alternatives(annotation)


def _read(name: str, annotation: Any, value: object, bounds: Bounds | None) -> Setting:
    for kind in _alternatives(annotation):
        found = _as(kind, value)
        if found is None:
            continue
        numbers = found if isinstance(found, tuple) else (found,)
        for number in numbers:
            if bounds is not None and not bounds.hold(_as_float(number)):
                raise outside(name, _as_float(number), bounds)
        return found
    raise invalid_value(f"{name} is not of its type")


def outside(name: str, number: float, bounds: Bounds) -> FederatedError:
    """The error for a number that is not within its bounds."""
    return invalid_value(f"{name} {number:g} is outside {bounds.least:g} … {bounds.most:g}")


def _as(kind: Any, value: object) -> Setting | None:
    """`value` as that type; None where it is of another."""
    if get_origin(kind) is tuple:
        return _as_tuple(get_args(kind)[0], value)
    if get_origin(kind) is typing.Literal:
        # By type too: 1 is equal to True and to 1.0.
        same: list[Any] = [one for one in get_args(kind) if type(one) is type(value) and one == value]
        return same[0] if same else None
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        return _as_float(value)
    exact = kind in (bool, int, str) and type(value) is kind
    return value if exact else None  # type: ignore[return-value]


def _as_float(number: Any) -> float:
    """The nearest double; a whole number beyond all of them is infinity."""
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf


def _as_tuple(kind: Any, value: object) -> Setting | None:
    if isinstance(value, str | bytes) or not isinstance(value, Sequence):
        return None
    elements = [_as(kind, one) for one in value]
    return None if any(one is None for one in elements) else tuple(elements)  # type: ignore[return-value]
