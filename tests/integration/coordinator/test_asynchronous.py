"""Asynchronous rounds with real nodes: they close without whoever is slow, take its update later, survive kills."""

from __future__ import annotations

import json
import signal
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import psycopg
import pytest
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer
from sklearn.metrics import roc_auc_score

from tests.integration.coordinator.support import WORKSPACE, Site, World, create_model, create_workspace
from tests.support.cluster import Cluster
from tests.support.federation import share

Values = NDArray[Any]

NAMES = "abcd"
CLOSED = "(SELECT max(round_number) FROM federated.round WHERE status = 'closed') >= %s"
TAKEN = (
    "SELECT p.settled_round AS taken, p.round_number AS asked, n.name FROM federated.participation AS p"
    " JOIN federated.node AS n USING (node_id) WHERE p.settled_round IS NOT NULL AND p.outcome = 'received' ORDER BY 1, 2, 3"
)


async def prepare(
    world: World, *, size: int, faults: Mapping[str, str] | None = None, **model: object
) -> dict[str, Site]:
    """Four nodes that a coordinator has met, in a workspace whose rounds close with so many updates."""
    create_workspace(world, async_aggregation=True, aggregation_batch_size=size)
    sites = {name: await world.add_site(name, seed=0.1 * place) for place, name in enumerate(NAMES, 1)}
    for name, fault in (faults or {}).items():
        sites[name].kill()
        await world.start_site(sites[name], faults=fault)
    for site in sites.values():
        world.register(site)
    create_model(world, **{"early_stopping_rounds": 100_000, "keep_best": False} | model)
    return sites


async def meet(world: World) -> None:
    await world.reached("(SELECT count(*) = 4 FROM federated.node WHERE status = 'active')")


def taken(world: World) -> dict[int, list[tuple[int, str]]]:
    """By round what it took: of which round each task was, and whose."""
    found: dict[int, list[tuple[int, str]]] = {}
    for row in world.query(TAKEN):
        found.setdefault(row["taken"], []).append((row["asked"], row["name"]))
    return found


def resume(site: Site) -> None:
    assert site.process is not None
    site.process.process.send_signal(signal.SIGCONT)


async def test_rounds_close_without_a_stopped_node_and_take_its_update_when_it_goes_on(world: World) -> None:
    # Of the tasks of a node the first is statistics, and then two a round are training and an evaluation.
    stops = {"d": "node.task.received:2=stop", "c": "node.task.received:8=stop"}
    sites = await prepare(world, size=3, faults=stops, rounds=6)
    world.start_coordinator()
    await meet(world)
    world.execute("START FEDERATED TRAINING risk")

    await world.reached(
        "(SELECT count(*) = 3 FROM federated.round WHERE round_number > 0 AND status = 'closed')"
    )
    resume(sites["d"])
    await world.reached("EXISTS (SELECT FROM federated.participation WHERE settled_round = 4)")
    resume(sites["c"])
    run = await world.finished()

    assert (run["status"], run["message"]) == ("completed", "all 6 rounds done")
    rounds = taken(world)
    assert [rounds[number] for number in (1, 2, 3)] == [
        [(number, name) for name in "abc"] for number in (1, 2, 3)
    ]
    assert rounds[4] == [(1, "d"), (4, "a"), (4, "b")]
    assert [len(rounds[number]) for number in (5, 6)] == [3, 3]
    shown = world.query("SELECT * FROM federated_training_status('risk') ORDER BY round_number")
    assert [row["participating_nodes"] for row in shown] == [4, 3, 3, 3, 3, 3, 3]
    assert shown[4]["message"] == "stale: d by 3"
    assert all(row["global_loss"] is not None for row in shown[1:])


async def test_a_coordinator_killed_in_the_middle_goes_on_from_what_is_committed(world: World) -> None:
    await prepare(world, size=2, rounds=6, quantization=8, gradient_sparsification=0.5)
    # It combines once in round 0, and twice in each round after it.
    first = world.start_coordinator(faults="coordinator.aggregated:4=kill")
    await meet(world)
    world.execute("START FEDERATED TRAINING risk")
    await first.died()
    second = world.start_coordinator(faults="coordinator.task.asked_again=kill")
    await second.died()
    before = taken(world)
    world.start_coordinator()

    run = await world.finished()

    assert (run["status"], run["message"]) == ("completed", "all 6 rounds done")
    rounds = taken(world)
    assert [len(rounds[number]) for number in range(1, 7)] == [2] * 6
    assert {number: rounds[number] for number in before} == before
    tasks = [task for each in rounds.values() for task in each]
    assert len(set(tasks)) == len(tasks)
    left = world.query("SELECT DISTINCT outcome::text FROM federated.participation ORDER BY 1")
    assert {row["outcome"] for row in left} <= {"received", "dropped"}
    versions = world.query("SELECT round_number FROM federated.version")
    assert [row["round_number"] for row in versions] == [6]


async def test_a_round_that_lacks_its_nodes_waits_until_they_are_back(world: World) -> None:
    dies = "node.task.received:2=kill"
    sites = await prepare(world, size=3, faults={"c": dies, "d": dies}, rounds=3)
    world.start_coordinator()
    await meet(world)
    world.execute("START FEDERATED TRAINING risk")

    await world.reached("(SELECT starts_with(message, 'waiting for nodes: 2 of 3 ') FROM federated.run)")
    for name in "cd":
        await world.start_site(sites[name])
    run = await world.finished()

    assert (run["status"], run["message"]) == ("completed", "all 3 rounds done")
    assert [len(tasks) for _, tasks in sorted(taken(world).items())] == [3, 3, 3]


async def test_a_run_that_was_stopped_goes_on_with_all_nodes_free(world: World) -> None:
    await prepare(world, size=2, rounds=100_000)
    world.start_coordinator()
    await meet(world)
    world.execute("START FEDERATED TRAINING risk")
    await world.reached(CLOSED, 3)
    world.execute("STOP FEDERATED TRAINING risk")
    stopped = await world.finished()
    assert stopped["status"] == "stopped", stopped
    (closed,) = world.query("SELECT max(round_number) AS last FROM federated.round WHERE status = 'closed'")
    before = taken(world)

    world.execute("RESUME FEDERATED TRAINING risk")
    await world.reached(CLOSED, closed["last"] + 3)
    world.execute("STOP FEDERATED TRAINING risk")
    await world.reached("(SELECT every(status NOT IN ('queued', 'running')) FROM federated.run)")

    rounds = taken(world)
    (last,) = world.query("SELECT max(round_number) AS last FROM federated.round WHERE status = 'closed'")
    assert [len(rounds[number]) for number in range(1, last["last"] + 1)] == [2] * last["last"]
    assert all(rounds[number] == before[number] for number in range(1, closed["last"] + 1))
    tasks = [task for each in rounds.values() for task in each]
    assert len(set(tasks)) == len(tasks)


async def test_a_model_is_about_as_good_as_one_of_synchronous_rounds(world: World) -> None:
    rows, test = cancer()
    create_workspace(world)
    for place, name in enumerate(NAMES):
        site = Site(name, world.cluster.create_database("federated_template"))
        fill(world.cluster, site.database, rows[place::4])
        world.sites.append(site)
        await world.start_site(site)
        world.register(site)
    # Whom a node holds out is its secret: nobody here, so that nothing but the order of answers is left to chance.
    create_model(world, features=COLUMNS[:-1], rounds=15, local_epochs=2, validation_split=0.0)
    world.start_coordinator()
    await meet(world)
    world.execute("START FEDERATED TRAINING risk")
    assert (await world.finished())["status"] in {"completed", "converged"}
    world.execute(
        f"ALTER FEDERATED WORKSPACE {WORKSPACE} SET (async_aggregation = true, aggregation_batch_size = 2)"
    )
    world.execute("START FEDERATED TRAINING risk WITH (rounds = 30)")
    assert (await world.finished(count=2))["status"] in {"completed", "converged"}

    synchronous, asynchronous = (auc(world, f"risk@{version}", test) for version in (1, 2))

    assert synchronous > 0.97
    assert abs(asynchronous - synchronous) <= 0.01


COLUMNS = (*(f"x{place}" for place in range(30)), "outcome")


def cancer() -> tuple[Values, Values]:
    """Rows to train with and to judge by: of the Wisconsin breast cancer data, the outcome last."""
    found = load_breast_cancer()
    whole = np.column_stack([found.data, found.target])
    shuffled = whole[np.random.default_rng(3).permutation(len(whole))]
    return shuffled[143:], shuffled[:143]


def fill(cluster: Cluster, database: str, rows: Values) -> None:
    """Make a table of these rows, and share it."""
    columns = ", ".join(f"{name} double precision" for name in COLUMNS[:-1])
    with cluster.connect(database) as connection:
        connection.execute(f"CREATE TABLE biopsy (subject integer, {columns}, outcome integer)")
        with connection.cursor().copy("COPY biopsy FROM STDIN") as copy:
            for number, row in enumerate(rows.tolist()):
                copy.write_row((number, *row[:-1], int(row[-1])))
        share(connection, "biopsies", f"biopsy ({', '.join(COLUMNS)})")


def auc(world: World, model: str, rows: Values) -> float:
    """How well a version tells the rows apart."""
    given = [json.dumps(dict(zip(COLUMNS[:-1], row[:-1], strict=True))) for row in rows.tolist()]
    statement = (
        "SELECT federated_predict(%s, j) AS p FROM unnest(%s::jsonb[]) WITH ORDINALITY AS r (j, n) ORDER BY n"
    )
    predicted = [row["p"] for row in world.query(statement, model, given)]
    return float(roc_auc_score(rows[:, -1], predicted))


REFUSED: Sequence[tuple[dict[str, object], dict[str, object], str, str]] = (
    ({}, {"aggregation": "median"}, "22023", "aggregation median needs all updates of a round at once"),
    ({}, {"optimizer": "newton", "learning_rate": None}, "22023", "cannot be trained in asynchronous rounds"),
    ({}, {"adaptive_learning": True}, "0A000", "adaptive_learning is not supported with async_aggregation"),
    ({"privacy_budget": 5.0}, {}, "0A000", "async_aggregation is not supported under a privacy_budget"),
    ({"node_selection": "random(2)"}, {}, "0A000", "node_selection random(2) is not supported"),
    (
        {"aggregation_batch_size": 3},
        {},
        "22023",
        "aggregation_batch_size is 3, and a round has at most 2 nodes",
    ),
)


def test_what_cannot_be_asynchronous_is_refused_when_it_is_started(world: World) -> None:
    for policy, model, sqlstate, message in REFUSED:
        create_workspace(world, **{"async_aggregation": True, "aggregation_batch_size": 2} | policy)
        create_model(world, **model)

        with pytest.raises(psycopg.Error) as caught:
            world.execute("START FEDERATED TRAINING risk")

        assert caught.value.sqlstate == sqlstate, message
        assert message in str(caught.value.diag.message_primary)
        world.execute("DROP FEDERATED WORKSPACE consortium CASCADE")


def test_a_synchronous_round_holds_no_more_updates_than_it_was_told(world: World) -> None:
    create_workspace(world, aggregation_batch_size=2)
    create_model(world)
    world.execute("START FEDERATED TRAINING risk WITH (aggregation = 'fedavg')")
    world.execute("STOP FEDERATED TRAINING risk")

    with pytest.raises(psycopg.Error) as caught:
        world.execute("START FEDERATED TRAINING risk WITH (aggregation = 'krum')")

    assert caught.value.sqlstate == "22023"
    assert "aggregation krum needs all updates of a round at once" in str(caught.value)
