"""Operations by themselves: what they ask, what they make of answers, and what the two clients have in common."""

from __future__ import annotations

import asyncio
import inspect
import math
import pickle
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import matplotlib as mpl
import numpy as np
import pandas
import polars
import psycopg
import pyarrow
import pytest
from rich.errors import LiveError
from rich.progress import Progress

import heliosdb
from heliosdb.sdk import aio, calls, client
from heliosdb.sdk.errors import FederatedLearningError, TrainingError
from heliosdb.sdk.progress import Bar, Silent
from heliosdb.sdk.records import Budget, History, Records, Round, Run
from heliosdb.sdk.requests import Pause, Query, Transaction

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ONE, TWO = UUID(int=1), UUID(int=2)


class Seen(Silent):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def begin(self, model: str) -> None:
        self.told.append(("begin", model))

    def show(self, done: int, planned: int, status: str, figures: str) -> None:
        self.told.append((done, planned, status, figures))

    def leave(self, text: str) -> None:
        self.told.append(("leave", text))

    def end(self) -> None:
        self.told.append("end")


def run_row(run_id: UUID = ONE, **changes: Any) -> dict[str, Any]:
    return {
        "workspace_name": "w", "model_name": "m", "run": 1, "run_id": run_id, "status": "completed",
        "started_by": "x", "queued_at": NOW, "started_at": NOW, "finished_at": NOW, "rounds": 2, "version": 1,
        "trial": None, "fold": None, "voting_group": None, "group_nodes": None, "options": {}, "message": None,
    } | changes  # fmt: skip


def standing(run_id: UUID = ONE, **changes: Any) -> dict[str, Any]:
    return {
        "run_id": run_id, "status": "running", "series_status": None, "series_message": None, "planned": 2,
        "round_number": None, "global_loss": None, "global_accuracy": None,
    } | changes  # fmt: skip


def drive(operation: Any, answers: list[Any]) -> tuple[Any, list[Any]]:
    """Answer requests one after the other, an exception being thrown; returns the result and what was asked."""
    asked: list[Any] = []
    answer: Any = None
    try:
        while True:
            thrown = isinstance(answer, BaseException)
            asked.append(operation.throw(answer) if thrown else operation.send(answer))
            answer = [] if isinstance(asked[-1], Pause) else answers.pop(0)
    except StopIteration as end:
        return end.value, asked


def train(seen: Seen, *answers: Any, timeout: float | None = None, wait: bool = True) -> Run:
    result, _asked = drive(calls.train("m", {"rounds": 2}, seen, wait=wait, timeout=timeout), list(answers))
    assert isinstance(result, Run)
    return result


def test_training_starts_follows_and_gives_back_the_run() -> None:
    seen = Seen()
    operation = calls.train("m", {"rounds": 2}, seen, wait=True, timeout=None)
    run, asked = drive(
        operation,
        [
            [{"run_id": ONE}],
            [standing(status="queued")],
            [standing(round_number=1, global_loss=0.51234, global_accuracy=0.75)],
            [standing(status="converged", round_number=1)],
            [run_row(status="converged")],
        ],
    )
    assert (run.status, run.version) == ("converged", 1)
    started = asked[0]
    assert isinstance(started, Transaction)
    assert started.queries[0].values == ('START FEDERATED TRAINING "m" WITH ("rounds" = 2)',)
    assert [type(request) for request in asked[1:]] == [Query, Pause, Query, Pause, Query, Query]
    assert seen.told == [
        ("begin", "m"),
        (0, 2, "queued", ""),
        (1, 2, "running", "loss 0.5123, accuracy 0.75"),
        (2, 2, "converged", ""),
        "end",
    ]


def test_without_waiting_the_run_comes_back_as_it_was_queued() -> None:
    seen = Seen()
    assert train(seen, [{"run_id": ONE}], [run_row(status="queued")], wait=False).status == "queued"
    assert seen.told == []


@pytest.mark.parametrize("left", [KeyboardInterrupt(), asyncio.CancelledError()])
def test_who_stops_waiting_is_told_that_the_run_goes_on(left: BaseException) -> None:
    seen = Seen()
    with pytest.raises(type(left)) as raised:
        train(seen, [{"run_id": ONE}], left)
    assert seen.told[1][0] == "leave"
    assert "The training of m goes on" in seen.told[1][1]
    assert raised.value.__notes__ == [seen.told[1][1]]
    assert seen.told[-1] == "end"


def test_a_timeout_says_that_the_run_goes_on() -> None:
    with pytest.raises(FederatedLearningError, match="goes on") as raised:
        train(Seen(), [{"run_id": ONE}], [standing()], timeout=0.0)
    assert raised.value.sqlstate == "57014"


def test_a_model_that_is_dropped_meanwhile_is_an_error() -> None:
    with pytest.raises(FederatedLearningError, match="was dropped") as raised:
        train(Seen(), [{"run_id": ONE}], [])
    assert raised.value.sqlstate == "42704"


@pytest.mark.parametrize("status", ["failed", "diverged"])
def test_a_run_without_use_is_an_error_that_says_why(status: str) -> None:
    row = run_row(status=status, version=None, message="node a: too few rows")
    with pytest.raises(TrainingError, match="node a: too few rows") as raised:
        train(Seen(), [{"run_id": ONE}], [standing(status=status)], [row])
    assert (raised.value.run.status, raised.value.sqlstate) == (status, "55000")
    assert isinstance(raised.value, psycopg.Error)
    assert pickle.loads(pickle.dumps(raised.value)).run == raised.value.run


@pytest.mark.parametrize("status", ["stopped", "budget_exhausted", "completed"])
def test_other_endings_are_results(status: str) -> None:
    assert (
        train(Seen(), [{"run_id": ONE}], [standing(status=status)], [run_row(status=status)]).status == status
    )


def test_a_series_is_followed_to_its_end_and_gives_the_run_of_its_version() -> None:
    seen = Seen()
    run = train(
        seen,
        [{"run_id": ONE}, {"run_id": TWO}],
        [standing(status="completed", series_status="completed"), standing(TWO, round_number=1)],
        [
            standing(status="completed", series_status="running"),
            standing(TWO, status="completed", series_status="running"),
        ],
        [
            standing(status="completed", series_status="completed"),
            standing(TWO, status="completed", series_status="completed"),
        ],
        [run_row(version=None), run_row(TWO, run=2, version=4)],
    )
    assert (run.run_id, run.version, run.status) == (TWO, 4, "completed")
    assert [told[:3] for told in seen.told[1:-1]] == [
        (3, 4, "running"),
        (4, 4, "running"),
        (4, 4, "completed"),
    ]


def test_latest_run_is_the_last_that_had_its_turn() -> None:
    info = [{"model_name": "m", "workspace_name": "w", "owner": "x", "options": {}, "created_at": NOW}]
    rows = [run_row(), run_row(TWO, run=2, status="running"), run_row(UUID(int=3), run=3, status="waiting")]
    assert drive(calls.latest_run("m"), [info, rows])[0].run == 2
    assert drive(calls.latest_run("m"), [info, []])[0] is None
    with pytest.raises(FederatedLearningError, match='"m" does not exist'):
        drive(calls.latest_run("m"), [[]])


def test_large_tables_are_predicted_by_one_version() -> None:
    """Another one that became current between two statements has all rows asked anew."""
    many = [{"age": float(n)} for n in range(10_001)]

    def described(key: UUID) -> list[dict[str, Any]]:
        return [{"features": ["age"], "function_name": "m", "version_key": key, "classes": None}]

    def answered(value: float, count: int) -> list[dict[str, Any]]:
        return [{"prediction": value}] * count

    operation = calls.predict("m", many)
    first = [described(ONE), answered(0.1, 10_000), answered(0.2, 1), described(TWO)]
    again = [answered(0.2, 10_000), answered(0.2, 1), described(TWO)]
    predicted, asked = drive(operation, first + again)
    assert predicted == [0.2] * 10_001
    assert len(asked) == 7


DESCRIBED = [{"features": ["age", "bmi"], "function_name": "m", "version_key": ONE, "classes": None}]


def frames(rows: int) -> Iterator[Any]:
    yield pandas.DataFrame({"age": np.arange(rows) / 7, "bmi": np.arange(rows)}, index=np.arange(rows) + 5)
    yield polars.DataFrame({"age": np.arange(rows) / 7, "bmi": np.arange(rows)})
    yield pyarrow.table({"age": np.arange(rows) / 7, "bmi": np.arange(rows)})
    yield pyarrow.RecordBatch.from_pydict({"age": np.arange(rows) / 7, "bmi": np.arange(rows)})


def in_parts(rows: int) -> list[list[dict[str, Any]]]:
    return [
        [{"prediction": float(row)} for row in range(start, min(start + 10_000, rows))]
        for start in range(0, rows, 10_000)
    ]


@pytest.mark.parametrize("rows", [0, 25_000])
def test_a_table_of_any_length_comes_back_in_its_order_and_kind(rows: int) -> None:
    for frame in frames(rows):
        answers = [DESCRIBED, *in_parts(rows), *([DESCRIBED] if rows else [])]
        predicted, _ = drive(calls.predict("m", frame), answers)
        assert type(predicted) is type(frame)
        if isinstance(frame, pandas.DataFrame):
            assert predicted.index.equals(frame.index)
        told = predicted["prediction"]
        assert (told.to_pylist() if hasattr(told, "to_pylist") else told.to_list()) == list(range(rows))


def most_taken(rows: int) -> int:
    """How many bytes predicting for a frame took at most beside it."""
    operation = calls.predict("m", next(frames(rows)))
    next(operation)
    tracemalloc.start()
    try:
        operation.send(DESCRIBED)
        for _ in range(rows // 10_000):
            operation.send([{"prediction": 0.5}] * 10_000)
        with pytest.raises(StopIteration):
            operation.send(DESCRIBED)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_what_a_large_table_takes_is_a_part_of_it_and_the_answer() -> None:
    """The answer has 8 bytes a row, and twice as much while it is put together; a row of Python's has 300."""
    assert most_taken(60_000) - most_taken(20_000) < 40_000 * 40


def test_values_that_do_not_go_together_are_refused_wherever_they_are() -> None:
    rows = [{"age": 1.5}] * 10_000 + [{"age": "old"}]
    with pytest.raises(FederatedLearningError, match="values of several types: float8, text"):
        drive(calls.predict("m", rows), [DESCRIBED, *in_parts(10_000)])
    rows[-1] = {"age": math.nan}
    with pytest.raises(FederatedLearningError, match='feature "age" in row 10000 is nan'):
        drive(calls.predict("m", rows), [DESCRIBED, *in_parts(10_000)])


def test_options_that_have_a_place_are_given_only_where_they_are() -> None:
    assert calls.training_options(3, None, 16, {"seed": 1}) == {"rounds": 3, "batch_size": 16, "seed": 1}


def test_a_workspace_has_to_be_named_somewhere(tmp_path: Path) -> None:
    assert calls.named(None, "w") == "w"
    assert calls.named("v", "w") == "v"
    for call in (lambda: calls.named(None, None), lambda: calls.alter_model("m", {})):
        with pytest.raises(FederatedLearningError, match=r"no (workspace|option) is named"):
            call()
    with pytest.raises(FederatedLearningError, match="cannot be read"):
        drive(calls.register_node("w", "n", "https://x:1", tmp_path / "none.pem", {}), [])


def test_the_two_clients_have_the_same_calls() -> None:
    for one, other in (
        (client.FederatedLearning, aio.AsyncFederatedLearning),
        (client.Workspace, aio.AsyncWorkspace),
        (client.Model, aio.AsyncModel),
    ):
        names = {name for name in vars(one) if not name.startswith("__")}
        assert names == {name for name in vars(other) if not name.startswith("__")}
        for name in names:
            mine, theirs = (inspect.signature(getattr(kind, name)) for kind in (one, other))
            assert mine.parameters == theirs.parameters, name
            assert str(theirs.return_annotation).replace("Async", "") == str(mine.return_annotation), name
            assert getattr(one, name).__doc__.splitlines()[0], name


def test_importing_the_package_imports_nothing_and_its_names_need_psycopg_alone() -> None:
    script = (
        "import sys, heliosdb\n"
        "light = 'psycopg' not in sys.modules\n"
        "from heliosdb import AsyncFederatedLearning, FederatedLearning, TrainingError\n"
        "heavy = {'pglast', 'grpc', 'numpy', 'uvloop', 'pydantic', 'typer', 'cryptography', 'google', 'scipy',\n"
        "         'federated_sql', 'pandas', 'polars', 'pyarrow', 'matplotlib', 'rich'}\n"
        "print(light, sorted(heavy & set(sys.modules)))"
    )
    assert subprocess.check_output([sys.executable, "-c", script], text=True) == "True []\n"
    assert set(heliosdb.__all__) <= set(dir(heliosdb))
    with pytest.raises(AttributeError, match="Nothing"):
        _ = heliosdb.Nothing  # type: ignore[attr-defined]


def test_an_error_is_the_servers_own_words() -> None:
    error = FederatedLearningError("42704", "no such model", "a detail", "a hint")
    assert str(error) == "42704: no such model\nDETAIL: a detail\nHINT: a hint"
    assert FederatedLearningError.of(error) is error
    assert pickle.loads(pickle.dumps(error)).hint == "a hint"
    assert FederatedLearningError.of(psycopg.OperationalError("refused")).sqlstate == "08001"
    assert FederatedLearningError.of(psycopg.ProgrammingError("odd")).sqlstate == "XX000"


def round_row(number: int, loss: float | None, error: float | None = None) -> Round:
    return Round(number, NOW, loss, loss, 3, 0, 0.1, 0.2, None, error, None)


def test_history_is_a_sequence_a_table_and_two_axes() -> None:
    mpl.use("Agg")
    history = History([round_row(0, None), round_row(1, 0.5, 0.1), round_row(2, 0.25)])
    assert (len(history), history[-1].global_loss, history[1:]) == (3, 0.25, history.rows[1:])
    frame = history.to_pandas()
    assert frame["round_number"].tolist() == [0, 1, 2]
    loss, accuracy = history.plot()
    assert loss.lines[0].get_xydata().tolist() == [[1.0, 0.5], [2.0, 0.25]]
    assert loss.collections[0].get_paths()[0].vertices[:, 1].max() == 0.6
    assert (loss.get_ylabel(), accuracy.get_ylabel(), accuracy.get_xlabel()) == ("loss", "accuracy", "round")
    again = History([]).plot([loss, accuracy])
    assert len(again[0].lines) == 2
    assert Records(Budget, []).to_pandas().columns.tolist() == [
        "total_epsilon",
        "consumed_epsilon",
        "remaining_epsilon",
    ]


def test_what_an_extra_brings_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r"heliosdb-federated-learning\[plot\]"):
        History([]).plot()
    with pytest.raises(ImportError, match=r"heliosdb-federated-learning\[dataframes\]"):
        History([]).to_pandas()


def test_where_something_else_is_shown_there_is_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_progress: Progress) -> None:
        raise LiveError("only one at a time")

    monkeypatch.setattr(Progress, "start", refuse)
    bar = Bar()
    bar.begin("risk")
    bar.show(1, 2, "running", "")
    bar.end()


def test_a_bar_shows_rounds_and_figures_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    bar = Bar()
    bar.begin("[bold]risk")
    bar.show(1, 2, "running", "loss 0.5")
    bar.show(2, 2, "completed", "loss 0.25")
    bar.end()
    shown = capsys.readouterr().out
    for part in ("[bold]risk", "2/2", "completed", "loss 0.25"):
        assert part in shown
    Silent().leave("it goes on")
    assert capsys.readouterr().err == "it goes on\n"
