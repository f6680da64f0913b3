"""What runs in the containers and can run without them: scripts, access rules, and who may write where."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pglast
import psycopg
import pytest
import uvloop
from psycopg import sql

from tests.support.cluster import (
    SUPERUSER,
    Cluster,
    as_server_user,
    bin_directory,
    create_cluster,
    remove_cluster,
)
from tests.support.ports import free_port

ROOT = Path(__file__).resolve().parents[3]
COMMAND = [sys.executable, "-m", "heliosdb.cli.main"]


@pytest.fixture
def server() -> Iterator[Cluster]:
    """A server as a container makes it, for one test: its roles are the script's."""
    running = create_cluster(free_port())
    yield running
    remove_cluster(running)


@pytest.mark.parametrize(("kind", "installed"), [("node", 1), ("coordinator", 0)])
def test_the_first_start_prepares_a_database(server: Cluster, kind: str, installed: int) -> None:
    database = server.create_database()
    ended = subprocess.run(
        ["bash", str(ROOT / "docker/database/init.sh")],
        text=True,
        capture_output=True,
        check=False,
        env={
            **os.environ,
            "PATH": f"{bin_directory()}:{os.environ['PATH']}",
            "PGHOST": str(server.directory),
            "PGPORT": str(server.port),
            "POSTGRES_USER": SUPERUSER,
            "POSTGRES_DB": database,
            "HELIOSDB_DATABASE_OF": kind,
        },
    )
    assert ended.returncode == 0, ended.stderr
    with server.connect(database) as connection:
        found = connection.execute(
            "SELECT count(*) FROM pg_extension WHERE extname = 'heliosdb_federated_learning'"
        ).fetchall()
        logins = connection.execute(
            "SELECT rolname FROM pg_roles WHERE rolname LIKE 'heliosdb%' AND rolcanlogin ORDER BY 1"
        ).fetchall()
    assert found == [(installed,)]
    assert logins == [("heliosdb_daemon",), ("heliosdb_reader",)]


def test_the_server_reads_the_containers_access_rules(server: Cluster) -> None:
    for name in ("pg_hba.conf", "pg_ident.conf"):
        shutil.copy(ROOT / "docker/database" / name, server.directory / name)
    with server.connect() as connection:
        for setting, name in (("hba_file", "pg_hba.conf"), ("ident_file", "pg_ident.conf")):
            connection.execute(
                sql.SQL("ALTER SYSTEM SET {} = {}").format(
                    sql.Identifier(setting), sql.Literal(str(server.directory / name))
                )
            )
    # Whoever may connect by the test's rules may not by these: the server's own account starts it, and asks.
    server.stop("fast")
    server.start()
    asked = subprocess.run(
        as_server_user(
            [
                str(bin_directory() / "psql"),
                *(
                    "-XAt",
                    "-h",
                    str(server.directory),
                    "-p",
                    str(server.port),
                    "-U",
                    "postgres",
                    "-d",
                    "postgres",
                ),
                *("-c", "SELECT count(*), count(error) FROM pg_hba_file_rules"),
            ]
        ),
        capture_output=True,
        text=True,
        check=True,
        cwd="/",
    )
    assert asked.stdout.split() == ["4|0"]
    with pytest.raises(psycopg.OperationalError, match="Peer authentication failed"):
        psycopg.connect(server.dsn(user="heliosdb_daemon"))


def test_packages_keep_working_and_their_licences_when_they_are_made_slim(tmp_path: Path) -> None:
    for package in (pglast, uvloop):
        assert package.__file__ is not None
        place = Path(package.__file__).parent
        shutil.copytree(place, tmp_path / place.name)
        [described] = place.parent.glob(f"{place.name}-*.dist-info")
        shutil.copytree(described, tmp_path / described.name)
    (tmp_path / "pglast/tests").mkdir()
    (tmp_path / "pglast/tests/test_it.py").write_text("")
    licences = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if "LICENSE" in path.name)
    before = _bytes(tmp_path)
    subprocess.run(["sh", str(ROOT / "docker/daemon/slim.sh"), str(tmp_path)], check=True)
    assert _bytes(tmp_path) < before / 2
    assert not (tmp_path / "pglast/tests").exists()
    assert licences
    assert all((tmp_path / path).exists() for path in licences)
    script = "import pglast, uvloop, asyncio; pglast.parse_sql('SELECT 1'); uvloop.run(asyncio.sleep(0)); print(pglast.__file__)"
    ended = subprocess.run(
        [sys.executable, "-c", script],
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout.startswith(str(tmp_path))


def _bytes(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


def test_identities_are_issued_apart_and_once(tmp_path: Path) -> None:
    # As the image has them: made before, each of which is a volume.
    for name in ("ca", "public", "coordinator", "hospital-a"):
        (tmp_path / name).mkdir(mode=0o700)
    command = [
        *COMMAND,
        "certificates",
        "--apart",
        "--dir",
        str(tmp_path),
        "--name",
        "coordinator",
        "--name",
        "hospital-a",
    ]
    subprocess.run(command, check=True, capture_output=True)
    made = {path.relative_to(tmp_path).as_posix(): path.read_bytes() for path in tmp_path.rglob("*.*")}
    assert set(made) == {
        *("ca/ca.pem", "ca/ca.key", "public/ca.pem", "public/coordinator.pem", "public/hospital-a.pem"),
        *("coordinator/coordinator.pem", "coordinator/coordinator.key"),
        *("hospital-a/hospital-a.pem", "hospital-a/hospital-a.key"),
    }
    assert made["public/hospital-a.pem"] == made["hospital-a/hospital-a.pem"]
    assert made["public/ca.pem"] == made["ca/ca.pem"]
    assert {path.stat().st_mode & 0o777 for path in tmp_path.rglob("*.key")} == {0o600}
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "public").iterdir()} == {0o644}
    subprocess.run(command, check=True, capture_output=True)
    assert made == {
        path.relative_to(tmp_path).as_posix(): path.read_bytes() for path in tmp_path.rglob("*.*")
    }
