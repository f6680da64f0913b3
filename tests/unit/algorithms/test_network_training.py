"""A network's local training is the textbook's: PyTorch's steps against a reference written out in numpy."""

from __future__ import annotations

import itertools
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from heliosdb.algorithms.local_terms import NO_TERMS, LocalTerms
from heliosdb.algorithms.network_training import Descent, choose_device, load_torch, train_network
from heliosdb.algorithms.optimizers import make_optimizer, worth_of
from heliosdb.algorithms.perceptron import Perceptron
from heliosdb.algorithms.sgd import batches
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.scoring.network import HIDDEN, OUTPUT, forward

ROWS, INPUTS = 60, 4
UNITS = {"linear": 1, "sigmoid": 1, "softmax": 3}


def made(activation: str = "tanh", output: str = "sigmoid", hidden: tuple[int, ...] = (7, 5)) -> Perceptron:
    return Perceptron(INPUTS, (*hidden, UNITS[output]), activation, output)


def some(architecture: Perceptron, seed: int = 0) -> tuple[Any, Any, Any]:
    """Parameters, rows and targets."""
    rng = np.random.default_rng(seed)
    parameters = rng.normal(0.0, 0.5, architecture.size).astype(np.float32)
    rows = rng.normal(size=(ROWS, INPUTS)).astype(np.float32)
    if architecture.output == "linear":
        return parameters, rows, rng.normal(size=ROWS)
    return parameters, rows, rng.integers(0, max(2, architecture.layers[-1]), ROWS).astype(np.float64)


def trained(
    architecture: Perceptron, parameters: Any, rows: Any, targets: Any, *, seed: int = 1, **how: Any
) -> Any:
    given: dict[str, Any] = {"epochs": 1, "batch_size": ROWS, "optimizer": "sgd", "learning_rate": 0.1} | how
    return train_network(
        architecture, parameters, rows, targets, descent=Descent(**given), rng=np.random.default_rng(seed)
    )


def slope_of(name: str, sums: Any) -> Any:
    """The derivative of an activation, by central differences of its definition in scoring/network.py."""
    from heliosdb.scoring.network import activate

    step = 1e-6
    if name == "relu":
        return (sums > 0).astype(float)
    return (activate(name, sums + step) - activate(name, sums - step)) / (2 * step)


def gradient(architecture: Perceptron, parameters: Any, rows: Any, targets: Any) -> Any:
    """The sum over rows of the loss's gradient, by backpropagation in float64."""
    from heliosdb.scoring.network import activate

    pairs = architecture.split(np.asarray(parameters, dtype=np.float64))
    values, sums = [np.asarray(rows, dtype=np.float64)], []
    for place, (weights, biases) in enumerate(pairs):
        sums.append(values[-1] @ weights.T + biases)
        values.append(
            activate(architecture.activation, sums[-1].copy()) if place + 1 < len(pairs) else sums[-1]
        )
    match architecture.output:
        case "softmax":
            shares = np.exp(sums[-1] - sums[-1].max(axis=1, keepdims=True))
            slopes = shares / shares.sum(axis=1, keepdims=True) - np.eye(3)[targets.astype(int)]
        case "sigmoid":
            slopes = 1.0 / (1.0 + np.exp(-sums[-1])) - targets[:, None]
        case _:
            slopes = sums[-1] - targets[:, None]
    found: list[Any] = []
    for place in reversed(range(len(pairs))):
        found[:0] = [(slopes.T @ values[place]).ravel(), slopes.sum(axis=0)]
        if place:
            slopes = slopes @ pairs[place][0] * slope_of(architecture.activation, sums[place - 1])
    return np.concatenate(found)


def reference(
    architecture: Perceptron, parameters: Any, rows: Any, targets: Any, *, seed: int = 1, **how: Any
) -> Any:
    """What `train_network` should give, in float64."""
    current, rng = np.asarray(parameters, dtype=np.float64), np.random.default_rng(seed)
    rate, terms = how.get("learning_rate", 0.1), how.get("terms", NO_TERMS)
    optimizer, taken = how.get("optimizer", "sgd"), 0
    step = make_optimizer(optimizer, rate, current.size)
    for _ in range(how.get("epochs", 1)):
        order = rng.permutation(ROWS)
        for first, last in batches(ROWS, how.get("batch_size", ROWS)):
            chosen = order[first:last]
            moved = current - step(
                gradient(architecture, current, rows[chosen], targets[chosen]), len(chosen)
            )
            taken += 1
            current = terms.apply(moved, parameters, worth_of(optimizer, rate, taken))
    return current


@pytest.mark.parametrize(("activation", "output"), list(itertools.product(HIDDEN, OUTPUT)))
def test_one_batch_moves_the_parameters_against_the_gradient_of_the_loss(
    activation: str, output: str
) -> None:
    architecture = made(activation, output)
    parameters, rows, targets = some(architecture)

    moved = trained(architecture, parameters, rows, targets) - parameters

    expected = -0.1 * gradient(architecture, parameters, rows, targets) / ROWS
    assert np.linalg.norm(moved) > 1e-3
    assert moved == pytest.approx(expected, abs=2e-6)


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam"])
@pytest.mark.parametrize("batch_size", [7, 32])
def test_epochs_of_batches_are_those_of_the_optimizer(optimizer: str, batch_size: int) -> None:
    architecture = made()
    given = some(architecture)
    how = {"optimizer": optimizer, "batch_size": batch_size, "epochs": 3, "learning_rate": 0.01}

    assert trained(architecture, *given, **how) == pytest.approx(
        reference(architecture, *given, **how), abs=2e-5
    )


@pytest.mark.parametrize("output", OUTPUT)
def test_a_network_without_hidden_layers_is_a_linear_model(output: str) -> None:
    architecture = made(output=output, hidden=())
    given = some(architecture)

    assert trained(architecture, *given, epochs=5) == pytest.approx(
        reference(architecture, *given, epochs=5), abs=1e-5
    )


def test_what_an_aggregation_adds_to_the_objective_is_heeded() -> None:
    architecture = made()
    given = some(architecture)
    correction = np.random.default_rng(5).normal(size=architecture.size)
    for terms in (LocalTerms(proximal=3.0), LocalTerms(correction=correction), LocalTerms(0.5, correction)):
        how = {"terms": terms, "batch_size": 16, "epochs": 2}
        assert trained(architecture, *given, **how) == pytest.approx(
            reference(architecture, *given, **how), abs=2e-5
        )
    pulled = {"terms": LocalTerms(3.0), "batch_size": 16, "epochs": 2, "optimizer": "momentum"}
    assert trained(architecture, *given, **pulled) == pytest.approx(
        reference(architecture, *given, **pulled), abs=2e-5
    )
    far, near = (
        np.linalg.norm(trained(architecture, *given, epochs=20, terms=terms) - given[0])
        for terms in (NO_TERMS, LocalTerms(proximal=10.0))
    )
    assert near < 0.5 * far


def test_the_same_draws_give_the_same_bits_and_others_another_order() -> None:
    architecture = made("gelu", "softmax")
    given = some(architecture)
    how = {"batch_size": 8, "epochs": 2, "optimizer": "adam"}

    same = [trained(architecture, *given, **how).tobytes() for _ in range(2)]
    other = trained(architecture, *given, seed=2, **how).tobytes()

    assert same[0] == same[1] != other
    assert (
        trained(architecture, *given, seed=1).tobytes()
        != trained(architecture, *given, batch_size=30).tobytes()
    )


def test_the_arguments_are_left_as_they_were() -> None:
    architecture = made()
    given = some(architecture)
    before = [array.copy() for array in given]
    for array in given:
        array.flags.writeable = False

    trained(architecture, *given)

    assert all(np.array_equal(one, other) for one, other in zip(before, given, strict=True))


def test_what_pytorch_computes_is_what_numpy_predicts() -> None:
    torch, device = load_torch()
    for activation in HIDDEN:
        architecture = made(activation, "softmax", (9, 6))
        parameters, rows, _ = some(architecture)
        leaves = architecture.leaves(torch.from_numpy(parameters).to(device))
        values = architecture.pass_through(torch, leaves, torch.from_numpy(rows).to(device))
        assert forward(architecture.network(parameters), rows.astype(float)) == pytest.approx(
            values.cpu().numpy(), abs=1e-5
        )


def test_training_that_diverges_says_so() -> None:
    architecture = made("relu", "linear")
    parameters, rows, targets = some(architecture)
    with pytest.raises(FederatedError, match="diverged") as caught:
        trained(architecture, parameters, rows, 1e6 * targets, learning_rate=1000.0, epochs=50)
    assert caught.value.code is ErrorCode.UPDATE_REJECTED


class FakeTorch:
    """As much of PyTorch as the choice of a device asks, of a machine with a GPU. fails: whether it can be used."""

    def __init__(self, *, fails: bool) -> None:
        self.fails, self.cuda, self.device = fails, self, str

    def is_available(self) -> bool:
        return True

    def get_device_name(self, device: object) -> str:
        return "H200"

    def get_num_threads(self) -> int:
        return 3

    def zeros(self, size: int, *, device: object) -> None:
        if self.fails:
            raise RuntimeError("CUDA error: out of memory\nmore of it")


@pytest.mark.parametrize(
    ("fails", "chosen", "said"), [(False, "cuda", "H200"), (True, "cpu", "out of memory")]
)
def test_a_gpu_is_used_where_it_can_be_and_the_log_says_so(
    fails: bool, chosen: str, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        assert choose_device(FakeTorch(fails=fails)) == chosen
    assert said in caplog.text
    assert "more of it" not in caplog.text


WITHOUT = """
import sys
sys.modules["torch"] = None
import numpy as np
from heliosdb.algorithms.neural import NEURAL_NETWORK
from heliosdb.algorithms.perceptron import Perceptron
from heliosdb.algorithms.network_training import load_torch
from heliosdb.domain.errors import FederatedError
from heliosdb.domain.findings import Findings
from heliosdb.domain.task import Scaling

state = Perceptron(2, (3, 1), "relu", "sigmoid").begin(7)
NEURAL_NETWORK.check_state(state, 2, 2)
print(NEURAL_NETWORK.predict(state, Findings(Scaling((0.0, 1.0), (1.0, 2.0)))).kind)
try:
    load_torch()
except FederatedError as error:
    print(error.code, error.message, error.hint)
"""


def test_a_coordinator_needs_no_pytorch_and_a_node_without_it_says_what_to_install() -> None:
    said = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=True).stdout
    kind, refused = said.splitlines()
    assert kind == "network"
    assert refused.startswith("NOT_SUPPORTED") or "cannot be loaded" in refused
    assert "pip install 'heliosdb-federated-learning[neural]'" in refused
