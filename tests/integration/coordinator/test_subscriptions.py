"""Versions reach the participants that subscribe to them, whoever was away, and predict the same to the bit."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest

from heliosdb.domain.prediction import Prediction
from tests.integration.coordinator.subscriptions_support import (
    FEATURES,
    add_patients,
    at,
    create_numbers,
    grant,
    number,
    predictions,
    publish,
    reached,
    states,
    subscribe,
)
from tests.integration.coordinator.support import (
    MODEL,
    WORKSPACE,
    Site,
    World,
    create_workspace,
    make_world,
)
from tests.support.cluster import Cluster
from tests.support.daemons import training_networks
from tests.support.encoded_model import ENCODING, linear, make_table, softmax
from tests.support.encoded_model import FEATURES as EVERY_COLUMN
from tests.support.programs import run_program
from tests.support.publication import publish_prediction

pytestmark = pytest.mark.xdist_group("subscriptions")

TRAINED = {
    "risk": "algorithm = 'logistic_regression', target = 'outcome'",
    "stage": "algorithm = 'logistic_regression', target = 'stage'",
    "net": "algorithm = 'neural_network', target = 'outcome', layers = [4, 1]",
    "forest": "algorithm = 'random_forest', target = 'outcome', trees = 5, max_depth = 3",
    "counts": "algorithm = 'poisson_regression', target = 'outcome'",
}


@pytest.fixture(scope="module")
def federation(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Three participants and a coordinator, which run through all tests of this module."""
    directory: Path = tmp_path_factory.mktemp("subscriptions")
    database = cluster.create_database("federated_template")
    with training_networks(), make_world(cluster, directory, database) as world:
        asyncio.run(prepare(world))
        yield world


async def prepare(world: World) -> None:
    create_workspace(world, min_nodes=2)
    for place, name in enumerate(("east", "north", "west"), 1):
        await add_patients(world, name, 0.1 * place)
    world.start_coordinator()
    await world.reached("SELECT count(*) = 3 FROM federated.node WHERE status = 'active'")


def site(world: World, name: str) -> Site:
    return next(one for one in world.sites if one.name == name)


async def test_who_subscribes_before_after_or_while_away_predicts_what_the_coordinator_does_to_the_bit(
    federation: World,
) -> None:
    world, (before, after, away) = federation, federation.sites
    listed = ", ".join(f"'{name}'" for name in FEATURES)
    for model, options in TRAINED.items():
        rounds = "" if model == "forest" else ", rounds = 2"
        world.execute(
            f"CREATE FEDERATED MODEL {model} IN WORKSPACE {WORKSPACE} WITH ({options}, features = [{listed}]{rounds})"
        )
        grant(world, model)
        subscribe(world, before, model)
    await reached(world, before, MODEL, "waiting", None)
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
        predictions(world, before.database, [MODEL])
    away.kill()
    for model in TRAINED:
        subscribe(world, away, model)
    for model in TRAINED:
        world.execute(f"START FEDERATED TRAINING {model}")
    await world.finished(count=len(TRAINED))
    assert {run["status"] for run in world.runs()} == {"completed"}, world.runs()

    for model in TRAINED:
        await reached(world, before, model, "current", 1)
        subscribe(world, after, model)
    for model in TRAINED:
        await reached(world, after, model, "current", 1)
    assert {state for state, _ in states(world, away).values()} == {"unheard"}
    await world.start_site(away)
    for model in TRAINED:
        await reached(world, away, model, "current", 1)

    expected = predictions(world, world.database, list(TRAINED))
    assert len({str(one) for one in expected}) > len(TRAINED)
    for one in (before, after, away):
        assert predictions(world, one.database, list(TRAINED)) == expected
    await predict_without_a_coordinator(world, before, expected)


async def predict_without_a_coordinator(world: World, one: Site, expected: list[object]) -> None:
    """What is there stays there, whoever else is."""
    world.coordinators[-1].kill()
    one.kill()
    try:
        assert predictions(world, one.database, list(TRAINED)) == expected
        assert {state for state, _ in states(world, one).values()} == {"current"}
    finally:
        await world.start_site(one)
        world.start_coordinator()


async def test_a_rollback_and_a_promotion_are_followed(federation: World) -> None:
    world, one = federation, site(federation, "east")
    create_numbers(world, "dose")
    grant(world, "dose", "east")
    publish(world, "dose", 1.0)
    publish(world, "dose", 2.0)
    subscribe(world, one, "dose")
    await reached(world, one, "dose", "current", 2)
    assert number(world, one, "dose") == 2.0

    world.execute("ROLLBACK FEDERATED MODEL dose TO VERSION 1")
    await reached(world, one, "dose", "current", 1)
    assert number(world, one, "dose") == 1.0

    world.execute("PROMOTE FEDERATED MODEL dose VERSION 2")
    await reached(world, one, "dose", "current", 2)
    assert number(world, one, "dose") == 2.0


async def test_without_auto_a_version_waits_for_refresh(federation: World) -> None:
    world, one = federation, site(federation, "north")
    create_numbers(world, "calm")
    grant(world, "calm")
    publish(world, "calm", 1.0)
    subscribe(world, one, "calm", "WITH (auto = false)")
    await reached(world, one, "calm", "current", 1)

    publish(world, "calm", 2.0)
    await reached(world, one, "calm", "behind", 1)
    assert number(world, one, "calm") == 1.0

    at(world, one, "ALTER FEDERATED SUBSCRIPTION calm REFRESH")
    await reached(world, one, "calm", "current", 2)
    publish(world, "calm", 3.0)
    await reached(world, one, "calm", "behind", 2)
    assert number(world, one, "calm") == 2.0


async def test_a_retired_version_is_withdrawn_until_another_one_comes(federation: World) -> None:
    world, north = federation, site(federation, "north")
    create_numbers(world, "gone")
    publish(world, "gone", 1.0)
    grant(world, "gone")
    subscribe(world, north, "gone")
    await reached(world, north, "gone", "current", 1)
    with world.cluster.connect(world.database) as connection:
        connection.execute(
            "UPDATE federated.version AS v SET is_current = false, retired_at = clock_timestamp(), prediction = NULL,"
            " prediction_arrays = NULL, sealed = '' FROM federated.model AS m WHERE m.model_id = v.model_id AND m.name = 'gone'"
        )
    await reached(world, north, "gone", "retired", None)
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="version 1 of"):
        number(world, north, "gone")
    publish(world, "gone", 2.0)
    await reached(world, north, "gone", "current", 2)
    assert number(world, north, "gone") == 2.0
    (seen,) = world.query("SELECT state, version FROM federated_subscribers WHERE model_name = 'gone'")
    assert tuple(seen.values()) == ("current", 2)


async def test_a_tag_is_followed_where_it_goes(federation: World) -> None:
    world, one = federation, site(federation, "west")
    create_numbers(world, "tagged")
    grant(world, "tagged")
    publish(world, "tagged", 1.0)
    publish(world, "tagged", 2.0)
    subscribe(world, one, "tagged", "WITH (version = 'prod')")
    await reached(world, one, "tagged", "waiting", None)

    world.execute("TAG FEDERATED MODEL tagged VERSION 1 AS 'prod'")
    await reached(world, one, "tagged", "current", 1)
    world.execute("TAG FEDERATED MODEL tagged VERSION 2 AS 'prod' REPLACE")
    await reached(world, one, "tagged", "current", 2)
    assert number(world, one, "tagged") == 2.0

    at(world, one, "ALTER FEDERATED SUBSCRIPTION tagged SET (version = 1)")
    await reached(world, one, "tagged", "current", 1)
    assert number(world, one, "tagged") == 1.0


async def test_what_is_not_granted_is_unknown_until_it_is_and_stays_when_it_no_longer_is(
    federation: World,
) -> None:
    world, one, other = federation, site(federation, "east"), site(federation, "north")
    create_numbers(world, "secret")
    publish(world, "secret", 1.0)
    grant(world, "secret", "north")
    for subscriber in (one, other):
        subscribe(world, subscriber, "secret")
    subscribe(world, one, "nowhere")
    await reached(world, other, "secret", "current", 1)
    await reached(world, one, "secret", "unknown", None)
    await reached(world, one, "nowhere", "unknown", None)

    grant(world, "secret", "east")
    await reached(world, one, "secret", "current", 1)
    world.execute("REVOKE FEDERATED SUBSCRIBE ON MODEL secret FROM NODE 'north'")
    await reached(world, other, "secret", "unknown", 1)
    publish(world, "secret", 2.0)
    await reached(world, one, "secret", "current", 2)
    assert (number(world, one, "secret"), number(world, other, "secret")) == (2.0, 1.0)


async def test_every_link_and_kind_of_column_predicts_the_same_to_the_bit(federation: World) -> None:
    world, one = federation, site(federation, "east")
    listed = ", ".join(f"'{name}'" for name in EVERY_COLUMN)
    made = {
        "length": linear("identity"), "rate": linear("exp"), "chance": linear("logistic"), "which": softmax(4),
        "several": Prediction("network", *network_numbers()),
    }  # fmt: skip
    for model, prediction in made.items():
        world.execute(
            f"CREATE FEDERATED MODEL {model} IN WORKSPACE {WORKSPACE} WITH"
            f" (algorithm = 'linear_regression', features = [{listed}], target = 'y')"
        )
        grant(world, model)
        encoding = replace(ENCODING, classes=("a", "b", "c", "d")) if model == "which" else ENCODING
        publish_prediction(world.cluster, world.database, model, prediction, encoding)
        subscribe(world, one, model)
    for model in made:
        await reached(world, one, model, "current", 1)

    for model in made:
        call = "federated_predict_proba" if model == "which" else "federated_predict"
        there, here = (
            predict_patients(world, database, call, model) for database in (world.database, one.database)
        )
        assert here == there
        assert len({str(value) for value in there}) > 5, model


def network_numbers() -> tuple[dict[str, Any], dict[str, Any]]:
    """What a network of three units predicts by."""
    drawn, inputs = np.random.default_rng(7), len(ENCODING.inputs)
    arrays = {
        "means": np.zeros(inputs), "scales": np.ones(inputs),
        "weight_0": drawn.normal(size=(3, inputs)).astype(np.float32) / 100, "bias_0": np.ones(3, np.float32),
        "weight_1": drawn.normal(size=(1, 3)).astype(np.float32), "bias_1": np.ones(1, np.float32),
    }  # fmt: skip
    content = {"activations": ["tanh", "linear"], "link": "identity", "target_mean": 1.0, "target_scale": 2.0}
    return content, arrays


def predict_patients(world: World, database: str, call: str, model: str) -> list[Any]:
    """What a database predicts of a table with a column of every kind."""
    with world.cluster.connect(database) as connection, connection.transaction(force_rollback=True):
        make_table(connection)
        given = "to_jsonb(p) - '{id,other}'::text[]"
        connection.execute('ALTER TABLE patients ALTER "Ward" TYPE varchar USING rtrim("Ward")')
        query = f"SELECT {call}('{model}', {given}) FROM patients AS p ORDER BY id"
        return [value for (value,) in connection.execute(query.encode()).fetchall()]


async def test_a_participant_that_stands_still_keeps_no_other_waiting(federation: World) -> None:
    world, still, other = federation, site(federation, "east"), site(federation, "north")
    create_numbers(world, "swift")
    grant(world, "swift")
    for one in (still, other):
        subscribe(world, one, "swift")
        await reached(world, one, "swift", "waiting", None)
    assert still.process is not None
    still.process.process.send_signal(signal.SIGSTOP)
    try:
        publish(world, "swift", 1.0)
        await reached(world, other, "swift", "current", 1)
        assert states(world, still)["swift"] == ("waiting", None)
    finally:
        still.process.process.send_signal(signal.SIGCONT)
    await reached(world, still, "swift", "current", 1)


async def test_a_participant_that_is_restored_from_a_dump_predicts_and_goes_on(federation: World) -> None:
    world, one = federation, site(federation, "west")
    create_numbers(world, "kept")
    grant(world, "kept")
    publish(world, "kept", 1.0)
    subscribe(world, one, "kept")
    await reached(world, one, "kept", "current", 1)

    one.kill()
    dump = run_program("pg_dump", "--format=custom", world.cluster.dsn(one.database))
    one.database = world.cluster.create_database("template1")
    run_program("pg_restore", "--exit-on-error", f"--dbname={world.cluster.dsn(one.database)}", text=dump)
    assert number(world, one, "kept") == 1.0
    publish(world, "kept", 2.0)
    await world.start_site(one)

    await reached(world, one, "kept", "current", 2)
    assert number(world, one, "kept") == 2.0


async def test_a_node_of_a_release_without_subscriptions_is_met_as_before(federation: World) -> None:
    world = federation
    former = await add_former(world)

    await world.reached("SELECT status = 'active' FROM federated.node WHERE name = %s", former.name)
    world.execute(f"UNREGISTER FEDERATED NODE '{former.name}' FROM WORKSPACE {WORKSPACE}")


async def add_former(world: World) -> Site:
    """A node whose database's extension knows no subscriptions."""
    former = Site("former", world.cluster.create_database("federated_template"))
    with world.cluster.connect(former.database) as connection:
        connection.execute(
            "ALTER FUNCTION federated._list_subscriptions(text) RENAME TO _former_list_subscriptions"
        )
    world.sites.append(former)
    await world.start_site(former)
    world.register(former)
    return former
