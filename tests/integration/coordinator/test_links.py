"""Links that are lost and come back: lines that are cut or go deaf, nodes that are killed, a second address."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.integration.coordinator.support import WORKSPACE, Site, World, create_model, create_workspace
from tests.support.federation import until
from tests.support.line import Line, opened

LONG: dict[str, object] = {"rounds": 10_000, "early_stopping_rounds": 1_000, "convergence_threshold": 0}
"""A run that ends when it is stopped."""

STATUS = "EXISTS (SELECT FROM federated.node WHERE name = %s AND status::text = %s)"
SEEN_LATER = (
    "EXISTS (SELECT FROM federated.node AS a, federated.node AS b WHERE a.name = 'south' AND b.name = 'north'"
    " AND a.last_seen > b.last_seen + interval '4 seconds')"
)
CLOSED = "(SELECT count(*) FROM federated.round WHERE status = 'closed') >= %s"


def register(world: World, site: Site, port: int, *, backup: int | None = None) -> None:
    """Register a node at the port of a line to it."""
    certificate = world.federation.directory / f"{site.name}.pem"
    other = "" if backup is None else f", backup_endpoint = 'https://localhost:{backup}'"
    world.execute(
        f"REGISTER FEDERATED NODE '{site.name}' IN WORKSPACE {WORKSPACE} WITH "
        f"(endpoint = 'https://localhost:{port}', certificate = '{certificate}'{other})"
    )


def diagnostics(world: World, name: str) -> dict[str, Any]:
    return world.query("SELECT * FROM federated_node_diagnostics WHERE node_name = %s", name)[0]


async def more_rounds(world: World, count: int = 3) -> None:
    """Wait for further rounds to be closed."""
    found = world.query("SELECT count(*) AS closed FROM federated.round WHERE status = 'closed'")
    await world.reached(CLOSED, found[0]["closed"] + count)


def outcomes(world: World) -> set[str]:
    rows = world.query(
        "SELECT DISTINCT outcome::text FROM federated.participation WHERE outcome <> 'pending'"
    )
    return {row["outcome"] for row in rows}


async def test_a_node_is_called_at_its_backup_endpoint_while_it_cannot_be_reached_at_the_first(
    world: World,
) -> None:
    create_workspace(world, min_nodes=2, reconnect_interval=1)
    # By its own setting it would look for the endpoint within the hour.
    coordinator = world.start_coordinator(reconnect_interval=3_000.0)
    north, south = await world.add_site("north"), await world.add_site("south")
    async with opened(north.port) as first, opened(north.port) as second:
        register(world, north, first.port, backup=second.port)
        world.register(south)
        await world.reached(STATUS, "north", "active")
        assert diagnostics(world, "north")["endpoint_in_use"] == f"https://localhost:{first.port}"
        assert second.accepted == 0
        create_model(world, **LONG)
        world.execute("START FEDERATED TRAINING risk")
        await more_rounds(world)

        await first.close()
        in_use = "EXISTS (SELECT FROM federated.node WHERE name = 'north' AND endpoint_in_use = %s AND status = 'active')"
        await world.reached(in_use, f"https://localhost:{second.port}")
        await more_rounds(world)
        assert diagnostics(world, "north")["endpoint_in_use"] == f"https://localhost:{second.port}"

        failed = coordinator.log.read_text().count("a call to node north failed")
        await first.open()
        await world.reached(in_use, f"https://localhost:{first.port}")
        await more_rounds(world)
        assert coordinator.log.read_text().count("a call to node north failed") == failed
        assert outcomes(world) == {"received"}


async def test_where_neither_address_answers_both_are_named(world: World) -> None:
    create_workspace(world)
    world.start_coordinator()
    north = await world.add_site("north")
    async with opened(north.port) as first, opened(north.port) as second:
        await first.close()
        await second.close()
        register(world, north, first.port, backup=second.port)
        await world.reached(STATUS, "north", "failed")
        reason = diagnostics(world, "north")["failure_reason"]
    assert f"https://localhost:{first.port} refused" in reason
    assert f"at its backup_endpoint: connection to https://localhost:{second.port} refused" in reason


async def test_a_lost_node_is_left_alone_where_the_workspace_says_so_until_somebody_asks(
    world: World,
) -> None:
    create_workspace(world, auto_reconnect=False, reconnect_interval=1)
    coordinator = world.start_coordinator()
    north, south = await world.add_site("north"), await world.add_site("south")
    async with opened(north.port) as line:
        register(world, north, line.port)
        world.register(south)
        await world.reached(STATUS, "north", "active")
        await world.reached(STATUS, "south", "active")

        await lost(world, line)
        reason = diagnostics(world, "north")["failure_reason"]
        assert reason.endswith(
            "auto_reconnect is false: it is dialled again once ALTER FEDERATED NODE asks for it"
        )
        accepted = line.accepted
        await world.reached(SEEN_LATER)
        assert line.accepted == accepted

        coordinator.kill()
        world.start_coordinator()
        found = world.query("SELECT last_seen FROM federated.node WHERE name = 'south'")[0]["last_seen"]
        await world.reached("(SELECT last_seen > %s FROM federated.node WHERE name = 'south')", found)
        assert line.accepted == accepted

        world.execute(f"ALTER FEDERATED NODE 'north' IN WORKSPACE {WORKSPACE} SET (contact = 'ann@north')")
        await world.reached(STATUS, "north", "active")
        await lost(world, line)

        world.execute(f"ALTER FEDERATED WORKSPACE {WORKSPACE} SET (auto_reconnect = true)")
        await world.reached(STATUS, "north", "active")
        assert diagnostics(world, "north")["failure_reason"] is None


async def lost(world: World, line: Line) -> None:
    """Have the node lost, and its line there again."""
    await line.close()
    await world.reached(STATUS, "north", "failed")
    await line.open()


async def test_a_connection_that_went_silent_is_replaced_in_the_middle_of_a_run(world: World) -> None:
    create_workspace(world, min_nodes=2, keepalive_interval=1)
    # Heartbeats, which would notice it too, are far apart.
    world.start_coordinator(heartbeat_interval=3_000.0)
    north, south = await world.add_site("north"), await world.add_site("south")
    async with opened(north.port) as line:
        register(world, north, line.port)
        world.register(south)
        create_model(world, **LONG)
        world.execute("START FEDERATED TRAINING risk")
        await more_rounds(world)
        for _ in range(2):
            assert line.deafen() >= 1
            await more_rounds(world)
        slowest = world.query("SELECT max(duration_seconds) AS seconds FROM federated.participation")
    assert outcomes(world) == {"received"}
    # By the default interval it would be found out after 40 seconds.
    assert slowest[0]["seconds"] < 38.0


async def test_a_node_and_its_link_bounced_five_times_rejoin_without_a_restart_of_anything_else(
    world: World,
) -> None:
    create_workspace(world, min_nodes=2, reconnect_interval=1)
    coordinator = world.start_coordinator()
    north, south = await world.add_site("north"), await world.add_site("south")
    async with opened(north.port) as line:
        register(world, north, line.port)
        world.register(south)
        create_model(world, **LONG)
        world.execute("START FEDERATED TRAINING risk")
        await more_rounds(world)
        before = open_files(coordinator.process.pid)
        for _ in range(5):
            await bounced(world, north, line)
        # What is left of one connection a bounce would be ten.
        await until(lambda: open_files(coordinator.process.pid) < before + 5)
        world.execute("STOP FEDERATED TRAINING risk")
        assert (await world.finished())["status"] == "stopped"
    assert outcomes(world) == {"received"}


async def bounced(world: World, north: Site, line: Line) -> None:
    """Cut the link and wait for rounds, then end the node as a power cut would, and wait for rounds again."""
    accepted = line.accepted
    line.cut()
    await more_rounds(world, 2)
    assert line.accepted > accepted
    north.kill()
    await world.reached(STATUS, "north", "failed")
    await world.start_site(north)
    await world.reached(STATUS, "north", "active")
    await more_rounds(world, 2)


def open_files(pid: int) -> int:
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
