"""A task from the wire to the release door: dataset, training process, door.

What always holds: what was released is found before anything is computed; what a private answer costs is
charged before a row is read, and from then on nothing is said but the answer, or one fixed text; a message
of a sum protocol is made here, without the training process; what is at the door goes through it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from heliosdb.algorithms.own_model import OWN
from heliosdb.catalog.description import describe_datasets
from heliosdb.catalog.participant import SharedDataset
from heliosdb.catalog.row_sets import StoredRowSets
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.handshake import DatasetDescription
from heliosdb.domain.ids import RunId, WorkspaceName
from heliosdb.domain.state import NO_STATE, State, state_to_bytes
from heliosdb.domain.task import Task
from heliosdb.node.admission import Admission
from heliosdb.node.consenting import Consents, check_consent_can_be_asked
from heliosdb.node.database import Database
from heliosdb.node.datasets import TableRequest
from heliosdb.node.disclosure import check_known_by, check_row_sets
from heliosdb.node.door import Door, Found
from heliosdb.node.frames import Computed
from heliosdb.node.identifiers import Identifiers, check_plain_values
from heliosdb.node.memory import Memory
from heliosdb.node.passing import AdmissionMovedError, MemoryMovedError, PlainRows, RowSetsMovedError
from heliosdb.node.policy import (
    asked_mechanism,
    check_never_plain,
    check_not_paused,
    check_plain_terms,
    check_policy,
    check_populated,
    failure,
    find_misread,
    refused,
)
from heliosdb.node.requests import choose_dataset, computing_limits, make_table_request
from heliosdb.node.subscriptions import Subscriptions
from heliosdb.node.sum_terms import SumSite, check_willing
from heliosdb.node.summing import Before, is_message, is_open, prepare, say_message
from heliosdb.node.trainer import RowSetsWantedError, Trainer
from heliosdb.node.watch import computing, note_charge, passing_door
from heliosdb.transport.messages import ReceivedTask
from heliosdb.transport.update_messages import SealedUpdate

T = TypeVar("T")
log = logging.getLogger(__name__)

_ATTEMPTS = 5
_MOST_SETTLED = 1024
_MOST_RUNS = 1024

_PAUSES = (0.2, 0.5, 1.0, 2.0, 4.0, 8.0)
"""Seconds between attempts to read what was charged, while the database is away."""


@dataclass(slots=True)
class About:
    """The dataset that a task is about: as the task names it, and as it was found."""

    dataset: str | None


@dataclass(frozen=True, slots=True)
class Rules:
    """A site's word about answers.

    reader: conninfo of the reader's role. key: of the site's tables. plain_answers: whether there may be any.
    floors: its word about rules of plain answers, by their names. signatory: speaks for the node in a secure
    sum.
    """

    reader: str
    key: bytes
    plain_answers: bool
    floors: Mapping[str, float]
    signatory: SumSite


class TaskAnswers:
    """Answers one node's tasks. consents: the register of consent; subscriptions: know the node's name."""

    def __init__(
        self,
        database: Database,
        door: Door,
        trainer: Trainer,
        rules: Rules,
        *,
        consents: Consents,
        subscriptions: Subscriptions,
    ) -> None:
        self._database = database
        self._door = door
        self._trainer = trainer
        self._rules = rules
        self._consents = consents
        self._subscriptions = subscriptions
        # The plain tables whose rows were compared with those of earlier answers, and recorded.
        self._settled: OrderedDict[TableRequest, None] = OrderedDict()
        # By the table of a run under a budget, what was read for it last.
        self._rows_read: OrderedDict[TableRequest, bytes] = OrderedDict()
        self._identifiers = Identifiers(database)
        # One at a time through the door, whose ledgers are not for several threads.
        self._door_turn = asyncio.Lock()

    async def describe(self, workspace: WorkspaceName) -> list[DatasetDescription]:
        """Say what is shared with a workspace."""
        return await asyncio.to_thread(
            self._database.run, lambda connection: describe_datasets(connection, workspace)
        )

    async def forget(self, workspace: WorkspaceName, ended: Sequence[RunId]) -> None:
        """Drop what is remembered of these runs of a workspace."""
        await self._through_the_door(lambda: self._door.forget(workspace, ended))

    async def answer(self, received: ReceivedTask, about: About) -> SealedUpdate:
        """Answer a task from what the run's tasks before it have left, whichever were asked together with it.

        One that finds its memory replaced has let nothing out and begins again; a charged one never does.
        """
        attempts = 0
        while attempts < _ATTEMPTS:
            try:
                return await self._answer_once(received, about)
            except AdmissionMovedError:
                # However often: who is withdrawn is in no answer, and a charged task is not given up for it.
                self._consents.forget()
                continue
            except MemoryMovedError:
                attempts += 1
        raise refused("other tasks of the run come in between")

    async def _answer_once(self, received: ReceivedTask, about: About) -> SealedUpdate:
        # An aggregator has tasks of other nodes too, which would be charged here as well.
        self._subscriptions.check_called(received.task.key.workspace, received.task.key.node, "the task")
        found = await asyncio.to_thread(self._door.look_up, received)
        if found.update is not None:
            # Also from a paused dataset: these bytes were let out before the pause, and tell nothing more.
            return found.update
        task = received.task
        dataset = choose_dataset(found.shared, task.reading, task.key.workspace)
        about.dataset = dataset.name
        check_not_paused(dataset)
        check_populated(dataset, found.unpopulated)
        check_consent_can_be_asked(task, dataset)
        await self._check(task, dataset)
        check_willing(task, self._rules.signatory)
        await self._identifiers.check(task, dataset)
        private = asked_mechanism(task) is not None
        if not private:
            check_never_plain(found.never_plain[dataset.dataset_id], dataset)
            check_plain_terms(task, dataset, found.terms)
        memory = await self._recall(received, found)
        if is_message(task):
            return await self._answer_message(received, dataset, memory)
        ready = None
        if not is_open(task):
            ready = await asyncio.to_thread(prepare, task, memory, self._rules.signatory)
        before = Before(memory, ready)
        admission = self._consents.recall(task, dataset)
        if admission is None:
            admission = await self._admit(task, dataset)
        if not private:
            bases = found.base_tables[dataset.dataset_id]
            request = self._request(task, dataset, bases, admission)
            return await self._answer_plainly(received, dataset, before, request)
        charged = found.charged_tables
        if not charged:
            charged = await self._through_the_door(lambda: self._door.charge(received, dataset, memory))
            note_charge()
        request = self._request(task, dataset, charged, admission)
        return await self._answer_charged(received, dataset, before, request)

    def _request(
        self, task: Task, dataset: SharedDataset, bases: tuple[int, ...], admission: Admission
    ) -> TableRequest:
        key, floors = self._rules.key, self._rules.floors
        return make_table_request(task, dataset, key, bases, admission, site=floors)

    async def _admit(self, task: Task, dataset: SharedDataset) -> Admission:
        return await asyncio.to_thread(self._consents.admit, task, dataset)

    async def _recall(self, received: ReceivedTask, found: Found) -> Memory:
        """What the run left here; beside the event loop only where there is something to open."""
        if found.memory is None:
            return self._door.recall(received, found)
        return await asyncio.to_thread(self._door.recall, received, found)

    async def _answer_message(
        self, received: ReceivedTask, dataset: SharedDataset, memory: Memory
    ) -> SealedUpdate:
        """Say what a sum protocol says without a vector: no row is read for it, and nothing is charged."""
        said = await asyncio.to_thread(say_message, received.task, memory, self._rules.signatory)
        return await self._through_the_door(
            lambda: self._door.release_message(received, dataset, said, memory)
        )

    async def _check(self, task: Task, dataset: SharedDataset) -> None:
        check_policy(task, dataset, plain_answers=self._rules.plain_answers, site=self._rules.floors)
        if find_misread(dataset.description, task) is None:
            return
        # It may be a domain, or an enum: that only the catalog can tell.
        described = await self.describe(task.key.workspace)
        now = next((one for one in described if one.name == dataset.name), dataset.description)
        if (error := find_misread(now, task)) is not None:
            raise error

    async def _answer_charged(
        self, received: ReceivedTask, dataset: SharedDataset, before: Before, request: TableRequest
    ) -> SealedUpdate:
        """Compute and release what was charged; whatever goes wrong is logged here and told nobody."""
        try:
            # Nothing is given of what earlier steps kept: no subject's clipping bounds what that may hold.
            computed = await self._compute_charged(received, request, dataset)
            await self._identifiers.keep(request, computed.findings)
        except FederatedError as error:
            log.error("a charged task failed: %s %s", error.message, error.detail or "")
            await self._through_the_door(lambda: self._door.fail(received))
            raise failure() from None
        return await self._through_the_door(
            lambda: self._door.release(
                received, dataset, computed.contribution, before, admission=request.admission
            )
        )

    async def _compute_charged(
        self, received: ReceivedTask, request: TableRequest, dataset: SharedDataset
    ) -> Computed:
        """Compute what was charged, once more and again where the database is away for a moment: that it is
        charged is not undone."""
        for pause in _PAUSES:
            try:
                computed = await self._compute(received, request, dataset)
            except FederatedError as error:
                if error.code is not ErrorCode.UNREACHABLE:
                    raise
                await asyncio.sleep(pause)
            else:
                self._note_rows(request, computed.rows_read)
                return computed
        return await self._compute(received, request, dataset)

    def _note_rows(self, request: TableRequest, rows_read: bytes) -> None:
        """Log where a run under a budget goes on from other rows: a refusal would tell that they changed."""
        known = self._rows_read.setdefault(request, rows_read)
        self._rows_read.move_to_end(request)
        if len(self._rows_read) > _MOST_RUNS:
            self._rows_read.popitem(last=False)
        if known != rows_read:
            self._rows_read[request] = rows_read
            log.warning(
                "dataset %s: run %s goes on from rows that were read again and differ",
                request.dataset,
                request.run,
            )

    async def _answer_plainly(
        self, received: ReceivedTask, dataset: SharedDataset, before: Before, request: TableRequest
    ) -> SealedUpdate:
        step = _kept_for(request.admission, before.memory)
        kept = state_to_bytes(step) if step else b""
        for _ in range(_ATTEMPTS):
            stored = None
            if request not in self._settled:
                stored = await asyncio.to_thread(self._door.row_sets, dataset)
                check_known_by(dataset.known_by, stored.known_by, dataset.name)
                check_row_sets(len(stored.contents), request.max_row_sets, dataset.name)
                request = replace(request, base_tables=stored.base_tables)
            try:
                computed = await self._compute(received, request, dataset, kept, stored)
                await self._identifiers.keep(request, computed.findings)
                check_plain_values(received.task, dataset, computed.findings)
                rows = _plain_rows(request, computed, stored, self._most_datasets(dataset))
                release = partial(self._door.release, admission=request.admission)
                passing = partial(release, received, dataset, computed.contribution, before, rows)
                with passing_door():
                    update = await self._through_the_door(passing)
            except (RowSetsWantedError, RowSetsMovedError):
                self._settled.pop(request, None)
                continue
            self._settle(request)
            return update
        raise refused(f'other answers about the table of dataset "{dataset.name}" come in between')

    async def _compute(
        self,
        received: ReceivedTask,
        request: TableRequest,
        dataset: SharedDataset,
        kept: bytes = b"",
        stored: StoredRowSets | None = None,
    ) -> Computed:
        try:
            with computing():
                return await self._trainer.compute(
                    self._rules.reader,
                    request,
                    received.header,
                    received.state,
                    memory=kept,
                    row_sets=None if stored is None else stored.contents,
                    limits=computing_limits(received),
                )
        except FederatedError as error:
            # Not for rows of which the register says something else by now: no door has asked it yet.
            is_away = error.code is ErrorCode.UNREACHABLE
            if not is_away and await self._admit(received.task, dataset) != request.admission:
                raise AdmissionMovedError from error
            raise

    async def _through_the_door(self, passing: Callable[[], T]) -> T:
        async with self._door_turn:
            return await to_the_end(asyncio.create_task(asyncio.to_thread(passing)))

    def _most_datasets(self, dataset: SharedDataset) -> int:
        return dataset.rules.within(self._rules.floors).max_datasets

    def _settle(self, request: TableRequest) -> None:
        """Remember that the rows of a request were compared with earlier ones and recorded."""
        self._settled[request] = None
        self._settled.move_to_end(request)
        if len(self._settled) > _MOST_SETTLED:
            self._settled.popitem(last=False)


def _kept_for(admission: Admission, memory: Memory) -> State:
    """What a computation of the run has kept; nothing of a model of the node's own that has learned from
    somebody who was withdrawn since: that would outlast the run."""
    is_of_others = OWN in memory.step and memory.withdrawn != admission.withdrawn_digest
    return NO_STATE if is_of_others else memory.step


def _plain_rows(
    request: TableRequest, computed: Computed, stored: StoredRowSets | None, most_datasets: int
) -> PlainRows:
    read, consenting = computed.rows_read, computed.consenting
    if stored is None:
        return PlainRows(request.base_tables, rows_read=read, consenting=consenting)
    found = PlainRows(request.base_tables, rows_read=read, consenting=consenting, most_datasets=most_datasets)
    if computed.row_set is None or stored.holds(computed.row_set):
        return found
    return replace(found, row_set=computed.row_set, latest=stored.latest)


async def to_the_end(passing: asyncio.Task[T]) -> T:
    """Wait for what is at the door even when cancelled meanwhile: the door stays locked until it is
    through."""
    try:
        return await asyncio.shield(passing)
    except asyncio.CancelledError:
        await asyncio.wait([passing])
        raise
