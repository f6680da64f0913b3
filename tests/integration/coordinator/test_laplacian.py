"""Runs under Laplace noise: what leaves a node has it, and both ledgers count it as that."""

from __future__ import annotations

import psycopg
import pytest

from heliosdb.domain.privacy import Mechanism
from heliosdb.privacy.accountant import Accountant
from tests.integration.coordinator.support import World, create_model, create_workspace

pytestmark = pytest.mark.xdist_group("coordinator_privacy")

LAPLACIAN = {"privacy_budget": 8.0, "noise_mechanism": "laplacian"}


async def start(world: World, *, rows: int = 600, **options: object) -> None:
    """Two nodes in a workspace under Laplace noise, and a run queued."""
    create_workspace(world, min_nodes=2, **LAPLACIAN)
    for number, name in enumerate(("north", "south")):
        world.register(await world.add_site(name, rows=rows, seed=0.1 * (number + 1)))
    create_model(world, **options)
    world.execute("START FEDERATED TRAINING risk")


async def test_a_run_is_charged_as_laplace_releases_at_coordinator_and_nodes(world: World) -> None:
    await start(world, rounds=3)
    world.start_coordinator()

    run = await world.finished()

    assert run["status"] == "completed", run
    lines = world.query("SELECT * FROM federated.ledger WHERE node_name = 'north' ORDER BY ledger_id")
    assert {one["noise"] for one in lines} == {"laplacian"}
    assert {one["state"] for one in lines} == {"charged"}
    made = [Mechanism(c["noise_multiplier"], c["sampling_rate"], c["steps"], "laplacian") for c in lines]
    assert lines[-1]["epsilon_tight"] == pytest.approx(Accountant(1e-5).epsilon(*made))
    assert 7.8 < lines[-1]["epsilon_tight"] <= 8.0
    for site in world.sites:
        with world.cluster.connect(site.database) as connection:
            spent = connection.execute(
                "SELECT noise, epsilon_basic, epsilon_tight FROM federated.spending ORDER BY spending_id DESC LIMIT 1"
            ).fetchone()
        assert spent is not None
        assert spent[0] == "laplacian"
        last = world.query(
            "SELECT epsilon_basic, epsilon_tight FROM federated.ledger WHERE node_name = %s ORDER BY ledger_id DESC",
            site.name,
        )[0]
        assert spent[1:] == pytest.approx((last["epsilon_basic"], last["epsilon_tight"]))
    signed = world.query("SELECT DISTINCT noise FROM federated.node_spending")
    assert signed == [{"noise": "laplacian"}]
    shown = world.query("SELECT DISTINCT noise_mechanism FROM federated_privacy_history")
    assert shown == [{"noise_mechanism": "laplacian"}]


async def test_the_plan_of_such_a_run_says_how_the_noise_is_distributed(world: World) -> None:
    create_workspace(world, min_nodes=2, **LAPLACIAN)
    create_model(world)

    told = world.query(
        "SELECT * FROM federated.explain('EXPLAIN (FORMAT JSON) START FEDERATED TRAINING risk')"
    )

    assert '"Noise": "laplacian"' in str(told).replace("'", '"'), told


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"algorithm": "poisson_regression"}, "poisson_regression"),
        ({"optimizer": "newton"}, "newton"),
    ],
)
async def test_what_has_no_form_under_laplace_noise_is_refused_at_start(
    world: World, options: dict[str, object], said: str
) -> None:
    create_workspace(world, min_nodes=2, **LAPLACIAN)
    create_model(world, **options)

    with pytest.raises(psycopg.errors.FeatureNotSupported, match=said):
        world.execute("START FEDERATED TRAINING risk")
