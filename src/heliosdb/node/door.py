"""The release door: the only code that turns a contribution, or a protocol's message, into bytes that may
leave.

What always holds: what a private answer costs is charged, by exactly the mechanism that the task names, and
committed before a row is read, and never given back; it is charged only where everything that its base
tables ever spent, composed with it, fits the budget that the workspace named first and every ceiling that a
dataset over them ever had. The dataset is still shared as it was read; a release is committed before the
first byte leaves; the same task gets the same bytes again for nothing, and another task under the same key
gets none. The door reads no row: what it is given is all it can let through. What the node remembers of the
run is written with the release, or neither is, and only in the place of the memory from which the answer
came about.

There are three ways through: `release` for a charged answer, `release` for a plain one, and
`release_message` for a message of a sum protocol that carries no vector. The third costs nothing, and no
rule about rows is asked of it, because nothing of rows can be in what goes through it: it takes no
contribution, which is all that the training process makes, and that process alone reads rows. What it takes
was said by the protocol in the daemon, from the task's key and note, random numbers and the protocol's own
memory, in which nothing of rows is either (node/summing.py has why; what steps keep, which may come from
rows, is never shown to a protocol). So whatever a coordinator asks for, in whatever order, it learns from
messages only what it could have made up itself, and the secrets of a sum, in the order in which the protocol
tells them. Which stages carry no vector is the word of the node's own protocol, never the task's.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from heliosdb import faults
from heliosdb.catalog.connection import Connection
from heliosdb.catalog.participant import (
    NeverPlain,
    PlainTerms,
    RowsRead,
    SharedDataset,
    StoredMemory,
    fail_release,
    finish_release,
    forget_memory,
    insert_charge,
    insert_message_release,
    insert_noise_share,
    insert_plain_release,
    lock_charge,
    lock_ledgers,
    lock_message,
    look_up,
)
from heliosdb.catalog.participant_view import record_run
from heliosdb.catalog.personal import NewPersonal
from heliosdb.catalog.row_sets import StoredRowSets, insert_row_set, list_row_sets, record_plain_dataset
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.ids import RunId, WorkspaceName
from heliosdb.domain.personal import PersonalPart
from heliosdb.domain.privacy import Mechanism, Spending
from heliosdb.domain.state import freeze
from heliosdb.domain.task import Task, TaskKey
from heliosdb.domain.vector import AnyVector, Contribution
from heliosdb.node.admission import EVERYBODY, Admission, without_subjects
from heliosdb.node.coding import UpdateCoder, encode_answer
from heliosdb.node.database import Database
from heliosdb.node.guards import cast_real, check_contribution, make_private, told_usage
from heliosdb.node.ledger import Ledgers
from heliosdb.node.memory import Memory, MemoryKey
from heliosdb.node.passing import (
    CannotLeaveError,
    MemoryMovedError,
    Passing,
    PlainRows,
    RowSetsMovedError,
    check_admission,
    check_known,
    check_unchanged,
    keep_personal,
    remember,
    same_again,
    stored_release,
)
from heliosdb.node.policy import (
    asked_mechanism,
    check_never_plain,
    check_plain_terms,
    check_same_rows,
    failure,
    find_step,
    plain_terms,
    public_weight,
    refused,
    too_many_datasets,
)
from heliosdb.node.sum_terms import NoiseShare, SumSite, share_of
from heliosdb.node.summing import Before, Ready, Said, carry, is_message, is_open, shape_of
from heliosdb.transport.identity import Identity
from heliosdb.transport.messages import ReceivedTask
from heliosdb.transport.packing import close_update
from heliosdb.transport.update_messages import SealedUpdate, pack_signed_header

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Found:
    """What the catalog holds about a task.

    update: that answered it. charged_tables: the base tables that pay for it; () where it was not charged.
    shared: with its workspace. terms: of its run's plain answers. By a dataset's id, base_tables: as last
    claimed; never_plain: why it gives no plain answer. memory: of its run, sealed; None: there is none.
    unpopulated: the datasets of materialized views that hold nothing.
    """

    update: SealedUpdate | None
    charged_tables: tuple[int, ...]
    shared: tuple[SharedDataset, ...]
    terms: PlainTerms
    base_tables: Mapping[int, tuple[int, ...]]
    never_plain: Mapping[int, NeverPlain]
    memory: StoredMemory | None
    unpopulated: frozenset[int]


class Door:
    """One node's release door. Its methods block; they are to be called from one thread at a time."""

    def __init__(
        self,
        database: Database,
        identity: Callable[[], Identity],
        memory_key: MemoryKey,
        coder: UpdateCoder,
        site: SumSite,
    ) -> None:
        self._database = database
        self._identity = identity
        self._memory_key = memory_key
        self._coder = coder
        self._site = site
        self._ledgers = Ledgers()

    def look_up(self, received: ReceivedTask) -> Found:
        """What was charged or released for this very task, and what is shared with its workspace.

        Raises FederatedError NODE_REFUSED where another task of that name was answered, INTERNAL where this
        one was charged and could not be computed.
        """
        found = self._database.run(lambda connection: look_up(connection, received.task.key))
        return Found(
            same_again(found.release, received),
            found.charged_tables,
            found.shared,
            found.terms,
            found.base_tables,
            found.never_plain,
            found.memory,
            found.unpopulated,
        )

    def recall(self, received: ReceivedTask, found: Found) -> Memory:
        """What the node remembers of the task's run; FederatedError INTERNAL where it cannot be opened."""
        return self._memory_key.open(found.memory, received.task.key)

    def forget(self, workspace: WorkspaceName, ended: Iterable[RunId]) -> None:
        """Drop what is remembered of these runs of the workspace."""
        runs = list(ended)
        self._database.run(lambda connection: forget_memory(connection, workspace, runs))

    def row_sets(self, dataset: SharedDataset) -> StoredRowSets:
        """The row sets of earlier plain answers from the dataset's base tables, without the subjects without
        whom its DBA lets such answers go on: for these alone the rest counts as what was answered about."""
        stored = self._database.run(lambda connection: list_row_sets(connection, dataset))
        if not stored.accepted:
            return stored
        left = (without_subjects(one, stored.accepted) for one in stored.contents)
        return replace(stored, contents=tuple(dict.fromkeys(left)), recorded=stored.contents)

    def charge(self, received: ReceivedTask, dataset: SharedDataset, memory: Memory) -> tuple[int, ...]:
        """Charge a private task and commit, before a row is read; FederatedError where it is not affordable.

        memory: of the run, in which is whose sum it is. Returns the base tables that pay.
        """
        noise = share_of(received.task, memory.protocol, self._site)

        def operation(connection: Connection) -> tuple[int, ...]:
            with connection.batch(), connection.transaction():
                return self._charge(connection, received, dataset, noise)

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
        before: Before,
        rows: PlainRows | None = None,
        *,
        admission: Admission = EVERYBODY,
    ) -> SealedUpdate:
        """Let a contribution out: noise, protocol, seal, sign, commit; FederatedError where it may not.

        before: from which it came about. rows: of a plain one; RowSetsMovedError where they have to be
        compared with other ones first, MemoryMovedError where its memory was replaced meanwhile. None: of a
        charged one, which is failed where it cannot leave for what it is, or its memory was replaced.
        admission: whose rows were left out; AdmissionMovedError where others are by now.
        """
        try:
            whose = admission.digest + (b"" if rows is None else rows.consenting)
            passing = self._prepare(
                received.task, contribution, before, whose, withdrawn=admission.withdrawn_digest
            )
            if rows is not None:
                return self._pass(
                    lambda c: self._release_plain(c, received, dataset, passing, (rows, admission))
                )
            return self._pass(lambda c: self._release_charged(c, received, dataset, passing, admission))
        except CannotLeaveError as error:
            if rows is not None:
                raise error.public from error
            log.error("a charged task failed: %s %s", error.public.message, error.public.detail or "")
        except MemoryMovedError:
            if rows is not None:
                raise
            log.error("a charged task failed: another task of the run came in between")
        self.fail(received)
        raise failure()

    def release_message(
        self, received: ReceivedTask, dataset: SharedDataset, said: Said, memory: Memory
    ) -> SealedUpdate:
        """Let a protocol's message out: seal, sign, commit; FederatedError where it may not.

        Nothing computed from rows can be handed in: see the module. memory: from which it came about;
        MemoryMovedError where it was replaced meanwhile.
        """
        task = received.task
        shape = shape_of(task)
        if not is_message(task) or (said.vector.shape, said.vector.dtype.name) != (
            (shape.size,),
            shape.dtype.value,
        ):
            raise FederatedError(ErrorCode.INTERNAL, "the message is not what its task asks for")
        sealed = self._seal_memory(task.key, memory, replace(memory, protocol=said.keeps, turn=said.turn))
        passing = Passing(encode_answer(task, said.vector), 1.0, None, sealed, memory.version)
        try:
            return self._pass(lambda c: self._release_message(c, received, dataset, passing))
        except CannotLeaveError as error:
            raise error.public from error

    def _prepare(
        self, task: Task, contribution: Contribution, before: Before, whose: bytes, *, withdrawn: bytes
    ) -> Passing:
        """What leaves of a contribution, and what stays; CannotLeaveError where none may."""
        memory = before.memory
        try:
            check_contribution(task, contribution)
            noise = share_of(task, memory.protocol, self._site)
            vector = make_private(contribution, None if noise is None else noise.share)
            weight, after = contribution.weight, memory
            if is_open(task):
                vector = cast_real(vector, task.work.dtype)
                packed = self._coder.pack(task, vector, memory.unsent, whose)
                vector = packed.vector
                if packed.unsent is not memory.unsent:
                    after = replace(after, unsent=packed.unsent)
            elif before.ready is None or before.ready.task is not task:
                raise FederatedError(ErrorCode.INTERNAL, "nothing is ready that would hide the vector")
            else:
                said = self._carry(before.ready, vector, weight)
                # The weight is in the sum, and by itself nobody's.
                vector, weight = said.vector, public_weight(task) or 1.0
                after = replace(after, protocol=said.keeps, turn=said.turn)
            if contribution.stays is not None:
                after = replace(after, step=freeze(contribution.stays), withdrawn=withdrawn)
            sealed = self._seal_memory(task.key, memory, after)
            personal = self._seal_personal(task.key, contribution)
            # Before the transaction: a codec may take as long as its level asks for.
            answer = encode_answer(task, vector)
        except FederatedError as error:
            raise CannotLeaveError(error) from error
        return Passing(answer, weight, told_usage(task, contribution), sealed, memory.version, personal)

    def _seal_personal(self, key: TaskKey, contribution: Contribution) -> NewPersonal | None:
        """Seal the node's own part of the model; None where there is none."""
        if contribution.personal is None:
            return None
        part = PersonalPart.from_state(contribution.personal)
        return NewPersonal(part.way, part.figures, self._memory_key.seal_personal(part, key))

    def _carry(self, ready: Ready, vector: AnyVector, weight: float) -> Said:
        """What a protocol says with a vector: as it is, or rounded to a lattice."""
        task = ready.task
        if task.work.summing.rounding is not None:
            whole = self._coder.round(task, vector, weight)
            return carry(ready, whole[:-1], float(whole[-1]), weighted=False)
        return carry(ready, vector, weight, weighted=find_step(task).gathers == "rule")

    def _seal_memory(self, key: TaskKey, before: Memory, after: Memory) -> bytes | None:
        """Seal what is to be remembered; None where it is what was remembered before."""
        if after is before or after.to_bytes() == before.to_bytes():
            return None
        return self._memory_key.seal(after, key)

    def _pass(self, leave: Callable[[Connection], SealedUpdate]) -> SealedUpdate:
        """Run one way through the door as one transaction."""

        def operation(connection: Connection) -> SealedUpdate:
            with connection.batch(), connection.transaction():
                return leave(connection)

        update = self._database.run(operation)
        faults.reach("node.release.committed")
        return update

    def _charge(
        self,
        connection: Connection,
        received: ReceivedTask,
        dataset: SharedDataset,
        noise: NoiseShare | None,
    ) -> tuple[int, ...]:
        task = received.task
        state = lock_ledgers(connection, task.key, dataset)
        # Charged by an attempt that broke off meanwhile: once is enough.
        if state.release is not None:
            same_again(state.release, received)
            return tuple(one.base_table_id for one in state.ledgers)
        check_unchanged(state.dataset, dataset)
        check_known(state, dataset)
        charge = self._ledgers.price(state.ledgers, task, dataset)
        insert_charge(connection, task.key, dataset, received.sha256, charge)
        if noise is not None:
            whose = noise.cohort
            share = float(noise.share)
            insert_noise_share(connection, task.key, whose.nodes, whose.threshold, noise.honest, share)
        record_run(connection, task, dataset.name)
        return charge.base_tables

    def _release_charged(
        self,
        connection: Connection,
        received: ReceivedTask,
        dataset: SharedDataset,
        passing: Passing,
        admission: Admission,
    ) -> SealedUpdate:
        key = received.task.key
        state = lock_charge(connection, key, dataset)
        if (again := same_again(state.release, received)) is not None:
            return again
        check_unchanged(state.dataset, dataset)
        check_admission(connection, dataset, admission)
        # What is in the ledger has to be what leaves, whoever wrote it there.
        if not state.is_paid_by_all or state.mechanism != asked_mechanism(received.task):
            raise refused(f'the charge is not for what dataset "{dataset.name}" reads and the task asks')
        update = self._close(received, passing, state.mechanism, state.spending)
        remember(connection, key, passing)
        finish_release(connection, key, pack_signed_header(update.header, update.signature), update.payload)
        return update

    def _release_plain(
        self,
        connection: Connection,
        received: ReceivedTask,
        dataset: SharedDataset,
        passing: Passing,
        read: tuple[PlainRows, Admission],
    ) -> SealedUpdate:
        task, (rows, admission) = received.task, read
        state = lock_ledgers(connection, task.key, dataset)
        if (again := same_again(state.release, received)) is not None:
            return again
        check_unchanged(state.dataset, dataset)
        check_known(state, dataset)
        check_never_plain(state.never_plain, dataset)
        check_plain_terms(task, dataset, state.terms)
        check_admission(connection, dataset, admission)
        rows_read = RowsRead(admission.digest + rows.consenting, rows.rows_read)
        check_same_rows(rows_read, dataset, state.terms, accepted=state.all_accepted)
        if tuple(one.base_table_id for one in state.ledgers) != rows.base_tables:
            raise RowSetsMovedError
        if rows.row_set is not None and not insert_row_set(connection, dataset, rows.row_set, rows.latest):
            raise RowSetsMovedError
        if rows.most_datasets is not None and not record_plain_dataset(
            connection, dataset, rows.most_datasets
        ):
            raise too_many_datasets(dataset, rows.most_datasets)
        update = self._close(received, passing, None, None)
        remember(connection, task.key, passing)
        keep_personal(connection, task, passing)
        stored = replace(stored_release(received, update), rows_read=rows_read)
        insert_plain_release(connection, task.key, dataset, plain_terms(task), stored)
        record_run(connection, task, dataset.name)
        return update

    def _release_message(
        self, connection: Connection, received: ReceivedTask, dataset: SharedDataset, passing: Passing
    ) -> SealedUpdate:
        key = received.task.key
        release, shared = lock_message(connection, key, dataset)
        if (again := same_again(release, received)) is not None:
            return again
        check_unchanged(shared, dataset)
        update = self._close(received, passing, None, None)
        remember(connection, key, passing)
        insert_message_release(connection, key, dataset, stored_release(received, update))
        record_run(connection, received.task, dataset.name)
        return update

    def _close(
        self,
        received: ReceivedTask,
        passing: Passing,
        mechanism: Mechanism | None,
        spending: Spending | None,
    ) -> SealedUpdate:
        try:
            return close_update(
                self._identity(), received, passing.answer, passing.weight, passing.usage, mechanism, spending
            )
        except FederatedError as error:
            # That the coordinator's key is none is said of its task, not of what was computed.
            if error.code is ErrorCode.IDENTITY:
                raise
            raise CannotLeaveError(error) from error
