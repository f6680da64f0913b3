"""Subject orders between real processes: every node is asked, does it once, and signs what it did."""

from __future__ import annotations

from heliosdb.transport.verification import find_statement_signer
from tests.integration.coordinator.orders_support import (
    answers,
    ended,
    erase,
    found_federation,
    keyed,
)
from tests.integration.coordinator.support import World


async def test_every_node_is_asked_to_erase_and_signs_what_it_did(world: World) -> None:
    sites = await found_federation(world, "east", "west")
    with world.cluster.connect(sites[1].database) as connection:
        connection.execute("DELETE FROM patient WHERE patient_id = 42")
    world.start_coordinator()
    await keyed(world)

    erase(world, "42")
    await ended(world)

    east, west = answers(world)
    assert (east["node_name"], east["node_state"], east["outcome"]) == ("east", "answered", "suppressed")
    assert (west["node_name"], west["node_state"], west["outcome"]) == ("west", "answered", "not held")
    assert [one["rows"] for one in east["statement"]["datasets"]] == [1]
    [order] = world.query("SELECT * FROM federated.subject_order")
    assert (order["state"], order["sealed"]) == ("answered", None)
    for row in world.query("SELECT * FROM federated.order_answer"):
        certificate = (world.federation.directory / f"{row['node_name']}.pem").read_bytes()
        statement, signature = bytes(row["statement"]), bytes(row["signature"])
        assert find_statement_signer([certificate], statement, signature) == certificate
