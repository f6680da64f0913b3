"""Subject orders between real processes: every node is asked, does it once, and signs what it did."""

from __future__ import annotations

import hashlib
import subprocess

import psycopg
import pytest

from heliosdb.transport.verification import find_statement_signer
from tests.integration.coordinator.orders_support import (
    answers,
    ended,
    erase,
    found_federation,
    keyed,
    share_by_patient,
)
from tests.integration.coordinator.support import World, create_model, create_workspace
from tests.support.cluster import bin_directory


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


async def test_a_node_that_is_away_is_asked_until_the_deadline_and_one_that_comes_meanwhile_too(
    world: World,
) -> None:
    _, west = await found_federation(world, "east", "west")
    world.start_coordinator()
    await keyed(world)
    await world.reached("(SELECT count(*) FROM federated.node WHERE status = 'active') = 2")
    west.kill()

    erase(world, "1", "nobody")
    await world.reached("(SELECT count(*) FROM federated.order_answer WHERE state = 'answered') = 2")
    north = await world.add_site("north", rows=60, seed=0.7, shares=False)
    share_by_patient(world, north)
    world.register(north)
    await world.reached("(SELECT count(*) FROM federated.order_answer WHERE state = 'answered') = 4")
    assert {row["state"] for row in answers(world)} == {"asked"}
    # Whether it was asked in vain, or known to be away before.
    await world.reached("(SELECT count(message) FROM federated_orders WHERE node_name = 'west') = 2")
    world.query("UPDATE federated.subject_order SET deadline = clock_timestamp()")
    await ended(world, 2)

    found = answers(world)
    assert {(row["state"], row["node_name"], row["node_state"]) for row in found} == {
        ("expired", "east", "answered"),
        ("expired", "north", "answered"),
        ("expired", "west", "pending"),
    }
    assert {row["message"] is None for row in found if row["node_name"] == "west"} == {False}
    assert world.query("SELECT FROM federated.subject_order WHERE sealed IS NOT NULL") == []
    assert world.query("SELECT is_intact FROM federated_audit_verify('consortium')") == [{"is_intact": True}]


async def test_who_is_unregistered_is_asked_no_more_and_a_dropped_workspace_ends_its_orders(
    world: World,
) -> None:
    _, west = await found_federation(world, "east", "west")
    coordinator = world.start_coordinator()
    await keyed(world)
    west.kill()
    erase(world, "1")
    await world.reached("(SELECT count(*) FROM federated.order_answer WHERE state = 'answered') = 1")
    world.execute("UNREGISTER FEDERATED NODE 'west' FROM WORKSPACE consortium")
    await ended(world)
    assert [(row["node_name"], row["node_state"], row["state"]) for row in answers(world)] == [
        ("east", "answered", "answered"),
        ("west", "unregistered", "answered"),
    ]

    coordinator.kill()
    erase(world, "2")
    world.execute("DROP FEDERATED WORKSPACE consortium CASCADE")
    [dropped] = world.query("SELECT * FROM federated.subject_order WHERE state = 'dropped'")
    assert (dropped["sealed"], dropped["ended_at"] is None) == (None, False)
    kept = world.query(
        "SELECT details FROM federated.audit WHERE object_kind = 'subject_order' AND object_name = %s ORDER BY recorded_at",
        str(dropped["order_id"]),
    )
    assert [one["details"]["after"]["state"] for one in kept] == ["requested", "dropped"]
    assert not any({"sealed", "pseudonym"} & set(one["details"]["after"]) for one in kept)


async def test_no_identifier_is_in_logs_catalogs_dumps_or_titles(world: World) -> None:
    """Of the statement itself alone: what a server logs of it is its own matter (the proxy's and log_statement's)."""
    canary = "canary-ß-7351"
    [site] = await found_federation(world, "east")
    with world.cluster.connect(site.database) as connection:
        connection.execute("CALL federated.execute('DROP FEDERATED DATASET patients')")
        connection.execute("ALTER TABLE patient ALTER patient_id TYPE text")
        connection.execute("UPDATE patient SET patient_id = %s WHERE patient_id = '9'", [canary])
    share_by_patient(world, site, options=", erasure = 'delete'")
    loud = {
        "log_statement": "all",
        "log_min_duration_statement": "0",
        "log_parameter_max_length_on_error": "-1",
        "session_preload_libraries": "auto_explain",
        "auto_explain.log_min_duration": "0",
        "auto_explain.log_nested_statements": "on",
        "auto_explain.log_verbose": "on",
        "log_error_verbosity": "verbose",
    }
    with world.cluster.connect() as connection:
        for database in (world.database, site.database):
            for name, value in loud.items():
                connection.execute(f"ALTER DATABASE {database} SET {name} = '{value}'")  # type: ignore[arg-type]
    site.kill()
    await world.start_site(site)
    coordinator = world.start_coordinator()
    await keyed(world)
    with world.catalog() as quiet:
        for name in ("log_min_duration_statement", "auto_explain.log_min_duration"):
            quiet.execute(f"SET {name} = -1")  # type: ignore[arg-type]
        quiet.execute("SET log_statement = 'none'")
        quiet.execute(
            "CALL federated.execute(%s)",
            [f"DELETE FROM FEDERATED TRAINING risk WHERE data_subject_id = '{canary}'"],
        )
    await ended(world)

    [row] = answers(world)
    assert (row["outcome"], row["state"]) == ("erased", "answered")
    texts = [(world.cluster.directory / "log").read_bytes(), coordinator.log.read_bytes()]
    texts += [dump(world, database) for database in (world.database, site.database)]
    texts.append(titles())
    for database in (world.database, site.database):
        with world.cluster.connect(database) as connection:
            texts += [str(connection.execute("SELECT query FROM pg_stat_activity").fetchall()).encode()]
    hashed = hashlib.sha256(canary.encode())
    # The log is as loud as it was meant to be, down to the plans of what deletes.
    assert b"COPY pg_temp.asked_subject" in texts[0]
    assert b"DELETE FROM federated_dataset.patients" in texts[0]
    for secret in (
        canary.encode(),
        canary.encode().hex().encode(),
        hashed.hexdigest().encode(),
        hashed.digest(),
    ):
        assert not any(secret in text for text in texts)


async def test_orders_go_on_after_both_databases_were_restored_from_dumps(world: World) -> None:
    [site] = await found_federation(world, "east")
    coordinator = world.start_coordinator()
    await keyed(world)
    erase(world, "1")
    await ended(world)
    coordinator.kill()
    erase(world, "2")
    site.kill()
    former, world.database = world.database, restored(world, world.database)
    site.database = restored(world, site.database)
    await world.start_site(site)
    world.start_coordinator()
    await ended(world, 2)

    assert [row["outcome"] for row in answers(world)] == ["suppressed", "suppressed"]
    with world.cluster.connect(site.database) as connection:
        assert connection.execute("SELECT count(*) FROM federated.withdrawn_subject").fetchall() == [(2,)]
        assert (
            connection.execute("SELECT outcome FROM federated_node_orders").fetchall()
            == [("suppressed",)] * 2
        )
    world.cluster.drop_database(former)


async def test_what_cannot_be_asked_is_one_clear_error(world: World) -> None:
    create_workspace(world)
    create_model(world)
    with pytest.raises(
        psycopg.errors.ObjectNotInPrerequisiteState, match="no coordinator has served"
    ) as raised:
        erase(world, "1")
    assert raised.value.diag.message_hint
    world.query(
        "INSERT INTO federated.coordinator_key (sealing_key) VALUES (decode(repeat('09', 32), 'hex'))"
    )
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="the data subject is too long") as long:
        erase(world, "1", "x" * 1025)
    assert "xxx" not in str(long.value)
    world.query("CREATE ROLE stranger LOGIN IN ROLE federated_admin")
    try:
        with world.cluster.connect(world.database, user="stranger") as connection:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(
                    "CALL federated.execute('DELETE FROM FEDERATED TRAINING risk WHERE data_subject_id = ''1''')"
                )
            with pytest.raises(
                psycopg.errors.InsufficientPrivilege, match="must be owner of federated workspace"
            ):
                connection.execute(
                    "INSERT INTO federated.subject_order (batch_id, kind, workspace, sealed)"
                    " VALUES (gen_random_uuid(), 'erase', 'consortium', 'x')"
                )
    finally:
        world.query("DROP OWNED BY stranger")
        world.query("DROP ROLE stranger")
    assert world.query("SELECT FROM federated.subject_order") == []


def test_what_a_node_says_breaks_nobody_s_view(world: World) -> None:
    create_workspace(world)
    world.query(
        "INSERT INTO federated.subject_order (batch_id, kind, workspace, sealed)"
        " VALUES (gen_random_uuid(), 'erase', 'consortium', 'x')"
    )
    world.query(
        "INSERT INTO federated.order_answer SELECT order_id, 1, 'n', 'answered', 'erased', NULL, now(), %s, 's', 'c'"
        " FROM federated.subject_order",
        b'{"x":"\\u0000"}',
    )
    [row] = answers(world)
    assert (row["outcome"], row["statement"]) == ("erased", None)


def titles() -> bytes:
    """The titles of all processes."""
    return subprocess.run(["ps", "-eww", "-o", "args"], check=True, capture_output=True).stdout


def dump(world: World, database: str) -> bytes:
    """What pg_dump writes of a database."""
    program = bin_directory() / "pg_dump"
    return subprocess.run(
        [program, "-d", world.cluster.dsn(database)], check=True, capture_output=True
    ).stdout


def restored(world: World, database: str) -> str:
    """A database made of another one's dump."""
    name = world.cluster.create_database("template0")
    subprocess.run(
        [bin_directory() / "psql", "-q", "-v", "ON_ERROR_STOP=1", "-d", world.cluster.dsn(name)],
        input=dump(world, database), check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    return name
