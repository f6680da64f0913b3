"""The plain installer: one SQL file, no extension and nothing on the server's disk, and the language works."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import errors

from heliosdb.extension.version import CATALOG_VERSION
from tests.integration.extension.conftest import MODEL, WORKSPACE
from tests.integration.extension.test_install import CENSUS
from tests.integration.extension.test_predictions import make_current, publish, value
from tests.support.catalog_snapshot import EXTENSION
from tests.support.cluster import Cluster, bin_directory, prepared_cluster
from tests.support.programs import run_program

ROOT = Path(__file__).resolve().parents[3]
NODE = (
    "REGISTER FEDERATED NODE 'clinic_a' IN WORKSPACE clinics WITH (endpoint = 'https://clinic-a.example.com:8443',"
    " certificate = E'/path/to/cert\\x2epem')"
)
Session = psycopg.Connection[Any]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A server whose sessions import the library themselves: from where is what is tested."""
    with prepared_cluster() as running:
        yield running


@pytest.fixture(scope="module")
def scripts() -> dict[str, Path]:
    """The installer and the uninstaller, as `make -C extension plain` writes them."""
    subprocess.run(["make", "-s", "-C", ROOT / "extension", "plain"], check=True, stdout=subprocess.DEVNULL)
    return {
        kind: ROOT / f"build/{EXTENSION}--{CATALOG_VERSION}.{kind}.sql"
        for kind in ("plain", "plain-uninstall")
    }


def psql(
    cluster: Cluster, database: str, script: Path, user: str = "postgres"
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [bin_directory() / "psql", "-X", "-q", "-d", cluster.dsn(database, user=user), "-f", script],
        capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip


@pytest.fixture(scope="module")
def installed(cluster: Cluster, scripts: dict[str, Path]) -> str:
    """A database with the plain installation, of which each test has a copy."""
    name = cluster.create_database("template1")
    done = psql(cluster, name, scripts["plain"])
    assert (done.returncode, done.stderr) == (0, "")
    return name


@pytest.fixture
def database(cluster: Cluster, installed: str) -> Iterator[str]:
    """A database with the plain installation."""
    name = cluster.create_database(installed)
    yield name
    cluster.drop_database(name)


@pytest.fixture
def plain(cluster: Cluster, database: str) -> Iterator[Session]:
    with cluster.connect(database) as session:
        yield session


def execute(session: Session, *statements: str) -> None:
    for statement in statements:
        session.execute("CALL federated.execute(%s)", [statement])


def test_no_module_comes_from_the_servers_disk(plain: Session) -> None:
    assert plain.execute("SELECT count(*) FROM pg_extension WHERE extname = %s", [EXTENSION]).fetchall() == [
        (0,)
    ]
    execute(plain, WORKSPACE, MODEL)
    plain.execute(
        "CREATE FUNCTION modules() RETURNS TABLE (name text, origin text, file text) LANGUAGE plpython3u AS $$\n"
        "import sys\n"
        "return [(n, m.__spec__.origin, getattr(m, '__file__', None)) for n, m in list(sys.modules.items())"
        " if n.partition('.')[0] in ('heliosdb', 'federated_sql', 'pglast')]\n$$"
    )
    modules = plain.execute("SELECT * FROM modules()").fetchall()
    assert {"heliosdb.extension.door", "federated_sql.fallback_scanner"} <= {name for name, _, _ in modules}
    for name, origin, file in modules:
        assert origin.startswith("federated.library/"), name
        assert file is None, name
    assert not [name for name, _, _ in modules if name.startswith("pglast")]
    assert (
        plain.execute("SELECT count(*) FROM federated.library WHERE length(source) > 1000").fetchall()[0][0]
        > 20
    )


def test_the_library_is_what_the_extension_installs(plain: Session) -> None:
    # Where another checkout has installed the same tree, set-up built none here.
    subprocess.run(["make", "-s", "-C", ROOT / "extension", "all"], check=True, stdout=subprocess.DEVNULL)
    tree = ROOT / "build/extension/lib"
    installed = {
        str(path.relative_to(tree))
        for package in ("heliosdb", "federated_sql")
        for path in (tree / package).rglob("*")
        if path.suffix in (".py", ".sql")
    }
    carried = {path for (path,) in plain.execute("SELECT path FROM federated.library")}
    assert installed - carried == {"heliosdb/catalog/psycopg_connection.py"}
    assert carried <= installed


def test_the_quick_starts_statements_work(plain: Session, cluster: Cluster, database: str) -> None:
    with cluster.connect(database, user="an_admin") as admin:
        execute(admin, WORKSPACE, NODE, MODEL, "ALTER FEDERATED WORKSPACE clinics SET (round_timeout = 60)")
    execute(plain, "ALTER FEDERATED MODEL risk OWNER TO an_operator")
    with cluster.connect(database, user="an_operator") as operator:
        execute(
            operator, "START FEDERATED TRAINING risk WITH (local_epochs = 5)", "STOP FEDERATED TRAINING risk"
        )
        operator.execute("INSERT INTO federated.run (model_id) SELECT model_id FROM federated.model")
        with pytest.raises(errors.InsufficientPrivilege):
            execute(operator, "DROP FEDERATED WORKSPACE clinics")
    with cluster.connect(database, user="a_nobody") as nobody, pytest.raises(errors.InsufficientPrivilege):
        execute(nobody, "DROP FEDERATED WORKSPACE clinics")
    assert plain.execute("SELECT options ->> 'certificate' FROM federated.node").fetchall() == [
        ("/path/to/cert.pem",)
    ]
    assert plain.execute("SELECT workspace, node_name, status FROM federated_node_status").fetchall() == [
        ("clinics", "clinic_a", "pending")
    ]
    status = plain.execute("SELECT round_number, status FROM federated_training_status('risk')").fetchall()
    assert status == [(0, "queued")]


ERRORS = [
    ("CREATE FEDERATED WORKSPACE clinics", "42710"),
    ("CREATE FEDERATED WORKSPAC w", "42601"),
    ("CREATE FEDERATED WORKSPACE w WITH (privacy_bugdet = 1)", "22023"),
    ("CREATE FEDERATED WORKSPACE w WITH (min_nodes = 'x", "42601"),
    ("CREATE FEDERATED WORKSPACE select", "42601"),
    ("START FEDERATED TRAINING nothing", "42704"),
]


def test_errors_are_those_of_the_extension(
    plain: Session, catalog: Session, subtests: pytest.Subtests
) -> None:
    execute(plain, WORKSPACE, MODEL)
    for statement, sqlstate in ERRORS:
        with subtests.test(statement=statement):
            seen = []
            for session in (plain, catalog):
                with pytest.raises(psycopg.Error) as caught:
                    execute(session, statement)
                told = caught.value.diag
                seen.append((told.sqlstate, told.message_primary, told.message_hint, told.column_name))
            assert seen[0] == seen[1]
            assert seen[0][0] == sqlstate


def test_a_dataset_is_shared_but_without_a_predicate(plain: Session) -> None:
    plain.execute("CREATE TABLE patient (age double precision, outcome integer)")
    execute(plain, "CREATE FEDERATED DATASET d FOR TABLE patient IN WORKSPACE clinics")
    for predicate in ("age > 1", "true) UNION SELECT 1, 2 --", "age > 1) OR (true"):
        with pytest.raises(psycopg.Error) as caught:
            execute(
                plain,
                f"CREATE FEDERATED DATASET e FOR TABLE patient WHERE ({predicate}) IN WORKSPACE clinics",
            )
        assert caught.value.sqlstate in {"0A000", "42601"}
    assert plain.execute("SELECT count(*) FROM federated.dataset").fetchall() == [(1,)]
    with pytest.raises(errors.FeatureNotSupported, match="needs the extension installed as files"):
        execute(plain, "CREATE FEDERATED DATASET e FOR TABLE patient WHERE (age > 1) IN WORKSPACE clinics")


def test_predictions_and_a_dump_restored(cluster: Cluster, plain: Session, database: str) -> None:
    execute(plain, WORKSPACE, MODEL)
    with cluster.connect(database, user="heliosdb_daemon") as coordinator:
        assert publish(coordinator) is None
    make_current(plain, ["age", "smoker"])
    calls = (
        "federated_model.risk(age => 10, smoker => true)",
        "federated_predict('risk', '{\"age\": 10, \"smoker\": true}'::jsonb)",
        "predict('risk', ARRAY[10, 1]::float8[])",
    )
    assert [value(plain, call) for call in calls] == [7.25] * 3
    restored = cluster.create_database("template1")
    dump = run_program("pg_dump", "--format=custom", cluster.dsn(database, user="an_admin"))
    run_program("pg_restore", "--exit-on-error", f"--dbname={cluster.dsn(restored)}", text=dump)
    with cluster.connect(restored) as copy:
        execute(copy, "STOP FEDERATED TRAINING risk", "CREATE FEDERATED MODEL later")
    with cluster.connect(restored, user="an_analyst") as analyst:
        assert [value(analyst, call) for call in calls] == [7.25] * 3


def test_it_is_installed_once_by_a_superuser_with_the_language_or_not_at_all(
    cluster: Cluster, catalog: Session, federated_database: str, database: str, scripts: dict[str, Path]
) -> None:
    without_language = cluster.create_database("template0")
    for target, user, message in (
        (database, "postgres", "is installed in this database already"),
        (federated_database, "postgres", "is installed in this database already"),
        (without_language, "postgres", 'language "plpython3u" is not installed'),
        (cluster.create_database("template1"), "an_admin", "only a superuser can install"),
    ):
        done = psql(cluster, target, scripts["plain"], user)
        assert done.returncode == 3
        assert message in done.stderr
    with cluster.connect(without_language) as session:
        assert session.execute("SELECT to_regnamespace('federated')").fetchall() == [(None,)]


def test_the_extension_is_not_put_over_it(plain: Session) -> None:
    with pytest.raises(errors.DuplicateSchema):
        plain.execute(f"CREATE EXTENSION {EXTENSION}")  # type: ignore[arg-type]


def test_the_uninstaller_leaves_nothing_and_refuses_where_something_depends(
    cluster: Cluster, catalog: Session, scripts: dict[str, Path]
) -> None:
    name = cluster.create_database("template1")
    with cluster.connect(name) as session:
        before = session.execute(CENSUS).fetchall()
        assert psql(cluster, name, scripts["plain"]).returncode == 0
        execute(session, WORKSPACE, MODEL)
        for view in (
            "SELECT federated_model.risk()",
            "SELECT * FROM federated_node_status",
            "SELECT * FROM federated.node",
        ):
            session.execute(f"CREATE VIEW mine AS {view}")  # type: ignore[arg-type]
            done = psql(cluster, name, scripts["plain-uninstall"])
            assert done.returncode == 3
            assert "other objects depend on it" in done.stderr
            session.execute("DROP VIEW mine")
        done = psql(cluster, name, scripts["plain-uninstall"])
        assert (done.returncode, done.stderr) == (0, "")
        assert session.execute(CENSUS).fetchall() == before


def test_nobody_but_a_superuser_writes_the_code(cluster: Cluster, plain: Session, database: str) -> None:
    for user in ("an_admin", "heliosdb_daemon", "a_nobody"):
        with cluster.connect(database, user=user) as session:
            for attack in (
                "UPDATE federated.library SET source = ''",
                "INSERT INTO federated.library VALUES ('heliosdb/x.py', '')",
                "DELETE FROM federated.library",
                "CREATE OR REPLACE FUNCTION federated._load_library() RETURNS void LANGUAGE sql AS ''",
                "CREATE TRIGGER t BEFORE INSERT ON federated.library FOR EACH ROW EXECUTE FUNCTION federated._audit()",
            ):
                with pytest.raises(errors.InsufficientPrivilege):
                    session.execute(attack)  # type: ignore[arg-type]


def test_both_installations_make_the_same_objects(plain: Session, catalog: Session) -> None:
    query = (
        "SELECT p.oid::regprocedure::text, p.provolatile, p.proparallel, p.prosecdef, p.proconfig,"
        " p.proowner::regrole::text, (SELECT array_agg(a::text ORDER BY a::text) FROM unnest(p.proacl) AS a)"
        " FROM pg_proc AS p WHERE p.pronamespace IN ('federated'::regnamespace, 'public'::regnamespace)"
        " AND p.proname <> '_load_library' ORDER BY 1"
    )
    assert plain.execute(query).fetchall() == catalog.execute(query).fetchall()
    query = (
        "SELECT c.oid::regclass::text, a.attname, format_type(a.atttypid, a.atttypmod), c.relowner::regrole::text,"
        " col_description(c.oid, a.attnum), (SELECT array_agg(x::text ORDER BY x::text) FROM unnest(c.relacl) AS x)"
        " FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0"
        " WHERE c.relnamespace IN ('federated'::regnamespace, 'public'::regnamespace)"
        " AND c.oid::regclass::text NOT LIKE 'federated.library%%' ORDER BY c.oid::regclass::text, a.attnum"
    )
    assert plain.execute(query).fetchall() == catalog.execute(query).fetchall()
