"""Who leads: waiting for a catalog, standing by, stepping down, and a leader that was thought dead."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from heliosdb.catalog.lease import fenced, take_lease, try_lead
from heliosdb.catalog.psycopg_connection import connected
from heliosdb.domain.errors import ErrorCode, FederatedError
from tests.integration.coordinator.support import World, create_model, create_workspace, make_world
from tests.support.cluster import PASSWORD, Cluster, create_cluster, remove_cluster
from tests.support.ports import free_port


async def start_run(world: World, **options: object) -> None:
    create_workspace(world, min_nodes=2)
    for number, name in enumerate(("north", "south")):
        world.register(await world.add_site(name, seed=0.1 * (number + 1)))
    create_model(world, **options)
    world.execute("START FEDERATED TRAINING risk")


def drop_leader(world: World) -> None:
    """Cut the leader off, as a broken network would."""
    world.query(
        "SELECT pg_terminate_backend(l.pid) FROM pg_locks AS l "
        "WHERE l.locktype = 'advisory' AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )


async def test_a_coordinator_waits_for_the_extension_and_outlives_its_removal(
    cluster: Cluster, tmp_path: Path
) -> None:
    with make_world(cluster, tmp_path, cluster.create_database()) as world:
        coordinator = world.start_coordinator()
        await coordinator.said("waiting for CREATE EXTENSION")
        assert coordinator.ready.exists()
        with world.catalog() as connection:
            connection.execute("CREATE EXTENSION heliosdb_federated_learning")
            await coordinator.said("leading: epoch=1")

            connection.execute("DROP EXTENSION heliosdb_federated_learning CASCADE")
            await coordinator.said("out of reach")
            connection.execute("CREATE EXTENSION heliosdb_federated_learning")

        await start_run(world, rounds=1)

        assert (await world.finished())["status"] == "completed"


async def test_why_the_catalog_is_out_of_reach_is_said_and_again_when_it_is_another_reason(
    tmp_path: Path, federated_database: str, cluster: Cluster
) -> None:
    with cluster.connect() as connection:
        connection.execute(f"ALTER ROLE heliosdb_daemon PASSWORD '{PASSWORD}'".encode())
    own = create_cluster(free_port())
    try:
        own.stop()
        with make_world(cluster, tmp_path, federated_database) as world:
            right = cluster.dsn(federated_database, user="heliosdb_daemon", tcp=True)
            wrong = world.start_coordinator(database=right.replace(PASSWORD, "a-wrong-secret"))
            elsewhere = world.start_coordinator(database=right.replace(federated_database, "not_there"))
            away = world.start_coordinator(database=own.dsn(user="heliosdb_daemon", tcp=True))
            await wrong.said("the catalog is out of reach: 28P01 invalid_password; Give the right password")
            await elsewhere.said("the catalog is out of reach: 3D000 invalid_catalog_name")
            await away.said("the catalog is out of reach: no answer from the server; Start the server")
            for one, code in ((wrong, "28P01"), (elsewhere, "3D000"), (away, "unreachable")):
                told = json.loads(one.ready.read_text())
                assert (told["state"], told["code"]) == ("waiting", code)
                assert "secret" not in one.log.read_text() + json.dumps(told)

            own.start()
            await away.said("the catalog is out of reach: 28P01 invalid_password")
            assert away.log.read_text().count("no answer from the server") == 1
    finally:
        remove_cluster(own)


async def test_a_role_without_the_membership_is_told_so(world: World) -> None:
    coordinator = world.start_coordinator(database=world.cluster.dsn(world.database, user="a_nobody"))

    await coordinator.said("not a member of federated_daemon")

    assert coordinator.process.poll() is None


async def test_only_one_of_two_coordinators_leads(world: World) -> None:
    first = world.start_coordinator()
    await first.said("leading")

    second = world.start_coordinator()
    await second.said("standing by")
    first.kill()

    await second.said("leading: epoch=2")


async def test_a_stranger_who_holds_the_leaders_lock_is_named(world: World) -> None:
    with connected(world.cluster.dsn(world.database, user="a_nobody"), application_name="test") as stranger:
        assert try_lead(stranger)
        coordinator = world.start_coordinator()

        await coordinator.said('standing by: role "a_nobody", which is not a member of federated_daemon')

    await coordinator.said("leading: epoch=1")


async def test_a_leader_that_was_stopped_and_continued_commits_nothing_more(world: World) -> None:
    await start_run(world, rounds=3)
    old = world.start_coordinator(faults="coordinator.round.opened:3=stop")
    await world.reached("EXISTS (SELECT FROM federated.round WHERE round_number = 2)")

    new = world.start_coordinator()
    await new.said("standing by")
    drop_leader(world)
    await new.said("leading: epoch=2")
    old.resume()
    run = await world.finished()

    assert run["status"] == "completed", run
    await old.said("standing by")
    events = world.query("SELECT epoch, kind, round_number FROM federated.event ORDER BY event_id")
    closed = [(one["epoch"], one["round_number"]) for one in events if one["kind"] == "round.closed"]
    assert closed == [(1, 0), (1, 1), (2, 2), (2, 3)]
    assert [one["epoch"] for one in events if one["kind"] == "version.published"] == [2]
    assert sorted(one["epoch"] for one in events) == [one["epoch"] for one in events]


def test_an_epoch_that_has_passed_writes_nothing(world: World) -> None:
    conninfo = world.cluster.dsn(world.database, user="heliosdb_daemon")
    with (
        connected(conninfo, application_name="old") as old,
        connected(conninfo, application_name="new") as new,
    ):
        epoch = take_lease(old, "old")
        take_lease(new, "new")

        with pytest.raises(FederatedError) as caught, fenced(old, epoch):
            old.raw.execute("INSERT INTO federated.event (epoch, kind) VALUES (0, 'never')")

    assert caught.value.code is ErrorCode.FENCED
    assert world.query("SELECT kind FROM federated.event") == []


async def test_a_coordinator_outlives_a_restart_of_the_server(tmp_path: Path) -> None:
    cluster = create_cluster(free_port())
    try:
        with cluster.connect() as connection:
            connection.execute("CREATE EXTENSION plpython3u")
            connection.execute("CREATE EXTENSION heliosdb_federated_learning")
            connection.execute("CREATE ROLE heliosdb_daemon LOGIN IN ROLE federated_daemon")
        with make_world(cluster, tmp_path, "postgres") as world:
            coordinator = world.start_coordinator()
            await coordinator.said("leading: epoch=1")

            cluster.control("restart", "-m", "fast")

            await coordinator.said("leading: epoch=2")
    finally:
        remove_cluster(cluster)
