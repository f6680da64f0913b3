"""What a participant sees of its own part, and a dataset that its DBA pauses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from heliosdb.catalog.participant_view import MOST_REFUSALS, insert_refusal
from heliosdb.catalog.psycopg_connection import connected
from heliosdb.domain.errors import FederatedError
from heliosdb.domain.handshake import Greeting
from heliosdb.domain.ids import ModelName, NodeName, WorkspaceName
from heliosdb.domain.privacy import Budget
from heliosdb.domain.task import Task
from heliosdb.node.policy import refused
from heliosdb.transport.client import NodeClient
from heliosdb.transport.messages import NodeRefusedError
from tests.support.cluster import Cluster
from tests.support.federation import (
    WORKSPACE,
    Federation,
    create_patients,
    key,
    new_run,
    running_node,
    statistics_task,
    train_task,
    until,
)

pytestmark = pytest.mark.usefixtures("forked_training")

TIMEOUT = 180.0
BUDGET = Budget(1.0, 1e-5)
PAUSE = "ALTER FEDERATED DATASET patients SET (paused = true)"
PAUSED = 'dataset "patients" is paused by its DBA'
RESUMES = [
    "ALTER FEDERATED DATASET patients SET (paused = false)",
    "ALTER FEDERATED DATASET patients RESET (paused)",
]

Dba = psycopg.Connection[dict[str, Any]]


@pytest.fixture
def federation(tmp_path: Path) -> Federation:
    return Federation(tmp_path)


@pytest.fixture
def dba(cluster: Cluster, federated_database: str) -> Any:
    create_patients(cluster, federated_database)
    dsn = cluster.dsn(federated_database)
    with psycopg.connect(dsn, autocommit=True, row_factory=dict_row) as connection:
        yield connection


@pytest.fixture
async def client(
    cluster: Cluster, federated_database: str, federation: Federation, dba: Dba
) -> AsyncIterator[NodeClient]:
    async with running_node(federation.node_config(cluster, federated_database)) as port:
        client = federation.client(port)
        yield client
        await client.close()


def execute(connection: psycopg.Connection[Any], statement: str) -> None:
    connection.execute("CALL federated.execute(%s)", [statement])


def private(*, noise: float = 20.0, run: Any = None) -> Task:
    return statistics_task(run=run, noise_multiplier=noise, budget=BUDGET)


async def refusal(client: NodeClient, federation: Federation, task: Task) -> NodeRefusedError:
    with pytest.raises(NodeRefusedError) as raised:
        await client.perform(task, federation.sealing, TIMEOUT)
    return raised.value


@pytest.mark.parametrize("resume", RESUMES)
@pytest.mark.parametrize("task", [statistics_task(), private()], ids=["plain", "private"])
async def test_a_paused_dataset_is_refused_before_a_row_is_read_and_answers_once_it_is_resumed(
    task: Task, resume: str, cluster: Cluster, federation: Federation, client: NodeClient, dba: Dba
) -> None:
    execute(dba, PAUSE)
    with dba.transaction():
        dba.execute("LOCK TABLE patient IN ACCESS EXCLUSIVE MODE")
        said = await refusal(client, federation, task)
        await refusal(client, federation, task)
    assert said.said == PAUSED
    assert said.hint == "The node's own DBA resumes it: ALTER FEDERATED DATASET ... SET (paused = false)."
    assert dba.execute("SELECT FROM federated.release").fetchall() == []
    [row] = dba.execute("SELECT * FROM federated_node_refusals").fetchall()
    assert (row["count"], row["dataset"], row["step"], row["message"]) == (
        2,
        "patients",
        "statistics",
        PAUSED,
    )
    assert (row["workspace"], row["run_id"], row["node_name"]) == (WORKSPACE, task.key.run, "node")
    assert row["first_at"] < row["last_at"]

    execute(dba, resume)

    await client.perform(task, federation.sealing, TIMEOUT)
    [released] = dba.execute("SELECT * FROM federated_node_releases").fetchall()
    assert released["plain_vectors"] + released["private_vectors"] == 1


async def test_a_greeted_node_says_what_is_paused(client: NodeClient, dba: Dba) -> None:
    greeting = Greeting(WorkspaceName(WORKSPACE), NodeName("node"))
    before = await client.greet(greeting, TIMEOUT)
    execute(dba, PAUSE)
    after = await client.greet(greeting, TIMEOUT)
    assert [one.paused for one in (*before.datasets, *after.datasets)] == [False, True]


async def test_what_was_let_out_before_the_pause_is_sent_again_to_the_byte(
    federation: Federation, client: NodeClient, dba: Dba
) -> None:
    task = private()
    first = await client.perform(task, federation.sealing, TIMEOUT)
    execute(dba, PAUSE)
    again = await client.perform(task, federation.sealing, TIMEOUT)
    assert first.vector.tobytes() == again.vector.tobytes()
    assert (await refusal(client, federation, private(run=task.key.run, noise=30.0))).said != PAUSED
    assert (await refusal(client, federation, private())).said == PAUSED


async def test_nothing_leaves_of_a_task_that_was_charged_when_the_pause_came_until_it_is_resumed(
    federation: Federation, client: NodeClient, dba: Dba, cluster: Cluster, federated_database: str
) -> None:
    task = private()
    with cluster.connect(federated_database) as reader, reader.transaction():
        reader.execute("LOCK TABLE patient IN ACCESS EXCLUSIVE MODE")
        asked = asyncio.create_task(refusal(client, federation, task))
        await until(lambda: dba.execute("SELECT FROM federated.spending").fetchone() is not None)
        execute(dba, PAUSE)
    assert (await asked).said == PAUSED
    [released] = dba.execute("SELECT * FROM federated_node_releases").fetchall()
    assert (released["private_vectors"], released["only_charged"], released["payload_bytes"]) == (0, 1, 0)

    execute(dba, RESUMES[0])
    await client.perform(task, federation.sealing, TIMEOUT)

    assert dba.execute("SELECT count(*) AS n FROM federated.spending").fetchone() == {"n": 1}
    [released] = dba.execute("SELECT * FROM federated_node_releases").fetchall()
    assert (released["private_vectors"], released["only_charged"]) == (1, 0)


async def test_a_plain_task_that_computes_when_the_pause_comes_lets_nothing_out(
    federation: Federation, client: NodeClient, dba: Dba, cluster: Cluster, federated_database: str
) -> None:
    with cluster.connect(federated_database) as reader, reader.transaction():
        reader.execute("LOCK TABLE patient IN ACCESS EXCLUSIVE MODE")
        asked = asyncio.create_task(refusal(client, federation, statistics_task()))
        await until(lambda: is_waiting(dba, "heliosdb_reader"))
        execute(dba, PAUSE)
    assert (await asked).said == PAUSED
    assert dba.execute("SELECT FROM federated.release").fetchall() == []
    assert dba.execute("SELECT FROM federated_node_runs").fetchall() == []


async def test_a_charge_that_waits_for_the_pause_to_commit_is_not_made(
    federation: Federation, client: NodeClient, dba: Dba, cluster: Cluster, federated_database: str
) -> None:
    with cluster.connect(federated_database) as pausing, pausing.transaction():
        execute(pausing, PAUSE)
        asked = asyncio.create_task(refusal(client, federation, private()))
        await until(lambda: is_waiting(dba, "heliosdb_daemon"))
    assert (await asked).said == PAUSED
    assert dba.execute("SELECT FROM federated.spending").fetchall() == []


def is_waiting(dba: Dba, role: str) -> bool:
    return (
        dba.execute(
            "SELECT FROM pg_stat_activity WHERE usename = %s AND datname = current_database()"
            " AND wait_event_type = 'Lock'",
            [role],
        ).fetchone()
        is not None
    )


async def test_a_private_runs_figures_are_the_ledgers_own(
    federation: Federation, client: NodeClient, dba: Dba
) -> None:
    run = new_run()
    model = ModelName("risk")
    first = await client.perform(replace(private(run=run), model=model), federation.sealing, TIMEOUT)
    training = train_task(run=run, noise_multiplier=10.0, budget=BUDGET)
    second = await client.perform(replace(training, model=model), federation.sealing, TIMEOUT)
    other = await client.perform(private(), federation.sealing, TIMEOUT)
    assert first.spending is not None
    assert second.spending is not None
    assert other.spending is not None

    [named, unnamed] = dba.execute("SELECT * FROM federated_node_runs ORDER BY first_task_at").fetchall()
    assert (named["workspace"], named["model_name"], named["run_id"], named["node_name"]) == (
        WORKSPACE, "risk", run, "node",
    )  # fmt: skip
    assert (named["dataset"], named["algorithm"]) == ("patients", "logistic_regression")
    assert (named["features"], named["target"], named["roles"]) == (["age", "pressure"], "outcome", {})
    assert (named["asked_epsilon"], named["asked_delta"], named["compliance_mode"]) == (1.0, 1e-5, "none")
    assert (named["vectors"], named["messages"], named["charges"]) == (2, 0, 2)
    assert named["first_task_at"] < named["last_task_at"]
    figures = [(row["epsilon_basic"], row["epsilon_tight"]) for row in (named, unnamed)]
    spent = [(one.epsilon_basic, one.epsilon_tight) for one in (second.spending, other.spending)]
    assert figures == spent
    assert unnamed["model_name"] is None

    [budget] = dba.execute("SELECT * FROM federated_dataset_budget").fetchall()
    assert (budget["dataset"], budget["state"], budget["workspace"]) == ("patients", "shared", WORKSPACE)
    assert (budget["max_epsilon"], budget["agreed_epsilon"], budget["agreed_delta"]) == (None, 1.0, 1e-5)
    assert (budget["charges"], budget["delta"], budget["total_delta"]) == (3, 1e-5, 1e-5)
    assert (budget["epsilon_basic"], budget["epsilon_tight"]) == spent[1]
    assert (budget["total_epsilon_basic"], budget["total_epsilon_tight"]) == spent[1]

    [released] = dba.execute("SELECT * FROM federated_node_releases").fetchall()
    sizes = dba.execute("SELECT sum(payload_bytes) AS bytes FROM federated.release").fetchone()
    assert sizes == {"bytes": released["payload_bytes"]}
    assert (released["private_vectors"], released["plain_vectors"], released["failed"]) == (3, 0, 0)
    days = dba.execute("SELECT DISTINCT (released_at AT TIME ZONE 'UTC')::date AS day FROM federated.release")
    assert days.fetchall() == [{"day": released["day"]}]


async def test_the_budget_of_a_dropped_dataset_and_of_two_workspaces_stays_to_be_seen(
    federation: Federation, client: NodeClient, dba: Dba
) -> None:
    await client.perform(private(), federation.sealing, TIMEOUT)
    execute(dba, "DROP FEDERATED DATASET patients")
    [budget] = dba.execute("SELECT * FROM federated_dataset_budget").fetchall()
    assert (budget["dataset"], budget["state"], budget["workspace"]) == ("patients", "dropped", WORKSPACE)
    before = budget["total_epsilon_tight"]

    execute(
        dba,
        "CREATE FEDERATED DATASET again FOR TABLE patient (age, pressure, outcome) IN WORKSPACE others"
        " WITH (max_epsilon = 3, paused = true)",
    )
    rows = dba.execute(
        "SELECT dataset, state, workspace, max_epsilon, charges, total_epsilon_tight FROM federated_dataset_budget"
        " ORDER BY dataset, workspace"
    ).fetchall()
    assert [tuple(row.values()) for row in rows] == [
        ("again", "paused", WORKSPACE, 3.0, 1, before),
        ("again", "paused", "others", 3.0, None, before),
        ("patients", "dropped", WORKSPACE, 3.0, 1, before),
    ]


async def test_each_choice_of_columns_of_a_run_is_a_row_of_its_own(
    federation: Federation, client: NodeClient, dba: Dba
) -> None:
    task = private()
    await client.perform(task, federation.sealing, TIMEOUT)
    key_of_next = replace(task.key, exchange=1)
    swapped = replace(task.reading, features=("age", "smoker"))
    await client.perform(replace(task, key=key_of_next, reading=swapped), federation.sealing, TIMEOUT)
    rows = dba.execute("SELECT features, vectors FROM federated_node_runs ORDER BY first_task_at").fetchall()
    assert rows == [
        {"features": ["age", "pressure"], "vectors": 2},
        {"features": ["age", "smoker"], "vectors": 2},
    ]


async def test_a_refusal_is_in_the_words_that_were_told_and_has_the_dataset_that_was_named(
    federation: Federation, client: NodeClient, dba: Dba
) -> None:
    task = statistics_task()
    unknown = replace(task, reading=replace(task.reading, dataset="elsewhere"))
    said = await refusal(client, federation, unknown)
    [row] = dba.execute("SELECT dataset, code, message, count FROM federated_node_refusals").fetchall()
    code = FederatedError(said.reason, "").sqlstate
    assert row == {"dataset": "elsewhere", "code": code, "message": said.said, "count": 1}


def test_only_the_latest_refusals_are_kept(cluster: Cluster, federated_database: str, dba: Dba) -> None:
    dba.execute(
        "INSERT INTO federated.refusal (workspace, run_id, node_name, step, code, message, said_sha256, last_at)"
        " SELECT 'w', gen_random_uuid(), 'n', 's', 'HF000', n::text, sha256(n::text::bytea),"
        " now() - n * interval '1 second' FROM generate_series(1, %s) AS n",
        [MOST_REFUSALS],
    )
    dsn, asked = cluster.dsn(federated_database, user="heliosdb_daemon"), key("train")
    with connected(dsn, application_name="test") as daemon:
        for _ in range(2):
            insert_refusal(daemon, asked, None, refused("no"))
    found = dba.execute(
        "SELECT count(*) AS n, max(count) AS most, bool_or(message = %s) AS oldest, bool_or(message = %s) AS next"
        " FROM federated.refusal",
        [str(MOST_REFUSALS), str(MOST_REFUSALS - 1)],
    ).fetchone()
    assert found == {"n": MOST_REFUSALS, "most": 2, "oldest": False, "next": True}


def test_a_text_of_any_length_is_cut(cluster: Cluster, federated_database: str, dba: Dba) -> None:
    dsn = cluster.dsn(federated_database, user="heliosdb_daemon")
    with connected(dsn, application_name="test") as daemon:
        insert_refusal(daemon, key("train"), "x" * 255, refused("y" * 5000))
    assert dba.execute("SELECT char_length(message) AS n FROM federated.refusal").fetchone() == {"n": 2000}
