"""A version leaves as a file and predicts elsewhere as it did here; who may take it, and what is taken for one."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import psycopg
import pytest

from heliosdb.cli.embedded.pki import ensure_authority, ensure_identity
from heliosdb.domain.encoding import Encoding
from heliosdb.domain.errors import ErrorCode, edge
from heliosdb.parts.algorithms import ALGORITHMS
from tests.integration.extension.subscriptions_support import subscribed
from tests.integration.extension.test_delivered_predictions import KINDS, answers
from tests.integration.extension.versions_support import execute, functions, value
from tests.support.cluster import Cluster
from tests.support.encoded_model import TABLE, linear, make_patients, make_table, rows
from tests.support.portable import SIMPLE
from tests.support.programs import run_program
from tests.support.publication import publish_prediction

ONE = "federated_predict('risk', '{\"age\": 10, \"bmi\": 20}')"
Command = Callable[..., subprocess.CompletedProcess[str]]


@dataclass(frozen=True)
class Places:
    """Where models are trained, and where they are imported."""

    cluster: Cluster
    there: psycopg.Connection
    here: psycopg.Connection

    def as_role(self, user: str, *, there: bool = False) -> psycopg.Connection:
        return self.cluster.connect((self.there if there else self.here).info.dbname, user=user)


@pytest.fixture
def places(cluster: Cluster, catalog: psycopg.Connection) -> Iterator[Places]:
    name = cluster.create_database("federated_template")
    with cluster.connect(name) as here:
        yield Places(cluster, catalog, here)
    cluster.drop_database(name)


def publish_risk(places: Places, slope: float = 0.5) -> None:
    from heliosdb.algorithms.sql import LinearPrediction

    prediction = LinearPrediction(0.25, (slope, 0.125), (40.0, 20.0), (0.0, 0.0), "logistic").to_prediction()
    assert publish_prediction(places.cluster, places.there.info.dbname, "risk", prediction).obstacle is None


def exported(session: psycopg.Connection, model: str = "risk") -> dict[str, Any]:
    return value(session, f"federated_export_model('{model}')")  # type: ignore[no-any-return]


def take(session: psycopg.Connection, document: Any, name: str | None = None) -> str:
    [(called,)] = session.execute(
        "SELECT federated_import_model(%s::jsonb, %s)", [json.dumps(document), name]
    ).fetchall()
    return str(called)


def test_every_kind_predicts_elsewhere_to_the_bit(places: Places) -> None:
    make_patients(places.there)
    places.there.execute('ALTER TABLE patients ALTER "Ward" TYPE varchar USING rtrim("Ward")')
    places.here.execute(TABLE.replace("char(4)", "varchar"))  # type: ignore[arg-type]
    with (
        places.there.cursor().copy("COPY patients TO STDOUT") as out,
        places.here.cursor().copy("COPY patients FROM STDIN") as into,
    ):
        for block in out:
            into.write(block)
    for number, (name, kind) in enumerate(KINDS.items(), 1):
        published = publish_prediction(
            places.cluster, places.there.info.dbname, "stay", kind.prediction, kind.encoding
        )
        assert published.obstacle is None
        forms = tuple(
            form.replace("stay@1", f"stay@{number}").replace("stay@001", f"stay@00{number}")
            for form in kind.forms
        )
        assert take(places.here, exported(places.there, "stay")) == "stay", name
        assert answers(places.here, forms) == answers(places.there, forms), name
        value(places.here, "federated_drop_imported_model('stay')")
        assert functions(places.here) == []
    assert value(
        places.here, "count(*) FROM federated.audit WHERE object_kind = 'imported_model'"
    ) == 2 * len(KINDS)


def test_an_export_is_the_owners_to_make_and_is_in_the_audit_log(places: Places) -> None:
    publish_risk(places)
    with places.as_role("an_operator", there=True) as owner:
        document = exported(owner)
        assert document["origin"]["workspace"] == "clinics"
        assert document["card"]["version"]["version"] == document["version"] == 1
        assert "coefficients" not in json.loads(document["prediction"])
    line = places.there.execute(
        "SELECT workspace, acting_role, action, object_name, details FROM federated.audit WHERE object_kind = 'model_export'"
    ).fetchall()
    assert line == [("clinics", "an_operator", "insert", "risk", {"version": 1})]
    listed = "SELECT workspace, model_name, version, exported_by FROM federated_model_exports"
    with places.as_role("an_auditor", there=True) as auditor:
        assert auditor.execute(listed).fetchall() == [("clinics", "risk", 1, "an_operator")]
    places.there.execute("CREATE ROLE another_operator LOGIN IN ROLE federated_operator")
    try:
        for user in ("another_operator", "an_analyst", "an_auditor", "a_nobody"):
            with (
                places.as_role(user, there=True) as session,
                pytest.raises(psycopg.errors.InsufficientPrivilege),
            ):
                exported(session)
    finally:
        places.there.execute("DROP ROLE another_operator")
    assert len(places.there.execute(listed).fetchall()) == 1


def test_arrays_are_handed_out_for_a_line_of_this_transaction_alone(places: Places) -> None:
    make_patients(places.there)
    kind = KINDS["network"]
    publish_prediction(places.cluster, places.there.info.dbname, "stay", kind.prediction, kind.encoding)
    document = exported(places.there, "stay@1")
    assert len(base64.b64decode(document["arrays"])) > 100
    places.there.execute("UPDATE federated.model SET owner = 'an_operator'")
    with places.as_role("an_operator", there=True) as operator:
        assert (
            value(operator, "federated._exported_arrays((SELECT export_id FROM federated.model_export))")
            is None
        )
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            operator.execute("SELECT prediction_arrays FROM federated.held_version")


def test_what_does_not_predict_is_not_exported(places: Places) -> None:
    for model, state in (("risk", "55000"), ("risk@1", "42704"), ("nothing", "42704")):
        with pytest.raises(psycopg.Error) as caught:
            exported(places.there, model)
        assert caught.value.sqlstate == state
    publish_risk(places)
    places.there.execute("UPDATE federated.version SET withheld = true")
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
        exported(places.there)
    places.there.execute(
        "UPDATE federated.version SET is_current = false, withheld = false, retired_at = now(), prediction = NULL,"
        " prediction_arrays = NULL, sealed = '', scaling = '{}', report = NULL"
    )
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="retired"):
        exported(places.there, "risk@1")
    assert value(places.there, "count(*) FROM federated.model_export") == 0


def test_no_line_hands_out_what_does_not_predict(places: Places) -> None:
    make_patients(places.there)
    kind = KINDS["network"]
    publish_prediction(places.cluster, places.there.info.dbname, "stay", kind.prediction, kind.encoding)
    places.there.execute("UPDATE federated.model SET owner = 'an_operator'")
    note = "INSERT INTO federated.model_export (model_name, version) VALUES ('stay', %s) RETURNING export_id"
    withdrawals = (
        "withheld = true",
        "is_current = false, withheld = false, retired_at = now(), prediction = NULL, prediction_arrays = NULL, sealed = '',"
        " scaling = '{}', report = NULL",
    )
    with places.as_role("an_operator", there=True) as operator:
        with pytest.raises(psycopg.errors.UndefinedObject, match="version 99"):
            operator.execute(note, [99])
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState), operator.transaction():
            [(line,)] = operator.execute(note, [1]).fetchall()
            assert value(operator, f"federated._exported_arrays('{line}')") is not None
            places.there.execute("UPDATE federated.version SET withheld = true")
            value(operator, f"federated._exported_arrays('{line}')")
        for withdrawal in withdrawals:
            places.there.execute(f"UPDATE federated.version SET {withdrawal}")  # type: ignore[arg-type]
            with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
                operator.execute(note, [1])
    assert value(places.there, "count(*) FROM federated.model_export") == 0


def test_what_a_file_says_of_its_workspace_is_not_written_into_that_ones_log(places: Places) -> None:
    publish_risk(places)
    before = value(places.there, "count(*) FROM federated.audit WHERE workspace = 'clinics'")
    document = exported(places.there)
    lines = "SELECT workspace, details -> 'origin' ->> 'workspace' FROM federated.audit WHERE object_kind = 'model_export' ORDER BY recorded_at"
    with places.as_role("an_operator", there=True) as operator:
        take(operator, document, "guest")
        exported(operator, "guest")
        places.there.execute(
            "UPDATE federated.imported_model SET origin = jsonb_build_object('workspace', repeat('x', 5000))"
        )
        exported(operator, "guest")
    assert places.there.execute(lines).fetchall() == [("clinics", None), ("", "clinics"), ("", "x" * 200)]  # type: ignore[arg-type]
    assert value(places.there, "count(*) FROM federated.audit WHERE workspace = 'clinics'") == before + 1
    assert (
        value(places.there, "count(*) FROM federated.audit_head WHERE workspace NOT IN ('', 'clinics')") == 0
    )
    shown = places.there.execute("SELECT workspace, model_name FROM federated_model_exports").fetchall()
    assert sorted(shown) == [("", "guest"), ("", "guest"), ("clinics", "risk")]


def test_an_imported_model_is_listed_kept_by_its_owner_and_exported_on(places: Places) -> None:
    publish_risk(places)
    document = exported(places.there)
    with places.as_role("an_operator") as operator:
        assert take(operator, document, "guest") == "guest"
        shown = operator.execute(
            "SELECT model_name, version, algorithm, origin_model, origin_workspace, signature, owner, card ->> 'model'"
            " FROM federated_model_imports"
        ).fetchall()
        assert shown == [
            ("guest", 1, "logistic_regression", "risk", "clinics", "unchecked", "an_operator", "risk")
        ]
        again = exported(operator, "guest@1")
    assert again["content_sha256"] == document["content_sha256"]
    assert again["origin"]["held"] == "imported"
    assert again["origin"]["version_key"] == document["origin"]["version_key"]
    guest = ONE.replace("risk", "guest")
    with places.as_role("an_analyst") as analyst:
        assert value(analyst, guest) == value(places.there, ONE)
        assert value(analyst, guest.replace("'guest'", "'guest@1'")) == value(places.there, ONE)
        judged = "* FROM federated_evaluate('guest', 'SELECT 50 AS age, 20 AS bmi, 1 AS outcome UNION ALL SELECT 20, 30, 0')"
        assert (
            dict(analyst.execute(f"SELECT metric, value FROM (SELECT {judged}) AS e").fetchall())["rows"]
            == 2.0
        )  # type: ignore[arg-type]
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            take(analyst, document, "mine")
    places.here.execute("CREATE ROLE another_operator LOGIN IN ROLE federated_operator")
    try:
        with (
            places.as_role("another_operator") as other,
            pytest.raises(psycopg.errors.InsufficientPrivilege, match="must be owner"),
        ):
            value(other, "federated_drop_imported_model('guest')")
    finally:
        places.here.execute("DROP ROLE another_operator")
    places.here.execute(
        f"CREATE VIEW scored AS SELECT {guest} AS score, federated_model.guest(age => 1) AS y"
    )  # type: ignore[arg-type]
    with pytest.raises(psycopg.errors.DependentObjectsStillExist):
        value(places.here, "federated_drop_imported_model('guest')")
    for statement in (
        "START FEDERATED TRAINING guest",
        "TAG FEDERATED MODEL guest AS 'x'",
        "DROP FEDERATED MODEL guest",
    ):
        with pytest.raises(psycopg.Error) as caught:
            execute(places.here, statement)
        assert caught.value.sqlstate in ("42704", "42809")


def test_names_are_one_space(places: Places) -> None:
    publish_risk(places)
    document = exported(places.there)
    with pytest.raises(psycopg.errors.DuplicateObject):
        take(places.there, document)
    take(places.here, document)
    for statement in (
        "CREATE FEDERATED SUBSCRIPTION s TO MODEL risk IN WORKSPACE clinics",
        "CREATE FEDERATED MODEL risk IN WORKSPACE w WITH (algorithm = 'linear_regression')",
    ):
        if "MODEL risk IN WORKSPACE w" in statement:
            execute(places.here, "CREATE FEDERATED WORKSPACE w")
        with pytest.raises(psycopg.Error) as caught:
            execute(places.here, statement)
        assert caught.value.sqlstate == "42710"
    with pytest.raises(psycopg.errors.DuplicateObject):
        take(places.here, document)
    for name in ("", "a@b", "x" * 64, "a\nb"):
        with pytest.raises(psycopg.Error) as caught:
            take(places.here, document, name)
        assert caught.value.sqlstate == "22023"
    assert functions(places.here) == ["risk", "risk@1"]


def _with(document: dict[str, Any], **members: Any) -> dict[str, Any]:
    return {**copy.deepcopy(document), **members}


def _renumbered(document: dict[str, Any], **members: Any) -> dict[str, Any]:
    """With other numbers, whose hash is right."""
    return _rewritten(document, json.dumps({**json.loads(document["prediction"]), **members}))


def _rewritten(document: dict[str, Any], text: str) -> dict[str, Any]:
    """With another prediction, whose hash is right."""
    return _with(document, prediction=text, content_sha256=hashlib.sha256(text.encode()).hexdigest())


def test_what_is_not_sound_is_refused_and_leaves_nothing(places: Places) -> None:
    publish_risk(places)
    document = exported(places.there)
    slopes = json.loads(document["prediction"])["slopes"]
    refused: list[tuple[Any, str]] = [
        ([], "22023"), ({}, "22023"), (None, "22023"), (_with(document, format="other"), "22023"),
        (_with(document, format_version=2), "0A000"), (_with(document, format_version="1"), "0A000"),
        (_with(document, contract={"algorithm": "oracle"}), "0A000"), (_with(document, contract={}), "0A000"),
        (_with(document, more=1), "22023"), (_with(document, version=0), "22023"), (_with(document, version=1e300), "22023"),
        (_with(document, features=[]), "22023"), (_with(document, features=["age", "age"]), "22023"),
        (_with(document, features=["age"]), "22023"), (_with(document, features="age"), "22023"),
        (_with(document, arrays="!"), "22023"), (_with(document, arrays="AAAA"), "22023"),
        (_with(document, prediction=document["prediction"].replace("0.125", "0.126")), "22023"),
        (_with(document, content_sha256="00" * 32), "22023"), (_with(document, content_sha256=None), "22023"),
        (_with(document, card=[]), "22023"), (_with(document, origin=None), "22023"),
        (_with(document, origin={"workspace": ["clinics"]}), "22023"), (_with(document, origin={"workspace": "x" * 5000}), "22023"),
        (_rewritten(document, "[" * 17 + "1" + "]" * 17), "22023"), (_rewritten(document, "[" * 100_000), "22023"),
        (_rewritten(document, '{"a":' * 5000 + "1" + "}" * 5000), "22023"),
        (_rewritten(document, document["prediction"].replace("0.125", "1e999")), "22023"),
        (_rewritten(document, document["prediction"].replace("0.125", "1e999999")), "22023"),
        (_renumbered(document, slopes=["x", 1.0]), "22023"),
        (_renumbered(document, slopes=slopes[:1]), "2202E"), (_renumbered(document, kind="pickle"), "22023"),
        (_renumbered(document, link="probit"), "22023"), (_renumbered(document, smuggled=1), "22023"),
    ]  # fmt: skip
    for bad, state in refused:
        with pytest.raises(psycopg.Error) as caught:
            take(places.here, bad)
        assert caught.value.sqlstate == state, (bad, caught.value)
    assert functions(places.here) == []
    assert value(places.here, "count(*) FROM federated.imported_model") == 0
    assert value(places.here, "count(*) FROM federated.audit WHERE object_kind = 'imported_model'") == 0


def test_the_catalog_knows_the_algorithms_that_there_are(places: Places) -> None:
    publish_risk(places)
    document = exported(places.there)
    for place, name in enumerate(ALGORITHMS.names()):
        take(places.here, _with(document, contract={"algorithm": name}), f"m{place}")


def test_a_dump_brings_an_imported_model_along(places: Places) -> None:
    publish_risk(places)
    take(places.here, exported(places.there))
    exported(places.here)
    restored = places.cluster.create_database()
    dump = run_program(
        "pg_dump", "--format=custom", places.cluster.dsn(places.here.info.dbname, user="an_admin")
    )
    run_program("pg_restore", "--exit-on-error", f"--dbname={places.cluster.dsn(restored)}", text=dump)
    with places.cluster.connect(restored) as session:
        assert value(session, ONE) == value(places.there, ONE)
        assert value(session, "signature FROM federated_model_imports") == "unchecked"
        assert value(session, "model_name FROM federated_model_exports WHERE workspace = ''") == "risk"
    places.cluster.drop_database(restored)


@pytest.fixture
def heliosdb(places: Places, tmp_path: Path) -> Command:
    """Runs the command at either place, in a directory of its own."""

    def run(*words: str, user: str = "an_operator", there: bool = False) -> subprocess.CompletedProcess[str]:
        database = places.cluster.dsn((places.there if there else places.here).info.dbname, user=user)
        where = () if words[0] == "verify-model" else ("--dsn", database)
        return subprocess.run(
            [sys.executable, "-m", "heliosdb.cli.main", *words, *where],
            capture_output=True, text=True, timeout=300, check=False, cwd=tmp_path,
        )  # fmt: skip

    return run


def exit_code(code: ErrorCode) -> int:
    return edge(code).exit_code


def test_the_command_line_takes_a_signed_file_from_one_database_to_another(
    places: Places, heliosdb: Command, tmp_path: Path
) -> None:
    publish_risk(places)
    authority = ensure_authority(tmp_path / "ca")
    made, other = (ensure_identity(authority, tmp_path, name) for name in ("coordinator", "other"))
    signing = ("--sign-certificate", str(made.certificate), "--sign-key", str(made.private_key))

    done = heliosdb("export", "risk", "--output", "risk.json", *signing, there=True)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert sorted(path.name for path in tmp_path.glob("risk*")) == ["risk.json", "risk.json.sig"]
    assert (tmp_path / "risk.json").stat().st_mode & 0o777 == 0o600
    again = heliosdb("export", "risk", "--output", "risk.json", there=True)
    assert again.returncode == exit_code(ErrorCode.DUPLICATE_OBJECT)

    wrong = heliosdb("import", "risk.json", "--certificate", str(other.certificate))
    assert wrong.returncode == exit_code(ErrorCode.IDENTITY)
    named = heliosdb("verify-model", "risk.json", "--certificate", str(made.certificate))
    assert named.stdout.startswith("signed at "), named.stderr
    done = heliosdb("import", "risk.json", "--certificate", str(made.certificate), "--name", "guest")
    assert done.stdout.startswith("imported as guest, signed by certificate "), done.stderr
    [(signature, digest)] = places.here.execute(
        "SELECT signature, file_sha256 FROM federated_model_imports"
    ).fetchall()
    assert (signature, digest) == (
        "verified",
        hashlib.sha256((tmp_path / "risk.json").read_bytes()).hexdigest(),
    )
    assert value(places.here, ONE.replace("risk", "guest")) == value(places.there, ONE)

    raw = (tmp_path / "risk.json").read_bytes()
    (tmp_path / "cut.json").write_bytes(raw[:-9])
    (tmp_path / "new.json").write_bytes(raw.replace(b'"format_version": 1', b'"format_version": 2'))
    for file, code in (
        ("cut.json", ErrorCode.INVALID_VALUE), ("new.json", ErrorCode.NOT_SUPPORTED), ("none.json", ErrorCode.INVALID_VALUE),
    ):  # fmt: skip
        assert heliosdb("import", file).returncode == exit_code(code)
    unsigned = heliosdb("export", "risk", "--output", "risk.json", "--force", "--no-card", there=True)
    assert unsigned.returncode == 0
    assert not (tmp_path / "risk.json.sig").exists()
    assert json.loads((tmp_path / "risk.json").read_bytes())["card"] is None
    strict = heliosdb("import", "risk.json", "--certificate", str(made.certificate))
    assert strict.returncode == exit_code(ErrorCode.IDENTITY)
    clash = heliosdb("import", "risk.json", "--name", "guest")
    assert (clash.returncode, "42710" in clash.stderr) == (exit_code(ErrorCode.DUPLICATE_OBJECT), True)


def test_sql_of_a_version_agrees_with_its_predictions(places: Places, heliosdb: Command) -> None:
    make_table(places.there)
    places.there.execute('ALTER TABLE patients ALTER "Ward" TYPE varchar USING rtrim("Ward")')
    encoding = Encoding(SIMPLE)
    features = ", ".join(f"'{one.column}'" for one in SIMPLE)
    execute(
        places.there,
        f"CREATE FEDERATED MODEL short IN WORKSPACE clinics WITH (algorithm = 'logistic_regression', features = [{features}], target = 'outcome')",
    )
    places.there.execute("UPDATE federated.model SET owner = 'an_operator'")
    publish_prediction(
        places.cluster, places.there.info.dbname, "short", linear("logistic", encoding), encoding
    )
    given = ", ".join(f"'{one.column}', p.\"{one.column}\"" for one in SIMPLE)
    wanted = places.there.execute(
        f"SELECT id, federated_predict('short', jsonb_build_object({given})) FROM patients AS p ORDER BY id"  # type: ignore[arg-type]
    ).fetchall()
    text = {}
    for dialect in ("duckdb", "postgres"):
        wishes = ("--format", "sql", "--dialect", dialect, "--table", "patients", "--keep", "id")
        done = heliosdb("export", "short", *wishes, there=True)
        assert done.returncode == 0, done.stderr
        text[dialect] = done.stdout
    found = places.there.execute(text["postgres"]).fetchall()  # type: ignore[arg-type]
    np.testing.assert_allclose(sorted(found), wanted, rtol=1e-9, atol=1e-9)
    session = duckdb.connect()
    session.execute(TABLE.replace("char(4)", "varchar"))
    held = ", ".join(f'"{one.column}"' for one in SIMPLE)
    for number, row in enumerate(rows()):
        values = [number, *(row[one.column] for one in SIMPLE)]
        session.execute(f"INSERT INTO patients (id, {held}) VALUES ({', '.join('?' * len(values))})", values)
    np.testing.assert_allclose(
        sorted(session.execute(text["duckdb"]).fetchall()), wanted, rtol=1e-9, atol=1e-9
    )


def test_a_version_is_exported_where_a_subscription_holds_it(
    cluster: Cluster, catalog: psycopg.Connection
) -> None:
    make_patients(catalog)
    kind = KINDS["network"]
    publish_prediction(cluster, catalog.info.dbname, "stay", kind.prediction, kind.encoding)
    with subscribed(cluster, catalog, "stay") as sides:
        assert sides.deliver() == [None]
        document = exported(sides.here, "stay")
        assert document["content_sha256"] == exported(sides.there, "stay")["content_sha256"]
        assert document["origin"]["held"] == "delivered"
        assert base64.b64decode(document["delivery"]["header"]) == b"header"
        assert document["card"] is None
        vouched = "SELECT federated_import_model(%s::jsonb, 'copy', NULL, 'delivery', %s)"
        with pytest.raises(psycopg.errors.CheckViolation):
            sides.there.execute(vouched, [json.dumps(document), None])
        sides.there.execute(vouched, [json.dumps(document), "ab" * 32])
        assert value(sides.there, "signature FROM federated_model_imports") == "delivery"
        assert value(sides.here, "workspace FROM federated_model_exports") == "clinics"
