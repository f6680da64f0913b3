"""States and vectors of many chunks cross a real socket bit for bit, both ways at once, beside small ones."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from uuid import uuid4

import numpy as np
import pytest

from heliosdb.aggregation.sums import Shape
from heliosdb.domain.coding import Coding
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.handshake import Greeting, Introduction
from heliosdb.domain.ids import NodeName, RoundNumber, RunId, StepName, WorkspaceName
from heliosdb.domain.limits import NO_LIMITS, Limits
from heliosdb.domain.state import make_state
from heliosdb.domain.task import Reading, Summing, Task, TaskKey, Work
from heliosdb.domain.vector import Dtype
from heliosdb.transport.authority import Authority
from heliosdb.transport.client import NodeClient
from heliosdb.transport.limits import CHUNK_BYTES, MAX_NOTE_BYTES
from heliosdb.transport.messages import NodeRefusedError, ReceivedTask
from heliosdb.transport.packing import close_update, encode_vector
from heliosdb.transport.sealing import SealingKey
from heliosdb.transport.update_messages import SealedUpdate
from tests.support.performers import Unsubscribed
from tests.support.ways import WAYS, Way

AUTHORITY = Authority.create("authority")
NODE, COORDINATOR = (AUTHORITY.issue(name, ["localhost"]) for name in ("node", "coordinator"))
TIMEOUT = 60.0

Doubled = Callable[..., AbstractAsyncContextManager[NodeClient]]


class Doubler(Unsubscribed):
    """Answers with twice the parameters that it was given, or where there are none, with its note's bytes."""

    async def introduce(self, greeting: Greeting) -> Introduction:
        return Introduction(())

    async def alive(self) -> None:
        """It always is."""

    async def forget(self, workspace: WorkspaceName, node: NodeName, ended: frozenset[RunId]) -> None:
        """Nothing is kept."""

    async def perform(self, received: ReceivedTask) -> SealedUpdate:
        parameters = received.task.state.get("parameters")
        note = np.frombuffer(received.task.work.summing.note, dtype=np.uint8)
        answer = note if parameters is None else 2 * parameters
        return close_update(NODE, received, encode_vector(received.task.work, answer), 1.0, None, None, None)

    def sent(self, received: ReceivedTask) -> None:
        """Nothing to note."""


@pytest.fixture(params=WAYS, ids=["the node listens", "the node dials", "another carries"])
def doubler(request: pytest.FixtureRequest) -> Doubled:
    """Connects to a doubler, in either way."""
    way: Way = request.param
    return lambda limits=NO_LIMITS: way(Doubler(), NODE, COORDINATOR, limits)


def task(work: Work, **arrays: np.ndarray) -> Task:
    key = TaskKey(WorkspaceName("w"), RunId(uuid4()), RoundNumber(1), 0, StepName("train"), NodeName("node"))
    return Task(key, Reading(None, ("x",), "y", 0.0, 0), work, state=make_state(**arrays))


async def test_vectors_of_many_chunks_cross_bit_for_bit_both_ways(doubler: Doubled) -> None:
    sealing = SealingKey.generate()
    sizes = [0, 1, CHUNK_BYTES // 8, CHUNK_BYTES // 8 + 1, 1_000_003]
    vectors = [np.random.default_rng(size).normal(size=size) for size in sizes]
    async with doubler() as client:
        updates = await asyncio.gather(
            *(
                client.perform(task(Work("a", len(vector)), parameters=vector), sealing, TIMEOUT)
                for vector in vectors
            )
        )
    for vector, update in zip(vectors, updates, strict=True):
        assert update.vector.tobytes() == (2 * vector).tobytes()
        assert update.bytes_sent > vector.nbytes
        assert update.bytes_received > vector.nbytes


async def test_what_is_asked_of_the_line_holds_for_both_ends(doubler: Doubled) -> None:
    vector = np.arange(250_000, dtype=np.float64)
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with doubler(Limits(max_bandwidth_mbps=32.0)) as client:
        update = await client.perform(
            task(Work("a", 250_000), parameters=vector), SealingKey.generate(), TIMEOUT
        )
    # 2 MB each way take half a second each, but for the last chunk of each.
    assert loop.time() - began >= 2 * 8 * (vector.nbytes - CHUNK_BYTES) / 32e6
    assert update.vector.tobytes() == (2 * vector).tobytes()


async def test_a_note_of_the_largest_size_crosses_beside_a_state(doubler: Doubled) -> None:
    note = hashlib.shake_256(b"note").digest(MAX_NOTE_BYTES)
    work = Work("a", 3, summing=Summing("secret", "keys", note, 10_000))
    async with doubler() as client:
        update = await client.perform(
            task(work, other=np.arange(1000)),
            SealingKey.generate(),
            TIMEOUT,
            expected=Shape(MAX_NOTE_BYTES, Dtype.UINT8),
        )
    assert update.vector.tobytes() == note


async def test_an_answer_of_another_shape_than_the_caller_expects_is_rejected(doubler: Doubled) -> None:
    asked = task(Work("a", 3), parameters=np.ones(3))
    async with doubler() as client:
        for expected in (Shape(4, Dtype.FLOAT64), Shape(3, Dtype.FLOAT32)):
            with pytest.raises(FederatedError, match="instead of") as raised:
                await client.perform(asked, SealingKey.generate(), TIMEOUT, expected=expected)
            assert raised.value.code is ErrorCode.UPDATE_REJECTED


async def test_a_task_whose_codec_a_node_does_not_have_is_refused_before_it_is_performed(
    doubler: Doubled, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = task(Work("a", 3, coding=Coding("newer")), parameters=np.ones(3))
    # The coordinator, in the same process here, has it.
    monkeypatch.setattr("heliosdb.transport.verification.most_bytes", lambda *_coded: 0)
    async with doubler() as client:
        with pytest.raises(NodeRefusedError) as raised:
            await client.perform(asked, SealingKey.generate(), TIMEOUT)
    assert raised.value.reason is ErrorCode.NOT_SUPPORTED
