"""Runs, rounds and what nodes did in them: rows become objects, decisions become rows.

What always holds: functions that write expect a transaction of `lease.fenced`; one call is one or two
statements whatever the number of nodes; JSON becomes objects here and nowhere else.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any
from uuid import UUID

from federated_sql.options import OptionKind, defaults
from heliosdb.catalog.connection import Connection, Row, load_statements
from heliosdb.catalog.run_options import parse_options, parse_policy
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.events import Figures
from heliosdb.domain.ids import Epoch, ModelName, NodeName, RoundNumber, RunId, WorkspaceName
from heliosdb.domain.privacy import Mechanism, Spending
from heliosdb.domain.run import Outcome, Policy, Run, RunStatus
from heliosdb.domain.task import Step
from heliosdb.parts.built import built_parts


@dataclass(frozen=True, slots=True)
class ActiveRun:
    """A run that is queued or running, as a poll sees it."""

    id: RunId
    status: RunStatus
    stop_requested: bool


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


@dataclass(frozen=True, slots=True)
class RoundRecord:
    """A round's row."""

    number: RoundNumber
    status: str
    figures: Figures


@dataclass(frozen=True, slots=True)
class Participation:
    """What a node did in one exchange of a round. weight: of its update, None where none arrived."""

    node: NodeName
    step: Step
    outcome: Outcome
    weight: float | None = None


@dataclass(frozen=True, slots=True)
class SignedSpending:
    """What a node signed of its own ledger with a release: the header's bytes, and what they say."""

    header: bytes
    signature: bytes
    mechanism: Mechanism
    spending: Spending


@dataclass(frozen=True, slots=True)
class Settlement:
    """How a task ended, as it is recorded; signed: None without a budget and without an update."""

    node: NodeName
    outcome: Outcome
    reason: str | None = None
    weight: float | None = None
    bytes_sent: int | None = None
    bytes_received: int | None = None
    duration_seconds: float | None = None
    signed: SignedSpending | None = None


@dataclass(frozen=True, slots=True)
class Charge:
    """A reservation in the workspace's ledger: one release of one node, and where it brings the node."""

    node: NodeName
    step: Step
    mechanism: Mechanism
    clipping_norm: float | None
    epsilon: float
    epsilon_basic: float
    epsilon_tight: float


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the ledger. epsilon: of its release alone; reached: where it brings its node."""

    id: int
    node: NodeName
    mechanism: Mechanism
    epsilon: float
    reached: Spending


@dataclass(frozen=True, slots=True)
class Removed:
    """A reservation that was taken back."""

    id: int
    node: NodeName
    step: Step
    epsilon: float


@dataclass(frozen=True, slots=True)
class Sums:
    """Where one line of the ledger brings its node."""

    ledger_id: int
    epsilon_basic: float
    epsilon_tight: float


@dataclass(frozen=True, slots=True)
class Spent:
    """So many equal releases of one node."""

    mechanism: Mechanism
    times: int

    @property
    def composed(self) -> Mechanism:
        """All of them as one mechanism of more steps."""
        return replace(self.mechanism, steps=self.mechanism.steps * self.times)


@dataclass(frozen=True, slots=True)
class Parameters:
    """Sealed parameters and the SHA-256 of what is sealed."""

    sealed: bytes
    sha256: bytes


def _run(connection: Connection, name: str, *values: object) -> Sequence[Row]:
    return connection.query(load_statements("runs.sql")[name], *values)


def list_active_runs(connection: Connection) -> list[ActiveRun]:
    """Return queued and running runs, oldest first."""
    return [
        ActiveRun(RunId(UUID(row["run_id"])), RunStatus(row["status"]), row["stop_requested"])
        for row in _run(connection, "active_runs")
    ]


def claim_run(connection: Connection, run: RunId) -> bool:
    """Make a queued run a running one; False where it is not queued any more."""
    return bool(_run(connection, "claim_run", str(run)))


def find_run(connection: Connection, run: RunId) -> RunRecord | None:
    """Read a running run; None where it has ended or its model was dropped.

    FederatedError INVALID_VALUE where its options or policy are not those of a run.
    """
    rows = _run(connection, "find_run", str(run))
    if not rows:
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
    workspace = WorkspaceName(row["workspace"])
    current = {**defaults(OptionKind.WORKSPACE, built_parts()), **json.loads(row["workspace_options"])}
    return RunRecord(
        Run(
            id=run,
            model=ModelName(row["model"]),
            model_id=row["model_id"],
            workspace_id=row["workspace_id"],
            options=parse_options(json.loads(row["options"])),
            policy=parse_policy(json.loads(row["policy"]), workspace),
        ),
        current=parse_policy(current, workspace),
        scaling=json.loads(row["scaling"]) if row["scaling"] else None,
        plan=json.loads(row["plan"]) if row["plan"] else None,
        stop_requested=row["stop_requested"],
    )


def lock_run(connection: Connection, run: RunId) -> bool:
    """Keep a running run as it is until the transaction ends; False where it has ended or is gone."""
    return bool(_run(connection, "lock_run", str(run)))


def list_rounds(connection: Connection, run: RunId) -> list[RoundRecord]:
    """Return a run's rounds in order."""
    return [
        RoundRecord(
            RoundNumber(row["round_number"]),
            row["status"],
            Figures(row["global_loss"], row["global_accuracy"]),
        )
        for row in _run(connection, "list_rounds", str(run))
    ]


def list_participation(connection: Connection, run: RunId, number: int) -> list[Participation]:
    """Return what nodes did in a round; nodes that were unregistered since are not among them."""
    return [
        Participation(NodeName(row["node"]), Step(row["step"]), Outcome(row["outcome"]), row["weight"])
        for row in _run(connection, "list_participation", str(run), number)
    ]


def find_parameters(connection: Connection, run: RunId, number: int) -> Parameters | None:
    """Return the parameters after a round, where they are kept."""
    rows = _run(connection, "find_parameters", str(run), number)
    return Parameters(rows[0]["sealed"], rows[0]["sha256"]) if rows else None


def set_message(connection: Connection, run: RunId, message: str) -> None:
    """Tell the user what a run is doing."""
    _run(connection, "set_message", str(run), message)


def open_round(
    connection: Connection, run: Run, number: RoundNumber, step: Step, cohort: Iterable[NodeName]
) -> None:
    """Record a round and whom it asks first."""
    _run(connection, "insert_round", str(run.id), number)
    add_tasks(connection, run, number, step, cohort)


def add_tasks(
    connection: Connection, run: Run, number: RoundNumber, step: Step, nodes: Iterable[NodeName]
) -> None:
    """Record whom an exchange asks."""
    _run(connection, "insert_participation", str(run.id), number, step.value, run.workspace_id, sorted(nodes))


def lock_ledger(connection: Connection, run: Run) -> None:
    """Keep other runs of the workspace from reserving until the transaction ends."""
    _run(connection, "lock_ledger", run.policy.workspace)


def list_spent(connection: Connection, run: Run) -> dict[NodeName, list[Spent]]:
    """Return what each node of the run's workspace has reserved or spent."""
    spent: dict[NodeName, list[Spent]] = {}
    for row in _run(connection, "list_spent", run.policy.workspace):
        mechanism = Mechanism(row["noise_multiplier"], row["sampling_rate"], row["steps"])
        spent.setdefault(NodeName(row["node_name"]), []).append(Spent(mechanism, row["times"]))
    return spent


def list_reached(connection: Connection, run: Run) -> dict[NodeName, Spending]:
    """Return where the last line of each node of the run's workspace brought it."""
    return {
        NodeName(row["node_name"]): Spending(row["epsilon_basic"], row["epsilon_tight"])
        for row in _run(connection, "list_reached", run.policy.workspace)
    }


def reserve(connection: Connection, run: Run, number: RoundNumber, charges: Sequence[Charge]) -> None:
    """Record what a round is going to cost, before anything of it is asked for."""
    rows = [
        {
            "place": place,
            "node": charge.node,
            "step": charge.step.value,
            **asdict(charge.mechanism),
            "clipping_norm": charge.clipping_norm,
            "epsilon": charge.epsilon,
            "epsilon_basic": charge.epsilon_basic,
            "epsilon_tight": charge.epsilon_tight,
        }
        for place, charge in enumerate(charges)
    ]
    if rows:
        _run(connection, "reserve", run.policy.workspace, str(run.id), run.model, number, json.dumps(rows))


def delete_reservations(
    connection: Connection, run: Run, number: RoundNumber, unspent: Iterable[tuple[NodeName, Step]]
) -> list[Removed]:
    """Take back reservations of a round under which nothing can have been released; charged ones stay."""
    rows = json.dumps([{"node": node, "step": step.value} for node, step in unspent])
    return [
        Removed(row["ledger_id"], NodeName(row["node_name"]), Step(row["step"]), row["epsilon"])
        for row in _run(connection, "delete_reservations", str(run.id), number, rows)
    ]


def list_entries(connection: Connection, run: Run, nodes: Iterable[NodeName]) -> list[Entry]:
    """Return the ledger of some nodes of the run's workspace, in its order."""
    return [
        Entry(
            row["ledger_id"],
            NodeName(row["node_name"]),
            Mechanism(row["noise_multiplier"], row["sampling_rate"], row["steps"]),
            row["epsilon"],
            Spending(row["epsilon_basic"], row["epsilon_tight"]),
        )
        for row in _run(connection, "list_releases", run.policy.workspace, sorted(nodes))
    ]


def correct_sums(connection: Connection, sums: Sequence[Sums]) -> None:
    """Record where lines of the ledger bring their nodes, after one before them was taken back."""
    if sums:
        _run(connection, "correct_sums", json.dumps([asdict(one) for one in sums]))


def still_reserved(connection: Connection, run: Run) -> float | None:
    """Return the ε that a run holds reserved at the node where it is most, None for nothing."""
    epsilon: float | None = _run(connection, "still_reserved", str(run.id))[0]["epsilon"]
    return epsilon


def consumed_epsilon(connection: Connection, run: Run) -> float | None:
    """Return the ε (tight) of the workspace's most charged node, None where nothing was ever charged."""
    epsilon: float | None = _run(connection, "consumed_epsilon", run.policy.workspace)[0]["epsilon"]
    return epsilon


def settle(
    connection: Connection, run: Run, number: RoundNumber, step: Step, settlements: Sequence[Settlement]
) -> None:
    """Record how an exchange ended for each node; charge whose update arrived, and keep what they signed."""
    if not settlements:
        return
    rows = json.dumps([asdict(replace(one, signed=None)) for one in settlements])
    _run(connection, "settle_participation", str(run.id), number, step.value, run.workspace_id, rows)
    arrived = [one.node for one in settlements if one.outcome is Outcome.RECEIVED]
    if run.policy.privacy_budget is not None and arrived:
        _run(connection, "charge", str(run.id), number, step.value, arrived)
        signed = [_signed_row(one.node, one.signed) for one in settlements if one.signed is not None]
        _run(
            connection,
            "insert_node_spending",
            run.policy.workspace,
            str(run.id),
            number,
            step.value,
            json.dumps(signed),
        )


def _signed_row(node: NodeName, signed: SignedSpending) -> dict[str, object]:
    return {
        "node": node,
        "header": signed.header.hex(),
        "signature": signed.signature.hex(),
        **asdict(signed.mechanism),
        **asdict(signed.spending),
    }


def put_parameters(connection: Connection, run: RunId, number: int, parameters: Parameters) -> None:
    """Keep the parameters that a round led to."""
    _run(connection, "put_parameters", str(run), number, parameters.sealed, parameters.sha256)


def delete_parameters_before(connection: Connection, run: RunId, number: int) -> None:
    """Forget the parameters of earlier rounds."""
    _run(connection, "delete_parameters_before", str(run), number)


def set_findings(
    connection: Connection, run: RunId, scaling: Mapping[str, Any] | None, plan: Mapping[str, Any] | None
) -> None:
    """Record what a run found and how it divides its budget."""
    _run(
        connection, "set_findings", str(run), *(None if j is None else json.dumps(j) for j in (scaling, plan))
    )


def close_round(
    connection: Connection, run: RunId, number: int, figures: Figures | None, message: str | None
) -> bool:
    """Close an open round; False where it is not open."""
    found = figures or Figures(None, None)
    return bool(_run(connection, "close_round", str(run), number, found.loss, found.accuracy, message))


def fail_open_round(connection: Connection, run: RunId, reason: str) -> None:
    """Give up the open round, where there is one."""
    _run(connection, "fail_open_round", str(run), reason)


def finish_run(connection: Connection, run: RunId, status: RunStatus, message: str) -> bool:
    """End a running run; False where it has ended."""
    return bool(_run(connection, "finish_run", str(run), status.value, message))


def record_event(
    connection: Connection,
    epoch: Epoch,
    kind: str,
    *,
    run: RunId | None = None,
    number: int | None = None,
    details: Mapping[str, Any] | None = None,
) -> None:
    """Append to the history of what the coordinator decided and saw."""
    run_id = None if run is None else str(run)
    _run(connection, "insert_event", epoch, run_id, number, kind, json.dumps(details or {}))
