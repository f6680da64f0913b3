"""Neural networks over real nodes: as good as one trained on all rows, the same again by the same seed, of several
classes; a node that cannot train them is named, and so are layers that do not fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer, load_wine
from sklearn.metrics import roc_auc_score
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler

from tests.integration.coordinator.network_support import (
    Rows,
    put_table,
    shared_columns,
    spread,
    started,
    trained,
)
from tests.integration.coordinator.support import (
    MODEL,
    WORKSPACE,
    Site,
    World,
    create_model,
    create_workspace,
)

pytestmark = [
    pytest.mark.usefixtures("forked_with_torch"),
    pytest.mark.xdist_group("neural_networks"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]


async def split_up(world: World, features: Rows, target: list[Any], kind: str, *, shared: str) -> None:
    """Share out rows of f1, f2, … and outcome; shared: the dataset's options."""
    names = [f"f{place}" for place in range(1, features.shape[1] + 1)]
    columns = [*(f"{name} double precision" for name in names), f"outcome {kind}"]

    def put(database: str, chosen: NDArray[np.int64], shares: bool) -> None:
        rows = [(*features[place].tolist(), target[place]) for place in chosen]
        dataset = shared_columns((*names, "outcome"), shared) if shares else None
        put_table(world, database, "patient", columns, rows, dataset=dataset)

    await spread(world, len(target), put)


async def test_a_network_is_as_good_as_one_of_all_rows_and_the_same_again(world: World) -> None:
    features, classes = load_breast_cancer(return_X_y=True)
    features = features[:, :10]
    create_workspace(world, min_nodes=3)
    await split_up(
        world,
        features,
        [bool(one) for one in classes],
        "boolean",
        shared="max_parameter_share = 10, min_cell = 1",
    )
    create_model(
        world, features=[f"f{place}" for place in range(1, 11)], algorithm="neural_network", layers="[16, 8, 1]",
        rounds=8, local_epochs=3, optimizer="adam", learning_rate=0.01, early_stopping_rounds=20,
    )  # fmt: skip
    world.start_coordinator()

    run = await trained(world)

    assert run["status"] == "completed", run
    rounds = world.query(
        "SELECT global_loss, global_accuracy FROM federated.round WHERE round_number > 0 ORDER BY round_number"
    )
    # Who is held out, and so what is learned from, is the nodes' secrets' choice, other in each test.
    assert rounds[-1]["global_loss"] < 0.75 * rounds[0]["global_loss"] or rounds[-1]["global_loss"] < 0.3
    assert max(one["global_accuracy"] for one in rounds) > 0.9
    predicted = world.query(
        "SELECT id, federated_predict('risk', to_jsonb(patient) - 'id' - 'outcome') AS p FROM patient ORDER BY id"
    )
    scaled = StandardScaler().fit_transform(features)
    pooled = MLPClassifier((16, 8), max_iter=60, random_state=0, learning_rate_init=0.01).fit(scaled, classes)
    ours = roc_auc_score(classes, [one["p"] for one in predicted])
    assert ours > roc_auc_score(classes, pooled.predict_proba(scaled)[:, 1]) - 0.02
    assert ours > 0.97

    matrix = world.query("SELECT predicted, actual, count FROM federated_confusion_matrix('risk')")
    assert sum(one["count"] for one in matrix if one["predicted"] == one["actual"]) > 0.8 * sum(
        one["count"] for one in matrix
    )

    assert (await trained(world, count=2))["status"] == "completed"
    hashes = world.query("SELECT DISTINCT sha256 FROM federated.version")
    assert len(hashes) == 1


async def test_a_network_tells_several_classes_apart_and_layers_that_do_not_fit_them_are_named(
    world: World,
) -> None:
    wine = load_wine()
    labels = [f"cultivar {'abc'[one]}" for one in wine.target]
    create_workspace(world, min_nodes=3)
    await split_up(
        world, wine.data, labels, "text", shared="max_parameter_share = 100, min_rows = 8, min_cell = 1"
    )
    create_model(
        world, features=[f"f{place}" for place in range(1, 14)], algorithm="neural_network", layers="[8, 2]",
        output_activation="softmax", rounds=10, local_epochs=5, batch_size=8, optimizer="momentum", learning_rate=0.02,
        activation="tanh", aggregation="fedprox", proximal_term=0.01, early_stopping_rounds=20,
    )  # fmt: skip
    world.start_coordinator()

    failed = await trained(world)
    assert failed["status"] == "failed"
    assert 'layers ends with 2 units, and the target "outcome" has 3 classes' in failed["message"]

    world.execute(f"ALTER FEDERATED MODEL {MODEL} SET (layers = '[8, 3]')")
    run = await trained(world, count=2)
    assert run["status"] == "completed", run
    predicted = world.query(
        "SELECT outcome, federated_predict_class('risk', to_jsonb(patient) - 'id' - 'outcome') AS told FROM patient"
    )
    assert np.mean([one["outcome"] == one["told"] for one in predicted]) > 0.95


async def without_neural(world: World, name: str) -> Site:
    world.parts = ("tests.integration.coordinator.no_neural",)
    try:
        return await world.add_site(name, seed=0.7)
    finally:
        world.parts = ()


async def test_a_node_that_lacks_the_extra_is_named_at_start_and_left_out(world: World) -> None:
    create_workspace(world, min_nodes=3)
    for number, name in enumerate(("north", "south")):
        world.register(await world.add_site(name, seed=0.1 * (number + 1)))
    world.register(await without_neural(world, "west"))
    create_model(world, algorithm="neural_network", layers="[4, 1]", rounds=1, batch_size=50)
    world.start_coordinator()
    await world.reached("(SELECT count(extras) = 3 FROM federated.node)")

    error, _ = started(world)
    assert error is not None
    assert error.sqlstate == "55000"
    assert 'too few nodes have the extra "neural"' in str(error.diag.message_primary)
    assert '"west"' in str(error.diag.message_detail)
    assert "pip install 'heliosdb-federated-learning[neural]'" in str(error.diag.message_hint)

    world.execute(f"ALTER FEDERATED WORKSPACE {WORKSPACE} SET (min_nodes = 2)")
    error, said = started(world)
    assert error is None
    assert any('node "west" would be left out of the run: lacks the extra "neural"' in one for one in said)
    run = await world.finished()
    assert run["status"] == "completed", run
    taking_part = world.query(
        "SELECT DISTINCT n.name FROM federated.participation JOIN federated.node AS n USING (node_id) ORDER BY 1"
    )
    assert [one["name"] for one in taking_part] == ["north", "south"]


def test_start_refuses_layers_that_cannot_fit(world: World) -> None:
    create_workspace(world)
    create_model(world, algorithm="neural_network", layers="[4, 3]")
    error, _ = started(world)
    assert error is not None
    assert error.sqlstate == "22023"
    assert "layers ends with 3 units, and output_activation sigmoid needs 1" in str(
        error.diag.message_primary
    )
