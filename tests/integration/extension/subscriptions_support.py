"""A database in which models are trained, and one that subscribes to them, without daemons between them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg

from tests.integration.extension.versions_support import execute
from tests.support.cluster import Cluster
from tests.support.delivery import deliver, register

CALL = "federated_predict('risk', '{\"age\": 10, \"smoker\": true}')"


@dataclass(frozen=True)
class Sides:
    """The database in which models are trained, and one that subscribes to them as node north."""

    cluster: Cluster
    there: psycopg.Connection
    here: psycopg.Connection

    def deliver(self, **changed: Any) -> list[str | None]:
        """Bring what is due; see tests/support/delivery.py."""
        return deliver(self.cluster, self.there.info.dbname, self.here.info.dbname, **changed)

    def state(self, name: str = "s") -> tuple[Any, ...]:
        """Return how a subscription stands, what is here of it, and what is offered."""
        [found] = self.here.execute(
            "SELECT state, version, available_version FROM federated_subscriptions WHERE subscription_name = %s",
            [name],
        ).fetchall()
        return found

    def seen(self) -> list[tuple[Any, ...]]:
        """Return how the subscriptions stand as the coordinator knows it."""
        return self.there.execute(
            "SELECT node_name, subscription_name, granted, state, version, offered_version FROM federated_subscribers"
            " ORDER BY subscription_name"
        ).fetchall()


@contextmanager
def subscribed(cluster: Cluster, there: psycopg.Connection, model: str = "risk") -> Iterator[Sides]:
    """Give both sides, with node north registered, the model granted, and subscription s to it."""
    register(there, "north")
    execute(there, f"GRANT FEDERATED SUBSCRIBE ON MODEL {model} TO ALL NODES")
    with cluster.connect(cluster.create_database("federated_template")) as here:
        execute(here, f"CREATE FEDERATED SUBSCRIPTION s TO MODEL {model} IN WORKSPACE clinics")
        yield Sides(cluster, there, here)
