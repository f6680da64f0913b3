"""Checkpoints and runs that go on: the same numbers as of a run that nobody disturbed, to the bit."""

from __future__ import annotations

import os
import pwd
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.coordinator.support import World, create_model, create_workspace

CLOSED = "coordinator.round.closed:3=kill"
"""Ends the coordinator after it has closed round 2."""

MODELS: dict[str, dict[str, object]] = {
    "fedavg": {},
    "fedadam": {"aggregation": "fedadam"},
    "newton": {"optimizer": "newton", "learning_rate": None},
    "forest": {"algorithm": "random_forest", "learning_rate": None, "trees": 60, "max_depth": 3},
    "network": {"algorithm": "neural_network", "hidden_layers": "[4]"},
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
    world: World, place: Path, model: str
) -> None:
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
