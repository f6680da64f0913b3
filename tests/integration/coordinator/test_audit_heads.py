"""The audit log's heads in a whole federation: signed by the coordinator, cosigned by the nodes."""

from __future__ import annotations

from tests.integration.coordinator.support import WORKSPACE, World, create_model, create_workspace

COSIGNED = (
    "SELECT count(*) = %s FROM federated.cosignature AS c JOIN federated.audit_head AS h"
    " ON h.workspace = c.workspace AND h.origin = c.origin AND h.chain_position = c.tree_size"
)


async def test_a_head_is_signed_and_cosigned_by_each_node(world: World) -> None:
    create_workspace(world)
    create_model(world)
    for name in ("north", "south"):
        world.register(await world.add_site(name))
    coordinator = world.start_coordinator()
    await world.reached(COSIGNED, 2)
    print(coordinator.log.read_text())
    [row] = world.query("SELECT * FROM federated_audit_verify(%s)", WORKSPACE)
    print(row)
    assert row["is_intact"]
    assert row["signed_entries"] == row["witnessed_entries"] == row["entries"]
