"""Erasure, whole: subjects go, versions that learned from them are trained anew to the bits of a run without them."""

from __future__ import annotations

from typing import Any

from tests.integration.coordinator.orders_support import erase, found_federation, keyed
from tests.integration.coordinator.support import World

SITES = ("east", "north", "west")


def status(world: World) -> list[dict[str, Any]]:
    """Return what federated_erasure_status shows."""
    return world.query("SELECT * FROM federated_erasure_status ORDER BY requested_at, request_id, node_name")


async def completed(world: World, count: int = 1) -> None:
    """Wait until so many requests are carried out."""
    await world.reached("SELECT count(*) >= %s FROM federated.erasure WHERE completed_at IS NOT NULL", count)


def versions(world: World) -> list[dict[str, Any]]:
    """Return the model's versions."""
    return world.query("SELECT * FROM federated_model_versions('risk')")


async def test_a_version_is_trained_anew_without_the_subject_and_the_former_retired(world: World) -> None:
    await found_federation(world, *SITES)
    world.start_coordinator()
    await keyed(world)
    world.execute("START FEDERATED TRAINING risk")
    assert (await world.finished())["status"] == "completed"

    erase(world, "42")
    await completed(world)

    first, second = versions(world)
    assert (first["is_current"], second["is_current"]) == (False, True)
    assert first["retired_at"] is not None
    assert first["parameters_sha256"] != second["parameters_sha256"]
    for one in status(world):
        assert (one["status"], one["exactness"]) == ("completed", "exact: trained anew from round 0")
        assert (one["node_state"], one["rows"]) == ("suppressed", 1)
        assert one["versions"] == ["risk@1"]
        assert one["sha256_before"] == [first["parameters_sha256"]]
        assert one["sha256_after"] == [second["parameters_sha256"]]
