"""`heliosdb watch`: follows the run of a model to its end, with its rounds as they close.

What always holds: it only reads; leaving it, however, leaves the run as it is; its exit code is the run's
outcome.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any, Protocol

from heliosdb.catalog.overview import (
    RUNNING,
    ClosedRound,
    LatestRun,
    demand_model,
    find_latest_run,
    how_it_ended,
    list_closed_rounds,
)
from heliosdb.catalog.psycopg_connection import PsycopgConnection
from heliosdb.cli.people import reading
from heliosdb.cli.tables import clean
from heliosdb.domain.errors import ErrorCode, FederatedError, edge
from heliosdb.domain.wording import counted

EXIT_CODES = {
    "converged": 0,
    "completed": 0,
    "failed": 1,
    "budget_exhausted": edge(ErrorCode.BUDGET_EXHAUSTED).exit_code,
    "stopped": 20,
    "diverged": 21,
}
"""By how a run ended."""

INTERRUPTED = 130

_PAUSE = 0.5
"""Seconds between two looks at the catalog; a notification to the coordinator ends one early."""

_CHANNEL = b"LISTEN heliosdb_federated"
_PROGRESS = re.compile(r"round (\d+) of (\d+)")


class Follower(Protocol):
    """Shows what is seen."""

    def saw(self, run: LatestRun, rounds: list[ClosedRound]) -> None:
        """Show a run and its closed rounds, of which some may have been shown before."""
        ...

    def ended(self, model: str, run: LatestRun, status: str) -> None:
        """Show the end."""
        ...


def watch(dsn: str, model: str, follower: Follower, say: Callable[[str], None]) -> int:
    """Follow a model's latest run until it has ended, and return the exit code; 130 after Ctrl-C.

    FederatedError UNDEFINED_OBJECT, WRONG_STATE where the model was never in training, or as `reading`.
    """
    with reading(dsn, "heliosdb watch") as connection:
        demand_model(connection, model)
        connection.raw.execute(_CHANNEL)
        try:
            run = _follow(connection, model, follower)
        except KeyboardInterrupt:
            # What is half read of an answer belongs to nobody: nothing more is asked in this session.
            say(f'the run of federated model "{model}" goes on; STOP FEDERATED TRAINING stops it')
            return INTERRUPTED
        status = how_it_ended(connection, model)
        follower.ended(model, run, status)
    return EXIT_CODES.get(status, 1)


def _follow(connection: PsycopgConnection, model: str, follower: Follower) -> LatestRun:
    while True:
        run = find_latest_run(connection, model)
        if run is None:
            raise FederatedError(
                ErrorCode.WRONG_STATE,
                f'federated model "{model}" has never been in training',
                hint="START FEDERATED TRAINING starts a run.",
            )
        follower.saw(run, list_closed_rounds(connection, model, run.run))
        if run.status not in RUNNING:
            return run
        for _ in connection.raw.notifies(timeout=_PAUSE, stop_after=1):
            pass


def planned_rounds(run: LatestRun) -> int | None:
    """How many rounds the run may have, as its own message says while it runs; None while it does not."""
    found = _PROGRESS.fullmatch(run.message or "")
    return int(found[2]) if found else None


class LineFollower:
    """A line for each round, of text or of JSON."""

    def __init__(self, show: Callable[[str], None], *, as_json: bool) -> None:
        self._show = show
        self._json = as_json
        self._shown: dict[int, int] = {}

    def saw(self, run: LatestRun, rounds: list[ClosedRound]) -> None:
        """Show the rounds that were not shown before."""
        for one in rounds:
            if one.round_number > self._shown.get(run.run, -1):
                self._shown[run.run] = one.round_number
                self._tell({"run": run.run, **asdict(one)}, f"run {run.run}, {round_text(one)}")

    def ended(self, model: str, run: LatestRun, status: str) -> None:
        """Show the end."""
        said = {"run": run.run, "status": status, "message": run.message}
        self._tell(said, f"{model}: {status}" + (f": {clean(run.message)}" if run.message else ""))

    def _tell(self, document: dict[str, Any], text: str) -> None:
        self._show(json.dumps(document) if self._json else text)


def round_text(one: ClosedRound) -> str:
    """A closed round in words."""
    figures = [("loss", one.global_loss), ("accuracy", one.global_accuracy), ("ε", one.epsilon)]
    said = [f"{name} {value:.4f}" for name, value in figures if value is not None]
    lost = f", {one.dropped_nodes} lost" if one.dropped_nodes else ""
    return f"round {one.round_number}: " + ", ".join(
        [f"{counted(one.participating_nodes, 'node')}{lost}", *said]
    )


@contextmanager
def progress_follower(model: str) -> Iterator[Follower]:
    """A bar on the terminal, which goes when the block is left."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[figures]}", markup=False),
        TimeElapsedColumn(),
    )
    console = Console()
    with Progress(*columns, console=console) as progress:
        yield _Bar(progress, console, model)


class _Bar:
    def __init__(self, progress: Any, console: Any, model: str) -> None:
        self._progress = progress
        self._console = console
        self._model = model
        self._tasks: dict[int, Any] = {}

    def saw(self, run: LatestRun, rounds: list[ClosedRound]) -> None:
        """Move the run's bar."""
        if run.run not in self._tasks:
            self._tasks[run.run] = self._progress.add_task(
                clean(f"{self._model}, run {run.run}"), total=None, figures=""
            )
        last = rounds[-1] if rounds else None
        figures = clean(run.message or run.status) if last is None else round_text(last).partition(": ")[2]
        changes: dict[str, Any] = {"figures": figures, "completed": 0 if last is None else last.round_number}
        planned = planned_rounds(run) if run.status in RUNNING else changes["completed"]
        if planned is not None:
            changes["total"] = planned
        self._progress.update(self._tasks[run.run], **changes)

    def ended(self, model: str, run: LatestRun, status: str) -> None:
        """Say how it ended, below the bar."""
        said = f"{model}: {status}" + (f": {clean(run.message)}" if run.message else "")
        self._console.print(said, markup=False, highlight=False)
