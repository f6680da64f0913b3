"""Images as arrays: under a budget their length is the task's alone; without one a node says how many rows differ."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest

from heliosdb.algorithms.image_levels import ImageLevelsStep
from heliosdb.algorithms.levels import LevelsWork
from heliosdb.algorithms.steps import Draws
from heliosdb.algorithms.table import RawColumn, Table
from heliosdb.catalog.dataset_rows import ColumnReading, RowQuery
from heliosdb.domain.encoding import ColumnEncoding, ColumnKind, Encoding
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.ids import DatasetName
from heliosdb.domain.state import NO_STATE
from heliosdb.node import policy
from heliosdb.node.datasets import _with_elements
from heliosdb.node.reader import Rows
from heliosdb.parts.extras import EXTRAS
from tests.unit.node.test_roles import REQUEST

PIXELS = ColumnReading("pixels", 1022, ColumnKind.ARRAY)
QUERY = RowQuery(DatasetName("scans"), ("pixels",), ())


class LongRows:
    """Rows of which one has a longer array than all others."""

    def longest_array(self, query: RowQuery, column: str) -> int:
        del query, column
        return 70


@pytest.mark.parametrize(("elements", "read"), [((64,), 64), ((), 0)])
def test_under_a_budget_as_many_elements_are_read_as_the_task_says(
    elements: tuple[int, ...], read: int
) -> None:
    rows = cast(Rows, LongRows())
    private = replace(REQUEST, plain=False, elements=elements, features=("pixels",))
    assert _with_elements(rows, QUERY, PIXELS, private, 0).elements == read
    plain = replace(REQUEST, plain=True)
    assert _with_elements(rows, QUERY, PIXELS, plain, 0).elements == 70


def test_what_a_row_takes_in_memory_counts_its_elements() -> None:
    bare = replace(REQUEST, plain=False, levels=((),), features=("pixels",))
    asked = replace(bare, elements=(64,))
    assert asked.width == bare.width + 64
    assert asked.most_width >= 65


def asked(*columns: ColumnEncoding) -> Any:
    reading = type("Asked", (), {"features": columns, "roles": ()})()
    return type("Asked", (), {"reading": reading})()


def test_a_task_whose_arrays_are_more_columns_than_a_query_has_is_refused_before_it_is_charged() -> None:
    arrays = [ColumnEncoding(f"a{place}", ColumnKind.ARRAY, elements=2) for place in range(799)]
    policy._check_arrays(asked(*arrays[:798]), arrays[:798])
    with pytest.raises(FederatedError, match="a row would be 1601 columns of a query"):
        policy._check_arrays(asked(*arrays), arrays)


def test_a_node_that_decodes_no_images_refuses_them_before_they_are_charged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scan = ColumnEncoding("scan", ColumnKind.IMAGE, elements=12, shape=(3, 2, 2))
    policy._check_images([scan])
    monkeypatch.setitem(EXTRAS, "images", ("no_module_of_this_name",))
    with pytest.raises(
        FederatedError, match='"scan" cannot be read: this node lacks the extra "images"'
    ) as caught:
        policy._check_images([scan])
    assert caught.value.code is ErrorCode.NOT_SUPPORTED
    assert "pip install" in str(caught.value.hint)


def test_an_image_is_read_in_the_shape_that_the_task_says_with_a_budget_and_without() -> None:
    scan = ColumnReading("scan", 17, ColumnKind.IMAGE)
    for plain in (True, False):
        request = replace(REQUEST, plain=plain, shapes=((3, 2, 2),), elements=() if plain else (12,))
        read = _with_elements(cast(Rows, None), QUERY, scan, request, 0)
        assert (read.elements, read.shape, read.width) == (12, (3, 2, 2), 13)
        assert request.width == replace(REQUEST, plain=plain).width + 12
        with pytest.raises(FederatedError, match="the task says of no image"):
            _with_elements(cast(Rows, None), QUERY, scan, replace(request, shapes=()), 0)


def table(lengths: list[float]) -> Table:
    values = np.column_stack([lengths, np.zeros((len(lengths), 4))])
    made = Table.from_rows(
        values, np.zeros(len(lengths)), np.arange(len(lengths)), np.zeros(len(lengths), dtype=bool)
    )
    return replace(made, columns=(RawColumn(ColumnKind.ARRAY, width=5),), min_cell=3, min_category=3)


PIXELS_AS_ARRAY = ColumnEncoding("pixels", ColumnKind.ARRAY, elements=4)


def told(lengths: list[float], column: ColumnEncoding = PIXELS_AS_ARRAY) -> FederatedError:
    encoding = Encoding((column,))
    step = ImageLevelsStep("cnn")
    work = LevelsWork(96, 10, 5).to_work("cnn", 1)
    task: Any = type("Asked", (), {"encoding": encoding, "work": work})()
    with pytest.raises(FederatedError) as caught:
        step.compute(table(lengths), task, NO_STATE, cast(Draws, None))
    assert caught.value.code is ErrorCode.INVALID_VALUE
    return caught.value


def test_images_of_another_size_are_counted_and_few_are_not() -> None:
    several = told([4.0] * 20 + [3.0] * 7 + [-1.0] * 2)
    assert several.message == 'column "pixels" holds arrays of another length than 4 in 9 rows'
    assert "3" not in str(several.hint)
    scans = ColumnEncoding("scan", ColumnKind.IMAGE, elements=4, shape=(1, 2, 2))
    none = told([4.0] * 20 + [np.nan] * 3 + [-1.0] * 5, scans)
    assert none.message == 'column "scan" holds what is no image of 1 channel, 2 high and 2 wide, in 5 rows'
    few = told([4.0] * 20 + [3.0] * 2)
    assert few.message == 'column "pixels" holds arrays of another length than 4 in a few rows'
