"""The demo's psql: what is typed is answered, and its command line holds no password."""

from __future__ import annotations

from pathlib import Path

import pytest

from heliosdb.cli.demo.terminal import Terminal

# Notes how it was called and says back what it is told to \\echo, as psql does.
_PSQL = """#!/bin/sh
printf '%s\n' "$*" > "$NOTES/arguments"
printf '%s\n' "$PGPASSWORD" > "$NOTES/password"
while read -r word rest; do
    [ "$word" = '\\echo' ] && eval "echo $rest"
done
exit 0
"""


def test_the_password_is_in_the_environment_and_not_in_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "psql"
    program.write_text(_PSQL)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("NOTES", str(tmp_path))
    with Terminal("postgresql://postgres:s3cret@127.0.0.1:5432/heliosdb", "heliosdb") as terminal:
        terminal.type("SELECT 1;")
    arguments = (tmp_path / "arguments").read_text()
    assert "s3cret" not in arguments
    for part in ("user=postgres", "host=127.0.0.1", "port=5432", "dbname=heliosdb"):
        assert part in arguments
    assert (tmp_path / "password").read_text() == "s3cret\n"
