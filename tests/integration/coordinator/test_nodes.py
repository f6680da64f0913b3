"""Meeting nodes: pending becomes active or failed with a reason, and what comes back is taken back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from psycopg import errors

from federated_sql.option_table import OPTIONS
from federated_sql.options import OptionKind
from heliosdb.catalog import nodes as node_rows
from heliosdb.catalog.lease import become_daemon
from heliosdb.catalog.psycopg_connection import connected
from heliosdb.domain.errors import FederatedError
from tests.integration.coordinator.support import (
    WORKSPACE,
    Site,
    World,
    create_model,
    create_workspace,
    filled,
)
from tests.support.ports import free_port


def node(world: World, name: str) -> dict[str, Any]:
    return world.query(
        "SELECT status::text, failure_reason, certificate, certificate_expires, last_seen "
        "FROM federated.node WHERE name = %s",
        name,
    )[0]


async def has_status(world: World, name: str, status: str) -> dict[str, Any]:
    await world.reached(
        "EXISTS (SELECT FROM federated.node WHERE name = %s AND status::text = %s)", name, status
    )
    return node(world, name)


def register(world: World, name: str, **options: object) -> None:
    given = ", ".join(f"{key} = '{value}'" for key, value in options.items())
    world.execute(f"REGISTER FEDERATED NODE '{name}' IN WORKSPACE {WORKSPACE} WITH ({given})")


@pytest.fixture
def workspace(world: World) -> World:
    """A workspace, and a coordinator that leads."""
    create_workspace(world, min_nodes=2)
    world.start_coordinator(ca_bundle=str(world.federation.directory / "ca.pem"))
    (world.federation.directory / "ca.pem").write_bytes(world.federation.authority.certificate_pem)
    return world


async def test_a_registered_node_becomes_active_with_its_certificate_pinned(workspace: World) -> None:
    site = await workspace.add_site("north")
    workspace.register(site)

    found = await has_status(workspace, "north", "active")

    pem = (workspace.federation.directory / "north.pem").read_text()
    assert found["certificate"].split() == pem.split()
    assert found["certificate_expires"] > datetime.now(UTC)
    assert found["last_seen"] > datetime.now(UTC) - timedelta(minutes=1)
    assert found["failure_reason"] is None


async def test_the_lower_of_a_nodes_own_limits_and_a_registrations_is_shown(workspace: World) -> None:
    site = Site("north", filled(workspace.cluster, rows=20, seed=0.1))
    workspace.sites.append(site)
    await workspace.start_site(site, max_cpu_cores=2, max_bandwidth_mbps=50)
    certificate = workspace.federation.directory / "north.pem"
    asked = "max_memory_gb = 0.5, max_cpu_cores = 4, max_bandwidth_mbps = 100"
    workspace.execute(
        f"REGISTER FEDERATED NODE 'north' IN WORKSPACE {WORKSPACE} WITH "
        f"(endpoint = 'https://localhost:{site.port}', certificate = '{certificate}', {asked})"
    )
    await has_status(workspace, "north", "active")

    shown = workspace.query(
        "SELECT max_memory_gb, max_cpu_cores, max_bandwidth_mbps, task_limit_seconds"
        " FROM federated_node_diagnostics"
    )

    assert shown == [
        {"max_memory_gb": 0.5, "max_cpu_cores": 2, "max_bandwidth_mbps": 50.0, "task_limit_seconds": 3600.0}
    ]
    with pytest.raises(errors.InvalidParameterValue, match="max_memory_gb"):
        workspace.execute(f"ALTER FEDERATED NODE 'north' IN WORKSPACE {WORKSPACE} SET (max_memory_gb = 0.1)")

    workspace.execute(f"ALTER FEDERATED WORKSPACE {WORKSPACE} SET (privacy_budget = 1)")
    under_budget = workspace.query("SELECT max_memory_gb, max_cpu_cores FROM federated_node_diagnostics")
    assert under_budget == [{"max_memory_gb": 8.0, "max_cpu_cores": 2}]


async def test_a_certificate_may_be_given_as_text_or_left_to_the_first_contact(workspace: World) -> None:
    north, south = await workspace.add_site("north"), await workspace.add_site("south")
    pem = (workspace.federation.directory / "north.pem").read_text()
    register(workspace, "north", endpoint=f"https://localhost:{north.port}", certificate=pem)
    register(workspace, "south", endpoint=f"https://localhost:{south.port}")

    assert (await has_status(workspace, "north", "active"))["certificate"].split() == pem.split()
    first_seen = (await has_status(workspace, "south", "active"))["certificate"]
    assert first_seen.split() == (workspace.federation.directory / "south.pem").read_text().split()


async def test_a_file_that_is_no_certificate_fails_the_node_without_a_word_of_its_content(
    workspace: World, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hunter2")
    link = tmp_path / "link.pem"
    link.symlink_to(secret)
    for name, path in (
        ("text", secret),
        ("link", link),
        ("directory", tmp_path),
        ("none", tmp_path / "none"),
    ):
        register(workspace, name, endpoint=f"https://{name}:1", certificate=path)

        reason = (await has_status(workspace, name, "failed"))["failure_reason"]

        assert str(path) in reason
        assert "hunter2" not in reason


async def test_another_certificate_than_the_pinned_one_is_refused(workspace: World) -> None:
    site = await workspace.add_site("north")
    workspace.federation.write("other", workspace.federation.authority.issue("other", ["localhost"]))
    other = workspace.federation.directory / "other.pem"
    register(workspace, "north", endpoint=f"https://localhost:{site.port}", certificate=other)

    assert "pinned" in (await has_status(workspace, "north", "failed"))["failure_reason"]


async def test_a_node_that_is_away_fails_and_becomes_active_by_itself_when_it_is_there(
    workspace: World,
) -> None:
    site = await workspace.add_site("north")
    workspace.register(site)
    await has_status(workspace, "north", "active")

    site.kill()
    assert (await has_status(workspace, "north", "failed"))["failure_reason"]
    await workspace.start_site(site)

    assert (await has_status(workspace, "north", "active"))["failure_reason"] is None


async def test_an_altered_node_is_met_anew(workspace: World) -> None:
    site = await workspace.add_site("north")
    certificate = workspace.federation.directory / "north.pem"
    register(workspace, "north", endpoint=f"https://localhost:{free_port()}", certificate=certificate)
    assert "refused" in (await has_status(workspace, "north", "failed"))["failure_reason"]

    workspace.execute(
        f"ALTER FEDERATED NODE 'north' IN WORKSPACE {WORKSPACE} SET (endpoint = 'https://localhost:{site.port}')"
    )

    await has_status(workspace, "north", "active")


async def test_an_unregistered_node_is_left_alone(workspace: World) -> None:
    site = await workspace.add_site("north")
    workspace.register(site)
    await has_status(workspace, "north", "active")

    workspace.execute(f"UNREGISTER FEDERATED NODE 'north' FROM WORKSPACE {WORKSPACE}")
    workspace.register(await workspace.add_site("south"))

    await has_status(workspace, "south", "active")
    workspace.check_processes()


async def test_the_audit_log_is_not_flooded_by_heartbeats(workspace: World) -> None:
    workspace.register(await workspace.add_site("north"))
    found = await has_status(workspace, "north", "active")

    await workspace.reached(
        "EXISTS (SELECT FROM federated.node WHERE name = 'north' AND last_seen > %s)", found["last_seen"]
    )

    changes = workspace.query(
        "SELECT acting_role FROM federated.audit WHERE object_kind = 'node' AND object_name = 'north' AND action = 'update'"
    )
    assert changes == [{"acting_role": "federated_daemon"}]


async def test_a_node_under_a_second_name_is_refused(workspace: World) -> None:
    site = await workspace.add_site("north")
    workspace.register(site)
    await has_status(workspace, "north", "active")
    certificate = workspace.federation.directory / "north.pem"
    register(workspace, "again", endpoint=f"https://127.0.0.1:{site.port}", certificate=certificate)

    reason = (await has_status(workspace, "again", "failed"))["failure_reason"]

    assert reason == 'its certificate is registered as node "north" already'


def test_the_catalog_itself_refuses_a_second_name(world: World) -> None:
    create_workspace(world)
    for name in ("a", "b"):
        register(world, name, endpoint=f"https://{name}:1")
    conninfo = world.cluster.dsn(world.database, user="heliosdb_daemon")
    with connected(conninfo, application_name="test") as connection:
        become_daemon(connection)
        first, second = node_rows.list_nodes(connection)
        node_rows.activate_node(connection, first, "PEM", datetime.now(UTC), first.endpoint)

        with pytest.raises(FederatedError, match='its certificate is registered as node "a" already'):
            node_rows.activate_node(connection, second, "PEM", datetime.now(UTC), second.endpoint)


def test_how_nodes_are_held_on_to_is_what_the_workspace_says_and_else_the_options_defaults(
    world: World,
) -> None:
    create_workspace(world)
    register(world, "a", endpoint="https://a:1", backup_endpoint="https://a:2")
    conninfo = world.cluster.dsn(world.database, user="heliosdb_daemon")

    def held() -> node_rows.NodeRecord:
        with connected(conninfo, application_name="test") as connection:
            become_daemon(connection)
            return node_rows.list_nodes(connection)[0]

    table = OPTIONS[OptionKind.WORKSPACE]
    names = ("keepalive_interval", "auto_reconnect", "reconnect_interval")
    assert held().link == node_rows.LinkPolicy(*(table[name].default for name in names))  # type: ignore[arg-type]
    assert held().endpoints == ("https://a:1", "https://a:2")
    world.execute(
        f"ALTER FEDERATED WORKSPACE {WORKSPACE} SET"
        " (keepalive_interval = 7, auto_reconnect = false, reconnect_interval = 90)"
    )
    assert held().link == node_rows.LinkPolicy(7, auto_reconnect=False, reconnect_interval=90)


async def test_a_node_outside_the_data_residency_fails(world: World) -> None:
    create_workspace(world)
    world.start_coordinator()
    world.register(await world.add_site("north"))
    await has_status(world, "north", "active")

    # As a DBA can past the statements, which would refuse it.
    world.query('UPDATE federated.workspace SET options = options || \'{"data_residency": "EU"}\'')

    reason = (await has_status(world, "north", "failed"))["failure_reason"]
    assert reason == "its data_residency is not stated, outside the workspace's EU"
    world.query("UPDATE federated.workspace SET options = options - 'data_residency'")
    await has_status(world, "north", "active")


async def test_a_node_whose_own_word_is_another_place_fails_at_its_next_connection(world: World) -> None:
    create_workspace(world)
    world.query(
        """UPDATE federated.workspace SET options = options || '{"data_residency": "EU", "compliance_mode": "GDPR"}'"""
    )
    world.start_coordinator()
    site = await world.add_site("north")
    world.execute(
        f"REGISTER FEDERATED NODE 'north' IN WORKSPACE {WORKSPACE} WITH (endpoint = 'https://localhost:{site.port}',"
        f" certificate = '{world.federation.directory / 'north.pem'}', data_residency = 'DE')"
    )
    assert site.process is not None
    reason = (await has_status(world, "north", "failed"))["failure_reason"]
    assert (
        reason == "it does not say itself that its data lie in EU: data_residency is missing in its settings"
    )
    for said, status, why in (
        ("DE", "active", None),
        ("FR", "failed", "its own data_residency is FR, and it is registered in DE"),
        ("US", "failed", "its own data_residency is US, outside the workspace's EU"),
    ):
        site.process.kill()
        await world.start_site(site, data_residency=said)
        # The registration is the same: the node is asked again, and its word is.
        world.query("UPDATE federated.node SET options = options")
        found = await has_status(world, "north", status)
        assert found["failure_reason"] == why


async def test_a_coordinators_new_certificate_is_shown_without_a_restart(world: World) -> None:
    create_workspace(world)
    coordinator = world.start_coordinator()
    site = await world.add_site("north")
    world.register(site)
    await has_status(world, "north", "active")

    # The node, which pins the coordinator's file, knows only the new certificate from here on.
    world.federation.write("coordinator", world.federation.authority.issue("coordinator", ["localhost"]))
    await coordinator.said("identity loaded anew")
    site.kill()
    await has_status(world, "north", "failed")
    await world.start_site(site)

    await has_status(world, "north", "active")


async def test_both_sides_warn_of_a_certificate_that_ends_soon(world: World, tmp_path: Path) -> None:
    create_workspace(world)
    soon = world.federation.authority.issue("north", ["localhost", "127.0.0.1"], days=5)
    world.federation.write("north", soon)
    coordinator = world.start_coordinator()
    site = await world.add_site("north")
    site.kill()
    await world.start_site(site, log=tmp_path / "node.log")
    world.register(site)

    await coordinator.said(f'the certificate of node "north" of workspace "{WORKSPACE}" expires in ')
    said = (tmp_path / "node.log").read_text()
    assert f"the certificate of this node, on port {site.port}, expires in " in said
    assert "the certificate of the coordinator" not in said


async def test_a_run_that_waits_sees_that_a_nodes_dba_shares_meanwhile(world: World) -> None:
    create_workspace(world, min_nodes=2)
    north = await world.add_site("north")
    south = await world.add_site("south", shares=False)
    for site in (north, south):
        world.register(site)
    create_model(world, rounds=1)
    world.execute("START FEDERATED TRAINING risk")
    world.start_coordinator()
    await world.reached(
        "SELECT count(*) = 1 FROM federated.run WHERE message LIKE %s", "waiting for nodes: 1 of 2%"
    )
    with world.cluster.connect(south.database) as dba:
        dba.execute(
            "CALL federated.execute(%s)",
            [
                "CREATE FEDERATED DATASET patients FOR TABLE patient (age, pressure, outcome) "
                f"IN WORKSPACE {WORKSPACE}"
            ],
        )
    assert (await world.finished())["status"] == "completed"
