"""Convolutional networks over real nodes: images as arrays with columns beside them, predicted in the database as at
a node; images of another size are named and left out; under a privacy budget as any private run."""

from __future__ import annotations

import numpy as np
import psycopg
import pytest
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from heliosdb.domain.state import state_from_bytes
from heliosdb.scoring.kinds import find_kind
from tests.integration.coordinator.network_support import (
    Rows,
    put_table,
    shared_columns,
    spread,
    started,
    trained,
)
from tests.integration.coordinator.support import MODEL, World, create_model, create_workspace
from tests.integration.coordinator.test_private_networks import check_ledgers

pytestmark = [
    pytest.mark.usefixtures("forked_with_torch"),
    pytest.mark.xdist_group("image_models"),
]

OPTIONS = "max_parameter_share = 100, min_cell = 1, min_rows = 20, max_dominance = 1.0"
COLUMNS = ("pixels real[]", "age double precision", "digit text")


async def split_up(
    world: World, images: Rows, side: Rows, target: list[str], *, shared: str = OPTIONS
) -> None:
    """Share out rows of pixels, age and digit; shared: the dataset's options."""

    def put(database: str, chosen: NDArray[np.int64], shares: bool) -> None:
        rows = [(images[place].tolist(), float(side[place]), target[place]) for place in chosen]
        dataset = shared_columns(("pixels", "age", "digit"), shared) if shares else None
        put_table(world, database, "scan", COLUMNS, rows, dataset=dataset)

    await spread(world, len(target), put)


def digits(*wanted: int) -> tuple[Rows, Rows, list[str]]:
    """Images of 8 x 8, an age that says nothing, and what they show."""
    images, shown = load_digits(return_X_y=True)
    chosen = np.isin(shown, wanted)
    rng = np.random.default_rng(1)
    return (
        images[chosen],
        rng.normal(50.0, 9.0, int(chosen.sum())).round(1),
        [f"d{one}" for one in shown[chosen]],
    )


async def test_images_as_arrays_are_told_apart_and_predicted_in_the_database(world: World) -> None:
    images, ages, shown = digits(0, 1, 2)
    create_workspace(world, min_nodes=3)
    await split_up(world, images, ages, shown)
    create_model(
        world, features=["pixels", "age"], target="digit", algorithm="cnn", input_shape="[1, 8, 8]", channels="[4, 8]",
        groups=2, layers="[3]", output_activation="softmax", rounds=4, local_epochs=3, batch_size=25, optimizer="adam",
        learning_rate=0.01, early_stopping_rounds=20,
    )  # fmt: skip
    world.start_coordinator()

    run = await trained(world)

    assert run["status"] == "completed", run
    told = world.query(
        "SELECT digit, federated_predict_class('risk', jsonb_build_object('pixels', pixels, 'age', age)) AS named,"
        " federated_predict_class('risk', to_jsonb(scan) - 'id' - 'digit') AS by_row FROM scan ORDER BY id"
    )
    assert np.mean([one["digit"] == one["named"] for one in told]) > 0.95
    assert [one["named"] for one in told] == [one["by_row"] for one in told]

    batch = world.query(
        "SELECT prediction FROM federated_predict_batch('risk', 'SELECT pixels, age FROM scan ORDER BY id')"
        " AS (pixels real[], age float8, prediction text)"
    )
    assert len(batch) == len(shown)
    world.query("SELECT federated_import_model(federated_export_model('risk'), 'copy')")
    copied = world.query(
        "SELECT federated_predict_class('copy', jsonb_build_object('pixels', pixels, 'age', age)) AS named FROM scan ORDER BY id"
    )
    assert [one["named"] for one in copied] == [one["named"] for one in told]

    (version,) = world.query(
        "SELECT prediction, prediction_arrays FROM federated.version ORDER BY version DESC LIMIT 1"
    )
    assert version["prediction"]["kind"] == "convolution"
    arrays = state_from_bytes(version["prediction_arrays"])
    inputs = np.column_stack([images, ages])
    ours = find_kind("convolution")(version["prediction"], arrays, inputs)
    shares = world.query(
        "SELECT federated_predict_proba('risk', to_jsonb(scan) - 'id' - 'digit') AS p FROM scan ORDER BY id"
    )
    told_shares = np.array([[one["p"][f"d{place}"] for place in range(3)] for one in shares])
    assert told_shares == pytest.approx(ours, abs=1e-9)


async def test_images_of_another_size_are_named_and_their_node_left_out(world: World) -> None:
    images, ages, shown = digits(0, 1)
    create_workspace(world, min_nodes=2)
    await split_up(world, images, ages, shown)
    with world.cluster.connect(world.sites[0].database) as connection:
        connection.execute("UPDATE scan SET pixels = pixels[1:49] WHERE id < 12")
    create_model(
        world, features=["pixels", "age"], target="digit", algorithm="cnn", input_shape="[1, 8, 8]", channels="[2]",
        groups=1, rounds=1,
    )  # fmt: skip
    world.start_coordinator()

    run = await trained(world)

    assert run["status"] == "completed", run
    refusals = world.query(
        "SELECT n.name, p.reason FROM federated.participation AS p JOIN federated.node AS n USING (node_id)"
        " WHERE p.reason IS NOT NULL"
    )
    assert [one["name"] for one in refusals][:1] == ["east"]
    assert 'column "pixels" holds arrays of another length than 64 in 12 rows' in refusals[0]["reason"]


def refused(world: World) -> psycopg.Error:
    error, _ = started(world)
    assert error is not None
    return error


def test_start_refuses_a_network_that_is_none(world: World) -> None:
    create_workspace(world)
    create_model(world, algorithm="cnn")
    error = refused(world)
    assert error.sqlstate == "22023"
    assert "input_shape is missing" in str(error.diag.message_primary)
    world.execute(f"ALTER FEDERATED MODEL {MODEL} SET (input_shape = '[1, 8, 8]', groups = 3)")
    assert "groups is 3, and a block has 8 channels" in str(refused(world).diag.message_primary)


async def test_a_private_network_learns_from_arrays_and_is_charged_what_it_releases(world: World) -> None:
    images, ages, shown = digits(0, 1)
    several = np.random.default_rng(5).integers(0, len(shown), size=1500)
    create_workspace(world, min_nodes=3, privacy_budget=16.0)
    await split_up(
        world, images[several], ages[several], [shown[place] for place in several], shared="min_rows = 20"
    )
    # One whose image has another size counts as one without, and nothing fails.
    with world.cluster.connect(world.sites[0].database) as connection:
        connection.execute("UPDATE scan SET pixels = pixels[1:49] WHERE id = 1")
    create_model(
        world, features=["pixels"], target="digit", target_classes=["d0", "d1"], algorithm="cnn", input_shape="[1, 8, 8]",
        channels="[4]", groups=2, rounds=3, local_epochs=3, batch_size=100, learning_rate=0.5, early_stopping_rounds=20,
        activation="tanh",
    )  # fmt: skip
    world.start_coordinator()

    run = await trained(world)

    assert run["status"] == "completed", run
    check_ledgers(world, 16.0, rounds=3)
    told = world.query(
        "SELECT digit, federated_predict_class('risk', jsonb_build_object('pixels', pixels)) AS named FROM scan ORDER BY id"
    )
    assert np.mean([one["digit"] == one["named"] for one in told]) > 0.9
