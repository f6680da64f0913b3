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


@dataclass(frozen=True, slots=True)
class _Field:
    """What a field of a settings class may be. kinds: any of these types."""

    name: str
    kinds: tuple[Any, ...]
    bounds: Bounds | None
    has_default: bool

    @property
    def is_optional(self) -> bool:
        return type(None) in self.kinds


@lru_cache(maxsize=256)
def _fields(kind: type) -> tuple[_Field, ...]:
    """The fields of a class, as they are read with each task."""
    missing = dataclasses.MISSING
    return tuple(
        _Field(
            field.name,
            _alternatives(_hints(kind)[field.name]),
            field.metadata.get("within"),
            field.default is not missing or field.default_factory is not missing,
        )
        for field in dataclasses.fields(kind)
    )


def _listed(annotation: Any) -> tuple[Any, ...] | None:
    return get_args(annotation) if get_origin(annotation) is typing.Literal else None


def read_settings(kind: type[S], given: Mapping[str, object], *, exact: bool = False) -> S:
    """Make a settings object from what is given of its fields; what is None or absent has its default.

    exact: what is given and no field is an error, not ignored.
    """
    fields = _fields(kind)  # type: ignore[arg-type]
    if exact and (strange := sorted(given.keys() - {field.name for field in fields})):
        raise invalid_value(f"{strange[0]} is no setting here")
    found: dict[str, Setting | None] = {}
    for field in fields:
        value = given.get(field.name)
        if value is not None:
            found[field.name] = _read(field, value)
        elif not field.has_default:
            if not field.is_optional:
                raise invalid_value(f"{field.name} is missing")
            found[field.name] = None
    return kind(**found)


def settings_of(settings: object) -> dict[str, Setting]:
    """The fields that are not None, by name."""
    named = ((field.name, getattr(settings, field.name)) for field in dataclasses.fields(settings))  # type: ignore[arg-type]
    return {name: value for name, value in named if value is not None}


def _alternatives(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)


def _read(field: _Field, value: object) -> Setting:
    name, bounds = field.name, field.bounds
    for kind in field.kinds:
        found = _as(kind, value)
        if found is None:
            continue
        numbers = found if isinstance(found, tuple) else (found,)
        for number in numbers:
            if bounds is not None and not bounds.hold(_as_float(number)):
                raise outside(name, _as_float(number), bounds)
        return found
    listed = [one for kind in field.kinds for one in _listed(kind) or ()]
    if listed and isinstance(value, str):
        raise invalid_value(f"{name} must be one of {', '.join(map(repr, listed))} here")
    raise invalid_value(f"{name} is not of its type")


def outside(name: str, number: float, bounds: Bounds) -> FederatedError:
    """The error for a number that is not within its bounds."""
    return invalid_value(f"{name} {number:g} is outside {bounds.least:g} … {bounds.most:g}")


def _as(kind: Any, value: object) -> Setting | None:
    """`value` as that type; None where it is of another."""
    if kind is float:
        return _as_float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
    if kind is bool or kind is int or kind is str:
        return value if type(value) is kind else None
    if get_origin(kind) is tuple:
        return _as_tuple(get_args(kind)[0], value)
    if get_origin(kind) is typing.Literal:
        # By type too: 1 is equal to True and to 1.0.
        same: list[Any] = [one for one in get_args(kind) if type(one) is type(value) and one == value]
        return same[0] if same else None
    return None


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
