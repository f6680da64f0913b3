"""The transactions of a run: each moves the catalog from one state that can be resumed to the next.

What always holds: every one is fenced by the leader's epoch and holds the run's row, so it either sees a
running run and commits whole, or raises and changes nothing. Nothing here waits for a node.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from heliosdb.algorithms.sql import make_prediction
from heliosdb.catalog import nodes as node_rows
from heliosdb.catalog import performance, publication
from heliosdb.catalog import runs as rows
from heliosdb.catalog.connection import Connection
from heliosdb.catalog.lease import fenced
from heliosdb.catalog.psycopg_connection import PsycopgConnection
from heliosdb.coordinator.budget import Release, most_spent, plan_charges, sums_after
from heliosdb.coordinator.planning import Findings, clipping_norms
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.events import Figures
from heliosdb.domain.ids import Epoch, NodeName, RoundNumber, RunId
from heliosdb.domain.privacy import Mechanism
from heliosdb.domain.round import OpenedRound, Progress
from heliosdb.domain.run import Outcome, Run, RunStatus
from heliosdb.domain.task import Step
from heliosdb.domain.vector import Vector, vector_from_bytes, vector_to_bytes
from heliosdb.transport.sealing import AtRestKey, UnopenedError

Measure = Callable[[], performance.Measured]
"""Says what a round has taken up to the call and is not recorded yet."""


class RunGoneError(Exception):
    """The run has ended or its model was dropped: there is nothing left to do."""


@dataclass(frozen=True, slots=True)
class Writer:
    """Who writes about which run."""

    epoch: Epoch
    run: Run

    @contextmanager
    def transaction(self, connection: Connection) -> Iterator[None]:
        """Open a fenced transaction that holds the run; RunGoneError, FederatedError FENCED."""
        with fenced(connection, self.epoch):
            if not rows.lock_run(connection, self.run.id):
                raise RunGoneError
            yield

    def note(self, connection: Connection, kind: str, number: int | None = None, **details: object) -> None:
        """Append to the history."""
        rows.record_event(connection, self.epoch, kind, run=self.run.id, number=number, details=details)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A run as committed.

    parameters: after the last closed round (None before round 1 closed); kept: of the round being evaluated.
    stated: by node the weight of its answer to round 0, its rows where the run has no budget.
    """

    run: Run
    findings: Findings
    progress: Progress
    parameters: Vector | None
    kept: Vector | None
    stated: Mapping[NodeName, float]


@dataclass(frozen=True, slots=True)
class Settled:
    """An exchange that is over, for the records.

    unspent: reservations of its round under which certainly nothing was released.
    """

    step: Step
    settlements: Sequence[rows.Settlement]
    unspent: Sequence[tuple[NodeName, Step]] = ()


def claim(connection: Connection, epoch: Epoch, run: RunId) -> bool:
    """Make a queued run ours; False where it is no longer queued, or may not be carried out and so failed."""
    with fenced(connection, epoch):
        if not rows.claim_run(connection, run):
            return False
        rows.record_event(connection, epoch, "run.claimed", run=run)
        obstacle = _obstacle(connection, run)
        if obstacle is not None:
            _fail(connection, epoch, run, obstacle)
    return obstacle is None


def _obstacle(connection: Connection, run: RunId) -> str | None:
    """Say why a run may not be carried out at all; its row may have been written by any hand."""
    try:
        record = rows.find_run(connection, run)
    except FederatedError as error:
        return error.message
    return None if record is None else record.run.policy.laxity(record.current)


def load(connection: Connection, run_id: RunId, key: AtRestKey) -> Loaded | None:
    """Read a running run and how far it came; nobody but this term's leader changes that."""
    with connection.transaction():
        record = rows.find_run(connection, run_id)
        if record is None:
            return None
        rounds = rows.list_rounds(connection, run_id)
        closed = [one for one in rounds if one.status == "closed"]
        opened = next((one.number for one in rounds if one.status == "open"), None)
        last = closed[-1].number if closed else -1
        stated = _stated(connection, run_id) if closed else {}
        progress = Progress(
            closed=last,
            members=frozenset(stated) if closed else None,
            losses=tuple(one.figures.loss for one in closed if one.figures.loss is not None),
            figures=closed[-1].figures if closed else None,
            opened=None if opened is None else _opened(connection, run_id, opened),
            stop_requested=record.stop_requested,
        )
        kept = progress.opened is not None and progress.opened.kept is not None
        return Loaded(
            record.run,
            Findings.from_json(record.scaling, record.plan),
            progress,
            _parameters(connection, run_id, last, key) if last >= 1 else None,
            _parameters(connection, run_id, opened or 0, key) if kept else None,
            stated,
        )


def past_of(connection: Connection, run: Run, cohort: Sequence[NodeName]) -> Sequence[Mechanism]:
    """Return what the most charged node of a cohort has released; nothing without a budget."""
    if run.policy.budget is None:
        return ()
    return most_spent(rows.list_spent(connection, run), cohort, run.policy.delta)


def say(connection: Connection, writer: Writer, message: str) -> None:
    """Tell the user what the run waits for."""
    with writer.transaction(connection):
        rows.set_message(connection, writer.run.id, message)


def open_round(
    connection: Connection,
    writer: Writer,
    number: RoundNumber,
    cohort: Sequence[NodeName],
    *,
    findings: Findings,
    releases: Sequence[Release],
    left_out: Mapping[NodeName, str],
) -> None:
    """Commit a round, its cohort and its reservations; UF001 where the budget forbids it."""
    run, budget = writer.run, writer.run.policy.budget
    step = Step.STATISTICS if number == 0 else Step.TRAIN
    with writer.transaction(connection):
        if budget is not None:
            rows.lock_ledger(connection, run)
            spent = rows.list_spent(connection, run)
            reached = rows.list_reached(connection, run)
            charges = plan_charges(
                spent, reached, cohort, releases, budget, clipping_norms=clipping_norms(run)
            )
            rows.reserve(connection, run, number, charges)
        rows.open_round(connection, run, number, step, cohort)
        if number == 0:
            rows.set_findings(connection, run.id, findings.scaling_json(), findings.plan_json())
        rows.set_message(connection, run.id, f"round {number} of {run.options.rounds}")
        writer.note(connection, "round.opened", number, cohort=list(cohort), left_out=dict(left_out))


def keep_training(
    connection: Connection,
    writer: Writer,
    number: RoundNumber,
    settled: Settled,
    *,
    nodes: Sequence[NodeName],
    parameters: rows.Parameters,
    measured: performance.Measured,
) -> None:
    """Commit what training led to and whom the evaluation asks, before anybody is asked."""
    run = writer.run
    with writer.transaction(connection):
        _settle(connection, writer, number, settled)
        performance.record_measured(connection, run, number, measured)
        rows.put_parameters(connection, run.id, number, parameters)
        rows.add_tasks(connection, run, number, Step.EVALUATE, nodes)
        writer.note(connection, "round.combined", number, parameters_sha256=parameters.sha256.hex())


def close_round(
    connection: Connection,
    writer: Writer,
    number: RoundNumber,
    settled: Settled,
    *,
    figures: Figures | None,
    parameters: rows.Parameters | None,
    message: str | None,
    measure: Measure,
) -> None:
    """Commit a training round. parameters: None where they are kept already."""
    run = writer.run
    with writer.transaction(connection):
        _settle(connection, writer, number, settled)
        if parameters is not None:
            rows.put_parameters(connection, run.id, number, parameters)
        rows.delete_parameters_before(connection, run.id, number)
        _close(connection, writer, number, figures=figures, message=message, measure=measure)


def close_round_zero(
    connection: Connection,
    writer: Writer,
    settled: Settled,
    *,
    findings: Findings,
    sizes: Mapping[NodeName, int],
    message: str | None,
    measure: Measure,
) -> None:
    """Commit what round 0 found."""
    run = writer.run
    with writer.transaction(connection):
        _settle(connection, writer, RoundNumber(0), settled)
        rows.set_findings(connection, run.id, findings.scaling_json(), findings.plan_json())
        node_rows.set_dataset_sizes(connection, run, sizes)
        _close(connection, writer, RoundNumber(0), figures=None, message=message, measure=measure)


def end_run(
    connection: PsycopgConnection,
    writer: Writer,
    status: RunStatus,
    message: str,
    *,
    number: RoundNumber,
    settled: Settled | None,
    version: publication.NewVersion | None,
) -> str:
    """Commit the end of a run, with its version where there is one; returns the message as recorded."""
    run = writer.run
    with writer.transaction(connection):
        if settled is not None:
            _settle(connection, writer, number, settled)
        message += _reserved(connection, run)
        rows.fail_open_round(connection, run.id, message)
        if version is not None:
            published = publication.publish(connection, run, _with_epsilon(connection, run, version))
            if published.obstacle is not None:
                message = f"{message}; {published.obstacle}"
            writer.note(connection, "version.published", version.round, version=published.version)
        rows.finish_run(connection, run.id, status, message)
        writer.note(connection, f"run.{status}", message=message)
    return message


def fail_run(connection: Connection, epoch: Epoch, run: RunId, reason: str) -> None:
    """End a run that cannot even be read."""
    with fenced(connection, epoch):
        _fail(connection, epoch, run, reason)


def _fail(connection: Connection, epoch: Epoch, run: RunId, reason: str) -> None:
    rows.fail_open_round(connection, run, reason)
    if rows.finish_run(connection, run, RunStatus.FAILED, reason):
        rows.record_event(connection, epoch, "run.failed", run=run, details={"message": reason})


def new_version(
    run: Run, findings: Findings, number: RoundNumber, parameters: Vector
) -> publication.NewVersion:
    """Return the version that a closed round makes; its epsilon is known when the run is settled."""
    scaling = findings.scaling
    assert scaling is not None
    return publication.NewVersion(
        round=number,
        scaling=findings.scaling_json() or {},
        epsilon=None,
        prediction=make_prediction(run.options.algorithm, scaling, parameters),
        booleans=findings.booleans,
    )


def seal(run: RunId, number: int, parameters: Vector, key: AtRestKey) -> rows.Parameters:
    """Seal parameters for the catalog; only for this run and round do they open again."""
    plain = vector_to_bytes(parameters)
    return rows.Parameters(key.seal(plain, about=_about(run, number)), hashlib.sha256(plain).digest())


def _with_epsilon(
    connection: Connection, run: Run, version: publication.NewVersion
) -> publication.NewVersion:
    if run.policy.budget is None:
        return version
    return replace(version, epsilon=rows.consumed_epsilon(connection, run))


def _reserved(connection: Connection, run: Run) -> str:
    """Say what a run leaves reserved because nobody knows whether it was released."""
    epsilon = None if run.policy.budget is None else rows.still_reserved(connection, run)
    return "" if epsilon is None else f" (epsilon {epsilon:.3g} stays reserved)"


def _settle(connection: Connection, writer: Writer, number: RoundNumber, settled: Settled) -> None:
    """Record how an exchange ended, charge what arrived, and take back what was certainly not released."""
    run = writer.run
    rows.settle(connection, run, number, settled.step, settled.settlements)
    if run.policy.budget is None or not settled.unspent:
        return
    rows.lock_ledger(connection, run)
    first: dict[NodeName, int] = {}
    for one in rows.delete_reservations(connection, run, number, settled.unspent):
        first[one.node] = min(one.id, first.get(one.node, one.id))
        writer.note(
            connection, "reservation.removed", number, node=one.node, step=one.step, epsilon=one.epsilon
        )
    entries = rows.list_entries(connection, run, first) if first else []
    for node, removed in first.items():
        own = [one for one in entries if one.node == node]
        rows.correct_sums(connection, sums_after(own, removed, run.policy.delta))


def _close(
    connection: Connection,
    writer: Writer,
    number: RoundNumber,
    *,
    figures: Figures | None,
    message: str | None,
    measure: Measure,
) -> None:
    if not rows.close_round(connection, writer.run.id, number, figures, message):
        raise FederatedError(ErrorCode.WRONG_STATE, f"round {number} is not open")
    found: dict[str, Any] = {} if figures is None else {"loss": figures.loss, "accuracy": figures.accuracy}
    writer.note(connection, "round.closed", number, **found)
    # Last, so that it holds all of the round's work but the commit itself.
    performance.record_measured(connection, writer.run, number, measure())


def _parameters(connection: Connection, run: RunId, number: int, key: AtRestKey) -> Vector:
    found = rows.find_parameters(connection, run, number)
    if found is None:
        raise FederatedError(ErrorCode.INTERNAL, f"the parameters of round {number} are missing")
    try:
        plain = key.open(found.sealed, about=_about(run, number))
    except UnopenedError:
        raise FederatedError(
            ErrorCode.IDENTITY,
            f"the parameters of round {number} do not open with this coordinator's key",
            hint="Coordinators that stand by for each other must share the state directory's keys.",
        ) from None
    if hashlib.sha256(plain).digest() != found.sha256:
        raise FederatedError(ErrorCode.INTERNAL, f"the parameters of round {number} are not what was kept")
    return np.array(vector_from_bytes(plain))


def _about(run: RunId, number: int) -> bytes:
    return b"parameters\0" + run.bytes + number.to_bytes(8, "little")


def _stated(connection: Connection, run: RunId) -> dict[NodeName, float]:
    return {
        one.node: one.weight or 0.0
        for one in rows.list_participation(connection, run, 0)
        if one.step is Step.STATISTICS and one.outcome is Outcome.RECEIVED
    }


def _opened(connection: Connection, run: RunId, number: RoundNumber) -> OpenedRound:
    first = Step.STATISTICS if number == 0 else Step.TRAIN
    tasks = rows.list_participation(connection, run, number)
    evaluated = frozenset(one.node for one in tasks if one.step is Step.EVALUATE)
    return OpenedRound(number, frozenset(one.node for one in tasks if one.step is first), evaluated or None)
