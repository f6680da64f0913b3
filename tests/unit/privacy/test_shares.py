"""Shares of a sum's noise: how much each node adds, that it adds up, and that the sum lies on one lattice."""

from __future__ import annotations

import math
import random
from fractions import Fraction

import numpy as np
import pytest

from heliosdb.parts.protocols import least_survivors
from heliosdb.privacy.mechanisms import LARGEST_STEPS, STD_STEPS, Lattice, discrete_gaussian
from heliosdb.privacy.neighbours import most_curious
from heliosdb.privacy.ring import NARROW, WIDE, add
from heliosdb.privacy.shares import LARGEST_VALUE, Cohort, add_share, noise_unit, share_std_steps

COHORTS = [Cohort(n, t) for n in range(3, 60) for t in range(max(3, n // 2 + 1), n + 1)]
COHORTS += [Cohort(n, t) for n in (200, 201, 300) for t in (n // 2 + 1, least_survivors(n), n - 3, n)]


@pytest.mark.parametrize(
    ("nodes", "threshold", "curious", "honest"),
    [(3, 3, 0, 3), (4, 3, 1, 2), (5, 4, 1, 3), (10, 7, 3, 4), (10, 6, 1, 5), (9, 6, 2, 4), (10, 10, 3, 7)],
)
def test_what_each_node_takes_for_granted(nodes: int, threshold: int, curious: int, honest: int) -> None:
    cohort = Cohort(nodes, threshold)
    assert (cohort.curious, cohort.honest) == (curious, honest)
    assert cohort.share(0) == cohort.share(curious) == Fraction(1, honest)


def test_no_more_are_taken_for_curious_than_the_sum_withstands() -> None:
    for cohort in COHORTS:
        assert 0 <= cohort.curious < cohort.nodes / 3
        assert 2 * cohort.threshold - cohort.nodes > cohort.curious
        assert cohort.honest >= 1


def test_whoever_a_node_counts_on_the_noise_of_the_honest_is_the_whole() -> None:
    """Its own share and the least of so many others that it counts as honest."""
    for cohort in COHORTS:
        least = Fraction(1, cohort.honest)
        for curious in range(cohort.nodes):
            others = cohort.counted_by(curious) - 1
            assert cohort.share(curious) + others * least >= 1
            assert least <= cohort.share(curious) <= 1
            if curious > cohort.withstood:
                # Its vector may be seen by itself.
                assert cohort.share(curious) == 1


def test_beyond_200_nodes_whoever_counts_on_a_third_or_more_adds_all_of_the_noise() -> None:
    """Neighbours are drawn for fewer than a third that work with the coordinator, whatever the threshold."""
    high = {nodes: Cohort(nodes, nodes - 3) for nodes in (200, 201)}
    assert [high[nodes].withstood for nodes in (200, 201)] == [193, 66]
    assert [high[nodes].curious for nodes in (200, 201)] == [66, 66]
    assert high[200].share(67) < 1
    assert high[201].share(66) == Fraction(1, 201 - 3 - 66)
    assert high[201].share(67) == 1


def test_the_default_threshold_leaves_a_third_of_the_nodes_honest() -> None:
    for nodes in range(3, 200):
        assert Cohort(nodes, least_survivors(nodes)).honest >= nodes / 3


@pytest.mark.parametrize("share", [Fraction(1), Fraction(1, 3), Fraction(1, 200)])
def test_the_noise_of_the_least_honest_has_the_variance_of_the_whole(share: Fraction) -> None:
    lattice = Lattice.of(1.5, 3.0, 40)
    steps = share_std_steps(lattice, share)
    whole = lattice.std / noise_unit(lattice)
    assert steps % 8 == 0 and whole <= steps * math.sqrt(1 / share) < whole * 1.0001
    assert noise_unit(lattice) <= lattice.step < 2 * noise_unit(lattice)


@pytest.mark.parametrize("std_steps", [STD_STEPS, STD_STEPS // 16 + 8, 8 * 1_234_567])
def test_noise_of_any_deviation_is_gaussian(std_steps: int) -> None:
    drawn = np.sort(discrete_gaussian(200_000, random.Random(3).randbytes, std_steps=std_steps) / std_steps)
    expected = np.array([0.5 * (1.0 + math.erf(x / math.sqrt(2.0))) for x in drawn])
    assert np.max(np.abs(expected - np.arange(1, drawn.size + 1) / drawn.size)) < 1.95 / math.sqrt(drawn.size)
    low = discrete_gaussian(64_000, random.Random(4).randbytes, std_steps=std_steps) & 63
    counts = np.bincount(low, minlength=64)
    assert float(np.sum((counts - 1000.0) ** 2 / 1000.0)) < 120


@pytest.mark.parametrize("std_steps", [0, 12, 1 << 28])
def test_a_deviation_that_the_sampler_does_not_have_is_none(std_steps: int) -> None:
    with pytest.raises(ValueError, match="no standard deviation"):
        discrete_gaussian(1, std_steps=std_steps)


@pytest.mark.parametrize("survivors", [4, 5])
def test_the_sum_of_survivors_has_at_least_the_noise_that_is_charged(survivors: int) -> None:
    """Of five nodes, one of which may be lost and one curious: three honest are enough."""
    cohort, size, rng = Cohort(5, 4), 4_000, random.Random(7)
    lattice, share = Lattice.of(1.0, 2.0, size), cohort.share(1)
    honest = [
        add_share(np.zeros(size), 1.0, 2.0, share, rng.randbytes) for _ in range(survivors - cohort.curious)
    ]
    total = np.sum(honest, axis=0)
    assert total.std() >= lattice.std * 0.97
    assert total.std() == pytest.approx(lattice.std * math.sqrt((survivors - 1) / 3), rel=0.05)
    assert all(one.std() < lattice.std * 0.62 for one in honest)


@pytest.mark.parametrize("ring", [WIDE, NARROW])
def test_the_sum_in_the_ring_is_a_whole_number_of_steps_whoever_sends_what(ring: object) -> None:
    """Vectors of one sum, dealt out to nodes in two ways, come to the same to the bit."""
    rng, size = np.random.default_rng(5), 64
    lattice = Lattice.of(1.0, 3.0, size)
    unit = noise_unit(lattice)
    whole = rng.integers(-(1 << 40), 1 << 40, size=size)
    sums = []
    for seed in (1, 2):
        parts = np.random.default_rng(seed).integers(-(1 << 50), 1 << 50, size=(3, size))
        parts[2] = whole - parts[0] - parts[1]
        total = np.zeros(size * ring.limbs, dtype=np.uint64)
        for part in parts:
            add(total, ring.encode(part * unit), ring.limbs)
        sums.append(ring.decode(total))
    assert np.array_equal(*sums)
    assert np.array_equal(sums[0], whole * unit)


@pytest.mark.parametrize("value", [0.0, 1e300, -1e300, math.nan, math.inf, 1.0, -1 / 3])
def test_whatever_the_sum_is_it_is_released_on_the_lattice_and_in_range(value: float) -> None:
    lattice = Lattice.of(1.0, 3.0, 50)
    released = add_share(np.full(50, value), 1.0, 3.0, Fraction(1, 3), random.Random(1).randbytes)
    steps = released / noise_unit(lattice)
    assert np.array_equal(steps, np.rint(steps))
    assert np.abs(steps).max() < 2 * LARGEST_STEPS
    assert np.abs(released).max() <= LARGEST_VALUE * 3.0


def test_neighbours_move_apart_by_less_than_the_noise_is_scaled_to() -> None:
    rng, dimensions, unit = np.random.default_rng(2), 200, None
    lattice = Lattice.of(1.0, 5.0, dimensions)
    unit = noise_unit(lattice)
    for _ in range(50):
        total = lattice.total(rng.integers(-(1 << 45), 1 << 45, size=dimensions))
        one = rng.normal(size=dimensions)
        steps = np.rint(one / np.linalg.norm(one) / lattice.step).astype(np.int64)
        with_one = lattice.total(np.rint(total / lattice.step).astype(np.int64) + steps)
        apart = (np.rint(with_one / unit) - np.rint(total / unit)) * unit
        assert np.linalg.norm(apart) <= lattice.std / 5.0


def test_one_seed_gives_the_sampler_s_old_noise() -> None:
    assert np.array_equal(
        discrete_gaussian(100, random.Random(1).randbytes),
        discrete_gaussian(100, random.Random(1).randbytes, std_steps=STD_STEPS),
    )


def test_of_three_groups_or_more_each_node_adds_all_of_the_noise_where_nobody_says_otherwise() -> None:
    """What a node counts on by default is as many as all others of its group."""
    for participants, groups in ((n, k) for n in range(9, 200) for k in range(3, n // 3 + 1)):
        for nodes in {participants // groups, -(-participants // groups)}:
            assert Cohort(nodes, least_survivors(nodes)).share(most_curious(participants)) == 1
