"""The values of a category as a node's database holds them, in whatever encoding, and however long they are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql

from heliosdb.catalog.dataset_rows import RowQuery, hashes_of, values_by_hash
from heliosdb.domain.ids import DatasetName
from tests.support.cluster import Cluster

QUERY = RowQuery(DatasetName("d"), ("city",), ())
LONG = "x" * 480


@pytest.fixture(params=["LATIN1", "UTF8", "SQL_ASCII"])
def database(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[psycopg.Connection[Any]]:
    """A database of an encoding, with a dataset of one column."""
    name = f"encoded_{request.param.lower()}"
    with cluster.connect() as owner:
        owner.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(name)))
        owner.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING {} LOCALE 'C'").format(
                sql.Identifier(name), sql.Literal(request.param)
            )
        )
    with cluster.connect(name) as connection:
        connection.execute("CREATE SCHEMA federated_dataset; CREATE TABLE federated_dataset.d (city text)")
        yield connection


def test_a_level_that_the_database_cannot_hold_is_no_row_s_and_ends_nothing(
    database: psycopg.Connection[Any],
) -> None:
    """Another node may hold it: under a budget the task names it, and was charged already."""
    found = hashes_of(database, ("Rom", "Łódź", "日本"))

    assert found[int(database.execute("SELECT hashtextextended('Rom', 0)").fetchall()[0][0])] == "Rom"
    only_latin = database.info.parameter_status("server_encoding") == "LATIN1"
    assert set(found.values()) == ({"Rom"} if only_latin else {"Rom", "Łódź", "日本"})


def test_a_value_that_is_too_long_for_a_level_is_not_fetched(database: psycopg.Connection[Any]) -> None:
    """A column of notes may hold gigabytes of them."""
    database.execute(
        "INSERT INTO federated_dataset.d VALUES ('Rom'), ('Rom'), (NULL), (%s), (%s)", [LONG, LONG + "x"]
    )

    assert sorted(values_by_hash(database, QUERY, "city").values()) == ["Rom", LONG]


def test_a_text_made_up_to_have_a_values_hash_does_not_rename_it(database: psycopg.Connection[Any]) -> None:
    """One row with it would be enough, and its text would leave as the level of the others."""
    database.execute("INSERT INTO federated_dataset.d VALUES ('!c1xnDC\"!M;V'), ('red'), ('red')")

    assert list(values_by_hash(database, QUERY, "city").values()) == ["red"]
