"""Predictions: one row by federated_predict, many by federated_predict_batch, some thousands in a statement.

What always holds: which number is predicted is the server's business alone; what goes there is the features
and nothing else of a table. Of a table of any length no more than one statement's rows are on the way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from psycopg.sql import SQL, Composed, Identifier, Literal

from heliosdb.sdk.columns import TYPES, Column, dump, read_column
from heliosdb.sdk.requests import Operation, Query, Row, query
from heliosdb.sdk.tables import PREDICTION, Answer, Table, read_table

ROWS_A_STATEMENT = 10_000

_BATCH = SQL(
    """SELECT p.prediction FROM federated_predict_batch($1::text, format($2::text, VARIADIC $3::text[])) AS
    p ({}) ORDER BY p.place"""
)
_PROBABILITIES = SQL(
    """SELECT federated_proba.{}(to_jsonb(q), true) AS prediction
    FROM (SELECT {} FROM unnest({}) WITH ORDINALITY AS q ({})) AS q ORDER BY q.{}"""
)
_TYPES = {kind: SQL(kind) for kind in TYPES}
_LISTS = "float8[]"


@dataclass(frozen=True, slots=True)
class Description:
    """What is known of a version before rows are sent: its features in order, and classes where several."""

    reference: str
    features: Sequence[str]
    function_name: str
    version_key: UUID
    classes: Sequence[str] | None


def predict(reference: str, rows: Any) -> Operation[Any]:
    """Predict for a dict of features, or for rows in whatever kind of table."""
    if isinstance(rows, Mapping):
        return (yield from _predict_one(reference, rows))
    table = read_table(rows)
    described = yield from _describe(reference)
    while True:
        answer = yield from _predict_many(described, table, table.given(described.features, reference))
        if table.length <= ROWS_A_STATEMENT:
            return answer
        # Another version may have become current between two statements: rows are predicted by one.
        before, described = described, (yield from _describe(reference))
        if before.version_key == described.version_key:
            return answer


def _describe(reference: str) -> Operation[Description]:
    [row] = yield query("describe_version", reference)
    return Description(reference, **row)


def _predict_one(reference: str, features: Mapping[str, Any]) -> Operation[Any]:
    row = dump({str(feature): value for feature, value in features.items()})
    described = yield from _describe(reference)
    asked = "predict" if described.classes is None else "predict_probabilities"
    [answer] = yield query(asked, reference, row)
    return answer["prediction"]


def _predict_many(described: Description, table: Table, given: Sequence[str]) -> Operation[Any]:
    """Predict for all rows of a table, a statement's worth after the other; given: the features it has."""
    ask = _ask_numbers if described.classes is None else _ask_probabilities
    kinds: dict[str, Set[str]] = dict.fromkeys(given, frozenset())
    parts: list[Any] = []
    # Of no rows nothing is asked.
    for start in range(0, table.length, ROWS_A_STATEMENT):
        end = min(start + ROWS_A_STATEMENT, table.length)
        columns = [
            read_column(feature, table.values(feature, start, end), start, kinds[feature])
            for feature in given
        ]
        kinds = {column.name: column.kinds for column in columns}
        rows = yield ask(described, columns)
        parts.append(table.give_back(_answer(described, rows)))
    return table.join(parts or [table.give_back(_answer(described, []))])


def _answer(described: Description, rows: Sequence[Row]) -> Answer:
    predictions = [row["prediction"] for row in rows]
    if described.classes is None:
        return Answer({PREDICTION: predictions}, of_classes=False)
    return Answer(
        {
            label: [None if shares is None else shares[place] for shares in predictions]
            for place, label in enumerate(described.classes)
        },
        of_classes=True,
    )


def _ask_numbers(described: Description, columns: Sequence[Column]) -> Query:
    """The query inside is made by the server's own format(): %I for names, %L for the arrays of values."""
    place = _free_name(described.features)
    called = _aliases(columns)
    inside = " ".join(
        [
            "SELECT",
            "".join(
                "q." + alias + _cast(column) + " AS %I, "
                for alias, column in zip(called, columns, strict=True)
            ),
            "q.place AS %I FROM unnest(",
            ", ".join("%L::" + _array_type(column) for column in columns),
            ") WITH ORDINALITY AS q (",
            ", ".join([*called, "place"]),
            ")",
        ]
    )
    values = [column.name for column in columns] + [place] + [column.array() for column in columns]
    answered = [
        SQL("{} {}").format(Identifier(alias), _TYPES[column.type])
        for alias, column in zip(called, columns, strict=True)
    ]
    listed = SQL(", ").join([*answered, SQL("place bigint"), SQL("prediction float8")])
    return Query(_BATCH.format(listed), (described.reference, inside, values))


def _ask_probabilities(described: Description, columns: Sequence[Column]) -> Query:
    row_place = Identifier(_free_name(described.features))
    inside = [Identifier(alias) for alias in _aliases(columns)]
    selected = [
        SQL("q.{}{} AS {}").format(
            name, SQL("::float8[]" if column.type == _LISTS else ""), Identifier(column.name)
        )
        for name, column in zip(inside, columns, strict=True)
    ]
    arrays = [
        SQL("($1::text[])[{}]::{}[]").format(
            Literal(place), SQL("text") if column.type == _LISTS else _TYPES[column.type]
        )
        for place, column in enumerate(columns, start=1)
    ]
    text: Composed = _PROBABILITIES.format(
        Identifier(described.function_name),
        SQL(", ").join([*selected, SQL("q.place AS {}").format(row_place)]),
        SQL(", ").join(arrays),
        SQL(", ").join([*inside, SQL("place")]),
        row_place,
    )
    return Query(text, ([column.array() for column in columns],))


def _aliases(columns: Sequence[Column]) -> list[str]:
    return ["c" + str(place) for place in range(len(columns))]


def _cast(column: Column) -> str:
    return "::float8[]" if column.type == _LISTS else ""


def _array_type(column: Column) -> str:
    return "text[]" if column.type == _LISTS else column.type + "[]"


def _free_name(features: Sequence[str]) -> str:
    """A name for a row's place that no feature has."""
    names = ("row " + str(number) for number in range(len(features) + 1))
    return next(name for name in names if name not in features)
