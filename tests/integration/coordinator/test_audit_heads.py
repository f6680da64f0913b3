"""The audit log's heads in a whole federation: signed by the coordinator, cosigned by the nodes, or refused."""

from __future__ import annotations

import json
from dataclasses import replace

import psycopg
import pytest

from heliosdb.cli.audit import export_heads, export_log
from heliosdb.cli.audit import verify as verify_files
from heliosdb.cli.node_status import show_status
from heliosdb.domain.errors import FederatedError
from heliosdb.transport.audit_proofs import find_proof_fault
from tests.integration.coordinator.support import WORKSPACE, Site, World, create_model, create_workspace
from tests.support.federation import until

COSIGNED = (
    "SELECT count(*) = %s FROM federated.cosignature AS c JOIN federated.audit_head AS h"
    " ON (h.workspace, h.origin, h.chain_position) = (c.workspace, c.origin, c.tree_size) WHERE h.workspace = %s"
)
BROKEN = "SELECT count(*) FROM federated.audit_break WHERE settled_at IS NULL AND kind = %s"


async def make_federation(world: World, *names: str, **options: object) -> None:
    create_workspace(world, **options)
    create_model(world)
    for name in names:
        world.register(await world.add_site(name))


def verify(world: World) -> dict[str, object]:
    [row] = world.query("SELECT * FROM federated_audit_verify(%s)", WORKSPACE)
    return row


def at(world: World, site: Site, query: str) -> list[tuple[object, ...]]:
    with psycopg.connect(world.cluster.dsn(site.database), autocommit=True) as session:
        return session.execute(query).fetchall()  # type: ignore[call-overload, no-any-return]


async def test_each_end_of_a_run_is_signed_cosigned_and_proved(world: World) -> None:
    await make_federation(world, "north", "south")
    coordinator = world.start_coordinator()
    world.execute("START FEDERATED TRAINING risk")
    assert (await world.finished())["status"] == "completed"
    await world.reached(COSIGNED, 2, WORKSPACE)
    found = verify(world)
    assert (found["is_intact"], found["reason"]) == (True, None)
    assert found["signed_entries"] == found["witnessed_entries"] == found["entries"]
    rounds = world.query(
        "SELECT details FROM federated_audit_log WHERE object_kind = 'round' ORDER BY chain_position"
    )
    assert [one["details"]["round_number"] for one in rounds] == [0, 1, 2, 3]
    assert {one["details"]["status"] for one in rounds} == {"closed"}
    assert all(set(one["details"]["answers"]) == {"received"} for one in rounds)
    kinds = {
        row["object_kind"] for row in world.query("SELECT DISTINCT object_kind FROM federated_audit_log")
    }
    assert {"lease", "signer", "node", "run", "round"} <= kinds
    trusted = [world.federation.coordinator.certificate_pem]
    for row in world.query("SELECT audit_id FROM federated.audit WHERE workspace = %s", WORKSPACE):
        [proof] = world.query(
            "SELECT federated._audit_inclusion(%s, %s)::text AS proof", WORKSPACE, row["audit_id"]
        )
        read = json.loads(proof["proof"])
        assert find_proof_fault(read, trusted) is None
        assert {one["node"] for one in read["cosignatures"]} <= {"north", "south"}
        read["entry"]["action"] = "nothing"
        assert find_proof_fault(read, trusted) == "the entry is not what its hash is over"
    verified_offline(world)
    # A term that ends in the middle of it leaves nothing undone or done twice.
    for point in ("coordinator.head.signed", "coordinator.head.witnessed"):
        coordinator.kill()
        coordinator = world.start_coordinator(faults=f"{point}=kill")
        await coordinator.died()
    world.start_coordinator()
    await world.reached(COSIGNED, 2, WORKSPACE)
    assert verify(world)["is_intact"]


def verified_offline(world: World) -> None:
    """What an auditor does with what the participants hand over; and nothing else can be read than the log."""
    directory = world.federation.directory
    log, files = directory / "consortium.log", []
    auditor = world.cluster.dsn(world.database, user="an_auditor")
    export_log(auditor, WORKSPACE, log)
    for site in world.sites:
        assert site.process is not None
        files.append(directory / f"{site.name}.heads")
        export_heads(site.process.settings, WORKSPACE, files[-1], print)
    said: list[str] = []
    certificate = str(directory / "coordinator.pem")
    assert verify_files(log, files, [certificate], said.append)
    assert "0 faults" in said
    assert not verify_files(log, files, [str(directory / "north.pem")], said.append)
    with pytest.raises(FederatedError, match="has no entry of workspace"):
        export_log(auditor, "nothing", directory / "nothing.log")
    with pytest.raises(FederatedError, match="cannot read the audit log: permission denied"):
        export_log(world.cluster.dsn(world.database, user="an_analyst"), WORKSPACE, directory / "no.log")
    assert not (directory / "nothing.log").exists()
    assert not (directory / "no.log").exists()


async def test_a_node_that_was_away_is_shown_the_newest_head_from_its_own(world: World) -> None:
    await make_federation(world, "north", "south")
    world.start_coordinator()
    await world.reached(COSIGNED, 2, WORKSPACE)
    north = world.sites[0]
    [(former,)] = at(world, north, "SELECT entries FROM federated_node_heads")
    # A session that is lost is made again.
    [lost] = world.query(
        "SELECT count(pg_terminate_backend(pid)) AS lost FROM pg_stat_activity"
        " WHERE application_name = 'heliosdb coordinator (audit)' AND datname = current_database()"
    )
    assert lost["lost"] == 1
    north.kill()
    for number in range(3):
        world.execute(f"ALTER FEDERATED MODEL risk SET (rounds = {number + 4})")
        await world.reached(COSIGNED, 1, WORKSPACE)
    await world.start_site(north, faults="node.head.committed=kill")
    assert north.process is not None
    await north.process.ended()
    await world.start_site(north)
    await world.reached(COSIGNED, 2, WORKSPACE)
    heads = at(world, north, "SELECT tree_size FROM federated.witnessed_head ORDER BY tree_size DESC")
    assert heads[0][0] == verify(world)["entries"]
    assert former in {size for (size,) in heads}
    assert north.process is not None
    page = show_status(north.process.settings, 5.0).partition("Audit logs")[2]
    assert f"{heads[0][0]} " in page
    assert "witnessed" in page


async def test_a_rewritten_log_is_refused_by_the_nodes_and_the_break_recorded(world: World) -> None:
    await make_federation(world, "north")
    coordinator = world.start_coordinator()
    await world.reached(COSIGNED, 1, WORKSPACE)
    coordinator.kill()
    world.query("DELETE FROM federated.cosignature")
    world.query("DELETE FROM federated.tree_head")
    world.query(REWRITE)
    assert verify(world)["is_intact"], "nothing in the database tells"
    coordinator = world.start_coordinator()
    await world.reached(f"({BROKEN}) = 1", "forked")
    await coordinator.said("node north refuses its head")
    found = verify(world)
    assert not found["is_intact"]
    assert str(found["reason"]).startswith('node "north" holds a signed head over')
    [audit] = [
        row
        for row in world.query("SELECT * FROM federated_security_audit(%s)", WORKSPACE)
        if row["check_name"] == "audit_log"
    ]
    assert audit["status"] == "FAIL"
    north = world.sites[0]
    [(state, conflicts)] = at(world, north, "SELECT state, conflicts FROM federated_node_heads")
    # The log goes on to grow, by the key that signs its new first head.
    assert state == "conflict"
    assert 1 <= int(str(conflicts)) <= 5
    assert north.process is not None
    assert "conflict" in show_status(north.process.settings, 5.0)
    # The node's DBA, told by the operator that this is now the log, begins anew; the evidence stays.
    at(world, north, "SELECT federated_forget_heads('consortium')")
    await world.reached(COSIGNED, 1, WORKSPACE)
    await world.reached(f"({BROKEN}) = 0", "forked")
    assert verify(world)["is_intact"]
    assert at(world, north, "SELECT count(*) > 0 FROM federated.head_conflict") == [(True,)]
    [(kind,)] = at(world, north, "SELECT object_kind FROM federated_audit_log WHERE action = 'delete'")
    assert kind == "witnessed_head"


REWRITE = """
DO $$
DECLARE
    entry record;
    before bytea;
BEGIN
    UPDATE federated.audit SET session_role = 'somebody_else' WHERE workspace = 'consortium' AND chain_position = 3;
    FOR entry IN SELECT a.audit_id FROM federated.audit AS a WHERE a.workspace = 'consortium' ORDER BY a.chain_position LOOP
        UPDATE federated.audit AS a SET previous_hash = before,
            hash = federated._audit_hash(a, a.origin, a.chain_position, before)
        WHERE a.audit_id = entry.audit_id RETURNING a.hash INTO before;
    END LOOP;
    UPDATE federated.audit_head SET hash = before WHERE workspace = 'consortium';
END
$$
"""


async def test_a_database_from_an_old_backup_is_found_and_said_to_be_one(world: World) -> None:
    await make_federation(world, "north")
    coordinator = world.start_coordinator()
    await world.reached(COSIGNED, 1, WORKSPACE)
    coordinator.kill()
    await left_alone(world)
    backup = world.cluster.create_database(world.database)
    coordinator = world.start_coordinator()
    for number in range(4, 8):
        world.execute(f"ALTER FEDERATED MODEL risk SET (rounds = {number})")
    await world.reached(COSIGNED, 1, WORKSPACE)
    coordinator.kill()
    restored = replace(world, database=backup)
    try:
        restored.start_coordinator()
        await restored.reached(f"({BROKEN}) = 1", "rolled back")
        found = verify(restored)
        assert not found["is_intact"]
        assert "it was cut off or restored" in str(found["reason"])
        # It goes on by itself, and is another log from then on.
        for number in range(10, 20):
            restored.execute(f"ALTER FEDERATED MODEL risk SET (rounds = {number})")
        await restored.reached(f"({BROKEN}) = 1", "forked")
    finally:
        restored.end_processes()
        if restored._session is not None:
            restored._session.close()
        world.cluster.drop_database(backup)


async def left_alone(world: World) -> None:
    """Wait until nobody is connected to the catalog, which can be copied then."""
    if world._session is not None:
        world._session.close()

    def alone() -> bool:
        with psycopg.connect(world.cluster.dsn("postgres"), autocommit=True) as session:
            query = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s"
            return session.execute(query, [world.database]).fetchall() == [(0,)]

    await until(alone)
