"""Checkpoints and runs that go on: the same numbers as of a run that nobody disturbed, to the bit."""

from __future__ import annotations

import os
import pwd
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.integration.coordinator.support import MODEL, WORKSPACE, World, create_model, create_workspace

CLOSED = "coordinator.round.closed:3=kill"
"""Ends the coordinator after it has closed round 2."""

MODELS: dict[str, dict[str, object]] = {
    "fedavg": {},
    "fedadam": {"aggregation": "fedadam"},
    "newton": {"optimizer": "newton", "learning_rate": None},
    "forest": {
        "algorithm": "random_forest",
        "learning_rate": None,
        # More than forty are five rounds.
        "trees": 41,
        "max_depth": 3,
        "keep_best": False,
    },
    "network": {"algorithm": "neural_network", "layers": "[4, 1]"},
    "scaffold": {"aggregation": "scaffold"},
    "adaptive": {"adaptive_learning": True},
}


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory of the server's own user."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        place = Path(name)
        if os.geteuid() == 0:
            account = pwd.getpwnam("postgres")
            os.chown(place, account.pw_uid, account.pw_gid)
        yield place


async def prepare(world: World, **options: object) -> None:
    """Make a workspace of two nodes and a model."""
    create_workspace(world, min_nodes=2)
    for number, name in enumerate(("north", "south")):
        world.register(await world.add_site(name, seed=0.1 * (number + 1)))
    create_model(world, **{"rounds": 5, "early_stopping_rounds": 100} | options)


def versions(world: World) -> list[dict[str, Any]]:
    """What every version is, by the runs' and their own order."""
    return world.query(
        "SELECT v.version, v.round_number, encode(v.sha256, 'hex') AS sha256, v.run_id, v.prediction - 'encoding' AS p"
        " FROM federated.version AS v ORDER BY v.version"
    )


def predicted(world: World) -> list[float]:
    """What versions 1 to 3 predict for one row, all in one session."""
    row = '{"age": 51, "pressure": 119}'
    query = (
        "SELECT federated_predict('risk@' || v, %s::jsonb) AS p FROM generate_series(1, 3) AS v ORDER BY v"
    )
    return [float(one["p"]) for one in world.query(query, row)]


async def ended(world: World, *, count: int) -> dict[str, Any]:
    """Wait until so many runs have ended, and none is queued or running; returns the last."""
    await world.reached("(SELECT count(*) = 0 FROM federated.run WHERE status IN ('queued', 'running'))")
    assert len(world.runs()) == count, world.runs()
    return world.runs()[-1]


async def interrupted(world: World) -> None:
    """Train until the coordinator is killed; the run is left running."""
    world.execute("START FEDERATED TRAINING risk")
    await world.start_coordinator(faults=CLOSED).died()


@pytest.mark.parametrize("model", MODELS)
async def test_a_run_that_was_stopped_goes_on_to_the_same_bits_as_if_it_never_had_been(
    request: pytest.FixtureRequest, world: World, place: Path, model: str
) -> None:
    if model == "network":
        request.getfixturevalue("forked_with_torch")
    await prepare(world, **MODELS[model])
    world.execute("START FEDERATED TRAINING risk")
    coordinator = world.start_coordinator()
    assert (await ended(world, count=1))["status"] in ("completed", "converged"), world.runs()
    coordinator.kill()
    (expected,) = versions(world)

    await interrupted(world)
    path = place / "round_2.bin"
    world.execute(f"CHECKPOINT FEDERATED TRAINING risk TO '{path}'")
    world.execute("STOP FEDERATED TRAINING risk")
    world.start_coordinator()
    stopped = await ended(world, count=2)
    assert stopped["status"] == "stopped"
    assert versions(world)[-1]["round_number"] <= 2
    world.execute("RESUME FEDERATED TRAINING risk")
    resumed = await ended(world, count=2)
    assert (resumed["run_id"], resumed["status"]) == (stopped["run_id"], world.runs()[0]["status"]), resumed
    last = versions(world)[-1]
    assert last["version"] == 3
    assert (last["sha256"], last["round_number"]) == (expected["sha256"], expected["round_number"])
    # The run has left two versions, of which each predicts what it is.
    first, before, after = predicted(world)
    assert first == after != before
    numbers = world.query(
        "SELECT round_number FROM federated.round WHERE run_id = %s ORDER BY 1", resumed["run_id"]
    )
    assert [one["round_number"] for one in numbers] == list(range(len(numbers)))

    # The run has gone further than the file: another one goes on from that, where nodes remember nothing of it.
    world.execute(f"RESUME FEDERATED TRAINING risk FROM '{path}'")
    other = await ended(world, count=3)
    assert other["run_id"] != stopped["run_id"]
    if model in ("scaffold", "adaptive"):
        assert other["status"] == "failed"
        assert "nodes remember their" in other["message"]
        assert world.query("SELECT FROM federated.round WHERE run_id = %s", other["run_id"]) == []
    else:
        assert other["status"] == resumed["status"], other
        assert versions(world)[-1]["sha256"] == expected["sha256"]
        assert versions(world)[-1]["version"] == 4
    assert world.query("SELECT FROM federated.resumption") == []


async def test_a_run_that_ranks_nodes_by_its_own_rounds_does_not_go_on_as_another(
    world: World, place: Path
) -> None:
    await prepare(world, rounds=2)
    world.execute(f"ALTER FEDERATED WORKSPACE {WORKSPACE} SET (node_selection = 'best_performance(2)')")
    world.execute("START FEDERATED TRAINING risk")
    world.start_coordinator()
    assert (await ended(world, count=1))["status"] == "completed"
    path = place / "last.bin"
    world.execute(f"CHECKPOINT FEDERATED TRAINING risk TO '{path}'")

    world.execute(f"RESUME FEDERATED TRAINING risk FROM '{path}'")

    other = await ended(world, count=2)
    assert other["status"] == "failed"
    assert "node_selection best_performance(2) ranks by its own rounds" in other["message"]
    assert world.query("SELECT FROM federated.round WHERE run_id = %s", other["run_id"]) == []


async def test_another_database_goes_on_from_a_file_wherever_its_coordinator_is_killed(
    world: World, place: Path
) -> None:
    await prepare(world, seed=None)
    await interrupted(world)
    path = place / "round_2.bin"
    world.execute(f"CHECKPOINT FEDERATED TRAINING risk TO '{path}'")
    former = world.start_coordinator()
    assert (await ended(world, count=1))["status"] == "completed"
    former.kill()
    (expected,) = versions(world)
    other = replace(world, database=world.cluster.create_database("federated_template"), coordinators=[])
    try:
        create_workspace(other, min_nodes=2)
        other.execute(f"CREATE FEDERATED MODEL {MODEL} IN WORKSPACE {WORKSPACE}")
        for site in other.sites:
            other.register(site)
        other.execute(f"RESUME FEDERATED TRAINING risk FROM '{path}'")
        stranger = str(world.federation.directory / "other-state")
        keyless = other.start_coordinator(state_directory=stranger)
        refused = await ended(other, count=1)
        assert refused["status"] == "failed"
        assert refused["message"].startswith("the checkpoint does not open with this coordinator's key")
        keyless.kill()

        other.execute(f"RESUME FEDERATED TRAINING risk FROM '{path}'")
        await other.start_coordinator(faults="coordinator.run.claimed=kill").died()
        await other.start_coordinator(faults=CLOSED.replace(":3", ":1")).died()
        assert other.query("SELECT max(round_number) AS n FROM federated.round") == [{"n": 2}]
        await other.start_coordinator(faults=CLOSED.replace(":3", ":1")).died()
        last = other.start_coordinator()
        assert (await ended(other, count=2))["status"] == "completed", other.runs()
        (made,) = versions(other)
        assert (made["sha256"], made["p"]) == (expected["sha256"], expected["p"])

        other.register(await other.add_site("west", seed=0.9))
        await other.reached("(SELECT count(*) = 3 FROM federated.node WHERE status = 'active')")
        other.execute(f"RESUME FEDERATED TRAINING risk FROM '{path}'")
        refused = await ended(other, count=3)
        assert refused["status"] == "failed"
        assert "not those that the checkpoint began with" in refused["message"]
        last.check()
    finally:
        other.clean_up()


async def test_what_a_resumed_run_had_spent_stays_spent_and_is_not_spent_again(world: World) -> None:
    create_workspace(world, min_nodes=2, privacy_budget=4.0)
    for number, name in enumerate(("north", "south")):
        world.register(await world.add_site(name, rows=400, seed=0.1 * (number + 1)))
    create_model(world, rounds=3)
    world.execute("START FEDERATED TRAINING risk")
    # Round 0 is of three exchanges; the answers of both nodes to round 2 are there.
    failing = world.start_coordinator(faults="coordinator.update.received:12=fail")
    assert (await ended(world, count=1))["status"] == "failed"
    failing.kill()
    lines = "SELECT ledger_id, state::text, round_number, step, node_name, epsilon_basic, epsilon_tight FROM federated.ledger"
    before = world.query(lines)
    interrupted_round = max(one["round_number"] for one in before)
    assert world.query(
        "SELECT FROM federated.round WHERE status = 'failed' AND round_number = %s", interrupted_round
    )

    world.execute("RESUME FEDERATED TRAINING risk")
    world.start_coordinator()

    resumed = await ended(world, count=1)
    assert resumed["status"] == "completed", resumed
    after = {one["ledger_id"]: one for one in world.query(lines)}
    for one in before:
        kept = after[one["ledger_id"]]
        assert kept | {"state": None} == one | {"state": None}
    keys = [(one["round_number"], one["step"], one["node_name"]) for one in after.values()]
    assert len(keys) == len(set(keys)) or max(keys.count(key) for key in keys if key[0] > 0) == 1
    assert world.query("SELECT * FROM federated._ledger_faults('consortium')") == []
    for site in world.sites:
        with world.cluster.connect(site.database) as connection:
            spent = connection.execute("SELECT max(epsilon_tight) FROM federated.spending").fetchone()
        shown = max(one["epsilon_tight"] for one in after.values() if one["node_name"] == site.name)
        assert spent is not None
        assert spent[0] == pytest.approx(shown)


async def test_the_catalog_keeps_every_nth_round_and_what_belongs_to_it(world: World) -> None:
    await prepare(world, rounds=5, checkpoint_every=2)
    world.execute("START FEDERATED TRAINING risk")
    world.start_coordinator()

    assert (await ended(world, count=1))["status"] == "completed"

    listed = world.query("SELECT path, round_number, sha256, size_bytes FROM federated_checkpoints('risk')")
    assert [(one["path"], one["round_number"]) for one in listed] == [(None, 2), (None, 4)]
    for one in listed:
        (kept,) = world.query(
            "SELECT encode(federated._sealed_digest(p.manifest), 'hex') AS sha256, octet_length(p.manifest) AS bytes,"
            " EXISTS (SELECT FROM federated.run_parameters AS k"
            "         WHERE k.run_id = p.run_id AND k.round_number = p.kept_round) AS is_whole"
            " FROM federated.run_parameters AS p WHERE p.round_number = %s",
            one["round_number"],
        )
        assert (kept["sha256"], kept["is_whole"]) == (one["sha256"], True)
        assert kept["bytes"] < one["size_bytes"]


async def test_a_private_run_goes_on_from_a_file_and_is_charged_for_what_it_releases(
    world: World, place: Path
) -> None:
    create_workspace(world, min_nodes=2, privacy_budget=4.0)
    for number, name in enumerate(("north", "south")):
        world.register(await world.add_site(name, rows=400, seed=0.1 * (number + 1)))
    create_model(world, rounds=4)
    await interrupted(world)
    path = place / "round_2.bin"
    world.execute(f"CHECKPOINT FEDERATED TRAINING risk TO '{path}'")
    other = replace(world, database=world.cluster.create_database("federated_template"), coordinators=[])
    try:
        create_workspace(other, min_nodes=2, privacy_budget=4.0)
        create_model(other, rounds=1)
        for site in other.sites:
            other.register(site)
        other.execute(f"RESUME FEDERATED TRAINING risk FROM '{path}'")
        other.start_coordinator()

        resumed = await ended(other, count=1)

        assert resumed["status"] == "completed", resumed
        lines = other.query(
            "SELECT DISTINCT round_number FROM federated.ledger WHERE state = 'charged' ORDER BY 1"
        )
        assert [one["round_number"] for one in lines] == [3, 4]
        # What the nodes spent before the ledger of this database never knew, and it does not pass that over.
        faults = other.query("SELECT fault FROM federated._ledger_faults('consortium')")
        assert faults
        assert all("the ledger shows" in one["fault"] for one in faults)
        # The workspace of this database may spend less: what the file was started under is not lowered to.
        other.execute(f"ALTER FEDERATED WORKSPACE {WORKSPACE} SET (privacy_budget = 3.0)")
        other.execute(f"RESUME FEDERATED TRAINING risk FROM '{path}'")
        refused = await ended(other, count=2)
        assert refused["status"] == "failed"
        assert "privacy_budget 4 is larger than the workspace's 3" in refused["message"]
    finally:
        other.clean_up()
