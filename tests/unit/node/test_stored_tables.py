"""Rows that lie in scratch files lead to the same bits as rows in memory, in every step that says that it streams."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest

from heliosdb.algorithms.encoding import encode
from heliosdb.algorithms.features import statistics
from heliosdb.algorithms.linear import LINEAR_REGRESSION, LOGISTIC_REGRESSION, scale_inputs
from heliosdb.algorithms.registry import algorithm
from heliosdb.algorithms.report_layout import ReportLayout
from heliosdb.algorithms.reported import report
from heliosdb.algorithms.sgd import derive_rng
from heliosdb.algorithms.space import AT_ONCE
from heliosdb.algorithms.statistics import STATISTICS
from heliosdb.algorithms.steps import REPORT, check_streams
from heliosdb.algorithms.table import Codes, Table
from heliosdb.algorithms.works import EvaluateWork, StatisticsWork, TrainWork
from heliosdb.domain.encoding import ColumnEncoding, ColumnKind, Encoding
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.ids import DatasetName, NodeName, RoundNumber, RunId, WorkspaceName
from heliosdb.domain.task import Reading as TaskReading
from heliosdb.domain.task import Scaling, Task, TaskKey, Work
from heliosdb.domain.vector import Matrix
from heliosdb.node.arranging import content_hash, make_plain_table, make_table
from heliosdb.node.datasets import Reading, TableRequest
from heliosdb.node.disclosure import RowSet, smallest_difference
from heliosdb.node.scratch import RowSpool, Scratch, ScratchFullError, spool_of

ROWS = 3 * AT_ONCE // 2
KEY = b"k" * 32
REQUEST = TableRequest(
    run="f00d",
    dataset_id=1,
    dataset=DatasetName("d"),
    base_tables=(1,),
    features=("a", "b", "c"),
    target="y",
    validation_split=0.2,
    subject=None,
    known_by=("id",),
    key=KEY,
    plain=True,
    min_rows=20,
    max_parameter_share=1 / 3,
)


Spoil = Callable[[Matrix, Codes], None]


def raw_rows(subjects: int | None) -> tuple[Matrix, Codes]:
    rng = np.random.default_rng(4)
    values = rng.normal(size=(ROWS, 4))
    values[:, 2] = values[:, 2] > 0.3
    values[::7, 1] = np.nan
    values[:, 3] = values[:, 0] + values[:, 2] + rng.normal(size=ROWS) > 0
    values[::50, 3] = np.nan
    codes = rng.integers(-(2**62), 2**62, size=(ROWS, 1 if subjects is None else 2))
    if subjects is not None:
        # Some rows are known by the same code, and most subjects have several.
        codes[::9, 0] = codes[1::9, 0][: len(codes[::9])]
        codes[:, 1] = rng.integers(-(2**62), 2**62, size=subjects)[rng.integers(0, subjects, ROWS)]
    return values, codes


def spooled(values: Matrix, codes: Codes, spool: RowSpool) -> Reading:
    blocks = (
        (values[start : start + 9_999].copy(), codes[start : start + 9_999].copy())
        for start in range(0, ROWS, 9_999)
    )
    return Reading(*spool_of(blocks, spool), space=spool.space)


def stored_and_held(
    directory: Path, request: TableRequest, subjects: int | None, spoil: Spoil = lambda values, codes: None
) -> Iterator[tuple[Table, RowSet | None]]:
    """The table in scratch files, and in memory. spoil: makes the rows ugly."""
    for spool in (RowSpool(1 << 20, Scratch(str(directory))), RowSpool(None, None)):
        values, codes = raw_rows(subjects)
        spoil(values, codes)
        read = spooled(values, codes, spool)
        if request.plain:
            yield make_plain_table(read.values, read.codes, request, (), read)
        else:
            yield make_table(read.values, read.codes, request, read), None


@pytest.fixture(scope="module", params=[None, 30_000], ids=["rows", "subjects"])
def both(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> list[tuple[Table, RowSet | None]]:
    asked = replace(REQUEST, subject=None if request.param is None else "who")
    return list(stored_and_held(tmp_path_factory.mktemp("scratch"), asked, request.param))


def test_a_stored_table_is_the_held_one_and_has_no_file(both: list[tuple[Table, RowSet | None]]) -> None:
    (stored, stored_rows), (held, held_rows) = both
    assert not stored.space.is_memory
    assert held.space.is_memory
    for name in ("features", "target", "subjects", "held_out", "others", "places", "codes"):
        np.testing.assert_array_equal(getattr(stored, name), getattr(held, name))
    assert content_hash(stored, KEY) == content_hash(held, KEY)
    assert stored_rows is not None
    assert held_rows is not None
    assert bytes(stored_rows.written(stored.space)) == held_rows.to_bytes()


def test_every_step_that_streams_gives_the_same_bits(both: list[tuple[Table, RowSet | None]]) -> None:
    scaling = Scaling((0.1, 0.0, 0.4), (1.1, 0.9, 0.5))
    train = TrainWork(
        "logistic_regression",
        scaling,
        classes=2,
        local_epochs=2,
        batch_size=1000,
        learning_rate=0.1,
        optimizer="adam",
    )
    found = []
    for table, _ in both:
        model, start = LOGISTIC_REGRESSION, np.array([0.3, -0.2, 0.1, 0.0])
        made = [
            statistics(table, StatisticsWork("logistic_regression", None, classes=2)).vector,
            model.train(table, start, train, derive_rng(1, 1, "n", KEY)).vector,
            model.curvature(table, start, scaling).to_vector(),
            model.evaluate(
                table, start, EvaluateWork("logistic_regression", scaling, None, classes=2)
            ).vector,
            LINEAR_REGRESSION.evaluate(
                table, start, EvaluateWork("linear_regression", scaling, None, classes=0)
            ).vector,
            np.array([model.objective(table, start, train)]),
        ]
        found.append([one.tobytes() for one in made])
    assert found[0] == found[1]


def constant(values: Matrix, codes: Codes) -> None:
    """All rows are equal."""
    del codes
    values[:, :3] = values[0, :3]


def far_apart(values: Matrix, codes: Codes) -> None:
    """A mean that is huge beside its spread, the largest numbers, and the smallest; three classes."""
    del codes
    values[:, 0] = 1e12 + 1e-3 * values[:, 0]
    values[:, 1] = np.where(values[:, 1] > 0, 1e300, -1e300)
    values[:, 2] *= 5e-324
    values[:, 3] = np.arange(ROWS) % 3


def missing(values: Matrix, codes: Codes) -> None:
    """Values are missing everywhere, in one column all, and the second class is rare."""
    del codes
    values[np.arange(ROWS) % 2 == 1, 0] = np.nan
    values[:, 1] = np.nan
    values[:, 3] = np.where(np.arange(ROWS) % 9_973 == 0, 1.0, 0.0)


def crowded(values: Matrix, codes: Codes) -> None:
    """Most rows are of one subject, which crosses every block."""
    del values
    codes[: 2 * ROWS // 3, 1] = codes[0, 1]


@pytest.mark.parametrize("spoil", [constant, far_apart, missing, crowded])
def test_ugly_rows_lead_to_the_same_bits(tmp_path: Path, spoil: Spoil) -> None:
    asked, found = replace(REQUEST, subject="who"), []
    scaling = Scaling((0.1, 0.0, 0.4), (1.1, 0.9, 0.5))
    classes = 3 if spoil is far_apart else 2
    start = np.linspace(-0.2, 0.2, 4 if classes == 2 else 12).reshape(-1 if classes == 2 else (3, 4))
    # Neither divides the rows, and a batch of the second is larger than what is read at once.
    trains = [
        TrainWork("logistic_regression", scaling, 1, size, 0.01, optimizer=how, classes=classes)
        for size, how in ((777, "sgd"), (AT_ONCE + 5, "adam"))
    ]
    for table, _ in stored_and_held(tmp_path, asked, 30_000, spoil):
        model, layout = LOGISTIC_REGRESSION, ReportLayout(classes, 3, 3)
        evaluated = EvaluateWork("logistic_regression", scaling, None, classes=classes)
        task = Task(REPORTED, TaskReading(None, ("a", "b", "c"), "y", 0.2, 7), Work("x", 1), scaling=scaling)
        with np.errstate(all="ignore"):
            made = [
                statistics(table, StatisticsWork("logistic_regression", None, classes=classes)).vector,
                *(trained(table, start, work) for work in trains),
                model.curvature(table, start, scaling).to_vector(),
                model.evaluate(table, start, evaluated).vector,
                report(
                    table,
                    task,
                    layout,
                    lambda rows: scale_inputs(rows, scaling) @ start.T,
                    derive_rng(1, 1, "n", KEY),
                ),
            ]
        found.append((table.space.is_memory, [one.tobytes() for one in made]))
    assert [in_memory for in_memory, _ in found] == [False, True]
    assert found[0][1] == found[1][1]


REPORTED = TaskKey(WorkspaceName("w"), RunId(UUID(int=1)), RoundNumber(1), 1, REPORT, NodeName("n"))


def trained(table: Table, start: np.ndarray, work: TrainWork) -> np.ndarray:
    """What training leads to, or nothing where it diverges."""
    try:
        return LOGISTIC_REGRESSION.train(table, start, work, derive_rng(1, 1, "n", KEY)).vector
    except FederatedError as error:
        assert error.code is ErrorCode.UPDATE_REJECTED
        return np.empty(0)


def test_categories_become_the_same_inputs(both: list[tuple[Table, RowSet | None]]) -> None:
    column = ColumnEncoding("c", ColumnKind.CATEGORY, "onehot", ("0", "1"), missing_indicator=True)
    numbers = tuple(map(ColumnEncoding, ("a", "b")))
    stored, held = (encode(table, Encoding((*numbers, column)), smallest_cell=5) for table, _ in both)
    assert not stored.space.is_memory
    assert stored.features.shape == (stored.rows, 4)
    assert stored.features.tobytes() == held.features.tobytes()


def test_a_step_that_needs_all_rows_in_memory_says_so(both: list[tuple[Table, RowSet | None]]) -> None:
    (stored, _), (held, _) = both
    reading = TaskReading(None, ("a", "b", "c"), "y", 0.2, 7)
    key = TaskKey(WorkspaceName("w"), RunId(UUID(int=1)), RoundNumber(0), 0, STATISTICS, NodeName("n"))
    forest, linear = (algorithm(name).steps[STATISTICS] for name in ("random_forest", "logistic_regression"))
    task = Task(key, reading, Work("random_forest", 1))
    check_streams(forest, task, held)
    check_streams(linear, task, stored)
    with pytest.raises(FederatedError, match="step statistics of random_forest needs all rows") as raised:
        check_streams(forest, task, stored)
    assert raised.value.code is ErrorCode.PROGRAM_LIMIT
    assert "GB" in raised.value.message


@pytest.mark.parametrize("subjects", [None, 30_000])
def test_private_statistics_are_the_same_whole_numbers(subjects: int | None, tmp_path: Path) -> None:
    request = replace(REQUEST, plain=False, subject=None if subjects is None else "who")
    work = StatisticsWork("logistic_regression", 1.0, classes=2)
    stored, held = (table for table, _ in stored_and_held(tmp_path, request, subjects))
    assert not stored.space.is_memory
    assert statistics(stored, work).vector.tobytes() == statistics(held, work).vector.tobytes()


def test_groups_of_rows_are_found_across_stretches(both: list[tuple[Table, RowSet | None]]) -> None:
    (_, _), (_, own) = both
    assert own is not None
    lacks = RowSet(own.rows[5:], own.subjects[5:], own.held_out[5:])
    parts = [own.held_out[:5] == part for part in (False, True)]
    few = min(np.unique(own.subjects[:5][part]).size for part in parts if part.any())
    assert smallest_difference([own, lacks]) == few
    trained, held = (np.unique(own.subjects[own.held_out == part]).size for part in (False, True))
    assert smallest_difference([own]) == min(trained, held)


def test_scratch_files_have_no_name_and_are_the_owners_alone(tmp_path: Path) -> None:
    array = Scratch(str(tmp_path)).empty(1 << 18)
    array[:] = 1.0
    assert list(tmp_path.iterdir()) == []
    assert str(tmp_path) in Path("/proc/self/maps").read_text()
    with Scratch(str(tmp_path)).open() as file:
        assert os.fstat(file.fileno()).st_mode & 0o777 == 0o600


def test_a_directory_that_takes_no_rows_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ScratchFullError, match="No such file or directory") as raised:
        Scratch(str(tmp_path / "nowhere")).empty(1 << 20)
    assert "scratch_directory" in (raised.value.hint or "")
    with pytest.raises(ScratchFullError):
        Scratch(str(tmp_path)).empty(1 << 50)
