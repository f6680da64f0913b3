"""Which values a column can have, where its CHECK constraint or its domain's lists them.

What always holds: this reads what PostgreSQL prints of a constraint (`pg_get_constraintdef`), and never a
row; what is printed in another form than those below declares nothing. A NULL is no value: every CHECK lets
it pass.

    CHECK ((c = ANY (ARRAY[0, 1])))            c IN (0, 1), and = ANY of an array
    CHECK (((c = 0) OR (c = 1)))
    CHECK ((c = 1))
    CHECK (((c >= 0) AND (c <= 1)))            BETWEEN, where c is an integer
"""

from __future__ import annotations

import re

from heliosdb.domain.datasets import INTEGER_TYPES

MOST_VALUES = 32
"""A longer list is no vocabulary of classes."""

MOST_CHARACTERS = 63
"""Of one value; an enum's label has no more bytes."""

_TYPE = r'::[\w". ]+(?:\([\d,]+\))?'
_BARE = r"'(?:[^']|'')*'|-?\d+(?:\.\d+)?"
# A number is cast as (1)::numeric, a negative one as ('-1'::integer)::numeric.
_CAST = rf"(?:{_BARE}|\((?:{_BARE})\))(?:{_TYPE})?"
_VALUE = rf"(?:{_CAST}|\({_CAST}\){_TYPE})"
_LIST = rf"ARRAY\[({_VALUE}(?:, {_VALUE})*)\]"
_LITERAL = re.compile(_BARE)
_ONE = re.compile(_VALUE)
# Casts of the column under which different values stay different: 0.4 cast to an integer is 0.
_LOSSLESS = ("text", "character varying", "numeric", "double precision")


def declared_values(definition: str, column: str, kind: str) -> tuple[str, ...] | None:
    """Return the values that a CHECK lets through, in its order; None where it lists none, or too many.

    definition: as printed. column: as it is named in there: quoted where it has to be, or VALUE of a domain.
    kind: its type; a domain is what it is made of.
    """
    name = re.escape(column)
    casts = "|".join([*_LOSSLESS, *(sorted(INTEGER_TYPES) if kind in INTEGER_TYPES else ())])
    subject = rf"(?:{name}|\({name}\)::(?:{casts}))"
    listed = re.fullmatch(
        rf"CHECK \(\({subject} = ANY \((?:{_LIST}|\({_LIST}\){_TYPE}\[\])\)\)\)", definition
    )
    if listed is not None:
        return _values(_ONE.findall(listed[1] or listed[2]))
    single = re.fullmatch(rf"CHECK \(\({subject} = ({_VALUE})\)\)", definition)
    if single is not None:
        return _values([single[1]])
    if re.fullmatch(rf"CHECK \(\((?:\({subject} = {_VALUE}\)(?: OR )?)+(?<! OR )\)\)", definition):
        return _values(re.findall(rf"\({subject} = ({_VALUE})\)", definition))
    between = re.fullmatch(
        rf"CHECK \(\(\({subject} >= ({_VALUE})\) AND \({subject} <= ({_VALUE})\)\)\)", definition
    )
    return None if between is None or kind not in INTEGER_TYPES else _between(between[1], between[2])


def _values(printed: list[str]) -> tuple[str, ...] | None:
    return fitting(tuple(dict.fromkeys(map(_unquoted, printed))))


def fitting(values: tuple[str, ...]) -> tuple[str, ...] | None:
    """Return the values where they are a vocabulary that can be told: not too many, none empty or too
    long."""
    fits = 0 < len(values) <= MOST_VALUES and all(0 < len(value) <= MOST_CHARACTERS for value in values)
    return values if fits else None


def _between(lowest: str, highest: str) -> tuple[str, ...] | None:
    ends = [_unquoted(lowest), _unquoted(highest)]
    if not all(re.fullmatch(r"-?\d{1,18}", end) for end in ends):
        return None
    low, high = map(int, ends)
    return tuple(map(str, range(low, high + 1))) if 0 <= high - low < MOST_VALUES else None


def _unquoted(printed: str) -> str:
    """Return the text of a printed constant, without its quotes and casts."""
    found = _LITERAL.search(printed)
    assert found is not None
    text = found[0]
    return text[1:-1].replace("''", "'") if text.startswith("'") else text
