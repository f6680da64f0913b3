"""SIGKILL between reserve, charge, release and what is sent of it: no ledger is below what left a node.

A campaign has fifty kills at each point, at changing places of its runs (`make ledgers`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from heliosdb.domain.privacy import Mechanism
from heliosdb.privacy.accountant import Accountant
from tests.faults.campaign import Places, kill_coordinators, kill_nodes
from tests.faults.matrix import Kind
from tests.faults.support import start_run
from tests.faults.test_matrix import DONE, Rehearsal, demand_paid, demand_the_same, rehearse
from tests.integration.coordinator.support import make_world
from tests.support.cluster import Cluster

ROUNDS = 6
KIND = Kind({"rounds": ROUNDS}, {"privacy_budget": 8}, budget=True, rows=400)
SUMS = Kind(
    {"rounds": ROUNDS, "secure_aggregation": True, "batch_size": 100},
    {"privacy_budget": 8},
    budget=True,
    sums=True,
    rows=400,
)
FIRST = (3, 1, 2, 1, 5, 1, 1)
"""A run reaches each point at least seven times: round 0 and six of training."""

LEADS = [
    pytest.param(Places("coordinator.round.opened", FIRST, (1, 1, 2, 1, 1, 3)), id="reserved"),
    # Neither of two answers is kept before both are there: the next coordinator asks for them again.
    pytest.param(Places("coordinator.update.received", FIRST, (3, 3, 4, 3, 3, 5)), id="received"),
]
ANSWERS = [
    pytest.param(Places("node.charge.committed", FIRST, (1, 1, 2, 1, 1, 3)), id="charged"),
    pytest.param(Places("node.release.committed", FIRST, (1, 1, 2, 1, 1, 3)), id="released"),
]


@pytest.fixture(scope="module")
def rehearsal(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rehearsal]:
    """One federation for all kills."""
    database = cluster.create_database("federated_template")
    with make_world(cluster, tmp_path_factory.mktemp("ledgers"), database) as world:
        yield asyncio.run(rehearse(world, KIND))


@pytest.fixture(scope="module")
def summing(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rehearsal]:
    """One federation whose nodes share the noise of secure sums."""
    database = cluster.create_database("federated_template")
    with make_world(cluster, tmp_path_factory.mktemp("sums"), database) as world:
        yield asyncio.run(rehearse(world, SUMS))


@pytest.mark.parametrize("places", LEADS)
async def test_coordinators_that_are_killed_leave_ledgers_that_cover_what_was_sent(
    rehearsal: Rehearsal, places: Places
) -> None:
    await kill_coordinators(
        rehearsal,
        places,
        after_kill=lambda: demand_covered(rehearsal),
        after_run=lambda: demand_the_same_and_one_figure(rehearsal),
    )


@pytest.mark.parametrize("places", ANSWERS)
async def test_a_node_that_is_killed_has_paid_for_what_it_sent_once(
    rehearsal: Rehearsal, places: Places
) -> None:
    await kill_nodes(
        rehearsal,
        places,
        after_kill=lambda: demand_covered(rehearsal),
        after_run=lambda: demand_the_same_and_one_figure(rehearsal),
    )


async def test_three_rounds_and_a_crash_and_three_more_are_one_accountant_s_figure(
    rehearsal: Rehearsal,
) -> None:
    await demand_one_figure_after_a_crash(rehearsal)


async def test_it_is_so_of_secure_sums_whose_noise_is_shared(summing: Rehearsal) -> None:
    await demand_one_figure_after_a_crash(summing)

    for site in summing.world.sites:
        (lines,) = summing.world.query(
            "SELECT count(*) AS n, max(epsilon_tight) AS epsilon FROM federated.ledger WHERE node_name = %s",
            site.name,
        )
        with summing.world.cluster.connect(site.database) as connection:
            paid = connection.execute(
                "SELECT count(*), count(s.share), max(s.share) <= 1, max(epsilon_tight) FROM federated.spending"
                " JOIN federated.release AS r USING (release_id)"
                " LEFT JOIN federated.noise_share AS s USING (release_id) WHERE r.state = 'released'"
            ).fetchone()
        assert paid == (lines["n"], lines["n"], True, pytest.approx(lines["epsilon"]))


async def demand_one_figure_after_a_crash(rehearsal: Rehearsal) -> None:
    """Kill the coordinator once round 3 is closed, and let another one lead the run to its end."""
    start_run(rehearsal.world)

    # Round 0 is the first that is closed.
    await rehearsal.lead(faults="coordinator.round.closed:4=kill").died()
    closed = rehearsal.world.query(
        "SELECT max(round_number) AS n FROM federated.round WHERE status = 'closed'"
    )
    successor = rehearsal.lead()
    run = await rehearsal.world.finished()
    successor.kill()

    assert closed == [{"n": 3}]
    assert run["status"] in DONE, run
    demand_one_figure(rehearsal)


def demand_the_same_and_one_figure(rehearsal: Rehearsal) -> None:
    demand_the_same(rehearsal)
    demand_one_figure(rehearsal)


def demand_covered(rehearsal: Rehearsal) -> None:
    """In the middle of a run: whatever left a node is in its own ledger and in the coordinator's."""
    world = rehearsal.world
    for site in world.sites:
        with world.cluster.connect(site.database) as connection:
            left = connection.execute(
                "SELECT r.round_number, r.exchange, r.step, s.release_id IS NOT NULL FROM federated.release AS r"
                " LEFT JOIN federated.spending AS s USING (release_id) WHERE r.state = 'released'"
            ).fetchall()
            total = connection.execute("SELECT max(epsilon_tight) FROM federated.spending").fetchone()
        lines = world.query(
            "SELECT round_number, exchange, step, epsilon_tight FROM federated.ledger WHERE node_name = %s",
            site.name,
        )
        assert all(one[3] for one in left)
        assert {tuple(one[:3]) for one in left} <= {tuple(one.values())[:3] for one in lines}
        assert total is not None
        reached = max((one["epsilon_tight"] for one in lines), default=0.0)
        assert (total[0] or 0.0) <= reached * (1.0 + 1e-9)


def demand_one_figure(rehearsal: Rehearsal) -> None:
    """Each release is one line, charged once, and the last line is what one accountant says of all of them."""
    world = rehearsal.world
    for site in world.sites:
        lines = world.query(
            "SELECT * FROM federated.ledger WHERE node_name = %s ORDER BY ledger_id", site.name
        )
        made = [
            Mechanism(one["noise_multiplier"], one["sampling_rate"], one["steps"], one["noise"])
            for one in lines
        ]
        assert {one["state"] for one in lines} == {"charged"}
        step = "gradient" if rehearsal.kind.sums else "train"
        assert [one["round_number"] for one in lines if one["step"] == step] == list(range(1, ROUNDS + 1))
        assert lines[-1]["epsilon_tight"] == pytest.approx(Accountant(1e-5).epsilon(*made), rel=1e-9)
        if not rehearsal.kind.sums:
            # Of a sum most messages carry no vector, and are paid for by nobody.
            demand_paid(world, site)
