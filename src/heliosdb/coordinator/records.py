"""The transactions of a run: each moves the catalog from one state that can be resumed to the next.

What always holds: every one is fenced by the leader's epoch and holds the run's row, so it either sees a
running run and commits whole, or raises and changes nothing. Nothing here waits for a node.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

from heliosdb.catalog import events, ledger, performance, publication, rounds, runs
from heliosdb.catalog import nodes as node_rows
from heliosdb.catalog.connection import Connection
from heliosdb.catalog.lease import fenced
from heliosdb.catalog.psycopg_connection import PsycopgConnection
from heliosdb.coordinator.aggregation_functions import check_function
from heliosdb.coordinator.breaches import raise_breaches
from heliosdb.coordinator.budget import (
    NOTHING_HELD,
    Release,
    allowance,
    most_spent,
    plan_reservations,
    sums_after,
)
from heliosdb.coordinator.checkpoints import begin, keep_checkpoint, take_up
from heliosdb.coordinator.course import Course, ModelState, Question
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.events import NOBODY, Figures, Names, describe
from heliosdb.domain.findings import Findings
from heliosdb.domain.folds import Series
from heliosdb.domain.ids import Epoch, NodeName, RoundNumber, RunId, StepName
from heliosdb.domain.privacy import Mechanism
from heliosdb.domain.run import Run, RunStatus
from heliosdb.domain.selection import NO_STANDINGS, Standings
from heliosdb.parts.algorithms import learning_rate_of
from heliosdb.transport.sealing import AtRestKey

Measure = Callable[[], performance.Measured]
"""Says what a round has taken up to the call and is not recorded yet."""


_ENDED = "was at work when the run ended"


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
            if not runs.lock_run(connection, self.run.id):
                raise RunGoneError
            yield

    def note(self, connection: Connection, kind: str, number: int | None = None, **details: object) -> None:
        """Append to the history."""
        events.record_event(connection, self.epoch, kind, run=self.run.id, number=number, details=details)


@dataclass(frozen=True, slots=True)
class Settled:
    """An exchange that is over, for the records. step None: nobody was asked.

    unspent: nodes that have certainly released nothing in it. gone: nodes that are asked nothing more in the
    round.
    """

    exchange: int
    step: StepName | None = None
    settlements: Sequence[rounds.Settlement] = ()
    unspent: Names = NOBODY
    gone: Names = NOBODY


def claim(connection: Connection, epoch: Epoch, run: RunId, key: AtRestKey) -> bool:
    """Make a queued run ours; False where it is no longer queued, or may not be carried out and so failed."""
    with fenced(connection, epoch):
        if not runs.claim_run(connection, run):
            return False
        events.record_event(connection, epoch, "run.claimed", run=run)
        # Of one that goes on where it had ended, however that was: all its nodes are free.
        rounds.give_up_tasks(connection, run, _ENDED)
        obstacle = _obstacle(connection, run, key)
        if obstacle is not None:
            _fail(connection, epoch, run, obstacle)
    return obstacle is None


def _obstacle(connection: Connection, run: RunId, key: AtRestKey) -> str | None:
    """Say why a run may not be carried out at all; its row, and what it goes on from, may have been written
    by any hand."""
    try:
        begin(connection, run, key)
        record = runs.find_run(connection, run)
        if record is not None:
            check_function(connection, Course.of(record.run).strategy)
    except FederatedError as error:
        return error.text
    return None if record is None else record.run.laxity(record.current)


def past_of(connection: Connection, run: Run, cohort: Sequence[NodeName]) -> Sequence[Mechanism]:
    """Return what the most charged node of a cohort has released; nothing without a budget."""
    if run.policy.budget is None:
        return ()
    return most_spent(ledger.list_spent(connection, run), cohort, run.policy.delta)


def allowance_of(connection: Connection, run: Run, cohort: Sequence[NodeName]) -> float | None:
    """Return the ε to which each node of a cohort may come; None where that is the budget, or there is
    none."""
    budget = run.policy.budget
    if budget is None or not run.policy.overlap or not cohort:
        return None
    reached = ledger.list_reached(connection, run)
    return allowance({node: one.epsilon_tight for node, one in reached.items()}, cohort, budget)


def say(connection: Connection, writer: Writer, message: str) -> None:
    """Tell the user what the run waits for."""
    with writer.transaction(connection):
        runs.set_message(connection, writer.run.id, message)


def open_round(
    connection: Connection,
    writer: Writer,
    number: RoundNumber,
    cohort: Sequence[NodeName],
    *,
    step: StepName,
    findings: Findings,
    releases: Sequence[Release],
    clipping_norms: Mapping[StepName, float],
    left_out: Mapping[NodeName, str],
    known: Standings = NO_STANDINGS,
    settled: Settled | None = None,
) -> None:
    """Commit a round, its cohort and its reservations; UF001 where the budget forbids it. step: its first.
    known: by what the cohort was chosen, where that is read of nodes. settled: what became of tasks of
    earlier rounds."""
    run = writer.run
    with writer.transaction(connection):
        if settled is not None:
            _settle(connection, writer, number, settled)
        # It was given up when the run ended before: nodes that have answered send what they sent then.
        reopened = rounds.delete_failed_round(connection, run.id, number)
        if run.policy.budget is not None:
            _reserve(connection, run, number, cohort, releases, clipping_norms, may_hold=reopened)
        rate = _learning_rate(run, findings) if number else None
        rounds.open_round(connection, run, number, step, cohort, learning_rate=rate)
        if number == 0:
            runs.set_findings(connection, run.id, findings.scaling_json(), findings.plan_json())
        message = f"round {number} of {run.options.rounds}" if number else "preparing"
        runs.set_message(connection, run.id, message)
        chosen = {"selection": run.policy.node_selection, "known": _shown(known)} if known else {}
        writer.note(
            connection, "round.opened", number, cohort=list(cohort), left_out=dict(left_out), **chosen
        )


def _learning_rate(run: Run, findings: Findings) -> float | None:
    plan = findings.plan
    return learning_rate_of(run, None if plan is None else plan.clipping_norm)


def _reserve(  # noqa: PLR0917
    connection: Connection,
    run: Run,
    number: RoundNumber,
    cohort: Sequence[NodeName],
    releases: Sequence[Release],
    clipping_norms: Mapping[StepName, float],
    *,
    may_hold: bool = True,
) -> None:
    """Reserve what the ledger does not hold yet of releases of a round, under its lock. may_hold: whether it
    can hold any."""
    budget = run.policy.budget
    assert budget is not None
    ledger.lock_ledger(connection, run)
    spent, reached = ledger.list_spent(connection, run), ledger.list_reached(connection, run)
    held = ledger.list_held(connection, run, number) if may_hold else NOTHING_HELD
    made = plan_reservations(
        spent,
        reached,
        cohort,
        releases,
        budget,
        clipping_norms=clipping_norms,
        held=held,
        overlap=run.policy.overlap,
    )
    ledger.reserve(connection, run, number, made)


def _shown(known: Standings) -> dict[NodeName, dict[str, Any]]:
    return {node: asdict(one) for node, one in known.items()}


def demand_reserved(connection: Connection, run: Run, question: Question, nodes: Iterable[NodeName]) -> None:
    """Raise FederatedError INTERNAL unless what a private exchange costs is in the ledger for every node.

    An algorithm that asks for more than its `releases` say would else spend what nobody has reserved.
    """
    mechanism = question.mechanism
    assert mechanism is not None
    key = (question.plan.round, question.exchange, question.step.name)
    if not ledger.is_reserved(connection, run, *key, mechanism, nodes):
        raise FederatedError(
            ErrorCode.INTERNAL,
            f"step {question.step.name} of round {question.plan.round} is private and was not reserved",
        )


def keep_exchange(
    connection: Connection,
    writer: Writer,
    number: RoundNumber,
    settled: Settled,
    *,
    nodes: Sequence[NodeName],
    step: StepName,
    findings: Findings | None,
    sizes: Mapping[NodeName, int],
    kept: rounds.StoredState,
    measured: performance.Measured,
    figures: Figures | None = None,
    releases: Sequence[Release] = (),
) -> None:
    """Commit what an exchange led to and whom the next one asks for which step, before anybody is asked.

    findings: where it has found any; sizes: of datasets; figures: what the round has found. releases: what is
    reserved of these nodes besides; UF001 where the budget forbids it, and then nothing is committed.
    """
    run = writer.run
    with writer.transaction(connection):
        _settle(connection, writer, number, settled)
        if releases:
            _reserve(connection, run, number, nodes, releases, {})
        performance.record_measured(connection, run, number, measured)
        if findings is not None:
            runs.set_findings(connection, run.id, findings.scaling_json(), findings.plan_json())
        if sizes:
            node_rows.set_dataset_sizes(connection, run, sizes)
        if figures is not None:
            rounds.put_figures(connection, run.id, number, figures)
        rounds.put_state(connection, run.id, number, kept)
        rounds.add_tasks(connection, run, number, settled.exchange + 1, step, nodes)
        writer.note(connection, "round.combined", number, parameters_sha256=kept.sha256.hex())


def close_round(
    connection: Connection,
    writer: Writer,
    number: RoundNumber,
    settled: Settled,
    *,
    findings: Findings | None,
    sizes: Mapping[NodeName, int],
    figures: Figures | None,
    kept: rounds.StoredState | None,
    keep: RoundNumber,
    held: Iterable[RoundNumber] = (),
    key: AtRestKey,
    report: Mapping[str, Any] | None = None,
    message: str | None,
    measure: Measure,
) -> bool:
    """Commit a round; True where the run then goes on from a file, and is to be read anew.

    findings: where it has found any; sizes: of datasets; kept: None where it is already; keep: the round
    whose state may be published beside this one's, or is; held: whose states tasks under way begin with;
    report: of its model. key: under which all else that the run goes on from is sealed.
    """
    run = writer.run
    with writer.transaction(connection):
        _settle(connection, writer, number, settled)
        if findings is not None:
            runs.set_findings(connection, run.id, findings.scaling_json(), findings.plan_json())
        if sizes:
            node_rows.set_dataset_sizes(connection, run, sizes)
        if kept is not None:
            rounds.put_state(connection, run.id, number, kept)
        rounds.delete_other_states(connection, run.id, (keep, number, *held))
        if report is not None:
            nodes = {one.node: one.described for one in settled.settlements if one.described is not None}
            rounds.put_report(connection, run.id, keep, {**report, "nodes": nodes})
        _close(connection, writer, number, figures=figures, message=message)
        goes_on = number == 0 and run.is_resumed
        if goes_on:
            take_up(connection, run, key)
        else:
            keep_checkpoint(connection, run, number, keep, key)
        # Last, so that it holds all of the round's work but the commit itself.
        performance.record_measured(connection, run, number, measure())
    return goes_on


def end_run(
    connection: PsycopgConnection,
    writer: Writer,
    status: RunStatus,
    message: str,
    *,
    number: RoundNumber,
    settled: Settled | None,
    version: publication.NewVersion | None,
    result: RoundNumber | None = None,
) -> str:
    """Commit the end of a run, with its version where there is one; returns the message as recorded.

    result: of a run of a series whose model is not published by itself, by which round it is judged.
    """
    run = writer.run
    with writer.transaction(connection):
        if settled is not None:
            _settle(connection, writer, number, settled)
        message = _with_left_out(connection, run, message, leaves=version is not None)
        message += _reserved(connection, run)
        rounds.fail_open_round(connection, run.id, message)
        if run.policy.buffer:
            rounds.give_up_tasks(connection, run.id, _ENDED)
        if version is not None:
            published = publication.publish(connection, run, with_epsilon(connection, run, version))
            if published.obstacle is not None:
                message = f"{message}; {published.obstacle}"
            writer.note(connection, "version.published", version.round, version=published.version)
        if run.series is not None and not run.publishes:
            _keep_result(connection, run, run.series, result)
        runs.finish_run(connection, run.id, status, message)
        writer.note(connection, f"run.{status}", message=message)
    return message


def _keep_result(connection: Connection, run: Run, series: Series, result: RoundNumber | None) -> None:
    """Keep of a trial the model of the round by which it is judged; of a fold none."""
    if result is not None:
        runs.set_result(connection, run.id, result)
    rounds.delete_other_states(connection, run.id, () if result is None or not series.keeps else (result,))


def _with_left_out(connection: Connection, run: Run, message: str, *, leaves: bool) -> str:
    """Name behind the message the nodes that could not answer the run at all.

    leaves: whether there is a version, which then knows nothing of their rows; else the message itself says
    whom round 0 lost.
    """
    found = sorted(events.find_left_out(connection, run.id).items())
    found += rounds.find_lost(connection, run.id) if leaves else []
    if not found:
        return message
    # What mends a refusal ends the message, as a sentence.
    return f"{message.removesuffix('.')}; left out: {', '.join(describe(*one) for one in found)}"


def fail_run(connection: Connection, epoch: Epoch, run: RunId, reason: str) -> None:
    """End a run that cannot even be read."""
    with fenced(connection, epoch):
        _fail(connection, epoch, run, reason)


def _fail(connection: Connection, epoch: Epoch, run: RunId, reason: str) -> None:
    rounds.fail_open_round(connection, run, reason)
    if runs.finish_run(connection, run, RunStatus.FAILED, reason):
        events.record_event(connection, epoch, "run.failed", run=run, details={"message": reason})


def new_version(
    course: Course, findings: Findings, number: RoundNumber, model: ModelState
) -> publication.NewVersion:
    """Return the version that a closed round makes; its epsilon is known when the run is settled."""
    return publication.NewVersion(
        round=number,
        scaling=findings.scaling_json() or {},
        epsilon=None,
        prediction=course.algorithm.predict(model.state, findings),
        booleans=findings.booleans,
        encoding=findings.encoding,
    )


def with_epsilon(connection: Connection, run: Run, version: publication.NewVersion) -> publication.NewVersion:
    """Return a version that says what its run has come to cost."""
    if run.policy.budget is None:
        return version
    return replace(version, epsilon=ledger.consumed_epsilon(connection, run))


def _reserved(connection: Connection, run: Run) -> str:
    """Say what a run leaves reserved because nobody knows whether it was released."""
    epsilon = None if run.policy.budget is None else ledger.still_reserved(connection, run)
    return "" if epsilon is None else f" (epsilon {epsilon:.3g} stays reserved)"


def _settle(connection: Connection, writer: Writer, number: RoundNumber, settled: Settled) -> None:
    """Record how an exchange ended, charge what arrived, and take back what was certainly not released."""
    run = writer.run
    if settled.step is not None:
        rounds.settle(connection, run, number, settled.exchange, settled.step, settled.settlements)
    raise_breaches(connection, writer.epoch, run.policy.workspace, settled.settlements)
    if run.policy.budget is None or not (settled.unspent or settled.gone):
        return
    ledger.lock_ledger(connection, run)
    first: dict[NodeName, int] = {}
    removed = ledger.delete_reservations(
        connection, run, number, unspent=settled.unspent, gone=settled.gone, exchange=settled.exchange
    )
    for one in removed:
        first[one.node] = min(one.id, first.get(one.node, one.id))
        writer.note(
            connection, "reservation.removed", number, node=one.node, step=one.step, epsilon=one.epsilon
        )
    entries = ledger.list_entries(connection, run, first) if first else []
    for node, place in first.items():
        own = [one for one in entries if one.node == node]
        ledger.correct_sums(connection, sums_after(own, place, run.policy.delta))


def _close(
    connection: Connection,
    writer: Writer,
    number: RoundNumber,
    *,
    figures: Figures | None,
    message: str | None,
) -> None:
    if not rounds.close_round(connection, writer.run.id, number, figures, message):
        raise FederatedError(ErrorCode.WRONG_STATE, f"round {number} is not open")
    found: dict[str, Any] = {} if figures is None else {"loss": figures.loss, "accuracy": figures.accuracy}
    writer.note(connection, "round.closed", number, **found)
