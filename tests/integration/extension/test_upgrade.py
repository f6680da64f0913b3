"""Every way to the current version ends in the same catalog, keeps what was in it, and mixes no two versions' code."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import psycopg
import pytest
from psycopg import errors

from heliosdb.extension.version import CATALOG_VERSION
from tests.integration.extension.conftest import MODEL, WORKSPACE
from tests.integration.extension.released_catalog import RELEASED, TABLES, fill, install
from tests.support.catalog_snapshot import EXTENSION, describe, difference
from tests.support.cluster import Cluster, prepared_cluster
from tests.support.programs import run_program

ROOT = Path(__file__).resolve().parents[3]
Session = psycopg.Connection[Any]
VERIFY = "SELECT is_intact, reason FROM federated_audit_verify('clinics')"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A server whose sessions import the library themselves: from where is what is tested."""
    with prepared_cluster() as running:
        yield running


@pytest.fixture
def fresh(cluster: Cluster) -> Iterator[Session]:
    """A database in which only the language is installed."""
    with cluster.connect(cluster.create_database("template1")) as connection:
        yield connection


def update(session: Session, version: str | None = None) -> None:
    target = "" if version is None else f" TO '{version}'"
    session.execute(f"ALTER EXTENSION {EXTENSION} UPDATE{target}")  # type: ignore[arg-type]


def execute(session: Session, *statements: str) -> None:
    for statement in statements:
        session.execute("CALL federated.execute(%s)", [statement])


def test_every_path_between_versions_is_walked(fresh: Session) -> None:
    paths = fresh.execute(
        "SELECT source, target FROM pg_extension_update_paths(%s) WHERE path IS NOT NULL", [EXTENSION]
    ).fetchall()
    versions = {row[0] for row in fresh.execute(
        "SELECT version FROM pg_available_extension_versions WHERE name = %s", [EXTENSION])}  # fmt: skip
    older = versions - {CATALOG_VERSION}
    assert older
    assert {(source, CATALOG_VERSION) for source in older} <= set(paths)
    assert all(target in versions for _, target in paths)
    for source, target in paths:
        install(fresh, source)
        update(fresh, target)
        [(reached,)] = fresh.execute(
            "SELECT extversion FROM pg_extension WHERE extname = %s", [EXTENSION]
        ).fetchall()
        assert reached == target
        fresh.execute(f"DROP EXTENSION {EXTENSION}")


@pytest.mark.parametrize("schema", ["public", "Elsewhere"])
def test_an_upgraded_catalog_is_a_fresh_one(cluster: Cluster, fresh: Session, schema: str) -> None:
    old_versions = [path.stem.partition("--")[2] for path in (ROOT / "sql/released").glob("*.sql")]
    with cluster.connect(cluster.create_database("template1")) as upgraded:
        for session in (fresh, upgraded):
            session.execute(f'CREATE SCHEMA IF NOT EXISTS "{schema}"')  # type: ignore[arg-type]
        fresh.execute(f'CREATE EXTENSION {EXTENSION} SCHEMA "{schema}"')  # type: ignore[arg-type]
        expected = describe(fresh)
        assert len(expected) > 500
        for version in set(old_versions) - {CATALOG_VERSION}:
            upgraded.execute(f"""CREATE EXTENSION {EXTENSION} SCHEMA "{schema}" VERSION '{version}'""")  # type: ignore[arg-type]
            update(upgraded)
            found = difference(expected, describe(upgraded), "fresh", f"upgraded from {version}")
            assert not found, f"\n{found}"
            upgraded.execute(f"DROP EXTENSION {EXTENSION}")


def test_the_comparison_sees_every_kind_of_difference(fresh: Session) -> None:
    install(fresh, CATALOG_VERSION)
    before = describe(fresh)
    for change in (
        "ALTER TABLE federated.node ALTER last_seen SET NOT NULL",
        "ALTER TABLE federated.node ALTER name SET DEFAULT 'x'",
        "GRANT SELECT (name) ON federated.node TO federated_reader",
        "GRANT SELECT ON federated.node TO PUBLIC",
        "ALTER TABLE federated.node ADD CHECK (name <> 'x')",
        "CREATE INDEX ON federated.node (name)",
        "ALTER TABLE federated.node DISABLE TRIGGER audit",
        "CREATE POLICY p ON federated.node USING (true)",
        "ALTER TABLE federated.node ENABLE ROW LEVEL SECURITY",
        "COMMENT ON COLUMN federated.node.name IS 'x'",
        "ALTER TYPE federated.node_status ADD VALUE 'x'",
        "ALTER SEQUENCE federated.node_node_id_seq CACHE 5",
        "ALTER FUNCTION federated._raise(jsonb) STABLE",
        "ALTER FUNCTION federated._raise(jsonb) RESET search_path",
        "ALTER FUNCTION federated._raise(jsonb) OWNER TO federated_owner",
        "REVOKE EXECUTE ON FUNCTION federated._raise(jsonb) FROM federated_operator",
        "CREATE OR REPLACE FUNCTION federated._raise(failure jsonb) RETURNS void LANGUAGE plpgsql AS 'BEGIN END'",
        "ALTER SCHEMA federated OWNER TO federated_admin",
        "ALTER VIEW federated_node_status SET (security_barrier)",
        f"ALTER EXTENSION {EXTENSION} DROP VIEW federated_node_status",
        "ALTER DEFAULT PRIVILEGES IN SCHEMA federated GRANT SELECT ON TABLES TO federated_reader",
        f"UPDATE pg_extension SET extcondition[1] = 'WHERE true' WHERE extname = '{EXTENSION}'",
    ):
        fresh.execute("BEGIN")
        fresh.execute(change)  # type: ignore[arg-type]
        assert difference(before, describe(fresh), "before", "after"), change
        fresh.execute("ROLLBACK")
    assert not difference(before, describe(fresh), "before", "after")


CALL = (
    "SELECT federated_model.risk(age => 10, smoker => true), federated_predict('risk@good', '{\"age\": 10}')"
)


def test_the_rows_and_functions_of_the_released_version_survive(fresh: Session) -> None:
    install(fresh, RELEASED)
    fill(fresh)
    query = "SELECT to_jsonb(t) FROM federated.{} AS t ORDER BY t"
    before = {table: fresh.execute(query.format(table)).fetchall() for table in TABLES}  # type: ignore[arg-type]
    predicted = fresh.execute(CALL).fetchall()
    assert predicted == [(7.25, 6.25)]
    # What users have built on the released version goes on as well.
    fresh.execute("CREATE VIEW watched AS SELECT node_name, status FROM federated_node_status")
    fresh.execute("CREATE VIEW forecast AS SELECT federated_model.risk(age => 10) AS prediction")
    update(fresh)
    assert fresh.execute("SELECT * FROM watched, forecast ORDER BY 1").fetchall() == [
        ("a", "active", 6.25),
        ("b", "active", 6.25),
    ]
    assert fresh.execute(VERIFY).fetchall() == [(True, None)]
    fresh.execute("DROP VIEW watched, forecast")
    for table in TABLES:
        after = fresh.execute(query.format(table)).fetchall()  # type: ignore[arg-type]
        assert len(after) == len(before[table]) > 0, table
        for (old,), (new,) in zip(before[table], after, strict=True):
            assert old.items() <= new.items(), table
    for table in ("participation", "ledger", "release"):
        exchanges = fresh.execute(
            f"SELECT DISTINCT step, exchange FROM federated.{table} ORDER BY 1"
        ).fetchall()  # type: ignore[arg-type]
        assert exchanges == [("evaluate", 1), ("train", 0)], table
    assert fresh.execute(CALL).fetchall() == predicted
    execute(
        fresh,
        "ALTER FEDERATED MODEL risk SET (algorithm = 'logistic_regression')",
        "START FEDERATED TRAINING risk",
        "STOP FEDERATED TRAINING risk",
        "DROP FEDERATED DATASET patients",
        "DROP FEDERATED MODEL risk CASCADE",
        "DROP FEDERATED WORKSPACE clinics CASCADE",
    )
    assert fresh.execute(VERIFY).fetchall() == [(True, None)]


def test_before_the_update_statements_say_so_and_predictions_go_on(fresh: Session) -> None:
    install(fresh, RELEASED)
    fill(fresh)
    for refused in (
        "CALL federated.execute('CREATE FEDERATED WORKSPACE w')",
        "INSERT INTO federated.run (model_id) SELECT model_id FROM federated.model",
    ):
        with pytest.raises(errors.ObjectNotInPrerequisiteState) as caught:
            fresh.execute(refused)  # type: ignore[arg-type]
        assert caught.value.diag.message_primary == "the extension in this database was not updated yet"
        assert caught.value.diag.message_hint == f"ALTER EXTENSION {EXTENSION} UPDATE;"
        assert "Traceback" not in str(caught.value)
    assert fresh.execute(CALL).fetchall() == [(7.25, 6.25)]
    update(fresh)
    execute(fresh, "CREATE FEDERATED WORKSPACE w")


# A session keeps the library that it imported first: here one that says of itself that it is the released one.
LOAD_LIBRARY = "SELECT federated._options()"
OLD_LIBRARY = f"""
DO LANGUAGE plpython3u $$
import sys
sys.modules["heliosdb.extension.version"].CATALOG_VERSION = "{RELEASED}"
$$
"""


def test_a_session_that_holds_the_old_code_runs_none_of_it(
    cluster: Cluster, federated_database: str, catalog: Session
) -> None:
    with cluster.connect(federated_database) as stale:
        stale.execute(LOAD_LIBRARY)
        stale.execute(OLD_LIBRARY)  # type: ignore[arg-type]
        with pytest.raises(errors.ObjectNotInPrerequisiteState) as caught:
            execute(stale, "CREATE FEDERATED WORKSPACE w")
        assert caught.value.diag.message_primary == "this session began before the extension was updated"
        assert (caught.value.diag.message_hint or "").startswith("Reconnect.")
        with pytest.raises(errors.ObjectNotInPrerequisiteState) as caught:
            stale.execute("INSERT INTO federated.run (model_id) SELECT model_id FROM federated.model")
        assert caught.value.diag.message_primary == "this session began before the extension was updated"
        assert "Traceback" not in str(caught.value)
    execute(catalog, "CREATE FEDERATED WORKSPACE w")


def test_a_session_of_this_version_does_not_serve_a_later_catalog(catalog: Session) -> None:
    [(source,)] = catalog.execute(
        "SELECT pg_get_functiondef('federated._execute(text,name[])'::regprocedure)"
    ).fetchall()
    assert source.count(f'"{CATALOG_VERSION}"') == 1
    catalog.execute(source.replace(f'"{CATALOG_VERSION}"', '"999.0"'))
    with pytest.raises(errors.ObjectNotInPrerequisiteState) as caught:
        execute(catalog, "CREATE FEDERATED WORKSPACE w")
    assert caught.value.diag.message_primary == "this session began before the extension was updated"
    assert (caught.value.diag.message_hint or "").startswith("Reconnect.")


def test_every_body_in_python_asks_for_the_version(catalog: Session) -> None:
    bodies = catalog.execute(
        "SELECT p.oid::regprocedure::text, p.prosrc FROM pg_proc AS p JOIN pg_language AS l ON l.oid = p.prolang"
        " JOIN pg_depend AS d ON (d.classid, d.objid, d.deptype) = ('pg_proc'::regclass, p.oid, 'e')"
        " WHERE l.lanname = 'plpython3u' AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = %s)",
        [EXTENSION],
    ).fetchall()
    assert bodies
    for name, body in bodies:
        assert 'hasattr(door, "serves")' in body, name
        assert f'"{CATALOG_VERSION}"' in body, name


def test_a_dump_of_the_released_version_is_restored_into_this_one(cluster: Cluster, fresh: Session) -> None:
    install(fresh, RELEASED)
    fill(fresh)
    restored = cluster.create_database("template1")
    dump = run_program("pg_dump", "--format=custom", cluster.dsn(fresh.info.dbname))
    run_program("pg_restore", "--exit-on-error", f"--dbname={cluster.dsn(restored)}", text=dump)
    with cluster.connect(restored) as copy:
        assert copy.execute(
            "SELECT extversion FROM pg_extension WHERE extname = %s", [EXTENSION]
        ).fetchall() == [(CATALOG_VERSION,)]
        assert copy.execute(CALL).fetchall() == [(7.25, 6.25)]
        assert copy.execute(VERIFY).fetchall() == [(True, None)]
        ledger = "SELECT to_jsonb(l) FROM federated.ledger AS l ORDER BY ledger_id"
        # What was written by exchanges that had no number keeps its step: so the keys still tell them apart.
        before = [
            ({**line, "exchange": 0, "noise": "gaussian"},) for (line,) in fresh.execute(ledger).fetchall()
        ]
        assert copy.execute(ledger).fetchall() == before
        execute(
            copy,
            WORKSPACE.replace("clinics", "later"),
            MODEL.replace("risk", "later").replace("clinics", "later"),
        )


def test_one_version_is_named_everywhere() -> None:
    control = (ROOT / f"extension/{EXTENSION}.control").read_text()
    assert re.findall(r"^default_version = '(.*)'$", control, re.MULTILINE) == [CATALOG_VERSION]
    project = re.findall(r'^version = "(.*)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert [".".join(version.split(".")[:2]) for version in project] == [CATALOG_VERSION]


def writer() -> ModuleType:
    spec = importlib.util.spec_from_file_location("write_upgrade", ROOT / "scripts/write_upgrade.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_upgrade_script_is_what_its_program_writes() -> None:
    """Where this fails: `make -C extension upgrade`, and do by hand what it names."""
    program = writer()
    old, new = program.newest_release(), program.current_version()
    script, left = program.derive(old, new)
    assert left == []
    assert (ROOT / f"sql/upgrade/{EXTENSION}--{old}--{new}.sql").read_text() == script
