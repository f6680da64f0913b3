"""pgspot finds nothing in what a superuser runs, but what scripts/pgspot.sh accepts with a reason."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


def pgspot(*files: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ROOT / "scripts/pgspot.sh", *files],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def test_every_script_is_clean() -> None:
    done = pgspot()
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("Errors: 0 Warnings: 0 Unknown: 0") == done.stdout.count("pgspot: ") == 3


@pytest.mark.parametrize(
    ("statement", "code"),
    [
        ("CREATE TABLE federated.x (a text CHECK (a <> ''));", "PS001"),
        ("SET LOCAL search_path TO pg_catalog, pg_temp; CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1';",
         "PS005"),
        ("SET LOCAL search_path TO pg_catalog, pg_temp; CREATE FUNCTION f() RETURNS int LANGUAGE sql SECURITY DEFINER"
         " AS 'SELECT 1';", "PS003"),
        ("CREATE OR REPLACE VIEW public.v AS SELECT 1;", "PS015"),
        ("CREATE SCHEMA IF NOT EXISTS federated;", "PS010"),
    ],
)  # fmt: skip
def test_a_finding_is_a_failure(tmp_path: Path, statement: str, code: str) -> None:
    script = tmp_path / "heliosdb_federated_learning--9.9.sql"
    script.write_text(statement)
    done = pgspot(script)
    assert done.returncode == 1
    assert code in done.stdout
