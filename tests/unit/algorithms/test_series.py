"""Networks on series: how they begin, what PyTorch and numpy make of the same rows, that PyTorch's own layers agree,
and which options fit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from heliosdb.algorithms import neural
from heliosdb.algorithms.features import statistics
from heliosdb.algorithms.network_training import Descent, load_torch, train_network
from heliosdb.algorithms.recurrent import GRUS, LSTMS
from heliosdb.algorithms.series import SeriesFamily, SeriesNetwork
from heliosdb.algorithms.statistics import STATISTICS
from heliosdb.algorithms.table import Table
from heliosdb.algorithms.transformer import TRANSFORMERS
from heliosdb.algorithms.works import PARAMETERS, StatisticsWork
from heliosdb.domain.encoding import ColumnEncoding, ColumnKind, Encoding
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.findings import Findings, RunPlan
from heliosdb.domain.ids import RoundNumber
from heliosdb.domain.state import NO_STATE, freeze
from heliosdb.domain.task import Scaling
from heliosdb.domain.update import Total
from heliosdb.parts.algorithms import RecurrentSettings, SeriesSettings, TransformerSettings
from heliosdb.scoring.fronts import count
from heliosdb.scoring.kinds import find_kind
from heliosdb.scoring.soundness import check_version, find_fault
from tests.support.network_predictions import check_predictions
from tests.support.runs import RUN, with_options
from tests.unit.algorithms.split_sums import table

BY_NAME = {"lstm": LSTMS, "gru": GRUS, "transformer": TRANSFORMERS}
SHAPES: list[tuple[str, tuple[int, int], int, dict[str, Any]]] = [
    ("lstm", (6, 1), 0, {"width": 5}),
    ("lstm", (4, 3), 2, {"width": 4, "depth": 2, "bidirectional": True, "layers": (5, 3), "output_activation": "softmax"}),
    ("gru", (5, 2), 1, {"width": 3, "depth": 2, "output_activation": "linear"}),
    ("gru", (1, 2), 0, {"width": 4, "bidirectional": True, "layers": (3, 2), "output_activation": "softmax"}),
    ("transformer", (6, 2), 1, {"width": 8, "depth": 2, "heads": 2}),
    ("transformer", (3, 1), 0, {"width": 6, "depth": 1, "heads": 3, "activation": "gelu", "output_activation": "linear"}),
    ("transformer", (5, 3), 2, {"width": 5, "depth": 1, "heads": 1, "layers": (4, 3), "output_activation": "softmax"}),
]  # fmt: skip
OF_EVERY_SHAPE = pytest.mark.parametrize(("name", "shape", "beside", "options"), SHAPES, ids=str)


def made(name: str, shape: tuple[int, int], beside: int, options: dict[str, Any]) -> SeriesNetwork:
    family: SeriesFamily = BY_NAME[name]
    settings = family.settings(input_shape=shape, **options)
    return SeriesNetwork.of(int(np.prod(shape)) + beside, settings, family.training)


def numbers(network: SeriesNetwork, seed: int = 3) -> np.ndarray:
    """Parameters everywhere, unlike those that it begins with."""
    return np.random.default_rng(seed).normal(0.0, 0.4, network.size).astype(np.float32)


def some_rows(network: SeriesNetwork, rows: int = 40) -> np.ndarray:
    """Scaled inputs, some of them missing: within series, whole series behind a step, and one series with nothing."""
    rng = np.random.default_rng(5)
    made_rows = rng.normal(size=(rows, network.inputs))
    front = network.front
    series = made_rows[:, : front.inputs].reshape(rows, -1, front.length)
    series[rng.random(series.shape) < 0.2] = np.nan
    for row in range(0, rows, 3):
        series[row, :, rng.integers(0, front.length) :] = np.nan
    series[1] = np.nan
    return made_rows


def by_torch(network: SeriesNetwork, parameters: np.ndarray, rows: np.ndarray) -> Any:
    torch, _ = load_torch()
    kind = torch.float64 if parameters.dtype == np.float64 else torch.float32
    leaves = network.leaves(torch.from_numpy(parameters))
    return network.pass_through(torch, leaves, torch.from_numpy(rows).to(kind))


@OF_EVERY_SHAPE
def test_a_network_is_what_its_state_says(
    name: str, shape: tuple[int, int], beside: int, options: dict[str, Any]
) -> None:
    network = made(name, shape, beside, options)
    state = network.begin(7)
    assert state[PARAMETERS].size == network.size
    found = BY_NAME[name].read(state, network.inputs)
    # What follows no sums of a hidden layer is in no state.
    assert found == network or len(network.head.layers) == 1
    assert network.begin(7)[PARAMETERS].tobytes() == state[PARAMETERS].tobytes()
    assert network.begin(8)[PARAMETERS].tobytes() != state[PARAMETERS].tobytes()
    # The first model tells all rows the same.
    assert not network.sums(state[PARAMETERS], some_rows(network)).any()
    for other in BY_NAME.keys() - {name}:
        with pytest.raises(FederatedError):
            BY_NAME[other].read(state, network.inputs)


@OF_EVERY_SHAPE
def test_what_pytorch_computes_is_what_numpy_predicts(
    name: str, shape: tuple[int, int], beside: int, options: dict[str, Any]
) -> None:
    network = made(name, shape, beside, options)
    parameters, rows = numbers(network), some_rows(network)
    check_predictions(network, parameters, rows, by_torch(network, parameters, rows).numpy())


@OF_EVERY_SHAPE
def test_a_row_s_sums_do_not_depend_on_the_rows_beside_it(
    name: str, shape: tuple[int, int], beside: int, options: dict[str, Any]
) -> None:
    network = made(name, shape, beside, options)
    parameters, rows = numbers(network), some_rows(network)
    whole = network.sums(parameters, rows)
    for row in (0, 1, 7):
        assert network.sums(parameters, rows[row : row + 1])[0] == pytest.approx(whole[row], abs=1e-12)


def lengths_of(network: SeriesNetwork, rows: np.ndarray) -> np.ndarray:
    known = ~np.isnan(rows[:, : network.front.inputs].reshape(len(rows), -1, network.front.length)).all(
        axis=1
    )
    return np.array([np.flatnonzero(one)[-1] + 1 if one.any() else 0 for one in known])


@OF_EVERY_SHAPE
def test_pytorch_s_own_layers_make_the_same_and_have_the_same_gradient(
    name: str, shape: tuple[int, int], beside: int, options: dict[str, Any]
) -> None:
    torch, _ = load_torch()
    network = made(name, shape, beside, options)
    rows = some_rows(network)
    rows = rows[lengths_of(network, rows) > 0]
    start = numbers(network).astype(np.float64)
    ours, theirs = (torch.tensor(start, requires_grad=True) for _ in range(2))
    given = torch.from_numpy(rows)
    steps = torch.from_numpy(network.front.scale(rows[:, : network.front.inputs], 0.0, 1.0))
    series = steps.reshape(len(rows), -1, network.front.length).transpose(1, 2)
    missing = torch.isnan(series)
    values = torch.cat([torch.nan_to_num(series), missing.to(torch.float64)], dim=2)
    lengths = torch.from_numpy(lengths_of(network, rows))
    oracle = transformer_of_pytorch if name == "transformer" else cells_of_pytorch
    leaves = network.leaves(theirs)
    parts = len(network.front.shapes) + len(network.body.shapes)
    body = oracle(torch, network, leaves[:parts], values, lengths)
    joined = torch.cat([body, given[:, network.front.inputs :]], dim=1)
    expected = network.head.pass_through(torch, leaves[parts:], joined)
    found = network.pass_through(torch, network.leaves(ours), given)
    assert found.detach().numpy() == pytest.approx(expected.detach().numpy(), abs=1e-10)
    weights = torch.from_numpy(np.random.default_rng(2).normal(size=tuple(found.shape)))
    slopes = [
        torch.autograd.grad((sums * weights).sum(), at)[0].numpy()
        for sums, at in ((found, ours), (expected, theirs))
    ]
    assert np.abs(slopes[1]).max() > 0.1
    assert slopes[0] == pytest.approx(slopes[1], abs=1e-9)


def cells_of_pytorch(torch: Any, network: SeriesNetwork, leaves: Any, values: Any, lengths: Any) -> Any:
    """By torch.nn.LSTM and GRU on packed sequences; its second biases are 0 but for the new gate of a gru."""
    body: Any = network.body
    layer = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[body.kind](
        body.before,
        body.width,
        body.depth,
        batch_first=True,
        bidirectional=body.both_ways,
        dtype=torch.float64,
    )
    put = {}
    for place in range(body.depth * body.ways):
        own = leaves[place * body.of_cell : (place + 1) * body.of_cell]
        suffix = f"l{place // body.ways}" + ("_reverse" if place % body.ways else "")
        second = torch.zeros_like(own[2])
        if body.kind == "gru":
            second = torch.cat([second[: 2 * body.width], own[3]])
        put |= {
            f"weight_ih_{suffix}": own[0],
            f"weight_hh_{suffix}": own[1],
            f"bias_ih_{suffix}": own[2],
            f"bias_hh_{suffix}": second,
        }
    packed = torch.nn.utils.rnn.pack_padded_sequence(values, lengths, batch_first=True, enforce_sorted=False)
    _, end = torch.func.functional_call(layer, put, (packed,))
    end = end[0] if body.kind == "lstm" else end
    return torch.cat(list(end[-body.ways :]), dim=1)


def transformer_of_pytorch(torch: Any, network: SeriesNetwork, leaves: Any, values: Any, lengths: Any) -> Any:
    """By torch.nn.TransformerEncoderLayer, normalised first, and the sines as their paper has them."""
    body: Any = network.body
    put = torch.nn.functional.linear(values, leaves[0], leaves[1])
    length, width = values.shape[1], body.width
    for at in range(length):
        for number in range(width):
            angle = at / 10_000.0 ** ((number - number % 2) / width)
            put[:, at, number] += np.sin(angle) if number % 2 == 0 else np.cos(angle)
    padding = torch.arange(length)[None, :] >= lengths[:, None]
    names = ("norm1.weight", "norm1.bias", "self_attn.in_proj_weight", "self_attn.in_proj_bias", "self_attn.out_proj.weight",
             "self_attn.out_proj.bias", "norm2.weight", "norm2.bias", "linear1.weight", "linear1.bias", "linear2.weight", "linear2.bias")  # fmt: skip
    activation = {"relu": torch.relu, "gelu": lambda sums: torch.nn.functional.gelu(sums, approximate="tanh")}
    for block in range(body.depth):
        own = leaves[2 + 12 * block : 14 + 12 * block]
        layer = torch.nn.TransformerEncoderLayer(
            width, body.heads, 4 * width, 0.0, activation[body.activation], batch_first=True, norm_first=True, dtype=torch.float64
        )  # fmt: skip
        put = torch.func.functional_call(
            layer, dict(zip(names, own, strict=True)), (put,), {"src_key_padding_mask": padding}
        )
    put = torch.nn.functional.layer_norm(put, (width,), leaves[-2], leaves[-1])
    return put.masked_fill(padding[:, :, None], 0.0).sum(dim=1) / lengths[:, None]


@pytest.mark.parametrize("name", BY_NAME)
def test_padding_is_no_step_and_a_value_that_is_missing_is_not_the_mean(name: str) -> None:
    network = made(name, (6, 1), 0, {"width": 4} | ({"heads": 2} if name == "transformer" else {}))
    shorter = made(name, (4, 1), 0, {"width": 4} | ({"heads": 2} if name == "transformer" else {}))
    parameters = numbers(network)
    row = np.array([[0.5, -1.0, 0.2, 0.7, np.nan, np.nan]])
    assert network.sums(parameters, row) == pytest.approx(shorter.sums(parameters, row[:, :4]), abs=1e-12)
    within = np.array([[0.5, np.nan, 0.2, 0.7, np.nan, np.nan]])
    filled = np.array([[0.5, 0.0, 0.2, 0.7, np.nan, np.nan]])
    assert abs(network.sums(parameters, within) - network.sums(parameters, filled)).max() > 1e-3


@pytest.mark.parametrize("name", BY_NAME)
def test_every_row_has_a_finite_prediction(name: str) -> None:
    network = made(name, (4, 2), 1, {"width": 4})
    inputs = network.inputs
    prediction = network.predict(numbers(network), Scaling((0.0,) * inputs, (1.0,) * inputs, 3.0, 4.0))
    rows = np.array([[np.nan] * inputs, [1e308] * inputs, [-np.inf] * inputs, [np.inf, np.nan] * 4 + [0.0]])
    told = find_kind(prediction.kind)(prediction.content, prediction.arrays, rows)
    assert np.isfinite(told).all()


@pytest.mark.parametrize("name", BY_NAME)
def test_training_descends_on_the_loss_and_is_repeatable(name: str) -> None:
    network = made(name, (8, 1), 1, {"width": 8})
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(300, 9)).astype(np.float32)
    targets = (rows[:, 5] + rows[:, 6] + rows[:, 8] > 0).astype(np.float64)
    rows[rng.random(rows.shape) < 0.05] = np.nan
    rows[:, 8] = np.nan_to_num(rows[:, 8])
    start = network.begin(3)[PARAMETERS]
    descent = Descent(8, 32, "adam", 0.02)
    found = [
        train_network(network, start, rows, targets, descent=descent, rng=np.random.default_rng(2))
        for _ in range(2)
    ]
    assert found[0].tobytes() == found[1].tobytes()
    told = network.sums(found[0], rows.astype(np.float64))[:, 0] > 0
    assert np.mean(told == targets) > 0.85


def plan(
    name: str, columns: tuple[ColumnEncoding, ...], classes: tuple[str, ...] = ("0", "1"), **options: Any
) -> RunPlan:
    features = tuple(one.column for one in columns)
    run = with_options(RUN, algorithm=name, features=features, **options)
    return RunPlan(run, Findings(encoding=Encoding(columns, classes)), RoundNumber(0))


PULSE, SPO2 = (ColumnEncoding(name, ColumnKind.ARRAY, elements=4) for name in ("pulse", "spo2"))
AGE = ColumnEncoding("age")
WRONG: list[tuple[str, tuple[ColumnEncoding, ...], dict[str, Any], str]] = [
    ("lstm", (PULSE,), {}, "input_shape is missing"),
    ("gru", (PULSE,), {"input_shape": [1, 4, 4]}, "input_shape has 3 entries"),
    ("lstm", (PULSE,), {"input_shape": [1600, 11]}, "input_shape [1600, 11] is 17600 numbers a row, more than 16000"),
    ("lstm", (PULSE,), {"input_shape": [4, 2]}, "input_shape [4, 2] is 8 numbers, and the features make 4 inputs"),
    ("lstm", (AGE, PULSE), {"input_shape": [4, 1]}, 'channel 1 of input_shape [4, 1] ends within feature "pulse", with which there are 5 inputs'),
    ("lstm", (PULSE, SPO2), {"input_shape": [2, 2]}, 'channel 1 of input_shape [2, 2] ends within feature "pulse", with which there are 4 inputs'),
    ("transformer", (PULSE,), {"input_shape": [4, 1], "width": 30}, "heads is 4, and width 30"),
    ("transformer", (PULSE,), {"input_shape": [1600, 1]}, "the network makes 10240000 numbers of a row at a time"),
    ("lstm", (PULSE,), {"input_shape": [1600, 1], "width": 1024}, "the network makes 6553600 numbers of a row at a time"),
    ("transformer", (PULSE,), {"input_shape": [4, 1], "width": 1024, "depth": 8}, "parameters, more than 50000000"),
    ("gru", (PULSE,), {"input_shape": [4, 1], "layers": [3]}, "layers ends with 3 units"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "columns", "options", "told"), WRONG, ids=[told for *_, told in WRONG])
def test_options_that_do_not_fit_are_refused_and_named(
    name: str, columns: tuple[ColumnEncoding, ...], options: dict[str, Any], told: str
) -> None:
    with pytest.raises(FederatedError) as caught:
        BY_NAME[name].check(plan(name, columns, **options), 2)
    assert caught.value.code is ErrorCode.INVALID_VALUE
    assert told in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("name", BY_NAME)
def test_what_fits_is_taken_and_side_columns_join(name: str) -> None:
    given = plan(name, (PULSE, SPO2, AGE), input_shape=[4, 2])
    BY_NAME[name].check(given, 2)
    found = getattr(neural, name.upper())
    state = found.begin(given)
    found.check_state(state, 9, 2)
    assert found.of(state, 9).architecture == BY_NAME[name].plan(given)
    for wrong in (
        {"network": np.frombuffer(b"[" * 4000, np.uint8)},
        {"network": np.frombuffer(b"{}", np.uint8)},
    ):
        with pytest.raises(FederatedError):
            found.check_state(freeze({**state, **wrong}), 9, 2)
    with pytest.raises(FederatedError):
        found.check_state(state, 7, 2)


def test_steps_of_a_channel_have_one_scale_and_a_side_column_its_own() -> None:
    rng = np.random.default_rng(4)
    rows = rng.normal(3.0, 2.0, (5000, 8)) + np.repeat([0.0, 1e6], 4)
    given = plan("lstm", (PULSE, SPO2, AGE), input_shape=[4, 2])
    scaling = Scaling((*rows.mean(axis=0), 50.0), (*rows.std(axis=0), 9.0), 1.0, 2.0)
    found = LSTMS.rescale(given, scaling)
    assert found == replace(scaling, means=found.means, scales=found.scales)
    for first in (0, 4):
        own = slice(first, first + 4)
        assert set(found.means[own]) == {found.means[first]}
        assert found.means[first] == pytest.approx(rows[:, own].mean())
        assert found.scales[first] == pytest.approx(rows[:, own].std())
    assert (found.means[8], found.scales[8]) == (50.0, 9.0)


def test_a_step_that_never_changes_adds_its_distance_alone_to_the_scale_of_its_channel() -> None:
    rng = np.random.default_rng(4)
    rows = np.concatenate(
        [rng.normal(0.0, 1e-3, (5000, 4)), np.tile([0.0, 1.0, 2.0, 3.0], (5000, 1))], axis=1
    )
    # What is told relative to the first step is 0 there.
    rows[:, 0] = 0.0
    given = plan("lstm", (PULSE, SPO2, AGE), input_shape=[4, 2])
    found = LSTMS.rescale(given, Scaling((*rows.mean(axis=0), 50.0), (*rows.std(axis=0), 0.0), 1.0, 2.0))
    for first in (0, 4):
        assert found.scales[first] == pytest.approx(rows[:, first : first + 4].std())
    assert found.scales[8] == 0.0

    equal = LSTMS.rescale(given, Scaling((5.0,) * 9, (0.0,) * 9))
    assert equal.scales == (0.0,) * 9


def test_round_0_knows_what_never_changes_and_leaves_what_is_not_to_be_scaled_in_its_own_units() -> None:
    rng = np.random.default_rng(4)
    rows = np.concatenate(
        [rng.normal(2.0, 1e-3, (500, 4)), 5.0 * np.arange(4) + rng.normal(size=(500, 4))], axis=1
    )
    rows[:, 1] = 2.0
    given = plan("lstm", (PULSE, replace(SPO2, scaled=False)), input_shape=[4, 2])
    answer = statistics(table(rows, rng.integers(0, 2, 500) * 1.0), StatisticsWork("lstm", None, classes=2))
    taken = neural.LSTM.steps[STATISTICS].read(given, NO_STATE, Total(answer.vector, answer.weight, 1))
    assert taken.findings is not None and taken.findings.scaling is not None
    scaling = taken.findings.scaling
    assert scaling.scales[:4] == pytest.approx([rows[:, :4].std()] * 4)
    assert scaling.scales[4:] == (1.0,) * 4
    assert scaling.means == pytest.approx([2.0] * 4 + [rows[:, 4:].mean()] * 4, abs=1e-3)


@pytest.mark.parametrize(("name", "shape", "beside", "options"), SHAPES[2:5], ids=str)
def test_a_version_of_another_organisation_is_taken_only_where_it_holds_together(
    name: str, shape: tuple[int, int], beside: int, options: dict[str, Any]
) -> None:
    network = made(name, shape, beside, options)
    inputs = network.inputs
    found = network.predict(numbers(network), Scaling((0.0,) * inputs, (1.0,) * inputs, 3.0, 4.0))
    encoding = Encoding(tuple(ColumnEncoding(f"x{place}") for place in range(inputs)))
    content = {"kind": found.kind, **found.content}
    if content["link"] == "softmax":
        content["classes"] = ["a", "b"]

    def fault(content: dict[str, Any], arrays: dict[str, Any]) -> str | None:
        return find_fault(lambda: check_version(content, freeze(arrays), encoding))

    arrays = dict(found.arrays)
    assert fault(content, arrays) is None
    front, body = content["front"], content["body"]
    for wrong in (
        {"front": {**front, "kind": "sounds"}},
        {"front": {**front, "numbers": [1600, 1600, 0]}},
        {"front": {**front, "numbers": [-1, 1, 0]}},
        {"front": 7},
        {"body": {**body, "width": 10**9}},
        {"body": {**body, "depth": 0}},
        {"body": {**body, "kind": "mlp"}},
        {"body": {**body, "more": 1}},
    ):
        assert fault({**content, **wrong}, arrays) is not None, wrong
    for wrong_array in (
        {"body": arrays["body"][1:]},
        {"body": arrays["body"].astype(np.int64)},
        {"scales": np.zeros(inputs)},
    ):
        assert fault(content, {**arrays, **wrong_array}) is not None, wrong_array
    assert count(network.body.shapes) == arrays["body"].size


@pytest.mark.parametrize("name", BY_NAME)
def test_what_only_a_few_subjects_miss_is_the_mean_in_training(name: str) -> None:
    network = made(name, (4, 2), 1, {"width": 4})
    features = np.random.default_rng(2).normal(size=(30, 9))
    features[:3, 1] = np.nan
    features[:8, 6] = np.nan
    features[9, 8] = np.nan
    scaling = Scaling(tuple(float(one) for one in range(9)), (1.0,) * 9)
    table = Table.from_rows(features, np.zeros(30), np.arange(30), np.zeros(30, dtype=bool))
    seen = network.hide_few(replace(table, min_cell=5), scaling)
    assert (seen[:3, 1] == 1.0).all()
    assert np.isnan(seen[:8, 6]).all() and np.isnan(seen[9, 8])
    assert np.array_equal(network.hide_few(replace(table, min_cell=1), scaling), features, equal_nan=True)
    assert np.isnan(features[:3, 1]).all()


@pytest.mark.parametrize("name", BY_NAME)
def test_where_nothing_ever_was_missing_what_is_missing_is_the_mean(name: str) -> None:
    network = made(name, (5, 2), 0, {"width": 4} | ({} if name == "transformer" else {"bidirectional": True}))
    state = network.begin(3)
    parameters = np.array(state[PARAMETERS], dtype=np.float64)
    parameters[-network.head.size :] = np.random.default_rng(1).normal(size=network.head.size)
    row = np.random.default_rng(4).normal(size=(1, 10))
    missing, mean = row.copy(), row.copy()
    missing[0, 2], mean[0, 2] = np.nan, 0.0
    assert network.sums(parameters, missing) == pytest.approx(network.sums(parameters, mean), abs=1e-12)
    assert abs(network.sums(parameters, missing) - network.sums(parameters, row)).max() > 1e-6


def test_there_is_no_private_form_yet() -> None:
    network = made("lstm", (4, 1), 0, {})
    for asked in (network.shape, lambda: network.scorer(numbers(network))):
        with pytest.raises(FederatedError) as caught:
            asked()
        assert caught.value.code is ErrorCode.NOT_SUPPORTED
    for settings in (SeriesSettings, RecurrentSettings, TransformerSettings):
        assert not settings.has_private_form
