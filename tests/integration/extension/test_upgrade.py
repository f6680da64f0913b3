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
from tests.integration.extension.test_dump import run_program
from tests.support.catalog_snapshot import EXTENSION, describe, difference
from tests.support.cluster import Cluster

ROOT = Path(__file__).resolve().parents[3]
Session = psycopg.Connection[Any]


@pytest.fixture
def fresh(cluster: Cluster) -> Iterator[Session]:
    """A database in which only the language is installed."""
    with cluster.connect(cluster.create_database("template1")) as connection:
        yield connection


def install(session: Session, version: str) -> None:
    session.execute(f"CREATE EXTENSION {EXTENSION} VERSION '{version}'")  # type: ignore[arg-type]


def update(session: Session, version: str | None = None) -> None:
    target = "" if version is None else f" TO '{version}'"
    session.execute(f"ALTER EXTENSION {EXTENSION} UPDATE{target}")  # type: ignore[arg-type]


def execute(session: Session, *statements: str) -> None:
    for statement in statements:
        session.execute("CALL federated.execute(%s)", [statement])


def fill_first_version(session: Session) -> None:
    """Put rows and a model's function into a catalog of version 1.0, whose own library is no longer there."""
    session.execute(
        "INSERT INTO federated.workspace (name, options) VALUES ('clinics', '{\"min_nodes\": 2}')"
    )
    session.execute(
        "INSERT INTO federated.node (workspace_id, name, options, status)"
        " SELECT workspace_id, 'a', '{\"endpoint\": \"https://a:1\"}', 'active' FROM federated.workspace"
    )
    session.execute(
        "INSERT INTO federated.model (workspace_id, name, options) SELECT workspace_id, 'risk',"
        ' \'{"features": ["age", "smoker"]}\' FROM federated.workspace'
    )
    session.execute(
        "INSERT INTO federated.run (model_id, status, options, policy, finished_at)"
        " SELECT model_id, 'completed', '{\"rounds\": 1}', '{\"workspace\": \"clinics\"}', now() FROM federated.model"
    )
    session.execute(
        "INSERT INTO federated.round (run_id, round_number, status) SELECT run_id, 1, 'closed' FROM federated.run"
    )
    session.execute(
        "INSERT INTO federated.version (model_id, version, run_id, round_number, features, scaling, sealed, sha256,"
        " is_current) SELECT model_id, 1, run_id, 1, '{age,smoker}', '{}', '\\x01', '\\x02', true FROM federated.run"
    )
    session.execute(
        "INSERT INTO federated.ledger (workspace, run_id, model_name, round_number, step, node_name, state,"
        " noise_multiplier, sampling_rate, steps, epsilon, epsilon_basic, epsilon_tight)"
        " SELECT 'clinics', run_id, 'risk', 1, 'train', 'a', 'charged', 1, 1, 1, 0.4, 0.4, 0.4 FROM federated.run"
    )
    session.execute(
        "SELECT federated._publish_function(model_id, 1, run_id, '{age,smoker}', '{f,t}', 0.25, '{0.5,2}', '{40,0.5}',"
        " '{0,0}', 'identity', 0, 1) FROM federated.run"
    )


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


def test_the_rows_and_functions_of_the_first_version_survive(fresh: Session) -> None:
    tables = ("workspace", "node", "model", "run", "round", "version", "ledger", "audit")
    install(fresh, "1.0")
    fill_first_version(fresh)
    query = "SELECT to_jsonb(t) FROM federated.{} AS t ORDER BY t"
    before = {table: fresh.execute(query.format(table)).fetchall() for table in tables}  # type: ignore[arg-type]
    call = (
        "SELECT federated_model.risk(age => 10, smoker => true), federated_predict('risk', '{\"age\": 10}')"
    )
    predicted = fresh.execute(call).fetchall()
    assert predicted == [(7.25, 6.25)]
    # What users have built on the first version goes on as well.
    fresh.execute("CREATE VIEW watched AS SELECT node_name, status FROM federated_node_status")
    fresh.execute("CREATE VIEW forecast AS SELECT federated_model.risk(age => 10) AS prediction")
    update(fresh)
    assert fresh.execute("SELECT * FROM watched, forecast").fetchall() == [("a", "active", 6.25)]
    assert fresh.execute("SELECT is_intact, reason FROM federated_audit_verify('clinics')").fetchall() == [
        (True, None)
    ]
    fresh.execute("DROP VIEW watched, forecast")
    for table in tables:
        after = fresh.execute(query.format(table)).fetchall()  # type: ignore[arg-type]
        assert len(after) == len(before[table]) > 0
        for (old,), (new,) in zip(before[table], after, strict=True):
            assert old.items() <= new.items(), table
    assert fresh.execute(call).fetchall() == predicted
    execute(
        fresh,
        "ALTER FEDERATED MODEL risk SET (algorithm = 'logistic_regression', target = 'outcome')",
        "START FEDERATED TRAINING risk",
        "STOP FEDERATED TRAINING risk",
        "DROP FEDERATED MODEL risk CASCADE",
        "DROP FEDERATED WORKSPACE clinics CASCADE",
    )


def test_before_the_update_statements_say_so_and_predictions_go_on(fresh: Session) -> None:
    install(fresh, "1.0")
    fill_first_version(fresh)
    with pytest.raises(errors.ObjectNotInPrerequisiteState) as caught:
        execute(fresh, "CREATE FEDERATED WORKSPACE w")
    assert caught.value.diag.message_primary == "the extension in this database was not updated yet"
    assert caught.value.diag.message_hint == f"ALTER EXTENSION {EXTENSION} UPDATE;"
    with pytest.raises(errors.ObjectNotInPrerequisiteState, match="was not updated yet") as caught:
        fresh.execute("INSERT INTO federated.run (model_id) SELECT model_id FROM federated.model")
    assert caught.value.diag.message_hint == f"ALTER EXTENSION {EXTENSION} UPDATE;"
    assert fresh.execute("SELECT federated_model.risk(age => 10)").fetchall() == [(6.25,)]
    update(fresh)
    execute(fresh, "CREATE FEDERATED WORKSPACE w")


# The library that a session of version 1.0 has in memory: its door knows no versions.
OLD_LIBRARY = """
DO LANGUAGE plpython3u $$
import sys, types
for name in [name for name in sys.modules if name.partition('.')[0] in ('heliosdb', 'federated_sql')]:
    del sys.modules[name]
door = types.ModuleType('heliosdb.extension.door')
def execute(plpy, command, schemas): raise RuntimeError('code of another version ran')
door.execute = door.describe_options = execute
package = types.ModuleType('heliosdb.extension'); package.door = door; package.__path__ = []
root = types.ModuleType('heliosdb'); root.extension = package; root.__path__ = []
sys.modules.update({'heliosdb': root, 'heliosdb.extension': package, 'heliosdb.extension.door': door})
$$
"""


def test_a_session_that_holds_the_old_code_runs_none_of_it(
    cluster: Cluster, federated_database: str, catalog: Session
) -> None:
    with cluster.connect(federated_database) as stale:
        stale.execute(OLD_LIBRARY)
        with pytest.raises(errors.ObjectNotInPrerequisiteState) as caught:
            execute(stale, "CREATE FEDERATED WORKSPACE w")
        assert caught.value.diag.message_primary == "this session began before the extension was updated"
        assert caught.value.diag.message_hint == "Reconnect."
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


def test_a_dump_of_the_first_version_is_restored_into_this_one(cluster: Cluster, fresh: Session) -> None:
    install(fresh, "1.0")
    fill_first_version(fresh)
    restored = cluster.create_database("template1")
    dump = run_program("pg_dump", "--format=custom", cluster.dsn(fresh.info.dbname))
    run_program("pg_restore", "--exit-on-error", f"--dbname={cluster.dsn(restored)}", text=dump)
    with cluster.connect(restored) as copy:
        assert copy.execute(
            "SELECT extversion FROM pg_extension WHERE extname = %s", [EXTENSION]
        ).fetchall() == [(CATALOG_VERSION,)]
        assert copy.execute("SELECT federated_predict('risk', '{\"age\": 10}')").fetchall() == [(6.25,)]
        assert copy.execute("SELECT is_intact, reason FROM federated_audit_verify('clinics')").fetchall() == [
            (True, None)
        ]
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
