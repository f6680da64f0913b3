"""The values of a category as a node's database holds them, in whatever encoding, and however long they are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import psycopg
import pytest
from psycopg import sql

from heliosdb.catalog.dataset_rows import (
    ColumnReading,
    RowQuery,
    copy_rows,
    copy_texts,
    hashes_of,
    values_by_hash,
)
from heliosdb.domain.encoding import ColumnKind
from heliosdb.domain.ids import DatasetName
from heliosdb.node.copied_rows import parse_copy
from heliosdb.node.read_texts import KnownTexts
from tests.support.cluster import Cluster

QUERY = RowQuery(DatasetName("d"), ("city",), ())
LONG = "x" * 480


@contextmanager
def encoded(cluster: Cluster, encoding: str) -> Iterator[psycopg.Connection[Any]]:
    """A database of an encoding, with a dataset of one column."""
    name = f"encoded_{encoding.lower()}"
    with cluster.connect() as owner:
        owner.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(name)))
        owner.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING {} LOCALE 'C'").format(
                sql.Identifier(name), sql.Literal(encoding)
            )
        )
    with cluster.connect(name) as connection:
        connection.execute("CREATE SCHEMA federated_dataset; CREATE TABLE federated_dataset.d (city text)")
        yield connection


@pytest.fixture(params=["LATIN1", "UTF8", "SQL_ASCII"])
def database(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[psycopg.Connection[Any]]:
    """One of each."""
    with encoded(cluster, request.param) as connection:
        yield connection


def _words(database: psycopg.Connection[Any]) -> list[set[str]]:
    """Of each row, in the order of its text's bytes, the words that a node reads; of none the empty set."""
    column = ColumnReading("city", 25, ColumnKind.TEXT)
    values, _ = parse_copy(b"".join(copy_rows(database, QUERY, [column])), 1, 0, [True])
    numbers = values[:, 0].copy()
    texts = KnownTexts.read(copy_texts(database, QUERY, "city", 65_536), numbers).place(numbers)
    found = []
    for place in numbers[~np.isnan(numbers)].astype(int):
        own = texts.places[texts.starts[place] : texts.starts[place + 1]]
        found.append({texts.words[one].decode() for one in own})
    return found


def test_a_text_made_up_to_have_anothers_hash_moves_nobodys_words(database: psycopg.Connection[Any]) -> None:
    """Under a budget one row with it would move all rows that have the other."""
    database.execute("INSERT INTO federated_dataset.d VALUES ('red'), ('red'), ('!c1xnDC\"!M;V'), (NULL)")

    assert _words(database) == [{"red"}, {"red"}, {"c1xndc", "m", "v"}]


@pytest.mark.parametrize("encoding", ["WIN1252", "EUC_JP", "UTF8", "SQL_ASCII"])
def test_a_byte_that_has_no_place_in_utf_8_ends_nothing(cluster: Cluster, encoding: str) -> None:
    """As Windows leaves it in old databases: under a budget its row was charged for already."""
    with encoded(cluster, encoding) as database:
        database.execute("INSERT INTO federated_dataset.d VALUES ('fever')")
        stray = {"WIN1252": r"\x81", "EUC_JP": r"\xfefe"}.get(encoding)
        if stray is not None:
            database.execute(
                "INSERT INTO federated_dataset.d SELECT convert_from(%s::bytea, %s)", [stray, encoding]
            )

        assert _words(database) == [{"fever"}] + [set()] * (stray is not None)


def test_texts_have_the_words_that_their_databases_encoding_says(database: psycopg.Connection[Any]) -> None:
    is_plain = database.info.parameter_status("server_encoding") == "SQL_ASCII"
    given = ("Müde".encode(), "SQL_ASCII" if is_plain else "UTF8")
    database.execute("INSERT INTO federated_dataset.d SELECT convert_from(%s, %s)", given)

    assert _words(database) == [{"müde"}]


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
