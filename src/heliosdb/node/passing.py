"""What is about to pass the release door, and what the catalog must say of it while it does.

What always holds: each check is made under the locks of the transaction that writes the release: what has
changed since the rows were read stops it, and then nothing was written.
"""

from __future__ import annotations

from dataclasses import dataclass

from heliosdb.catalog.connection import Connection
from heliosdb.catalog.consent_register import read_words
from heliosdb.catalog.participant import (
    LedgerState,
    ReleaseState,
    SharedDataset,
    StoredRelease,
    put_memory,
)
from heliosdb.catalog.personal import NewPersonal, put_personal
from heliosdb.domain.errors import FederatedError
from heliosdb.domain.ids import ModelName
from heliosdb.domain.task import Task, TaskKey
from heliosdb.domain.usage import Usage
from heliosdb.node.admission import Admission
from heliosdb.node.policy import check_not_paused, failure, refused
from heliosdb.transport.messages import ReceivedTask
from heliosdb.transport.packing import EncodedVector
from heliosdb.transport.update_messages import SealedUpdate, pack_signed_header, unpack_signed_header


@dataclass(frozen=True, slots=True)
class PlainRows:
    """What the rows of a plain answer are.

    base_tables: where they come from. row_set: which they are; None where that is recorded. latest: the id of
    the last one that it was compared with. rows_read: keyed hash of their content. consenting: digest of who
    is in the dataset's consent_query; b"" where it has none. most_datasets: over the same tables, that may
    get such answers; None where the dataset is known to be one of them.
    """

    base_tables: tuple[int, ...]
    row_set: bytes | None = None
    latest: int = 0
    rows_read: bytes = b""
    consenting: bytes = b""
    most_datasets: int | None = None


@dataclass(frozen=True, slots=True)
class Passing:
    """What is about to leave: the vector, encoded, and what is told beside it. sealed: the memory that
    is to take the place of the one of `version`; None: it stays as it is. personal: the node's own part of
    the model, to be kept; None: there is none."""

    answer: EncodedVector
    weight: float
    usage: Usage | None
    sealed: bytes | None
    version: int
    personal: NewPersonal | None = None


class CannotLeaveError(Exception):
    """An answer cannot leave for what it is. public: what is said of one that was not charged."""

    def __init__(self, public: FederatedError) -> None:
        super().__init__(public.message)
        self.public = public


class RowSetsMovedError(Exception):
    """Another row set was recorded meanwhile, or the rows come from other tables now: compare first."""


class AdmissionMovedError(Exception):
    """Other data subjects are left out by now than of what was read: nothing was written, read anew."""


class MemoryMovedError(Exception):
    """Another task of the run replaced the memory from which an answer came about: nothing was written."""


def remember(connection: Connection, key: TaskKey, passing: Passing) -> None:
    """Write what stays, in the place of the very memory from which the answer came about; MemoryMovedError
    where that is another one by now."""
    if passing.sealed is not None and not put_memory(connection, key, passing.sealed, passing.version):
        raise MemoryMovedError


def keep_personal(connection: Connection, task: Task, passing: Passing) -> None:
    """Keep the node's own part of the model, in the place of an earlier one of the run."""
    if passing.personal is not None:
        put_personal(connection, task.key, task.model or ModelName(""), passing.personal)


def stored_release(received: ReceivedTask, update: SealedUpdate) -> StoredRelease:
    """What the catalog keeps of a release."""
    signed = pack_signed_header(update.header, update.signature)
    return StoredRelease(ReleaseState.RELEASED, received.sha256, signed, update.payload)


def check_unchanged(now: SharedDataset | None, dataset: SharedDataset) -> None:
    """FederatedError NODE_REFUSED where the dataset is paused, or not as it was when the task was looked up.

    Its lock is held: once a pause has committed nothing is charged and nothing leaves, also of a task that
    was charged or computed before it. That charge stays, and answers the same task when it is resumed.
    """
    if now is not None:
        check_not_paused(now)
    if now != dataset:
        raise refused(f'dataset "{dataset.name}" was changed or dropped while the task was under way')


def check_admission(connection: Connection, dataset: SharedDataset, admission: Admission) -> None:
    """AdmissionMovedError where other rows would be left out by now, or what this node's DBA has said is not
    taken yet. Whoever withdraws waits for the release, or it for him: what is let out afterwards is without
    the subject."""
    asked = admission.admitted is not None, admission.unexplained is not None
    words = read_words(connection, dataset, granted=asked[0], unexplained=asked[1])
    moved = Admission(words.withdrawn, words.granted) != admission
    if words.waits or moved or words.unexplained != admission.unexplained:
        raise AdmissionMovedError


def check_known(state: LedgerState, dataset: SharedDataset) -> None:
    """FederatedError NODE_REFUSED where there is no ledger to charge: what was shared is not there any
    more."""
    if not state.ledgers:
        raise refused(f'the table of dataset "{dataset.name}" is not there any more')


def same_again(stored: StoredRelease | None, received: ReceivedTask) -> SealedUpdate | None:
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
