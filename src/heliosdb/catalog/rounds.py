"""Rounds: what each asked of whom, what came of it, and the state that the run has reached.

What always holds: functions that write expect a transaction of `lease.fenced`; one call is a few statements
whatever the number of nodes; a task is named by round, exchange, step and node.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from heliosdb.catalog import ledger
from heliosdb.catalog.connection import Connection, Statements
from heliosdb.catalog.ledger import SignedSpending
from heliosdb.domain.events import Figures
from heliosdb.domain.ids import NodeName, RoundNumber, RunId, StepName
from heliosdb.domain.run import Outcome, Run
from heliosdb.domain.selection import Standing, Standings

_SQL = Statements("rounds.sql")

_COLUMNS = {
    "loss": "global_loss",
    "accuracy": "global_accuracy",
    "loss_error": "global_loss_std_error",
    "accuracy_error": "global_accuracy_std_error",
    "base_loss": "base_loss",
    "precision": "global_precision",
    "recall": "global_recall",
    "f1_score": "global_f1_score",
    "rmse": "global_rmse",
    "start_loss": "start_loss",
}
"""Where a round's row has its figures."""


@dataclass(frozen=True, slots=True)
class RoundRecord:
    """A round's row."""

    number: RoundNumber
    status: str
    figures: Figures


@dataclass(frozen=True, slots=True)
class Participation:
    """What a node did in one exchange of a round. weight: of its update, None where none arrived.

    asked: how many nodes the exchange asked; None in a row of version 1.1.
    """

    node: NodeName
    exchange: int
    step: StepName
    outcome: Outcome
    weight: float | None = None
    asked: int | None = None


@dataclass(frozen=True, slots=True)
class Settlement:
    """How a task ended, as it is recorded; signed: None without a budget and without an update.

    described: what the update, a plain one, said of its node's rows, as JSON. breach: as of a loss.
    stated_rows: how many rows the node has, by its answer (noised under a budget); None: it states none.
    asked: of an asynchronous run, in which round its node was asked; None: in the one that it is recorded
    with.
    """

    node: NodeName
    outcome: Outcome
    reason: str | None = None
    weight: float | None = None
    bytes_sent: int | None = None
    bytes_received: int | None = None
    duration_seconds: float | None = None
    signed: SignedSpending | None = None
    described: Mapping[str, Any] | None = None
    breach: str | None = None
    stated_rows: int | None = None
    asked: RoundNumber | None = None


@dataclass(frozen=True, slots=True)
class StoredState:
    """A run's sealed state, the SHA-256 of its values, and what strategy and protocol remember, sealed too.

    memory None: they remember nothing.
    """

    sealed: bytes
    sha256: bytes
    memory: bytes | None = None


def list_rounds(connection: Connection, run: RunId) -> list[RoundRecord]:
    """Return a run's rounds in order."""
    return [
        RoundRecord(
            RoundNumber(row["round_number"]),
            row["status"],
            _figures(row),
        )
        for row in _SQL.query(connection, "list_rounds", str(run))
    ]


def _figures(row: Mapping[str, Any]) -> Figures:
    return Figures(**{name: row[column] for name, column in _COLUMNS.items()})


def list_participation(connection: Connection, run: RunId, number: int) -> list[Participation]:
    """Return what nodes did in a round, exchange by exchange; nodes unregistered since are not among them."""
    return [
        Participation(
            NodeName(row["node"]),
            row["exchange"],
            StepName(row["step"]),
            Outcome(row["outcome"]),
            row["weight"],
            row["asked"],
        )
        for row in _SQL.query(connection, "list_participation", str(run), number)
    ]


def list_standings(connection: Connection, run: RunId) -> Standings:
    """Return what a run's closed rounds say of its nodes; those unregistered since are not among them."""
    return {
        NodeName(row["node"]): Standing(row["stated_rows"], row["asked"], row["aligned"], row["last_asked"])
        for row in _SQL.query(connection, "list_standings", str(run))
    }


def list_at_work(connection: Connection, run: RunId) -> dict[NodeName, RoundNumber]:
    """Return in which training round each node was asked of whose answer nothing is committed."""
    return {
        NodeName(row["node"]): RoundNumber(row["round_number"])
        for row in _SQL.query(connection, "list_at_work", str(run))
    }


def give_up_tasks(connection: Connection, run: RunId, reason: str) -> None:
    """Record that nobody waits any more for what rounds that are over have asked."""
    _SQL.query(connection, "give_up_tasks", str(run), reason)


def find_lost(connection: Connection, run: RunId) -> list[tuple[NodeName, str]]:
    """Return the nodes that round 0 went on without and that took part in no later round, and why."""
    return [
        (NodeName(row["node"]), str(row["reason"])) for row in _SQL.query(connection, "find_lost", str(run))
    ]


def delete_failed_round(connection: Connection, run: RunId, number: int) -> bool:
    """Forget a round that was given up when its run ended, with what nodes did in it; False where there is
    none."""
    return bool(_SQL.query(connection, "delete_failed_round", str(run), number))


def open_round(
    connection: Connection,
    run: Run,
    number: RoundNumber,
    step: StepName,
    cohort: Iterable[NodeName],
    *,
    learning_rate: float | None = None,
) -> None:
    """Record a round and whom its first exchange asks. learning_rate: the step size in force, None for
    none."""
    _SQL.query(connection, "insert_round", str(run.id), number, learning_rate)
    add_tasks(connection, run, number, 0, step, cohort)


def add_tasks(  # noqa: PLR0917
    connection: Connection,
    run: Run,
    number: RoundNumber,
    exchange: int,
    step: StepName,
    nodes: Iterable[NodeName],
) -> None:
    """Record whom an exchange asks."""
    _SQL.query(
        connection,
        "insert_participation",
        str(run.id),
        number,
        exchange,
        step,
        run.workspace_id,
        sorted(nodes),
    )


def settle(  # noqa: PLR0917
    connection: Connection,
    run: Run,
    number: RoundNumber,
    exchange: int,
    step: StepName,
    settlements: Sequence[Settlement],
) -> None:
    """Record how an exchange ended for each node; charge whose update arrived, and keep what they signed."""
    if not settlements:
        return
    rows = json.dumps([asdict(replace(one, signed=None)) for one in settlements])
    _SQL.query(
        connection,
        "settle_participation",
        str(run.id),
        number,
        exchange,
        step,
        run.workspace_id,
        rows,
    )
    arrived = [one.node for one in settlements if one.outcome is Outcome.RECEIVED]
    if run.policy.privacy_budget is not None and arrived:
        ledger.charge(connection, run, number, exchange, step, arrived)
        signed = {one.node: one.signed for one in settlements if one.signed is not None}
        ledger.insert_node_spending(connection, run, number, exchange, step, signed)


def find_state(connection: Connection, run: RunId, number: int) -> StoredState | None:
    """Return the state after a round, or as an open round has it so far, where it is kept."""
    rows = _SQL.query(connection, "find_state", str(run), number)
    return StoredState(rows[0]["sealed"], rows[0]["sha256"], rows[0]["memory"]) if rows else None


def put_state(connection: Connection, run: RunId, number: int, state: StoredState) -> None:
    """Keep the state that a round has led to so far, in place of what it had led to before."""
    _SQL.query(connection, "put_state", str(run), number, state.sealed, state.sha256, state.memory)


def delete_other_states(connection: Connection, run: RunId, kept: Iterable[int]) -> None:
    """Forget the states of all rounds but these and those of internal checkpoints."""
    _SQL.query(connection, "delete_other_states", str(run), sorted(set(kept)))


def put_figures(connection: Connection, run: RunId, number: int, figures: Figures | None) -> None:
    """Record what an open round has found."""
    _SQL.query(connection, "put_figures", str(run), number, _figures_json(figures))


def put_report(connection: Connection, run: RunId, number: int, report: Mapping[str, Any]) -> None:
    """Record what was reported of the model of a round."""
    _SQL.query(connection, "put_report", str(run), number, json.dumps(report, allow_nan=False))


def close_round(
    connection: Connection, run: RunId, number: int, figures: Figures | None, message: str | None
) -> bool:
    """Close an open round; False where it is not open."""
    return bool(_SQL.query(connection, "close_round", str(run), number, _figures_json(figures), message))


def _figures_json(figures: Figures | None) -> str:
    found = asdict(figures or Figures(None, None))
    return json.dumps({column: found[name] for name, column in _COLUMNS.items()}, allow_nan=False)


def fail_open_round(connection: Connection, run: RunId, reason: str) -> None:
    """Give up the open round, where there is one."""
    _SQL.query(connection, "fail_open_round", str(run), reason)
