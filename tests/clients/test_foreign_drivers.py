"""JDBC and node-postgres see through the proxy what they would see if PostgreSQL itself knew the language."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.clients.comparison import differences
from tests.clients.conftest import Site
from tests.clients.foreign_drivers import Foreign, ForeignProcess, start_java, start_node
from tests.clients.script import SCRIPTS


@pytest.fixture(scope="module")
def java(site: Site) -> Iterator[ForeignProcess]:
    process = start_java(site)
    yield process
    process.close()


@pytest.fixture(scope="module")
def node(site: Site) -> Iterator[ForeignProcess]:
    process = start_node(site)
    yield process
    process.close()


@pytest.mark.parametrize("part", SCRIPTS)
@pytest.mark.parametrize("mode", ["simple", "extended", "extendedForPrepared", "extendedCacheEverything"])
def test_jdbc_gets_counts_rows_notices_and_errors(java: ForeignProcess, mode: str, part: str) -> None:
    driver = Foreign(java, mode, "count", "?")
    found = differences(driver, SCRIPTS[part](f"java_{mode}".lower()))
    assert not found, "\n".join(found)


@pytest.mark.parametrize("part", SCRIPTS)
@pytest.mark.parametrize("mode", ["simple", "extended", "named"])
def test_node_postgres_gets_tags_rows_notices_and_errors(node: ForeignProcess, mode: str, part: str) -> None:
    driver = Foreign(node, mode, "word", "${}")
    found = differences(driver, SCRIPTS[part](f"node_{mode}"))
    assert not found, "\n".join(found)


@pytest.mark.parametrize("mode", ["simple", "extended", "extendedForPrepared"])
def test_jdbc_reads_predictions_two_rows_at_a_time(java: ForeignProcess, mode: str) -> None:
    driver = Foreign(java, mode, "count", "?")
    query = "SELECT g, federated_predict('risk', age => g, bmi => $1) AS p FROM generate_series(1, 7) AS g"
    for _ in range(2):
        answer = driver.fetch(query, (0.0,))
        assert answer.columns == ("g", "p")
        assert answer.rows == tuple((str(g), str(0.25 + g / 2)) for g in range(1, 8))


@pytest.mark.parametrize("mode", ["simple", "extended", "extendedForPrepared"])
def test_a_batch_of_jdbc_is_done_whole_or_not_at_all(java: ForeignProcess, mode: str) -> None:
    driver, w = Foreign(java, mode, "count", "?"), f"batched_{mode}".lower()
    create, drop = f"CREATE FEDERATED WORKSPACE {w}", f"DROP FEDERATED WORKSPACE {w}"
    refused = driver.batch(create, "UPDATE patient SET age = age + 0", create)
    assert refused["sqlstate"] == "42710"
    count = f"SELECT count(*) FROM federated.workspace WHERE name = '{w}'"
    assert driver.execute(count, ()).rows == (("0",),)
    assert driver.batch(create, "UPDATE patient SET age = age + 0", drop) == {"counts": [0, 3, 0]}
    assert driver.execute(count, ()).rows == (("0",),)


def test_jdbc_prepares_on_the_server_in_every_mode_but_simple(java: ForeignProcess) -> None:
    kept = "SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE 'SELECT federated_model%'"
    seen = {}
    for mode in ("simple", "extended"):
        driver = Foreign(java, mode, "count", "?")
        for _ in range(3):
            answer = driver.execute("SELECT federated_predict('risk', age => $1, bmi => 1.5)", (10.0,))
            assert answer.rows == (("8.25",),)
        seen[mode] = driver.execute(kept, ()).rows
    assert seen == {"simple": (("0",),), "extended": (("1",),)}
