"""A node over a real database and a real socket: what it answers, and what it refuses."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heliosdb.algorithms.exact import read_moments
from heliosdb.algorithms.layout import COLUMN_DIGITS
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.handshake import Greeting
from heliosdb.domain.ids import NodeName, WorkspaceName
from heliosdb.domain.privacy import Budget, Mechanism
from heliosdb.domain.usage import Moment, measure
from heliosdb.transport.client import NodeClient
from heliosdb.transport.messages import NodeRefusedError
from tests.support.cluster import Cluster
from tests.support.federation import (
    WORKSPACE,
    Federation,
    create_patients,
    evaluate_task,
    measured,
    new_run,
    parameters_state,
    running_node,
    share,
    statistics_task,
    train_task,
)

pytestmark = pytest.mark.usefixtures("forked_training")

TIMEOUT = 180.0
BUDGET = Budget(1.0, 1e-5)


@pytest.fixture
def federation(tmp_path: Path) -> Federation:
    return Federation(tmp_path)


@pytest.fixture
async def client(
    cluster: Cluster, federated_database: str, federation: Federation
) -> AsyncIterator[NodeClient]:
    create_patients(cluster, federated_database)
    async with running_node(federation.node_config(cluster, federated_database)) as port:
        client = federation.client(port)
        yield client
        await client.close()


async def refusal(client: NodeClient, federation: Federation, task: object) -> NodeRefusedError:
    with pytest.raises(NodeRefusedError) as raised:
        await client.perform(task, federation.sealing, TIMEOUT)  # type: ignore[arg-type]
    return raised.value


async def test_a_greeted_node_names_datasets_columns_and_types_and_no_subject(
    cluster: Cluster, federated_database: str, federation: Federation
) -> None:
    create_patients(cluster, federated_database, options="WITH (subject = 'patient_id')")
    async with running_node(federation.node_config(cluster, federated_database)) as port:
        client = federation.client(port)
        introduction = await client.greet(Greeting(WorkspaceName(WORKSPACE), NodeName("node")), TIMEOUT)
        elsewhere = await client.greet(Greeting(WorkspaceName("other"), NodeName("node")), TIMEOUT)
        await client.heartbeat(TIMEOUT)
        await client.close()
    (dataset,) = introduction.datasets
    assert dataset.name == "patients"
    assert dataset.columns == ("age", "pressure", "smoker", "city", "outcome")
    assert dataset.types == ("integer", "numeric", "boolean", "text", "boolean")
    assert elsewhere.datasets == ()


async def test_plain_statistics_are_the_sums_that_the_database_computes(
    cluster: Cluster, federated_database: str, federation: Federation, client: NodeClient
) -> None:
    update = await client.perform(statistics_task(), federation.sealing, TIMEOUT)
    with cluster.connect(federated_database) as connection:
        expected = connection.execute(
            "SELECT count(*), count(age), sum(age), sum(age * age), count(pressure), sum(pressure), "
            "sum(pressure * pressure), sum(outcome::integer) FROM patient"
        ).fetchone()
    assert expected is not None
    found = [read_moments(update.vector[start : start + COLUMN_DIGITS]) for start in (1, 1 + COLUMN_DIGITS)]
    told: list[Any] = [update.vector[0]]
    for one in found:
        told += [one.count, one.values / 2**1074, one.squares / 2**2148]
    np.testing.assert_allclose([*told, update.vector[-1]], [float(value) for value in expected], rtol=1e-12)
    assert update.weight == 200.0
    assert update.mechanism is None
    assert update.spending is None


async def test_training_moves_the_parameters_and_evaluation_counts_held_out_rows(
    federation: Federation, client: NodeClient
) -> None:
    run = new_run()
    await measured(client, federation, train_task(run=run))
    trained = await client.perform(train_task(run=run), federation.sealing, TIMEOUT)
    evaluated = await client.perform(evaluate_task(run=run), federation.sealing, TIMEOUT)
    assert np.abs(trained.vector).max() > 0
    assert trained.weight + evaluated.vector[0] == 200.0
    assert 0 < evaluated.vector[0] < 100


async def test_two_runs_of_other_seeds_are_measured_on_the_same_rows(
    federation: Federation, client: NodeClient
) -> None:
    measures = []
    for seed in (1, 2):
        task = evaluate_task(run=new_run())
        await measured(client, federation, train_task(run=task.key.run))
        task = replace(task, reading=replace(task.reading, seed=seed))
        measures.append((await client.perform(task, federation.sealing, TIMEOUT)).vector.tobytes())
    assert measures[0] == measures[1]


async def test_a_private_answer_is_charged_on_the_nodes_own_ledger(
    cluster: Cluster, federated_database: str, federation: Federation, client: NodeClient
) -> None:
    run = new_run()
    first = await client.perform(
        statistics_task(run=run, noise_multiplier=20.0, budget=BUDGET), federation.sealing, TIMEOUT
    )
    second = await client.perform(
        train_task(run=run, noise_multiplier=10.0, budget=BUDGET), federation.sealing, TIMEOUT
    )
    assert first.mechanism == Mechanism(20.0)
    assert first.spending is not None
    assert second.spending is not None
    assert 0 < first.spending.epsilon_tight < second.spending.epsilon_tight < second.spending.epsilon_basic
    with cluster.connect(federated_database) as connection:
        rows = connection.execute(
            "SELECT noise_multiplier, epsilon_tight FROM federated.spending ORDER BY spending_id"
        ).fetchall()
    assert rows == [(20.0, first.spending.epsilon_tight), (10.0, second.spending.epsilon_tight)]


async def test_a_round_that_would_pass_the_budget_is_refused_and_charges_nothing(
    cluster: Cluster, federated_database: str, federation: Federation, client: NodeClient
) -> None:
    run = new_run()
    for number in (1, 2):
        task = train_task(run=run, round_number=number, noise_multiplier=6.0, budget=BUDGET)
        await client.perform(task, federation.sealing, TIMEOUT)
    error = await refusal(
        client, federation, train_task(run=run, round_number=3, noise_multiplier=6.0, budget=BUDGET)
    )
    assert error.reason is ErrorCode.BUDGET_EXHAUSTED
    assert f'the privacy budget of workspace "{WORKSPACE}"' in error.message
    assert _count(cluster, federated_database, "spending") == 2
    assert _count(cluster, federated_database, "release") == 2


async def test_the_same_task_gets_the_same_bytes_and_another_under_its_key_gets_none(
    cluster: Cluster, federated_database: str, federation: Federation, client: NodeClient
) -> None:
    task = train_task(noise_multiplier=10.0, budget=BUDGET)
    first = await client.perform(task, federation.sealing, TIMEOUT)
    again = await client.perform(task, federation.sealing, TIMEOUT)
    assert first.vector.tobytes() == again.vector.tobytes()
    assert first.bytes_received == again.bytes_received
    changed = replace(task, state=parameters_state(np.array([0.0, 0.0, 1e-9])))
    assert "another task was already answered" in (await refusal(client, federation, changed)).message
    assert _count(cluster, federated_database, "spending") == 1


@pytest.mark.parametrize("noise_multiplier", [None, 10.0])
async def test_an_update_says_what_it_took_but_under_a_budget_and_says_the_same_when_it_is_sent_again(
    federation: Federation, client: NodeClient, noise_multiplier: float | None
) -> None:
    budget = None if noise_multiplier is None else BUDGET
    task = statistics_task(noise_multiplier=noise_multiplier, budget=budget)
    start = Moment.now()
    usage = (await client.perform(task, federation.sealing, TIMEOUT)).usage
    whole = measure(start).seconds
    assert (usage is None) is (budget is not None)
    if usage is not None:
        assert 0 < usage.cpu_seconds <= usage.seconds + 0.01
        assert 0 < usage.seconds <= whole
        assert 2**24 < usage.memory_bytes < 2**32
    assert (await client.perform(task, federation.sealing, TIMEOUT)).usage == usage


async def test_payloads_of_earlier_rounds_are_forgotten_when_the_run_moves_on(
    cluster: Cluster, federated_database: str, federation: Federation, client: NodeClient
) -> None:
    run = new_run()
    earlier, later = train_task(run=run, round_number=1), train_task(run=run, round_number=2)
    await measured(client, federation, earlier)
    await client.perform(earlier, federation.sealing, TIMEOUT)
    await client.perform(later, federation.sealing, TIMEOUT)
    with cluster.connect(federated_database) as connection:
        kept = connection.execute(
            "SELECT round_number, payload IS NOT NULL, payload_bytes FROM federated.release"
            " WHERE step = 'train' ORDER BY 1"
        ).fetchall()
    size = 8 + 3 * 8 + 3 * 8 + 16  # weight, time and memory, vector, the cipher's tag
    assert kept == [(1, False, size), (2, True, size)]
    assert "moved on" in (await refusal(client, federation, earlier)).message


@pytest.mark.parametrize(
    ("task", "reason", "message"),
    [
        (train_task(budget=BUDGET), ErrorCode.NODE_REFUSED, "asks for a plain answer although"),
        (train_task(noise_multiplier=5.0), ErrorCode.NODE_REFUSED, "no privacy budget"),
        (
            replace(train_task(), reading=replace(train_task().reading, features=("age", "city"))),
            ErrorCode.NOT_SUPPORTED,
            'column "city" of dataset "patients" has type text, and the task reads it as number',
        ),
        (
            replace(train_task(), reading=replace(train_task().reading, features=("age", "secret"))),
            ErrorCode.UNDEFINED_COLUMN,
            'dataset "patients" has no column "secret"',
        ),
        (
            replace(train_task(), reading=replace(train_task().reading, dataset="patient")),
            ErrorCode.UNDEFINED_OBJECT,
            'no dataset "patient" is shared',
        ),
        (
            replace(train_task(), key=replace(train_task().key, workspace=WorkspaceName("other"))),
            ErrorCode.UNDEFINED_OBJECT,
            'shared with workspace "other"',
        ),
        (
            replace(train_task(), state=parameters_state(np.zeros(7))),
            ErrorCode.INVALID_VALUE,
            "parameters do not fit",
        ),
        (
            replace(train_task(), work=replace(train_task().work, size=7)),
            ErrorCode.INVALID_VALUE,
            "asks for 7 values",
        ),
        (
            replace(train_task(), work=replace(train_task().work, algorithm="oracle")),
            ErrorCode.NOT_SUPPORTED,
            '"oracle" is not supported',
        ),
    ],
)
async def test_what_a_node_may_not_or_cannot_answer_it_refuses_with_the_reason(
    cluster: Cluster,
    federated_database: str,
    federation: Federation,
    client: NodeClient,
    task: object,
    reason: ErrorCode,
    message: str,
) -> None:
    error = await refusal(client, federation, task)
    assert error.reason is reason
    assert message in error.message
    assert _count(cluster, federated_database, "release") == 0


async def test_a_small_dataset_is_refused_by_min_rows_and_its_size_is_not_told(
    cluster: Cluster, federated_database: str, federation: Federation
) -> None:
    create_patients(cluster, federated_database, rows=17)
    async with running_node(federation.node_config(cluster, federated_database)) as port:
        client = federation.client(port)
        error = await refusal(client, federation, statistics_task())
        await client.close()
    assert "fewer than min_rows = 20" in error.message
    assert "17" not in error.message + (error.detail or "") + (error.hint or "")


async def test_a_datasets_own_ceiling_holds_whatever_the_workspace_says(
    cluster: Cluster, federated_database: str, federation: Federation
) -> None:
    create_patients(cluster, federated_database, options="WITH (max_epsilon = 0.6)")
    async with running_node(federation.node_config(cluster, federated_database)) as port:
        client = federation.client(port)
        plain = await refusal(client, federation, statistics_task())
        generous = Budget(1000.0, 1e-5)
        await client.perform(train_task(noise_multiplier=8.0, budget=generous), federation.sealing, TIMEOUT)
        over = await refusal(client, federation, train_task(noise_multiplier=8.0, budget=generous))
        # A large delta makes everything cheap; the ceiling is held at the node's own.
        loose = train_task(noise_multiplier=8.0, budget=Budget(1000.0, 0.09))
        loosely = await refusal(client, federation, loose)
        await client.close()
    assert "has a max_epsilon" in plain.message
    assert over.reason is ErrorCode.BUDGET_EXHAUSTED
    assert 'max_epsilon of the table of dataset "patients"' in over.message
    assert loosely.reason is ErrorCode.BUDGET_EXHAUSTED


async def test_a_plain_answer_is_refused_once_a_budget_was_spent(
    federation: Federation, client: NodeClient
) -> None:
    await client.perform(train_task(noise_multiplier=8.0, budget=BUDGET), federation.sealing, TIMEOUT)
    assert "a plain answer would undo" in (await refusal(client, federation, statistics_task())).message


async def test_a_withdrawn_dataset_answers_nothing_more_though_its_table_was_in_memory(
    cluster: Cluster, federated_database: str, federation: Federation, client: NodeClient
) -> None:
    run = new_run()
    await measured(client, federation, train_task(run=run))
    await client.perform(train_task(run=run), federation.sealing, TIMEOUT)
    with cluster.connect(federated_database) as connection:
        connection.execute("CALL federated.execute('DROP FEDERATED DATASET patients')")
    error = await refusal(client, federation, train_task(run=run, round_number=2))
    assert error.reason is ErrorCode.UNDEFINED_OBJECT


async def test_two_fitting_datasets_need_a_name(
    cluster: Cluster, federated_database: str, federation: Federation, client: NodeClient
) -> None:
    with cluster.connect(federated_database) as connection:
        share(connection, "others", "patient (age, pressure, outcome)")
    error = await refusal(client, federation, statistics_task())
    assert "several shared datasets" in error.message
    named = replace(statistics_task(), reading=replace(train_task().reading, dataset="others"))
    await client.perform(named, federation.sealing, TIMEOUT)


async def test_a_client_cannot_reach_a_node_that_is_gone(
    cluster: Cluster, federated_database: str, federation: Federation
) -> None:
    async with running_node(federation.node_config(cluster, federated_database)) as port:
        client = federation.client(port)
        await client.heartbeat(TIMEOUT)
    with pytest.raises(FederatedError) as raised:
        await client.heartbeat(TIMEOUT)
    await client.close()
    assert raised.value.code is ErrorCode.UNREACHABLE


def _count(cluster: Cluster, database: str, table: str) -> int:
    with cluster.connect(database) as connection:
        row = connection.execute(f"SELECT count(*) FROM federated.{table}").fetchone()
    assert row is not None
    return int(row[0])
