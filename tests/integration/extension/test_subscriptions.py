"""What is trained in one database predicts in another: two databases of one server, without daemons between them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from psycopg import errors

from tests.integration.extension.versions_support import execute, finish_run, functions, value
from tests.support.cluster import Cluster
from tests.support.delivery import deliver, register, report

CALL = "federated_predict('risk', '{\"age\": 10, \"smoker\": true}')"


@dataclass(frozen=True)
class Sides:
    """The database in which a model is trained, and one that subscribes to it as node north."""

    cluster: Cluster
    there: psycopg.Connection
    here: psycopg.Connection

    def deliver(self, **changed: Any) -> list[str | None]:
        return deliver(self.cluster, self.there.info.dbname, self.here.info.dbname, **changed)

    def state(self) -> tuple[Any, ...]:
        [found] = self.here.execute(
            "SELECT state, version, available_version FROM federated_subscriptions"
        ).fetchall()
        return found


@pytest.fixture
def sides(cluster: Cluster, trained: psycopg.Connection) -> Iterator[Sides]:
    register(trained, "north")
    trained.execute(
        "INSERT INTO federated.subscribe_grant (model_id, name) SELECT model_id, 'ALL NODES' FROM federated.model"
    )
    with cluster.connect(cluster.create_database("federated_template")) as here:
        here.execute(
            "INSERT INTO federated.subscription (name, workspace, model_name) VALUES ('s', 'clinics', 'risk')"
        )
        yield Sides(cluster, trained, here)


def test_a_version_predicts_where_it_was_delivered(sides: Sides) -> None:
    assert sides.deliver() == [None]

    assert sides.state() == ("current", 2, 2)
    assert value(sides.here, CALL) == value(sides.there, CALL)
    assert functions(sides.here) == ["risk", "risk@2"]
    assert sides.deliver() == []


def test_what_nothing_depends_on_goes_with_the_next_version(sides: Sides, daemon: psycopg.Connection) -> None:
    sides.deliver()
    finish_run(sides.there, daemon, intercept=7.25)
    sides.deliver()

    assert functions(sides.here) == ["risk", "risk@3"]
    assert value(sides.here, CALL) == value(sides.there, CALL)
