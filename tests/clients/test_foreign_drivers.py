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
