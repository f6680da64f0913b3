"""Parts that nobody foresaw plug in: each toy runs end to end over real sockets, killed in the middle.

What always holds: a toy is registered by its module's import in the daemons, and nothing else of the product knows its
name; a run whose coordinator and one of whose nodes were ended by SIGKILL leads to the same bits as an undisturbed one.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.integration.coordinator.support import (
    MODEL,
    CoordinatorProcess,
    Site,
    World,
    create_model,
    create_workspace,
    make_world,
)
from tests.support.cluster import Cluster
from tests.support.federation import until

ROUNDS = 3
RENDER_BINS = """
CREATE FUNCTION federated._render_toy_bins(features text[], booleans boolean[], prediction jsonb) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET extra_float_digits = 1 AS $$
    SELECT format('(%L::float8[])[1 + width_bucket(coalesce(%I, 0::float8), %L::float8[])]',
                  ARRAY(SELECT v::float8 FROM jsonb_array_elements_text(prediction -> 'means') AS v), features[1],
                  ARRAY(SELECT v::float8 FROM jsonb_array_elements_text(prediction -> 'edges') AS v))
$$;
ALTER FUNCTION federated._render_toy_bins(text[], boolean[], jsonb) OWNER TO {owner}
"""


@dataclass(frozen=True)
class Toy:
    """A run of a toy. options: of the run, which no statement could name. coordinator, node: where each is killed."""

    name: str
    options: dict[str, Any]
    coordinator: str
    node: str
    steps: tuple[str, ...] = field(default=("statistics", "train", "evaluate", "report"))


TOYS = [
    Toy(
        "an algorithm of three exchanges a round",
        {"algorithm": "toy_bins", "bins": 5},
        "coordinator.aggregated:4",
        "node.release.committed:5",
        ("toy_span", "toy_count", "toy_total", "toy_error"),
    ),
    Toy(
        "a rule with options and a memory",
        {"aggregation": "toy_momentum", "decay": 0.8},
        "coordinator.aggregated:4",
        "node.release.committed:4",
    ),
    Toy(
        "a rule whose memory is told to nodes that remember",
        {"aggregation": "scaffold"},
        "coordinator.aggregated:5",
        "node.release.committed:5",
    ),
    Toy(
        "a codec",
        {"compression": "toy_deflated"},
        "coordinator.update.received:5",
        "node.release.committed:3",
    ),
    Toy(
        "a sum of four messages",
        {"secure_aggregation": True, "aggregation_protocol": "toy_masks"},
        "coordinator.aggregated:7",
        "node.release.committed:7",
    ),
    Toy(
        "a part that stays at the node",
        {"algorithm": "toy_personal"},
        "coordinator.round.closed:2",
        "node.release.committed:3",
        ("toy_hello", "toy_move"),
    ),
]


@dataclass(frozen=True)
class Result:
    """What a run left behind."""

    status: str
    sha256: str
    losses: list[float | None]
    answered: list[tuple[int, int, str, int]]
    prediction: float


@pytest.fixture(scope="module")
def world(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Three nodes whose daemons know the toys."""
    directory: Path = tmp_path_factory.mktemp("toys")
    with make_world(cluster, directory, cluster.create_database("federated_template")) as made:
        made.parts = ("tests.integration.parts.toys",)
        asyncio.run(prepare(made))
        yield made


async def prepare(world: World) -> None:
    """Make workspace, nodes and the model, and what the prediction of a kind of its own needs."""
    create_workspace(world, min_nodes=3)
    for number, name in enumerate(("east", "north", "west")):
        world.register(await world.add_site(name, seed=0.1 * (number + 1)))
    create_model(world, rounds=ROUNDS, seed=7)
    owner = world.query(
        "SELECT proowner::regrole::text AS owner FROM pg_proc WHERE proname = '_render' AND pronargs = 3"
    )
    with world.catalog() as connection:
        # No parameters: the text has percent signs of its own.
        connection.execute(RENDER_BINS.format(owner=owner[0]["owner"]).encode())


def start(world: World, toy: Toy) -> None:
    """START, with options that only a toy has."""
    with world.catalog() as connection, connection.transaction():
        connection.execute("CALL federated.execute(%s)", [f"START FEDERATED TRAINING {MODEL}"])
        connection.execute(
            "UPDATE federated.run SET options = options || %s WHERE status = 'queued'",
            [json.dumps(toy.options)],
        )


def read(world: World) -> Result:
    """Read what the last run left."""
    (run,) = world.query(
        "SELECT r.run_id, r.status::text AS status, encode(v.sha256, 'hex') AS sha256 "
        "FROM federated.run AS r LEFT JOIN federated.version AS v USING (run_id) ORDER BY r.created_at DESC LIMIT 1"
    )
    rounds = world.query(
        "SELECT global_loss FROM federated.round WHERE run_id = %s ORDER BY round_number", run["run_id"]
    )
    answered = world.query(
        "SELECT round_number, exchange, step, count(*) AS nodes FROM federated.participation "
        "WHERE run_id = %s AND outcome = 'received' GROUP BY 1, 2, 3 ORDER BY 1, 2",
        run["run_id"],
    )
    (predicted,) = world.query(f"SELECT federated_model.{MODEL}(age => 50, pressure => 120) AS prediction")
    return Result(
        run["status"],
        run["sha256"],
        [one["global_loss"] for one in rounds],
        [(one["round_number"], one["exchange"], one["step"], one["nodes"]) for one in answered],
        predicted["prediction"],
    )


async def restarted(world: World, site: Site) -> None:
    """Start a node again, once it has been ended."""
    assert site.process is not None
    await site.process.ended()
    await world.start_site(site)


async def succeeded(world: World, dying: CoordinatorProcess) -> CoordinatorProcess:
    """Start a coordinator, once the one before has been ended."""
    await dying.died()
    return world.start_coordinator()


@pytest.mark.parametrize("toy", TOYS, ids=lambda toy: toy.name)
async def test_a_toy_runs_end_to_end_and_a_kill_changes_nothing(world: World, toy: Toy) -> None:
    already = len(world.runs())
    start(world, toy)
    coordinator = world.start_coordinator()
    run = await world.finished(count=already + 1)
    assert run["status"] == "completed", run
    expected = read(world)
    coordinator.kill()

    site = world.sites[1]
    site.kill()
    await world.start_site(site, faults=f"{toy.node}=kill")
    start(world, toy)
    dying = world.start_coordinator(faults=f"{toy.coordinator}=kill")
    successor, _ = await asyncio.gather(succeeded(world, dying), restarted(world, site))
    run = await world.finished(count=already + 2)
    assert run["status"] == "completed", run
    found = read(world)
    successor.kill()

    assert found == expected
    assert {step for _, _, step, _ in found.answered} == set(toy.steps)
    assert all(nodes == len(world.sites) for *_, nodes in found.answered)


async def test_what_stays_at_a_node_is_sealed_and_forgotten_with_the_run(world: World) -> None:
    toy = next(one for one in TOYS if one.options.get("algorithm") == "toy_personal")
    already = len(world.runs())
    start(world, toy)
    coordinator = world.start_coordinator()
    await world.finished(count=already + 1)
    with world.cluster.connect(world.sites[0].database) as connection:

        def kept() -> int:
            row = connection.execute("SELECT count(*) FROM federated.node_memory").fetchone()
            return 0 if row is None else int(row[0])

        await until(lambda: kept() == 0)
    coordinator.kill()


async def test_a_run_whose_parts_are_not_there_fails_before_anybody_is_asked(world: World) -> None:
    already = len(world.runs())
    start(world, Toy("", {"aggregation": "nowhere"}, "", ""))
    coordinator = world.start_coordinator()

    run = await world.finished(count=already + 1)

    coordinator.kill()
    assert run["status"] == "failed"
    assert 'federated aggregation function "nowhere" does not exist' in run["message"]
    assert world.query("SELECT FROM federated.round WHERE run_id = %s", run["run_id"]) == []


async def test_a_rule_that_sees_each_update_is_refused_under_a_protocol_that_hides_them(world: World) -> None:
    already = len(world.runs())
    hidden = {"aggregation": "toy_momentum", "secure_aggregation": True, "aggregation_protocol": "toy_masks"}
    start(world, Toy("", hidden, "", ""))
    coordinator = world.start_coordinator()

    run = await world.finished(count=already + 1)

    coordinator.kill()
    assert run["status"] == "failed"
    assert "toy_momentum needs every single update" in run["message"]
