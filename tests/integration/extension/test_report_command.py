"""`heliosdb report` and `heliosdb model-card` on a real catalog, as the roles that may read it."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from heliosdb.cli.embedded.pki import ensure_authority, ensure_identity
from heliosdb.domain.errors import ErrorCode, edge
from tests.integration.extension.versions_support import execute
from tests.support.cluster import Cluster

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def heliosdb(cluster: Cluster, federated_database: str, tmp_path: Path) -> Command:
    """Runs the command as a role, in a directory of its own."""

    def run(*words: str, user: str = "an_auditor") -> subprocess.CompletedProcess[str]:
        database = () if words[1] == "verify" else ("--database", cluster.dsn(federated_database, user=user))
        return subprocess.run(
            [sys.executable, "-m", "heliosdb.cli.main", *words, *database],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            cwd=tmp_path,
            env={**os.environ, "TZ": "Asia/Kolkata"},
        )

    return run


def report(heliosdb: Command, *words: str, user: str = "an_auditor") -> subprocess.CompletedProcess[str]:
    return heliosdb("report", "--workspace", "clinics", "--regulation", "HIPAA", *words, user=user)


def exit_code(code: ErrorCode) -> int:
    return edge(code).exit_code


def test_a_signed_report_names_the_hash_of_its_evidence_and_holds(
    trained: psycopg.Connection, heliosdb: Command, tmp_path: Path
) -> None:
    authority = ensure_authority(tmp_path / "ca")
    made, other = (ensure_identity(authority, tmp_path, name) for name in ("coordinator", "other"))
    signing = ("--sign-certificate", str(made.certificate), "--sign-key", str(made.private_key))

    done = report(heliosdb, "--output", "r.html", "--evidence", "evidence.json", *signing)

    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    digest = hashlib.sha256((tmp_path / "evidence.json").read_bytes()).hexdigest()
    assert digest in (tmp_path / "r.html").read_text()
    assert (tmp_path / "r.html").stat().st_mode & 0o777 == 0o600
    verified = heliosdb("report", "verify", "r.html", "--certificate", str(made.certificate))
    assert verified.returncode == 0, verified.stderr
    assert f"evidence {digest}" in verified.stdout
    by_another = heliosdb("report", "verify", "r.html", "--certificate", str(other.certificate))
    assert by_another.returncode == exit_code(ErrorCode.IDENTITY)
    with (tmp_path / "r.html").open("a") as file:
        file.write("<!-- -->")
    changed = heliosdb("report", "verify", "r.html", "--certificate", str(made.certificate))
    assert changed.returncode == exit_code(ErrorCode.IDENTITY)
    assert "not the one that was signed" in changed.stderr


def test_a_report_says_what_the_check_says_and_changes_nothing(
    trained: psycopg.Connection, heliosdb: Command
) -> None:
    before = trained.execute("SELECT count(*) FROM federated.audit").fetchall()
    done = report(heliosdb, "--format", "json")
    assert done.returncode == 0, done.stderr
    evidence = json.loads(done.stdout)["evidence"]
    with_rights_of_an_auditor = (
        trained.execute("SET ROLE an_auditor")
        .execute(
            "SELECT requirement, status, details, evidence, reference FROM federated_compliance_check('clinics', 'HIPAA')"
        )
        .fetchall()
    )
    trained.execute("RESET ROLE")
    columns = ("requirement", "status", "details", "evidence", "reference")
    assert [tuple(one[key] for key in columns) for one in evidence["findings"]] == with_rights_of_an_auditor
    assert evidence["origin"]["made_by"] == "an_auditor"
    versions = next(table for table in evidence["tables"] if table["name"] == "versions")
    assert [row[:3] for row in versions["rows"]] == [["risk", 1, False], ["risk", 2, True]]
    assert trained.execute("SELECT count(*) FROM federated.audit").fetchall() == before


def test_a_report_on_record_is_in_the_history(catalog: psycopg.Connection, heliosdb: Command) -> None:
    done = report(heliosdb, "--format", "json", "--record")
    assert done.returncode == 0, done.stderr
    tables = {table["name"]: table["rows"] for table in json.loads(done.stdout)["evidence"]["tables"]}
    [record] = catalog.execute(
        "SELECT findings_sha256 FROM federated.compliance_record WHERE recorded_by = 'an_auditor'"
    ).fetchall()
    assert [row[-1] for row in tables["records"]] == list(record)


@pytest.mark.parametrize(
    ("words", "user", "code", "said"),
    [
        (("--workspace", "nothing", "--regulation", "GDPR"), "an_auditor", ErrorCode.UNDEFINED_OBJECT, "does not exist"),
        (("--workspace", "clinics", "--regulation", "GDPR"), "an_analyst", ErrorCode.PRIVILEGE, "federated_auditor"),
        (("--workspace", "clinics", "--regulation", "GDPR"), "nobody_here", ErrorCode.UNREACHABLE, "cannot reach"),
        (("--workspace", "clinics", "--regulation", "GDPR", "--format", "pdf"), "an_auditor", ErrorCode.INVALID_VALUE, "--output"),
        (("--workspace", "clinics", "--regulation", "GDPR", "--output", "there"), "an_auditor", ErrorCode.DUPLICATE_OBJECT, "exists"),
        (("--workspace", "clinics", "--regulation", "GDPR", "--output", "no/x"), "an_auditor", ErrorCode.UNDEFINED_OBJECT, "directory"),
    ],
    ids=lambda value: str(value)[-30:],
)  # fmt: skip
def test_what_goes_wrong_is_one_clear_error(
    catalog: psycopg.Connection,
    heliosdb: Command,
    tmp_path: Path,
    words: tuple[str, ...],
    user: str,
    code: ErrorCode,
    said: str,
) -> None:
    (tmp_path / "there").write_text("mine")
    done = heliosdb("report", *words, user=user)
    assert (done.returncode, done.stdout) == (exit_code(code), ""), done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["there"]
    assert (tmp_path / "there").read_text() == "mine"


def test_a_card_has_the_catalogs_figures_and_leaves_out_none(
    trained: psycopg.Connection, heliosdb: Command
) -> None:
    execute(trained, "ALTER FEDERATED MODEL risk SET (intended_use = 'Triage, never without a physician')")
    card = json.loads(heliosdb("model-card", "--model", "risk", "--format", "json", user="an_analyst").stdout)
    assert card["intended_use"] == "Triage, never without a physician"
    assert card["owner_contact"] is None
    assert card["version"]["version"] == 2
    assert card["version"]["metrics"]["loss"] == 0.5
    assert card["version"]["privacy"] == {
        "epsilon": 0.25,
        "delta": 1e-05,
        "privacy_budget": 0.5,
        "trust_model": "local",
        "secure_aggregation": False,
        "compliance_mode": "none",
        "ancestors": None,
    }
    earlier = json.loads(heliosdb("model-card", "--model", "risk@1", "--format", "json").stdout)
    assert (earlier["version"]["version"], earlier["version"]["is_current"]) == (1, False)
    missing = heliosdb("model-card", "--model", "risk@none")
    assert missing.returncode == exit_code(ErrorCode.UNDEFINED_OBJECT), missing.stderr


def test_a_model_that_was_never_trained_has_a_card(catalog: psycopg.Connection, heliosdb: Command) -> None:
    done = heliosdb("model-card", "--model", "risk")
    assert done.returncode == 0, done.stderr
    assert "**version**: none yet" in done.stdout
    assert "not recorded" in done.stdout


def test_the_record_of_processing_names_what_is_known_and_null_for_the_rest(
    catalog: psycopg.Connection,
) -> None:
    execute(
        catalog,
        "REGISTER FEDERATED NODE 'a' IN WORKSPACE clinics WITH (endpoint = 'https://a:1', contact = 'dpo@a.example')",
        "REGISTER FEDERATED NODE 'b' IN WORKSPACE clinics WITH (endpoint = 'https://b:1', data_residency = 'DE')",
    )
    catalog.execute(
        'UPDATE federated.node SET datasets = \'[{"name": "d", "columns": ["age"], "types": ["integer"],'
        ' "plain_answers": true, "declared": []}]\' WHERE name = \'a\''
    )
    [(record,)] = catalog.execute("SELECT federated_processing_record('clinics')").fetchall()
    assert [(one["node"], one["contact"], one["data_residency"]) for one in record["participants"]] == [
        ("a", "dpo@a.example", None),
        ("b", None, "DE"),
    ]
    assert record["categories_of_data"] == [
        {"node": "a", "dataset": "d", "columns": [{"column": "age", "type": "integer"}], "plain_answers": True, "paused": False}
    ]  # fmt: skip
    assert record["categories_of_data_subjects"] is None
    assert {one["role"] for one in record["recipients"]["roles"]} >= {"an_admin", "an_auditor"}
    assert record["security_measures"]["privacy_budget"] == 0.5
    [finding] = catalog.execute(
        "SELECT status, evidence FROM federated_compliance_check('clinics', 'GDPR') WHERE requirement = 'Data protection by default'"
    ).fetchall()
    assert finding == ("FAIL", "datasets known: 1, of these let answers leave without noise: 1 (d at a)")
