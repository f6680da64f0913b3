"""What a node says of its columns: from the catalog of a real server, and never from a row."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest

from heliosdb.catalog.description import describe_datasets
from heliosdb.catalog.psycopg_connection import PsycopgConnection, connect
from heliosdb.domain.handshake import DatasetDescription
from heliosdb.domain.ids import WorkspaceName
from tests.support.cluster import Cluster
from tests.support.federation import WORKSPACE, share


@dataclass(frozen=True)
class Site:
    """A node's database: its DBA's connection, and the daemon's."""

    dba: psycopg.Connection[Any]
    daemon: PsycopgConnection

    def describe(self) -> DatasetDescription:
        """What is said of the one dataset."""
        (found,) = describe_datasets(self.daemon, WorkspaceName(WORKSPACE))
        return found

    def share(self, setup: str, table: str = "t") -> DatasetDescription:
        """Make a table by SQL, share it, and return what is said of it."""
        self.dba.execute(setup)  # type: ignore[arg-type]
        share(self.dba, "d", table)
        return self.describe()


@pytest.fixture
def site(cluster: Cluster, federated_database: str) -> Iterator[Site]:
    with cluster.connect(federated_database) as dba:
        dba.autocommit = True
        daemon = connect(cluster.dsn(federated_database, user="heliosdb_daemon"), application_name="test")
        yield Site(dba, daemon)
        daemon.close()


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("integer CHECK (c IN (0, 1))", ("0", "1")),
        ("smallint CHECK (c = ANY (ARRAY[1, 2]))", ("1", "2")),
        ("bigint CHECK (c BETWEEN 0 AND 1)", ("0", "1")),
        ("numeric CHECK (c IN (1, 2))", ("1", "2")),
        ("numeric(4, 1) CHECK (c IN (-1, 2.5))", ("-1", "2.5")),
        ("double precision CHECK (c IN (2, 4))", ("2", "4")),
        ("real CHECK (c IN (0, 1))", ("0", "1")),
        ("integer CHECK (c = 0 OR c = 1)", ("0", "1")),
        ("integer CHECK (c IN (0, 1, 2)) CHECK (c IN (2, 1, 3))", ("1", "2")),
        ("integer CHECK (c >= 0 AND c <= 2) CHECK (c < 1000)", ("0", "1", "2")),
        ("text CHECK (c IN ('ill', 'it''s'))", ("ill", "it's")),
        ("varchar(10) CHECK (c IN ('a', 'b'))", ("a", "b")),
        ("mood", ("sad", "ok")),
        ("blank", None),
        ("numeric CHECK (c::integer IN (0, 1))", None),
        ("zero_one", ("0", "1")),
        ("stricter", ("1",)),
        ("integer CHECK (c IN (0, 1) OR d > 3)", None),
        ("integer CHECK (c > 0)", None),
        ("integer CHECK (c IN (0, 1)) NO INHERIT", None),
        ("integer", None),
        ("double precision CHECK (c BETWEEN 0 AND 1)", None),
    ],
)
def test_the_values_that_a_column_s_catalog_lists(
    site: Site, column: str, values: tuple[str, ...] | None
) -> None:
    found = site.share(
        "CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE TYPE blank AS ENUM ('', 'ok'); CREATE DOMAIN zero_one AS integer CHECK (VALUE IN (0, 1));"
        f"CREATE DOMAIN stricter AS zero_one CHECK (VALUE IN (1, 2)); CREATE TABLE t (c {column}, d integer)",
    )

    assert found.values_of("c") == values
    assert found.values_of("d") is None


def test_a_domain_is_what_it_is_made_of(site: Site) -> None:
    found = site.share(
        "CREATE DOMAIN flag AS boolean; CREATE DOMAIN sure AS flag NOT NULL; CREATE DOMAIN euro AS numeric(9, 2);"
        "CREATE TABLE t (a flag, b sure, c euro, d text)",
    )

    assert found.types == ("boolean", "boolean", "numeric", "text")


@pytest.mark.parametrize(
    ("setup", "table", "values"),
    [
        ("CREATE TABLE t (c integer); ALTER TABLE t ADD CHECK (c IN (0, 1)) NOT VALID", "t", None),
        ("CREATE TABLE t (c integer CHECK (c IN (0, 1))); CREATE VIEW v AS SELECT c FROM t", "v", None),
        ("CREATE TABLE t (c integer CHECK (c IN (0, 1))) PARTITION BY LIST (c)", "t", ("0", "1")),
        ('CREATE TABLE t ("Class" integer CHECK ("Class" IN (1, 2)))', "t", ("1", "2")),
        (
            "CREATE TABLE t (c integer CHECK (c IN (0, 1))); CREATE TABLE o (c integer CHECK (c IN (7, 8)))",
            "t WHERE (c IN (SELECT c FROM o))",
            ("0", "1"),
        ),
    ],
)
def test_the_table_that_is_shared_counts_and_a_view_declares_nothing(
    site: Site, setup: str, table: str, values: tuple[str, ...] | None
) -> None:
    found = site.share(setup, table)

    assert found.values_of(found.columns[0]) == values


def test_what_is_declared_follows_the_catalog_and_not_the_day_of_sharing(site: Site) -> None:
    site.share("CREATE TABLE t (c integer)")
    site.dba.execute(
        "ALTER TABLE t ADD CONSTRAINT two CHECK (c IN (0, 1)); ALTER TABLE t RENAME TO u;"
        "CREATE TABLE t (c integer CHECK (c IN (7, 8)))"
    )
    assert site.describe().values_of("c") == ("0", "1")

    site.dba.execute("ALTER TABLE u DROP CONSTRAINT two")
    assert site.describe().values_of("c") is None
