"""Messages of a sum protocol, asked by a coordinator that wants more than the sum.

A message is the only answer that leaves a node uncharged under a budget: so nothing of rows may be in it, in whatever
order, under whatever name, and in whatever run it is asked for.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest

from heliosdb.catalog.participant import StoredMemory
from heliosdb.domain.errors import ErrorCode
from heliosdb.domain.ids import NodeName, RunId, StepName, WorkspaceName
from heliosdb.domain.opened_update import OpenedUpdate
from heliosdb.domain.privacy import Budget, Mechanism
from heliosdb.domain.state import NO_STATE, freeze, state_to_bytes
from heliosdb.domain.task import Summing, Task, TaskKey
from heliosdb.node.memory import MemoryKey
from heliosdb.transport.client import NodeClient
from heliosdb.transport.messages import NodeRefusedError
from tests.support.cluster import Cluster
from tests.support.federation import (
    WORKSPACE,
    Federation,
    create_patients,
    measured,
    new_run,
    running_node,
    statistics_task,
    train_task,
    until,
)
from tests.support.sums import Failing, Masked, registered, unmasked

pytestmark = pytest.mark.usefixtures("forked_training")

TIMEOUT = 180.0
BUDGET = Budget(1.0, 1e-5)
PLACES = {"draw": 0, "mask": 1, "tell": 2}
COUNT = "SELECT count(*) FROM federated."


@pytest.fixture
def dba(cluster: Cluster, federated_database: str) -> Any:
    create_patients(cluster, federated_database)
    with cluster.connect(federated_database) as connection:
        yield connection


class Asker:
    """A coordinator that asks one node."""

    def __init__(self, client: NodeClient, federation: Federation) -> None:
        self.client, self.federation = client, federation

    async def ask(self, task: Task) -> OpenedUpdate:
        shape = None
        if task.work.summing.protocol != "plain":
            shape = Masked().shape(task.work.summing.stage, task.work.size + 1, 1)
        carries = task.work.summing.stage in {"mask", "vector"}
        return await self.client.perform(
            task,
            self.federation.sealing,
            TIMEOUT,
            expected=shape,
            private=carries and task.work.privacy is not None,
        )

    async def refusal(self, task: Task) -> NodeRefusedError:
        with pytest.raises(NodeRefusedError) as raised:
            await self.ask(task)
        return raised.value


@pytest.fixture
async def asker(
    cluster: Cluster, federated_database: str, dba: psycopg.Connection[Any], tmp_path: Path
) -> AsyncIterator[Asker]:
    federation = Federation(tmp_path)
    with registered(Masked(), Failing()):
        async with running_node(federation.node_config(cluster, federated_database)) as port:
            client = federation.client(port)
            yield Asker(client, federation)
            await client.close()


def at(task: Task, stage: str, *, protocol: str = "masked", note: bytes = b"", sum: int = 0) -> Task:
    """The task of a stage of the step's sum; sum: which of the round's."""
    work = replace(task.work, summing=Summing(protocol, stage, note))
    return replace(task, work=work, key=replace(task.key, exchange=3 * sum + PLACES[stage]))


def private(run: RunId | None = None) -> Task:
    return train_task(run=run, noise_multiplier=8.0, budget=BUDGET)


def number(dba: psycopg.Connection[Any], table: str) -> int:
    [(found,)] = dba.execute(COUNT + table).fetchall()
    return int(found)


async def test_the_messages_of_a_sum_lead_to_what_the_plain_answer_is(asker: Asker) -> None:
    task = statistics_task(run=new_run())
    plain = await asker.ask(statistics_task(run=new_run()))
    await asker.ask(at(task, "draw"))
    said, told = await asker.ask(at(task, "mask")), await asker.ask(at(task, "tell"))
    found = unmasked(said.vector, told.vector)
    np.testing.assert_allclose(found, [*plain.vector, plain.weight], atol=1e-5)
    assert plain.weight == 200.0
    assert said.weight == told.weight == 1.0


def without_state(task: Task) -> Task:
    """A message that names the state that the vector's has."""
    told = hashlib.sha256(state_to_bytes(task.state)).digest()
    work = replace(task.work, summing=replace(task.work.summing, state_sha256=told))
    return replace(task, work=work, state=NO_STATE)


async def test_messages_without_the_state_lead_to_the_sum_of_the_state_that_they_name(asker: Asker) -> None:
    runs = [new_run(), new_run()]
    for run in runs:
        await asker.ask(statistics_task(run=run))
    plain, task = await asker.ask(train_task(run=runs[0])), train_task(run=runs[1])
    await asker.ask(without_state(at(task, "draw")))
    other = replace(task, state=freeze({name: array + 1.0 for name, array in task.state.items()}))
    assert "does not follow what the node said last" in (await asker.refusal(at(other, "mask"))).message
    said = await asker.ask(at(task, "mask"))
    told = await asker.ask(without_state(at(task, "tell")))
    *weighted, weight = unmasked(said.vector, told.vector)
    assert weight == plain.weight
    # Another run trains in another order.
    np.testing.assert_allclose(np.array(weighted) / weight, plain.vector, atol=0.01)


async def test_a_vector_without_its_state_is_refused_before_anything_is_charged(
    dba: psycopg.Connection[Any], asker: Asker
) -> None:
    task = private()
    await asker.ask(without_state(at(task, "draw")))
    refusal = await asker.refusal(without_state(at(task, "mask")))
    assert refusal.reason is ErrorCode.INVALID_VALUE
    assert (number(dba, "spending"), number(dba, "release")) == (0, 1)


async def test_under_a_budget_the_vector_is_charged_once_and_messages_are_not(
    dba: psycopg.Connection[Any], asker: Asker
) -> None:
    task = private(new_run())
    drawn = await asker.ask(at(task, "draw"))
    assert number(dba, "spending") == number(dba, "agreement") == 0
    said = await asker.ask(at(task, "mask"))
    told = await asker.ask(at(task, "tell"))
    assert said.mechanism == Mechanism(8.0)
    assert said.weight == 100.0
    for message in (drawn, told):
        assert (message.mechanism, message.spending, message.usage, message.weight) == (None, None, None, 1.0)
    found = unmasked(said.vector, told.vector)
    assert found[-1] == 100.0
    assert np.abs(found[:-1]).max() > 0
    assert number(dba, "spending") == 1
    rows = dba.execute(
        "SELECT exchange, is_message, state::text FROM federated.release ORDER BY exchange"
    ).fetchall()
    assert rows == [(0, True, "released"), (1, False, "released"), (2, True, "released")]
    assert number(dba, "node_memory") == 1


@pytest.mark.parametrize("budget", [None, BUDGET])
async def test_no_row_is_read_for_a_message(
    cluster: Cluster, federated_database: str, asker: Asker, budget: Budget | None
) -> None:
    task = statistics_task(run=new_run(), noise_multiplier=None if budget is None else 8.0, budget=budget)
    with cluster.connect(federated_database) as blocker, blocker.transaction():
        blocker.execute("LOCK TABLE patient IN ACCESS EXCLUSIVE MODE")
        await asker.ask(at(task, "draw"))


async def test_a_message_asked_again_is_the_same_bytes_and_with_another_note_none(
    dba: psycopg.Connection[Any], asker: Asker
) -> None:
    task = private(new_run())
    await asker.ask(at(task, "draw"))
    await asker.ask(at(task, "mask"))
    told = await asker.ask(at(task, "tell"))
    again = await asker.ask(at(task, "tell"))
    assert again.vector.tobytes() == told.vector.tobytes()
    assert again.bytes_received == told.bytes_received
    error = await asker.refusal(at(task, "tell", note=b"of somebody else"))
    assert "another task was already answered" in error.message
    # The same stage of a sum that was never begun, under a key of its own.
    assert "does not follow" in (await asker.refusal(at(task, "tell", sum=1))).message
    assert number(dba, "release") == 3


@pytest.mark.parametrize("task", [train_task(), private()], ids=["plain", "private"])
async def test_what_has_no_turn_is_refused_before_anything_is_charged_or_read(
    dba: psycopg.Connection[Any], asker: Asker, task: Task
) -> None:
    task = replace(task, key=replace(task.key, run=new_run()))
    if task.budget is None:
        await measured(asker.client, asker.federation, task)
    before = number(dba, "release")
    for stage in ("mask", "tell"):
        error = await asker.refusal(at(task, stage))
        assert error.reason is ErrorCode.NODE_REFUSED
        assert "does not follow" in error.message
    await asker.ask(at(task, "draw"))
    assert "the note is none" in (await asker.refusal(at(task, "mask", note=b"bad"))).message
    assert "gave no answer" in (await asker.refusal(at(task, "mask", note=b"worse"))).message
    for wrong in (
        replace(at(task, "tell"), key=replace(task.key, exchange=1)),
        replace(at(task, "mask"), key=replace(task.key, step=StepName("evaluate"), exchange=1)),
        replace(at(task, "mask"), work=replace(task.work, summing=Summing("plain", "tell"))),
        replace(at(task, "mask"), work=replace(task.work, summing=Summing("masked", "vector"))),
    ):
        await asker.refusal(wrong)
    assert number(dba, "release") == before + 1
    assert number(dba, "spending") == number(dba, "agreement") == 0


async def test_messages_of_one_run_say_nothing_of_another(dba: psycopg.Connection[Any], asker: Asker) -> None:
    one, other = private(new_run()), private(new_run())
    for task in (one, other):
        await asker.ask(at(task, "draw"))
    await asker.ask(at(one, "mask"))
    assert "does not follow" in (await asker.refusal(at(other, "tell"))).message
    # Whoever has the database may exchange what is stored; it does not open.
    dba.execute(
        "UPDATE federated.node_memory AS m SET sealed = o.sealed FROM federated.node_memory AS o "
        "WHERE m.run_id = %s AND o.run_id = %s",
        [other.key.run, one.key.run],
    )
    assert "cannot open what it remembers" in (await asker.refusal(at(other, "mask"))).message
    assert number(dba, "spending") == 1


async def test_where_plain_answers_are_not_given_no_message_prepares_one(
    cluster: Cluster, federated_database: str, dba: psycopg.Connection[Any], tmp_path: Path
) -> None:
    federation = Federation(tmp_path)
    config = federation.node_config(cluster, federated_database, plain_answers=False)
    with registered(Masked()):
        async with running_node(config) as port:
            client = federation.client(port)
            asker = Asker(client, federation)
            error = await asker.refusal(at(statistics_task(run=new_run()), "draw"))
            await client.close()
    assert "gives no answers without noise" in error.message
    assert number(dba, "release") == number(dba, "node_memory") == 0


async def test_a_message_of_the_statistics_is_not_that_the_run_has_asked_for_them(asker: Asker) -> None:
    run = new_run()
    await asker.ask(at(statistics_task(run=run), "draw"))
    error = await asker.refusal(train_task(run=run))
    assert "has not asked for the statistics" in error.message


@pytest.mark.parametrize("budget", [None, BUDGET])
async def test_a_protocol_that_fails_with_its_vector_lets_nothing_out_and_says_nothing_of_it(
    dba: psycopg.Connection[Any], asker: Asker, budget: Budget | None
) -> None:
    task = statistics_task(run=new_run(), noise_multiplier=None if budget is None else 8.0, budget=budget)
    await asker.ask(at(task, "draw", protocol="failing"))
    error = await asker.refusal(at(task, "mask", protocol="failing"))
    assert error.reason is ErrorCode.INTERNAL
    if budget is None:
        assert error.message.endswith("refused: the sum protocol gave no answer")
        assert number(dba, "release") == 1
        return
    assert "could not compute its answer" in error.message
    assert await asker.refusal(at(task, "mask", protocol="failing")) is not None
    states = dba.execute("SELECT state::text FROM federated.release ORDER BY exchange").fetchall()
    assert states == [("released",), ("failed",)]


def replace_memory(dba: psycopg.Connection[Any], federation: Federation, key: TaskKey) -> None:
    """Write the node's memory of a run once more, as it is."""
    keys = MemoryKey((federation.directory / "node-state" / "node.key").read_bytes())
    (row,) = dba.execute("SELECT sealed, version FROM federated.node_memory").fetchall()
    again = keys.seal(keys.open(StoredMemory(*row), key), key)
    dba.execute("UPDATE federated.node_memory SET sealed = %s, version = version + 1", [again])


@pytest.mark.parametrize("budget", [None, BUDGET])
async def test_an_answer_from_a_memory_that_was_replaced_meanwhile_does_not_leave_but_a_new_one_may(
    cluster: Cluster,
    federated_database: str,
    dba: psycopg.Connection[Any],
    asker: Asker,
    budget: Budget | None,
) -> None:
    task = statistics_task(run=new_run(), noise_multiplier=None if budget is None else 8.0, budget=budget)
    await asker.ask(at(task, "draw"))
    with cluster.connect(federated_database) as observer:
        with dba.transaction():
            dba.execute("LOCK TABLE federated.dataset IN EXCLUSIVE MODE")
            mask = at(task, "mask")
            asking = asyncio.create_task(asker.ask(mask) if budget is None else asker.refusal(mask))
            # The task stands at the door, with what it found before.
            await until(lambda: _door_waits(observer))
            replace_memory(dba, asker.federation, mask.key)
        answered = await asking
    if budget is None:
        # Once more from the memory as it is now, of which version 3 is replaced.
        assert dba.execute("SELECT version FROM federated.node_memory").fetchall() == [(3,)]
        assert number(dba, "release") == 2
        return
    assert isinstance(answered, NodeRefusedError)
    assert "could not compute its answer" in answered.message
    assert number(dba, "spending") == 1


async def test_a_memory_that_is_replaced_again_and_again_is_a_refusal_in_the_end(
    dba: psycopg.Connection[Any], asker: Asker
) -> None:
    task = statistics_task(run=new_run())
    await asker.ask(at(task, "draw"))
    dba.execute(
        "CREATE FUNCTION keep_as_it_is() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';"
        "CREATE TRIGGER keep_as_it_is BEFORE UPDATE ON federated.node_memory "
        "FOR EACH ROW EXECUTE FUNCTION keep_as_it_is()"
    )
    error = await asker.refusal(at(task, "mask"))
    assert error.reason is ErrorCode.NODE_REFUSED
    assert "other tasks of the run come in between" in error.message
    assert number(dba, "release") == 1
    dba.execute("DROP TRIGGER keep_as_it_is ON federated.node_memory")
    await asker.ask(at(task, "mask"))


async def test_what_is_remembered_goes_when_the_run_is_over(
    dba: psycopg.Connection[Any], asker: Asker
) -> None:
    kept, over = new_run(), new_run()
    for run in (kept, over):
        await asker.ask(at(private(run), "draw"))
    node, workspace = NodeName("node"), WorkspaceName(WORKSPACE)
    await asker.client.forget(WorkspaceName("other"), node, frozenset({kept, over}), TIMEOUT)
    assert number(dba, "node_memory") == 2
    await asker.client.forget(workspace, node, frozenset({over}), TIMEOUT)
    assert dba.execute("SELECT run_id FROM federated.node_memory").fetchall() == [(kept,)]
    assert "does not follow" in (await asker.refusal(at(private(over), "mask"))).message
    await asker.ask(at(private(kept), "mask"))


def _door_waits(observer: psycopg.Connection[Any]) -> bool:
    row = observer.execute(
        "SELECT count(*) FROM pg_stat_activity "
        "WHERE application_name = 'heliosdb node' AND wait_event_type = 'Lock' AND datname = current_database()"
    ).fetchone()
    return row is not None and row[0] == 1
