"""How `heliosdb up` says that its own program is called, and what the quick start makes of its line."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from heliosdb.cli.embedded.next_steps import command, facts_line

PAGE = Path(__file__).resolve().parents[3] / "docs" / "quick_start.md"


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "an environment" / "heliosdb"
    path.parent.mkdir()
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_its_name_is_enough_where_the_path_leads_to_it(
    monkeypatch: pytest.MonkeyPatch, program: Path
) -> None:
    monkeypatch.setattr(sys, "argv", [str(program)])
    monkeypatch.setenv("PATH", str(program.parent))
    assert command() == "heliosdb"


def test_elsewhere_and_beside_another_one_it_is_the_whole_path(
    monkeypatch: pytest.MonkeyPatch, program: Path, tmp_path: Path
) -> None:
    monkeypatch.chdir(program.parent)
    monkeypatch.setattr(sys, "argv", ["./heliosdb"])
    monkeypatch.setenv("PATH", "/nonexistent")
    assert command() == f"'{program}'"
    another = tmp_path / "heliosdb"
    another.write_text("#!/bin/sh\n")
    another.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert command() == f"'{program}'"


def test_a_module_is_run_by_its_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/somewhere/heliosdb/cli/main.py"])
    assert command() == f"{sys.executable} -m heliosdb.cli.main"


def test_the_page_s_exports_are_what_the_line_says(tmp_path: Path) -> None:
    nodes = {
        f"node_{n}": {
            "proxy": f"postgresql://u:p'{n}@127.0.0.1/n",
            "endpoint": f"https://{n}",
            "certificate": "/c",
        }
        for n in (1, 2)
    }
    facts = {"proxy": "postgresql://u:$p@127.0.0.1/p", "coordinator": "postgresql:///c", "nodes": nodes}
    (tmp_path / "up.json").write_text(facts_line(facts) + "\n")
    [block] = re.findall(r"^```sh exports\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    show = f'{block}{sys.executable} -c "import json, os; print(); print(json.dumps(dict(os.environ)))"'
    ran = subprocess.run(
        ["bash", "-eu", "-c", show], env={**os.environ, "HOME": str(tmp_path)}, text=True, check=True,
        capture_output=True, timeout=60,
    )  # fmt: skip
    assert ran.stderr == "node_1 https://1 /c\nnode_2 https://2 /c\n"
    environment = json.loads(ran.stdout.splitlines()[-1])
    assert [environment[name] for name in ("PROXY", "COORDINATOR", "NODE_1", "NODE_2")] == [
        facts["proxy"],
        facts["coordinator"],
        *(node["proxy"] for node in nodes.values()),
    ]
