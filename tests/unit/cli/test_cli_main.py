"""The command line: its commands, how errors look, and what it does not import."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from heliosdb.domain.errors import ErrorCode, edge


def heliosdb(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "heliosdb.cli.main", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "COLUMNS": "200"},
    )


def test_help_names_every_command_and_hides_what_is_for_tests() -> None:
    shown = heliosdb("--help").stdout
    people = ("status", "doctor", "watch", "psqlrc", "simulate")
    for command in ("up", "down", "proxy", "coordinator", "node", "health", "certificates", "demo", *people):
        assert f" {command} " in shown
    assert "clusters-only" not in heliosdb("up", "--help").stdout


def test_help_of_up_and_down_shows_the_defaults() -> None:
    shown = " ".join(heliosdb("up", "--help").stdout.split())
    for default in ("at first 3", "at first 6432", ".local/share/heliosdb"):
        assert default in shown
    assert ".local/share/heliosdb" in heliosdb("down", "--help").stdout


def test_version_is_that_of_the_package() -> None:
    assert heliosdb("--version").stdout == f"heliosdb {version('heliosdb-federated-learning')}\n"


def test_help_imports_none_of_the_heavy_libraries() -> None:
    script = (
        "import sys, heliosdb.cli.main\n"
        "heavy = {'numpy', 'grpc', 'psycopg', 'cryptography', 'asyncio', 'pydantic'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    assert subprocess.check_output([sys.executable, "-c", script], text=True) == "[]\n"


def test_an_error_goes_to_stderr_and_its_code_decides_the_exit_status(tmp_path: Path) -> None:
    ended = heliosdb("down", "--dir", str(tmp_path))
    assert ended.returncode == edge(ErrorCode.UNDEFINED_OBJECT).exit_code
    assert ended.stdout == ""
    assert ended.stderr.splitlines() == [
        f'ERROR:  42704: there is no installation in "{tmp_path}"',
        "HINT:  Name it with --dir.",
    ]


@pytest.mark.parametrize("command", ["proxy", "coordinator", "node"])
def test_a_configuration_file_that_is_not_there_is_an_error_without_a_traceback(
    tmp_path: Path, command: str
) -> None:
    ended = heliosdb(command, "--config", str(tmp_path / "absent.toml"))
    assert ended.returncode == edge(ErrorCode.INVALID_VALUE).exit_code
    assert ended.stderr.startswith("ERROR:  22023: ")
    assert "Traceback" not in ended.stderr


def test_the_node_still_needs_its_configuration_and_its_status_one_of_its_own(tmp_path: Path) -> None:
    for arguments in (["node"], ["node", "status"]):
        ended = heliosdb(*arguments)
        assert ended.returncode == 2
        assert "Missing option '--config'" in ended.stderr
    absent = str(tmp_path / "absent.toml")
    assert heliosdb("node", "--config", absent, "status", "--config", absent).returncode == 2
    ended = heliosdb("node", "status", "--config", absent)
    assert ended.returncode == edge(ErrorCode.INVALID_VALUE).exit_code
    assert ended.stderr.startswith("ERROR:  22023: cannot read")


def test_certificates_are_made_for_every_name(tmp_path: Path) -> None:
    ended = heliosdb("certificates", "--dir", str(tmp_path), "--name", "coordinator", "--name", "hospital_a")
    assert ended.returncode == 0
    made = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert made == {
        "ca/ca.pem",
        "ca/ca.key",
        "coordinator.pem",
        "coordinator.key",
        "hospital_a.pem",
        "hospital_a.key",
    }


def test_a_shell_completes_commands() -> None:
    script = "from heliosdb.cli.main import app; app(prog_name='heliosdb')"
    asked = {"_HELIOSDB_COMPLETE": "complete_bash", "COMP_WORDS": "heliosdb si", "COMP_CWORD": "1"}
    ended = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **asked},
    )
    assert ended.stdout.split() == ["simulate"]


def test_what_to_examine_is_a_daemon_or_a_server(tmp_path: Path) -> None:
    assert heliosdb("doctor", "--config", str(tmp_path), "--dsn", "dbname=x").returncode == 2


def test_an_unknown_option_of_a_simulation_is_the_language_s_error() -> None:
    ended = heliosdb("simulate", "--csv", "absent.csv", "--learnig-rate", "1")
    assert ended.returncode == edge(ErrorCode.INVALID_VALUE).exit_code
    assert ended.stderr.splitlines() == [
        'ERROR:  22023: unrecognized parameter "learnig_rate"',
        'HINT:  Did you mean "learning_rate"?',
    ]


def test_words_of_a_file_neither_move_the_cursor_nor_look_like_a_line_of_ours(tmp_path: Path) -> None:
    file = tmp_path / "risk.json"
    file.write_text(json.dumps({"format": "heliosdb-model", "format_version": "\x1b[2J\u202e\nHINT: x\x9b"}))
    ended = heliosdb("import", str(file))
    assert ended.returncode == edge(ErrorCode.NOT_SUPPORTED).exit_code
    assert "HINT: x" in ended.stderr
    assert all(line.isprintable() for line in ended.stderr.splitlines())
    assert [line[:6] for line in ended.stderr.splitlines() if line[0] != " "] == [
        "ERROR:",
        "DETAIL",
        "HINT: ",
    ]
    assert not any(line.startswith("HINT: x") for line in ended.stderr.splitlines())


@pytest.mark.parametrize("daemon", ["coordinator", "node", "proxy", "api"])
def test_a_question_for_health_imports_no_numerical_library(tmp_path: Path, daemon: str) -> None:
    settings = tmp_path / "settings.toml"
    settings.write_text("")
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "import heliosdb.catalog.psycopg_connection, heliosdb.catalog.server_state\n"
        "from heliosdb.cli.health import examine\n"
        f"print(examine({daemon!r}, Path({str(settings)!r}), 60.0)[0])\n"
        "print(sorted({'numpy', 'scipy', 'dp_accounting', 'torch'} & set(sys.modules)))"
    )
    told = subprocess.check_output([sys.executable, "-c", script], text=True)
    assert told == "False\n[]\n"
