"""One option's value: its type, what is allowed, and its canonical form.

What always holds: a canonical value survives JSON unchanged, numbers are finite, and a refused value is
named in the error together with the option and what is allowed.
"""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TypeAlias
from urllib.parse import urlsplit

from federated_sql.clause_values import MAX_NAME_BYTES, Option, OptionValue, Scalar
from federated_sql.errors import ErrorCode, FederatedError
from federated_sql.notify_targets import read_target

OptionJson: TypeAlias = bool | int | float | str | list["OptionJson"] | dict[str, "OptionJson"] | None

MAX_TEXT = 65_536
"""Longest text option, in characters: room for a chain of certificates."""


class OptionType(Enum):
    """What a value may look like; the value of each member is how error messages call it."""

    INTEGER = "an integer"
    NUMBER = "a number"
    BOOLEAN = "true or false"
    TEXT = "a string"
    CHOICE = "one of"
    POLICY = "one of these forms"
    VERSION = "a version's number, the name of a tag, or latest"
    URL = "an address https://host:port"
    TARGET = "a mail address, https://host/path, or pg:channel"
    TEXT_ARRAY = "an array of different strings"
    INTEGER_ARRAY = "an array of integers"
    RANGES = """a JSON object of ranges, '{"column": [lower, upper]}'"""
    SEARCH = """a JSON object of training options and the values to try, '{"option": [value, value]}'"""


@dataclass(frozen=True, slots=True)
class RangeLimits:
    """What each declared range must keep to.

    ends: largest magnitude of either; resolution: least width as a part of the larger end's magnitude.
    """

    ends: float
    least_width: float
    most_width: float
    resolution: float

    def hold(self, lower: float, upper: float) -> bool:
        """Whether a range keeps to them."""
        largest, width = max(abs(lower), abs(upper)), upper - lower
        return (
            largest <= self.ends
            and self.least_width <= width <= self.most_width
            and width >= self.resolution * largest
        )

    def describe(self) -> str:
        """Say it in words."""
        return (
            f"with ends from {-self.ends:g} to {self.ends:g}, at most {self.most_width:g} apart and at least"
            f" {self.least_width:g} and {self.resolution:g} of the larger end's magnitude"
        )


@dataclass(frozen=True, slots=True)
class OptionSpec:
    """One row of the option table.

    default None: not set; `derived` then says where the value comes from. minimum and maximum are inclusive,
    above and below exclusive; for arrays of text and ranges, maximum counts elements. built_values None:
    every allowed value has its effect; else only these do. of_parts: what has an effect, the parts say
    (`with_parts`); built_values are then those that need no part. custom: what a value that is none of the
    choices may name. identifier: its text names a column or a dataset, which has at most 63 bytes.
    range_limits: of each range. missing: why the other values have no effect, where there is more to say.
    """

    name: str
    type: OptionType
    default: OptionJson
    meaning: str
    derived: str | None = None
    minimum: float | None = None
    maximum: float | None = None
    above: float | None = None
    below: float | None = None
    choices: tuple[Scalar, ...] = ()
    built: bool = True
    built_values: tuple[Scalar, ...] | None = None
    of_parts: bool = False
    custom: str | None = None
    identifier: bool = False
    range_limits: RangeLimits | None = None
    missing: str | None = None

    @property
    def in_effect_by_default(self) -> bool:
        """Whether there is a default and it has an effect today."""
        return self.default is not None and self.has_effect(self.default)

    def has_effect(self, value: OptionJson) -> bool:
        """Whether a canonical value has its effect today."""
        if self.type is OptionType.POLICY:
            value = policy_form(str(value))
        if self.custom is not None and value not in self.choices:
            return self.built
        return self.built and (self.built_values is None or value in self.built_values)


@dataclass(frozen=True, slots=True)
class Built:
    """What the parts that there are give an effect to.

    options: the options that some part reads. values: of the options that name parts, or that parts read some
    values of only, those that there are; a part that takes an argument as `name(k)`.
    """

    options: frozenset[str] = frozenset()
    values: Mapping[str, tuple[Scalar, ...]] = field(default_factory=dict)


NO_PARTS = Built()
"""For what does not depend on parts."""


def with_parts(spec: OptionSpec, built: Built) -> OptionSpec:
    """Return the row as the parts that there are make it; the name of a further part is a choice too."""
    if not spec.of_parts:
        return spec
    if spec.name in built.options:
        return replace(spec, built_values=None)
    values = tuple(dict.fromkeys((*(spec.built_values or ()), *built.values.get(spec.name, ()))))
    if not values:
        return replace(spec, built=False)
    if set(values) == {False, True}:
        return replace(spec, built_values=None)
    if not spec.choices:
        return replace(spec, built_values=values)
    choices = tuple(dict.fromkeys((*spec.choices, *values)))
    working = tuple(choice for choice in choices if choice in values)
    return replace(spec, choices=choices, built_values=None if working == choices else working)


def allowed_text(value: OptionJson) -> str:
    """Write a value as one would type it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"'{value}'" if isinstance(value, str) else str(value)


def describe_allowed(spec: OptionSpec) -> str:
    """Say in words what `spec` allows: `an integer from 1 to 100000`, `one of 'zstd', 'lz4'`."""
    if spec.choices:
        head = "" if spec.type is OptionType.INTEGER else spec.type.value.removesuffix("one of")
        listed = ", ".join(map(allowed_text, spec.choices))
        if len(spec.choices) == 1 and not spec.custom:
            return listed
        return f"{head or 'one of'} {listed}".strip() + (f", or {spec.custom}" if spec.custom else "")
    words = [spec.type.value]
    if spec.type is OptionType.SEARCH:
        return f"{words[0]}, at most {spec.maximum:.0f} combinations"
    if spec.type is OptionType.TEXT_ARRAY or spec.type is OptionType.RANGES:
        counted = f"{words[0]}, at least one and at most {spec.maximum:.0f}"
        return counted if spec.range_limits is None else f"{counted}, {spec.range_limits.describe()}"
    for bound, word in ((spec.minimum, "at least"), (spec.above, "greater than")):
        if bound is not None:
            words.append(f"{word} {bound:.16g}")
    for bound, word in ((spec.maximum, "at most"), (spec.below, "less than")):
        if bound is not None:
            words.append(f"{word} {bound:.16g}")
    return " and ".join([" ".join(words[:2]), *words[2:]])


def canonical(spec: OptionSpec, option: Option) -> OptionJson:
    """Return the option's canonical value; raise 22023 naming the option, the value and what is allowed."""
    try:
        value = _CONVERTERS[spec.type](spec, option.value)
        if spec.identifier:
            _check_identifiers(spec, value)
    except FederatedError as error:
        raise FederatedError(
            error.code, error.message, detail=error.detail, hint=error.hint, position=option.position or None
        ) from None
    except (ValueError, RecursionError):
        shown = _show(option.value)
        raise FederatedError(
            ErrorCode.INVALID_VALUE,
            f'invalid value for option "{spec.name}": {shown}',
            detail=f"Allowed: {describe_allowed(spec)}.",
            hint=_hint(spec, option.value),
            position=option.position or None,
        ) from None
    return value


def _check_identifiers(spec: OptionSpec, value: OptionJson) -> None:
    """Raise 42602 for a name that no column can have."""
    for name in [value] if isinstance(value, str) else value if isinstance(value, list | dict) else ():
        size = len(str(name).encode())
        if size > MAX_NAME_BYTES:
            raise FederatedError(
                ErrorCode.INVALID_NAME,
                f'option "{spec.name}" holds a name that is too long',
                detail=f"{_show(str(name))} has {size} bytes; at most {MAX_NAME_BYTES} are allowed.",
            )


def _hint(spec: OptionSpec, value: OptionValue) -> str | None:
    if spec.type in (OptionType.NUMBER, OptionType.INTEGER) and isinstance(value, str):
        return "A number is written without quotes." if _NUMERAL.fullmatch(value.strip()) else None
    if spec.choices and isinstance(value, str):
        working = list(map(str, spec.choices if spec.built_values is None else spec.built_values))
        near = difflib.get_close_matches(value.lower(), working, 1, 0.5)
        return f"Did you mean '{near[0]}'?" if near else None
    single = spec.type is OptionType.TEXT_ARRAY and isinstance(value, str) and value.strip()
    return f"An array is written in brackets: [{_show(value)}]." if single and "[" not in str(value) else None


_NUMERAL = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?")


def _show(value: OptionValue) -> str:
    text = str(list(value)) if isinstance(value, tuple) else allowed_text(value)
    return text if len(text) <= 100 else text[:100] + "…"


def _within(spec: OptionSpec, value: float) -> bool:
    return (
        (spec.minimum is None or value >= spec.minimum)
        and (spec.maximum is None or value <= spec.maximum)
        and (spec.above is None or value > spec.above)
        and (spec.below is None or value < spec.below)
    )


def _require(condition: bool) -> None:
    if not condition:
        raise ValueError


def _integer(spec: OptionSpec, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError
    _require(_within(spec, value) and (not spec.choices or value in spec.choices))
    return value


def _number(spec: OptionSpec, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError
    try:
        number = float(value)
    except OverflowError:
        raise ValueError from None
    _require(math.isfinite(number) and _within(spec, number))
    return number


_NOT_STORABLE = re.compile("[\0\ud800-\udfff]")
_BOOLEANS = {"true": True, "on": True, "false": False, "off": False}


def _boolean(_spec: OptionSpec, value: object) -> bool:
    if isinstance(value, str) and value.lower() in _BOOLEANS:
        return _BOOLEANS[value.lower()]
    if not isinstance(value, bool):
        raise ValueError
    return value


def _text(_spec: OptionSpec, value: object) -> str:
    if not isinstance(value, str):
        raise ValueError
    _require(bool(value.strip()) and len(value) <= MAX_TEXT and _NOT_STORABLE.search(value) is None)
    return value


_CUSTOM_NAME = re.compile(r"[^\W\d]\w*")


def _choice(spec: OptionSpec, value: object) -> OptionJson:
    text = _text(spec, value)
    for choice in spec.choices:
        if str(choice).lower() == text.lower():
            return choice
    if is_custom(spec, text.lower()):
        return text.lower()
    raise ValueError


def is_custom(spec: OptionSpec, name: str) -> bool:
    """Whether a value may be the name of what people make themselves: in lower case, at most as long as a
    name may be, none of the choices, and not so near to one that it would be a misspelt one."""
    return (
        spec.custom is not None
        and _CUSTOM_NAME.fullmatch(name) is not None
        and name == name.lower()
        and len(name.encode()) <= MAX_NAME_BYTES
        and not _nearest(spec, name)
    )


def _nearest(spec: OptionSpec, text: str) -> bool:
    """Whether `text` looks like a misspelt choice; a custom function would rather be named otherwise."""
    return bool(difflib.get_close_matches(text.lower(), list(map(str, spec.choices)), 1, 0.8))


_POLICY = re.compile(r"([a-z_]+)(?:\(\s*(\d{1,5})\s*\))?")


def read_policy(text: str) -> tuple[str, int | None]:
    """Return the name and the count of `all` or `name(k)`, k ≥ 1; ValueError for any other text."""
    match = _POLICY.fullmatch(text.strip().lower())
    if match is None:
        raise ValueError
    name, count = match.groups()
    _require(count is None or int(count) >= 1)
    return name, None if count is None else int(count)


def policy_form(text: str) -> str:
    """Return `name(k)` for whatever count, `name` without one."""
    name, count = read_policy(text)
    return name if count is None else f"{name}(k)"


def _policy(spec: OptionSpec, value: object) -> str:
    text = _text(spec, value)
    _require(policy_form(text) in spec.choices)
    name, count = read_policy(text)
    return name if count is None else f"{name}({count})"


_TAG = re.compile(r"[^@\x00-\x1f\x7f-\x9f\ud800-\udfff]+")
LATEST = "latest"
"""Of versions: whichever is current."""


def _version(_spec: OptionSpec, value: object) -> str:
    """A number as its digits; a tag as it is."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError
    text = str(value).strip()
    if text.lower() == LATEST:
        return LATEST
    if text.isascii() and text.isdigit():
        _require(len(text) <= 20 and 0 < int(text) < 2**31)
        return str(int(text))
    _require(not isinstance(value, int) and _TAG.fullmatch(text) is not None)
    _require(len(text.encode()) <= MAX_NAME_BYTES)
    return text


def _url(spec: OptionSpec, value: object) -> str:
    text = _text(spec, value)
    parts = urlsplit(text)
    _require(parts.scheme == "https" and bool(parts.hostname) and parts.port is not None and parts.port > 0)
    _require(parts.path in ("", "/") and not parts.query and not parts.fragment and "@" not in parts.netloc)
    _require(text.isascii() and text.isprintable() and " " not in text and "\\" not in text)
    return text.removesuffix("/")


def _target(spec: OptionSpec, value: object) -> str:
    text = _text(spec, value)
    try:
        read_target(text)
    except FederatedError:
        raise ValueError from None
    return text


def _elements(value: object) -> list[object]:
    """An array as typed, or a string that holds a JSON array."""
    if isinstance(value, tuple):
        return list(value)
    if isinstance(value, str) and value.lstrip().startswith("["):
        loaded = json.loads(value)
        if isinstance(loaded, list):
            return loaded
    raise ValueError


def _text_array(spec: OptionSpec, value: object) -> list[OptionJson]:
    elements = [_text(spec, element) for element in _elements(value)]
    _require(0 < len(elements) <= (spec.maximum or MAX_TEXT) and len(set(elements)) == len(elements))
    return list(elements)


def _integer_array(spec: OptionSpec, value: object) -> list[OptionJson]:
    elements = [_integer(spec, element) for element in _elements(value)]
    _require(0 < len(elements) <= 1_000)
    return list(elements)


def _no_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    table = dict(pairs)
    _require(len(table) == len(pairs))
    return table


def _ranges(spec: OptionSpec, value: object) -> dict[str, OptionJson]:
    """Column → [lower, upper], finite, lower < upper."""
    loaded = json.loads(_text(spec, value), object_pairs_hook=_no_duplicates)
    if not isinstance(loaded, dict):
        raise ValueError
    _require(0 < len(loaded) <= (spec.maximum or MAX_TEXT))
    unbounded = OptionSpec(spec.name, OptionType.NUMBER, None, "")
    ranges: dict[str, OptionJson] = {}
    for column, bounds in loaded.items():
        if not isinstance(bounds, list) or len(bounds) != 2 or not column:
            raise ValueError
        lower, upper = (_number(unbounded, bound) for bound in bounds)
        _require(lower < upper and math.isfinite(upper - lower))
        _require(spec.range_limits is None or spec.range_limits.hold(lower, upper))
        ranges[column] = [lower, upper]
    return ranges


def _search(spec: OptionSpec, value: object) -> dict[str, OptionJson]:
    """Option → [value, …], as typed: whether it is an option's value is for `search_option` to say."""
    loaded = json.loads(_text(spec, value), object_pairs_hook=_no_duplicates)
    if not isinstance(loaded, dict):
        raise ValueError
    _require(bool(loaded) and all(isinstance(values, list) and values for values in loaded.values()))
    _require(math.prod(map(len, loaded.values())) <= (spec.maximum or MAX_TEXT))
    return loaded


_CONVERTERS: dict[OptionType, Callable[[OptionSpec, object], OptionJson]] = {
    OptionType.INTEGER: _integer,
    OptionType.NUMBER: _number,
    OptionType.BOOLEAN: _boolean,
    OptionType.TEXT: _text,
    OptionType.CHOICE: _choice,
    OptionType.POLICY: _policy,
    OptionType.VERSION: _version,
    OptionType.URL: _url,
    OptionType.TARGET: _target,
    OptionType.TEXT_ARRAY: _text_array,
    OptionType.INTEGER_ARRAY: _integer_array,
    OptionType.RANGES: _ranges,
    OptionType.SEARCH: _search,
}
