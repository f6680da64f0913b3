"""Queries over queries: each level computes columns from those of the level below it.

What always holds: names are quoted, texts are literals, and numbers are doubles in every dialect; all of it
is an expression tree, of which sqlglot makes text at the end.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sqlglot import exp

PREFIX: Final = "heliosdb_"
"""Of computed columns: no column that is kept begins so."""

Dialect = str

DIALECTS: Final = (
    "bigquery", "clickhouse", "duckdb", "mysql", "postgres", "snowflake", "spark", "sqlite", "trino",
)  # fmt: skip

COMPUTES_APART: Final = frozenset({"duckdb", "postgres", "sqlite"})
"""Where a level can be told to be computed by itself."""

_DECIMAL: Final = frozenset({"postgres", "snowflake"})
"""Where a number with an exponent is a decimal, until it is cast."""

_SMALLEST = 1e-300
_ADDED_AT_ONCE = 32


def number(value: float, dialect: Dialect) -> exp.Expression:
    """A double; what is too small for every engine to read is 0."""
    given = 0.0 if abs(value) < _SMALLEST else float(value)
    text = repr(abs(given))
    literal: exp.Expression = exp.Literal.number(text if "e" in text else f"{text}e0")
    if dialect in _DECIMAL:
        literal = double(literal)
    return exp.Paren(this=exp.Neg(this=literal)) if given < 0 else literal


def double(value: exp.Expression) -> exp.Expression:
    """Cast to a double."""
    return exp.Cast(this=value, to=exp.DataType.build("double"))


def column(name: str) -> exp.Expression:
    """A column of the level below."""
    return exp.column(exp.to_identifier(name, quoted=True))


def text_of(value: exp.Expression, dialect: Dialect) -> exp.Expression:
    """A text that compares as bytes do."""
    cast = exp.Cast(this=value, to=exp.DataType.build("text"))
    if dialect == "mysql":
        return exp.Collate(this=cast, expression=exp.Var(this="utf8mb4_0900_bin"))
    return cast


def add(parts: Sequence[exp.Expression]) -> exp.Expression:
    """The sum of at least one expression, in groups, so that no engine's stack is too small for it."""
    if len(parts) > _ADDED_AT_ONCE:
        groups = [parts[at : at + _ADDED_AT_ONCE] for at in range(0, len(parts), _ADDED_AT_ONCE)]
        return add([exp.Paren(this=add(group)) for group in groups])
    total = parts[0]
    for part in parts[1:]:
        total = exp.Add(this=total, expression=part)
    return total


def multiply(one: exp.Expression, other: exp.Expression) -> exp.Expression:
    """A product; sums in it stand in parentheses."""
    return exp.Mul(this=_factor(one), expression=_factor(other))


def _factor(value: exp.Expression) -> exp.Expression:
    return exp.Paren(this=value) if isinstance(value, exp.Binary) else value


def case(
    choices: Iterable[tuple[exp.Expression, exp.Expression]], otherwise: exp.Expression | None = None
) -> exp.Expression:
    """CASE WHEN … THEN … ELSE otherwise END, or what is otherwise where there is no choice."""
    ifs = [exp.If(this=condition, true=value) for condition, value in choices]
    if not ifs:
        return exp.Null() if otherwise is None else otherwise
    return exp.Case(ifs=ifs, default=otherwise)


def is_null(value: exp.Expression) -> exp.Expression:
    """Value IS NULL."""
    return exp.Is(this=value, expression=exp.Null())


def coalesce(value: exp.Expression, otherwise: exp.Expression) -> exp.Expression:
    """The value, or what is otherwise where it is NULL."""
    return exp.Coalesce(this=value, expressions=[otherwise])


def clamp(value: exp.Expression, bound: float, dialect: Dialect) -> exp.Expression:
    """The value, cut to ±bound. value stands in it three times: a column."""
    most, least = number(bound, dialect), number(-bound, dialect)
    return case(
        [(exp.GT(this=value.copy(), expression=most), most.copy()),
         (exp.LT(this=value.copy(), expression=least), least.copy())],
        value.copy(),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Levels:
    """A query, on which further levels are put.

    kept: columns that are handed through. apart: each level is computed once, and not put into the next as an
    expression, as planners do: an expression that uses each part of the one below twice doubles at each
    level.
    """

    query: exp.Select
    kept: tuple[str, ...]
    apart: bool
    below: tuple[exp.CTE, ...] = ()
    depth: int = 0

    @classmethod
    def over(
        cls, table: exp.Table, kept: Sequence[str], computed: Mapping[str, exp.Expression], *, apart: bool
    ) -> Levels:
        """The first level, over a table."""
        selected = [*map(column, kept), *_aliased(computed)]
        return cls(exp.Select(expressions=selected).from_(table), tuple(kept), apart)

    def then(self, computed: Mapping[str, exp.Expression]) -> Levels:
        """One more level."""
        selected = exp.Select(expressions=[*map(column, self.kept), *_aliased(computed)])
        name = exp.to_identifier(f"{PREFIX}level_{self.depth}", quoted=True)
        if not self.apart:
            query = selected.from_(self.query.subquery(name))
            return Levels(query, self.kept, self.apart, (), self.depth + 1)
        part = exp.CTE(this=self.query, alias=exp.TableAlias(this=name), materialized=True)
        query = selected.from_(exp.Table(this=name.copy()))
        return Levels(query, self.kept, self.apart, (*self.below, part), self.depth + 1)

    def text(self, dialect: Dialect) -> str:
        """The query."""
        whole = self.query.copy()
        if self.below:
            whole.set("with_", exp.With(expressions=list(self.below)))
        return whole.sql(dialect=dialect, pretty=True)


def _aliased(computed: Mapping[str, exp.Expression]) -> list[exp.Expression]:
    return [
        exp.Alias(this=value, alias=exp.to_identifier(name, quoted=True)) for name, value in computed.items()
    ]
