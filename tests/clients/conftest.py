"""A database with a trained model, and a proxy before it, for the drivers to connect to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.support.cluster import PASSWORD, SUPERUSER, Cluster
from tests.support.proxy import running_proxy
from tests.support.publication import publish_version


@dataclass(frozen=True, slots=True)
class Site:
    """Where drivers connect."""

    port: int
    database: str
    host: str = "127.0.0.1"
    user: str = SUPERUSER
    password: str = PASSWORD

    @property
    def url(self) -> str:
        """What follows the scheme in a connection URL."""
        return f"//{self.user}:{self.password}@{self.host}:{self.port}/{self.database}"


@pytest.fixture(scope="session")
def site(cluster: Cluster) -> Iterator[Site]:
    """A workspace, the model `risk` with one version, and a table of patients."""
    database = cluster.create_database("federated_template")
    with cluster.connect(database) as connection:
        connection.execute("CALL federated.execute('CREATE FEDERATED WORKSPACE clinics')")
        connection.execute(
            "CALL federated.execute($$CREATE FEDERATED MODEL risk IN WORKSPACE clinics WITH ("
            "algorithm = 'linear_regression', features = ['age', 'bmi'], target = 'outcome')$$)"
        )
        connection.execute("CREATE TABLE patient (id integer, age float8, bmi float8)")
        connection.execute("INSERT INTO patient VALUES (1, 1, 1), (2, 40, 0), (3, 80, 2)")
    publish_version(cluster, database, "risk", intercept=0.25, slopes=(0.5, 2.0))
    with running_proxy(cluster) as proxy:
        yield Site(proxy.port, database)
