"""The option feature_transforms: what is made of single features otherwise than their kind would have it.

What always holds: a transform names one feature and is read whole, or raises FederatedError INVALID_VALUE
that names it, NOT_SUPPORTED for what is not built; two that cannot both be done are an error.

    log1p(x)       the logarithm of 1 + x; of -1 and less there is none
    onehot(x)      a number as a category
    standard(x)    scaled to mean 0 and deviation 1, as every number is
    bins(x, 10)    for each edge between so many bins, about as many values in each, whether x is above it
    none(x)        not scaled
    missing(x)     one more input says whether it is missing
    hashed(x, 512) of a text its words, hashed into so many numbers

A column is named as in SQL: in double quotes where it is more than lower-case letters, digits and _.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from heliosdb.domain.bounds import Bounds
from heliosdb.domain.encoding import ColumnEncoding, ColumnKind
from heliosdb.domain.errors import FederatedError, invalid_value, not_supported

_FORM = re.compile(r'\s*(\w+)\s*\(\s*(?:"((?:[^"]|"")+)"|([^\s",()][^",()]*?))\s*(?:,\s*(\d{1,9})\s*)?\)\s*')
_FUNCTIONS = ("log1p", "onehot", "bins", "standard", "none", "missing", "hashed")
_SHAPES, _SCALINGS = ("log1p", "onehot", "bins", "hashed"), ("standard", "none")
_NUMBERS = (ColumnKind.NUMBER, ColumnKind.BOOLEAN)
BINNED = (ColumnKind.NUMBER, ColumnKind.TIME, ColumnKind.INTERVAL)
"""The kinds of columns that can be cut into bins."""

MOST_BINS = 100
HASHED = Bounds(16, 4_096)
"""Into how many numbers the words of a text are hashed."""

_COUNTED = {"bins": ("10", Bounds(2, MOST_BINS), "bins"), "hashed": ("512", HASHED, "numbers")}
"""Of the functions that are given a number: an example of it, within which bounds it lies, and of what."""

_SCALED = (*_NUMBERS, ColumnKind.TIME, ColumnKind.INTERVAL, ColumnKind.ARRAY)
_KINDS: dict[str, tuple[ColumnKind, ...]] = {
    "log1p": (*_NUMBERS, ColumnKind.INTERVAL),
    "onehot": _NUMBERS,
    "bins": BINNED,
    "standard": _SCALED,
    "none": _SCALED,
    "missing": _SCALED,
    "hashed": (ColumnKind.CATEGORY,),
}


@dataclass(frozen=True, slots=True)
class Transform:
    """One of them. text: as it was given. count: how many bins, or numbers of a text; None for all others."""

    function: str
    column: str
    text: str
    count: int | None = None


def read_transforms(texts: Sequence[str], features: Sequence[str] | None) -> tuple[Transform, ...]:
    """Read the option; features: of the model, None where it has none yet.

    FederatedError INVALID_VALUE for what is none of the forms, for a column that is no feature and for two
    that exclude each other.
    """
    found = tuple(_read(text, features) for text in texts)
    for group in (_SHAPES, _SCALINGS, ("missing",)):
        columns = [one.column for one in found if one.function in group]
        twice = next((column for column in columns if columns.count(column) > 1), None)
        if twice is not None:
            raise _invalid(f'transforms "{twice}" twice', "One of them can be done.")
    unscaled = {one.column for one in found if one.function in _SCALINGS}
    for one in found:
        if one.function == "onehot" and one.column in unscaled:
            raise _invalid(f'scales "{one.column}", of which {one.text} makes a category', None)
    return found


def _read(text: str, features: Sequence[str] | None) -> Transform:
    form = _FORM.fullmatch(text)
    function = "" if form is None else form[1].lower()
    if function == "tokens":
        raise not_supported(
            f"feature_transforms = ['{text.strip()[:80]}'] is not supported yet",
            hint="hashed(x, 512) reads the words of a text, without their order.",
        )
    if form is None or function not in _FUNCTIONS:
        raise _invalid(
            f"holds '{text[:80]}', which is none of its forms",
            f"They are {', '.join(map(_form, _FUNCTIONS))}.",
        )
    if (form[4] is not None) != (function in _COUNTED):
        raise _invalid(
            f"holds '{text[:80]}'",
            f"A number is given to {' and '.join(map(_form, _COUNTED))}, and to no other function.",
        )
    count = None if form[4] is None else int(form[4])
    if count is not None and not _COUNTED[function][1].hold(count):
        _, within, of = _COUNTED[function]
        raise _invalid(f"asks for {text.strip()}", f"There are {within.least:g} to {within.most:g} {of}.")
    return Transform(function, _column(form, features), text.strip(), count)


def _form(function: str) -> str:
    return f"{function}(x, {_COUNTED[function][0]})" if function in _COUNTED else f"{function}(x)"


def _column(form: re.Match[str], features: Sequence[str] | None) -> str:
    if form[2] is not None:
        names: tuple[str, ...] = (form[2].replace('""', '"'),)
    else:
        names = (form[3], form[3].lower())
    if features is None:
        return names[-1]
    for name in names:
        if name in features:
            return name
    raise _invalid(f'names "{names[0]}", which is no feature of the model', None)


def transformed(
    columns: Sequence[ColumnEncoding], transforms: Iterable[Transform]
) -> tuple[ColumnEncoding, ...]:
    """Return the columns with what is to be made of them; FederatedError INVALID_VALUE for one of a kind with
    which it cannot be done. Where bins end only counts tell: until then their column is a number."""
    made = {column.column: column for column in columns}
    kinds = {column.column: column.kind for column in columns}
    for one in transforms:
        if kinds[one.column] not in _KINDS[one.function]:
            raise _invalid(
                f'asks for {one.text}, and "{one.column}" is of kind {kinds[one.column]}',
                f"{_form(one.function)} is made of columns of kind {' or '.join(_KINDS[one.function])}.",
            )
        column = made[one.column]
        match one.function:
            case "log1p":
                column = replace(column, form="log1p")
            case "onehot":
                column = replace(column, kind=ColumnKind.CATEGORY)
            case "hashed":
                column = replace(column, kind=ColumnKind.TEXT, form="hashed", elements=one.count or 1)
            case "none":
                column = replace(column, scaled=False)
            case "missing":
                column = replace(column, missing_indicator=True)
            case _:
                pass
        made[one.column] = column
    if any(one.missing_indicator and one.kind is ColumnKind.CATEGORY for one in made.values()):
        raise _invalid("asks for missing(x) of a category, of which NULL is a level already", None)
    return tuple(made[column.column] for column in columns)


def _invalid(what: str, hint: str | None) -> FederatedError:
    return invalid_value(f"feature_transforms {what}", hint=hint)
