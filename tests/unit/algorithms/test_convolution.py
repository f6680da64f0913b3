"""Convolutional networks: how they begin, what PyTorch and numpy make of the same rows, and which options fit."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from heliosdb.algorithms.convolution import CONVOLUTIONS, Convolution, read_convolution
from heliosdb.algorithms.network_training import Descent, load_torch, train_network
from heliosdb.algorithms.neural import CNN
from heliosdb.algorithms.private_layers import LayeredRows, scores_of
from heliosdb.algorithms.table import group_by_subject
from heliosdb.algorithms.works import PARAMETERS
from heliosdb.domain.encoding import ColumnEncoding, ColumnKind, Encoding
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.findings import Findings, RunPlan
from heliosdb.domain.ids import RoundNumber
from heliosdb.domain.state import freeze
from heliosdb.domain.task import Scaling
from heliosdb.parts.algorithms import ConvolutionSettings
from heliosdb.privacy.mechanisms import Lattice
from heliosdb.scoring.network import HIDDEN
from heliosdb.scoring.soundness import check_version, find_fault
from tests.support.network_predictions import check_predictions
from tests.support.runs import RUN, with_options

SHAPES = [
    ((1, 8, 8), 0, {}),
    ((3, 5, 7), 2, {"channels": (4, 6, 2), "groups": 2, "layers": (5, 3), "output_activation": "softmax"}),
    ((1, 1, 9), 1, {"channels": (2,), "groups": 1, "kernel": 5, "activation": "gelu"}),
    ((2, 4, 1), 0, {"channels": (3, 3), "groups": 3, "kernel": 1, "activation": "tanh", "output_activation": "linear"}),
    ((1, 6, 6), 3, {"layers": (4, 2), "activation": "sigmoid", "output_activation": "softmax"}),
]  # fmt: skip
OF_EVERY_SHAPE = pytest.mark.parametrize(("image", "beside", "options"), SHAPES, ids=str)


def made(image: tuple[int, ...], beside: int, options: dict[str, Any]) -> Convolution:
    settings = ConvolutionSettings(input_shape=image, **options)
    return Convolution.of(int(np.prod(image)) + beside, settings)


def numbers(network: Convolution, seed: int = 3) -> np.ndarray:
    """Parameters everywhere, unlike those that it begins with."""
    return np.random.default_rng(seed).normal(0.0, 0.5, network.size).astype(np.float32)


def some_rows(network: Convolution, rows: int = 40) -> np.ndarray:
    return np.random.default_rng(5).normal(size=(rows, network.inputs))


def by_torch(network: Convolution, parameters: np.ndarray, rows: np.ndarray) -> Any:
    torch, _ = load_torch()
    kind = torch.float64 if parameters.dtype == np.float64 else torch.float32
    leaves = network.leaves(torch.from_numpy(parameters))
    return network.pass_through(torch, leaves, torch.from_numpy(rows).to(kind))


@OF_EVERY_SHAPE
def test_a_network_is_what_its_state_says(
    image: tuple[int, ...], beside: int, options: dict[str, Any]
) -> None:
    network = made(image, beside, options)
    state = network.begin(7)
    assert state[PARAMETERS].size == network.size
    assert read_convolution(state, network.inputs) == network
    assert network.begin(7)[PARAMETERS].tobytes() == state[PARAMETERS].tobytes()
    assert network.begin(8)[PARAMETERS].tobytes() != state[PARAMETERS].tobytes()
    # The first model tells all rows the same.
    assert not network.sums(state[PARAMETERS], some_rows(network)).any()


@OF_EVERY_SHAPE
def test_what_pytorch_computes_is_what_numpy_predicts(
    image: tuple[int, ...], beside: int, options: dict[str, Any]
) -> None:
    network = made(image, beside, options)
    parameters, rows = numbers(network), some_rows(network)
    check_predictions(network, parameters, rows, by_torch(network, parameters, rows).numpy())


@OF_EVERY_SHAPE
def test_private_scores_and_gradients_are_those_of_pytorch_row_by_row(
    image: tuple[int, ...], beside: int, options: dict[str, Any]
) -> None:
    torch, _ = load_torch()
    network = made(image, beside, options)
    parameters, rows = numbers(network).astype(np.float64), some_rows(network, 12)
    columns = np.concatenate([rows.T, np.ones((1, 12))])
    shape = network.shape()
    scores = scores_of(shape.passing(parameters), columns)
    assert pytest.approx(by_torch(network, parameters, rows).numpy(), abs=1e-4) == scores.T

    targets = np.random.default_rng(9).integers(0, max(2, network.head.layers[-1]), 12).astype(float)
    norm = 0.7
    expected = np.zeros(network.size)
    for row, target in zip(rows, targets, strict=True):
        current = torch.tensor(parameters, requires_grad=True)
        values = network.pass_through(torch, network.leaves(current), torch.tensor(row[None]))
        losses = {
            "softmax": lambda v, t: torch.nn.functional.cross_entropy(v, torch.tensor([int(t)])),
            "sigmoid": lambda v, t: torch.nn.functional.binary_cross_entropy_with_logits(v[:, 0], torch.tensor([t])),
            "linear": lambda v, t: 0.5 * torch.mean((v[:, 0] - t) ** 2),
        }  # fmt: skip
        (gradient,) = torch.autograd.grad(losses[network.output](values, target), current)
        found = gradient.numpy()
        expected += found * min(1.0, norm / np.linalg.norm(found))
    held = LayeredRows.of(
        shape, columns, targets, group_by_subject(np.arange(12)), clipping_norm=norm,
        lattice=Lattice.of(norm, 1.0, network.size),
    )  # fmt: skip
    total = held.exact_sum(np.ones(12, dtype=bool), parameters)
    ours = (total.high * 2.0**20 + total.low) * norm * 2.0**-40
    assert ours == pytest.approx(expected, abs=2e-4)  # Slopes are cut to some 15 bits, towards 0.


def test_plain_training_descends_on_the_loss_and_is_repeatable() -> None:
    network = made((1, 6, 6), 1, {"layers": (4, 1)})
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(300, 37)).astype(np.float32)
    targets = (rows[:, 14] + rows[:, 36] > 0).astype(np.float64)
    start = network.begin(3)[PARAMETERS]
    descent = Descent(20, 32, "adam", 0.01)
    found = [
        train_network(network, start, rows, targets, descent=descent, rng=np.random.default_rng(2))
        for _ in range(2)
    ]
    assert found[0].tobytes() == found[1].tobytes()
    told = network.sums(found[0], rows.astype(np.float64))[:, 0] > 0
    assert np.mean(told == targets) > 0.9


def plan(
    columns: tuple[ColumnEncoding, ...], classes: tuple[str, ...] = ("0", "1"), **options: Any
) -> RunPlan:
    features = tuple(one.column for one in columns)
    run = with_options(RUN, algorithm="cnn", features=features, **options)
    return RunPlan(run, Findings(encoding=Encoding(columns, classes)), RoundNumber(0))


PIXELS = ColumnEncoding("pixels", ColumnKind.ARRAY, elements=16)
AGE = ColumnEncoding("age")
WRONG: list[tuple[tuple[ColumnEncoding, ...], dict[str, Any], str]] = [
    ((PIXELS,), {}, "input_shape is missing"),
    ((PIXELS,), {"input_shape": [4, 4]}, "input_shape has 2 entries"),
    ((PIXELS,), {"input_shape": [1, 127, 127]}, "input_shape [1, 127, 127] is 16129 numbers a row, more than 16000"),
    ((PIXELS,), {"input_shape": [1, 5, 5]}, "input_shape [1, 5, 5] is 25 numbers, and the features make 16 inputs"),
    ((AGE, PIXELS), {"input_shape": [1, 4, 4]}, 'of input_shape, 16 numbers, ends within feature "pixels", with which there are 17 inputs'),
    ((PIXELS,), {"input_shape": [1, 4, 4], "kernel": 4}, "kernel is 4"),
    ((PIXELS,), {"input_shape": [1, 4, 4], "channels": [8, 6]}, "groups is 4, and a block has 6 channels"),
    ((PIXELS,), {"input_shape": [1, 4, 4], "channels": [4] * 9}, "channels has 9 entries"),
    ((PIXELS,), {"input_shape": [1, 40, 40], "channels": [512, 4], "kernel": 11}, "a block multiplies"),
    ((PIXELS,), {"input_shape": [1, 4, 4], "layers": [65536, 65536, 1]}, "parameters, more than 50000000"),
    ((PIXELS,), {"input_shape": [1, 4, 4], "layers": [3]}, "layers ends with 3 units"),
]  # fmt: skip


@pytest.mark.parametrize(("columns", "options", "told"), WRONG, ids=[told for *_, told in WRONG])
def test_options_that_do_not_fit_are_refused_and_named(
    columns: tuple[ColumnEncoding, ...], options: dict[str, Any], told: str
) -> None:
    with pytest.raises(FederatedError) as caught:
        CONVOLUTIONS.check(plan(columns, **options), 2)
    assert caught.value.code is ErrorCode.INVALID_VALUE
    assert told in caught.value.message
    assert caught.value.hint


def test_what_fits_is_taken_and_side_columns_join() -> None:
    given = plan((PIXELS, AGE), input_shape=[1, 4, 4])
    CONVOLUTIONS.check(given, 2)
    state = CNN.begin(given)
    CNN.check_state(state, 17, 2)
    assert CNN.of(state, 17).architecture == CONVOLUTIONS.plan(given)
    with pytest.raises(FederatedError):
        CNN.check_state(state, 15, 2)
    with pytest.raises(FederatedError):
        CNN.check_state(freeze({**state, "image": np.array([1, 4, 5])}), 17, 2)


def test_pixels_of_a_channel_have_one_scale_and_a_side_column_its_own() -> None:
    rng = np.random.default_rng(4)
    rows = rng.normal(3.0, 2.0, (5000, 16)) * np.linspace(0.1, 1.0, 16) + np.arange(16)
    given = plan((PIXELS, AGE), input_shape=[1, 4, 4])
    scaling = Scaling((*rows.mean(axis=0), 50.0), (*rows.std(axis=0), 9.0), 1.0, 2.0)
    found = CONVOLUTIONS.rescale(given, scaling)
    assert found == replace(scaling, means=found.means, scales=found.scales)
    assert set(found.means[:16]) == {found.means[0]} and found.means[0] == pytest.approx(rows.mean())
    assert set(found.scales[:16]) == {found.scales[0]} and found.scales[0] == pytest.approx(rows.std())
    assert (found.means[16], found.scales[16]) == (50.0, 9.0)


def test_every_activation_is_one_of_blocks() -> None:
    for activation in HIDDEN:
        network = made((1, 3, 3), 0, {"activation": activation, "channels": (4,)})
        parameters, rows = numbers(network), some_rows(network)
        assert network.sums(parameters, rows) == pytest.approx(
            by_torch(network, parameters, rows).numpy(), abs=1e-5
        )


def prediction_of(network: Convolution) -> tuple[dict[str, Any], dict[str, Any], Encoding]:
    inputs = network.inputs
    scaling = Scaling((0.0,) * inputs, (1.0,) * inputs)
    made_so = network.predict(numbers(network), scaling)
    columns = (PIXELS, *(replace(AGE, column=f"side {place}") for place in range(inputs - 16)))
    return {"kind": made_so.kind, **made_so.content}, dict(made_so.arrays), Encoding(columns)


@pytest.mark.parametrize("beside", [0, 2])
def test_what_another_organisation_made_is_checked_before_it_is_scored(beside: int) -> None:
    network = made((1, 4, 4), beside, {"output_activation": "linear", "layers": (3, 1)})
    content, arrays, encoding = prediction_of(network)
    check_version(content, arrays, encoding)

    def fault(change: dict[str, Any], **changed: Any) -> str | None:
        others = {name: array for name, array in {**arrays, **changed}.items() if array is not None}
        return find_fault(lambda: check_version({**content, **change}, others, encoding))

    assert fault({}) is None
    kernel = arrays["kernel_0"]
    for change in (
        {"image": [1, 4, 5]}, {"image": [1, 4]}, {"image": [1, 4.0, 4]}, {"image": "144"}, {"groups": 3}, {"groups": 0},
        {"activation": "sine"}, {"activations": ["relu"]}, {"kernel": 3},
    ):  # fmt: skip
        assert fault(change), change
    assert fault({}, kernel_0=None)
    assert fault({}, kernel_0=kernel[:, :, :, :2])
    assert fault({}, kernel_0=kernel[:4])
    assert fault({}, gains_1=np.zeros(3))
    assert fault({}, shifts_1=np.full_like(arrays["shifts_1"], np.nan))
    assert fault({}, weight_0=arrays["weight_0"][:, :-1])
    assert fault({}, scales=np.zeros(network.inputs))
    assert fault({}, kernel_2=kernel)
    assert fault({}, strange=np.zeros(3))


def test_no_number_within_its_bounds_overflows() -> None:
    for activation in HIDDEN:
        network = made(
            (1, 4, 4), 1, {"activation": activation, "layers": (3, 2), "output_activation": "softmax"}
        )
        parameters = np.random.default_rng(2).choice([-1e9, 1e9, 0.0], network.size).astype(np.float32)
        rows = np.random.default_rng(3).choice([-1e6, 1e6, 0.0], (20, network.inputs))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert np.isfinite(network.sums(parameters, rows)).all()
