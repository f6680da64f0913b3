"""A model with columns of every kind predicts the same through the proxy, in views, prepared, and restored from a dump."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import psycopg
import pytest

from heliosdb.domain.encoding import ColumnEncoding, ColumnKind, Encoding
from tests.support.cluster import Cluster
from tests.support.encoded_model import ENCODING, FEATURES, linear, make_patients, reference, rows
from tests.support.programs import run_program
from tests.support.publication import publish_prediction

NAMED = ", ".join(
    f'"{name}" => "{name}"' + (" AT TIME ZONE 'UTC'" if name == "seen" else "") for name in FEATURES
)
QUERIES = {
    "named": f"SELECT federated_predict('stay', {NAMED}) FROM patients ORDER BY id",
    "of a version": f"SELECT federated_predict('stay@1', {NAMED}) FROM patients ORDER BY id",
    "of a tag": f"SELECT federated_predict('stay@first', {NAMED}) FROM patients ORDER BY id",
    "a row": "SELECT federated_predict('stay', p) FROM patients AS p ORDER BY id",
    "a tag's row": "SELECT federated_predict('stay@first', patients) FROM patients ORDER BY id",
    "a view's row": "SELECT federated_predict('stay', e) AS y FROM everybody AS e WHERE y IS NOT NULL ORDER BY e.id",
    "in a view": "SELECT y FROM predicted ORDER BY id",
    "JSON": "SELECT federated_predict('stay', to_jsonb(p) - '{id,other}'::text[]) FROM patients AS p ORDER BY id",
}


@pytest.fixture
def world(cluster: Cluster, through: Callable[[str], psycopg.Connection]) -> Iterator[psycopg.Connection]:
    """Through the proxy, to a database with the model, a version with a tag, and views."""
    name = cluster.create_database("federated_template")
    with cluster.connect(name) as connection:
        connection.execute("CALL federated.execute('CREATE FEDERATED WORKSPACE clinics')")
        make_patients(connection)
        connection.execute('ALTER TABLE patients ALTER "Ward" TYPE text USING rtrim("Ward")')
        assert publish_prediction(cluster, name, "stay", linear("logistic"), ENCODING).obstacle is None
        connection.execute("CALL federated.execute('TAG FEDERATED MODEL stay AS ''first''')")
    with through(name) as session:
        session.execute("CREATE VIEW everybody AS SELECT * FROM patients")
        session.execute(
            "CREATE VIEW predicted AS SELECT id, federated_predict('stay', p) AS y FROM patients AS p"
        )
        yield session


def column(session: psycopg.Connection, query: str) -> list[float]:
    return [value for (value,) in session.execute(query).fetchall()]  # type: ignore[arg-type]


def test_every_way_through_the_proxy_predicts_what_numpy_does(
    cluster: Cluster, world: psycopg.Connection
) -> None:
    expected = reference(linear("logistic"), rows())
    for name, query in QUERIES.items():
        for prepare in (False, True):
            found = [y for (y,) in world.execute(query, prepare=prepare).fetchall()]  # type: ignore[arg-type]
            np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12, err_msg=name)
    world.execute(
        "PREPARE one (integer) AS SELECT federated_predict('stay', p) FROM patients AS p WHERE id = $1"
    )
    for number, wanted in enumerate(expected):
        [found] = column(world, f"EXECUTE one ({number})")
        assert found == pytest.approx(wanted, rel=1e-9)
    [description] = world.execute(QUERIES["a row"]).description or ()
    assert description.name == "federated_predict"
    plan = "\n".join(column(world, f"EXPLAIN (VERBOSE) {QUERIES['a row']}"))  # type: ignore[arg-type]
    assert "Function Scan" not in plan
    with cluster.connect(world.info.dbname, user="an_analyst") as analyst:
        analyst.execute("SET SESSION AUTHORIZATION DEFAULT")
        found = column(analyst, "SELECT y FROM patients AS p, federated_row.stay(p) AS y ORDER BY id")
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


def test_a_restored_dump_predicts_the_same(cluster: Cluster, world: psycopg.Connection) -> None:
    names = ", ".join(f'"{name}"' for name in FEATURES)
    world.execute(
        "CREATE FEDERATED MODEL dense WITH (algorithm = 'linear_regression', features = ['v'], target = 'y')"
    )
    dense = Encoding((ColumnEncoding("v", ColumnKind.ARRAY, elements=1001),))  # more than an expression has
    made = publish_prediction(cluster, world.info.dbname, "dense", linear("identity", dense), dense)
    assert made.obstacle is None
    expected = reference(linear("logistic"), rows())
    restored = cluster.create_database("template1")
    dump = run_program("pg_dump", "--format=custom", cluster.dsn(world.info.dbname))
    run_program("pg_restore", "--exit-on-error", f"--dbname={cluster.dsn(restored)}", text=dump)
    with cluster.connect(restored) as copy:
        for query in (
            f"SELECT predict('stay', p) FROM (SELECT {names} FROM patients ORDER BY id) AS p",
            'SELECT y FROM patients AS p, federated_row."stay@first"(p) AS y ORDER BY id',
            "SELECT y FROM predicted ORDER BY id",
        ):
            np.testing.assert_allclose(column(copy, query), expected, rtol=1e-9, atol=1e-12, err_msg=query)
        assert column(copy, "SELECT federated_model.dense(v) FROM patients ORDER BY id") == column(
            world, "SELECT federated_model.dense(v) FROM patients ORDER BY id"
        )
