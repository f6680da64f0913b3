"""Five nodes of which some gather the updates of others, and who is killed while they do."""

from __future__ import annotations

from collections.abc import Mapping

from tests.faults.support import Result, read_result, start_run
from tests.integration.coordinator.support import (
    CoordinatorProcess,
    Site,
    World,
    create_workspace,
    filled,
)

NAMES = ("a", "b", "c", "d", "e")
WIDE = {"c": "a", "d": "a", "e": "b"}
DEEP = {"b": "a", "c": "a", "d": "b", "e": "b"}


def alter(world: World, aggregators: Mapping[str, str]) -> None:
    """Have these nodes gathered by these aggregators, and no others."""
    for name in NAMES:
        statement = f"ALTER FEDERATED NODE '{name}' IN WORKSPACE consortium"
        world.execute(f"{statement} RESET (aggregator)")
    for name, above in aggregators.items():
        statement = f"ALTER FEDERATED NODE '{name}' IN WORKSPACE consortium"
        world.execute(f"{statement} SET (aggregator = '{above}')")


async def start_site(world: World, site: Site, *, faults: str = "") -> None:
    """Start a node that lets every aggregator of these tests in."""
    trusted = world.federation.directory / "aggregators.pem"
    await world.start_site(site, faults=faults, aggregator_certificate=trusted, aggregates=True)


def write_identities(world: World) -> dict[str, bytes]:
    """Write the certificates of all and those that the aggregators show; returns the former."""
    directory, authority = world.federation.directory, world.federation.authority
    for name in NAMES:
        world.federation.write(name, authority.issue(name, ["localhost", "127.0.0.1"]))
    pems = {name: (directory / f"{name}.pem").read_bytes() for name in NAMES}
    (directory / "aggregators.pem").write_bytes(pems["a"] + pems["b"])
    return pems


async def found_five(world: World, *, min_nodes: int) -> None:
    """Make a workspace of five nodes."""
    create_workspace(world, min_nodes=min_nodes, round_timeout=120)
    for number, name in enumerate(NAMES):
        site = Site(name, filled(world.cluster, rows=200, seed=0.1 * (number + 1)))
        world.sites.append(site)
        await start_site(world, site)
        world.register(site)


async def run(world: World) -> tuple[Result, str]:
    """Run it, and return what it left and what the coordinator logged."""
    coordinator = await started(world)
    await world.finished()
    coordinator.kill()
    return read_result(world), coordinator.log.read_text()


async def started(world: World, **settings: object) -> CoordinatorProcess:
    """Start the run under a coordinator that has met all nodes."""
    coordinator = world.start_coordinator(**settings)
    await world.reached("(SELECT count(*) = 5 FROM federated.node WHERE status = 'active')")
    start_run(world)
    return coordinator


async def kill_aggregator(world: World, aggregators: Mapping[str, str], point: str) -> None:
    """Run it with an aggregator that is killed at this point, and is started again."""
    alter(world, aggregators)
    # Of the deep ones the one that is gathered itself.
    mortal = next(site for site in world.sites if site.name == ("a" if aggregators is WIDE else "b"))
    mortal.kill()
    await start_site(world, mortal, faults=f"node.{point}=kill")
    coordinator = await started(world)
    assert mortal.process is not None
    await mortal.process.ended()
    await start_site(world, mortal)
    await world.finished()
    coordinator.kill()


async def kill_coordinator(world: World, point: str) -> None:
    """Run it under a coordinator that is killed at this point, and under another one to its end."""
    start_run(world)
    await world.start_coordinator(faults=f"coordinator.{point}=kill").died()
    successor = world.start_coordinator()
    await world.finished()
    successor.kill()
