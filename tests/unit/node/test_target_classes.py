"""A target with classes is read as their indices, each row by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from heliosdb.algorithms.encoding import number_classes
from heliosdb.algorithms.linear import LOGISTIC_REGRESSION
from heliosdb.algorithms.table import Table
from heliosdb.algorithms.works import TrainWork
from heliosdb.domain.encoding import ColumnEncoding, Encoding
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.ids import DatasetName
from heliosdb.domain.task import Scaling
from heliosdb.domain.vector import Vector
from heliosdb.node.arranging import content_hash, make_plain_table, make_table
from heliosdb.node.datasets import NEITHER, TableRequest
from heliosdb.node.disclosure import RowSet
from heliosdb.node.encoding import encode_plainly

REQUEST = TableRequest(
    run="f00d",
    dataset_id=1,
    dataset=DatasetName("d"),
    base_tables=(1,),
    features=("a", "b"),
    target="y",
    validation_split=0.3,
    subject=None,
    known_by=("id",),
    key=b"k" * 32,
    plain=False,
    min_rows=20,
    max_parameter_share=1 / 3,
)
PLAIN = replace(REQUEST, plain=True)


def trained(features: np.ndarray, target: Vector, request: TableRequest, seed: int) -> Vector:
    codes = np.arange(len(target), dtype=np.int64)[:, None]
    table = make_table(np.column_stack([features, target]), codes, request)
    work = TrainWork("logistic_regression", Scaling((0.0, 0.0), (1.0, 1.0)), 3, 16, 0.1, classes=2)
    vector = LOGISTIC_REGRESSION.train(table, np.zeros(3), work, np.random.default_rng(seed)).vector
    assert vector.dtype == np.float64
    return np.asarray(vector, dtype=np.float64)


def shown(classes: Sequence[float]) -> tuple[str, ...]:
    return tuple(map(str, classes))


@pytest.mark.parametrize("seed", range(24))
@pytest.mark.parametrize("request_", [REQUEST, PLAIN], ids=["private", "plain"])
def test_declared_classes_train_the_same_model_as_0_and_1_to_the_bit(
    seed: int, request_: TableRequest
) -> None:
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(200, 2))
    target = (features[:, 0] + rng.normal(size=200) > 0).astype(np.float64)
    classes = tuple(rng.choice([-1.0, 0.0, 1.0, 2.0, 2.5, 4.0], size=2, replace=False).tolist())
    coded = np.where(target == 1.0, classes[1], classes[0])
    coded[::17] = target[::17] = np.nan

    read = number_classes(coded, shown(classes), NEITHER)

    np.testing.assert_array_equal(read, target)
    expected = trained(features, target, request_, seed)
    assert trained(features, read, request_, seed).tobytes() == expected.tobytes()


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("classes", [(1.0, 2.0), (2.0, 0.0, 1e15, 3.0)])
def test_under_a_budget_a_row_of_another_class_is_one_without_a_target_whatever_the_others_hold(
    seed: int, classes: tuple[float, ...]
) -> None:
    rng = np.random.default_rng(seed)
    column = rng.choice([0.0, 1.0, 2.0, 3.0, 1e15, 1e300, np.nan], size=50)
    labels = shown(classes)

    read = number_classes(column, labels, NEITHER)

    expected = {number: float(place) for place, number in enumerate(classes)}
    otherwise = np.where(np.isnan(column), np.nan, NEITHER)
    np.testing.assert_array_equal(
        read, [expected.get(value, none) for value, none in zip(column, otherwise, strict=True)]
    )
    alone = np.concatenate([number_classes(column[i : i + 1], labels, NEITHER) for i in range(50)])
    np.testing.assert_array_equal(read, alone)


def test_a_label_of_a_text_is_the_place_of_its_level_and_one_that_no_row_has_is_no_row_s() -> None:
    levels = ("ill", "unknown", "well")
    target = np.array([0.0, 2.0, 1.0, -1.0, np.nan])

    read = number_classes(target, ("well", "never", "ill"), NEITHER, levels)

    np.testing.assert_array_equal(read, [2.0, 0.0, NEITHER, NEITHER, np.nan])


SUBJECTS = replace(REQUEST, subject="person", classes=("0", "1"))


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize(
    "request_", [replace(REQUEST, classes=("0", "1")), SUBJECTS], ids=["rows", "subjects"]
)
def test_a_table_has_no_row_of_another_class_but_knows_whose_it_was(
    seed: int, request_: TableRequest
) -> None:
    rng = np.random.default_rng(seed)
    values = np.column_stack(
        [
            rng.normal(size=(60, 2)),
            number_classes(rng.choice([0.0, 1.0, 2.0, np.nan], size=60), ("0", "1"), NEITHER),
        ]
    )
    codes = rng.permutation(60)[:, None].astype(np.int64)
    if request_.subject is not None:
        codes = np.column_stack([codes, rng.integers(-5, 5, size=60)])
    shuffled = rng.permutation(60)

    table, again = (
        make_table(values, codes, request_),
        make_table(values[shuffled], codes[shuffled], request_),
    )
    without = values[:, -1] != NEITHER
    bare = make_table(values[without], codes[without], request_)

    neither = np.sort(codes[values[:, -1] == NEITHER, -1])
    assert table.others.size == neither.size > 0
    for name in ("features", "target", "held_out"):
        np.testing.assert_array_equal(getattr(table, name), getattr(bare, name))
    every = np.concatenate([table.subjects, table.others])
    if request_.subject is None:
        assert np.unique(every).size == every.size
    else:
        there = codes[~np.isnan(values[:, -1]), -1]
        np.testing.assert_array_equal(np.sort(np.unique(there)[every]), np.sort(there))
        np.testing.assert_array_equal(np.sort(np.unique(there)[table.others]), neither)
    key = request_.key
    assert content_hash(table, key) == content_hash(again, key) != content_hash(bare, key)
    assert content_hash(bare, key) == content_hash(replace(bare, subjects=7 * bare.subjects + 1), key)


def test_a_target_that_is_read_as_it_is_has_no_other_classes() -> None:
    values = np.array([[1.0, 2.0, np.inf], [1.0, 2.0, 3.0]])

    table = make_table(values, np.array([[1], [2]], dtype=np.int64), REQUEST)

    assert (table.rows, table.others.size) == (1, 0)


def plain_table(coded: Vector, earlier: Sequence[RowSet] = ()) -> tuple[Table, RowSet]:
    rng = np.random.default_rng(3)
    request = replace(PLAIN, validation_split=0.0)
    values = np.column_stack([rng.normal(size=(len(coded), 2)), coded])
    codes = np.arange(len(coded), dtype=np.int64)[:, None]
    table, rows = make_plain_table(values, codes, request, earlier)
    return encode_plainly(table, None, ("1", "2"), request), rows


def test_without_a_budget_it_ends_the_run_naming_the_target_and_no_value() -> None:
    with pytest.raises(FederatedError) as caught:
        plain_table(np.array([1.0, 2.0, 3.0] * 20))

    assert caught.value.sqlstate == "22023"
    assert caught.value.message == (
        'the target "y" of dataset "d" must be 1 or 2 in every row;'
        " the model's option target_classes names the values that it holds"
    )


def test_of_a_text_target_it_is_said_that_rare_values_are_no_classes() -> None:
    rows = 42
    table = Table(
        np.random.default_rng(3).normal(size=(rows, 2)),
        np.array([0.0, 1.0] * 20 + [2.0, 2.0]),
        np.arange(rows, dtype=np.int64),
        np.zeros(rows, dtype=np.bool_),
        labels=("ill", "well", "unclear"),
    )

    with pytest.raises(FederatedError) as caught:
        encode_plainly(table, None, ("ill", "well"), PLAIN)

    assert caught.value.sqlstate == "22023"
    assert caught.value.message == (
        'the target "y" of dataset "d" must be ill or well in every row:'
        " without target_classes a value that fewer than 5 data subjects of each node have is no class"
    )
    assert "unclear" not in caught.value.text


def test_of_fewer_than_min_rows_it_is_not_told_whether_any_has_another_class() -> None:
    refusals = set()
    for coded in ([1.0], [3.0], [1.0, 2.0, 7.0] * 6, [1.0, 2.0, 1.0] * 6):
        with pytest.raises(FederatedError) as caught:
            plain_table(np.array(coded))
        refusals.add((caught.value.sqlstate, caught.value.message))

    assert refusals == {("UF002", 'dataset "d" has fewer than min_rows = 20 rows with a target')}


def test_a_new_row_that_no_answer_is_about_may_have_any_class() -> None:
    table, rows = plain_table(np.array([1.0, 2.0] * 20))

    again, same = plain_table(np.array([1.0, 2.0] * 20 + [3.0]), [rows])

    assert same.equals(rows)
    np.testing.assert_array_equal(np.sort(again.target), np.sort(table.target))


def test_a_class_of_a_real_column_is_the_number_that_the_column_holds() -> None:
    column = np.array([np.float32(0.1), 0.1, 2.0, 16777216.0, 16777217.0])

    read = number_classes(column, ("0.1", "2", "16777217"), NEITHER)

    np.testing.assert_array_equal(read, [0.0, 0.0, 1.0, NEITHER, 2.0])


@pytest.mark.parametrize(("few", "refused"), [(1, True), (4, True), (5, False), (0, False)])
def test_a_logarithm_that_only_a_few_rows_have_is_refused(few: int, *, refused: bool) -> None:
    """A coordinator that asks for log1p of what is mostly below -1 would have sums over these few."""
    column = np.linspace(-9.0, -2.0, 40)
    column[:few] = np.arange(few) + 3.0
    table = Table.from_rows(column[:, None], np.arange(40.0) % 2, np.arange(40), np.zeros(40, dtype=np.bool_))
    encoding = Encoding((ColumnEncoding("a", form="log1p"),))
    if not refused:
        made = encode_plainly(table, encoding, ("0", "1"), PLAIN)
        assert np.isfinite(made.features).sum() == few
        return
    with pytest.raises(FederatedError, match=r'column "log1p\(a\)".* fewer than 5 data subjects') as raised:
        encode_plainly(table, encoding, ("0", "1"), PLAIN)
    assert raised.value.code is ErrorCode.NODE_REFUSED
