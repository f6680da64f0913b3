"""Columns become inputs: levels, times, arrays and transforms, on ugly values; small cells leave no trace."""

from __future__ import annotations

import math

import numpy as np
import pytest

from heliosdb.algorithms.encoding import encode, level_places
from heliosdb.algorithms.table import RawColumn, Table
from heliosdb.domain.encoding import ColumnEncoding, ColumnKind, Encoding, Form
from heliosdb.domain.vector import Matrix
from heliosdb.scoring.rows import encode_rows

NAN, INF = math.nan, math.inf
CITY = RawColumn(ColumnKind.CATEGORY, levels=("Köln", "Rom", "Zug"))
CITIES = ColumnEncoding("city", ColumnKind.CATEGORY, "indicators", ("Bonn", "Köln", "Rom"))


def table(features: Matrix, *columns: RawColumn, subjects: list[int] | None = None) -> Table:
    rows = len(features)
    codes = np.arange(rows) if subjects is None else np.array(subjects)
    return Table(
        np.array(features, dtype=float).reshape(rows, -1),
        np.zeros(rows),
        codes.astype(np.int64),
        np.zeros(rows, dtype=np.bool_),
        columns=columns,
    )


def inputs(values: Matrix, column: ColumnEncoding, raw: RawColumn | None = None) -> Matrix:
    made = encode(table(values, raw or RawColumn(column.kind)), Encoding((column,)))
    assert made.columns == ()
    assert made.features.shape[1] == len(column.inputs)
    return made.features


def test_a_level_has_an_indicator_but_the_first_and_a_value_without_a_level_is_missing() -> None:
    column = np.array([[0.0], [1.0], [2.0], [-1.0], [NAN]])

    np.testing.assert_array_equal(
        inputs(column, CITIES, CITY), [[1, 0], [0, 1], [NAN, NAN], [NAN, NAN], [NAN, NAN]]
    )
    whole = ColumnEncoding("city", ColumnKind.CATEGORY, "indicators", CITIES.levels, True, True)
    assert whole.inputs == ("city=Köln", "city=Rom", "city=NULL", "city=other")
    np.testing.assert_array_equal(
        inputs(column, whole, CITY),
        [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1], [0, 0, 0, 1], [0, 0, 1, 0]],
    )


def test_as_an_index_a_level_is_one_number() -> None:
    column = ColumnEncoding("city", ColumnKind.CATEGORY, "index", CITIES.levels, other_level=True)

    np.testing.assert_array_equal(
        inputs(np.array([[0.0], [1.0], [2.0], [-1.0], [NAN]]), column, CITY), [[1], [2], [3], [3], [NAN]]
    )


def test_a_number_as_a_category_is_known_by_its_value() -> None:
    column = ColumnEncoding("grade", ColumnKind.CATEGORY, "index", ("1", "10", "2.5"), null_level=True)
    values = np.array([[1.0], [10.0], [2.5], [3.0], [INF], [NAN], [1e300]])

    np.testing.assert_array_equal(
        inputs(values, column, RawColumn()), [[0], [1], [2], [NAN], [3], [3], [NAN]]
    )


def test_the_levels_of_a_row_do_not_depend_on_the_others() -> None:
    rng = np.random.default_rng(5)
    values = rng.choice([0.0, 1.0, 2.0, -1.0, NAN], size=(40, 1))
    column = ColumnEncoding("city", ColumnKind.CATEGORY, "indicators", CITIES.levels, True, True)

    alone = [inputs(values[i : i + 1], column, CITY) for i in range(40)]

    np.testing.assert_array_equal(inputs(values, column, CITY), np.concatenate(alone))


def test_an_array_of_its_length_is_its_elements_and_of_another_it_is_missing() -> None:
    raw = RawColumn(ColumnKind.ARRAY, width=4)
    values = np.array([[2, 1, NAN, NAN], [3, 1, 2, 3], [NAN, NAN, NAN, NAN], [2, 5, 6, NAN], [-1, 1, 1, NAN]])
    column = ColumnEncoding("v", ColumnKind.ARRAY, elements=2, missing_indicator=True)

    np.testing.assert_array_equal(
        inputs(values, column, raw),
        [[1, NAN, 0], [NAN, NAN, 1], [NAN, NAN, 1], [5, 6, 0], [NAN, NAN, 1]],
    )
    longer = ColumnEncoding("v", ColumnKind.ARRAY, elements=9)
    assert np.isnan(inputs(values, longer, raw)).all()


def test_a_logarithm_bins_and_an_indicator_of_missing_values() -> None:
    values = np.array([[0.0], [math.e - 1.0], [-1.0], [-5.0], [INF], [NAN], [1e300]])
    log = ColumnEncoding("x", form="log1p", missing_indicator=True)
    np.testing.assert_allclose(
        inputs(values, log),
        [[0, 0], [1, 0], [NAN, 1], [NAN, 1], [NAN, 1], [NAN, 1], [math.log(1e300), 0]],
        rtol=1e-15,
    )
    bins = ColumnEncoding("x", form="bins", edges=(0.0, 2.0))
    np.testing.assert_array_equal(
        inputs(values, bins), [[0, 0], [1, 0], [0, 0], [0, 0], [NAN, NAN], [NAN, NAN], [1, 1]]
    )


def test_several_columns_stand_side_by_side() -> None:
    columns = (RawColumn(), CITY, RawColumn(ColumnKind.ARRAY, width=3))
    values = np.array([[7.0, 1.0, 2.0, 8.0, 9.0]])
    encoding = Encoding((ColumnEncoding("x"), CITIES, ColumnEncoding("v", ColumnKind.ARRAY, elements=2)))

    made = encode(table(values, *columns), encoding)

    assert encoding.inputs == ("x", "city=Köln", "city=Rom", "v[1]", "v[2]")
    np.testing.assert_array_equal(made.features, [[7, 0, 1, 8, 9]])


@pytest.mark.parametrize(("rows", "few"), [(4, True), (5, False)])
def test_a_level_of_few_subjects_counts_as_what_most_rows_are(rows: int, few: bool) -> None:
    values = np.array([[0.0]] * 20 + [[1.0]] * rows)
    column = ColumnEncoding("city", ColumnKind.CATEGORY, "indicators", CITIES.levels)
    raw = table(values, CITY)

    made = encode(raw, Encoding((column,)), smallest_cell=5).features

    assert made[:20].tolist() == [[1.0, 0.0]] * 20
    assert made[20:].tolist() == ([[1.0, 0.0]] if few else [[0.0, 1.0]]) * rows
    one_subject = table(values, CITY, subjects=[*range(20), *([20] * rows)])
    assert encode(one_subject, Encoding((column,)), smallest_cell=5).features[20:, 1].sum() == 0.0


def test_a_value_that_few_rows_lack_has_no_indicator() -> None:
    values = np.array([[float(i)] for i in range(30)] + [[NAN]] * 3)
    column = ColumnEncoding("x", missing_indicator=True)

    made = encode(table(values, RawColumn()), Encoding((column,)), smallest_cell=5).features

    assert made[:, 1].sum() == 0.0
    assert np.isnan(made[30:, 0]).all()


def test_places_of_levels_that_a_table_has_never_seen_are_other_or_none() -> None:
    values = np.array([0.0, -1.0, NAN])
    plain = ColumnEncoding("city", ColumnKind.CATEGORY, "index", ("a",))
    other = ColumnEncoding("city", ColumnKind.CATEGORY, "index", ("a",), other_level=True)

    assert level_places(values, CITY, plain).tolist() == [-1, -1, -1]
    assert level_places(values, CITY, other).tolist() == [1, 1, -1]


def counts(values: list[float], column: ColumnEncoding) -> list[float]:
    made = encode(table(np.array([values]).T, CITY), Encoding((column,)), smallest_cell=5)
    return [float(value) for value in np.nansum(made.features, axis=0)]


def test_levels_that_a_task_chooses_cannot_be_subtracted_to_a_few_subjects() -> None:
    """Three of Zug and five of Rom: others are eight, and Rom alone is five."""
    values = [0.0] * 20 + [1.0] * 5 + [2.0] * 3
    one = ColumnEncoding("city", ColumnKind.CATEGORY, "indicators", ("Bonn", "Köln"), other_level=True)
    two = ColumnEncoding("city", ColumnKind.CATEGORY, "indicators", ("Bonn", "Köln", "Rom"), other_level=True)

    [koeln, other] = counts(values, one)
    [koeln_again, rom, further] = counts(values, two)

    assert (koeln, other) == (23.0, 5.0)
    assert (koeln_again, rom, further) == (23.0, 5.0, 0.0)


def test_values_of_few_are_one_group_whatever_levels_are_asked() -> None:
    values = [0.0] * 20 + [1.0] * 4 + [2.0] * 3
    for levels in (("Bonn", "Köln"), ("Bonn", "Köln", "Rom"), ("Bonn", "Köln", "Rom", "Zug")):
        column = ColumnEncoding("city", ColumnKind.CATEGORY, "indicators", levels, other_level=True)
        found = counts(values, column)
        assert (found[0], found[-1], sum(found)) == (20.0, 7.0, 27.0)


def test_a_number_as_a_category_keeps_the_same_groups() -> None:
    values = np.array([[1.0]] * 20 + [[2.0]] * 3 + [[3.0]] * 5 + [[NAN]] * 2)
    column = ColumnEncoding("grade", ColumnKind.CATEGORY, "index", ("1", "2", "3"), True, True)

    made = encode(table(values, RawColumn()), Encoding((column,)), smallest_cell=5).features[:, 0]

    # Two that are 2 and missing are five together: none of the levels.
    assert made.tolist() == [0.0] * 20 + [4.0] * 3 + [2.0] * 5 + [4.0] * 2


@pytest.mark.parametrize("flagged", [False, True])
@pytest.mark.parametrize("form", ["value", "log1p", "bins"])
def test_a_node_makes_of_a_row_what_a_prediction_makes_of_it(form: Form, *, flagged: bool) -> None:
    edges = (0.0, 2.0) if form == "bins" else ()
    column = ColumnEncoding("x", form=form, edges=edges, missing_indicator=flagged)
    values = np.array([[0.0], [3.5], [-0.5], [-1.0], [-5.0], [1e300], [-1e300], [INF], [-INF], [NAN]])

    made = encode(table(values, RawColumn()), Encoding((column,))).features

    made = np.where(np.isfinite(made), made, NAN)
    np.testing.assert_array_equal(made, encode_rows(values, Encoding((column,))))


def test_a_node_makes_of_an_array_what_a_prediction_makes_of_it() -> None:
    column = ColumnEncoding("v", ColumnKind.ARRAY, elements=2, missing_indicator=True)
    values = np.array([[1.0, 2.0], [NAN, 3.0], [NAN, NAN]])
    read = np.column_stack([np.full(3, 2.0), values])

    made = encode(table(read, RawColumn(ColumnKind.ARRAY, width=3)), Encoding((column,))).features

    np.testing.assert_array_equal(made, encode_rows(values, Encoding((column,))))
