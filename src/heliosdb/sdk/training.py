"""Training: START, and following the run that it queued until that has ended.

What always holds: START is committed before anybody waits, so whoever stops waiting (Ctrl-C, a timeout, a
lost connection) leaves the run going; nothing but STOP ends it.
"""

from __future__ import annotations

import time
from asyncio import CancelledError
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from heliosdb.sdk import statements
from heliosdb.sdk.catalog import runs
from heliosdb.sdk.errors import FederatedLearningError, TrainingError
from heliosdb.sdk.progress import Watcher
from heliosdb.sdk.records import Run
from heliosdb.sdk.requests import Operation, Pause, Row, Transaction, execute, query

POLL_SECONDS = 0.25
_ACTIVE = frozenset({"queued", "running"})
_USELESS = frozenset({"failed", "diverged"})


@dataclass(frozen=True, slots=True)
class Started:
    """What a START queued: one run, or those of folds and of a search."""

    model: str
    run_ids: tuple[UUID, ...]


def start(model: str, options: Mapping[str, object]) -> Operation[Started]:
    """START FEDERATED TRAINING."""
    begin = execute(statements.start_training(model, options))
    rows = yield Transaction((begin, query("list_started", model)))
    return Started(model, tuple(row["run_id"] for row in rows))


def train(
    model: str, options: Mapping[str, object], watcher: Watcher, *, wait: bool, timeout: float | None
) -> Operation[Run]:
    """Start a training and, if `wait`, follow it to its end; TrainingError where that is no use."""
    started = yield from start(model, options)
    if not wait:
        return (yield from _find(started))
    status, message = yield from _watch(started, watcher, timeout)
    run = replace((yield from _find(started)), status=status)
    if status in _USELESS:
        raise TrainingError(model, replace(run, message=message or run.message))
    return run


def wait(model: str, watcher: Watcher, *, timeout: float | None) -> Operation[str]:
    """Follow the latest run, or the series that it is of, to its end; 55000 where there was none."""
    rows = yield query("list_latest", model)
    if not rows:
        raise FederatedLearningError(
            "55000", f'federated model "{model}" has never been in training', None, "train() starts a run."
        )
    latest = Started(model, tuple(row["run_id"] for row in rows))
    status, _message = yield from _watch(latest, watcher, timeout)
    return status


def _watch(started: Started, watcher: Watcher, timeout: float | None) -> Operation[tuple[str, str | None]]:
    """Follow runs to their end; who stops waiting is told that they go on."""
    try:
        watcher.begin(started.model)
        return (yield from _follow(started, watcher, timeout))
    except (KeyboardInterrupt, CancelledError) as left:
        text = (
            f"The training of {started.model} goes on:"
            " status() shows it, wait() waits for it, stop() ends it."
        )
        watcher.leave(text)
        left.add_note(text)
        raise
    finally:
        watcher.end()


def _follow(started: Started, watcher: Watcher, timeout: float | None) -> Operation[tuple[str, str | None]]:
    deadline = None if timeout is None else time.monotonic() + timeout
    while True:
        rows = yield query("follow_runs", list(started.run_ids))
        if len(rows) < len(started.run_ids):
            raise FederatedLearningError(
                "42704", f'federated model "{started.model}" was dropped while waiting for its training'
            )
        watcher.show(*_standing(rows))
        status, message = _ending(rows)
        if status not in _ACTIVE:
            return status, message
        if deadline is not None and time.monotonic() >= deadline:
            raise FederatedLearningError(
                "57014",
                f'timed out waiting for the training of federated model "{started.model}"',
                f"It is {status} and goes on.",
                "wait() waits for it, stop() ends it.",
            )
        yield Pause(POLL_SECONDS)


def _ending(rows: Sequence[Row]) -> tuple[str, str | None]:
    """How the run, or the series that it is of, stands."""
    active = [row["status"] for row in rows if row["status"] in _ACTIVE]
    if active:
        return ("running" if "running" in active or len(active) < len(rows) else "queued"), None
    last = rows[-1]
    if last["series_status"] is not None:
        return last["series_status"], last["series_message"]
    return last["status"], None


def _standing(rows: Sequence[Row]) -> tuple[int, int, str, str]:
    """Rounds done and planned, how it stands, and the last figures."""
    done = sum(
        (row["planned"] or 0) if row["status"] not in _ACTIVE else (row["round_number"] or 0) for row in rows
    )
    planned = sum(row["planned"] or 0 for row in rows)
    figures = ""
    for row in rows:
        known = [
            f"{label} {row[figure]:.4g}"
            for label, figure in (("loss", "global_loss"), ("accuracy", "global_accuracy"))
            if row[figure] is not None
        ]
        figures = ", ".join(known) or figures
    return done, planned, _ending(rows)[0], figures


def _find(started: Started) -> Operation[Run]:
    """The run of a START; of several the one that left the version, else the last."""
    own = [run for run in (yield from runs(None, started.model)) if run.run_id in started.run_ids]
    if not own:
        raise FederatedLearningError("42704", f'the run of federated model "{started.model}" is gone')
    return next((run for run in own if run.version is not None), own[-1])
