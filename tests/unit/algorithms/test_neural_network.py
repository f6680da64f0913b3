"""Neural networks in a run: how they begin, which targets they take, and what they predict."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, log_loss, mean_squared_error

from heliosdb.algorithms import Table, algorithm
from heliosdb.algorithms.neural import NEURAL_NETWORK, check_network
from heliosdb.algorithms.perceptron import ACTIVATIONS, LAYERS, Perceptron, read_perceptron
from heliosdb.algorithms.private_measuring import read_evaluation
from heliosdb.algorithms.works import PARAMETERS, EvaluateWork
from heliosdb.domain.encoding import ColumnEncoding, Encoding
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.findings import Findings, RunPlan
from heliosdb.domain.ids import RoundNumber
from heliosdb.domain.run import Run
from heliosdb.domain.state import State, freeze
from heliosdb.domain.task import Scaling
from heliosdb.parts.algorithms import has_classes
from heliosdb.parts.checks import check_parts
from heliosdb.parts.networks import count_parameters
from heliosdb.scoring.kinds import find_kind
from heliosdb.scoring.network import HIDDEN
from tests.support.runs import RUN, with_options, with_policy

SCALING = Scaling((50.0, 120.0), (10.0, 15.0), 3.0, 2.0)


def plan(classes: tuple[str, ...] = (), number: int = 0, **options: Any) -> RunPlan:
    run = with_options(RUN, algorithm="neural_network", **options)
    encoding = Encoding(tuple(ColumnEncoding(name) for name in run.options.features), classes)
    return RunPlan(run, Findings(SCALING, encoding=encoding), RoundNumber(number))


def begun(output: str, units: int, seed: int = 3, activation: str = "relu") -> tuple[Perceptron, State]:
    """A network with weights everywhere, unlike one that only begins."""
    architecture = Perceptron(2, (8, 5, units), activation, output)
    rng = np.random.default_rng(seed)
    return architecture, architecture.to_state(rng.normal(0.0, 0.6, architecture.size))


def test_a_network_begins_by_its_seed_alone_and_tells_every_row_the_same() -> None:
    one, same, other = (
        NEURAL_NETWORK.begin(plan(("0", "1"), seed=seed, layers=[16, 8, 1])) for seed in (7, 7, 8)
    )
    assert one[PARAMETERS].tobytes() == same[PARAMETERS].tobytes() != other[PARAMETERS].tobytes()
    assert one[PARAMETERS].dtype == np.float32
    found = read_perceptron(one, 2)
    assert found == Perceptron(2, (16, 8, 1), "relu", "sigmoid")
    (first, biases), (second, _), (last, _) = found.split(one[PARAMETERS])
    assert not last.any()
    assert not biases.any()
    assert 0.8 * (6 / 2) ** 0.5 < np.abs(first).max() <= (6 / 2) ** 0.5
    assert 0.8 * (6 / 16) ** 0.5 < np.abs(second).max() <= (6 / 16) ** 0.5
    prediction = NEURAL_NETWORK.predict(one, Findings(SCALING))
    rows = np.array([[50.0, 120.0], [90.0, np.nan]])
    assert find_kind("network")(prediction.content, prediction.arrays, rows) == pytest.approx([0.5, 0.5])


def test_weights_before_a_bounded_activation_are_those_of_glorot() -> None:
    state = Perceptron(10, (30, 1), "tanh", "linear").begin(1)
    (weights, _), _ = read_perceptron(state, 10).split(state[PARAMETERS])
    assert 0.9 * (6 / 40) ** 0.5 < np.abs(weights).max() <= (6 / 40) ** 0.5


@pytest.mark.parametrize(
    ("classes", "options", "told"),
    [
        (("0", "1"), {"layers": [8, 3]}, "layers ends with 3 units, and output_activation sigmoid needs 1"),
        ((), {"layers": [8, 2], "output_activation": "linear"}, "layers ends with 2 units, and output_activation linear"),
        (("a", "b", "c"), {"layers": [8, 1]}, 'sigmoid tells two classes apart, and the target "outcome" has 3 classes'),
        (("a", "b", "c"), {"layers": [8, 2], "output_activation": "softmax"},
         'layers ends with 2 units, and the target "outcome" has 3 classes'),
        ((), {"layers": [8, 2], "output_activation": "softmax"}, 'and the target "outcome" is a number'),
        (("0", "1"), {"layers": [8, 1], "output_activation": "linear"},
         'output_activation linear predicts a number, and the target "outcome" has 2 classes'),
        (("0", "1"), {"layers": [8] * 70 + [1]}, "layers has 71 entries"),
        (("0", "1"), {"layers": [65536, 65536, 1]}, "parameters, more than 50000000"),
    ],
)  # fmt: skip
def test_layers_that_do_not_fit_the_target_are_refused_with_both_named(
    classes: tuple[str, ...], options: dict[str, Any], told: str
) -> None:
    with pytest.raises(FederatedError) as caught:
        check_network(plan(classes, **options))
    assert caught.value.code is ErrorCode.INVALID_VALUE
    assert told in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    ("classes", "options"),
    [
        (("no", "yes"), {}),
        (("no", "yes"), {"layers": [2], "output_activation": "softmax"}),
        (("a", "b", "c"), {"layers": [4, 3], "output_activation": "softmax"}),
        ((), {"layers": [1], "output_activation": "linear"}),
    ],
)
def test_layers_that_fit_are_taken(classes: tuple[str, ...], options: dict[str, Any]) -> None:
    state = NEURAL_NETWORK.begin(plan(classes, **options))
    NEURAL_NETWORK.check_state(state, 2, len(classes))


def test_what_fits_no_target_is_known_before_round_0_where_the_classes_are_declared() -> None:
    def told(**options: Any) -> str | None:
        given = plan(**options)
        try:
            NEURAL_NETWORK.prepare(replace(given, findings=Findings()))
        except FederatedError as error:
            return error.message
        return None

    softmax = {"layers": [4, 3], "output_activation": "softmax"}
    assert told(**softmax) is None
    assert "has 2 classes" in str(told(**softmax, target_classes=("1", "2")))
    assert "needs 1" in str(told(layers=[4, 3]))


def test_under_a_budget_a_network_s_round_0_gets_its_noise() -> None:
    private = replace(plan(), run=with_policy(plan().run, privacy_budget=4.0))
    found = NEURAL_NETWORK.prepare(private)
    assert found.plan is not None
    assert [
        one.step for one in NEURAL_NETWORK.releases(replace(private, findings=found, round=RoundNumber(0)))
    ] == [
        "statistics",
        "refine",
        "refine",
    ]


def test_a_network_whose_output_is_linear_learns_a_number() -> None:
    assert has_classes("neural_network", {})
    assert has_classes("neural_network", {"output_activation": "softmax"})
    assert not has_classes("neural_network", {"output_activation": "linear"})
    assert has_classes("logistic_regression", {"output_activation": "linear"})


def test_scaffold_and_an_optimizer_with_a_memory_do_not_go_together() -> None:
    def run(optimizer: str) -> Run:
        return with_options(RUN, algorithm="neural_network", aggregation="scaffold", optimizer=optimizer)

    check_parts(run("sgd").options, RUN.policy)
    with pytest.raises(FederatedError, match="optimizer is adam") as caught:
        check_parts(run("adam").options, RUN.policy)
    assert caught.value.code is ErrorCode.INVALID_VALUE


STRANGE: dict[str, Any] = {
    "another output": {ACTIVATIONS: np.array([3, 3, 3], dtype=np.uint8)},
    "hidden layers that differ": {ACTIVATIONS: np.array([3, 4, 1], dtype=np.uint8)},
    "a hidden softmax": {ACTIVATIONS: np.array([2, 2, 1], dtype=np.uint8)},
    "no such activation": {ACTIVATIONS: np.array([200, 200, 1], dtype=np.uint8)},
    "fewer activations": {ACTIVATIONS: np.array([3, 1], dtype=np.uint8)},
    "a layer of no units": {LAYERS: np.array([8, 0, 1])},
    "a negative layer": {LAYERS: np.array([8, -5, 1])},
    "a huge layer": {LAYERS: np.array([8, 2**62, 1])},
    "no layers": {LAYERS: np.array([], dtype=np.int64), ACTIVATIONS: np.array([], dtype=np.uint8)},
    "other layers": {LAYERS: np.array([5, 8, 1])},
    "a huge parameter": {PARAMETERS: np.full(75, 2e9, dtype=np.float32)},
}


@pytest.mark.parametrize("how", STRANGE)
def test_a_state_that_is_no_network_is_refused(how: str) -> None:
    _, state = begun("sigmoid", 1)
    assert state[PARAMETERS].size == count_parameters(2, (8, 5, 1)) == 75
    NEURAL_NETWORK.check_state(state, 2, 2)
    with pytest.raises(FederatedError) as caught:
        NEURAL_NETWORK.check_state(freeze({**state, **STRANGE[how]}), 2, 2)
    assert caught.value.code is ErrorCode.INVALID_VALUE


@pytest.mark.parametrize(
    ("output", "units", "classes"), [("sigmoid", 1, 0), ("linear", 1, 2), ("softmax", 3, 4)]
)
def test_a_network_of_another_target_is_refused(output: str, units: int, classes: int) -> None:
    with pytest.raises(FederatedError, match="not of a target"):
        NEURAL_NETWORK.check_state(begun(output, units)[1], 2, classes)


def rows_of(classes: int, rows: int = 200) -> Table:
    """All held out; some values are missing or infinite."""
    rng = np.random.default_rng(11)
    features = rng.normal([50.0, 120.0], [10.0, 15.0], (rows, 2))
    features[::17, 0], features[3, 1] = np.nan, np.inf
    target = rng.integers(0, classes, rows).astype(float) if classes else rng.normal(3.0, 2.0, rows)
    return Table.from_rows(features, target, np.arange(rows), np.ones(rows, dtype=bool))


@pytest.mark.parametrize(
    ("output", "units", "classes"),
    [("sigmoid", 1, 2), ("softmax", 2, 2), ("softmax", 4, 4), ("linear", 1, 0)],
)
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_figures_are_those_of_the_predictions(output: str, units: int, classes: int, activation: str) -> None:
    _, state = begun(output, units, activation=activation)
    table, scaling = (
        rows_of(classes),
        SCALING if classes == 0 else replace(SCALING, target_mean=0.0, target_scale=1.0),
    )
    work = EvaluateWork("neural_network", scaling, None, classes=classes)
    method = NEURAL_NETWORK.of(state, 2)
    answer = method.evaluate(table, state[PARAMETERS], work)
    figures = read_evaluation(answer.vector, work, 1).figures

    prediction = NEURAL_NETWORK.predict(state, Findings(scaling))
    found = find_kind("network")(prediction.content, prediction.arrays, table.features)
    assert np.isfinite(found).all()
    if classes == 0:
        assert prediction.content["link"] == "identity"
        assert figures.loss == pytest.approx(mean_squared_error(table.target, found), rel=1e-6)
        return
    assert prediction.content["link"] == ("logistic" if classes == 2 else "softmax")
    shares = found if classes > 2 else np.column_stack([1.0 - found, found])
    assert shares.sum(axis=1) == pytest.approx(np.ones(table.rows))
    assert figures.loss == pytest.approx(log_loss(table.target, shares), rel=1e-6)
    assert figures.accuracy == pytest.approx(accuracy_score(table.target, shares.argmax(axis=1)))


def test_two_classes_that_softmax_tells_apart_are_predicted_as_its_second_share() -> None:
    architecture, state = begun("softmax", 2)
    prediction = NEURAL_NETWORK.predict(state, Findings(SCALING))
    table = rows_of(2)
    weights = architecture.split(state[PARAMETERS].astype(float))
    values = np.nan_to_num(
        (np.where(np.isfinite(table.features), table.features, np.nan) - [50.0, 120.0]) / [10.0, 15.0]
    )
    values = np.clip(values, -1e6, 1e6)
    for place, (matrix, biases) in enumerate(weights):
        values = values @ matrix.T + biases
        values = np.maximum(values, 0.0) if place < 2 else values
    lead = values[:, 1] - values[:, 0]
    found = find_kind("network")(prediction.content, prediction.arrays, table.features)
    assert found == pytest.approx(0.5 * (1.0 + np.tanh(0.5 * lead)), abs=1e-5)


@pytest.mark.parametrize("activation", HIDDEN)
def test_no_row_makes_a_prediction_or_a_figure_overflow(activation: str) -> None:
    ugly = np.array([[1e300, -1e300], [1.7e308, 5e-324], [np.nan, np.nan], [-1.7e308, np.inf], [1e6, 1e150]])
    for output, units, classes in (("sigmoid", 1, 2), ("softmax", 3, 3), ("linear", 1, 0)):
        architecture = Perceptron(2, (8, 5, units), activation, output)
        state = architecture.to_state(np.full(architecture.size, 1e4))
        prediction = NEURAL_NETWORK.predict(state, Findings(SCALING))
        assert np.isfinite(find_kind("network")(prediction.content, prediction.arrays, ugly)).all()
        table = Table.from_rows(
            ugly, np.array([0.0, 1.0, 0.0, 1.0, 1.0]), np.arange(5), np.ones(5, dtype=bool)
        )
        work = EvaluateWork("neural_network", SCALING, None, classes=classes)
        assert np.isfinite(NEURAL_NETWORK.of(state, 2).evaluate(table, state[PARAMETERS], work).vector).all()


def test_the_algorithm_is_found_by_its_name() -> None:
    assert algorithm("Neural_Network") is NEURAL_NETWORK
