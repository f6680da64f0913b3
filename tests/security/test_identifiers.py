"""A data subject's identifier goes through erasure, consent and export and stays in no log, row, title or dump."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from heliosdb.domain.sealed_subject import KEY_FILE
from tests.integration.coordinator.exports_support import in_state, server_directory
from tests.integration.coordinator.orders_support import ended, found_federation, keyed
from tests.integration.coordinator.support import MODEL, WORKSPACE, World, make_world
from tests.support.cluster import Cluster, bin_directory
from tests.support.proxy import running_proxy

CANARY = "918273645"
LOGGING = {
    "log_statement": "all",
    "log_min_duration_statement": "0",
    "log_min_messages": "debug2",
    "log_error_verbosity": "verbose",
    "log_duration": "on",
}
STATEMENTS = (
    f"GRANT FEDERATED CONSENT FOR SUBJECT '{CANARY}' PURPOSE 'research' IN WORKSPACE {WORKSPACE}",
    f"REVOKE FEDERATED CONSENT FOR SUBJECT '{CANARY}' PURPOSE 'research' FROM WORKSPACE {WORKSPACE}",
    f"DELETE FROM FEDERATED TRAINING {MODEL} WHERE data_subject_id IN ('{CANARY}', 'x', '{CANARY}')",
)
WRONG = (
    f"DELETE FROM FEDERATED TRAINING nothing WHERE data_subject_id = '{CANARY}'",
    f"DELETE FROM FEDERATED TRAINING {MODEL} WHERE data_subject_id LIKE '{CANARY}'",
    f"EXPORT FEDERATED DATA FOR SUBJECT '{CANARY}' FROM WORKSPACE {WORKSPACE} TO 'relative'",
    f"REVOKE FEDERATED CONSENT FOR SUBJECT E'{CANARY}' PURPOSE",
)


@pytest.fixture
def world(cluster: Cluster, tmp_path: Path, federated_database: str) -> Iterator[World]:
    with make_world(cluster, tmp_path, federated_database) as made:
        yield made


@pytest.fixture
def place() -> Iterator[Path]:
    with server_directory() as directory:
        yield directory


def log_everything(world: World, *databases: str) -> None:
    with world.cluster.connect() as connection:
        for database in databases:
            for name, value in LOGGING.items():
                connection.execute(f"ALTER DATABASE \"{database}\" SET {name} = '{value}'")  # type: ignore[arg-type]


def federated_rows(world: World, database: str) -> str:
    """All rows of the product's own tables, and what a dump of them holds."""
    dumped = subprocess.run(
        [str(bin_directory() / "pg_dump"), "--exclude-table=public.patient", world.cluster.dsn(database)],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    with world.cluster.connect(database) as connection:
        tables = connection.execute(
            "SELECT c.oid::regclass::text FROM pg_class AS c WHERE c.relnamespace = 'federated'::regnamespace AND c.relkind = 'r'"
        ).fetchall()
        found = [
            connection.execute(f"SELECT coalesce(string_agg(t::text, ' '), '') FROM {table} AS t").fetchone()  # type: ignore[arg-type]
            for (table,) in tables
        ]
    return dumped + "".join(str(row) for row in found)


def titles_and_statements(world: World) -> str:
    titles = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            titles.append(file.read_bytes().decode(errors="replace"))
    with world.cluster.connect() as connection:
        running = connection.execute("SELECT query, application_name FROM pg_stat_activity").fetchall()
    return "".join(titles) + str(running)


def demand_absent(text: str, where: str) -> None:
    for form in (CANARY, CANARY.encode().hex(), CANARY.encode().hex().upper()):
        at = text.find(form)
        assert at < 0, f"{where}: …{text[max(at - 200, 0) : at + 50]}…"


async def test_an_identifier_stays_nowhere(
    world: World, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HELIOSDB_TEST_LOG_LEVEL", "DEBUG")
    monkeypatch.setenv("GRPC_VERBOSITY", "DEBUG")
    [site] = await found_federation(world, "east", options=", exports = true, erasure = 'delete'")
    with world.cluster.connect(site.database) as connection:
        connection.execute(f"INSERT INTO patient VALUES ({CANARY}, 50, 120, 1)")  # type: ignore[arg-type]
    log_everything(world, world.database, site.database)
    log = world.cluster.directory / "log"
    begins = log.stat().st_size
    site.kill()
    node_log, proxy_log = tmp_path / "node.log", tmp_path / "proxy.log"
    await world.start_site(site, log=node_log)
    coordinator = world.start_coordinator()
    await keyed(world)
    path = place / "export.json"
    key = world.federation.directory / "coordinator-state" / KEY_FILE

    with (
        running_proxy(world.cluster, subject_key=key, keep_log=proxy_log) as proxy,
        psycopg.connect(proxy.dsn(world.database), autocommit=True) as session,
    ):
        for statement in WRONG:
            with pytest.raises(psycopg.Error) as caught:
                session.execute(statement)  # type: ignore[arg-type]
            demand_absent(str(caught.value.diag.message_primary), "an error")
        export = f"EXPORT FEDERATED DATA FOR SUBJECT '{CANARY}' FROM WORKSPACE {WORKSPACE} TO '{path}'"
        session.execute(export, prepare=True)  # type: ignore[arg-type]
        demand_absent(titles_and_statements(world), "while it is exported")
        await in_state(world, path, "written")
        for statement in STATEMENTS:
            # Which of them this release carries out is not this test's matter.
            with contextlib.suppress(psycopg.errors.FeatureNotSupported):
                session.execute(statement)  # type: ignore[arg-type]
            demand_absent(titles_and_statements(world), statement[:10])
        await ended(world, 3)
        demand_absent(titles_and_statements(world), "at the end")

    read = json.loads(path.read_text())
    assert [row["patient_id"] for row in read["nodes"][0]["datasets"][0]["rows"]] == [int(CANARY)]
    with log.open("rb") as file:
        file.seek(begins)
        logged = file.read().decode(errors="replace")
    assert "SEALED" in logged, "statements are logged"
    assert "asked_subject" in logged, "the node's too"
    demand_absent(logged, "the server's log")
    for daemon in (coordinator.log, node_log, proxy_log):
        demand_absent(daemon.read_text(), daemon.name)
    assert "DEBUG" in coordinator.log.read_text() + node_log.read_text()
    for database in (world.database, site.database):
        demand_absent(federated_rows(world, database), database)
    for file in world.federation.directory.rglob("*"):
        if file.is_file():
            demand_absent(file.read_bytes().decode(errors="replace"), str(file))
