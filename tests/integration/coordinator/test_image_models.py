"""Convolutional networks over real nodes: images as arrays and as files, with columns beside them, predicted in the database as at
a node; images of another size are named and left out; under a privacy budget as any private run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import PIL
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
from tests.support.images import as_dicom, as_file, grey

pytestmark = [
    pytest.mark.usefixtures("forked_with_torch"),
    pytest.mark.xdist_group("image_models"),
]

PACKAGES = Path(PIL.__file__).parent.parent
"""Where a server's Python finds what decodes images, which it does not bring itself."""

OPTIONS = "max_parameter_share = 100, min_cell = 1, min_rows = 20, max_dominance = 1.0"
COLUMNS = ("age double precision", "digit text")

File = Callable[[NDArray[np.uint8]], bytes]
"""Makes a file of an image."""


async def split_up(
    world: World,
    images: Rows,
    side: Rows,
    target: list[str],
    *,
    shared: str = OPTIONS,
    files: Sequence[File] = (),
) -> None:
    """Share out rows of pixels, age and digit; shared: the dataset's options. files: what makes each node's images
    bytes, and the first of them those beside the catalog."""
    makers = iter([*files, *files[:1]] or [None] * 4)

    def put(database: str, chosen: NDArray[np.int64], shares: bool) -> None:
        file = next(makers)
        pixels = "pixels real[]" if file is None else "pixels bytea"
        rows = [(_pixels(images[place], file), float(side[place]), target[place]) for place in chosen]
        dataset = shared_columns(("pixels", "age", "digit"), shared) if shares else None
        put_table(world, database, "scan", (pixels, *COLUMNS), rows, dataset=dataset)

    await spread(world, len(target), put)


def _pixels(image: Rows, file: File | None) -> list[float] | bytes:
    return image.tolist() if file is None else file(image.astype(np.uint8).reshape(8, 8) * 15)


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

    with (
        world.catalog() as connection,
        pytest.raises(
            psycopg.errors.InvalidParameterValue, match='"pixels" is an image of 64 numbers, not 49'
        ),
    ):
        connection.execute(
            "SELECT federated_predict_class('risk', jsonb_build_object('pixels', pixels[:49])) FROM scan"
        )
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


PREDICT = (
    "SELECT federated_predict_class('risk', jsonb_build_object('pixels', pixels)) AS named, digit FROM scan"
)


async def test_images_as_files_are_decoded_at_nodes_and_where_the_model_predicts(world: World) -> None:
    """PNG, TIFF and DICOM, one at each node; a node of which some are none is named and left out; the database
    server predicts once it has what decodes them."""
    images, _, shown = digits(0, 1, 2)
    create_workspace(world, min_nodes=2)
    await split_up(
        world,
        images,
        np.zeros(len(shown)),
        shown,
        files=(as_file, partial(as_file, format_="TIFF"), as_dicom),
    )
    with world.cluster.connect(world.sites[0].database) as connection:
        connection.execute("UPDATE scan SET pixels = substr(pixels, 1, 60) WHERE id < 12")
    create_model(
        world, features=["pixels"], target="digit", algorithm="cnn", input_shape="[1, 8, 8]", channels="[4, 8]",
        groups=2, layers="[3]", output_activation="softmax", rounds=4, local_epochs=3, batch_size=25, optimizer="adam",
        learning_rate=0.01, early_stopping_rounds=20,
    )  # fmt: skip
    world.start_coordinator()

    run = await trained(world)

    assert run["status"] == "completed", run
    (refusal,) = world.query("SELECT DISTINCT reason FROM federated.participation WHERE reason IS NOT NULL")
    assert (
        'column "pixels" holds what is no image of 1 channel, 8 high and 8 wide, in 12 rows'
        in refusal["reason"]
    )

    with world.catalog() as connection:
        connection.execute("DO LANGUAGE plpython3u $$ import sys; sys.modules['PIL'] = None $$")
        with pytest.raises(psycopg.errors.FeatureNotSupported, match="Pillow is not installed"):
            connection.execute(PREDICT)
        connection.execute(
            f"DO LANGUAGE plpython3u $$ import sys; del sys.modules['PIL']; sys.path.append('{PACKAGES}') $$"
        )
        told = connection.execute(PREDICT).fetchall()
        assert np.mean([one["digit"] == one["named"] for one in told]) > 0.95
        by_row = "SELECT federated_predict_class('risk', to_jsonb(scan) - '{id,age,digit}'::text[]) AS named FROM scan"
        assert [one["named"] for one in connection.execute(by_row)] == [one["named"] for one in told]
        batch = (
            "SELECT prediction FROM federated_predict_batch('risk', 'SELECT pixels FROM scan')"
            " AS (pixels bytea, prediction text)"
        )
        assert [one["prediction"] for one in connection.execute(batch)] == [one["named"] for one in told]
        small = as_file(grey(8, 7))
        with pytest.raises(psycopg.errors.InvalidParameterValue, match="8 high and 7 wide") as caught:
            connection.execute(
                "SELECT federated_predict_proba('risk', jsonb_build_object('pixels', %s::bytea))", [small]
            )
        assert 'feature "pixels"' in str(caught.value.diag.message_primary)


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


async def test_a_private_network_learns_from_files_and_is_charged_what_it_releases(world: World) -> None:
    images, ages, shown = digits(0, 1)
    several = np.random.default_rng(5).integers(0, len(shown), size=1500)
    create_workspace(world, min_nodes=3, privacy_budget=16.0)
    await split_up(
        world, images[several], ages[several], [shown[place] for place in several], shared="min_rows = 20",
        files=(as_file, as_file, as_dicom),
    )  # fmt: skip
    # One whose image is none counts as one without, and nothing fails.
    with world.cluster.connect(world.sites[0].database) as connection:
        connection.execute("UPDATE scan SET pixels = substr(pixels, 1, 60) WHERE id = 1")
    create_model(
        world, features=["pixels"], target="digit", target_classes=["d0", "d1"], algorithm="cnn", input_shape="[1, 8, 8]",
        channels="[4]", groups=2, rounds=3, local_epochs=3, batch_size=100, learning_rate=0.5, early_stopping_rounds=20,
        activation="tanh",
    )  # fmt: skip
    world.start_coordinator()

    run = await trained(world)

    assert run["status"] == "completed", run
    check_ledgers(world, 16.0, rounds=3)
    with world.catalog() as connection:
        connection.execute(f"DO LANGUAGE plpython3u $$ import sys; sys.path.append('{PACKAGES}') $$")
        told = connection.execute(PREDICT).fetchall()
    assert np.mean([one["digit"] == one["named"] for one in told]) > 0.9
