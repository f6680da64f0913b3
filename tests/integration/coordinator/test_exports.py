"""EXPORT FEDERATED DATA between real processes: what nodes hold about a subject comes into one file, and nowhere else."""

from __future__ import annotations

import hashlib
import json
import os
import pwd
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.coordinator.orders_support import found_federation, keyed
from tests.integration.coordinator.support import WORKSPACE, World


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory of the database server's own user."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        directory = Path(name)
        if os.geteuid() == 0:
            account = pwd.getpwnam("postgres")
            os.chown(directory, account.pw_uid, account.pw_gid)
        yield directory


def export(world: World, subject: str, path: Path, form: str = "json") -> None:
    world.execute(f"EXPORT FEDERATED DATA FOR SUBJECT '{subject}' FROM WORKSPACE {WORKSPACE} TO '{path}' FORMAT '{form}'")


def shown(world: World) -> list[dict[str, Any]]:
    return world.query("SELECT * FROM federated_exports ORDER BY requested_at")


async def written(world: World, count: int = 1) -> None:
    await world.reached("SELECT count(*) >= %s FROM federated_exports WHERE state = 'written'", count)


async def test_what_nodes_hold_comes_into_one_file(world: World, place: Path) -> None:
    sites = await found_federation(world, "east", "west", options=", exports = true")
    with world.cluster.connect(sites[1].database) as connection:
        connection.execute("CALL federated.execute('ALTER FEDERATED DATASET patients SET (exports = false)')")
    world.start_coordinator()
    await keyed(world)
    path = place / "p.json"

    export(world, "42", path)
    await written(world)

    content = path.read_bytes()
    read = json.loads(content)
    east, west = read["nodes"]
    [dataset] = east["datasets"]
    [row] = dataset["rows"]
    with world.cluster.connect(sites[0].database) as connection:
        held = connection.execute("SELECT patient_id, age, pressure, outcome FROM patient WHERE patient_id = 42").fetchone()
    assert (row["patient_id"], row["age"], row["pressure"], row["outcome"]) == held
    assert (west["outcome"], west["datasets"]) == ("refused", [])
    assert path.stat().st_mode & 0o777 == 0o600
    [one] = shown(world)
    assert (one["sha256"], one["size_bytes"]) == (hashlib.sha256(content).hexdigest(), len(content))
    assert (one["nodes_answered"], one["nodes_refused"], one["nodes_pending"]) == (1, 1, 0)
    assert one["pseudonym"] == read["export"]["pseudonym"]
    assert world.query("SELECT * FROM federated.export_part") == []
