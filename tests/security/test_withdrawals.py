"""A coordinator that has somebody erased in order to find out about him, and what a node's records tell of him."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import psycopg
import pytest

from heliosdb.algorithms.own_terms import OwnTerms
from heliosdb.algorithms.personalizing import PersonalWork
from heliosdb.algorithms.steps import PERSONALIZE
from heliosdb.algorithms.works import TrainWork
from heliosdb.domain.errors import ErrorCode
from heliosdb.domain.ids import NodeName, OrderId, RoundNumber, WorkspaceName
from heliosdb.domain.orders import Order, OrderKind
from heliosdb.domain.privacy import Budget
from heliosdb.domain.task import Task
from heliosdb.node.task_answers import TaskAnswers
from heliosdb.transport.client import NodeClient
from heliosdb.transport.messages import NodeRefusedError
from tests.support.cluster import Cluster
from tests.support.federation import (
    READING,
    SCALING,
    WORKSPACE,
    Federation,
    measured,
    new_run,
    running_node,
    share,
    statistics_task,
    train_task,
)

pytestmark = pytest.mark.usefixtures("forked_training")

TIMEOUT = 180.0
PEOPLE = """
CREATE TABLE person (person_id text PRIMARY KEY, age double precision, pressure double precision, outcome double precision);
SELECT setseed(0.5);
INSERT INTO person SELECT 'person-' || i, 30 + 40 * random(), 90 + 60 * random(), (random() < 0.4)::integer
FROM generate_series(1, 200) AS i;
"""
COLUMNS = "person (age, pressure, outcome)"
BY_PERSON = "WITH (subject = 'person_id')"
FEW = "differ by fewer than min_rows = 20 subjects"


@pytest.fixture
def dba(cluster: Cluster, federated_database: str) -> Any:
    with cluster.connect(federated_database) as connection:
        connection.execute(PEOPLE)
        yield connection


class Asker:
    """A coordinator that asks one node."""

    def __init__(self, client: NodeClient, federation: Federation) -> None:
        self.client, self.federation = client, federation

    async def erase(self, subject: str, **changes: Any) -> dict[str, Any]:
        """Return the node's statement."""
        return (await self.client.carry(replace(erasure(subject), **changes), TIMEOUT)).signed.read()

    async def ask(self, task: Task) -> np.ndarray:
        return (await self.client.perform(task, self.federation.sealing, TIMEOUT)).vector

    async def count(self, dataset: str | None = None) -> float:
        """How many rows a plain answer is about."""
        task = statistics_task(run=new_run())
        reading = replace(task.reading, dataset=dataset, validation_split=0.0)
        return float((await self.ask(replace(task, reading=reading)))[0])

    async def refused(self, dataset: str | None = None) -> str:
        with pytest.raises(NodeRefusedError) as raised:
            await self.count(dataset)
        assert raised.value.reason is ErrorCode.NODE_REFUSED
        return raised.value.message


def erasure(subject: str) -> Order:
    deadline = datetime.now(UTC).replace(microsecond=0) + timedelta(days=30)
    workspace, node = WorkspaceName(WORKSPACE), NodeName("node")
    return Order(OrderId(uuid4()), OrderKind.ERASE, workspace, node, subject, {}, deadline)


@pytest.fixture
async def asker(
    cluster: Cluster, federated_database: str, dba: psycopg.Connection[Any], tmp_path: Path
) -> AsyncIterator[Asker]:
    federation = Federation(tmp_path)
    async with running_node(federation.node_config(cluster, federated_database)) as port:
        client = federation.client(port)
        yield Asker(client, federation)
        await client.close()


async def test_who_erases_one_known_person_learns_nothing_plain_unless_the_dba_lets_him(
    dba: psycopg.Connection[Any], asker: Asker
) -> None:
    share(dba, "people", COLUMNS, options=BY_PERSON)
    assert await asker.count() == 200.0

    said = await asker.erase("person-77")
    assert (said["outcome"], said["datasets"][0]["rows"]) == ("suppressed", 1)
    assert FEW in await asker.refused()

    assert dba.execute("SELECT federated_accept_withdrawals('people')").fetchall() == [(1,)]
    assert await asker.count() == 199.0
    # It was about who was withdrawn until then.
    await asker.erase("person-78")
    assert FEW in await asker.refused()
    dba.execute("CALL federated.execute('ALTER FEDERATED DATASET people SET (plain_withdrawals = true)')")
    assert await asker.count() == 198.0
    await asker.erase("person-79")
    assert await asker.count() == 197.0


async def test_whom_a_dba_accepts_does_not_count_towards_the_few_of_another_dataset(
    dba: psycopg.Connection[Any], asker: Asker
) -> None:
    """Without 19 that were accepted, and one more: their sums would leave that one."""
    share(dba, "people", COLUMNS, options=BY_PERSON)
    assert await asker.count("people") == 200.0
    for number in range(1, 20):
        await asker.erase(f"person-{number}")
    dba.execute("SELECT federated_accept_withdrawals('people')")
    assert await asker.count("people") == 181.0
    share(dba, "others", f"{COLUMNS} WHERE (person_id <> 'person-20')", options=BY_PERSON)
    assert FEW in await asker.refused("others")
    # Enough of those who are left may go where the 19 are accepted; elsewhere these lie apart from all others.
    share(dba, "fewer", f"{COLUMNS} WHERE (age > 40)", options=BY_PERSON)
    assert FEW in await asker.refused("fewer")
    dba.execute("SELECT federated_accept_withdrawals('fewer')")
    assert await asker.count("fewer") < 161.0


async def test_enough_that_are_erased_together_need_nobody_s_consent(
    dba: psycopg.Connection[Any], asker: Asker
) -> None:
    share(dba, "people", COLUMNS, options=BY_PERSON)
    assert await asker.count() == 200.0
    for number in range(1, 21):
        if number == 20:
            assert FEW in await asker.refused()
        await asker.erase(f"person-{number}")
    assert await asker.count() == 180.0


async def test_what_a_node_trained_for_itself_with_somebody_who_is_erased_is_in_no_part_that_it_makes_later(
    dba: psycopg.Connection[Any], asker: Asker
) -> None:
    share(dba, "people", COLUMNS, options="WITH (subject = 'person_id', plain_withdrawals = true)")
    reading = replace(READING, validation_split=0.2)
    own = OwnTerms(None, 0.1)
    training = TrainWork("logistic_regression", SCALING, 2, 32, 0.5, classes=2, own=own)
    # Of steps that are next to none: a model that is begun anew is the version.
    making = PersonalWork("ditto", replace(training, learning_rate=1e-12))
    first = replace(train_task(run=new_run()), reading=reading)
    await measured(asker.client, asker.federation, first)

    async def differ(round_number: int) -> float:
        """How much better than the version the node's own model is."""
        key = replace(first.key, round=RoundNumber(round_number))
        train = replace(first, key=key, work=training.to_work(first.work.size))
        make = replace(first, key=replace(key, step=PERSONALIZE), work=making.to_work())
        if round_number == 1:
            await asker.ask(train)
        of_version, of_own = np.split(await asker.ask(make), 2)
        return float(np.abs(of_version - of_own).max())

    assert await differ(1) > 1e-3
    assert await differ(2) > 1e-3
    await asker.erase("person-77")
    assert dba.execute("SELECT count(*) FROM federated.personal_part").fetchall() == [(0,)]
    assert await differ(3) < 1e-6


async def test_a_run_goes_on_without_the_subject_where_that_is_accepted_and_else_says_why(
    dba: psycopg.Connection[Any], asker: Asker
) -> None:
    options = "WITH (subject = 'person_id', plain_withdrawals = true)"
    share(dba, "people", COLUMNS, options=options)
    reading = replace(READING, validation_split=0.0)
    task = replace(train_task(run=new_run()), reading=reading)

    async def ask(round_number: int) -> float:
        key = replace(task.key, round=RoundNumber(round_number))
        answer = await asker.client.perform(replace(task, key=key), asker.federation.sealing, TIMEOUT)
        return answer.weight

    await measured(asker.client, asker.federation, task)
    assert await ask(1) == 200.0
    for number in range(1, 21):
        await asker.erase(f"person-{number}")
    assert await ask(2) == 180.0

    dba.execute("CALL federated.execute('ALTER FEDERATED DATASET people RESET (plain_withdrawals)')")
    for number in range(21, 41):
        await asker.erase(f"person-{number}")
    with pytest.raises(NodeRefusedError, match="were withdrawn since the run first read its rows"):
        await ask(3)


@pytest.mark.parametrize("private", [False, True])
async def test_who_is_erased_while_an_answer_is_computed_is_not_in_it(
    private: bool, dba: psycopg.Connection[Any], asker: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    share(dba, "people", COLUMNS, options="WITH (subject = 'person_id', plain_withdrawals = true)")
    budget = Budget(5.0, 1e-5) if private else None
    task = statistics_task(run=new_run(), noise_multiplier=2.0 if private else None, budget=budget)
    task = replace(task, reading=replace(task.reading, validation_split=0.0))
    admissions = []
    compute = TaskAnswers._compute

    async def overtaken(self: TaskAnswers, received: Any, request: Any, *rest: Any) -> Any:
        computed = await compute(self, received, request, *rest)
        if not admissions:
            await asker.erase("person-5")
        admissions.append(request.admission)
        return computed

    monkeypatch.setattr(TaskAnswers, "_compute", overtaken)
    answer = await asker.ask(task)

    assert [len(one.withdrawn) for one in admissions] == [0, 8]
    assert dba.execute("SELECT count(*) FROM federated.spending").fetchall() == [(int(private),)]
    if not private:
        assert answer[0] == 199.0


async def test_an_order_is_carried_out_once_and_asked_again_gets_the_same_bytes(
    dba: psycopg.Connection[Any], asker: Asker
) -> None:
    share(dba, "people", COLUMNS, options="WITH (subject = 'person_id', erasure = 'delete')")
    order = erasure("person-7")
    first = await asker.client.carry(order, TIMEOUT)
    again = await asyncio.gather(*(asker.client.carry(order, TIMEOUT) for _ in range(3)))
    assert first.signed.read()["outcome"] == "erased"
    assert {one.signed for one in again} == {first.signed}
    assert dba.execute("SELECT count(*) FROM federated.node_order").fetchall() == [(1,)]

    with pytest.raises(NodeRefusedError, match="another order was carried out under the same id"):
        await asker.client.carry(replace(order, subject="person-8"), TIMEOUT)
    # Erased twice, imported again, and never held.
    assert (await asker.erase("person-7"))["outcome"] == "not held"
    dba.execute("INSERT INTO person VALUES ('person-7', 50, 120, 1)")
    assert await asker.count() == 199.0
    assert (await asker.erase("person-7"))["outcome"] == "erased"
    assert (await asker.erase("nobody"))["outcome"] == "not held"
    assert dba.execute("SELECT count(*) FROM person").fetchall() == [(199,)]


async def test_an_order_of_another_or_for_another_is_not_carried_out(
    cluster: Cluster, dba: psycopg.Connection[Any], asker: Asker
) -> None:
    share(dba, "people", COLUMNS, options=BY_PERSON)
    federation = asker.federation
    federation.write("stranger", federation.authority.issue("stranger", ["localhost"]))
    pinned = [(federation.directory / name).read_bytes() for name in ("stranger.pem", "node.pem")]
    misled = NodeClient(asker.client.endpoint, pinned, federation.coordinator)
    with pytest.raises(NodeRefusedError, match="for another node's certificate"):
        await misled.carry(erasure("person-1"), TIMEOUT)
    await misled.close()
    with pytest.raises(NodeRefusedError) as raised:
        await asker.erase("person-1", kind=OrderKind.EXPORT)
    # It names no key to which it is to be sealed.
    assert raised.value.reason is ErrorCode.INVALID_VALUE
    assert dba.execute("SELECT count(*) FROM federated.withdrawn_subject").fetchall() == [(0,)]
