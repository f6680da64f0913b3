"""The concordance of a Cox regression under a budget: what it says, that its error holds, and what a subject adds."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from heliosdb.algorithms.concordance import count_pairs
from heliosdb.algorithms.hazards import intervals_of
from heliosdb.algorithms.private_concordance import (
    QUANTILES,
    SENSITIVITY,
    concordance_steps,
    count_cells,
    foreseen,
    read_concordance,
)
from heliosdb.algorithms.table import Table
from heliosdb.domain.task import Scaling
from heliosdb.domain.vector import Vector
from heliosdb.privacy.mechanisms import Integers, Lattice, add_noise

SLOPES = np.array([0.8, -0.4, 0.0])
SCALING = Scaling((0.0,) * 3, (1.0,) * 3, 1.0, 1.0)
SPREAD = Scaling((), (), 0.75, 0.95)
UNIT, FOUND = intervals_of(SPREAD, QUANTILES)
ENDS = np.array(FOUND)
SIZE = count_cells(ENDS.size)
TINY = Lattice.of(SENSITIVITY, 0.01, SIZE)


def rows(n: int, seed: int, *, slopes: Vector = SLOPES, a_subject: int = 1) -> Table:
    """Survivors of whom about a third are censored."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n, 3))
    time, left = rng.exponential(np.exp(-features @ slopes)), rng.exponential(2.0, size=n)
    roles = {"event": (time <= left).astype(float)}
    subjects = np.arange(n) // a_subject
    return Table(features, np.minimum(time, left), subjects, np.zeros(n, dtype=bool), roles=roles)


def steps(table: Table, lattice: Lattice = TINY) -> Integers:
    return concordance_steps(table, SLOPES, SCALING, ENDS, UNIT, lattice)


def of_rows(table: Table) -> float:
    found = count_pairs(table.target, table.roles["event"], table.features @ SLOPES)
    return found.ordered / found.comparable


def test_with_hardly_any_noise_it_is_that_of_the_rows_within_its_error() -> None:
    table = rows(8_000, 1)
    found, error = read_concordance(TINY.total(steps(table)), SLOPES, TINY.std)

    assert found == pytest.approx(of_rows(table), abs=0.02)
    assert abs(found - of_rows(table)) < 2.0 * error < 0.06


def test_what_says_nothing_has_a_half() -> None:
    table = rows(20_000, 2, slopes=np.zeros(3))
    found, error = read_concordance(TINY.total(steps(table)), SLOPES, TINY.std)

    assert found == pytest.approx(0.5, abs=3.0 * error)


@pytest.mark.parametrize("noise", [2.0, 6.0])
def test_its_standard_error_is_that_of_repeated_noise_and_samples(noise: float) -> None:
    true = of_rows(rows(8_000, 99))
    lattice = Lattice.of(SENSITIVITY, noise, SIZE)
    off, errors = [], []
    for seed in range(120):
        total = lattice.total(steps(rows(1_500, seed), lattice))
        entropy = np.random.default_rng(seed).bytes
        found, error = read_concordance(
            add_noise(total, SENSITIVITY, noise, entropy), SLOPES, lattice.std_of_sum(1.0)
        )
        off.append(found - true)
        errors.append(error)
    typical = math.sqrt(np.mean(np.square(errors)))
    assert abs(np.mean(off)) < 0.02
    assert 0.5 * typical < np.std(off) < 1.2 * typical
    assert np.mean(np.abs(off) < 2.0 * np.array(errors)) >= 0.9


@pytest.mark.parametrize(("inputs", "slope", "noise", "n"), [(10, 0.2, 2.0, 1_500), (20, 0.1, 0.05, 6_000)])
def test_its_error_holds_where_inputs_are_correlated(inputs: int, slope: float, noise: float, n: int) -> None:
    """Scores are spread three and four times as far then as of independent inputs with these slopes."""
    slopes, scaling = np.full(inputs, slope), Scaling((0.0,) * inputs, (1.0,) * inputs, 1.0, 1.0)
    lattice = Lattice.of(SENSITIVITY, noise, SIZE)

    def correlated(n: int, seed: int) -> Table:
        rng = np.random.default_rng(seed)
        features = math.sqrt(0.8) * rng.normal(size=(n, 1)) + math.sqrt(0.2) * rng.normal(size=(n, inputs))
        time, left = rng.exponential(np.exp(-features @ slopes)), rng.exponential(2.0, size=n)
        roles = {"event": (time <= left).astype(float)}
        return Table(features, np.minimum(time, left), np.arange(n), np.zeros(n, dtype=bool), roles=roles)

    many = correlated(20_000, 99)
    pairs = count_pairs(many.target, many.roles["event"], many.features @ slopes)
    inside = 0
    for seed in range(60):
        total = lattice.total(concordance_steps(correlated(n, seed), slopes, scaling, ENDS, UNIT, lattice))
        released = add_noise(total, SENSITIVITY, noise, np.random.default_rng(seed).bytes)
        found, error = read_concordance(released, slopes, lattice.std_of_sum(1.0))
        inside += abs(found - pairs.ordered / pairs.comparable) < 2.0 * error
        assert error < 0.08
    assert inside >= 55


def test_the_error_that_a_plan_foresees_is_about_what_comes() -> None:
    lattice = Lattice.of(SENSITIVITY, 6.0, SIZE)
    _, error = read_concordance(lattice.total(steps(rows(2_000, 3), lattice)), SLOPES, lattice.std)

    assert 0.6 * error < foreseen().error(6.0, 2_000, 1.0) < 2.5 * error


def test_drowned_events_have_no_figure() -> None:
    assert read_concordance(TINY.total(steps(rows(40, 3))), SLOPES, 50.0)[1] == math.inf
    assert read_concordance(np.zeros(SIZE), SLOPES, 1.0)[1] == math.inf
    # Noise alone, whatever its signs.
    for seed in range(50):
        total = np.random.default_rng(seed).normal(scale=20.0, size=SIZE)
        found, error = read_concordance(total, SLOPES, 20.0)
        assert error == math.inf or 0.0 <= found <= 1.0


@pytest.mark.parametrize("seed", range(8))
def test_whatever_its_rows_are_a_subject_adds_its_own_and_at_most_a_whole(seed: int) -> None:
    rng = np.random.default_rng(seed)
    table = rows(60, seed, a_subject=int(rng.integers(1, 6)))
    strange = [math.nan, math.inf, -math.inf, 1e300, -1e300, 0.0]
    table.features[rng.random((60, 3)) < 0.4] = rng.choice(strange)
    table.target[:12] = rng.choice([-3.0, 0.0, 1e300, 0.2], size=12)
    table.roles["event"][:6] = rng.choice([math.nan, 7.0, -1.0, 0.5], size=6)
    lattice = Lattice.of(SENSITIVITY, 4.0, SIZE)

    whole = steps(table, lattice)
    for subject in np.unique(table.subjects):
        theirs = table.subjects == subject
        own = steps(table.where(theirs), lattice)
        assert np.array_equal(whole - steps(table.where(~theirs), lattice), own)
        assert np.linalg.norm(own * lattice.step) <= SENSITIVITY + SIZE * lattice.step
        assert own.sum() * lattice.step == pytest.approx(1.0, abs=1e-4)
    turned = replace(table, roles=table.roles).at(rng.permutation(60))
    assert np.array_equal(steps(turned, lattice), whole)


def test_nobody_adds_nothing() -> None:
    assert not steps(rows(0, 1)).any()
