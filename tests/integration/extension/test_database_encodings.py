"""Databases that are not in UTF-8: what is in ASCII works in all of them, and errors are the language's own."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from psycopg import errors, sql

from tests.integration.extension.versions_support import execute, finish_run, value
from tests.support.cluster import Cluster

ENCODINGS = ("SQL_ASCII", "LATIN1", "EUC_JP")


@pytest.fixture(params=ENCODINGS)
def database(request: pytest.FixtureRequest, cluster: Cluster) -> str:
    """The name of a database of that encoding with the extension."""
    name = f"in_{request.param.lower()}"
    with cluster.connect() as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(name)))
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING {} LC_COLLATE 'C' LC_CTYPE 'C'").format(
                sql.Identifier(name), sql.Literal(request.param)
            )
        )
    with cluster.connect(name) as connection:
        connection.execute("CREATE EXTENSION heliosdb_federated_learning CASCADE")
    return name


@pytest.fixture
def session(cluster: Cluster, database: str) -> Iterator[psycopg.Connection]:
    """A superuser's connection, whose client speaks UTF-8 as far as the server can."""
    with psycopg.connect(cluster.dsn(database), autocommit=True, client_encoding="UTF8") as connection:
        yield connection


def test_what_is_in_ascii_works(session: psycopg.Connection) -> None:
    execute(
        session,
        "CREATE FEDERATED WORKSPACE clinics WITH (min_nodes = 3)",
        "CREATE FEDERATED MODEL risk IN WORKSPACE clinics WITH (algorithm = 'logistic_regression',"
        " features = ['age', 'smoker'], target = 'ill')",
    )
    finish_run(session, session)
    session.execute(
        "CREATE TABLE patients (age integer, smoker boolean); INSERT INTO patients VALUES (10, true)"
    )
    execute(session, "CREATE FEDERATED DATASET patients FOR TABLE patients IN WORKSPACE clinics")
    assert value(session, "predict('risk', p) FROM patients AS p") == 7.25
    assert value(session, "federated_predict('risk', '{\"age\": 10, \"smoker\": true}')") == 7.25


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("CREATE FEDERATED MODEL (", errors.SyntaxError),
        ("CREATE FEDERATED MODEL m WITH (algorithm = 'nonsense')", errors.InvalidParameterValue),
        ("START FEDERATED TRAINING m WITH (features = ['a'])", errors.InvalidParameterValue),
        ("ALTER FEDERATED NODE 'n' SET (contact = 'x')", errors.SyntaxError),
    ],
)
def test_an_error_is_the_languages_own(
    session: psycopg.Connection, statement: str, expected: type[psycopg.Error]
) -> None:
    with pytest.raises(expected) as caught:
        execute(session, statement)
    assert caught.value.diag.message_hint or caught.value.diag.message_detail


def test_what_the_encoding_holds_is_kept(session: psycopg.Connection, database: str) -> None:
    name = "漢" if database == "in_euc_jp" else "ä"
    execute(session, f"CREATE FEDERATED WORKSPACE \"{name}\" WITH (data_residency = '{name}')")
    with pytest.raises(errors.DuplicateObject) as caught:
        execute(session, f'CREATE FEDERATED WORKSPACE "{name}"')
    assert caught.value.diag.message_primary == f'federated workspace "{name}" already exists'
    assert session.execute("SELECT name, options ->> 'data_residency' FROM federated.workspace").fetchall() in (
        [(name, name)], [(name.encode(), name.encode())]
    )  # fmt: skip


def test_levels_are_found_where_a_dump_brought_the_hashes_of_another_encoding(
    cluster: Cluster, federated_database: str, session: psycopg.Connection, database: str
) -> None:
    name = "漢" if database == "in_euc_jp" else "ä"
    with cluster.connect(federated_database) as made:
        rendered = value(made, f"federated._render_lookup('v', '{{a,{name},b}}', '{{1,2,3}}', 4, 5)")
    found = session.execute(
        f"SELECT {rendered} FROM (VALUES (1, 'a'), (2, '{name}'), (3, 'b'), (4, NULL), (5, 'c')) AS t (n, v) ORDER BY n"  # type: ignore[arg-type]
    ).fetchall()
    assert found == [(1.0,), (2.0,), (3.0,), (4.0,), (5.0,)]
