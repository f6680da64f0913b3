"""EXPORT FEDERATED DATA between real processes: what nodes hold about a subject comes into one file, and nowhere else."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from psycopg import errors

from tests.integration.coordinator.exports_support import export, in_state, server_directory, shown
from tests.integration.coordinator.orders_support import found_federation, keyed
from tests.integration.coordinator.support import World


@pytest.fixture
def place() -> Iterator[Path]:
    with server_directory() as directory:
        yield directory


def alter(world: World, site: int, options: str) -> None:
    """What a node's DBA types."""
    with world.cluster.connect(world.sites[site].database) as connection:
        connection.execute(
            "CALL federated.execute(%s)", [f"ALTER FEDERATED DATASET patients SET ({options})"]
        )


async def test_what_nodes_hold_comes_into_one_file(world: World, place: Path) -> None:
    sites = await found_federation(world, "east", "west", options=", exports = true, exports_per_day = 2")
    alter(world, 1, "exports = false")
    world.start_coordinator()
    await keyed(world)
    path = place / "p.json"

    export(world, "42", path)
    await in_state(world, path, "written")

    content = path.read_bytes()
    read = json.loads(content)
    east, west = read["nodes"]
    [dataset] = east["datasets"]
    [row] = dataset["rows"]
    with world.cluster.connect(sites[0].database) as connection:
        held = connection.execute(
            "SELECT patient_id, age, pressure, outcome FROM patient WHERE patient_id = 42"
        ).fetchone()
        releases = connection.execute(
            "SELECT dataset, exports, plain_vectors FROM federated_node_releases"
        ).fetchall()
        audited = connection.execute(
            "SELECT object_name FROM federated.audit WHERE object_kind = 'node_export'"
        ).fetchall()
    assert (row["patient_id"], row["age"], row["pressure"], row["outcome"]) == held
    assert releases == [("patients", 1, 0)]
    assert audited == [("patients",)]
    assert (west["outcome"], west["datasets"]) == ("refused", [])
    assert path.stat().st_mode & 0o777 == 0o600
    one = shown(world, path)
    assert (one["sha256"], one["size_bytes"]) == (hashlib.sha256(content).hexdigest(), len(content))
    assert (one["nodes_answered"], one["nodes_refused"], one["nodes_pending"]) == (1, 1, 0)
    assert one["pseudonym"] == read["export"]["pseudonym"]
    assert world.query("SELECT * FROM federated.export_part") == []

    # Of a subject that nobody holds the coordinator hears the same.
    nobody = place / "nobody.csv"
    export(world, "no such patient", nobody, "csv")
    await in_state(world, nobody, "written")
    [held_statement, unheld_statement] = world.query(
        "SELECT convert_from(statement, 'UTF8')::jsonb - '{order,at,body_sha256}'::text[] AS said FROM federated.order_answer"
        " WHERE node_name = 'east' ORDER BY answered_at"
    )
    assert held_statement == unheld_statement
    lines = list(csv.DictReader(nobody.read_text().splitlines()))
    assert not [line for line in lines if line["kind"] in ("row", "participation")]
    assert [line["value"] for line in lines if line["kind"] == "order" and line["name"] == "kind"] == []

    # The third within a day waits for the node's DBA.
    third = place / "third.json"
    export(world, "42", third)
    await world.reached(
        "SELECT EXISTS (SELECT FROM federated.order_answer WHERE state = 'pending' AND message LIKE %s)",
        "%no more than 2 exports within 24 hours%",
    )
    assert not third.exists()
    alter(world, 0, "exports_per_day = 3")
    await in_state(world, third, "written")
    [other] = json.loads(third.read_text())["orders"]
    assert (other["kind"], other["state"]) == ("export", "answered")


async def test_a_file_that_cannot_be_written_is_written_when_it_can(world: World, place: Path) -> None:
    await found_federation(world, "east", options=", exports = true")
    coordinator = world.start_coordinator()
    await keyed(world)
    coordinator.kill()
    path = place / "p.json"
    export(world, "42", path)
    with pytest.raises(errors.DuplicateObject, match="another export is to be written"):
        export(world, "43", path)
    path.write_text("somebody else's")
    unreadable = place / "unreadable.json"
    world.execute(
        f"EXPORT FEDERATED DATA FOR SUBJECT SEALED 'AAAA' FROM WORKSPACE consortium TO '{unreadable}'"
    )
    world.start_coordinator()

    await in_state(world, path, "blocked")
    assert "already exists" in shown(world, path)["message"]
    assert path.read_text() == "somebody else's"
    path.unlink()
    await in_state(world, path, "written")
    await in_state(world, unreadable, "failed")
    assert "not sealed to this coordinator" in shown(world, unreadable)["message"]
    assert json.loads(path.read_text())["nodes"][0]["datasets"][0]["rows"][0]["patient_id"] == 42


async def test_who_may_no_longer_write_files_gets_none(world: World, place: Path) -> None:
    await found_federation(world, "east", options=", exports = true")
    world.start_coordinator()
    await keyed(world)
    path = place / "p.json"
    world.query("UPDATE federated.workspace SET owner = 'federated_admin'")
    with world.cluster.connect(world.database) as connection:
        connection.execute("GRANT pg_write_server_files TO an_admin")
    with world.cluster.connect(world.database, user="an_admin") as connection:
        connection.autocommit = False
        connection.execute(
            "CALL federated.execute(%s)",
            [f"EXPORT FEDERATED DATA FOR SUBJECT '42' FROM WORKSPACE consortium TO '{path}'"],
        )
        assert not path.exists()
        with world.cluster.connect() as admin:
            admin.execute("REVOKE pg_write_server_files FROM an_admin")
        connection.commit()
    await in_state(world, path, "failed")
    assert "may not have files written any more" in shown(world, path)["message"]
    assert world.query("SELECT * FROM federated.export_part") == []
