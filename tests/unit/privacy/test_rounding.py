"""Updates on one lattice: turned and turned back, right on average, never around the ring's end."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heliosdb.privacy.ring import Whole, add
from heliosdb.privacy.rounding import Rounded, Turn

SIZES = (1, 2, 3, 17, 64, 100, 1_000)


def lattice(size: int, bits: int = 32, norm: float = 2.0, weight: float = 1_024.0) -> Rounded:
    return Rounded(Turn(size, b"seed"), Whole(bits), norm, weight)


@pytest.mark.parametrize("size", SIZES)
def test_turning_keeps_length_and_turning_back_undoes_it(size: int) -> None:
    turn, vector = Turn(size, b"seed"), np.random.default_rng(size).normal(size=size)

    turned = turn.turned(vector)

    assert np.linalg.norm(turned) == pytest.approx(np.linalg.norm(vector))
    assert turn.turned_back(turned) == pytest.approx(vector, abs=1e-12)
    assert not np.allclose(Turn(size, b"other").turned(vector), turned) or size < 3


@pytest.mark.parametrize("size", [100, 1_000, 5_000])
@pytest.mark.parametrize("shape", ["one value", "equal", "alternating"])
def test_no_turned_value_is_far_above_the_others(size: int, shape: str) -> None:
    """Of 8 / sqrt(K) at most, whatever the vector: the ring's end."""
    vector = {
        "one value": np.eye(1, size, size - 1)[0],
        "equal": np.ones(size),
        "alternating": np.resize([1.0, -1.0], size),
    }[shape]
    for seed in range(20):
        turn = Turn(size, bytes([seed]))
        assert np.abs(turn.turned(vector / np.linalg.norm(vector))).max() <= 8.0 / np.sqrt(turn.block)


def summed(rounded: Rounded, updates: list[np.ndarray], weights: list[float], seed: int = 0) -> np.ndarray:
    """What is opened of these nodes: through the ring."""
    ring, rng = rounded.ring, np.random.default_rng(seed)
    total = np.zeros(rounded.turn.size + 1, dtype=ring.dtype.value)
    for update, weight in zip(updates, weights, strict=True):
        add(total, ring.encode(rounded.encode(update, weight, rng)), 1)
    return ring.decode(total)


@pytest.mark.parametrize(("bits", "nodes", "error"), [(16, 3, 2e-3), (16, 100, 1e-2), (32, 100, 2e-7)])
@pytest.mark.parametrize("size", [20, 1_000])
def test_the_sum_is_that_of_weighted_updates_to_the_lattice(
    bits: int, nodes: int, error: float, size: int
) -> None:
    rng = np.random.default_rng(nodes)
    weights = [float(weight) for weight in rng.integers(1, 1_024 // nodes, size=nodes)]
    updates = [one / np.linalg.norm(one) for one in rng.normal(size=(nodes, size))]
    found = lattice(size, bits).decode(summed(lattice(size, bits), updates, weights))

    assert found is not None
    total, weight = found
    exact = sum(one * weight for one, weight in zip(updates, weights, strict=True))
    assert np.linalg.norm(total - exact) <= 1_024.0 * 2.0 * error
    assert weight == pytest.approx(sum(weights), rel=2e-2 if bits == 16 else 1e-5)


def test_rounding_is_right_on_average() -> None:
    rounded, update = lattice(5, 16), np.array([0.1, -0.2, 0.3, 0.0, 1.0])
    sums = [rounded.decode(summed(rounded, [update], [1.0], seed)) for seed in range(4_000)]

    mean = np.mean([one[0] for one in sums if one is not None], axis=0)

    # 1 of 1,024: a value is a few steps, and one sum off by most of one.
    step = rounded.step * rounded.weight
    assert np.abs(mean - update).max() < 5 * step / 2 / np.sqrt(4_000)


@pytest.mark.parametrize("bits", [16, 32])
def test_a_node_that_weighs_all_with_the_longest_update_stays_in_the_ring(bits: int) -> None:
    rounded = lattice(1_000, bits)
    update = np.full(1_000, 1e6)

    found = rounded.decode(summed(rounded, [update], [1e9]))

    assert found is not None
    total, weight = found
    assert weight == pytest.approx(1_024.0, rel=1e-3)
    # Cut to the norm, and where it pointed.
    assert np.linalg.norm(total) / weight == pytest.approx(2.0, rel=1e-2)
    assert total / np.linalg.norm(total) == pytest.approx(update / np.linalg.norm(update), abs=1e-3)


@given(st.integers(0, 2**32 - 1), st.sampled_from([20, 1_000]))
@settings(deadline=None, max_examples=50)
def test_what_masks_leave_is_no_sum(seed: int, size: int) -> None:
    rounded, rng = lattice(size, 16), np.random.default_rng(seed)
    words = rng.integers(0, 1 << 16, size=size + 1, dtype=np.uint16)

    assert rounded.decode(rounded.ring.decode(words)) is None


@pytest.mark.parametrize("bits", [16, 32])
def test_whole_numbers_are_their_words_again(bits: int) -> None:
    ring = Whole(bits)
    values = np.array([0.0, 1.0, -1.0, ring.largest(1), -ring.largest(1)])

    words = ring.encode(values)

    assert words.dtype.name == ring.dtype.value
    assert ring.decode(words).tolist() == values.tolist()
