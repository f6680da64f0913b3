"""Runs: which there are, what each was started with and has found, and how it ended.

What always holds: functions that write expect a transaction of `lease.fenced`; one call is one statement;
JSON becomes objects here and in `run_options`, and nowhere else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from federated_sql.options import OptionKind, defaults
from heliosdb.catalog.connection import Connection, Row, Statements
from heliosdb.catalog.run_options import parse_options, parse_policy
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.folds import Series
from heliosdb.domain.ids import ModelName, RoundNumber, RunId, WorkspaceName
from heliosdb.domain.parent import Parent
from heliosdb.domain.run import Policy, Run, RunStatus
from heliosdb.parts.built import built_parts

_SQL = Statements("runs.sql")


@dataclass(frozen=True, slots=True)
class ActiveRun:
    """A run that is queued or running, as a poll sees it. priority: 0 where its row has none that is one."""

    id: RunId
    status: RunStatus
    stop_requested: bool
    priority: int = 0


@dataclass(frozen=True, slots=True)
class Best:
    """The trial of a search that is to become a version, with the round by which it is judged.

    is_compared: whether it has figures; without them it is the first.
    """

    run: RunId
    round: RoundNumber
    is_compared: bool


@dataclass(frozen=True, slots=True)
class Voter:
    """The run of a group that votes. round: by which it is judged, whose model was kept; None where it left
    none, and message says why."""

    run: RunId
    round: RoundNumber | None
    message: str | None


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A running run and what its round 0 left; scaling is None before it opened, plan without a budget.

    current: the workspace's policy as it stands now.
    """

    run: Run
    current: Policy
    scaling: Mapping[str, Any] | None
    plan: Mapping[str, Any] | None
    stop_requested: bool


def list_active_runs(connection: Connection) -> list[ActiveRun]:
    """Return queued and running runs, oldest first."""
    return [
        ActiveRun(
            RunId(UUID(row["run_id"])),
            RunStatus(row["status"]),
            row["stop_requested"],
            _priority(row["priority"]),
        )
        for row in _SQL.query(connection, "active_runs")
    ]


def _priority(written: str | None) -> int:
    """What the row of a run says; it may have been written by any hand, and must not stop the others."""
    return int(written) if written is not None and re.fullmatch(r"-?[0-9]{1,2}", written) else 0


def say_of_waiting(connection: Connection, told: Mapping[RunId, str]) -> None:
    """Tell of runs, by their ids, what they wait for; of those that have ended nothing is changed."""
    rows = [{"run_id": str(run), "message": message} for run, message in told.items()]
    _SQL.query(connection, "say_of_waiting", json.dumps(rows))


def list_ended_runs(connection: Connection, workspace: WorkspaceName) -> list[RunId]:
    """Return the last hundred runs of a workspace that have ended."""
    return [RunId(UUID(row["run_id"])) for row in _SQL.query(connection, "ended_runs", workspace)]


def claim_run(connection: Connection, run: RunId) -> bool:
    """Make a queued run a running one; False where it is not queued any more."""
    return bool(_SQL.query(connection, "claim_run", str(run)))


def find_run(connection: Connection, run: RunId, *, ended: bool = False) -> RunRecord | None:
    """Read a running run, or one that has ended; None where it is not that, or its model was dropped.

    FederatedError INVALID_VALUE where its options or policy are not those of a run.
    """
    rows = _SQL.query(connection, "find_run", str(run))
    if not rows or (rows[0]["status"] == RunStatus.RUNNING) is ended:
        return None
    row = rows[0]
    try:
        return _record(run, row)
    except KeyError as error:
        raise _unreadable(f'"{error.args[0]}" is missing') from error
    except (TypeError, ValueError, AttributeError) as error:
        raise _unreadable("a value is not of its option's type") from error


def _unreadable(why: str) -> FederatedError:
    return FederatedError(
        ErrorCode.INVALID_VALUE,
        f"the run's options or policy cannot be read: {why}",
        hint="START FEDERATED TRAINING makes a run with all of them.",
    )


def _record(run: RunId, row: Row) -> RunRecord:
    workspace, policy = WorkspaceName(row["workspace"]), json.loads(row["policy"])
    current = {**defaults(OptionKind.WORKSPACE, built_parts()), **json.loads(row["workspace_options"])}
    return RunRecord(
        Run(
            id=run,
            model=ModelName(row["model"]),
            model_id=row["model_id"],
            workspace_id=row["workspace_id"],
            options=parse_options(json.loads(row["options"]), row["fold"], policy),
            policy=parse_policy(policy, workspace),
            series=_series(row),
            group_nodes=None if row["group_nodes"] is None else frozenset(row["group_nodes"]),
            seed_run=None if row["seed_run"] is None else RunId(UUID(row["seed_run"])),
            is_resumed=row["is_resumed"],
            parent=_parent(row),
        ),
        current=parse_policy(current, workspace),
        scaling=json.loads(row["scaling"]) if row["scaling"] else None,
        plan=json.loads(row["plan"]) if row["plan"] else None,
        stop_requested=row["stop_requested"],
    )


def _parent(row: Row) -> Parent | None:
    if row["parent_run"] is None:
        return None
    return Parent(row["parent_model"], row["parent_version"], RunId(UUID(row["parent_run"])))


def _series(row: Row) -> Series | None:
    if row["series_id"] is None:
        return None
    publishes = row["has_folds"] and row["fold"] is None
    # What other groups are yet to spend is of other nodes.
    to_come = row["to_come"] if row["group_nodes"] is None else 0
    measures = row["has_voters"] and row["group_nodes"] is None
    keeps = not (row["has_folds"] or measures)
    return Series(UUID(row["series_id"]), publishes, keeps, to_come, measures)


def lock_run(connection: Connection, run: RunId) -> bool:
    """Keep a running run as it is until the transaction ends; False where it has ended or is gone."""
    return bool(_SQL.query(connection, "lock_run", str(run)))


def set_message(connection: Connection, run: RunId, message: str) -> None:
    """Tell the user what a run is doing."""
    _SQL.query(connection, "set_message", str(run), message)


def set_findings(
    connection: Connection, run: RunId, scaling: Mapping[str, Any] | None, plan: Mapping[str, Any] | None
) -> None:
    """Record what a run found and how it divides its budget."""
    found = (None if one is None else json.dumps(one) for one in (scaling, plan))
    _SQL.query(connection, "set_findings", str(run), *found)


def finish_run(connection: Connection, run: RunId, status: RunStatus, message: str) -> bool:
    """End a running run; False where it has ended."""
    return bool(_SQL.query(connection, "finish_run", str(run), status.value, message))


def set_result(connection: Connection, run: RunId, number: RoundNumber) -> None:
    """Record by which round's figures a run of a series is judged."""
    _SQL.query(connection, "set_result", str(run), number)


def list_undecided_series(connection: Connection) -> list[UUID]:
    """Return the searches of which all runs have ended, and whose best trial is yet to become a version."""
    return [UUID(row["series_id"]) for row in _SQL.query(connection, "undecided_series")]


def find_best(connection: Connection, series: UUID) -> Best | None:
    """Return the best trial of a search, where none could be compared the first that has a model; None where
    none has."""
    rows = _SQL.query(connection, "best_trial", str(series))
    if not rows:
        return None
    row = rows[0]
    return Best(RunId(UUID(row["run_id"])), RoundNumber(row["result_round"]), row["is_compared"])


def list_voters(connection: Connection, series: UUID) -> list[Voter]:
    """Return the runs of a series whose groups vote, in the order of the groups; [] of any other series."""
    return [
        Voter(
            RunId(UUID(row["run_id"])),
            None if row["result_round"] is None else RoundNumber(row["result_round"]),
            row["message"],
        )
        for row in _SQL.query(connection, "voters", str(series))
    ]


def find_certified(connection: Connection, series: UUID) -> str | None:
    """Return, as JSON, what the run has found that measured the vote of a series; None where none has."""
    rows = _SQL.query(connection, "certified", str(series))
    return rows[0]["report"] if rows else None


def list_runs_of(connection: Connection, series: UUID) -> list[RunId]:
    """Return the runs of a series."""
    return [RunId(UUID(row["run_id"])) for row in _SQL.query(connection, "runs_of_series", str(series))]


def add_to_message(connection: Connection, run: RunId, said: str) -> None:
    """Say at the end of the message of a run that has ended what came of it afterwards."""
    _SQL.query(connection, "add_to_message", str(run), said)
