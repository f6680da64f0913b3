"""fedopt, fedadagrad, fedadam and fedyogi beside algorithm 2 of Reddi et al. 2021 as it is printed."""

from __future__ import annotations

import numpy as np
import pytest

from federated_sql.errors import FederatedError
from heliosdb.domain.state import NO_STATE, make_state
from heliosdb.domain.vector import Vector
from tests.unit.aggregation.rules_support import combined, random_updates

ADAPTIVE = ("fedadagrad", "fedadam", "fedyogi")


def printed(name: str, deltas: list[Vector], rate: float, beta1: float, beta2: float, tau: float) -> Vector:
    parameters, m = np.zeros_like(deltas[0]), np.zeros_like(deltas[0])
    v = np.full_like(m, tau**2)
    for delta in deltas:
        m = beta1 * m + (1 - beta1) * delta
        if name == "fedopt":
            parameters = parameters + rate * m
            continue
        if name == "fedadagrad":
            v = v + delta**2
        elif name == "fedadam":
            v = beta2 * v + (1 - beta2) * delta**2
        else:
            v = v - (1 - beta2) * delta**2 * np.sign(v - delta**2)
        parameters = parameters + rate * m / (np.sqrt(v) + tau)
    return parameters


@pytest.mark.parametrize("name", ("fedopt", *ADAPTIVE))
@pytest.mark.parametrize("seed", range(5))
def test_ten_rounds_equal_the_paper_whoever_takes_part(name: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    options = {"server_learning_rate": 0.3, "beta1": 0.7, "beta2": 0.9, "tau": 0.01}
    read = {k: v for k, v in options.items() if not (k == "beta2" and name not in ("fedadam", "fedyogi"))}
    if name == "fedopt":
        read.pop("tau")
    parameters, memory, deltas = np.zeros(6), NO_STATE, []
    for number in range(10):
        nodes = 3 if number in (4, 5, 6) else 10
        updates = random_updates(100 * seed + number, nodes)
        weights = rng.integers(1, 100, size=nodes).astype(float)
        deltas.append(np.average(updates, axis=0, weights=weights))
        parameters, memory = combined(
            name, updates, weights=weights, parameters=parameters, memory=memory, **read
        )
        expected = printed(name, deltas, 0.3, 0.7, 0.9, 0.01)
        assert np.allclose(parameters, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "rate", "beta1"),
    [("fedopt", 1.0, 0.9), ("fedadagrad", 0.1, 0.0), ("fedadam", 0.1, 0.9), ("fedyogi", 0.1, 0.9)],
)
def test_what_is_not_given_is_as_documented(name: str, rate: float, beta1: float) -> None:
    updates = random_updates(3, 4)
    expected = printed(name, [updates.mean(axis=0)], rate, beta1, 0.99, 1e-3)
    assert np.allclose(combined(name, updates)[0], expected, rtol=1e-12)


@pytest.mark.parametrize("name", ADAPTIVE)
def test_coordinates_that_never_move_stay_and_huge_ones_do_not_overflow(name: str) -> None:
    parameters, memory = np.zeros(3), NO_STATE
    for size in (0.0, 1e200, 1e-200, 1e300, 0.0):
        updates = np.array([[0.0, size, -1.0]] * 3)
        parameters, memory = combined(name, updates, parameters=parameters, memory=memory)
        assert np.isfinite(parameters).all()
    assert parameters[0] == 0.0


def test_equal_weights_are_what_weighted_aggregation_false_means() -> None:
    updates, weights = random_updates(2, 5), np.array([1.0, 100.0, 1.0, 1.0, 1.0])
    for name in ("fedavg", "fedopt", *ADAPTIVE):
        plain, _ = combined(name, updates, weights=weights, weighted_aggregation=False)
        assert np.allclose(plain, combined(name, updates)[0], rtol=1e-12)
        assert not np.allclose(plain, combined(name, updates, weights=weights)[0])


def test_weighted_is_the_mean_by_rows() -> None:
    updates, weights = random_updates(2, 5), np.arange(1.0, 6.0)
    expected = np.average(updates, axis=0, weights=weights)
    assert np.allclose(combined("weighted", updates, weights=weights)[0], expected, rtol=1e-12)


def test_a_memory_of_another_model_is_refused() -> None:
    with pytest.raises(FederatedError, match="another model"):
        combined("fedadam", random_updates(2, 5), memory=make_state(moment=np.zeros(2), root=np.ones(2)))
