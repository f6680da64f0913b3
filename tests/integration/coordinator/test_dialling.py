"""Nodes that dial, as their registration says: when they count as there, and why they do not."""

from __future__ import annotations

import json
import socket
from pathlib import Path

from tests.integration.coordinator.support import WORKSPACE, World, create_workspace, filled
from tests.integration.coordinator.support import Site as NodeSite
from tests.support.federation import until
from tests.support.ports import free_port

ABSENT = "EXISTS (SELECT FROM federated_node_diagnostics WHERE failure_reason LIKE %s)"
ACTIVE = "EXISTS (SELECT FROM federated_node_status WHERE status = 'active')"


async def test_a_node_that_dials_counts_as_there_while_it_is_registered_and_connected(
    world: World, tmp_path: Path
) -> None:
    port, ready = free_port(), tmp_path / "node.ready"
    create_workspace(world, min_nodes=1, communication_protocol="https")
    site = NodeSite("east", filled(world.cluster, rows=50, seed=0.1))
    world.sites.append(site)
    await world.start_site(site, dial=f"https://localhost:{port}", ready_file=str(ready))
    world.register(site)

    deaf = world.start_coordinator()
    await world.reached(ABSENT, "%dial the coordinator, and the coordinator does not listen%")
    deaf.kill()

    coordinator = world.start_coordinator(listen_host="127.0.0.1", listen_port=port)
    await world.reached(ACTIVE)
    await until(lambda: '"state": "ready"' in ready.read_text())

    site.kill()
    await world.reached(ABSENT, "the node has not dialled in")
    await world.start_site(site, dial=f"https://localhost:{port}", ready_file=str(ready))
    await world.reached(ACTIVE)

    world.execute(f"UNREGISTER FEDERATED NODE '{site.name}' FROM WORKSPACE {WORKSPACE}")
    await until(lambda: "REGISTER FEDERATED NODE" in ready.read_text())
    assert "Traceback" not in coordinator.log.read_text()


async def test_a_node_that_is_not_to_come_back_by_itself_is_let_in_once_somebody_asks(
    world: World, tmp_path: Path
) -> None:
    port, ready = free_port(), tmp_path / "node.ready"
    create_workspace(world, min_nodes=1, communication_protocol="https", auto_reconnect=False)
    site = NodeSite("east", filled(world.cluster, rows=50, seed=0.1))
    world.sites.append(site)
    world.start_coordinator(listen_host="127.0.0.1", listen_port=port)
    await world.start_site(site, dial=f"https://localhost:{port}", ready_file=str(ready))
    world.register(site)
    await world.reached(ACTIVE)

    site.kill()
    await world.reached(ABSENT, "the node has not dialled in%")
    await world.start_site(site, dial=f"https://localhost:{port}", ready_file=str(ready))
    await until(lambda: "REGISTER FEDERATED NODE" in ready.read_text())

    world.execute(f"ALTER FEDERATED NODE '{site.name}' IN WORKSPACE {WORKSPACE} SET (contact = 'ann')")
    await world.reached(ACTIVE)


async def test_a_coordinator_that_cannot_listen_says_so_and_leads_once_it_can(world: World) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        coordinator = world.start_coordinator(listen_host="127.0.0.1", listen_port=port)
        await coordinator.said(f"not leading: cannot listen on 127.0.0.1:{port}")
        assert world.query("SELECT FROM federated.event WHERE kind = 'lease.taken'") == []
    await coordinator.said("leading: epoch=1")
    assert json.loads(coordinator.ready.read_text())["state"] == "ready"
