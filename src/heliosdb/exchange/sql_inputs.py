"""Columns of a table as the inputs of a model, in SQL.

What always holds: an input that has no value is NULL, and is what `scoring.rows` makes of the same value.
"""

from __future__ import annotations

from collections.abc import Mapping

from sqlglot import exp

from heliosdb.domain.encoding import ColumnEncoding, ColumnKind
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.exchange.portable import Portable, level_place
from heliosdb.exchange.sql_levels import PREFIX, Dialect, case, column, double, is_null, number, text_of

_LARGEST = 1.7976931348623157e308
_SECONDS_A_DAY = 86400.0
_HAVE_ARRAYS = frozenset({"duckdb", "postgres"})


def known_columns(model: Portable, dialect: Dialect) -> Mapping[str, exp.Expression]:
    """What the first level computes: of each column its value as a number, or of a category the index of its
    level, NULL where it is missing; of an array one for each element."""
    computed: dict[str, exp.Expression] = {}
    for place, one in enumerate(model.encoding.columns):
        for name, value in zip(known_names(place, one), _values(one, dialect), strict=True):
            computed[name] = value if model.is_inlined else _finite(value, one, dialect)
    return computed


def known_names(place: int, one: ColumnEncoding) -> list[str]:
    """The names of what a column becomes at the first level."""
    if one.kind.is_several:
        return [f"{PREFIX}c{place}_{element}" for element in range(1, one.elements + 1)]
    return [f"{PREFIX}c{place}"]


def input_columns(model: Portable, dialect: Dialect) -> list[exp.Expression]:
    """One expression over `known_columns` for each input, in their order."""
    found: list[exp.Expression] = []
    for place, one in enumerate(model.encoding.columns):
        known = [column(name) for name in known_names(place, one)]
        found += _inputs(one, known, dialect)
        if one.missing_indicator:
            found.append(missing_flag(known, dialect))
    return found


def missing_flag(known: list[exp.Expression], dialect: Dialect) -> exp.Expression:
    """1 where nothing of a column is known, else 0."""
    return case([(all_null(known), number(1.0, dialect))], number(0.0, dialect))


def all_null(known: list[exp.Expression]) -> exp.Expression:
    """Whether all are NULL."""
    condition = is_null(known[0].copy())
    for one in known[1:]:
        condition = exp.And(this=condition, expression=is_null(one.copy()))
    return condition


def _inputs(one: ColumnEncoding, known: list[exp.Expression], dialect: Dialect) -> list[exp.Expression]:
    def flag(condition: exp.Expression) -> exp.Expression:
        choices = [(is_null(known[0].copy()), exp.Null()), (condition, number(1.0, dialect))]
        return case(choices, number(0.0, dialect))

    match one.form:
        case "bins":
            return [
                flag(exp.GT(this=known[0].copy(), expression=number(edge, dialect))) for edge in one.edges
            ]
        case "indicators":
            count = len(one.level_names)
            return [
                flag(exp.EQ(this=known[0].copy(), expression=number(float(at), dialect)))
                for at in range(1, count)
            ]
        case _:
            return [value.copy() for value in known]


def _values(one: ColumnEncoding, dialect: Dialect) -> list[exp.Expression]:
    given = column(one.column)
    match one.kind:
        case ColumnKind.NUMBER:
            return [_transformed(double(given), one, dialect)]
        case ColumnKind.BOOLEAN:
            choices = [(given, number(1.0, dialect)), (exp.Not(this=given.copy()), number(0.0, dialect))]
            return [case(choices)]
        case ColumnKind.CATEGORY:
            return [_level(one, given, dialect)]
        case ColumnKind.TEXT:
            raise _cannot(one, "words of a text", dialect)
        case ColumnKind.TIME:
            return [_transformed(_days(one, given, dialect), one, dialect)]
        case ColumnKind.INTERVAL:
            return [_transformed(_interval_days(one, given, dialect), one, dialect)]
        case ColumnKind.IMAGE:
            raise _cannot(one, "an image", dialect)
        case ColumnKind.ARRAY:
            if dialect not in _HAVE_ARRAYS:
                raise _cannot(one, "an array", dialect)
            return [
                _transformed(double(_element(given, at, dialect)), one, dialect) for at in range(one.elements)
            ]


def _element(given: exp.Expression, at: int, dialect: Dialect) -> exp.Expression:
    """An element of an array, from 0 on; sqlglot writes indices of PostgreSQL as they are."""
    place = exp.Literal.number(at + (dialect == "postgres"))
    return exp.Bracket(this=given.copy(), expressions=[place])


def _level(one: ColumnEncoding, given: exp.Expression, dialect: Dialect) -> exp.Expression:
    absent, other = level_place(one)

    def index(place: float | None) -> exp.Expression:
        return exp.Null() if place is None else double(number(place, dialect))

    named = exp.Case(
        this=text_of(given, dialect),
        ifs=[
            exp.If(this=exp.Literal.string(level), true=index(float(place)))
            for place, level in enumerate(one.levels)
        ],
        default=index(other),
    )
    return case([(is_null(given.copy()), index(absent))], named if one.levels else index(other))


def _transformed(value: exp.Expression, one: ColumnEncoding, dialect: Dialect) -> exp.Expression:
    if one.form != "log1p":
        return value
    above = exp.GT(this=value, expression=number(-1.0, dialect))
    return case([(above, exp.Ln(this=exp.Add(this=number(1.0, dialect), expression=value.copy())))])


def _finite(value: exp.Expression, one: ColumnEncoding, dialect: Dialect) -> exp.Expression:
    """NULL for what is not finite: NaN is either larger than all numbers or compares as false."""
    if one.kind in (ColumnKind.CATEGORY, ColumnKind.BOOLEAN):
        return value
    within = exp.LTE(this=exp.Abs(this=value), expression=number(_LARGEST, dialect))
    return case([(within, value.copy())])


def _days(one: ColumnEncoding, given: exp.Expression, dialect: Dialect) -> exp.Expression:
    stamp = exp.Cast(this=given, to=exp.DataType.build("timestamp"))
    match dialect:
        case "postgres":
            seconds: exp.Expression = exp.Extract(this=exp.Var(this="EPOCH"), expression=stamp)
        case "duckdb":
            seconds = exp.Anonymous(this="EPOCH", expressions=[stamp])
        case _:
            raise _cannot(one, "a time", dialect)
    return exp.Div(this=double(seconds), expression=number(_SECONDS_A_DAY, dialect), typed=True, safe=False)


def _interval_days(one: ColumnEncoding, given: exp.Expression, dialect: Dialect) -> exp.Expression:
    if dialect != "postgres":
        raise _cannot(one, "an interval", dialect)
    seconds = exp.Extract(this=exp.Var(this="EPOCH"), expression=given)
    return exp.Div(this=double(seconds), expression=number(_SECONDS_A_DAY, dialect), typed=True, safe=False)


def _cannot(one: ColumnEncoding, kind: str, dialect: Dialect) -> FederatedError:
    return FederatedError(
        ErrorCode.NOT_SUPPORTED,
        f'feature "{one.column}" is {kind}, which cannot be exported as SQL for {dialect}',
        detail="What number this engine would make of it may not be what the model was trained on.",
        hint="--format onnx takes it as numbers: days since 1970-01-01, days, elements.",
    )
