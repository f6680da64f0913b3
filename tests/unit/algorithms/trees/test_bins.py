"""Edges of bins from counts in cells: for values of every kind, the same however they are spread over nodes."""

from __future__ import annotations

import numpy as np
import pytest

from heliosdb.algorithms.trees.bins import LOOKS, Ragged, codes_of, edges_of, first_cells, split_full
from heliosdb.domain.task import Scaling

NAN = np.nan


def find_edges(column: np.ndarray, bins: int, nodes: int = 1) -> np.ndarray:
    """The edges that exchanges over so many nodes lead to."""
    there = column[np.isfinite(column)]
    largest = float(np.abs(there).max(initial=1.0))
    mean, scale = np.mean(there / largest) * largest, np.std(there / largest) * largest
    cells = first_cells(Scaling((float(mean),), (float(scale) or 1.0,)), (0,))
    for _ in range(LOOKS):
        counts = np.zeros(int(cells.widths.sum()))
        for node in range(nodes):
            codes = codes_of(column[node::nodes, None], cells)[0]
            counts += np.bincount(codes, minlength=counts.size)
        finer = split_full(cells, counts, bins)
        if finer is None:
            break
        found, cells = cells, finer
    else:
        cells = found if counts.size == found.widths.sum() else cells
    return edges_of(cells, counts, bins, (0,)).values


def shares(column: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """How the values fall into bins."""
    codes = codes_of(column[:, None], Ragged(edges, np.array([edges.size])))[0]
    return np.bincount(codes[~np.isnan(column)], minlength=edges.size + 1) / np.isfinite(column).sum()


RNG = np.random.default_rng(5)
CONTINUOUS = {
    "normal": RNG.normal(size=4000),
    "far from zero and close together": 1e12 + RNG.normal(size=4000),
    "all magnitudes": np.exp(60 * RNG.normal(size=4000)),
    "beside a huge one": np.append(RNG.normal(size=4000), 1e280),
    "skewed": RNG.lognormal(0, 3, 4000),
    "with missing values": np.where(RNG.random(4000) < 0.3, NAN, RNG.uniform(size=4000)),
}


@pytest.mark.parametrize("kind", CONTINUOUS)
def test_bins_hold_about_as_many_values_each(kind: str) -> None:
    column = CONTINUOUS[kind]
    edges = find_edges(column, 16)
    assert np.all(np.diff(edges) > 0)
    assert edges.size == 15
    found = shares(column, edges)
    assert found.min() > 0.5 / 16
    assert found.max() < 1.6 / 16


@pytest.mark.parametrize(
    "values",
    [
        [0.0, 1.0],
        [-1.0, 0.0, 1e-5],
        [1e9, 1e9 + 1, 1e9 + 2],
        [-1e200, 0, 3, 1e200],
        list(range(15)),
        [5e-324, 1.0],
    ],
    ids=str,
)
def test_few_distinct_values_have_an_edge_between_each_two(values: list[float]) -> None:
    column = RNG.choice(np.array(values, dtype=float), 500)
    edges = find_edges(column, 16)
    assert edges.size == len(values) - 1
    ordered = np.sort(values)
    assert np.all((ordered[:-1] <= edges) & (edges < ordered[1:]))


def test_a_value_that_most_rows_have_stands_in_a_bin_of_its_own() -> None:
    column = np.where(RNG.random(4000) < 0.7, 0.0, RNG.normal(size=4000))
    edges = find_edges(column, 16)
    found = shares(column, edges)
    (largest,) = np.flatnonzero(np.isclose(found, 0.7, atol=0.05))
    # The others share the bins that it leaves.
    rest = np.delete(found, largest)
    assert rest.size >= 13
    assert rest.max() < 0.3 / 10


def test_one_value_and_none_have_no_edge() -> None:
    assert find_edges(np.full(50, 7.25), 16).size == 0
    assert find_edges(np.array([NAN] * 40 + [1.0] * 9), 16).size == 0


@pytest.mark.parametrize("kind", CONTINUOUS)
def test_the_edges_are_the_same_over_several_nodes(kind: str) -> None:
    whole = find_edges(CONTINUOUS[kind], 32)
    for nodes in (2, 7):
        np.testing.assert_array_equal(find_edges(CONTINUOUS[kind], 32, nodes), whole)


def test_the_levels_of_a_category_have_a_bin_each_and_are_not_counted_closer() -> None:
    cells = first_cells(Scaling((1.5, 0.0), (1.0, 1.0)), (4, 0))
    assert cells.counts[0] == 0
    counts = np.ones(int(cells.widths.sum())) * 100
    finer = split_full(cells, counts, 8)
    assert finer is None or finer.counts[0] == 0
    edges = edges_of(cells, counts, 8, (4, 0))
    assert edges.parts()[0].tolist() == [0.5, 1.5, 2.5]
    assert codes_of(np.array([[0.0, 1], [3.0, 1], [NAN, 1]]), edges)[0].tolist() == [0, 3, 4]


def test_a_value_that_is_an_edge_lies_below_it() -> None:
    codes = codes_of(
        np.array([[1.0], [1.5], [2.0], [-np.inf], [np.inf], [NAN]]), Ragged.of([np.array([1.0, 2.0])])
    )
    assert codes[0].tolist() == [0, 1, 1, 0, 2, 3]
