"""Consent at a running node: what is ordered and what its own DBA says, and whose rows its answers are about."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from heliosdb.domain.errors import ErrorCode
from heliosdb.domain.ids import DatasetName, NodeName, OrderId, RunId, WorkspaceName
from heliosdb.domain.orders import Order, OrderKind
from heliosdb.domain.privacy import Budget
from heliosdb.domain.task import Task
from heliosdb.transport.client import NodeClient
from heliosdb.transport.messages import NodeRefusedError
from heliosdb.transport.sealing import SealingKey
from tests.support.cluster import Cluster
from tests.support.federation import (
    WORKSPACE,
    Federation,
    new_run,
    running_node,
    share,
    statistics_task,
    train_task,
    until,
)

pytestmark = pytest.mark.usefixtures("forked_training")

TIMEOUT = 180.0
PEOPLE = """
CREATE TABLE person (person_id integer PRIMARY KEY, name text, age double precision, pressure double precision,
                     outcome integer);
SELECT setseed(0.5);
INSERT INTO person SELECT i, 'p' || i, 30 + 40 * random(), 90 + 60 * random(), (random() < 0.4)::integer
FROM generate_series(1, 200) AS i;
"""
COLUMNS = "person (age, pressure, outcome)"
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def database(cluster: Cluster, federated_database: str) -> str:
    with cluster.connect(federated_database) as connection:
        connection.execute(PEOPLE)
    return federated_database


@pytest.fixture
def dba(cluster: Cluster, database: str) -> Iterator[psycopg.Connection[Any]]:
    with cluster.connect(database) as connection:
        yield connection


class Coordinator:
    """One that orders and asks as it likes."""

    def __init__(self, client: NodeClient, federation: Federation) -> None:
        self.client, self.federation = client, federation

    async def order(self, kind: OrderKind, subject: str, *, minutes: int = 0, **terms: Any) -> dict[str, Any]:
        """Order what was said so many minutes after the tests' noon; returns the statement's members."""
        said_at = (NOW + timedelta(minutes=minutes)).isoformat()
        order = Order(
            OrderId(uuid4()),
            kind,
            WorkspaceName(WORKSPACE),
            NodeName("node"),
            subject,
            {"said_at": said_at, **terms},
            datetime.now(UTC) + timedelta(days=30),
        )
        carried = await self.client.carry(order, TIMEOUT)
        return carried.signed.read()


@pytest.fixture
async def coordinator(cluster: Cluster, database: str, tmp_path: Path) -> AsyncIterator[Coordinator]:
    federation = Federation(tmp_path)
    async with running_node(federation.node_config(cluster, database)) as port:
        client = federation.client(port)
        yield Coordinator(client, federation)
        await client.close()


async def test_a_node_signs_the_same_whether_it_holds_the_subject_and_whatever_its_own_dba_has_said(
    dba: psycopg.Connection[Any], coordinator: Coordinator
) -> None:
    share(dba, "people", COLUMNS, options="WITH (subject = 'name')")
    await until(lambda: bool(dba.execute("SELECT FROM federated.node_key").fetchall()))
    dba.execute(
        "CALL federated.execute($$REVOKE FEDERATED CONSENT FOR SUBJECT 'p7' FROM WORKSPACE consortium$$)"
    )
    statements = [
        await coordinator.order(OrderKind.GRANT, subject, purpose="research", version="2")
        for subject in ("p7", "p8", "nobody we know", "ß\N{SNOWMAN}")
    ]
    for one in statements:
        assert one.pop("order")
        assert one.pop("at")
    assert all(one == statements[0] for one in statements)
    assert statements[0] == {
        "kind": "grant", "workspace": WORKSPACE, "node": "node", "outcome": "recorded", "datasets": [],
        "purpose": "research", "version": "2",
    }  # fmt: skip


async def test_what_was_said_at_the_node_is_in_its_register_without_a_task_and_without_the_subject(
    dba: psycopg.Connection[Any], coordinator: Coordinator
) -> None:
    share(dba, "people", COLUMNS, options="WITH (subject = 'name')")
    await until(lambda: bool(dba.execute("SELECT FROM federated.node_key").fetchall()))
    for text in (
        "GRANT FEDERATED CONSENT FOR SUBJECT 'p7' PURPOSE 'research' IN WORKSPACE consortium VERSION '2'",
        "REVOKE FEDERATED CONSENT FOR SUBJECT 'p7' PURPOSE 'sale' FROM WORKSPACE consortium",
    ):
        dba.execute("CALL federated.execute(%s)", [text])
    await coordinator.order(OrderKind.REVOKE, "p8")
    await until(lambda: not dba.execute("SELECT FROM federated.consent_request").fetchall())
    rows = dba.execute(
        "SELECT kind, purpose, version, origin, given_by, order_id IS NULL, digest FROM federated.consent"
        " ORDER BY origin DESC, consent_id"
    ).fetchall()
    assert [row[:6] for row in rows] == [
        ("grant", "research", "2", "node", "postgres", True),
        ("revoke", "sale", None, "node", "postgres", True),
        ("revoke", None, None, "coordinator", None, False),
    ]
    assert rows[0][6] == rows[1][6] != rows[2][6]
    shown = dba.execute(
        "SELECT purpose, status, recorded_by, nodes FROM federated_consent ORDER BY 1"
    ).fetchall()
    assert shown == [
        ("research", "granted", "node", None),
        ("sale", "opted out", "node", None),
        (None, "revoked", "node", None),
    ]


@pytest.mark.parametrize(
    "terms",
    [{"said_at": "yesterday"}, {"said_at": "2026-01-01T00:00:00"}, {"said_at": 7}, {"purpose": 7}, {"purpose": ""},
     {"purpose": "p" * 257}, {"version": ["1"]}, {"purpose": "a\0b"}],
)  # fmt: skip
async def test_an_order_that_says_nothing_sensible_is_refused_and_leaves_nothing(
    dba: psycopg.Connection[Any], coordinator: Coordinator, terms: dict[str, Any]
) -> None:
    with pytest.raises(NodeRefusedError) as caught:
        await coordinator.order(OrderKind.GRANT, "p7", **terms)
    assert caught.value.reason is ErrorCode.INVALID_VALUE
    assert dba.execute("SELECT FROM federated.consent").fetchall() == []


# Whose rows answers are about.


async def rows_of(coordinator: Coordinator, task: Task | None = None) -> float:
    """How many rows a plain answer of round 0 is about."""
    asked = statistics_task(run=new_run()) if task is None else task
    return float((await coordinator.client.perform(asked, coordinator.federation.sealing, TIMEOUT)).vector[0])


async def refusal(coordinator: Coordinator, task: Task | None = None) -> NodeRefusedError:
    with pytest.raises(NodeRefusedError) as caught:
        await rows_of(coordinator, task)
    return caught.value


def grant(
    dba: psycopg.Connection[Any], *numbers: int, purpose: str | None = None, kind: str = "grant"
) -> None:
    """As what the node's own DBA says ends up in the register; the key is not needed for it."""
    of = f" PURPOSE '{purpose}'" if purpose else ""
    where = "IN" if kind == "grant" else "FROM"
    for number in numbers:
        statement = f"{kind} FEDERATED CONSENT FOR SUBJECT 'p{number}'{of} {where} WORKSPACE consortium"
        dba.execute("CALL federated.execute(%s)", [statement])


async def published(dba: psycopg.Connection[Any]) -> None:
    await until(lambda: bool(dba.execute("SELECT FROM federated.node_key").fetchall()))


async def test_only_rows_of_who_has_consented_are_read_and_what_was_said_is_in_force_at_the_next_answer(
    dba: psycopg.Connection[Any], coordinator: Coordinator
) -> None:
    share(dba, "people", COLUMNS, options="WITH (subject = 'name', require_consent = true, purpose = 'Research',"
                                          " min_rows = 5)")  # fmt: skip
    await published(dba)
    assert "fewer than min_rows" in (await refusal(coordinator)).message
    grant(dba, *range(1, 31), purpose="research")
    grant(dba, *range(31, 61))
    grant(dba, *range(61, 91), purpose="marketing")
    assert await rows_of(coordinator) == 60.0
    # Many more are enough for another row set, three are not: these are left out until there are more.
    await coordinator.order(OrderKind.GRANT, "p101", purpose="research")
    grant(dba, 102, 103)
    assert await rows_of(coordinator) == 60.0
    # So many that five are held out of them, whatever the node's key is.
    grant(dba, *range(104, 200))
    assert await rows_of(coordinator) == 159.0


async def test_a_coordinator_that_withdraws_somebodys_consent_learns_nothing_of_him_plain(
    dba: psycopg.Connection[Any], coordinator: Coordinator
) -> None:
    share(dba, "people", COLUMNS, options="WITH (subject = 'name')")
    await published(dba)
    assert await rows_of(coordinator) == 200.0
    await coordinator.order(OrderKind.REVOKE, "p77")
    refused = await refusal(coordinator)
    assert "differ by fewer than min_rows = 20 subjects" in refused.message
    # Nor of somebody who is not there: the register is another one, the rows are the same.
    await coordinator.order(OrderKind.GRANT, "p77", minutes=1)
    await coordinator.order(OrderKind.REVOKE, "a stranger", minutes=2)
    assert await rows_of(coordinator) == 200.0
    await coordinator.order(OrderKind.REVOKE, "p77", minutes=3)
    assert (await refusal(coordinator)).message == refused.message
    dba.execute("CALL federated.execute('ALTER FEDERATED DATASET people SET (plain_withdrawals = true)')")
    assert await rows_of(coordinator) == 199.0


async def test_a_run_under_way_goes_on_without_who_withdraws_where_the_dba_lets_it(
    dba: psycopg.Connection[Any], coordinator: Coordinator
) -> None:
    share(dba, "people", COLUMNS, options="WITH (subject = 'name', plain_withdrawals = true)")
    await published(dba)
    run = new_run()
    assert await rows_of(coordinator, statistics_task(run=run)) == 200.0
    client, sealing = coordinator.client, coordinator.federation.sealing
    first = await client.perform(train_task(run=run, round_number=1), sealing, TIMEOUT)
    grant(dba, 5, kind="revoke")
    second = await client.perform(train_task(run=run, round_number=2), sealing, TIMEOUT)
    assert second.weight in (first.weight - 1, first.weight)
    assert second.vector.tobytes() != first.vector.tobytes() or second.weight == first.weight
    assert await rows_of(coordinator) == 199.0


async def test_what_the_nodes_own_dba_has_withdrawn_no_coordinator_grants_again(
    dba: psycopg.Connection[Any], coordinator: Coordinator
) -> None:
    share(dba, "people", COLUMNS, options="WITH (subject = 'name', min_rows = 1)")
    await published(dba)
    grant(dba, 5, kind="revoke")
    assert await rows_of(coordinator) == 199.0
    later = int((datetime.now(UTC) - NOW) / timedelta(minutes=1)) + 100
    for minutes in (0, later):
        await coordinator.order(OrderKind.GRANT, "p5", minutes=minutes)
        assert await rows_of(coordinator) == 199.0
    grant(dba, 5)
    assert await rows_of(coordinator) == 200.0
    # An order that was held up does not overrule what was said since; a later one does.
    await coordinator.order(OrderKind.REVOKE, "p5")
    assert await rows_of(coordinator) == 200.0
    await coordinator.order(OrderKind.REVOKE, "p5", minutes=later)
    assert await rows_of(coordinator) == 199.0


async def test_an_opt_out_of_sale_leaves_a_subject_out_whatever_the_dataset_is_for(
    dba: psycopg.Connection[Any], coordinator: Coordinator
) -> None:
    share(
        dba,
        "people",
        COLUMNS,
        options="WITH (subject = 'name', purpose = 'research', min_rows = 1)",
    )
    await published(dba)
    grant(dba, 6, purpose="Sale", kind="revoke")
    assert await rows_of(coordinator) == 199.0
    grant(dba, 6)
    grant(dba, 6, purpose="research")
    assert await rows_of(coordinator) == 199.0
    grant(dba, 6, purpose="sale")
    assert await rows_of(coordinator) == 200.0


async def test_a_consent_query_says_who_is_read_and_no_order_adds_to_it(
    dba: psycopg.Connection[Any], coordinator: Coordinator
) -> None:
    dba.execute("CREATE TABLE agreed AS SELECT name AS who FROM person WHERE person_id <= 60")
    share(dba, "people", COLUMNS, options="WITH (subject = 'name', consent_query = 'SELECT who FROM public.agreed',"
                                          " min_rows = 5)")  # fmt: skip
    await published(dba)
    assert await rows_of(coordinator) == 60.0
    for number in range(61, 90):
        await coordinator.order(OrderKind.GRANT, f"p{number}")
    assert await rows_of(coordinator) == 60.0
    dba.execute("DELETE FROM agreed WHERE who = 'p7'")
    assert "differ by fewer than min_rows = 5" in (await refusal(coordinator)).message
    dba.execute("CALL federated.execute('ALTER FEDERATED DATASET people SET (plain_withdrawals = true)')")
    run = new_run()
    assert await rows_of(coordinator, statistics_task(run=run)) == 59.0
    # Within a run too. What was answered about is on record, for other datasets of the table.
    dba.execute("DELETE FROM agreed WHERE who = 'p8'")
    client, sealing = coordinator.client, coordinator.federation.sealing
    assert (await client.perform(train_task(run=run), sealing, TIMEOUT)).weight <= 58.0
    await coordinator.order(OrderKind.REVOKE, "p9")
    assert await rows_of(coordinator) == 57.0
    assert dba.execute("SELECT count(*) FROM federated.row_set").fetchall() == [(4,)]
    dba.execute("INSERT INTO agreed SELECT name FROM person WHERE person_id > 60")
    assert await rows_of(coordinator) == 197.0


async def test_a_consent_query_that_fails_tells_nothing_but_that_it_does(
    dba: psycopg.Connection[Any], coordinator: Coordinator
) -> None:
    dba.execute("CREATE TABLE agreed AS SELECT name AS who, 1 AS kind FROM person")
    share(dba, "people", COLUMNS, options="WITH (subject = 'name',"
                                          " consent_query = 'SELECT who FROM public.agreed WHERE 1 / kind = 1')")  # fmt: skip
    await published(dba)
    assert await rows_of(coordinator) == 200.0
    dba.execute("UPDATE agreed SET kind = 0 WHERE who = 'p7'")
    plain = await refusal(coordinator)
    assert plain.message == 'node "node" refused: who has consented to dataset "people" cannot be read'
    dba.execute("DROP TABLE agreed CASCADE")
    assert (await refusal(coordinator)).message == plain.message


def private(run: RunId, kind: str) -> Task:
    budget = Budget(1_000.0, 1e-5)
    if kind == "statistics":
        return statistics_task(run=run, noise_multiplier=1.0, budget=budget)
    return train_task(run=run, noise_multiplier=1.0, budget=budget)


@pytest.mark.parametrize("kind", ["statistics", "train"])
async def test_under_a_budget_nothing_of_who_has_consented_decides_about_answers_and_charges(
    dba: psycopg.Connection[Any], coordinator: Coordinator, kind: str
) -> None:
    dba.execute("CREATE TABLE agreed (who text, kind integer)")
    share(dba, "people", COLUMNS, options="WITH (subject = 'name', require_consent = true)")
    share(dba, "asked", "person (age, pressure, outcome)",
          options="WITH (subject = 'name', consent_query = 'SELECT who FROM public.agreed WHERE 1 / kind = 1')")  # fmt: skip
    await published(dba)
    client, sealing = coordinator.client, coordinator.federation.sealing

    async def ask(dataset: str) -> None:
        task = private(new_run(), kind)
        await client.perform(
            replace(task, reading=replace(task.reading, dataset=DatasetName(dataset))), sealing, TIMEOUT
        )

    # Nobody, one, and all but those who have withdrawn.
    await ask("people")
    await ask("asked")
    grant(dba, 1)
    dba.execute("INSERT INTO agreed VALUES ('p1', 1)")
    await ask("people")
    await ask("asked")
    grant(dba, 1, kind="revoke")
    await ask("people")
    await ask("asked")
    charges = dba.execute(
        "SELECT dataset, count(*), count(DISTINCT (noise_multiplier, sampling_rate, steps)) FROM federated.spending"
        " GROUP BY dataset ORDER BY dataset"
    ).fetchall()
    assert charges == [("asked", 3, 1), ("people", 3, 1)]
    # An error of the query comes after the charge, and is the one fixed text.
    dba.execute("INSERT INTO agreed VALUES ('p2', 0)")
    with pytest.raises(NodeRefusedError) as caught:
        await ask("asked")
    assert "charged the task and could not compute its answer" in caught.value.message
    assert dba.execute("SELECT count(*) FROM federated.spending WHERE dataset = 'asked'").fetchall() == [(4,)]


@pytest.mark.parametrize("mode", ["GDPR", "BOTH"])
async def test_under_gdpr_consent_is_asked_for_unless_the_dba_says_otherwise(
    dba: psycopg.Connection[Any], coordinator: Coordinator, mode: str
) -> None:
    share(dba, "people", COLUMNS, options="WITH (plain_answers = true)")
    task = replace(statistics_task(run=new_run()), compliance_mode=mode)
    refused = await refusal(coordinator, task)
    assert f'dataset "people" has no subject, and under compliance_mode {mode}' in refused.message
    dba.execute("CALL federated.execute('DROP FEDERATED DATASET people')")
    share(dba, "people", COLUMNS, options="WITH (plain_answers = true, subject = 'name')")
    await published(dba)
    assert "fewer than min_rows" in (await refusal(coordinator, task)).message
    assert await rows_of(coordinator) == 200.0
    dba.execute("CALL federated.execute('ALTER FEDERATED DATASET people SET (require_consent = false)')")
    assert await rows_of(coordinator, replace(task, key=statistics_task(run=new_run()).key)) == 200.0


async def test_a_register_of_another_node_key_stops_the_node_rather_than_be_forgotten(
    cluster: Cluster, database: str, dba: psycopg.Connection[Any], tmp_path: Path
) -> None:
    share(dba, "people", COLUMNS, options="WITH (subject = 'name')")
    dba.execute("INSERT INTO federated.node_key (sealing_key) VALUES (%s)", [SealingKey.generate().public])
    federation = Federation(tmp_path)
    async with running_node(federation.node_config(cluster, database)) as port:
        client = federation.client(port)
        refused = await refusal(Coordinator(client, federation))
        await client.close()
    assert "was written under another node.key" in refused.message
