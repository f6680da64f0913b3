"""Rules over the means of groups, with nine real nodes: behind secure sums as without, with a hostile one, and
whoever is killed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from tests.integration.coordinator.support import (
    MODEL,
    WORKSPACE,
    World,
    make_peers_world,
)
from tests.support.cluster import Cluster
from tests.support.turned_updates import LIAR, SEED

NAMES = tuple(f"n{number}" for number in range(9))
GROUPS = "aggregation = 'median', robust_groups = 3"
SECURE = "secure_aggregation = true"


@pytest.fixture(scope="module")
def world(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Nine nodes that name each other; the one that lies has more rows than all others."""
    with make_peers_world(
        cluster,
        tmp_path_factory.mktemp("groups"),
        NAMES,
        policy={"min_nodes": 9},
        model={"rounds": 2, "learning_rate": 0.5, "local_epochs": 3, "early_stopping_rounds": 100},
        # A training process that is confined reads no module of the tests.
        settings={"confinement": "off"},
        rows={name: 400 if name == LIAR else 50 for name in NAMES},
        parts=("tests.support.turned_updates",),
    ) as made:
        yield made


async def trained(
    world: World, options: str, *, faults: str = "", like: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Train to the end, and say what came of it. like: a run whose random choices it makes, its groups too."""
    already = len(world.runs())
    world.execute(f"START FEDERATED TRAINING {MODEL} WITH ({options})")
    if like is not None:
        world.query("UPDATE federated.run SET seed_run = %s WHERE status = 'queued'", like["run_id"])
    coordinator = world.start_coordinator(faults=faults)
    if faults:
        await coordinator.died()
        coordinator = world.start_coordinator()
    run = await world.finished(count=already + 1)
    coordinator.kill()
    (found,) = world.query(
        "SELECT r.run_id, r.status::text, r.message, encode(v.sha256, 'hex') AS sha256, "
        "(SELECT global_accuracy FROM federated.round AS l WHERE l.run_id = r.run_id ORDER BY round_number DESC "
        "LIMIT 1) AS accuracy, (SELECT string_agg(l.message, ' / ') FROM federated.round AS l "
        "WHERE l.run_id = r.run_id) AS said "
        "FROM federated.run AS r LEFT JOIN federated.version AS v USING (run_id) WHERE r.run_id = %s",
        run["run_id"],
    )
    return found


async def restarted(world: World, name: str) -> None:
    site = next(one for one in world.sites if one.name == name)
    assert site.process is not None
    await site.process.ended()
    await world.start_site(site)


async def killed(world: World, name: str, faults: str) -> None:
    """Have a node end itself at a point."""
    site = next(one for one in world.sites if one.name == name)
    site.kill()
    await world.start_site(site, faults=faults)


async def test_groups_behind_secure_sums_lead_to_the_model_of_plain_ones(world: World) -> None:
    # One batch: a node shuffles for each exchange anew, of which there are others.
    whole = f"{GROUPS}, batch_size = 1000"
    secure = await trained(world, f"{whole}, {SECURE}")
    expected = predicted(world)
    assert secure["status"] == "completed", secure
    (asked,) = world.query(
        "SELECT count(DISTINCT exchange) AS exchanges, max(asked) AS asked FROM federated.participation "
        "WHERE run_id = %s AND round_number = 1 AND step = 'train'",
        secure["run_id"],
    )
    assert asked == {"exchanges": 5, "asked": 9}
    groups = groups_of(world, secure)
    assert sorted(name for group in groups for name in group) == sorted(NAMES)
    assert [len(group) for group in groups] == [3, 3, 3]
    (number,) = world.query("SELECT run FROM federated_runs WHERE run_id = %s", secure["run_id"])
    shown = world.query("SELECT * FROM federated_run_groups('risk', %s)", number["run"])
    assert [(one["kind"], one["group_number"], one["group_nodes"]) for one in shown] == [
        ("robust", place, group) for place, group in enumerate(groups, 1)
    ]

    plain = await trained(world, whole, like=secure)

    assert groups_of(world, plain) == groups
    assert plain["status"] == "completed", plain
    assert predicted(world) == pytest.approx(expected, rel=1e-12)


async def test_whoever_is_killed_in_the_middle_of_a_groups_sum_the_model_is_the_same(world: World) -> None:
    expected = await trained(world, f"{GROUPS}, {SECURE}")
    await killed(world, NAMES[4], "node.release.committed:17=kill")

    found, _ = await asyncio.gather(
        trained(world, f"{GROUPS}, {SECURE}", faults="coordinator.aggregated:18=kill", like=expected),
        restarted(world, NAMES[4]),
    )

    assert (found["status"], found["sha256"]) == ("completed", expected["sha256"])


async def test_a_hostile_node_breaks_the_mean_and_no_median_of_groups(world: World) -> None:
    hostile = f"{SECURE}, seed = {SEED}, keep_best = false"

    mean, median = await trained(world, hostile), await trained(world, f"{GROUPS}, {hostile}")

    assert median["status"] == "completed", median
    assert float(mean["accuracy"]) < 0.3, mean
    assert float(median["accuracy"]) > 0.7, median


async def test_a_run_of_three_groups_fails_where_one_loses_a_node_for_good(world: World) -> None:
    world.execute(
        f"ALTER FEDERATED WORKSPACE {WORKSPACE} SET (min_nodes_per_round = 6, stragglers_timeout = 20)"
    )
    # With its second message of round 1's first sum, which follows on the five of round 0.
    await killed(world, NAMES[7], "node.release.committed:7=kill")
    found = await trained(world, f"{GROUPS}, {SECURE}, rounds = 1")
    world.execute(f"ALTER FEDERATED WORKSPACE {WORKSPACE} RESET (min_nodes_per_round, stragglers_timeout)")
    await restarted(world, NAMES[7])

    assert found["status"] == "failed", found
    assert "2 of 3 groups are left, and median needs 3" in found["message"]
    (group,) = (sorted(group) for group in groups_of(world, found) if NAMES[7] in group)
    assert f"without the group of {', '.join(group)}: Too few nodes are left" in found["message"]


def test_start_says_that_groups_of_three_withstand_no_loss(world: World) -> None:
    with world.catalog() as connection:
        notices = list[str]()
        connection.add_notice_handler(lambda one: notices.append(str(one.message_primary)))
        connection.execute(
            f"CALL federated.execute($$START FEDERATED TRAINING {MODEL} WITH ({GROUPS}, {SECURE})$$)"
        )
        connection.rollback()
    assert any("a group of 3 nodes has no secure sum once one of them is lost" in one for one in notices)


@pytest.mark.parametrize(
    ("options", "state", "message"),
    [
        (
            f"{SECURE}, aggregation = 'median', robust_groups = 4",
            "22023",
            "needs 12 nodes, and a round has at most 9",
        ),
        (f"{SECURE}, {GROUPS}, threshold = 5", "22023", "threshold 5 cannot be of every sum"),
        (
            f"{SECURE}, aggregation = 'krum', byzantine_nodes = 1, robust_groups = 3",
            "22023",
            "there are 3 groups",
        ),
        ("aggregation = 'fedavg', robust_groups = 3", "22023", 'option "robust_groups" has no effect'),
        ("aggregation = 'fltrust', root_node = 'n1', robust_groups = 3", "22023", "has no effect"),
        ("aggregation = 'median', robust_groups = 2", "22023", "robust_groups"),
        (f"{GROUPS}, optimizer = 'newton'", "22023", "no effect"),
    ],
)
def test_what_groups_cannot_be_is_refused_at_start(
    world: World, options: str, state: str, message: str
) -> None:
    with pytest.raises(psycopg.Error, match=message) as caught:
        world.execute(f"START FEDERATED TRAINING {MODEL} WITH ({options})")
    assert caught.value.sqlstate == state


def test_the_refusal_of_single_updates_names_groups(world: World) -> None:
    with pytest.raises(psycopg.Error, match="median needs every single update") as caught:
        world.execute(f"START FEDERATED TRAINING {MODEL} WITH ({SECURE}, aggregation = 'median')")
    assert "robust_groups = 3" in str(caught.value.diag.message_hint)


def predicted(world: World) -> float:
    (row,) = world.query(f"SELECT federated_model.{MODEL}(age => 50, pressure => 120) AS prediction")
    return float(row["prediction"])


def groups_of(world: World, run: dict[str, Any]) -> list[list[str]]:
    (kept,) = world.query("SELECT scaling FROM federated.run WHERE run_id = %s", run["run_id"])
    groups: list[list[str]] = kept["scaling"]["groups"]
    return groups
