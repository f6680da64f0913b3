"""EXPORT FEDERATED DATA as a statement: what it asks for stands in the catalog, and who may have files written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import errors

from heliosdb.domain.sealed_part import seal_part
from heliosdb.domain.subject_export import HeldDataset, Holdings
from tests.integration.extension.versions_support import execute, value
from tests.support.cluster import Cluster

EXPORT = "EXPORT FEDERATED DATA FOR SUBJECT '{}' FROM WORKSPACE clinics TO '{}'"


@pytest.fixture
def admin(
    cluster: Cluster, federated_database: str, catalog: psycopg.Connection
) -> Iterator[psycopg.Connection]:
    """A connection of the workspace's owner."""
    with cluster.connect(federated_database, user="an_admin") as connection:
        yield connection


@pytest.fixture
def writer(cluster: Cluster, admin: psycopg.Connection) -> Iterator[psycopg.Connection]:
    """The same, with the right to name files on the server, once a coordinator has published its key."""
    with cluster.connect() as connection:
        connection.execute("GRANT pg_write_server_files TO an_admin")
        yield admin
        connection.execute("REVOKE pg_write_server_files FROM an_admin")


def publish_key(catalog: psycopg.Connection) -> None:
    catalog.execute(
        "INSERT INTO federated.coordinator_key (sealing_key) VALUES (decode(repeat('09', 32), 'hex'))"
    )


def test_without_a_coordinator_nobody_could_be_asked(writer: psycopg.Connection, place: Path) -> None:
    with pytest.raises(errors.ObjectNotInPrerequisiteState, match="no coordinator has served"):
        execute(writer, EXPORT.format("s", place / "x.json"))


def test_the_statement_asks_and_writes_nothing(
    cluster: Cluster, catalog: psycopg.Connection, writer: psycopg.Connection, place: Path
) -> None:
    publish_key(catalog)
    notices: list[str] = []
    writer.add_notice_handler(lambda said: notices.append(f"{said.severity}: {said.message_primary}"))
    execute(writer, EXPORT.format("kanarie", place / "kanarie.json"))
    assert [notice.split(":")[0] for notice in notices] == ["WARNING", "NOTICE"]
    notices.clear()
    execute(writer, EXPORT.format("kanarie", place / "y.csv") + " FORMAT 'CSV'")
    assert [notice.split(":")[0] for notice in notices] == ["NOTICE"]

    shown = writer.execute(
        "SELECT format, state, requested_by FROM federated_exports ORDER BY path"
    ).fetchall()
    assert shown == [("json", "requested", "an_admin"), ("csv", "requested", "an_admin")]
    assert list(place.iterdir()) == []
    [(audited,)] = catalog.execute(
        "SELECT count(*) FROM federated.audit WHERE object_kind = 'export' AND details::text NOT LIKE '%kanarie%'"
    ).fetchall()
    assert audited == 2
    assert value(catalog, "count(*) FROM federated.audit WHERE object_kind = 'export'") == 2
    file = cluster.directory / "data" / "heliosdb_exports.key"
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.stat().st_uid == (cluster.directory / "data").stat().st_uid
    assert file.stat().st_size == 32


def test_what_is_rolled_back_is_not_asked(
    catalog: psycopg.Connection, writer: psycopg.Connection, place: Path
) -> None:
    publish_key(catalog)
    writer.autocommit = False
    execute(writer, EXPORT.format("s", place / "x.json"))
    writer.rollback()
    assert value(catalog, "count(*) FROM federated.subject_order") == 0
    assert value(catalog, "count(*) FROM federated.export") == 0


def test_the_row_that_has_a_file_written_asks_for_the_right_too(
    catalog: psycopg.Connection,
    writer: psycopg.Connection,
    admin: psycopg.Connection,
    cluster: Cluster,
    place: Path,
) -> None:
    publish_key(catalog)
    execute(writer, EXPORT.format("s", place / "x.json"))
    catalog.execute("DELETE FROM federated.export")
    insert = (
        "INSERT INTO federated.export (order_id, path, format, salt, recipient)"
        " SELECT order_id, '/tmp/x', 'json', decode(repeat('00', 16), 'hex'), decode(repeat('09', 32), 'hex')"
        " FROM federated.subject_order"
    )
    with cluster.connect() as connection:
        connection.execute("REVOKE pg_write_server_files FROM an_admin")
    with pytest.raises(errors.InsufficientPrivilege, match="permission denied to export"):
        admin.execute(insert)
    with cluster.connect() as connection:
        connection.execute("GRANT pg_write_server_files TO an_admin")
    catalog.execute("UPDATE federated.subject_order SET requested_by = 'an_operator'")
    with pytest.raises(errors.InsufficientPrivilege, match="permission denied to export"):
        admin.execute(insert)


@pytest.mark.parametrize("user", ["an_admin", "an_operator", "an_auditor"])
def test_only_the_daemon_has_a_file_written(
    cluster: Cluster, federated_database: str, catalog: psycopg.Connection, user: str
) -> None:
    with (
        cluster.connect(federated_database, user=user) as session,
        pytest.raises(errors.InsufficientPrivilege),
    ):
        session.execute("SELECT federated._write_export(gen_random_uuid())")


def test_an_order_that_there_is_not_has_no_state(
    cluster: Cluster, federated_database: str, catalog: psycopg.Connection
) -> None:
    with cluster.connect(federated_database, user="heliosdb_daemon") as session:
        assert session.execute("SELECT federated._write_export(gen_random_uuid())").fetchone() == (None,)


def answered(catalog: psycopg.Connection, part: bytes) -> str:
    """Have the one order be over, with an answer of a node; returns its id."""
    [(order_id,)] = catalog.execute(
        "UPDATE federated.subject_order SET state = 'answered', sealed = NULL, ended_at = now() RETURNING order_id::text"
    ).fetchall()
    catalog.execute(
        "INSERT INTO federated.order_answer (order_id, node_id, node_name, state, outcome, statement, signature, certificate_sha256)"
        " VALUES (%s, 1, 'east', 'answered', 'exported', '{}', '', '')",
        [order_id],
    )
    catalog.execute("INSERT INTO federated.export_part VALUES (%s, 1, %s)", [order_id, part])
    return str(order_id)


def step(session: psycopg.Connection, order_id: str) -> str:
    [(state,)] = session.execute("SELECT federated._write_export(%s)", [order_id]).fetchall()
    return str(state)


def test_a_file_that_was_written_and_not_recorded_is_known_again(
    cluster: Cluster,
    federated_database: str,
    catalog: psycopg.Connection,
    writer: psycopg.Connection,
    place: Path,
) -> None:
    publish_key(catalog)
    path = place / "x.json"
    execute(writer, EXPORT.format("s", path))
    [(recipient,)] = catalog.execute("SELECT recipient FROM federated.export").fetchall()
    [(order,)] = catalog.execute("SELECT order_id FROM federated.subject_order").fetchall()
    held = HeldDataset("patients", "public.patient", "exported", (("a", "integer"),), (("7",),))
    part = seal_part(bytes(recipient), Holdings("s", (held,)).to_bytes(), order, "east")
    order_id = answered(catalog, part)

    with cluster.connect(federated_database, user="heliosdb_daemon") as daemon:
        assert step(daemon, order_id) == "waiting", "what it is to say is fixed"
        assert not path.exists()
        daemon.autocommit = False
        assert step(daemon, order_id) == "written"
        content = path.read_bytes()
        daemon.rollback()
        daemon.autocommit = True
        assert value(catalog, "state FROM federated.export") == "waiting"
        assert step(daemon, order_id) == "written"
        assert step(daemon, order_id) == "written"
    assert path.read_bytes() == content
    assert json.loads(content)["nodes"][0]["datasets"][0]["rows"] == [{"a": 7}]
    assert bytes(value(catalog, "sha256 FROM federated.export")) == hashlib.sha256(content).digest()
    assert value(catalog, "count(*) FROM federated.export_part") == 0


def test_what_a_node_made_up_is_said_to_be_unreadable(
    cluster: Cluster,
    federated_database: str,
    catalog: psycopg.Connection,
    writer: psycopg.Connection,
    place: Path,
) -> None:
    publish_key(catalog)
    execute(writer, EXPORT.format("s", place / "x.json"))
    order_id = answered(catalog, b"x" * 300)
    with cluster.connect(federated_database, user="heliosdb_daemon") as daemon:
        step(daemon, order_id)
        assert step(daemon, order_id) == "written"
    [node] = json.loads((place / "x.json").read_text())["nodes"]
    assert (node["message"], node["datasets"]) == ("what the node sent cannot be read", [])


def test_without_the_servers_key_the_export_has_failed(
    cluster: Cluster,
    federated_database: str,
    catalog: psycopg.Connection,
    writer: psycopg.Connection,
    place: Path,
) -> None:
    publish_key(catalog)
    execute(writer, EXPORT.format("s", place / "x.json"))
    catalog.execute("UPDATE federated.export SET salt = decode(repeat('01', 16), 'hex')")
    order_id = answered(catalog, b"x" * 300)
    with cluster.connect(federated_database, user="heliosdb_daemon") as daemon:
        step(daemon, order_id)
        assert step(daemon, order_id) == "failed"
    assert "not in this server's data directory" in value(catalog, "message FROM federated.export")
    assert list(place.iterdir()) == []
