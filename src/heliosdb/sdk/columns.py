"""From values of Python to columns of PostgreSQL: which type a column is, and its values as the text of one
array.

What always holds: a number arrives as the very float that it was; None is NULL; what is no value of a
feature, NaN and infinity among them, is refused (22023) before anything is asked.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from heliosdb.sdk.errors import invalid
from heliosdb.sdk.literals import storable

_LARGEST = 2**63
_MISSING = "None says that it is missing."


@dataclass(frozen=True, slots=True)
class Column:
    """A feature's values: `type` is one of TYPES, `texts` are its values as PostgreSQL reads them.

    kinds: which of TYPES the values themselves are, of which `type` is what they have in common.
    """

    name: str
    type: str
    texts: Sequence[str | None]
    kinds: frozenset[str]

    def array(self) -> str:
        """Return the text of an array of the values."""
        listed = ("NULL" if text is None else _quoted(text) for text in self.texts)
        return "{" + ",".join(listed) + "}"


TYPES = (
    "float8",
    "bigint",
    "numeric",
    "boolean",
    "text",
    "date",
    "timestamp",
    "timestamptz",
    "time",
    "interval",
    "float8[]",
)
"""What a column may be; an array of arrays there is not, so values of the last travel as texts."""


def read_column(
    feature: str, values: Sequence[Any], first: int = 0, before: Set[str] = frozenset()
) -> Column:
    """Return a feature's values as a column.

    first: the row of the first one. before: the kinds of values of earlier rows, with which these must go.
    """
    kinds: set[str] = set()
    texts: list[str | None] = []
    for place, value in enumerate(values, first):
        plain = plain_scalar(value)
        if plain is None:
            texts.append(None)
            continue
        kind, text = _read(feature, plain, place)
        kinds.add(kind)
        texts.append(text)
    _common(feature, kinds | before)
    return Column(feature, _common(feature, kinds), texts, frozenset(kinds | before))


def json_value(feature: str, value: Any) -> Any:
    """Return a feature's value as JSON has it: numbers and lists as they are, all else as text."""
    plain = plain_scalar(value)
    if plain is None or isinstance(plain, bool):
        return plain
    kind, text = _read(feature, plain, None)
    if kind == "float8[]":
        return [_element(feature, element, None) for element in plain]
    return plain if kind in ("float8", "bigint") else text


def plain_scalar(value: Any) -> Any:
    """Return what a scalar or array of numpy holds; all else as it is."""
    if type(value).__name__ in ("datetime64", "timedelta64"):
        # In nanoseconds numpy would give a number.
        return value.astype(type(value).__name__ + "[us]").item()
    convert = getattr(value, "tolist", None)
    return convert() if callable(convert) else value


def _read(feature: str, value: Any, place: int | None) -> tuple[str, str]:
    for kinds, read in _READERS:
        if isinstance(value, kinds):
            return read(feature, value, place)
    raise invalid(
        _where(feature, place) + f" is a {type(value).__name__}",
        detail="A value is a number, a boolean, a text, a date, a time, an interval, a list of numbers, or"
        " the bytes of an image.",
    )


def _read_integer(_feature: str, value: int, _place: int | None) -> tuple[str, str]:
    return ("bigint" if -_LARGEST <= value < _LARGEST else "numeric"), int.__repr__(value)


def _read_float(feature: str, value: float, place: int | None) -> tuple[str, str]:
    return "float8", float.__repr__(_finite(feature, value, place))


def _read_decimal(feature: str, value: Decimal, place: int | None) -> tuple[str, str]:
    if not value.is_finite():
        raise invalid(_where(feature, place) + f" is {value}", hint=_MISSING)
    return "numeric", format(value, "f")


def _read_time(_feature: str, value: datetime, _place: int | None) -> tuple[str, str]:
    return ("timestamp" if value.tzinfo is None else "timestamptz"), value.isoformat()


def _read_interval(_feature: str, value: timedelta, _place: int | None) -> tuple[str, str]:
    seconds = Decimal(value.seconds) + Decimal(value.microseconds) / 1_000_000
    return "interval", f"{value.days} days {seconds:f} seconds"


def _read_list(feature: str, value: Sequence[Any], place: int | None) -> tuple[str, str]:
    elements = (_element(feature, element, place) for element in value)
    listed = ("NULL" if element is None else float.__repr__(element) for element in elements)
    return "float8[]", "{" + ",".join(listed) + "}"


# A datetime is a date, and a bool an int: who comes first decides.
_Reader = Callable[[str, Any, "int | None"], tuple[str, str]]
_READERS: tuple[tuple[tuple[type, ...], _Reader], ...] = (
    ((bool,), lambda _feature, value, _place: ("boolean", "true" if value else "false")),
    ((int,), _read_integer),
    ((float,), _read_float),
    ((Decimal,), _read_decimal),
    ((str,), lambda feature, value, place: ("text", storable(value, _where(feature, place)))),
    ((UUID,), lambda _feature, value, _place: ("text", str(value))),
    ((datetime,), _read_time),
    ((date,), lambda _feature, value, _place: ("date", value.isoformat())),
    ((time,), lambda _feature, value, _place: ("time", value.isoformat())),
    ((timedelta,), _read_interval),
    ((list, tuple), _read_list),
    ((bytes, bytearray), lambda _feature, value, _place: ("bytea", "\\x" + value.hex())),
)


def _element(feature: str, value: Any, place: int | None) -> float | None:
    plain = plain_scalar(value)
    return None if plain is None else _finite(feature, plain, place)


def _finite(feature: str, value: Any, place: int | None) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise invalid(_where(feature, place) + f" has an element that is a {type(value).__name__}, no number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise invalid(
            _where(feature, place) + f" is {float.__repr__(number)}, no finite number", hint=_MISSING
        )
    return number


_NUMBERS = frozenset({"float8", "bigint", "numeric"})


def _common(feature: str, kinds: Set[str]) -> str:
    if len(kinds) <= 1:
        return next(iter(kinds), "text")
    if kinds <= _NUMBERS:
        return "numeric" if "numeric" in kinds else "float8"
    if kinds == {"date", "timestamp"}:
        return "timestamp"
    raise invalid(
        f'feature "{feature}" has values of several types: {", ".join(sorted(kinds))}',
        hint="Values of one feature are of one type.",
    )


def _where(feature: str, place: int | None) -> str:
    return f'feature "{feature}"' if place is None else f'feature "{feature}" in row {place}'


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def dump(features: dict[str, Any]) -> str:
    """Return one row's features as JSON."""
    row = {feature: json_value(feature, value) for feature, value in features.items()}
    return json.dumps(row, allow_nan=False, ensure_ascii=False)
