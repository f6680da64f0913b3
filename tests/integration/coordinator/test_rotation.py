"""Certificates of nodes, of the coordinator and of an authority rotate under a run, and no call fails for it."""

from __future__ import annotations

from pathlib import Path

from heliosdb.transport.authority import Authority
from tests.integration.coordinator.support import WORKSPACE, World, create_model, create_workspace
from tests.integration.coordinator.test_links import LONG, STATUS, more_rounds, outcomes
from tests.support.federation import until

SHOWS = "EXISTS (SELECT FROM federated.node WHERE name = %s AND status = 'active' AND certificate = %s)"
HOSTS = ["localhost", "127.0.0.1"]


def put(path: Path, *content: bytes) -> None:
    """Replace a file at once."""
    draft = path.with_suffix(".draft")
    draft.write_bytes(b"".join(content))
    draft.replace(path)


def pem(world: World, name: str) -> bytes:
    return (world.federation.directory / f"{name}.pem").read_bytes()


def register(world: World, name: str, port: int, certificate: str | None) -> None:
    given = "" if certificate is None else f", certificate = '{certificate}'"
    world.execute(
        f"REGISTER FEDERATED NODE '{name}' IN WORKSPACE {WORKSPACE} WITH"
        f" (endpoint = 'https://localhost:{port}'{given})"
    )


def pin(world: World, name: str, *certificates: bytes) -> None:
    text = b"".join(certificates).decode()
    world.execute(f"ALTER FEDERATED NODE '{name}' IN WORKSPACE {WORKSPACE} SET (certificate = '{text}')")


class Anew:
    """Waits until the coordinator has made its connections to nodes anew, and goes by these."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._seen = {name: self._count(name) for name in ("north", "south", "west")}

    async def reached(self, *names: str) -> None:
        await until(lambda: all(self._is_over(name) for name in names))

    def _is_over(self, name: str) -> bool:
        _, *later = self._parts(name)
        return len(later) > self._seen[name] and f"node={name} endpoint=" in later[-1]

    def _count(self, name: str) -> int:
        return len(self._parts(name)) - 1

    def _parts(self, name: str) -> list[str]:
        return self._log.read_text().split(f"connections to node {name} are made anew")


async def rotate_by_file(world: World, pins: Path) -> None:
    """A node whose pins are a file at the coordinator: only files are replaced."""
    old = pem(world, "north")
    made = world.federation.authority.issue("north", HOSTS)
    anew = Anew(world.coordinators[0].log)
    put(pins, old, made.certificate_pem)
    await anew.reached("north")
    await more_rounds(world)
    put(world.federation.directory / "north.key", made.private_key_pem)
    put(world.federation.directory / "north.pem", made.certificate_pem)
    await world.reached(SHOWS, "north", made.certificate_pem.decode())
    anew = Anew(world.coordinators[0].log)
    put(pins, made.certificate_pem)
    await anew.reached("north")
    await more_rounds(world)


async def rotate_by_statement(world: World, name: str, authority: Authority) -> None:
    """A node whose pins are altered: both, then the new one alone."""
    old, made = pem(world, name), authority.issue(name, HOSTS)
    pin(world, name, old, made.certificate_pem)
    await world.reached(SHOWS, name, old.decode())
    await more_rounds(world)
    put(world.federation.directory / f"{name}.key", made.private_key_pem)
    put(world.federation.directory / f"{name}.pem", made.certificate_pem)
    await world.reached(SHOWS, name, made.certificate_pem.decode())
    await more_rounds(world)


async def test_certificates_of_all_three_rotate_under_a_run_without_a_failed_call(world: World) -> None:
    directory, first, second = world.federation.directory, world.federation.authority, Authority.create("two")
    bundle, pins, known = (directory / f"{name}.pem" for name in ("bundle", "north-pins", "known"))
    put(bundle, first.certificate_pem)
    put(known, pem(world, "coordinator"))
    create_workspace(world, min_nodes=3)
    # A busy machine is not what this is about.
    coordinator = world.start_coordinator(ca_bundle=str(bundle), heartbeat_timeout=60.0)
    sites = [await world.add_site(name) for name in ("north", "south", "west")]
    for site in sites:
        site.kill()
        await world.start_site(site, coordinator_certificate=known)
    north, south, west = sites
    put(pins, pem(world, "north"))
    register(world, "north", north.port, str(pins))
    register(world, "south", south.port, pem(world, "south").decode())
    register(world, "west", west.port, None)
    create_model(world, **LONG)
    world.execute("START FEDERATED TRAINING risk")
    await more_rounds(world)

    await rotate_by_file(world, pins)

    await rotate_by_statement(world, "south", first)
    pin(world, "south", pem(world, "south"))
    await world.reached(SHOWS, "south", pem(world, "south").decode())
    await more_rounds(world)

    old = pem(world, "coordinator")
    made = first.issue("coordinator", HOSTS)
    anew = Anew(coordinator.log)
    put(known, old, made.certificate_pem)
    put(directory / "coordinator.key", made.private_key_pem)
    put(directory / "coordinator.pem", made.certificate_pem)
    await anew.reached("north", "south", "west")
    await more_rounds(world)
    put(known, made.certificate_pem)
    await more_rounds(world)

    put(bundle, first.certificate_pem, second.certificate_pem)
    await rotate_by_statement(world, "west", second)
    world.execute(f"ALTER FEDERATED NODE 'west' IN WORKSPACE {WORKSPACE} RESET (certificate)")
    await world.reached(SHOWS, "west", pem(world, "west").decode())
    put(bundle, second.certificate_pem)
    await more_rounds(world)

    world.execute("STOP FEDERATED TRAINING risk")
    assert (await world.finished())["status"] == "stopped"
    said = coordinator.log.read_text()
    assert "a call to node" not in said
    assert "node failed" not in said
    assert outcomes(world) == {"received"}
    missed = world.query(
        "SELECT p.round_number FROM federated.participation AS p JOIN federated.round AS r USING (run_id, round_number)"
        " WHERE r.status = 'closed' GROUP BY p.round_number, p.step HAVING count(DISTINCT p.node_id) <> 3"
    )
    assert missed == []

    # Who comes now is vouched for by the new authority alone.
    world.federation.write("east", second.issue("east", HOSTS))
    east = await world.add_site("east")
    east.kill()
    await world.start_site(east, coordinator_certificate=known)
    register(world, "east", east.port, None)
    await world.reached(STATUS, "east", "active")
