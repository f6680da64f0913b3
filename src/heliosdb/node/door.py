"""The release door: the only code that turns a contribution into bytes that may leave.

What always holds: under a budget nothing leaves that is not private, by exactly the mechanism that the task
names, and that the ledger cannot still pay, everything composed that its table ever spent; the budget is the
one that the workspace named first or the one that the dataset's own DBA set, never a larger one that a task
names later; the dataset is still shared as it was read; release and charge are committed before the first
byte leaves; the same task gets the same bytes again for nothing, and another task under the same key gets
none. The door reads no row: what it is given is all it can let through.
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from heliosdb import faults
from heliosdb.catalog.connection import Connection
from heliosdb.catalog.participant import (
    Charge,
    LedgerState,
    SharedDataset,
    StoredRelease,
    insert_release,
    lock_ledger,
    look_up,
)
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.privacy import Budget, Mechanism, Spending
from heliosdb.domain.task import EvaluateWork, PrivateTraining, StatisticsWork, Task, TrainWork
from heliosdb.domain.usage import Usage
from heliosdb.domain.vector import AlreadyPrivate, ClippedSum, Contribution, Plain, Vector, vector_to_bytes
from heliosdb.node.database import Database
from heliosdb.privacy.accountant import Accountant
from heliosdb.privacy.mechanisms import add_noise
from heliosdb.transport import limits
from heliosdb.transport.identity import Identity
from heliosdb.transport.sealing import seal_to
from heliosdb.transport.server import ReceivedTask
from heliosdb.transport.update_messages import (
    SealedUpdate,
    UpdateHeader,
    encode_update_header,
    pack_signed_header,
    unpack_signed_header,
)
from heliosdb.transport.verification import pack_payload, sign_update

log = logging.getLogger(__name__)

CEILING_DELTA = 1e-5
"""The largest δ at which a node holds its own ceiling: the budget's is the coordinator's to name."""

MOST_HELD_OUT = 0.5
"""The largest validation_split: beyond it a model would be measured on more subjects than it learns from."""


class Door:
    """One node's release door. Its methods block; they are to be called from one thread at a time."""

    def __init__(self, database: Database, identity: Callable[[], Identity]) -> None:
        self._database = database
        self._identity = identity
        self._ledgers: dict[tuple[str, float], Ledger] = {}

    def look_up(self, received: ReceivedTask) -> tuple[SealedUpdate | None, list[SharedDataset]]:
        """What was released for this very task, or None, and what is shared with its workspace.

        Raises FederatedError NODE_REFUSED where another task of that name was answered.
        """
        stored, shared = self._database.run(lambda connection: look_up(connection, received.task.key))
        return _same_again(stored, received), shared

    def release(
        self, received: ReceivedTask, dataset: SharedDataset, contribution: Contribution
    ) -> SealedUpdate:
        """Let a contribution out: noise, charge, seal, sign, commit; FederatedError where it may not."""
        check_policy(received.task, dataset)
        check_guard(received.task, contribution)
        check_size(contribution)

        def operation(connection: Connection) -> SealedUpdate:
            with connection.batch(), connection.transaction():
                return self._release(connection, received, dataset, contribution)

        update = self._database.run(operation)
        faults.reach("node.ledger.committed")
        return update

    def _release(
        self,
        connection: Connection,
        received: ReceivedTask,
        dataset: SharedDataset,
        contribution: Contribution,
    ) -> SealedUpdate:
        task = received.task
        ledger = lock_ledger(connection, task.key, dataset)
        if (again := _same_again(ledger.release, received)) is not None:
            return again
        if ledger.dataset != dataset:
            raise _refused(f'dataset "{dataset.name}" was changed or dropped while the task was computed')
        charge = self._charge(ledger, task, dataset)
        update = self._seal(received, contribution, charge)
        signed = pack_signed_header(update.header, update.signature)
        insert_release(
            connection, task.key, dataset, StoredRelease(received.sha256, signed, update.payload), charge
        )
        return update

    def _charge(self, state: LedgerState, task: Task, dataset: SharedDataset) -> Charge | None:
        """What the release costs, None where it is plain; under the lock of the dataset's table."""
        budget, asked = task.budget, asked_mechanism(task)
        check_terms(budget, state, dataset)
        if budget is None or asked is None:
            return None
        terms = budget
        if dataset.max_epsilon is not None:
            own = f'max_epsilon of dataset "{dataset.name}"'
            terms = Budget(min(budget.epsilon, dataset.max_epsilon), min(budget.delta, CEILING_DELTA))
            ceiling = self._ledger(dataset.relation, terms.delta)
            ceiling.demand(state.spent, asked, dataset.max_epsilon, own)
        shown = f'the privacy budget of workspace "{task.key.workspace}"'
        ledger = self._ledger(dataset.relation, budget.delta)
        ledger.demand(state.spent, asked, budget.epsilon, shown)
        return Charge(asked, ledger.charge(state.spent, asked), budget.delta, terms)

    def _ledger(self, relation: str, delta: float) -> Ledger:
        if (relation, delta) not in self._ledgers:
            self._ledgers[(relation, delta)] = Ledger(delta)
        return self._ledgers[(relation, delta)]

    def _seal(
        self, received: ReceivedTask, contribution: Contribution, charge: Charge | None
    ) -> SealedUpdate:
        key, vector = received.task.key, make_private(contribution)
        usage = told_usage(received.task, contribution)
        payload = pack_payload(vector_to_bytes(vector), contribution.weight, usage)
        ephemeral_key, sealed = seal_to(received.sealing_key, payload, key, received.sha256)
        header = encode_update_header(
            UpdateHeader(
                key=key,
                task_sha256=received.sha256,
                length=len(vector),
                ephemeral_key=ephemeral_key,
                payload_bytes=len(sealed),
                payload_sha256=hashlib.sha256(sealed).digest(),
                mechanism=None if charge is None else charge.mechanism,
                spending=None if charge is None else charge.spending,
            )
        )
        return SealedUpdate(header, sign_update(self._identity(), header), sealed)


class Ledger:
    """A table's spending at one δ, its accountant kept between releases: composing anew costs seconds."""

    def __init__(self, delta: float) -> None:
        self._accountant = Accountant(delta)

    def demand(self, spent: Sequence[Mechanism], mechanism: Mechanism, limit: float, whose: str) -> None:
        """FederatedError BUDGET_EXHAUSTED where `mechanism` on top of `spent` passes `limit`."""
        accountant = self._synchronise(spent)
        if not accountant.fits(limit, mechanism):
            spent_epsilon = accountant.epsilon()
            raise FederatedError(
                ErrorCode.BUDGET_EXHAUSTED,
                f"the release would pass {whose}",
                detail=f"Spent: epsilon {spent_epsilon:.6g} of {limit:g} at delta {accountant.delta:g}.",
                hint="The ledger is never refunded; what was learned so far stays usable.",
            )

    def charge(self, spent: Sequence[Mechanism], mechanism: Mechanism) -> Spending:
        """What the ledger shows with `mechanism` on top of `spent`."""
        accountant = self._synchronise(spent)
        accountant.add(mechanism)
        return accountant.spending()

    def _synchronise(self, spent: Sequence[Mechanism]) -> Accountant:
        """An accountant of exactly what was spent: a transaction may have failed, another may have spent."""
        known, listed = Counter(self._accountant.releases()), Counter(spent)
        if known - listed:
            self._accountant = Accountant(self._accountant.delta, spent)
        else:
            self._accountant.add(*(listed - known).elements())
        return self._accountant


def asked_mechanism(task: Task) -> Mechanism | None:
    """The mechanism that a task asks for, or None where it asks for a plain answer."""
    match task.work:
        case TrainWork(privacy=None):
            return None
        case TrainWork(privacy=PrivateTraining() as privacy):
            return Mechanism(privacy.noise_multiplier, privacy.sampling_rate, privacy.steps)
        case StatisticsWork() | EvaluateWork() as work:
            return None if work.noise_multiplier is None else Mechanism(work.noise_multiplier)
    raise AssertionError(task.work)


def check_policy(task: Task, dataset: SharedDataset) -> None:
    """FederatedError NODE_REFUSED where the task may not be answered whatever it computes."""
    private = asked_mechanism(task) is not None
    if task.budget is None and dataset.max_epsilon is not None:
        raise _refused(
            f'dataset "{dataset.name}" has max_epsilon, and the workspace has no privacy budget',
            hint="Give the workspace a privacy_budget.",
        )
    if task.budget is not None and not private:
        raise _refused("the task asks for a plain answer although the workspace has a privacy budget")
    if task.budget is None and private:
        raise _refused("the task asks for noise although the workspace has no privacy budget")
    if task.reading.validation_split > MOST_HELD_OUT:
        raise _refused(f"validation_split may be at most {MOST_HELD_OUT:g}")


def check_terms(budget: Budget | None, state: LedgerState, dataset: SharedDataset) -> None:
    """FederatedError NODE_REFUSED where a task's budget is not what the table's first private release named.

    The coordinator names the budget, so it could name a larger one once the first is spent. A dataset with
    max_epsilon has the limit of its own DBA instead, which is held elsewhere.
    """
    if budget is None:
        if state.spent or state.agreed is not None:
            raise _refused(
                f'the table of dataset "{dataset.name}" has spent a privacy budget, '
                "which a plain answer would undo"
            )
        return
    agreed = state.agreed
    if agreed is None or dataset.max_epsilon is not None:
        return
    for name, asked, limit in (
        ("epsilon", budget.epsilon, agreed.epsilon),
        ("delta", budget.delta, agreed.delta),
    ):
        if asked > limit:
            raise _refused(
                f'dataset "{dataset.name}" was first used under a privacy budget of {name} {limit:g}, '
                f"which a later one of {name} {asked:g} cannot raise",
                hint="That is for the node's own DBA to decide: sharing the dataset again "
                "WITH (max_epsilon = ...) accepts a privacy budget up to that, at a delta of at most "
                f"{CEILING_DELTA:g}.",
            )


def check_guard(task: Task, contribution: Contribution) -> None:
    """FederatedError INTERNAL where a contribution is not guarded as its task asks."""
    asked = asked_mechanism(task)
    match contribution.guard:
        case Plain():
            guarded = None
        case ClippedSum(sensitivity, mechanism):
            guarded = mechanism
            if not (math.isfinite(sensitivity) and sensitivity > 0):
                raise FederatedError(ErrorCode.INTERNAL, "the answer declares no sensitivity")
        case AlreadyPrivate(mechanism):
            guarded = mechanism
    if guarded != asked:
        raise FederatedError(ErrorCode.INTERNAL, "the answer is not guarded as the task asks")
    # A private answer's weight is no release of its own: it may only say what the coordinator knows already.
    if asked is not None and contribution.weight != _public_weight(task):
        raise FederatedError(ErrorCode.INTERNAL, "the answer's weight is not covered by its guard")


def make_private(contribution: Contribution) -> Vector:
    """The vector as it may leave: with noise where it is a clipped sum."""
    match contribution.guard:
        case ClippedSum(sensitivity, mechanism):
            return add_noise(contribution.vector, sensitivity, mechanism.noise_multiplier)
        case Plain() | AlreadyPrivate():
            return contribution.vector


def told_usage(task: Task, contribution: Contribution) -> Usage | None:
    """What the coordinator is told about the computation's time and memory.

    Both follow the rows. Under a budget only as coarsely as it could time the exchange itself.
    """
    usage = contribution.usage
    return usage if usage is None or task.budget is None else usage.coarse()


def check_size(contribution: Contribution) -> None:
    """FederatedError where a contribution is not a finite vector with a positive weight, or is too large."""
    if 8 * len(contribution.vector) > limits.MAX_VECTOR_BYTES:
        raise FederatedError(ErrorCode.PROGRAM_LIMIT, "the answer is larger than an update may be")
    finite = math.isfinite(contribution.weight) and bool(np.isfinite(contribution.vector).all())
    if not finite or contribution.weight <= 0:
        raise FederatedError(ErrorCode.UPDATE_REJECTED, "the computation gave values that are not finite")
    if contribution.usage is not None and not contribution.usage.is_plausible():
        raise FederatedError(ErrorCode.INTERNAL, "the computation's time and memory cannot be")


def _public_weight(task: Task) -> float:
    if isinstance(task.work, TrainWork) and task.work.privacy is not None:
        return task.work.privacy.expected_subjects
    return 1.0


def _same_again(stored: StoredRelease | None, received: ReceivedTask) -> SealedUpdate | None:
    if stored is None:
        return None
    if stored.task_sha256 != received.sha256:
        raise _refused(
            "another task was already answered under the same run, round and step",
            hint="A round is never asked twice with different parameters; start a new run.",
        )
    if stored.payload is None:
        raise _refused("the task was answered before, and the run has moved on since")
    header, signature = unpack_signed_header(stored.header)
    return SealedUpdate(header, signature, stored.payload)


def _refused(message: str, *, hint: str | None = None) -> FederatedError:
    return FederatedError(ErrorCode.NODE_REFUSED, message, hint=hint)
