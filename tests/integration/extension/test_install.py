"""What a DBA looks at before and after CREATE EXTENSION: the files, what belongs to it, and what DROP leaves."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pglast import ast, parse_sql
from psycopg import errors

from tests.integration.extension.test_predictions import publish
from tests.support.catalog_snapshot import EXTENSION
from tests.support.cluster import Cluster, bin_directory, prepared_cluster

Session = psycopg.Connection[Any]

MEMBERS = (
    "SELECT d.classid, d.objid FROM pg_depend AS d JOIN pg_extension AS e ON e.oid = d.refobjid"
    " WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e' AND e.extname = 'heliosdb_federated_learning'"
)
# No path is pinned where it must be the caller's own: a dataset's table is named as the caller would name it.
# What looks up names that the caller typed: a dataset's table, the relations of a query.
CALLERS_PATH = {
    "federated.execute(text)",
    "federated._describe_columns(text)",
    "federated_predict_batch(text,text)",
    "federated_predict_batch(text,text,text,text)",
    "federated._fetch_block(text,integer)",
    "federated_evaluate(text,text,integer,double precision,bigint,text)",
    "federated._gather_evaluated(text,text,bigint)",
    "federated_certified_accuracy(text,text)",
    "federated._fetch_rows(text)",
}
# These look nothing up: of the first, every name is qualified or bound and they would not be inlined; the second are Python and C alone.
INLINED = ("federated._as_", "federated._is_given(", "federated._key_sha256(", "federated._drawn(")
NO_SQL = {
    "federated._bytes(double precision[])",
    "federated._hash_text(text,integer)",
    "federated._score(text,bytea)",
    "federated._score_classes(text,bytea)",
    "federated._score_rows(text,bytea)",
    "federated._keep_version(text,text,bytea,text)",
    "federated._reduce_block(text,text[],bytea,bytea)",
    "federated._explain(text,bytea,integer,bigint)",
    "federated._evaluate_rows(text,bytea,integer,bigint,integer,double precision,bigint,boolean)",
}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A server whose sessions import the library themselves: from where is what is tested."""
    with prepared_cluster() as running:
        yield running


def share_directory() -> Path:
    """Where the server looks for extensions."""
    config = bin_directory() / "pg_config"
    return Path(subprocess.check_output([config, "--sharedir"], text=True).strip()) / "extension"


def installed_scripts() -> list[Path]:
    scripts = sorted(share_directory().glob(f"{EXTENSION}--*.sql"))
    assert len(scripts) >= 3
    return scripts


def control() -> dict[str, str]:
    lines = (share_directory() / f"{EXTENSION}.control").read_text().splitlines()
    pairs = (line.partition(" = ") for line in lines)
    return {name: value.strip("'") for name, _, value in pairs}


def install_script() -> Path:
    return share_directory() / f"{EXTENSION}--{control()['default_version']}.sql"


def test_the_control_file_says_who_may_install_and_what_is_needed() -> None:
    settings = control()
    assert settings.pop("comment")
    assert settings.pop("default_version")
    assert settings == {
        "requires": "plpython3u",
        "relocatable": "false",
        "superuser": "true",
        "trusted": "false",
    }


def test_every_script_refuses_to_be_run_by_psql(cluster: Cluster) -> None:
    database = cluster.create_database("template1")
    for script in installed_scripts():
        assert script.read_text().startswith("\\echo ")
        done = subprocess.run(
            [bin_directory() / "psql", "-X", "-d", cluster.dsn(database), "-f", script],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert done.stdout.startswith('Use "'), script
        assert done.stdout.count("\n") == 1, script
        assert done.stderr == "", script
    with cluster.connect(database) as session:
        assert session.execute("SELECT to_regnamespace('federated')").fetchall() == [(None,)]


def test_no_script_has_a_placeholder_left() -> None:
    for script in installed_scripts():
        text = script.read_text()
        for placeholder in ("@LIBDIR@", "@VERSION@", "@extowner@"):
            assert placeholder not in text, script


def test_nothing_in_the_install_script_takes_over_what_somebody_made_before() -> None:
    text = install_script().read_text().replace("@extschema@", "extschema")
    script = "\n".join(line for line in text.splitlines() if not line.startswith("\\"))
    statements = [raw.stmt for raw in parse_sql(script)]
    assert len(statements) > 100
    for statement in statements:
        shown = type(statement).__name__
        assert not getattr(statement, "replace", None), shown
        assert not getattr(statement, "if_not_exists", None), shown
        assert not getattr(statement, "missing_ok", None), shown
        assert not isinstance(statement, ast.DropStmt), shown


@pytest.mark.parametrize("user", ["an_admin", "a_nobody"])
def test_only_a_superuser_installs(cluster: Cluster, federated_database: str, user: str) -> None:
    database = cluster.create_database("template1")
    with cluster.connect(database) as superuser:
        superuser.execute(f"GRANT CREATE ON DATABASE {database} TO {user}")  # type: ignore[arg-type]
    with cluster.connect(database, user=user) as session, pytest.raises(errors.InsufficientPrivilege):
        session.execute(f"CREATE EXTENSION {EXTENSION}")


def test_the_language_is_asked_for(cluster: Cluster, catalog: Session) -> None:
    with cluster.connect(cluster.create_database("template0")) as session:
        with pytest.raises(errors.UndefinedObject, match='required extension "plpython3u" is not installed'):
            session.execute(f"CREATE EXTENSION {EXTENSION}")
        session.execute(f"CREATE EXTENSION {EXTENSION} CASCADE")


def test_what_belongs_to_the_extension_lies_in_its_schemas_or_is_named_in_the_language(
    cluster: Cluster, federated_database: str
) -> None:
    done = subprocess.run(
        [bin_directory() / "psql", "-X", "-A", "-t", "-d", cluster.dsn(federated_database), "-c", f"\\dx+ {EXTENSION}"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    members = [line for line in done.stdout.splitlines() if line]
    assert len(members) > 60
    public = ("federated_", "predict(", "wait_for_convergence(", "compare_federated_models(")
    for member in members:
        kind, _, name = member.partition(" ")
        assert kind in {"schema", "table", "view", "sequence", "index", "type", "function", "procedure"}, (
            member
        )
        own = name.startswith("federated.") or (kind == "schema" and name.startswith("federated"))
        assert own or (kind in {"view", "function"} and name.startswith(public)), member


CENSUS = """
    SELECT c.relkind::text || ' ' || c.oid::regclass FROM pg_class AS c WHERE c.relnamespace <> 'pg_toast'::regnamespace
    UNION ALL SELECT 'function ' || p.oid::regprocedure FROM pg_proc AS p
    UNION ALL SELECT 'type ' || t.oid::regtype FROM pg_type AS t
    UNION ALL SELECT 'schema ' || n.nspname FROM pg_namespace AS n
    UNION ALL SELECT 'trigger ' || t.tgname FROM pg_trigger AS t
    UNION ALL SELECT 'policy ' || p.polname FROM pg_policy AS p
    UNION ALL SELECT 'event trigger ' || e.evtname FROM pg_event_trigger AS e
    UNION ALL SELECT 'extension ' || e.extname FROM pg_extension AS e
    UNION ALL SELECT 'comment ' || pg_describe_object(d.classoid, d.objoid, d.objsubid) FROM pg_description AS d
    UNION ALL SELECT 'initial rights ' || pg_describe_object(i.classoid, i.objoid, i.objsubid) FROM pg_init_privs AS i
    UNION ALL SELECT 'default rights ' || d.defaclrole::regrole FROM pg_default_acl AS d
    UNION ALL SELECT 'setting ' || array_to_string(s.setconfig, ',') FROM pg_db_role_setting AS s
    ORDER BY 1
"""


def test_drop_extension_leaves_nothing(cluster: Cluster, catalog: Session) -> None:
    with cluster.connect(cluster.create_database("template1")) as session:
        before = session.execute(CENSUS).fetchall()
        session.execute(f"CREATE EXTENSION {EXTENSION}")
        assert len(session.execute(CENSUS).fetchall()) > len(before) + 60
        session.execute("CALL federated.execute('CREATE FEDERATED WORKSPACE w')")
        session.execute("CALL federated.execute('CREATE FEDERATED MODEL m')")
        session.execute("CALL federated.execute('DROP FEDERATED MODEL m')")
        session.execute(f"DROP EXTENSION {EXTENSION}")
        assert session.execute(CENSUS).fetchall() == before


def test_drop_extension_refuses_where_something_depends_on_it(catalog: Session, daemon: Session) -> None:
    publish(daemon)
    catalog.execute("CREATE TABLE patient (age double precision, smoker boolean)")
    catalog.execute("CREATE VIEW mine AS SELECT federated_model.risk(age, smoker) FROM patient")
    catalog.execute("CREATE VIEW watched AS SELECT node_name FROM federated_node_status")
    with pytest.raises(errors.DependentObjectsStillExist) as caught:
        catalog.execute(f"DROP EXTENSION {EXTENSION}")
    detail = caught.value.diag.message_detail or ""
    assert "view mine depends on" in detail
    assert "view watched depends on" in detail
    catalog.execute(f"DROP EXTENSION {EXTENSION} CASCADE")
    left = "SELECT to_regclass('mine'), to_regclass('watched'), to_regnamespace('federated_model'), to_regclass('patient')"
    assert catalog.execute(left).fetchall() == [(None, None, None, "patient")]


def test_the_extension_goes_while_a_dataset_is_shared_only_by_cascade(catalog: Session) -> None:
    catalog.execute("CREATE TABLE patient (age double precision, outcome integer)")
    catalog.execute(
        "CALL federated.execute('CREATE FEDERATED DATASET d FOR TABLE patient IN WORKSPACE clinics')"
    )
    with pytest.raises(errors.DependentObjectsStillExist):
        catalog.execute(f"DROP EXTENSION {EXTENSION}")
    catalog.execute(f"DROP EXTENSION {EXTENSION} CASCADE")
    assert catalog.execute(
        "SELECT to_regclass('patient')::text, to_regnamespace('federated_dataset')"
    ).fetchall() == [("patient", None)]


def test_every_object_says_what_it_is(catalog: Session) -> None:
    silent = catalog.execute(
        f"""
        WITH member AS ({MEMBERS})
        SELECT pg_describe_object(m.classid, m.objid, 0) FROM member AS m
        WHERE m.classid IN ('pg_proc'::regclass, 'pg_namespace'::regclass)
          AND obj_description(m.objid, m.classid::regclass::name) IS NULL
        UNION ALL
        SELECT pg_describe_object(m.classid, m.objid, 0) FROM member AS m JOIN pg_class AS c ON c.oid = m.objid
        WHERE m.classid = 'pg_class'::regclass AND c.relkind IN ('r', 'p', 'v', 'm')
          AND obj_description(m.objid, 'pg_class') IS NULL
        UNION ALL
        SELECT pg_describe_object(m.classid, m.objid, 0) FROM member AS m JOIN pg_type AS t ON t.oid = m.objid
        WHERE m.classid = 'pg_type'::regclass AND t.typtype IN ('e', 'd', 'r')
          AND obj_description(m.objid, 'pg_type') IS NULL
        UNION ALL
        SELECT pg_describe_object('pg_class'::regclass, a.attrelid, a.attnum)
        FROM member AS m JOIN pg_class AS c ON c.oid = m.objid JOIN pg_attribute AS a ON a.attrelid = c.oid
        WHERE m.classid = 'pg_class'::regclass AND c.relkind IN ('v', 'm') AND c.relnamespace <> 'federated'::regnamespace
          AND a.attnum > 0 AND NOT a.attisdropped AND col_description(a.attrelid, a.attnum) IS NULL
        """  # type: ignore[arg-type]
    ).fetchall()
    assert [name for (name,) in silent] == [], "COMMENT ON is missing"


def test_every_function_pins_its_search_path(catalog: Session) -> None:
    functions = catalog.execute(
        f"SELECT p.oid::regprocedure::text, p.proconfig, p.prosecdef FROM ({MEMBERS}) AS m"  # type: ignore[arg-type]
        " JOIN pg_proc AS p ON p.oid = m.objid WHERE m.classid = 'pg_proc'::regclass"
    ).fetchall()
    assert len(functions) > 25
    loose = {
        name for name, settings, _ in functions if "search_path=pg_catalog, pg_temp" not in (settings or [])
    }
    assert {name for name in loose if not name.startswith(INLINED)} == CALLERS_PATH | NO_SQL
    assert not [name for name, _, definer in functions if definer and name in CALLERS_PATH]


def test_no_function_with_its_owners_rights_is_owned_by_a_role_that_can_log_in_but_the_installer(
    catalog: Session,
) -> None:
    owners = catalog.execute(
        f"SELECT DISTINCT p.proowner::regrole::text FROM ({MEMBERS}) AS m JOIN pg_proc AS p ON p.oid = m.objid"  # type: ignore[arg-type]
        " WHERE m.classid = 'pg_proc'::regclass AND p.prosecdef"
    ).fetchall()
    assert {owner for (owner,) in owners} <= {
        "postgres",
        "federated_owner",
        "federated_probe",
        "federated_aggregator",
    }


def test_nothing_is_granted_to_everybody(catalog: Session) -> None:
    granted = catalog.execute(
        f"""
        WITH member AS ({MEMBERS}), acl AS (
            SELECT m.classid, m.objid, 0 AS place, coalesce(p.proacl, acldefault('f', p.proowner)) AS acl
            FROM member AS m JOIN pg_proc AS p ON p.oid = m.objid WHERE m.classid = 'pg_proc'::regclass
            UNION ALL
            SELECT m.classid, m.objid, 0, c.relacl FROM member AS m JOIN pg_class AS c ON c.oid = m.objid
            WHERE m.classid = 'pg_class'::regclass
            UNION ALL
            SELECT m.classid, m.objid, a.attnum, a.attacl FROM member AS m JOIN pg_attribute AS a ON a.attrelid = m.objid
            WHERE m.classid = 'pg_class'::regclass
            UNION ALL
            SELECT m.classid, m.objid, 0, n.nspacl FROM member AS m JOIN pg_namespace AS n ON n.oid = m.objid
            WHERE m.classid = 'pg_namespace'::regclass
            UNION ALL
            SELECT m.classid, m.objid, 0, coalesce(t.typacl, acldefault('T', t.typowner))
            FROM member AS m JOIN pg_type AS t ON t.oid = m.objid
            WHERE m.classid = 'pg_type'::regclass AND t.typtype IN ('e', 'd', 'r')
        )
        SELECT pg_describe_object(acl.classid, acl.objid, acl.place), x.privilege_type
        FROM acl, aclexplode(acl.acl) AS x WHERE x.grantee = 0
        """  # type: ignore[arg-type]
    ).fetchall()
    assert granted == []


def test_a_reinstalled_extension_works_in_the_same_session(cluster: Cluster, catalog: Session) -> None:
    with cluster.connect(cluster.create_database("template1")) as session:
        for _ in range(2):
            session.execute(f"CREATE EXTENSION {EXTENSION}")
            session.execute("CALL federated.execute('CREATE FEDERATED WORKSPACE w')")
            session.execute("CALL federated.execute('CREATE FEDERATED MODEL m')")
            session.execute(f"DROP EXTENSION {EXTENSION} CASCADE")
