"""The commands for people, on one stack that `heliosdb up` runs on a terminal: what it says to type is typed.

The tests follow one another as a first evening does; they share the stack, since that is what costs.
"""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psycopg
import pytest

from heliosdb.cli.embedded.toml import render_toml
from heliosdb.domain.errors import ErrorCode, edge

pytestmark = pytest.mark.xdist_group("heliosdb_up")

COMMAND = [sys.executable, "-m", "heliosdb.cli.main"]
_DEADLINE = 240.0


@dataclass
class Terminal:
    """A command on a terminal of its own, and what it has shown."""

    process: subprocess.Popen[bytes]
    master: int
    shown: str = ""
    _grown: threading.Condition = field(default_factory=threading.Condition)

    @classmethod
    def run(cls, *arguments: str, environment: dict[str, str] | None = None) -> Terminal:
        master, slave = pty.openpty()
        process = subprocess.Popen(
            # Whoever has started the tests in the background has them, and all of theirs, ignore SIGINT.
            ["env", "--default-signal=INT", *COMMAND, *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            env={**os.environ, "TERM": "xterm", "COLUMNS": "200", **(environment or {})},
        )
        os.close(slave)
        terminal = cls(process, master)
        threading.Thread(target=terminal._read, daemon=True).start()
        return terminal

    def _read(self) -> None:
        while True:
            try:
                seen = os.read(self.master, 65_536)
            except OSError:  # Linux says so where nobody has the other end open any more.
                seen = b""
            with self._grown:
                self.shown += re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen.decode(errors="replace"))
                self._grown.notify_all()
            if not seen:
                return

    def wait_for(self, text: str) -> str:
        with self._grown:
            assert self._grown.wait_for(lambda: text in self.shown, _DEADLINE), self.shown
            return self.shown

    def interrupt(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(_DEADLINE)


@dataclass(frozen=True)
class Stack:
    """What `heliosdb up` runs, and the lines that it showed."""

    directory: Path
    shown: str

    @property
    def environment(self) -> dict[str, str]:
        password = (self.directory / "secrets" / "postgres_password").read_text()
        port = re.search(r"port=(\d+)", self.shown)
        assert port is not None
        return {
            **os.environ,
            "PGPASSWORD": password,
            "PGHOST": "127.0.0.1",
            "PGPORT": port[1],
            "PGUSER": "postgres",
            "PGDATABASE": "heliosdb",
        }

    def heliosdb(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, *arguments],
            capture_output=True,
            text=True,
            timeout=_DEADLINE,
            check=False,
            env={**self.environment, **environment},
        )

    def psql(self, text: str, *, database: str = "heliosdb") -> str:
        ended = subprocess.run(
            ["psql", "-X", "-v", "ON_ERROR_STOP=1", "-d", database],
            input=text,
            capture_output=True,
            text=True,
            timeout=_DEADLINE,
            check=False,
            env=self.environment,
        )
        assert ended.returncode == 0, ended.stderr
        return ended.stdout


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """One coordinator and one node with rows in its table, as the first lines on the terminal say."""
    # Not tmp_path: as root, the clusters run as postgres, who may not enter pytest's directories.
    base = Path(tempfile.mkdtemp(prefix="heliosdb-console-", dir="/tmp"))
    base.chmod(0o755)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        grpc_port = str(probe.getsockname()[1])
    up = Terminal.run(
        "up", "--nodes", "1", "--port", "0", "--grpc-port", grpc_port, "--dir", str(base / "here"),
        environment={"COLUMNS": "500"},
    )  # fmt: skip
    try:
        shown = up.wait_for("the data stay.").replace("\r\n", "\n")
        made = Stack(base / "here", shown)
        # Typed as it stands: each line that begins psql, and the statements below it.
        for command, statements in re.findall(
            r"^  (PGPASSWORD=.* psql .*)\n\n((?:  .*\n)+)", shown, re.MULTILINE
        ):
            subprocess.run(
                ["bash", "-c", f"{command} -X -v ON_ERROR_STOP=1"],
                input=statements,
                text=True,
                check=True,
                timeout=_DEADLINE,
                capture_output=True,
            )
        made.psql(
            "CREATE FEDERATED MODEL risk WITH (algorithm = 'logistic_regression', features = ['age'], target = 'ill',"
            " rounds = 4, learning_rate = 0.1);"
            "CREATE ROLE an_analyst LOGIN PASSWORD 'x' IN ROLE federated_analyst;"
            "CREATE ROLE a_nobody LOGIN PASSWORD 'x'"
        )
        yield made
    finally:
        assert up.interrupt() == 0
        shutil.rmtree(base)


def test_no_password_is_shown_on_the_terminal(stack: Stack) -> None:
    assert stack.environment["PGPASSWORD"] not in stack.shown
    assert "Logs: " in stack.shown


def test_the_command_that_is_shown_runs_where_the_path_does_not_lead_to_it(stack: Stack) -> None:
    [line] = re.findall(r"^  (PGPASSWORD=.* status --dsn .*)$", stack.shown, re.MULTILINE)
    ended = subprocess.run(
        ["bash", "-c", line], text=True, check=True, timeout=_DEADLINE, capture_output=True,
        env={"PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert re.search(r"clinics +node_1", ended.stdout)


def test_the_token_that_is_shown_how_to_make_opens_the_page(stack: Stack) -> None:
    [line] = re.findall(
        r"^  (PGPASSWORD=.* psql .* -Atc .*)$", stack.shown.replace("\r\n", "\n"), re.MULTILINE
    )
    [url] = re.findall(r"http://127\.0\.0\.1:\d+/", stack.shown)
    token = subprocess.run(
        ["bash", "-c", line], text=True, check=True, timeout=_DEADLINE, capture_output=True
    ).stdout.strip()
    answer = httpx.get(
        f"{url}api/v1/federated/workspaces", headers={"Authorization": f"Bearer {token}"}, timeout=_DEADLINE
    )
    assert [one["name"] for one in answer.json()] == ["clinics"]


def test_a_model_that_was_never_trained_cannot_be_watched_nor_one_that_is_not_there(stack: Stack) -> None:
    never, absent = stack.heliosdb("watch", "risk"), stack.heliosdb("watch", "no_such_model")
    assert (never.returncode, absent.returncode) == (
        edge(ErrorCode.WRONG_STATE).exit_code,
        edge(ErrorCode.UNDEFINED_OBJECT).exit_code,
    )
    assert "never been in training" in never.stderr


def test_a_run_is_watched_to_its_end_and_its_outcome_is_the_exit_code(stack: Stack) -> None:
    stack.psql("START FEDERATED TRAINING risk")
    watched = stack.heliosdb("watch", "risk", "--json")
    assert watched.returncode == 0, watched.stderr
    seen = [json.loads(line) for line in watched.stdout.splitlines()]
    assert [one["round_number"] for one in seen[:-1]] == [0, 1, 2, 3, 4]
    assert all(one["global_loss"] is not None for one in seen[1:-1])
    assert seen[-1]["status"] == "completed"
    plain = stack.heliosdb("watch", "risk", PGUSER="an_analyst", PGPASSWORD="x")
    assert plain.stdout.splitlines()[-1] == "risk: completed: all 4 rounds done"


def test_a_terminal_shows_a_bar_and_leaving_it_leaves_the_run_going(stack: Stack) -> None:
    stack.psql("START FEDERATED TRAINING risk WITH (rounds = 100000, early_stopping_rounds = 100000)")
    bar = Terminal.run("watch", "risk", environment=stack.environment)
    bar.wait_for("loss ")
    assert bar.interrupt() == 130
    assert "goes on" in bar.wait_for("STOP FEDERATED TRAINING")
    (latest,) = json.loads(stack.heliosdb("status", "--json").stdout)["runs"][:1]
    assert latest["status"] == "running"
    stack.psql("STOP FEDERATED TRAINING risk")
    stopped = stack.heliosdb("watch", "risk")
    assert stopped.returncode == 20
    assert stopped.stdout.splitlines()[-1].startswith("risk: stopped: ")


def test_status_shows_what_the_role_may_read_and_names_what_it_may_not(stack: Stack) -> None:
    shown = stack.heliosdb("status", PGUSER="an_analyst", PGPASSWORD="x").stdout
    assert re.search(r"clinics +node_1 +active .* days ", shown)
    assert re.search(r"clinics +risk +1 +completed +4 ", shown)
    document = json.loads(stack.heliosdb("status", "--json").stdout)
    assert document["nodes"][0]["certificate_days"] > 300
    assert document["budgets"][0]["total_budget_epsilon"] is None
    nobody = stack.heliosdb("status", "--json", PGUSER="a_nobody", PGPASSWORD="x")
    assert json.loads(nobody.stdout) == {"workspaces": None, "nodes": None, "runs": None, "budgets": None}
    text = stack.heliosdb("status", PGUSER="a_nobody", PGPASSWORD="x").stdout
    assert text.count("not shown") == 4


def test_status_on_a_terminal_follows_until_it_is_interrupted(stack: Stack) -> None:
    live = Terminal.run("status", "--interval", "0.2", environment=stack.environment)
    live.wait_for("every 0.2 s")
    assert live.interrupt() == 0
    assert "node_1" in live.shown


def test_status_without_the_extension_or_a_server_is_one_clear_error(stack: Stack) -> None:
    without = stack.heliosdb("status", "--dsn", "dbname=postgres")
    assert without.returncode == edge(ErrorCode.WRONG_STATE).exit_code
    assert "CREATE EXTENSION" in without.stderr
    away = stack.heliosdb("status", "--dsn", "host=127.0.0.1 port=1 password=hidden")
    assert away.returncode == edge(ErrorCode.UNREACHABLE).exit_code
    none = stack.heliosdb("status", "--dsn", "no dsn password=hidden")
    assert none.returncode == edge(ErrorCode.INVALID_VALUE).exit_code
    assert "hidden" not in away.stderr + none.stderr


@pytest.mark.parametrize("daemon", ["node_1", "coordinator", "proxy", "api"])
def test_the_doctor_finds_nothing_at_a_daemon_that_is_well(stack: Stack, daemon: str) -> None:
    ended = stack.heliosdb("doctor", "--config", str(stack.directory / "config" / f"{daemon}.toml"))
    assert ended.returncode == 0, ended.stdout
    assert {line[0] for line in ended.stdout.splitlines()} == {"✓"}, ended.stdout
    assert ("grpc_port: port" in ended.stdout) == (daemon == "api")


def test_the_doctor_examines_the_server_as_the_role_finds_it(stack: Stack) -> None:
    well = json.loads(stack.heliosdb("doctor", "--json").stdout)
    assert {one["mark"] for one in well} == {"good"}
    nobody = stack.heliosdb("doctor", PGUSER="a_nobody", PGPASSWORD="x")
    assert nobody.returncode == 0
    assert "! server: role a_nobody is a member of none" in nobody.stdout
    stack.psql("ALTER ROLE a_nobody SET search_path = pg_catalog")
    assert (
        "not in the role's search_path" in stack.heliosdb("doctor", PGUSER="a_nobody", PGPASSWORD="x").stdout
    )
    refused = stack.heliosdb("doctor", PGUSER="a_nobody", PGPASSWORD="wrong")
    assert refused.returncode == 1
    assert "✗ server: " in refused.stdout
    assert "28P01" in refused.stdout
    without = stack.heliosdb("doctor", "--dsn", "dbname=postgres")
    assert without.returncode == 1
    assert "CREATE EXTENSION heliosdb_federated_learning CASCADE" in without.stdout


def test_the_doctor_finds_what_is_in_a_node_s_way(stack: Stack, tmp_path: Path) -> None:
    settings = tomllib.loads((stack.directory / "config" / "node_1.toml").read_text())
    config = tmp_path / "node.toml"
    config.write_text(render_toml(settings | {"reader": settings["database"]}))
    ended = stack.heliosdb("doctor", "--config", str(config), "--json")
    assert ended.returncode == 1
    (found,) = [one for one in json.loads(ended.stdout) if one["mark"] == "fault"]
    assert found["about"] == "reader"
    assert "federated_reader" in found["said"] + found["remedy"]


def test_the_statements_that_are_shown_end_in_a_prediction(stack: Stack) -> None:
    [statements] = re.findall(r"^  CREATE FEDERATED MODEL illness (?:.*\n  )+.*\n", stack.shown, re.MULTILINE)
    shown = stack.psql(f"\\t on\n\\a\n{statements}")
    assert 0.4 < float(shown.splitlines()[-1]) < 0.9


def test_every_shortcut_of_the_psql_file_runs(stack: Stack) -> None:
    path = Path(stack.heliosdb("psqlrc").stdout.strip())
    names = re.findall(r"^\\set (\w+) '", path.read_text(), re.MULTILINE)
    assert {"models", "runs", "nodes", "budget", "rounds", "helios"} <= set(names)
    assert stack.heliosdb("psqlrc", "--content").stdout == path.read_text()
    typed = "\n".join(f":{name}" for name in names)
    shown = stack.psql(f"\\i {path}\n\\set model risk\n\\set workspace clinics\n{typed}\n")
    assert "node_1" in shown
    assert all(f":{name}" in shown for name in names if name != "helios")


def test_a_table_of_a_database_is_simulated_with_the_caller_s_rights(stack: Stack) -> None:
    options = ["--algorithm", "logistic_regression", "--features", "age", "--target", "ill", "--rounds", "2"]
    made = stack.heliosdb("simulate", "--table", "public.patients", "--nodes", "4", "--subject", "patient_id",
                          *options, "--json", PGDATABASE="node_1")  # fmt: skip
    assert made.returncode == 0, made.stderr
    assert [one["rows"] for one in json.loads(made.stdout)["nodes"]] == [150] * 4
    by_value = stack.heliosdb("simulate", "--table", "patients", "--split", "by(ill)", "--algorithm", "linear_regression",
                              "--optimizer", "newton", "--features", "age", "--target", "patient_id", "--json",
                              PGDATABASE="node_1")  # fmt: skip
    assert {one["value"] for one in json.loads(by_value.stdout)["nodes"]} == {"false", "true"}
    stack.psql("CREATE ROLE a_stranger LOGIN PASSWORD 'x'", database="node_1")
    refused = stack.heliosdb("simulate", "--table", "patients", *options,
                             PGDATABASE="node_1", PGUSER="a_stranger", PGPASSWORD="x")  # fmt: skip
    assert refused.returncode == edge(ErrorCode.PRIVILEGE).exit_code
    for table, column, code in (("no_such_table", "age", ErrorCode.UNDEFINED_TABLE), ("patients", "height", ErrorCode.UNDEFINED_COLUMN)):  # fmt: skip
        wrong = stack.heliosdb("simulate", "--table", table, "--features", column, "--target", "ill",
                               "--algorithm", "logistic_regression", PGDATABASE="node_1")  # fmt: skip
        assert wrong.returncode == edge(code).exit_code, wrong.stderr


def test_categories_of_a_table_are_levels_at_each_node(stack: Stack) -> None:
    with psycopg.connect("", **_parameters(stack, "node_1")) as connection:
        connection.execute("CREATE TYPE ward AS ENUM ('north', 'south')")
        connection.execute(
            "CREATE TABLE visits AS SELECT (ARRAY['north', 'south'])[1 + n % 2]::ward AS ward,"
            " (n % 7)::smallint AS days, now() AS seen, (n % 3 = 0) AS back FROM generate_series(1, 400) AS n"
        )
    for further in ([], ["--privacy-budget", "2"]):
        ended = stack.heliosdb("simulate", "--table", "visits", "--nodes", "3", "--algorithm", "logistic_regression",
                               "--features", "ward,days", "--target", "back", "--rounds", "2", *further, "--json",
                               PGDATABASE="node_1")  # fmt: skip
        assert ended.returncode == 0, ended.stdout + ended.stderr


def _parameters(stack: Stack, database: str) -> dict[str, str]:
    environment = stack.environment
    return {
        "host": environment["PGHOST"],
        "port": environment["PGPORT"],
        "user": environment["PGUSER"],
        "password": environment["PGPASSWORD"],
        "dbname": database,
    }
