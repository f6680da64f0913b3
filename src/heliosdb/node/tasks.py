"""A task from the wire to the release door: dataset, training process, door.

What always holds: what was released is found before anything is computed; one task is computed once however
often it is asked for at the same time; an asker that goes away does not stop a release half way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from heliosdb import faults
from heliosdb.catalog.participant import SharedDataset, list_shared_datasets
from heliosdb.domain.errors import ErrorCode, FederatedError, not_supported
from heliosdb.domain.handshake import Greeting, Introduction
from heliosdb.domain.task import Reading, TaskKey
from heliosdb.domain.vector import vector_to_bytes
from heliosdb.node.database import Database
from heliosdb.node.datasets import TableRequest, held_out_key
from heliosdb.node.door import Door, check_policy
from heliosdb.node.trainer import Trainer
from heliosdb.transport.server import ReceivedTask
from heliosdb.transport.update_messages import SealedUpdate


class NodeTasks:
    """One node's `Performer`. reader: conninfo of the reader's role. secret: 32 bytes, never leaving."""

    def __init__(
        self, database: Database, door: Door, trainer: Trainer, *, reader: str, secret: bytes
    ) -> None:
        self._database = database
        self._door = door
        self._trainer = trainer
        self._reader = reader
        self._secret = secret
        self._under_way: dict[tuple[TaskKey, bytes], asyncio.Task[SealedUpdate]] = {}
        # One at a time through the door, whose ledgers are not for several threads.
        self._door_turn = asyncio.Lock()

    async def introduce(self, greeting: Greeting) -> Introduction:
        """Say what is shared with the coordinator's workspace."""
        datasets = await asyncio.to_thread(
            self._database.run, lambda connection: list_shared_datasets(connection, greeting.workspace)
        )
        return Introduction(tuple(dataset.description for dataset in datasets))

    async def alive(self) -> None:
        """FederatedError UNREACHABLE where the node's database does not answer."""
        await asyncio.to_thread(self._database.check)

    async def perform(self, received: ReceivedTask) -> SealedUpdate:
        """Answer a task, joining the same task where it is being answered already."""
        faults.reach("node.task.received")
        name = (received.task.key, received.sha256)
        if name not in self._under_way:
            work = asyncio.create_task(self._answer(received))
            self._under_way[name] = work
            work.add_done_callback(lambda done: self._forget(name, done))
        return await asyncio.shield(self._under_way[name])

    def sent(self, received: ReceivedTask) -> None:
        """Hear that the whole update was handed to the wire."""
        del received
        faults.reach("node.update.sent")

    async def close(self) -> None:
        """Stop what is being computed; what is at the door goes through it first."""
        for work in list(self._under_way.values()):
            work.cancel()
        await asyncio.gather(*self._under_way.values(), return_exceptions=True)

    def _forget(self, name: tuple[TaskKey, bytes], done: asyncio.Task[SealedUpdate]) -> None:
        del self._under_way[name]
        if not done.cancelled():
            # Whoever asked may be gone; an error that nobody awaits is still retrieved.
            done.exception()

    async def _answer(self, received: ReceivedTask) -> SealedUpdate:
        again, shared = await asyncio.to_thread(self._door.look_up, received)
        if again is not None:
            return again
        dataset = choose_dataset(shared, received.task.reading, received.task.key.workspace)
        check_policy(received.task, dataset)
        contribution = await self._trainer.compute(
            self._reader,
            self._table_request(received, dataset),
            received.header,
            vector_to_bytes(received.task.parameters),
        )
        async with self._door_turn:
            release = asyncio.create_task(
                asyncio.to_thread(self._door.release, received, dataset, contribution)
            )
            return await _to_the_end(release)

    def _table_request(self, received: ReceivedTask, dataset: SharedDataset) -> TableRequest:
        reading = received.task.reading
        return TableRequest(
            run=received.task.key.run.hex,
            dataset_id=dataset.dataset_id,
            dataset=dataset.name,
            features=reading.features,
            target=reading.target,
            validation_split=reading.validation_split,
            subject=dataset.subject,
            min_rows=dataset.min_rows,
            held_out_key=held_out_key(self._secret, reading.seed),
        )


async def _to_the_end(release: asyncio.Task[SealedUpdate]) -> SealedUpdate:
    """Wait for a release even when cancelled meanwhile: the door stays locked until it is through."""
    try:
        return await asyncio.shield(release)
    except asyncio.CancelledError:
        await asyncio.wait([release])
        raise


def choose_dataset(shared: Sequence[SharedDataset], reading: Reading, workspace: str) -> SharedDataset:
    """The dataset that a task is about; FederatedError UNDEFINED_OBJECT or UNDEFINED_COLUMN for none."""
    wanted = (*reading.features, reading.target)
    if len(set(wanted)) != len(wanted):
        raise not_supported("a column is named twice among features and target")
    if reading.dataset is not None:
        named = [dataset for dataset in shared if dataset.name == reading.dataset]
        if not named:
            raise FederatedError(
                ErrorCode.UNDEFINED_OBJECT,
                f'no dataset "{reading.dataset}" is shared with workspace "{workspace}"',
            )
        _demand_columns(named[0], wanted)
        return named[0]
    fitting = [dataset for dataset in shared if set(wanted) <= set(dataset.description.columns)]
    if len(fitting) == 1:
        return fitting[0]
    if len(fitting) > 1:
        raise FederatedError(
            ErrorCode.UNDEFINED_OBJECT,
            "several shared datasets have all the columns",
            hint=f"Name one with the model's option dataset: {_quoted([d.name for d in fitting])}.",
        )
    if len(shared) == 1:
        _demand_columns(shared[0], wanted)
    raise FederatedError(
        ErrorCode.UNDEFINED_OBJECT,
        f'no dataset with the columns {_quoted(wanted)} is shared with workspace "{workspace}"',
        hint="Share one on the node with CREATE FEDERATED DATASET.",
    )


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def _demand_columns(dataset: SharedDataset, wanted: Sequence[str]) -> None:
    for column in wanted:
        if column not in dataset.description.columns:
            raise FederatedError(
                ErrorCode.UNDEFINED_COLUMN, f'dataset "{dataset.name}" has no column "{column}"'
            )
