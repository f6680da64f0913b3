"""`heliosdb up` and `down` on real clusters: what they make and keep, and that they leave nothing behind.

Where the daemons are not the point they are left out with --clusters-only: it saves time.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from heliosdb.domain.errors import ErrorCode, edge
from tests.support.places import scratch

pytestmark = pytest.mark.xdist_group("heliosdb_up")

COMMAND = [sys.executable, "-m", "heliosdb.cli.main"]


@dataclass
class Up:
    """A running `heliosdb up`, its directory and what it said when it was ready."""

    process: subprocess.Popen[str]
    directory: Path
    facts: dict[str, Any]

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(120)


def up(directory: Path, *options: str, daemons: bool = False) -> Up:
    which = () if daemons else ("--clusters-only",)
    process = subprocess.Popen(
        [*COMMAND, "up", *which, "--nodes", "1", "--port", "0", "--dir", str(directory), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise AssertionError(process.communicate(timeout=60)[1])
    return Up(process, directory, json.loads(line))


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=150, check=False)


def servers_in(directory: Path) -> list[int]:
    """The processes whose working directory lies under `directory`: postmasters and their children."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                place = (entry / "cwd").readlink()
            except OSError:
                continue
            if place.is_relative_to(directory):
                found.append(int(entry.name))
    return found


def daemons_of(directory: Path) -> dict[str, int]:
    """The daemons whose configuration lies under `directory`, by the name of their configuration file."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().decode().split("\0")
            except OSError:
                continue
            for word in words:
                if word.startswith(f"{directory}/config/"):
                    found[Path(word).stem] = int(entry.name)
    return found


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true within 120 s"
        time.sleep(0.02)


def base_directory() -> Path:
    """Not tmp_path: as root, the clusters run as postgres, who may not enter pytest's directories."""
    base = Path(tempfile.mkdtemp(prefix="heliosdb-up-", dir=scratch()))
    base.chmod(0o755)
    return base


def end_all(installation: Path) -> list[int]:
    """Stop what runs of an installation; what is left of it even so."""
    if (installation / "state.json").exists():
        assert run("down", "--dir", str(installation)).returncode == 0
    return [*servers_in(installation), *daemons_of(installation).values()]


@pytest.fixture
def directory() -> Iterator[Path]:
    """Where an installation can be made."""
    base = base_directory()
    yield base / "installation"
    left = end_all(base / "installation") + servers_in(base)
    shutil.rmtree(base)
    assert left == []


@pytest.fixture(scope="module")
def made() -> Iterator[Path]:
    """An installation that has been up and is stopped: whoever does not look at how it is made begins with it."""
    base = base_directory()
    first = up(base / "installation")
    assert first.stop() == 0
    yield base / "installation"
    left = end_all(base / "installation")
    shutil.rmtree(base)
    assert left == []


@pytest.fixture
def installation(made: Path) -> Iterator[Path]:
    """It, and nothing of it runs, before and after the test."""
    yield made
    running = [*servers_in(made), *daemons_of(made).values()]
    assert not running or end_all(made) == []


def one(dsn: str, query: str) -> object:
    with psycopg.connect(dsn) as connection:
        row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return row[0]


def test_clusters_come_up_prepared_and_keep_their_state_over_a_restart(directory: Path) -> None:
    first = up(directory)
    coordinator, node = first.facts["coordinator"], first.facts["nodes"]["node_1"]

    assert one(coordinator, "SELECT current_database()") == "heliosdb"
    assert one(node["database"], "SELECT current_database()") == "node_1"
    for dsn in (coordinator, node["database"]):
        settings = "SELECT current_setting('fsync') || current_setting('data_checksums')"
        assert one(dsn, settings) == "onon"
        assert one(dsn, "SELECT count(*) FROM pg_extension WHERE extname = 'plpython3u'") == 1
        memberships = (
            "SELECT pg_has_role('heliosdb_daemon', 'federated_daemon', 'MEMBER')"
            " AND pg_has_role('heliosdb_reader', 'federated_reader', 'MEMBER')"
        )
        assert one(dsn, memberships) is True
        without_password = (
            "SELECT count(*) FROM pg_authid"
            " WHERE rolname ~ '^heliosdb_' AND rolcanlogin AND rolpassword IS NULL"
        )
        assert one(dsn, without_password) == (3 if dsn == coordinator else 2)
        rules = "SELECT array_agg(DISTINCT auth_method ORDER BY auth_method) FROM pg_hba_file_rules"
        assert one(dsn, rules) == ["peer", "scram-sha-256"]
    extension = "SELECT count(*) FROM pg_extension WHERE extname = 'heliosdb_federated_learning'"
    assert one(node["database"], extension) == 1
    assert one(coordinator, extension) == 0

    assert node["endpoint"].startswith("https://localhost:")
    assert Path(node["certificate"]).read_text().startswith("-----BEGIN CERTIFICATE-----")

    with psycopg.connect(node["database"]) as connection:
        connection.execute("CREATE TABLE patients AS SELECT 55 AS age")
    assert first.stop() == 0
    assert servers_in(directory) == []

    second = up(directory)
    assert second.facts == first.facts
    assert one(node["database"], "SELECT age FROM patients") == 55
    assert second.stop(signal.SIGINT) == 0


def test_a_wrong_password_and_a_local_stranger_are_refused(installation: Path) -> None:
    running = up(installation)
    dsn = running.facts["coordinator"]
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(dsn, password="wrong")
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(dsn, user="heliosdb_daemon", password="")
    run_directory = installation / "run"
    assert run_directory.stat().st_mode & 0o077 == 0
    assert running.stop() == 0


def test_daemon_roles_log_in_over_the_socket_without_a_password(installation: Path) -> None:
    running = up(installation)
    port = psycopg.conninfo.conninfo_to_dict(running.facts["nodes"]["node_1"]["database"])["port"]
    for role in ("heliosdb_daemon", "heliosdb_reader"):
        dsn = f"host={installation / 'run'} port={port} user={role} dbname=node_1"
        assert one(dsn, "SELECT current_user") == role
    assert running.stop() == 0


def test_a_second_up_is_told_that_it_is_up_and_disturbs_nothing(installation: Path) -> None:
    running = up(installation)
    second = run("up", "--clusters-only", "--dir", str(installation))
    assert second.returncode == edge(ErrorCode.WRONG_STATE).exit_code
    assert "is already up" in second.stderr
    assert second.stdout == ""
    assert one(running.facts["coordinator"], "SELECT 1") == 1
    assert running.stop() == 0


def test_down_stops_a_running_installation_and_is_content_with_a_stopped_one(installation: Path) -> None:
    running = up(installation)
    assert run("down", "--dir", str(installation)).stderr == "stopped\n"
    assert running.process.wait(60) == 0
    assert servers_in(installation) == []
    assert not (installation / "up.pid").exists()
    again = run("down", "--dir", str(installation))
    assert (again.returncode, again.stderr) == (0, "nothing was running\n")


def test_down_stops_what_a_killed_supervisor_left_running(installation: Path) -> None:
    running = up(installation)
    assert running.stop(signal.SIGKILL) == -9
    assert servers_in(installation) != []
    assert run("down", "--dir", str(installation)).stderr == "stopped\n"
    assert servers_in(installation) == []


def test_up_cleans_up_after_a_killed_supervisor_and_keeps_its_data(installation: Path) -> None:
    running = up(installation)
    with psycopg.connect(running.facts["coordinator"]) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 1 AS one")
    assert running.stop(signal.SIGKILL) == -9
    again = up(installation)
    assert one(again.facts["coordinator"], "SELECT one FROM kept") == 1
    assert again.stop() == 0


def test_nodes_can_be_added_later(directory: Path) -> None:
    small = up(directory)
    assert small.stop() == 0
    large = up(directory, "--nodes", "2")
    assert large.facts["coordinator"] == small.facts["coordinator"]
    assert large.facts["nodes"]["node_1"] == small.facts["nodes"]["node_1"]
    assert one(large.facts["nodes"]["node_2"]["database"], "SELECT current_database()") == "node_2"
    assert large.stop() == 0


def test_a_signal_while_it_comes_up_leaves_nothing_behind(directory: Path) -> None:
    process = subprocess.Popen(
        [*COMMAND, "up", "--clusters-only", "--nodes", "1", "--port", "0", "--dir", str(directory)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until((directory / "coordinator").exists)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=120)
    assert (process.returncode, out) == (0, "")
    assert servers_in(directory) == []


def test_a_long_directory_name_works_and_its_sockets_are_private(directory: Path) -> None:
    deep = directory / ("a-rather-long-name-for-a-directory/" * 3)
    running = up(deep)
    try:
        assert one(running.facts["coordinator"], "SELECT 1") == 1
        place = Path(
            str(one(running.facts["coordinator"], "SELECT current_setting('unix_socket_directories')"))
        )
        assert place.parent == Path("/tmp")
        assert place.stat().st_mode & 0o077 == 0
    finally:
        assert running.stop() == 0
    shutil.rmtree(place)


def test_everything_runs_and_a_statement_typed_at_the_proxy_reaches_the_catalog(installation: Path) -> None:
    running = up(installation, daemons=True)
    assert sorted(daemons_of(installation)) == ["api", "coordinator", "node_1", "proxy"]
    node = running.facts["nodes"]["node_1"]
    assert one(node["proxy"], "SELECT current_database()") == "node_1"
    with psycopg.connect(running.facts["proxy"], autocommit=True) as connection:
        connection.execute("CREATE EXTENSION heliosdb_federated_learning")
        connection.execute("CREATE FEDERATED WORKSPACE w WITH (min_nodes = 1)")
        register = (
            f"REGISTER FEDERATED NODE 'n' IN WORKSPACE w"
            f" WITH (endpoint = '{node['endpoint']}', certificate = '{node['certificate']}')"
        )
        connection.execute(register.encode())
        status = b"SELECT status FROM federated_node_status WHERE node_name = 'n'"
        wait_until(lambda: connection.execute(status).fetchone() == ("active",))
        [(token,)] = connection.execute(
            "SELECT federated_create_token('heliosdb_admin', '1 hour')"
        ).fetchall()
    page_answers(running.facts["page"], token)
    for kind, name in (("proxy",) * 2, ("coordinator",) * 2, ("node", "node_1"), ("api",) * 2):
        config = str(installation / "config" / f"{name}.toml")
        asked = run("health", kind, "--config", config, "--timeout", "60")
        assert (asked.returncode, asked.stderr) == (0, ""), asked.stdout
    assert running.stop() == 0
    assert daemons_of(installation) == {}


def page_answers(url: str, token: str) -> None:
    """Log in as the page does, and ask what the database says."""
    api = f"{url}api/v1/federated"
    with httpx.Client(timeout=60, headers={"Origin": url.rstrip("/")}) as browser:
        assert "script-src 'self'" in browser.get(f"{url}docs").headers["content-security-policy"]
        # The API looks for the extension again every few seconds.
        wait_until(lambda: browser.post(f"{api}/session", json={"token": token}).status_code == 200)
        session = browser.get(f"{api}/session").json()
        assert (session["role"], "sql" in session["rights"]) == ("heliosdb_admin", True)
        asked = browser.post(
            f"{api}/sql",
            json={"statement": "SHOW FEDERATED WORKSPACES"},
            headers={"X-CSRF-Token": session["csrf"]},
        )
        assert asked.json()["rows"][0][0] == "w"


def test_a_daemon_that_is_killed_comes_back(installation: Path) -> None:
    running = up(installation, daemons=True)
    before = daemons_of(installation)
    (installation / "ready" / "proxy").unlink()
    os.kill(before["proxy"], signal.SIGKILL)
    wait_until((installation / "ready" / "proxy").exists)
    assert one(running.facts["proxy"], "SELECT 1") == 1
    after = daemons_of(installation)
    assert after["proxy"] != before["proxy"]
    assert {**after, "proxy": before["proxy"]} == before
    assert running.stop() == 0


def test_down_ends_the_daemons_that_a_killed_supervisor_left(installation: Path) -> None:
    running = up(installation, daemons=True)
    assert running.stop(signal.SIGKILL) == -9
    assert len(daemons_of(installation)) == 4
    assert run("down", "--dir", str(installation)).stderr == "stopped\n"
    assert daemons_of(installation) == {}
    assert servers_in(installation) == []


def test_no_log_and_no_configuration_holds_the_password(installation: Path) -> None:
    running = up(installation, daemons=True)
    assert running.stop() == 0
    password = (installation / "secrets" / "postgres_password").read_text()
    files = [path for path in installation.rglob("*") if path.suffix in {".log", ".toml", ".json", ".conf"}]
    assert len(files) > 10
    assert [path for path in files if password in path.read_text(errors="replace")] == []


def test_a_daemon_that_does_not_come_up_is_an_error_with_its_log_and_leaves_nothing(
    installation: Path,
) -> None:
    first = up(installation, daemons=True)
    assert first.stop() == 0
    # A file stands where the node keeps its state.
    shutil.rmtree(installation / "daemons" / "node_1")
    (installation / "daemons" / "node_1").write_text("in the way")
    ended = run("up", "--dir", str(installation))
    assert ended.returncode != 0
    assert ended.stdout == ""
    assert "node_1" in ended.stderr
    assert daemons_of(installation) == {}
    assert servers_in(installation) == []
    (installation / "daemons" / "node_1").unlink()


def test_a_closed_parent_directory_matters_only_where_the_clusters_run_as_another_user(
    directory: Path,
) -> None:
    closed = directory.parent / "closed"
    closed.mkdir(mode=0o700)
    if os.geteuid() == 0:
        ended = run("up", "--clusters-only", "--port", "0", "--dir", str(closed / "installation"))
        assert ended.returncode == edge(ErrorCode.PRIVILEGE).exit_code
        assert f'may not enter "{closed}"' in ended.stderr
    else:
        assert up(closed / "installation").stop() == 0


def test_a_cluster_that_is_killed_comes_back_and_it_is_said(installation: Path) -> None:
    running = up(installation)
    database = running.facts["nodes"]["node_1"]["database"]
    with psycopg.connect(database) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 1 AS one")
    postmaster = int((installation / "node_1" / "pgdata" / "postmaster.pid").read_text().split("\n", 1)[0])
    os.kill(postmaster, signal.SIGKILL)
    assert running.process.stderr is not None
    for line in running.process.stderr:
        if line == "the PostgreSQL cluster node_1 is ready again\n":
            break
    else:
        raise AssertionError("the supervisor ended")
    assert one(database, "SELECT one FROM kept") == 1
    assert running.stop() == 0


def test_a_taken_port_is_said_at_once_and_leaves_no_directory(directory: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = run("up", "--port", str(port), "--dir", str(directory / "deep"))
    assert ended.returncode == edge(ErrorCode.IN_USE).exit_code
    assert f"port {port}" in ended.stderr
    assert "stopping" not in ended.stderr
    assert not directory.exists()
