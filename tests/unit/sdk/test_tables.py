"""Rows of whatever kind become columns, and predictions come back in the kind that the rows were."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy as np
import pandas
import polars
import psycopg
import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliosdb.sdk.columns import dump, read_column
from heliosdb.sdk.errors import FederatedLearningError
from heliosdb.sdk.tables import Answer, read_table

FEATURES = ("age", "city")
NUMBERS = Answer({"prediction": [0.25, None]}, of_classes=False)
CLASSES = Answer({"a": [0.25, None], "b": [0.75, None]}, of_classes=True)


def read_array(text: str) -> list[str | None]:
    """The elements of a one-dimensional array of texts, by psycopg's own reader of arrays."""
    loaded: list[str | None] = (
        psycopg.adapt.Transformer()
        .get_loader(1009, psycopg.pq.Format.TEXT)
        .load(  # type: ignore[assignment]
            text.encode()
        )
    )
    return loaded


@given(st.lists(st.none() | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))))
def test_texts_are_read_back_from_the_array_that_they_become(values: list[str | None]) -> None:
    assert read_array(read_column("city", values).array()) == values


@given(st.lists(st.none() | st.floats(allow_nan=False, allow_infinity=False), min_size=1))
def test_a_number_is_written_so_that_it_reads_back_to_the_same_bits(values: list[float | None]) -> None:
    column = read_column("age", values)
    read = [None if text is None else float(text) for text in read_array(column.array())]
    assert [repr(value) for value in read] == [repr(value) for value in values]
    assert column.type == ("text" if set(values) == {None} else "float8")


@pytest.mark.parametrize(
    ("values", "kind", "texts"),
    [
        ([1, None, 2], "bigint", ["1", None, "2"]),
        ([1, 2.5], "float8", ["1", "2.5"]),
        ([2**70], "numeric", [str(2**70)]),
        ([Decimal("1E+2"), 1.5], "numeric", ["100", "1.5"]),
        ([b"\x89PNG", bytearray(b"\0")], "bytea", ["\\x89504e47", "\\x00"]),
        ([True, False], "boolean", ["true", "false"]),
        ([np.int32(3), np.float64(0.1)], "float8", ["3", "0.1"]),
        ([np.bool_(True)], "boolean", ["true"]),
        ([UUID(int=1)], "text", ["00000000-0000-0000-0000-000000000001"]),
        ([date(2024, 2, 29)], "date", ["2024-02-29"]),
        ([date(2024, 2, 29), datetime(2024, 3, 1, 12)], "timestamp", ["2024-02-29", "2024-03-01T12:00:00"]),
        ([datetime(2024, 3, 1, tzinfo=UTC)], "timestamptz", ["2024-03-01T00:00:00+00:00"]),
        ([np.datetime64("2024-03-01T00:00:00.5", "ns")], "timestamp", ["2024-03-01T00:00:00.500000"]),
        ([pandas.Timestamp("2024-03-01")], "timestamp", ["2024-03-01T00:00:00"]),
        ([time(12, 30)], "time", ["12:30:00"]),
        ([timedelta(days=-1, seconds=2, microseconds=5)], "interval", ["-1 days 2.000005 seconds"]),
        ([np.timedelta64(90, "s")], "interval", ["0 days 90 seconds"]),
        ([[1, 2.5], (3, None), np.array([4.0])], "float8[]", ["{1.0,2.5}", "{3.0,NULL}", "{4.0}"]),
        ([None, None], "text", [None, None]),
        ([], "text", []),
    ],
)
def test_a_column_has_the_type_of_its_values(values: list[Any], kind: str, texts: list[str | None]) -> None:
    column = read_column("x", values)
    assert (column.type, list(column.texts)) == (kind, texts)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([1.0, math.nan], 'feature "x" in row 1 is nan'),
        ([math.inf], 'feature "x" in row 0 is inf'),
        ([Decimal("NaN")], "is NaN"),
        ([[1.0, math.nan]], "is nan"),
        ([["a"]], "an element that is a str"),
        ([[10**400]], "is inf"),
        ([object()], "is a object"),
        ([{"a": 1}], "is a dict"),
        ([1, "a"], "values of several types: bigint, text"),
        ([True, 1], "values of several types"),
    ],
)
def test_what_is_no_value_is_refused_and_its_place_named(values: list[Any], said: str) -> None:
    with pytest.raises(FederatedLearningError, match=said) as refused:
        read_column("x", values)
    assert refused.value.sqlstate == "22023"


def test_a_text_that_no_database_holds_is_refused() -> None:
    with pytest.raises(FederatedLearningError) as refused:
        read_column("x", ["a\0b"])
    assert refused.value.sqlstate == "22021"


def test_one_row_becomes_json() -> None:
    row = {
        "a": np.float64(0.1),
        "b": None,
        "c": date(2024, 1, 2),
        "d": np.array([1, 2]),
        "e": True,
        "f": Decimal("1.50"),
    }
    assert dump(row) == '{"a": 0.1, "b": null, "c": "2024-01-02", "d": [1.0, 2.0], "e": true, "f": "1.50"}'
    with pytest.raises(FederatedLearningError, match='feature "a" is nan'):
        dump({"a": math.nan})


def columns(rows: Any) -> dict[str, Sequence[Any]]:
    table = read_table(rows)
    return {name: list(table.values(name, 0, table.length)) for name in table.given(FEATURES, "m")}


def given_back(rows: Any, answer: Answer) -> Any:
    """Return predictions of two rows as their table has them, part by part."""
    table = read_table(rows)
    ones = [
        Answer(
            {name: values[place : place + 1] for name, values in answer.columns.items()}, answer.of_classes
        )
        for place in (0, 1)
    ]
    return table.join([table.give_back(one) for one in ones])


def test_dicts_are_rows_and_come_back_as_lists() -> None:
    rows = [{"age": 1}, {"city": "Rome"}]
    assert columns(rows) == {"age": [1, None], "city": [None, "Rome"]}
    assert columns(row for row in rows) == columns(rows)
    assert columns([{}, {}]) == {"age": [None, None]}
    assert given_back(rows, NUMBERS) == [0.25, None]
    assert given_back(rows, CLASSES) == [{"a": 0.25, "b": 0.75}, None]
    with pytest.raises(FederatedLearningError, match='"m" has no feature "height"') as refused:
        columns([{"age": 1}, {"height": 2}])
    assert refused.value.sqlstate == "42703"


FRAME = pandas.DataFrame({"name": ["x", "y"], "age": [1.5, None], "city": ["Rome", None]}, index=[7, 3])


@pytest.mark.parametrize(
    ("rows", "kind"),
    [
        (FRAME, pandas.DataFrame),
        (
            polars.DataFrame({"name": ["x", "y"], "age": [1.5, None], "city": ["Rome", None]}),
            polars.DataFrame,
        ),
        (pyarrow.table({"name": ["x", "y"], "age": [1.5, None], "city": ["Rome", None]}), pyarrow.Table),
        (
            pyarrow.RecordBatch.from_pydict({"age": [1.5, None], "city": ["Rome", None]}),
            pyarrow.RecordBatch,
        ),
    ],
)
def test_tables_give_their_features_and_come_back_as_their_kind(rows: Any, kind: type) -> None:
    assert columns(rows) == {"age": [1.5, None], "city": ["Rome", None]}
    for answer, names in ((NUMBERS, ["prediction"]), (CLASSES, ["a", "b"])):
        back = given_back(rows, answer)
        assert isinstance(back, kind)
        as_pandas = back if kind is pandas.DataFrame else back.to_pandas()
        assert list(as_pandas.columns) == names
        assert [str(dtype) for dtype in as_pandas.dtypes] == ["float64"] * len(names)
        assert as_pandas[names[0]].tolist()[0] == 0.25
        assert bool(as_pandas[names[0]].isna().tolist()[1])


def test_pandas_keeps_its_index_and_says_what_is_missing_in_its_ways() -> None:
    assert list(given_back(FRAME, NUMBERS).index) == [7, 3]
    odd = pandas.DataFrame(
        {
            "age": pandas.array([1, None], dtype="Int64"),
            "city": pandas.Categorical(["Rome", None]),
        }
    )
    assert columns(odd) == {"age": [1, None], "city": ["Rome", None]}
    times = pandas.DataFrame({"age": pandas.to_datetime(["2024-01-02", None])})
    assert columns(times) == {"age": [pandas.Timestamp("2024-01-02"), None]}


def test_nan_in_polars_is_a_number_and_not_missing() -> None:
    frame = polars.DataFrame({"age": [1.0, math.nan]})
    with pytest.raises(FederatedLearningError, match="row 1 is nan"):
        read_column("age", columns(frame)["age"])


@pytest.mark.parametrize("rows", [FRAME[["name"]], polars.DataFrame({"height": [1]})])
def test_a_table_without_any_feature_is_an_error(rows: Any) -> None:
    with pytest.raises(FederatedLearningError, match="no column that is a feature") as refused:
        columns(rows)
    assert (refused.value.sqlstate, refused.value.hint) == ("42703", "Its features are age, city.")


def test_two_columns_of_one_name_are_an_error() -> None:
    with pytest.raises(FederatedLearningError, match='several columns "age"'):
        columns(pandas.DataFrame([[1, 2]], columns=["age", "age"]))


@pytest.mark.parametrize("rows", ["age", 3, [1, 2], [[1, 2]], np.array([[1.0, 2.0]]), FRAME["age"]])
def test_what_is_no_table_is_refused(rows: Any) -> None:
    with pytest.raises(FederatedLearningError, match=r"rows cannot be|row 0 is") as refused:
        read_table(rows)
    assert refused.value.sqlstate == "22023"
    assert "list of such dicts" in str(refused.value.hint)
