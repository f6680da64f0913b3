"""From values of Python to literals of the language: names, strings, numbers and lists.

What always holds: whatever goes in comes out of the language's parser unchanged, or is refused (22021 for
text that no database can store, 22023 for what is no value of an option).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from heliosdb.sdk.errors import FederatedLearningError, invalid

_NOT_STORABLE = re.compile("[\0\ud800-\udfff]")


def name(value: str, what: str) -> str:
    """Return an identifier, always quoted. what: what it names, for the error."""
    return '"' + storable(value, what).replace('"', '""') + '"'


def string(value: str, what: str) -> str:
    """Return a string literal."""
    return "'" + storable(value, what).replace("'", "''") + "'"


def storable(value: object, what: str) -> str:
    """Return text that a database can hold."""
    if not isinstance(value, str):
        raise invalid(f"{what} must be a string, not {type(value).__name__}")
    if _NOT_STORABLE.search(value):
        raise FederatedLearningError("22021", f"{what} holds a character that no text of a database can hold")
    return str(value)


def options(given: Mapping[str, object]) -> str:
    """Return `(name = value, …)`; "" for none."""
    if not given:
        return ""
    listed = (
        " = ".join((name(key, "an option's name"), literal(key, value))) for key, value in given.items()
    )
    return "(" + ", ".join(listed) + ")"


def literal(option: str, value: object) -> str:
    """Return an option's value as the language writes it.

    Strings, numbers, booleans, lists of these; a mapping becomes JSON, which is how ranges and searches are
    written. Arrays and scalars of numpy are taken as what they hold.
    """
    plain = plain_value(value)
    if isinstance(plain, Mapping):
        return string(_json(option, plain), _called(option))
    if isinstance(plain, Sequence) and not isinstance(plain, str | bytes | bytearray):
        return "[" + ", ".join(_scalar(option, plain_value(element)) for element in plain) + "]"
    return _scalar(option, plain)


def plain_value(value: Any) -> Any:
    """Return what numpy, or whoever else knows `tolist`, holds; all else as it is."""
    convert = getattr(value, "tolist", None)
    return convert() if callable(convert) else value


def _scalar(option: str, value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return int.__repr__(value)
        case float():
            if not math.isfinite(value):
                raise invalid(f"{_called(option)} must be a finite number, not {float.__repr__(value)}")
            return float.__repr__(value)
        case str():
            return string(value, _called(option))
        case None:
            raise invalid(f"{_called(option)} has no value: None", hint="Leave it out for its default.")
    raise invalid(
        f"{_called(option)} cannot be a {type(value).__name__}",
        detail="A value is a string, a number, a boolean, a list of these or a mapping.",
    )


def _json(option: str, value: Mapping[Any, Any]) -> str:
    try:
        return json.dumps(dict(value), allow_nan=False, ensure_ascii=False, default=_json_value)
    except (TypeError, ValueError, RecursionError) as error:
        raise invalid(f"{_called(option)} cannot be written as JSON", detail=f"{error}.") from None


def _json_value(value: object) -> object:
    plain = plain_value(value)
    if plain is value:
        raise TypeError(f"It holds a {type(value).__name__}")
    return plain


def _called(option: str) -> str:
    return f'option "{option}"'
