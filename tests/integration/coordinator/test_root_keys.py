"""What is sealed at rest comes under another root key: while a coordinator runs, after a kill, and once."""

from __future__ import annotations

import base64
import secrets
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from heliosdb.catalog.psycopg_connection import connected
from heliosdb.catalog.sealed import Holder, read_rounds
from heliosdb.cli.keys import KeyHolder, drop, rotate, status
from heliosdb.coordinator.checkpoints import Manifest
from heliosdb.domain.errors import FederatedError
from heliosdb.domain.ids import RunId
from heliosdb.domain.sealed_format import is_wrapped, sealed_digest
from heliosdb.transport.at_rest import UnopenedError
from heliosdb.transport.root_keys import RootKeys, RootKeySettings
from tests.integration.coordinator.support import World, create_model, create_workspace
from tests.support.server import bin_directory

STALE = (
    "SELECT count(*) AS rows FROM federated.sealed_value AS v WHERE v.holder = 'coordinator' AND NOT EXISTS"
    " (SELECT FROM federated.root_key AS k WHERE k.name = v.key_name AND k.status = 'current')"
)
SWEPT = f"({STALE}) = 0 AND (SELECT count(*) FROM federated.root_key WHERE holder = 'coordinator') = "


async def trained(world: World) -> None:
    """One run of four rounds, of which every one is a checkpoint."""
    create_workspace(world, min_nodes=2)
    for number, name in enumerate(("north", "south")):
        world.register(await world.add_site(name, seed=0.1 * (number + 1)))
    create_model(world, rounds=4, checkpoint_every=1, early_stopping_rounds=100)
    world.execute("START FEDERATED TRAINING risk")
    world.start_coordinator()
    await world.finished()


def holder(world: World) -> KeyHolder:
    state = world.federation.directory / "coordinator-state"
    first = state / "parameters.key"
    roots = RootKeys(state, first.read_bytes(), first)
    return KeyHolder(Holder.COORDINATOR, roots, world.cluster.dsn(world.database, user="heliosdb_daemon"))


def names(world: World) -> dict[str, str]:
    found = world.query("SELECT name, status FROM federated.root_key WHERE holder = 'coordinator'")
    return {row["name"]: row["status"] for row in found}


def as_earlier_releases_did(world: World) -> None:
    """Seal all anew as releases did that named no key: nonce, cipher text, bound to run and round."""
    of = holder(world)
    keys, base = of.roots.at_rest(), of.roots.base

    def former(sealed: bytes | None, about: bytes) -> bytes | None:
        if sealed is None:
            return None
        nonce = secrets.token_bytes(12)
        return nonce + AESGCM(base).encrypt(nonce, keys.open(sealed, about=about), about)

    with connected(world.cluster.dsn(world.database), application_name="test") as connection:
        [found] = connection.raw.execute("SELECT run_id FROM federated.run").fetchall()
        run = found["run_id"]
        for one in read_rounds(connection, RunId(run)):
            row = run.bytes + one.round.to_bytes(8, "little")
            state, memory = (
                former(raw, what + b"\0" + row)
                for raw, what in ((one.sealed, b"parameters"), (one.memory, b"memory"))
            )
            connection.raw.execute(
                "UPDATE federated.run_parameters SET sealed = $3, memory = $4 WHERE run_id = $1 AND round_number = $2",
                [run, one.round, state, memory],
            )
            connection.raw.execute(
                "UPDATE federated.version SET sealed = $3 WHERE run_id = $1 AND round_number = $2",
                [run, one.round, state],
            )
        states = {one.round: one for one in read_rounds(connection, RunId(run))}
        for number, one in states.items():
            if one.manifest is None:
                continue
            manifest = Manifest.open(one.manifest, RunId(run), number, keys)
            told = {}
            for name in manifest.states:
                kind, _, place = name.partition("/")
                raw = states[int(place)].sealed if kind == "state" else states[int(place)].memory
                assert raw is not None
                told[name] = sealed_digest(raw).hex()
            anew = Manifest(told, manifest.kept, manifest.described).seal(RunId(run), number, keys)
            about = b"checkpoint\0" + run.bytes + number.to_bytes(8, "little")
            connection.raw.execute(
                "UPDATE federated.run_parameters SET manifest = $3 WHERE run_id = $1 AND round_number = $2",
                [run, number, former(anew, about)],
            )


def check_opens(world: World) -> None:
    """Every state and manifest opens, and each manifest has the digests of its states."""
    keys = holder(world).roots.at_rest()
    with connected(world.cluster.dsn(world.database), application_name="test") as connection:
        [found] = connection.raw.execute("SELECT run_id FROM federated.run").fetchall()
        run = found["run_id"]
        rounds = {one.round: one for one in read_rounds(connection, RunId(run))}
    assert rounds
    for number, one in rounds.items():
        assert is_wrapped(one.sealed)
        keys.open(one.sealed, about=b"parameters\0" + run.bytes + number.to_bytes(8, "little"))
        if one.manifest is not None:
            manifest = Manifest.open(one.manifest, RunId(run), number, keys)
            for name, digest in manifest.states.items():
                if name.startswith("state/") and int(name[6:]) in rounds:
                    assert sealed_digest(rounds[int(name[6:])].sealed).hex() == digest


async def test_a_root_key_is_replaced_while_the_coordinator_runs_and_dropped_when_nothing_needs_it(
    world: World,
) -> None:
    await trained(world)
    await world.reached(f"{SWEPT} 1")
    of, said = holder(world), list[str]()
    (first,) = names(world)

    rotate(of, said.append)
    await world.reached(f"{SWEPT} 2")
    (second,) = (name for name, state in names(world).items() if state == "current")
    assert names(world) == {first: "former", second: "current"}
    check_opens(world)

    rotate(of, said.append)
    await world.reached(f"{SWEPT} 3")
    check_opens(world)
    with pytest.raises(FederatedError, match="has not been a former one for a minute"):
        drop(of, second, force=False, show=said.append)
    world.query("UPDATE federated.root_key SET since = since - interval '2 minutes'")
    with pytest.raises(FederatedError, match="is in no file that can be removed"):
        drop(of, first, force=False, show=said.append)
    drop(of, second, force=False, show=said.append)
    assert names(world)[second] == "dropped"
    check_opens(world)
    status(of, said.append)
    assert any(line.startswith("parameters of rounds: ") and line.endswith(", current") for line in said)
    audited = world.query("SELECT details FROM federated_audit_log WHERE object_kind = 'root_key'")
    assert len(audited) == 6

    # The run's model is there for what goes on from it, and training goes on under the key of now.
    world.execute("START FEDERATED TRAINING risk")
    assert (await world.finished(count=2))["status"] in ("completed", "converged")
    check_canaries(world)


def check_canaries(world: World) -> None:
    """No key is in a log of the daemons, in a dump or in a process's title."""
    state = world.federation.directory / "coordinator-state"
    keys = [path.read_bytes() for path in state.iterdir() if ".key" in path.name]
    dump = subprocess.run(
        [str(bin_directory() / "pg_dump"), "-d", world.cluster.dsn(world.database)],
        capture_output=True,
        check=True,
    ).stdout
    texts = [dump, *(one.log.read_bytes() for one in world.coordinators)]
    texts += [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline")]
    for key in keys:
        for form in (key, key.hex().encode(), base64.b64encode(key)):
            assert not any(form in text for text in texts)


async def test_a_coordinator_that_is_killed_between_two_rows_goes_on_and_what_earlier_releases_sealed_is_read(
    world: World,
) -> None:
    await trained(world)
    await world.reached(f"{SWEPT} 1")
    for coordinator in world.coordinators:
        coordinator.kill()
    as_earlier_releases_did(world)
    before = world.query("SELECT sha256 FROM federated.run_parameters ORDER BY round_number")

    await world.start_coordinator(faults="coordinator.resealed=kill").died()
    of = holder(world)
    given = RootKeySettings(command=("/bin/echo", "ab" * 32))
    elsewhere = RootKeys(of.roots.directory, of.roots.base, of.roots.base_file, given)
    with pytest.raises(FederatedError, match="is rotated where it is kept"):
        elsewhere.rotate()
    rotate(of, lambda _: None)
    await world.start_coordinator(faults="coordinator.resealed=kill").died()
    world.start_coordinator()
    await world.reached(f"{SWEPT} 2")

    check_opens(world)
    assert world.query("SELECT sha256 FROM federated.run_parameters ORDER BY round_number") == before


async def test_an_older_or_moved_state_does_not_open(world: World) -> None:
    await trained(world)
    await world.reached(f"{SWEPT} 1")
    keys = holder(world).roots.at_rest()
    [row, other] = world.query(
        "SELECT run_id, round_number, sealed FROM federated.run_parameters ORDER BY round_number LIMIT 2"
    )
    about = b"parameters\0" + row["run_id"].bytes + other["round_number"].to_bytes(8, "little")
    for sealed, version in ((row["sealed"], None), (other["sealed"], 99)):
        with pytest.raises(UnopenedError):
            keys.open(sealed, about=about, version=version)
