"""SIGKILL and SIGSTOP of coordinators and nodes at each point of each kind of run: the result is what it was.

What is tried is a table (matrix.py): a part of it here, all of it by `make faults`.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.faults.matrix import ELSEWHERE, FEW, KINDS, ROUNDS, Fault, Kind, all_faults, points_of_runs
from tests.faults.support import WHOLE, Result, read_result, start_run
from tests.integration.coordinator.support import (
    WORKSPACE,
    CoordinatorProcess,
    Site,
    World,
    create_model,
    create_workspace,
    filled,
    make_world,
)
from tests.support.cluster import Cluster
from tests.support.daemons import IMPORTS
from tests.support.federation import has_stopped
from tests.support.ports import free_port

DONE = ("completed", "converged")


@dataclass
class Rehearsal:
    """A federation for one kind of run, and what its run leads to undisturbed."""

    world: World
    kind: Kind
    expected: Result = field(init=False)
    _ports: tuple[int, int] = field(default_factory=lambda: (free_port(), free_port()))

    def lead(self, *, faults: str = "", second: bool = False) -> CoordinatorProcess:
        """Start a coordinator. second: beside one that may still hold its port."""
        listens = {"listen_host": "127.0.0.1", "listen_port": self._ports[second]} if self.kind.dials else {}
        return self.world.start_coordinator(faults=faults, heartbeat_timeout=1.0, **listens)

    async def bring(self, site: Site, *, faults: str = "") -> None:
        """Start a site's node, or start it anew."""
        site.kill()
        settings: dict[str, object] = {}
        if self.kind.dials:
            settings["dial"] = [f"https://localhost:{port}" for port in self._ports]
        if self.kind.gathers:
            settings["aggregator_certificate"] = self.world.federation.directory / "east.pem"
        await self.world.start_site(site, faults=faults, **settings)

    async def all_active(self) -> None:
        """Wait until the coordinator knows every node to be there."""
        count = len(self.world.sites)
        await self.world.reached("(SELECT count(*) = %s FROM federated.node WHERE status = 'active')", count)


async def rehearse(world: World, kind: Kind) -> Rehearsal:
    """Found the federation, and run it undisturbed."""
    made = Rehearsal(world, kind)
    federation = world.federation
    # Before any node starts: certificates of others are named in its settings.
    federation.node_config(world.cluster, world.database, kind.nodes[0])
    if kind.sums:
        world.name_peers(kind.nodes)
    create_workspace(world, min_nodes=len(kind.nodes), round_timeout=240, **kind.policy)
    for number, name in enumerate(kind.nodes):
        site = Site(name, filled(world.cluster, rows=kind.rows, seed=0.1 * (number + 1)))
        world.sites.append(site)
        await made.bring(site)
        world.register(site)
    if kind.gathers:
        gathered, by = kind.nodes[-1], kind.nodes[0]
        world.execute(f"ALTER FEDERATED NODE '{gathered}' IN WORKSPACE {WORKSPACE} SET (aggregator = '{by}')")
    options = {"rounds": ROUNDS, "convergence_threshold": 0, "early_stopping_rounds": 100} | dict(kind.model)
    create_model(world, **options)
    coordinator = made.lead()
    await made.all_active()
    start_run(world)
    run = await world.finished()
    coordinator.kill()
    assert run["status"] in DONE, run
    made.expected = read_result(world)
    return made


@pytest.fixture(scope="module")
def rehearsal(
    request: pytest.FixtureRequest, cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Rehearsal]:
    """One federation for all the faults of a kind of run."""
    kind, directory = KINDS[request.param], tmp_path_factory.mktemp(request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(IMPORTS, kind.forked_with)
        database = cluster.create_database("federated_template")
        with make_world(cluster, directory, database) as world:
            yield asyncio.run(rehearse(world, kind))


def chosen(prefix: str, action: str) -> pytest.MarkDecorator:
    """The faults that are tried, by kind of run."""
    faults = [one for one in all_faults(prefix) if one.action == action and (WHOLE or one.name in FEW)]
    cases = [pytest.param(one.kind, one, id=one.name) for one in faults]
    return pytest.mark.parametrize(("rehearsal", "fault"), cases, indirect=["rehearsal"])


def test_every_point_of_a_run_is_in_the_table() -> None:
    tried = {one.at.partition(":")[0] for prefix in ("coordinator", "node") for one in all_faults(prefix)}

    assert tried | ELSEWHERE.keys() == points_of_runs()
    assert {one.name for prefix in ("coordinator", "node") for one in all_faults(prefix)} >= FEW


@chosen("coordinator", "kill")
async def test_a_coordinator_that_is_killed_is_followed_to_the_same_result(
    rehearsal: Rehearsal, fault: Fault
) -> None:
    start_run(rehearsal.world)

    await rehearsal.lead(faults=fault.setting).died()
    successor = rehearsal.lead()
    await rehearsal.world.finished()
    successor.kill()

    demand_the_same(rehearsal)


@chosen("coordinator", "stop")
async def test_a_coordinator_that_is_stopped_beyond_its_lease_commits_nothing_more(
    rehearsal: Rehearsal, fault: Fault
) -> None:
    world = rehearsal.world
    start_run(world)
    stopped = rehearsal.lead(faults=fault.setting)
    await stopped.said("leading: epoch=")
    await has_stopped(stopped.process.pid)

    # What a server does with a session whose other end says nothing any more.
    world.query(
        "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    successor = rehearsal.lead(second=True)
    await successor.said("leading: epoch=")
    stopped.resume()
    await stopped.said("standing by")
    await world.finished()
    successor.kill()
    stopped.kill()

    demand_the_same(rehearsal)
    closed = world.query(
        "SELECT round_number FROM federated.event WHERE kind = 'round.closed' ORDER BY event_id"
    )
    numbers = [one["round_number"] for one in closed][-len(rehearsal.expected.rounds) :]
    assert numbers == [one["round_number"] for one in rehearsal.expected.rounds]


@chosen("node", "kill")
async def test_a_node_that_is_killed_is_asked_again_when_it_is_back(
    rehearsal: Rehearsal, fault: Fault
) -> None:
    site = rehearsal.world.sites[0]
    await rehearsal.bring(site, faults=fault.setting)
    coordinator = rehearsal.lead()
    await rehearsal.all_active()
    start_run(rehearsal.world)
    assert site.process is not None
    assert await site.process.ended() == -signal.SIGKILL
    await rehearsal.bring(site)

    await rehearsal.world.finished()
    coordinator.kill()

    demand_the_same(rehearsal)


@chosen("node", "stop")
async def test_a_node_that_is_stopped_and_goes_on_changes_nothing(rehearsal: Rehearsal, fault: Fault) -> None:
    world, site = rehearsal.world, rehearsal.world.sites[0]
    await rehearsal.bring(site, faults=fault.setting)
    coordinator = rehearsal.lead()
    await rehearsal.all_active()
    start_run(world)
    assert site.process is not None
    await has_stopped(site.process.process.pid)
    await world.reached(
        "EXISTS (SELECT FROM federated.node WHERE name = %s AND status <> 'active')", site.name
    )

    site.process.process.send_signal(signal.SIGCONT)
    await world.finished()
    coordinator.kill()

    demand_the_same(rehearsal)


def demand_the_same(rehearsal: Rehearsal) -> None:
    """The run left what it left undisturbed, and nodes have paid for all that they sent."""
    found, expected = read_result(rehearsal.world), rehearsal.expected
    if not rehearsal.kind.budget:
        assert found == expected
        return
    # Of noise that is drawn anew nothing can be the same but whose, and that there is enough of it.
    assert found.status == expected.status
    assert [each_without_figures(one) for one in found.tasks] == [
        each_without_figures(one) for one in expected.tasks
    ]
    assert [one["round_number"] for one in found.rounds] == [one["round_number"] for one in expected.rounds]
    for site in rehearsal.world.sites:
        demand_paid(rehearsal.world, site)


def each_without_figures(task: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in task.items() if name != "weight"}


def demand_paid(world: World, site: Site) -> None:
    """A node's own ledger has each task that the coordinator has an answer to, once, and no less than it says."""
    answered = world.query(
        "SELECT p.round_number, p.exchange, p.step FROM federated.participation AS p"
        " JOIN federated.node AS n USING (node_id) WHERE n.name = %s AND p.outcome = 'received'",
        site.name,
    )
    reserved = world.query(
        "SELECT round_number, exchange, step, epsilon_tight FROM federated.ledger"
        " WHERE node_name = %s AND state = 'charged'",
        site.name,
    )
    with world.cluster.connect(site.database) as connection:
        paid = connection.execute(
            "SELECT r.round_number, r.exchange, r.step, s.epsilon_tight FROM federated.spending AS s"
            " JOIN federated.release AS r USING (release_id) WHERE r.state = 'released'"
        ).fetchall()
    released = {tuple(one[:3]) for one in paid}
    assert len(paid) == len(released)
    assert released == {tuple(one.values()) for one in answered} != set()
    assert released == {tuple(one.values())[:3] for one in reserved}
    most = max(one["epsilon_tight"] for one in reserved)
    assert max(one[3] for one in paid) == pytest.approx(most)
