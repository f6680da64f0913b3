"""The release door: the only code that turns a contribution into bytes that may leave.

What always holds: what a private answer costs is charged, by exactly the mechanism that the task names, and
committed before a row is read, and never given back; it is charged only where everything that its base
tables ever spent, composed with it, fits the budget that the workspace named first and every ceiling that a
dataset over them ever had. The dataset is still shared as it was read; a release is committed before the
first byte leaves; the same task gets the same bytes again for nothing, and another task under the same key
gets none. The door reads no row: what it is given is all it can let through.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from heliosdb import faults
from heliosdb.catalog.connection import Connection
from heliosdb.catalog.participant import (
    LedgerState,
    NeverPlain,
    PlainTerms,
    ReleaseState,
    SharedDataset,
    StoredRelease,
    StoredRowSets,
    fail_release,
    finish_release,
    insert_charge,
    insert_plain_release,
    insert_row_set,
    list_row_sets,
    lock_charge,
    lock_ledgers,
    look_up,
)
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.privacy import Mechanism, Spending
from heliosdb.domain.task import Task
from heliosdb.domain.usage import Usage
from heliosdb.domain.vector import AlreadyPrivate, ClippedSum, Contribution, Plain, Vector, vector_to_bytes
from heliosdb.node.database import Database
from heliosdb.node.ledger import Ledgers
from heliosdb.node.policy import (
    asked_mechanism,
    check_never_plain,
    check_plain_terms,
    failure,
    plain_terms,
    public_weight,
    refused,
)
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


@dataclass(frozen=True, slots=True)
class Found:
    """What the catalog holds about a task.

    update: that answered it. charged_tables: the base tables that pay for it; () where it was not charged.
    shared: with its workspace. terms: of its run's plain answers. By a dataset's id, base_tables: as last
    claimed; never_plain: why it gives no plain answer.
    """

    update: SealedUpdate | None
    charged_tables: tuple[int, ...]
    shared: tuple[SharedDataset, ...]
    terms: PlainTerms
    base_tables: Mapping[int, tuple[int, ...]]
    never_plain: Mapping[int, NeverPlain]


@dataclass(frozen=True, slots=True)
class PlainRows:
    """What the rows of a plain answer are.

    base_tables: where they come from. row_set: which they are; None where that is recorded. latest: the id of
    the last one that it was compared with.
    """

    base_tables: tuple[int, ...]
    row_set: bytes | None = None
    latest: int = 0


class Door:
    """One node's release door. Its methods block; they are to be called from one thread at a time."""

    def __init__(self, database: Database, identity: Callable[[], Identity]) -> None:
        self._database = database
        self._identity = identity
        self._ledgers = Ledgers()

    def look_up(self, received: ReceivedTask) -> Found:
        """What was charged or released for this very task, and what is shared with its workspace.

        Raises FederatedError NODE_REFUSED where another task of that name was answered, INTERNAL where this
        one was charged and could not be computed.
        """
        found = self._database.run(lambda connection: look_up(connection, received.task.key))
        update = _same_again(found.release, received)
        return Found(
            update, found.charged_tables, found.shared, found.terms, found.base_tables, found.never_plain
        )

    def row_sets(self, dataset: SharedDataset) -> StoredRowSets:
        """The row sets of earlier plain answers from the dataset's base tables."""
        return self._database.run(lambda connection: list_row_sets(connection, dataset))

    def charge(self, received: ReceivedTask, dataset: SharedDataset) -> tuple[int, ...]:
        """Charge a private task and commit, before a row is read; FederatedError where it is not affordable.

        Returns the base tables that pay.
        """

        def operation(connection: Connection) -> tuple[int, ...]:
            with connection.batch(), connection.transaction():
                return self._charge(connection, received, dataset)

        charged = self._database.run(operation)
        faults.reach("node.charge.committed")
        return charged

    def fail(self, received: ReceivedTask) -> None:
        """Record that a charged task could not be computed."""
        key, sha256 = received.task.key, received.sha256
        self._database.run(lambda connection: fail_release(connection, key, sha256))

    def release(
        self,
        received: ReceivedTask,
        dataset: SharedDataset,
        contribution: Contribution,
        rows: PlainRows | None = None,
    ) -> SealedUpdate:
        """Let a contribution out: noise, seal, sign, commit; FederatedError where it may not.

        rows: of a plain one. RowSetsMovedError where they have to be compared with other ones first.
        """
        check_contribution(received.task, contribution)

        def operation(connection: Connection) -> SealedUpdate:
            with connection.batch(), connection.transaction():
                if rows is None:
                    return self._release_charged(connection, received, dataset, contribution)
                return self._release_plain(connection, received, dataset, contribution, rows)

        update = self._database.run(operation)
        faults.reach("node.release.committed")
        return update

    def _charge(
        self, connection: Connection, received: ReceivedTask, dataset: SharedDataset
    ) -> tuple[int, ...]:
        task = received.task
        state = lock_ledgers(connection, task.key, dataset)
        # Charged by an attempt that broke off meanwhile: once is enough.
        if state.release is not None:
            _same_again(state.release, received)
            return tuple(one.base_table_id for one in state.ledgers)
        _check_unchanged(state.dataset, dataset)
        _check_known(state, dataset)
        charge = self._ledgers.price(state.ledgers, task, dataset)
        insert_charge(connection, task.key, dataset, received.sha256, charge)
        return charge.base_tables

    def _release_charged(
        self,
        connection: Connection,
        received: ReceivedTask,
        dataset: SharedDataset,
        contribution: Contribution,
    ) -> SealedUpdate:
        key = received.task.key
        state = lock_charge(connection, key, dataset)
        if (again := _same_again(state.release, received)) is not None:
            return again
        _check_unchanged(state.dataset, dataset)
        # What is in the ledger has to be what leaves, whoever wrote it there.
        if not state.is_paid_by_all or state.mechanism != asked_mechanism(received.task):
            raise refused(f'the charge is not for what dataset "{dataset.name}" reads and the task asks')
        update = self._seal(received, contribution, state.mechanism, state.spending)
        finish_release(connection, key, pack_signed_header(update.header, update.signature), update.payload)
        return update

    def _release_plain(
        self,
        connection: Connection,
        received: ReceivedTask,
        dataset: SharedDataset,
        contribution: Contribution,
        rows: PlainRows,
    ) -> SealedUpdate:
        task = received.task
        state = lock_ledgers(connection, task.key, dataset)
        if (again := _same_again(state.release, received)) is not None:
            return again
        _check_unchanged(state.dataset, dataset)
        _check_known(state, dataset)
        check_never_plain(state.never_plain, dataset)
        check_plain_terms(task, dataset, state.terms)
        if tuple(one.base_table_id for one in state.ledgers) != rows.base_tables:
            raise RowSetsMovedError
        if rows.row_set is not None and not insert_row_set(connection, dataset, rows.row_set, rows.latest):
            raise RowSetsMovedError
        update = self._seal(received, contribution, None, None)
        signed = pack_signed_header(update.header, update.signature)
        stored = StoredRelease(ReleaseState.RELEASED, received.sha256, signed, update.payload)
        insert_plain_release(connection, task.key, dataset, plain_terms(task), stored)
        return update

    def _seal(
        self,
        received: ReceivedTask,
        contribution: Contribution,
        mechanism: Mechanism | None,
        spending: Spending | None,
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
                mechanism=mechanism,
                spending=spending,
            )
        )
        return SealedUpdate(header, sign_update(self._identity(), header), sealed)


class RowSetsMovedError(Exception):
    """Another row set was recorded meanwhile, or the rows come from other tables now: compare first."""


def _check_unchanged(now: SharedDataset | None, dataset: SharedDataset) -> None:
    if now != dataset:
        raise refused(f'dataset "{dataset.name}" was changed or dropped while the task was under way')


def _check_known(state: LedgerState, dataset: SharedDataset) -> None:
    """FederatedError NODE_REFUSED where there is no ledger to charge: what was shared is not there any
    more."""
    if not state.ledgers:
        raise refused(f'the table of dataset "{dataset.name}" is not there any more')


def check_contribution(task: Task, contribution: Contribution) -> None:
    """FederatedError where a contribution is not what its task asks for; what may not leave is never
    sealed."""
    check_guard(task, contribution)
    check_size(contribution)


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
    if asked is not None and contribution.weight != public_weight(task):
        raise FederatedError(ErrorCode.INTERNAL, "the answer's weight is not covered by its guard")


def make_private(contribution: Contribution) -> Vector:
    """The vector as it may leave: with noise where it is a clipped sum."""
    match contribution.guard:
        case ClippedSum(sensitivity, mechanism):
            return add_noise(contribution.vector, sensitivity, mechanism.noise_multiplier)
        case Plain() | AlreadyPrivate():
            return contribution.vector


def told_usage(task: Task, contribution: Contribution) -> Usage | None:
    """What the coordinator is told about the computation's time and memory: both follow the rows, so under a
    budget nothing."""
    return contribution.usage if task.budget is None else None


def check_size(contribution: Contribution) -> None:
    """FederatedError where a contribution is not a finite vector with a positive weight, or is too large."""
    if 8 * len(contribution.vector) > limits.MAX_VECTOR_BYTES:
        raise FederatedError(ErrorCode.PROGRAM_LIMIT, "the answer is larger than an update may be")
    finite = math.isfinite(contribution.weight) and bool(np.isfinite(contribution.vector).all())
    if not finite or contribution.weight <= 0:
        raise FederatedError(ErrorCode.UPDATE_REJECTED, "the computation gave values that are not finite")
    if contribution.usage is not None and not contribution.usage.is_plausible():
        raise FederatedError(ErrorCode.INTERNAL, "the computation's time and memory cannot be")


def _same_again(stored: StoredRelease | None, received: ReceivedTask) -> SealedUpdate | None:
    """The update that answered this very task; None where it is still to be answered."""
    if stored is None:
        return None
    if stored.task_sha256 != received.sha256:
        raise refused(
            "another task was already answered under the same run, round and step",
            hint="A round is never asked twice with different parameters; start a new run.",
        )
    if stored.state is ReleaseState.CHARGED:
        return None
    if stored.state is ReleaseState.FAILED:
        raise failure()
    if stored.payload is None or stored.header is None:
        raise refused("the task was answered before, and the run has moved on since")
    header, signature = unpack_signed_header(stored.header)
    return SealedUpdate(header, signature, stored.payload)
