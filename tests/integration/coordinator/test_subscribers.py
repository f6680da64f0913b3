"""What the coordinator writes and reads of subscriptions, against the real catalog."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from uuid import UUID

import numpy as np
import pytest

from heliosdb.catalog import deliveries
from heliosdb.catalog import nodes as node_rows
from heliosdb.catalog.lease import become_daemon
from heliosdb.catalog.psycopg_connection import PsycopgConnection, connected
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.ids import ModelName, SubscriptionName, VersionKey, WorkspaceName
from heliosdb.domain.prediction import Prediction
from heliosdb.domain.state import state_to_bytes
from heliosdb.domain.subscription import Outcome, Subscription
from tests.integration.coordinator.subscriptions_support import create_numbers, grant, publish
from tests.integration.coordinator.support import World, create_workspace
from tests.support.publication import publish_prediction

KEY = VersionKey(UUID(int=1))
ONE = Subscription(SubscriptionName("one"), ModelName("dose"))
TWO = Subscription(
    SubscriptionName("two"),
    ModelName("x"),
    "prod",
    False,
    3,
    KEY,
    Outcome.OFFERED,
    KEY,
    VersionKey(UUID(int=2)),
    (VersionKey(UUID(int=3)), KEY),
)


@pytest.fixture
def daemon(world: World) -> Iterator[PsycopgConnection]:
    """A coordinator's connection, in a catalog with a node and a model that is granted to all."""
    create_workspace(world)
    world.execute("REGISTER FEDERATED NODE 'a' IN WORKSPACE consortium WITH (endpoint = 'https://a:1')")
    create_numbers(world, "dose")
    grant(world, "dose")
    with connected(
        world.cluster.dsn(world.database, user="heliosdb_daemon"), application_name="test"
    ) as made:
        become_daemon(made)
        yield made


def node(daemon: PsycopgConnection) -> node_rows.NodeRecord:
    (record,) = node_rows.list_nodes(daemon)
    return record


def subscribers(world: World) -> list[tuple[object, ...]]:
    found = world.query(
        "SELECT name, model_name, wanted, takes, held_version, held_key, heard_outcome, heard_key, refused_key, kept_keys, failure"
        " FROM federated.subscriber ORDER BY name"
    )
    return [tuple(row.values()) for row in found]


def as_row(said: Subscription, failure: str | None = None) -> tuple[object, ...]:
    heard = (said.heard_outcome, said.heard_key, said.refused_key, list(said.kept_keys))
    return said.name, said.model, said.wanted, said.takes, said.held_version, said.held_key, *heard, failure


@pytest.mark.parametrize("table", ["subscription", "subscriber"])
def test_outcomes_are_those_of_the_catalog(world: World, table: str) -> None:
    (row,) = world.query(
        "SELECT pg_get_constraintdef(oid) AS definition FROM pg_constraint WHERE conrelid = %s::regclass"
        " AND conname LIKE '%%heard_outcome%%' AND contype = 'c'",
        f"federated.{table}",
    )
    # One is about what a node has, and no answer to what it wants.
    heard = {one.value for one in Outcome if one is not Outcome.RETIRED}
    assert set(re.findall(r"'(\w+)'", row["definition"])) == heard


def test_a_nodes_word_replaces_its_former_one(world: World, daemon: PsycopgConnection) -> None:
    one = node(daemon)
    deliveries.record_subscriptions(daemon, one, [ONE, TWO])
    assert subscribers(world) == [as_row(ONE), as_row(TWO)]

    deliveries.record_delivery_failure(daemon, one, ONE.name, "x" * 1000)
    deliveries.record_subscriptions(daemon, one, [ONE])
    assert subscribers(world) == [as_row(ONE, "x" * deliveries.MOST_REASON_CHARACTERS)]

    taken = replace(ONE, held_key=KEY, held_version=1, heard_outcome=Outcome.OFFERED, heard_key=KEY)
    deliveries.record_subscription(daemon, one, taken)
    assert subscribers(world) == [as_row(taken)]
    # It is about a subscription as it was said, of a node as it was met.
    deliveries.record_subscription(daemon, one, replace(ONE, wanted="prod"))
    deliveries.record_subscriptions(daemon, replace(one, options='{"endpoint": "https://b:1"}'), [])
    assert subscribers(world) == [as_row(taken)]

    deliveries.record_subscriptions(daemon, one, [])
    assert subscribers(world) == []


def test_a_word_that_the_catalog_cannot_hold_is_the_nodes_mistake(daemon: PsycopgConnection) -> None:
    with pytest.raises(FederatedError) as caught, daemon.transaction():
        deliveries.record_subscriptions(daemon, node(daemon), [replace(ONE, model=ModelName("m" * 64))])
    assert caught.value.code is ErrorCode.INVALID_VALUE


def test_what_is_pending_is_what_a_node_has_not_heard_or_would_take(
    world: World, daemon: PsycopgConnection
) -> None:
    one = node(daemon)
    deliveries.record_subscriptions(daemon, one, [ONE])
    (waiting,) = deliveries.list_pending_deliveries(daemon)
    assert (waiting.node_id, waiting.offer.outcome, waiting.offer.key) == (one.id, Outcome.WAITING, None)
    assert (waiting.carries, waiting.offer.reason) == (False, "the model has no current version yet")
    deliveries.record_subscription(daemon, one, replace(ONE, heard_outcome=Outcome.WAITING))
    assert deliveries.list_pending_deliveries(daemon) == []

    publish(world, "dose", 1.0)
    (offered,) = deliveries.list_pending_deliveries(daemon)
    assert (offered.carries, offered.offer.outcome, offered.offer.version) == (True, Outcome.OFFERED, 1)
    heard = replace(ONE, heard_outcome=Outcome.OFFERED, heard_key=offered.offer.key)
    deliveries.record_subscription(daemon, one, replace(heard, takes=False))
    assert deliveries.list_pending_deliveries(daemon) == []
    for settled in ({"held_key": offered.offer.key}, {"refused_key": offered.offer.key}):
        deliveries.record_subscription(daemon, one, heard)
        assert len(deliveries.list_pending_deliveries(daemon)) == 1
        deliveries.record_subscription(daemon, one, replace(heard, **settled))
        assert deliveries.list_pending_deliveries(daemon) == []


@pytest.mark.parametrize("piece", [1, 64, 10_000])
def test_a_version_is_read_whole_in_pieces_of_any_size(
    world: World, daemon: PsycopgConnection, piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliveries, "PIECE_BYTES", piece)
    arrays = {
        "means": np.zeros(1), "scales": np.ones(1), "weight_0": np.ones((1, 1), np.float32),
        "bias_0": np.ones(1, np.float32),
    }  # fmt: skip
    content = {"activations": ["linear"], "link": "identity", "target_mean": 0.0, "target_scale": 1.0}
    publish_prediction(world.cluster, world.database, "dose", Prediction("network", content, arrays))
    (row,) = world.query("SELECT federated._version_key(run_id, version) AS key FROM federated.version")

    found = deliveries.read_offered_version(daemon, row["key"])

    assert found is not None
    assert found.arrays == state_to_bytes(arrays)
    assert (found.features, found.contract.algorithm, found.contract.target) == (
        ("age",),
        "linear_regression",
        "y",
    )
    assert deliveries.measure_offered_version(daemon, row["key"]) >= found.size
    assert deliveries.read_offered_version(daemon, KEY) is None
    assert deliveries.measure_offered_version(daemon, KEY) == 0


def test_a_run_that_left_several_versions_has_each_of_them_delivered(
    world: World, daemon: PsycopgConnection
) -> None:
    one = node(daemon)
    publish(world, "dose", 1.0)
    deliveries.record_subscriptions(daemon, one, [ONE])
    (first,) = deliveries.list_pending_deliveries(daemon)
    assert first.offer.key is not None
    held = replace(
        ONE,
        heard_outcome=Outcome.OFFERED,
        heard_key=first.offer.key,
        held_key=first.offer.key,
        held_version=1,
    )
    deliveries.record_subscription(daemon, one, held)
    publish(world, "dose", 2.0)
    # As after RESUME of a run that was stopped.
    world.query(
        "UPDATE federated.version SET run_id = (SELECT o.run_id FROM federated.version AS o WHERE o.version = 1)"
        " WHERE version = 2 RETURNING version"
    )
    (second,) = deliveries.list_pending_deliveries(daemon)
    assert (second.carries, second.offer.version) == (True, 2)
    assert second.offer.key not in {None, first.offer.key}
    found = [
        deliveries.read_offered_version(daemon, key) for key in (first.offer.key, second.offer.key) if key
    ]
    assert len({one.prediction for one in found if one is not None}) == 2


def test_a_participant_sees_when_the_coordinator_last_called(world: World, daemon: PsycopgConnection) -> None:
    world.execute("CREATE FEDERATED SUBSCRIPTION s TO MODEL other IN WORKSPACE elsewhere")
    world.execute("CREATE FEDERATED SUBSCRIPTION t TO MODEL another IN WORKSPACE elsewhere")
    heard = "SELECT heard_at, heard_at > clock_timestamp() - interval '1 minute' AS is_fresh FROM federated.subscription ORDER BY name"
    elsewhere = WorkspaceName("elsewhere")
    deliveries.list_subscriptions(daemon, elsewhere)
    assert [row["heard_at"] for row in world.query(heard)] == [None, None], "nothing was said of it yet"
    world.query("UPDATE federated.subscription SET heard_at = now() - interval '1 hour' RETURNING 1")
    with world.catalog() as dba, dba.transaction():
        dba.execute("SELECT FROM federated.subscription WHERE name = 's' FOR UPDATE")
        deliveries.list_subscriptions(daemon, elsewhere)
    assert [row["is_fresh"] for row in world.query(heard)] == [False, True], (
        "a DBA at work keeps nobody waiting"
    )
    deliveries.list_subscriptions(daemon, WorkspaceName("clinics"))
    assert [row["is_fresh"] for row in world.query(heard)] == [False, True]
    deliveries.list_subscriptions(daemon, elsewhere)
    assert [row["is_fresh"] for row in world.query(heard)] == [True, True]
