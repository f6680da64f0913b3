"""The Rust crate against a whole federation: its page as it stands, what it promises, and what it writes."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from federated_sql import parse
from federated_sql.statements import CreateModel, RegisterNode
from tests.clients.conftest import Site
from tests.integration.coordinator.support import World
from tests.integration.sdk.conftest import federation, module_database  # noqa: F401 - fixtures

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/rust.md"
BUILD = ROOT / "build/rust"
REGISTRY = "/usr/share/cargo/registry"
DEADLINE = 1800.0

MANIFEST = """[package]
name = "page"
version = "0.0.0"
edition = "2021"

[workspace]

[dependencies]
heliosdb = {{ path = {path} }}
serde_json = "1"
tokio = {{ version = "1", features = ["macros", "rt-multi-thread"] }}
"""
SHOWN = """
    let shown = serde_json::json!({
        "run": run.status, "probability": probability, "outcome": outcome, "last": last.map(|round| round.round_number),
        "scored": scored, "before": before, "figures": figures, "left": left, "status": status, "told": told,
        "versions": versions.iter().map(|one| (one.tags.clone(), one.is_current)).collect::<Vec<_>>(),
    });
    println!("{shown}");
"""


def cargo(directory: Path, *arguments: str, given: str = "", **environment: str) -> str:
    """Run cargo against Debian's packaged crates; what it printed."""
    program = shutil.which("cargo")
    assert program is not None, "cargo is not on PATH: scripts/setup.sh --clients installs it"
    assert list(Path(REGISTRY).glob("tokio-postgres-*")), (
        f"{REGISTRY} has no tokio-postgres: scripts/setup.sh --clients installs librust-tokio-postgres-dev"
    )
    source = (
        "--offline",
        "--config", 'source.crates-io.replace-with="debian"',
        "--config", f'source.debian.directory="{REGISTRY}"',
    )  # fmt: skip
    command, *rest = arguments
    ended = subprocess.run(
        [program, command, *source, *rest],
        cwd=directory,
        env={
            **os.environ,
            "CARGO_TARGET_DIR": str(BUILD / "target"),
            "RUST_BACKTRACE": "0",
            "CARGO_PROFILE_DEV_DEBUG": "0",
            "CARGO_INCREMENTAL": "0",
            **environment,
        },
        input=given,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def here(federation: World, text: str) -> str:  # noqa: F811
    """The page's text with this machine's addresses in it; no other word of it is changed."""
    dsn = federation.cluster.dsn(federation.database, user="an_admin")
    made = text.replace("postgresql://analyst@coordinator.example/heliosdb", dsn)
    for site in federation.sites:
        endpoint = f"https://{site.name.replace('_', '-')}.example:8443"
        made = made.replace(endpoint, f"https://localhost:{site.port}")
        certificate = federation.federation.directory / f"{site.name}.pem"
        made = made.replace(f"/etc/heliosdb/{site.name}.pem", str(certificate))
    return made


def page_program(text: str) -> str:
    """One program of all of the page's code: what follows the first block goes before its end."""
    first, *others = re.findall(r"^```rust\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    end = "    Ok(())\n}\n"
    assert first.endswith(end)
    return first.removesuffix(end) + "".join(others) + SHOWN + end


@pytest.fixture(scope="module")
def page(federation: World) -> dict[str, Any]:  # noqa: F811
    """What the page's names are after all of its code was run, and the lines that it printed."""
    package = BUILD / "page"
    (package / "src").mkdir(parents=True, exist_ok=True)
    (package / "Cargo.toml").write_text(MANIFEST.format(path=json.dumps(str(ROOT / "rust"))))
    (package / "src/main.rs").write_text(here(federation, page_program(PAGE.read_text())))
    *lines, shown = cargo(package, "run", "--quiet").splitlines()
    return {"lines": lines, **json.loads(shown)}


def test_the_page_does_what_it_says(page: dict[str, Any]) -> None:
    assert page["run"] in ("converged", "completed")
    assert 0.5 < page["probability"] < 1
    told = [line for line in page["lines"] if line.startswith("round ")]
    assert [line.split(":")[0] for line in told] == [f"round {number}" for number in range(len(told))]
    assert len(told) > 2
    assert "loss Some(" in told[-1]
    assert page["outcome"] in ("converged", "completed")
    assert page["last"] >= 1
    assert len(page["scored"]) == 2
    assert all(0 < one < 1 for one in (*page["scored"], page["before"]))
    assert page["figures"]["global_accuracy"] > 0.6
    assert {line.split()[0] for line in page["lines"] if "±" in line} == {"(intercept)", "age", "pressure"}
    assert page["versions"][-1] == [["before-winter"], True]
    assert page["left"] is None
    assert page["status"] == "ready"
    assert page["told"] == [
        "42703",
        'federated model "risk" has no feature "height"',
        "Its features are age, pressure.",
    ]


def test_it_keeps_its_promises(page: dict[str, Any], federation: World, site: Site) -> None:  # noqa: F811
    cluster, database = federation.cluster, federation.database
    printed = cargo(
        ROOT / "rust", "test", "--quiet", "--test", "stack", "--", "--ignored", "--test-threads=1",
        HELIOSDB_DSN=cluster.dsn(database, user="an_admin"),
        HELIOSDB_ANALYST_DSN=cluster.dsn(database, user="an_analyst"),
        HELIOSDB_PROXY_DSN=f"postgresql:{site.url}",
    )  # fmt: skip
    assert "8 passed; 0 failed; 0 ignored" in printed


def test_a_training_that_is_dropped_goes_on(page: dict[str, Any], federation: World) -> None:  # noqa: F811
    """The page drops one that it queues, and follows the same run afterwards: it is its only one of five rounds."""
    runs = federation.query(
        "SELECT status, options FROM federated_runs WHERE model_name = 'risk' ORDER BY run"
    )
    assert [run["options"].get("rounds") for run in runs] == [20, 5]
    assert runs[1]["status"] == page["outcome"]


def test_quoting_and_examples_hold_by_themselves() -> None:
    printed = cargo(ROOT / "rust", "test", "--quiet", "--lib")
    assert re.search(r"[1-9]\d* passed; 0 failed", printed)
    printed = cargo(ROOT / "rust", "test", "--quiet", "--doc")
    assert "1 passed; 0 failed" in printed


HOSTILE = [
    "x'); DROP TABLE patients; --",
    'a"; DROP FEDERATED WORKSPACE w; --',
    "\\'; --",
    "$$ $body$",
    "/* */",
    "E'\\047'",
    'U&"\\0041"',
    "''",
    '""',
    "Ünïcödé 試",
]
VALUES: list[Any] = [
    0.1, -0.0, 1e22, 5e-324, 1.7976931348623157e308, -3, 3.0, 2**63 - 1, -(2**63), True, False, "it's", [],
    [1.5, -2.0], ["a", "b'"], [True, 1, "x"],
]  # fmt: skip


def test_what_goes_into_a_statement_comes_out_of_the_languages_parser_unchanged() -> None:
    values = {f'option "{place}"': value for place, value in enumerate(VALUES)}
    asked = [{"name": text, "workspace": text, "options": {text: text, **values}} for text in HOSTILE]
    asked += [
        {"name": "a\0b", "workspace": "w", "options": {}},
        {"name": "n", "workspace": "w", "options": {"x": None}},
    ]
    printed = cargo(
        ROOT / "rust", "run", "--quiet", "--example", "statements",
        given="".join(json.dumps(one) + "\n" for one in asked),
    )  # fmt: skip
    *written, refused, null = map(json.loads, printed.splitlines())
    assert refused == "22021"
    assert null[0] == """CREATE FEDERATED MODEL "n" IN WORKSPACE "w" WITH ("x" = 'null')"""
    assert len(written) == len(HOSTILE)
    for one, statements in zip(asked, written, strict=False):
        model, node = map(parse, statements)
        assert isinstance(model, CreateModel)
        assert isinstance(node, RegisterNode)
        assert (model.name, model.workspace, node.name, node.workspace) == (one["name"],) * 4
        found = {option.name: option.value for option in model.options}
        assert found.keys() == one["options"].keys()
        for option, value in one["options"].items():
            assert same(found[option], value), (option, found[option])


def same(found: Any, given: Any) -> bool:
    """Equal, and of the same type: true is not 1, and -0.0 not 0.0."""
    if isinstance(given, list):
        return len(found) == len(given) and all(map(same, found, given))
    if isinstance(given, float):
        return type(found) is float and found == given and math.copysign(1, found) == math.copysign(1, given)
    return type(found) is type(given) and bool(found == given)
