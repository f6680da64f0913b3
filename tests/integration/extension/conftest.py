"""Connections to a catalog: to an empty one, to one with a workspace and a model, and to one with versions too."""

from __future__ import annotations

import os
import pwd
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.integration.extension.versions_support import finish_run
from tests.support.cluster import Cluster

WORKSPACE = "CREATE FEDERATED WORKSPACE clinics WITH (privacy_budget = 0.5, min_nodes = 3)"
MODEL = (
    "CREATE FEDERATED MODEL risk IN WORKSPACE clinics WITH (algorithm = 'logistic_regression',"
    " features = ['age', 'bmi'], target = 'outcome', rounds = 5)"
)


@pytest.fixture(scope="module")
def unchanged_databases(cluster: Cluster) -> Iterator[dict[str, str]]:
    """By what is in them: the databases of a module's tests that leave theirs as it was (`changes_nothing`)."""
    made: dict[str, str] = {}
    yield made
    for name in made.values():
        cluster.drop_database(name)


@pytest.fixture
def federated_database(
    cluster: Cluster, unchanged_databases: dict[str, str], request: pytest.FixtureRequest
) -> Iterator[str]:
    """The name of a fresh database with the extension, and in it what `catalog` and `trained` say, where a test asks.

    Tests that are marked `changes_nothing` have one together.
    """
    kind = next((kind for kind in _MAKERS if f"with_{kind}" in request.fixturenames), "")
    if request.node.get_closest_marker("changes_nothing") is None:
        name = _make_database(cluster, kind)
        yield name
        cluster.drop_database(name)
        return
    if kind not in unchanged_databases:
        unchanged_databases[kind] = _make_database(cluster, kind)
    yield unchanged_databases[kind]


def _make_database(cluster: Cluster, kind: str) -> str:
    if not kind:
        return cluster.create_database("federated_template")
    return cluster.copy_database(kind, lambda made: _MAKERS[kind](cluster, made))


def _make_model(cluster: Cluster, database: str) -> None:
    with cluster.connect(database) as connection:
        for statement in (WORKSPACE, MODEL):
            connection.execute("CALL federated.execute(%s)", [statement])
        # As if they had made them: no change of owner is in the audit log.
        connection.execute("SET session_replication_role = replica")
        connection.execute("UPDATE federated.workspace SET owner = 'an_admin'")
        connection.execute("UPDATE federated.model SET owner = 'an_operator'")


def _make_versions(cluster: Cluster, database: str) -> None:
    _make_model(cluster, database)
    with cluster.connect(database) as catalog, cluster.connect(database, user="heliosdb_daemon") as daemon:
        finish_run(catalog, daemon)
        finish_run(catalog, daemon, intercept=1.25)


_MAKERS = {"versions": _make_versions, "model": _make_model}


@pytest.fixture
def with_model() -> None:
    """Asks for the database of `catalog`."""


@pytest.fixture
def with_versions() -> None:
    """Asks for the database of `trained`."""


@pytest.fixture
def session(cluster: Cluster, federated_database: str) -> Iterator[psycopg.Connection]:
    """The superuser's connection to a catalog with nothing in it."""
    with cluster.connect(federated_database) as connection:
        yield connection


@pytest.fixture
def catalog(cluster: Cluster, with_model: None, federated_database: str) -> Iterator[psycopg.Connection]:
    """The superuser's connection to a catalog with a model that was never trained; an_admin and an_operator own it."""
    with cluster.connect(federated_database) as connection:
        yield connection


@pytest.fixture
def daemon(
    cluster: Cluster, federated_database: str, catalog: psycopg.Connection
) -> Iterator[psycopg.Connection]:
    """A connection of a login role in federated_daemon, beside `catalog`."""
    with cluster.connect(federated_database, user="heliosdb_daemon") as connection:
        yield connection


@pytest.fixture
def operator(
    cluster: Cluster, federated_database: str, catalog: psycopg.Connection
) -> Iterator[psycopg.Connection]:
    """A connection of a login role in federated_operator, beside `catalog`."""
    with cluster.connect(federated_database, user="an_operator") as connection:
        yield connection


@pytest.fixture
def trained(with_versions: None, catalog: psycopg.Connection) -> psycopg.Connection:
    """The catalog with two versions: the first adds 0.25, the second, which is current, 1.25."""
    return catalog


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory of the server's own user."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        place = Path(name)
        if os.geteuid() == 0:
            account = pwd.getpwnam("postgres")
            os.chown(place, account.pw_uid, account.pw_gid)
        yield place
