"""`make -C extension installcheck` passes on a server, and fails where an answer is another."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tests.support.cluster import SUPERUSER, Cluster

ROOT = Path(__file__).resolve().parents[3]


def installcheck(cluster: Cluster, *settings: str) -> subprocess.CompletedProcess[str]:
    server = {"PGHOST": str(cluster.directory), "PGPORT": str(cluster.port), "PGUSER": SUPERUSER}
    return subprocess.run(
        ["make", "--no-print-directory", "-C", ROOT / "extension", "installcheck", *settings],
        env={**os.environ, **server}, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def test_the_suite_passes(cluster: Cluster, federated_database: str, tmp_path: Path) -> None:
    done = installcheck(cluster, f"RESULTS={tmp_path}")
    differences = tmp_path / "regression.diffs"
    assert done.returncode == 0, (
        differences.read_text() if differences.exists() else done.stdout + done.stderr
    )
    tests = [
        line
        for line in (ROOT / "tests/installcheck/schedule").read_text().splitlines()
        if line[:5] == "test:"
    ]
    assert f"All {len(tests)} tests passed." in done.stdout
    for folder, suffix in (("sql", ".sql"), ("expected", ".out")):
        files = {
            path.stem for path in (ROOT / "tests/installcheck" / folder).iterdir() if path.suffix == suffix
        }
        assert files == {line.partition(": ")[2] for line in tests}


def test_another_answer_is_a_failure(cluster: Cluster, federated_database: str, tmp_path: Path) -> None:
    suite = tmp_path / "suite"
    shutil.copytree(ROOT / "tests/installcheck", suite)
    (suite / "schedule").write_text("test: install\n")
    answers = suite / "expected/install.out"
    answers.write_text(answers.read_text().replace("federated_daemon     | f", "federated_daemon     | t"))
    done = installcheck(cluster, f"RESULTS={tmp_path / 'results'}", f"SUITE={suite}")
    assert done.returncode != 0
    assert "federated_daemon" in (tmp_path / "results/regression.diffs").read_text()
