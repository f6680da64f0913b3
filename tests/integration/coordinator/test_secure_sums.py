"""Training with secure sums over real nodes: the plain model, whoever is killed, and what is refused before a run."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import psycopg
import pytest

from tests.integration.coordinator.support import (
    MODEL,
    WORKSPACE,
    Site,
    World,
    make_peers_world,
)
from tests.support.cluster import Cluster

NAMES = ("east", "north", "south", "west")
SECURE = "secure_aggregation = true"


@pytest.fixture(scope="module")
def world(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Four nodes, each of which names the three others."""
    with make_peers_world(
        cluster,
        tmp_path_factory.mktemp("secure"),
        NAMES,
        policy={"min_nodes": 3},
        model={"rounds": 2, "optimizer": "newton", "learning_rate": None},
    ) as made:
        yield made


async def trained(
    world: World, options: str = SECURE, *, faults: str = "", model: str = MODEL
) -> dict[str, object]:
    """Train to the end, and say what came of it."""
    already = len(world.runs())
    world.execute(f"START FEDERATED TRAINING {model} WITH ({options})")
    coordinator = world.start_coordinator(faults=faults)
    if faults:
        await coordinator.died()
        coordinator = world.start_coordinator()
    run = await world.finished(count=already + 1)
    coordinator.kill()
    (found,) = world.query(
        "SELECT r.status::text, r.message, encode(v.sha256, 'hex') AS sha256 "
        "FROM federated.run AS r LEFT JOIN federated.version AS v USING (run_id) WHERE r.run_id = %s",
        run["run_id"],
    )
    (counted,) = world.query(
        "SELECT count(*) FILTER (WHERE outcome = 'received') AS received, count(DISTINCT exchange) AS exchanges "
        "FROM federated.participation WHERE run_id = %s AND round_number = 1",
        run["run_id"],
    )
    return {**found, **counted, "run_id": run["run_id"]}


def predicted(world: World, model: str = MODEL) -> float:
    (row,) = world.query(f"SELECT federated_model.{model}(age => 50, pressure => 120) AS prediction")
    return float(row["prediction"])


async def test_the_model_is_the_plain_one_and_no_update_was_seen(world: World) -> None:
    plain = await trained(world, "secure_aggregation = false")
    expected = predicted(world)
    secure = await trained(world)
    assert (plain["status"], secure["status"]) == ("completed", "completed"), secure
    assert predicted(world) == pytest.approx(expected, rel=1e-12)
    assert secure["exchanges"] == 5 * int(str(plain["exchanges"]))
    seen = world.query(
        "SELECT FROM federated.participation WHERE run_id = %s "
        "AND (described IS NOT NULL OR stated_rows IS NOT NULL OR weight <> 1)",
        secure["run_id"],
    )
    assert seen == []


@pytest.mark.parametrize(
    ("coordinator", "node"),
    [
        ("coordinator.aggregated:6", "node.release.committed:6"),
        ("coordinator.update.received:9", "node.release.committed:7"),
    ],
)
async def test_whoever_is_killed_the_model_is_the_same(world: World, coordinator: str, node: str) -> None:
    expected = await trained(world)
    site = world.sites[1]
    site.kill()
    await world.start_site(site, faults=f"{node}=kill")
    found, _ = await asyncio.gather(trained(world, faults=f"{coordinator}=kill"), _restarted(world, site))
    assert found["status"] == "completed", found
    assert found["sha256"] == expected["sha256"]


async def test_a_node_that_is_lost_for_good_before_it_sent_its_vector_is_left_out(world: World) -> None:
    """Three of four nodes are the threshold: they tell of its pairwise masks."""
    site = world.sites[3]
    site.kill()
    # With its second message of round 1's second sum, which follows on the five of the first.
    await world.start_site(site, faults="node.release.committed:12=kill")
    world.execute(f"ALTER FEDERATED WORKSPACE {WORKSPACE} SET (stragglers_timeout = 15)")
    found = await trained(world)
    world.execute(f"ALTER FEDERATED WORKSPACE {WORKSPACE} RESET (stragglers_timeout)")
    await _restarted(world, site)
    assert found["status"] == "completed", found
    (counted,) = world.query(
        "SELECT count(*) AS lost FROM federated.participation WHERE run_id = %s AND outcome <> 'received'",
        found["run_id"],
    )
    assert counted["lost"] == 1


async def _restarted(world: World, site: Site) -> None:
    assert site.process is not None
    await site.process.ended()
    await world.start_site(site)


async def test_many_values_take_a_word_each_and_are_the_plain_ones(world: World) -> None:
    for site in world.sites:
        with world.cluster.connect(site.database) as node:
            node.execute(
                "CALL federated.execute('ALTER FEDERATED DATASET patients SET (max_parameter_share = 1000)')"
            )
    # 5,401 values: two inputs, layers of 100 and 50. One step of all rows: another run has another order of them.
    # 5,401 values: two inputs, layers of 100 and 50. One step of all rows: another run has another order of them.
    world.execute(
        f"CREATE FEDERATED MODEL wide IN WORKSPACE {WORKSPACE} WITH (algorithm = 'neural_network', rounds = 2, seed = 7,"
        " layers = [100, 50, 1], features = ['age', 'pressure'], target = 'outcome', batch_size = 1000)"
    )
    plain = await trained(world, "secure_aggregation = false", model="wide")
    expected = predicted(world, "wide")
    secure = await trained(world, model="wide")
    found = predicted(world, "wide")
    assert (plain["status"], secure["status"]) == ("completed", "completed"), (plain, secure)
    assert found == pytest.approx(expected, rel=1e-5)
    (sent,) = world.query(
        "SELECT max(bytes_received) AS bytes FROM federated.participation WHERE run_id = %s AND step = 'train'",
        secure["run_id"],
    )
    assert 8 * 5_401 < sent["bytes"] < 9 * 5_401


@pytest.mark.parametrize("bits", [16, 8])
async def test_updates_rounded_before_they_are_masked_lead_to_nearly_the_model_in_fewer_bytes(
    world: World, bits: int
) -> None:
    descent = f"{SECURE}, optimizer = 'sgd', learning_rate = 0.2"
    whole = await trained(world, descent)
    expected = predicted(world)

    rounded = await trained(world, f"{descent}, quantization = {bits}, max_update_norm = 1")

    assert (whole["status"], rounded["status"]) == ("completed", "completed"), rounded
    assert predicted(world) == pytest.approx(expected, abs=1e-3)
    sent = (
        "SELECT avg(bytes_received) AS sent FROM federated.participation WHERE run_id = %s AND step = 'train'"
    )
    ((before,), (after,)) = (world.query(sent, run["run_id"]) for run in (whole, rounded))
    assert after["sent"] < before["sent"]


async def test_compression_that_saves_nothing_is_said_to(world: World) -> None:
    with world.catalog() as connection:
        said: list[str] = []
        connection.add_notice_handler(lambda notice: said.append(notice.message_primary or ""))
        start = f"START FEDERATED TRAINING {MODEL} WITH ({SECURE}, compression = 'zstd')"
        connection.execute("CALL federated.execute(%s)", [start])
        connection.execute("CALL federated.execute(%s)", [f"STOP FEDERATED TRAINING {MODEL}"])

    assert any("compression zstd makes hidden updates no smaller" in one for one in said), said


async def test_a_run_without_peers_says_what_its_node_needs(world: World) -> None:
    for site in world.sites[:2]:
        site.kill()
        await world.start_site(site, peers=None)
    found = await trained(world)
    for site in world.sites[:2]:
        site.kill()
        await world.start_site(site)
    assert found["status"] == "failed"
    assert "its DBA has not said who the other participants are" in str(found["message"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (f"{SECURE}, threshold = 2", "threshold"),
        (f"{SECURE}, threshold = 5", "threshold 5 is more nodes than the 4"),
        (f"{SECURE}, aggregation = 'median', optimizer = 'sgd'", "median needs every single update"),
        (f"{SECURE}, max_update_norm = 1", "max_update_norm"),
        (f"{SECURE}, optimizer = 'sgd', top_k = 3", "top_k is not possible"),
        (f"{SECURE}, optimizer = 'sgd', quantization = 8", "quantization = 8 with .* needs max_update_norm"),
        ("threshold = 3", "threshold"),
    ],
)
def test_what_cannot_be_summed_so_is_refused_at_start(world: World, options: str, message: str) -> None:
    with pytest.raises(psycopg.Error, match=message) as caught:
        world.execute(f"START FEDERATED TRAINING {MODEL} WITH ({options})")
    assert caught.value.sqlstate == "22023"
