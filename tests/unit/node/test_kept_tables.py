"""The training process's tables: bounded by memory, read once a run, shared by runs that read the same rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import numpy as np
import pytest

from heliosdb.algorithms.table import Table
from heliosdb.algorithms.works import StatisticsWork
from heliosdb.domain.encoding import ColumnEncoding, ColumnKind, Encoding
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.ids import DatasetName, NodeName, RoundNumber, RunId, StepName, WorkspaceName
from heliosdb.domain.privacy import Budget
from heliosdb.domain.state import NO_STATE
from heliosdb.domain.task import Reading, Task, TaskKey
from heliosdb.domain.vector import Contribution, Plain
from heliosdb.node import worker
from heliosdb.node.admission import Admission
from heliosdb.node.arranging import content_hash
from heliosdb.node.datasets import TableRequest
from heliosdb.node.frames import Computed, ComputeRequest
from heliosdb.node.scratch import Scratch
from heliosdb.node.worker import Encoded, ReadTable, Tables, answer, compute

KEY = b"k" * 32
ROWS = 1000


def request(run: str, *, plain: bool = False) -> TableRequest:
    return TableRequest(
        run=run,
        dataset_id=1,
        dataset=DatasetName("patients"),
        base_tables=(1,),
        features=("age",),
        target="outcome",
        validation_split=0.0,
        subject=None,
        known_by=("age",),
        key=KEY,
        plain=plain,
        min_rows=5,
        max_parameter_share=0.5,
    )


def table(value: float) -> ReadTable:
    made = Table(
        np.full((ROWS, 1), value),
        np.ones(ROWS),
        np.arange(ROWS, dtype=np.int64),
        np.zeros(ROWS, dtype=np.bool_),
    )
    return ReadTable(made, content_hash(made, KEY))


SIZE = table(0.0).nbytes


class Reads:
    """Reads tables, each of other rows unless `same`, and counts."""

    def __init__(self, *, same: bool = False, room: int | None = None) -> None:
        self.count = 0
        self.tables: Tables | None = None
        self._same = same
        self._room = room

    def __call__(self, reader: str, request: TableRequest, row_sets: Sequence[bytes]) -> ReadTable:
        del reader, request, row_sets
        if self._room is not None and self.tables is not None and self.tables.nbytes >= self._room:
            raise MemoryError
        self.count += 1
        return table(1.0 if self._same else float(self.count))


def test_the_tables_of_many_runs_are_read_once_each() -> None:
    reads = Reads()
    tables = Tables(10 * SIZE, reads)
    for _ in range(5):
        for run in range(8):
            tables.get("one", request(str(run)), None)
    assert reads.count == 8


@pytest.mark.parametrize("readers", [1, 3])
def test_what_is_kept_never_takes_more_than_it_may_of_whatever_database(readers: int) -> None:
    tables = Tables(4 * SIZE + SIZE // 2, Reads())
    for run in range(50):
        tables.get(f"reader {run % readers}", request(str(run)), None)
        assert tables.nbytes <= 4 * SIZE + SIZE // 2
    assert tables.nbytes == 4 * SIZE


def test_the_run_that_was_not_asked_for_longest_makes_room() -> None:
    reads = Reads()
    tables = Tables(2 * SIZE, reads)
    for run in ("a", "b", "a", "c", "a", "b"):
        tables.get("one", request(run), None)
    assert reads.count == 4


def test_a_table_larger_than_what_may_be_kept_is_kept_alone() -> None:
    reads = Reads()
    tables = Tables(SIZE // 2, reads)
    for _ in range(3):
        tables.get("one", request("a"), None)
    assert (reads.count, tables.nbytes) == (1, SIZE)
    tables.get("one", request("b"), None)
    assert tables.nbytes == SIZE


def test_what_is_made_of_tables_makes_room_too_though_all_are_of_one_size() -> None:
    most = 4 * SIZE
    tables = Tables(most, Reads())
    for turn in range(3):
        for run in ("a", "b", "c"):
            tables.keep_to(most)
            assert tables.nbytes <= most
            found = tables.get("one", request(run), None)
            assert found is not None
            found.encoded[True, None, ()] = table(100.0 * turn + 1.0).table
    tables.keep_to(most)
    assert tables.nbytes == most


def test_runs_that_read_the_same_rows_share_them() -> None:
    tables = Tables(2 * SIZE, Reads(same=True))
    kept = [tables.get("one", request(str(run)), None) for run in range(30)]
    assert tables.nbytes == SIZE
    assert len({id(one.table) for one in kept if one is not None}) == 1


def test_rows_in_files_are_not_taken_for_the_same_ones_in_memory(tmp_path: Path) -> None:
    """Where they lie follows from what is made of them: in memory there would be no room for that."""
    held = table(1.0)
    stored = replace(held, table=replace(held.table, space=Scratch(str(tmp_path))))
    reads = iter([held, stored, held, stored])
    tables = Tables(10 * SIZE, lambda *_: next(reads))
    kept = [tables.get("one", request(run), None) for run in "abcd"]
    assert [one.is_in_memory for one in kept if one is not None] == [True, False, True, False]


def test_what_was_fetched_of_rows_that_lie_elsewhere_counts(tmp_path: Path) -> None:
    """They are not in the process; a step that needs them all has them here."""

    reads = Reads()

    def elsewhere(*asked: Any) -> ReadTable:
        held = reads(*asked)
        return replace(held, table=replace(held.table, space=Scratch(str(tmp_path))))

    tables = Tables(SIZE, elsewhere)
    for number, run in enumerate(("a", "b"), start=1):
        found = tables.get("one", request(run), None)
        assert found is not None
        assert tables.nbytes == (number - 1) * SIZE
        found.fetched.append(table(float(number)))
        assert tables.nbytes == number * SIZE
    tables.keep_to(SIZE)
    assert tables.nbytes == SIZE
    assert tables.get("one", request("b"), None) is found
    assert reads.count == 2


def test_a_computation_that_meets_the_limit_gets_the_room_of_other_runs_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tables = Tables(10 * SIZE, Reads())
    tables.get("one", request("other"), None)
    room: list[int] = []

    def computed(*given: object) -> Contribution:
        del given
        room.append(tables.nbytes)
        if tables.nbytes > most:
            raise MemoryError
        return Contribution(np.zeros(1), 1.0, Plain())

    monkeypatch.setattr(worker, "compute", computed)
    monkeypatch.setattr(worker, "with_state", lambda *_: None)
    monkeypatch.setattr(worker, "task_from_header", lambda _: SimpleNamespace(task=None))
    monkeypatch.setattr(worker, "find_step", lambda _: None)
    asked = ComputeRequest(1, "one", request("own"), b"", b"")
    most = SIZE
    assert isinstance(answer(asked, tables).outcome, Computed)
    assert room == [2 * SIZE, SIZE]
    most = 0
    failed = answer(asked, tables).outcome
    assert isinstance(failed, FederatedError)
    assert failed.code is ErrorCode.PROGRAM_LIMIT


def test_where_memory_runs_out_the_others_make_room_and_only_then_is_it_refused() -> None:
    reads = Reads(room=2 * SIZE)
    tables = reads.tables = Tables(100 * SIZE, reads)
    for run in ("a", "b", "c"):
        tables.get("one", request(run), None)
    assert tables.nbytes == SIZE

    nowhere = Reads(room=0)
    nowhere.tables = Tables(100 * SIZE, nowhere)
    with pytest.raises(MemoryError):
        nowhere.tables.get("one", request("a"), None)


def test_a_plain_table_that_is_not_there_wants_row_sets_and_is_then_kept() -> None:
    reads = Reads()
    tables = Tables(SIZE, reads)
    assert tables.get("one", request("a", plain=True), None) is None
    first = tables.get("one", request("a", plain=True), [])
    assert tables.get("one", request("a", plain=True), None) is first
    tables.get("one", request("b", plain=True), [])
    assert tables.get("one", request("a", plain=True), None) is None


def test_the_hash_of_rows_follows_each_part_and_not_how_subjects_are_numbered() -> None:
    made = table(1.0).table
    known = content_hash(made, KEY)
    held = np.ones(ROWS, dtype=np.bool_)
    others = (
        Table(made.features + 1, made.target, made.subjects, made.held_out),
        Table(made.features, made.target + 1, made.subjects, made.held_out),
        Table(made.features, made.target, made.subjects // 2, made.held_out),
        Table(made.features, made.target, made.subjects, held),
    )
    assert known not in {content_hash(one, KEY) for one in others}
    assert known != content_hash(made, b"o" * 32)
    assert known == content_hash(Table(made.features, made.target, 3 * made.subjects + 5, made.held_out), KEY)


def test_what_a_plain_answer_makes_of_a_table_is_nothing_to_a_private_one_that_shares_it() -> None:
    """Without noise values of few count with others; under a budget a row's inputs are its own."""
    values = np.array([[0.0]] * 20 + [[1.0]] * 5 + [[2.0]] * 3)
    kept = Table(values, np.array([0.0, 1.0] * 14), np.arange(28), np.zeros(28, dtype=np.bool_))
    column = ColumnEncoding("age", ColumnKind.CATEGORY, "indicators", ("0", "1", "2"))
    encoding = Encoding((column,), ("0", "1"))
    made: Encoded = {}
    found = []
    for budget in (None, Budget(1.0, 1e-5), None):
        work = StatisticsWork("logistic_regression", None if budget is None else 3.0, classes=2)
        key = TaskKey(
            WorkspaceName("w"), RunId(UUID(int=1)), RoundNumber(0), 0, StepName("statistics"), NodeName("n")
        )
        reading = Reading(None, ("age",), "outcome", 0.0, 1)
        task = Task(key, reading, work.to_work(2 if budget is None else 0), budget=budget, encoding=encoding)
        compute(task, kept, request("a", plain=budget is None), NO_STATE, made)
        [table_] = made.values()
        found.append(float(table_.features[:, 1].sum()))

    assert found == [0.0, 3.0, 0.0]


def test_what_was_read_when_others_were_left_out_is_not_kept() -> None:
    reads = Reads()
    tables = Tables(10 * SIZE, reads)
    for reader in ("reader", "another node's"):
        tables.get(reader, request("1"), None)
        tables.get(reader, request("2"), None)
    assert (reads.count, tables.nbytes) == (4, 4 * SIZE)
    tables.get("reader", replace(request("1"), admission=Admission(b"x" * 8)), None)
    assert (reads.count, tables.nbytes) == (5, 3 * SIZE)
