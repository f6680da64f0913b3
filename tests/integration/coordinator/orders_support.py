"""What tests of subject orders have in common."""

from __future__ import annotations

from typing import Any

from tests.integration.coordinator.support import (
    MODEL,
    WORKSPACE,
    Site,
    World,
    create_model,
    create_workspace,
)


def share_by_patient(world: World, site: Site, *, name: str = "patients", options: str = "") -> None:
    """Share a site's table with its patients as data subjects."""
    with world.cluster.connect(site.database) as connection:
        connection.execute(
            "CALL federated.execute(%s)",
            [
                f"CREATE FEDERATED DATASET {name} FOR TABLE patient (age, pressure, outcome) IN WORKSPACE {WORKSPACE}"
                f" WITH (subject = 'patient_id'{options})"
            ],
        )


async def found_federation(world: World, *names: str, rows: int = 60, options: str = "") -> list[Site]:
    """A workspace with a model, and sites that share their patients; no coordinator."""
    create_workspace(world)
    create_model(world)
    sites = []
    for number, name in enumerate(names):
        site = await world.add_site(name, rows=rows, seed=0.1 * (number + 1), shares=False)
        share_by_patient(world, site, options=options)
        world.register(site)
        sites.append(site)
    return sites


def erase(world: World, *subjects: str) -> None:
    """Type DELETE FROM FEDERATED TRAINING."""
    named = ", ".join(f"'{subject}'" for subject in subjects)
    world.execute(f"DELETE FROM FEDERATED TRAINING {MODEL} WHERE data_subject_id IN ({named})")


async def ended(world: World, count: int = 1) -> None:
    """Wait until so many orders are over."""
    await world.reached(
        "SELECT count(*) >= %s FROM federated.subject_order WHERE ended_at IS NOT NULL", count
    )


async def keyed(world: World) -> None:
    """Wait until a coordinator has published its key."""
    await world.reached("EXISTS (SELECT FROM federated.coordinator_key)")


def answers(world: World) -> list[dict[str, Any]]:
    """Return what federated_orders shows, in order of request and node."""
    return world.query("SELECT * FROM federated_orders ORDER BY requested_at, order_id, node_name")
