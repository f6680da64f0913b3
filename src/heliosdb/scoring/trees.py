"""Predictions of trees: the mean of a forest's leaves, or the sum of boosting's.

What always holds: a row's prediction is the same, to the bit, whatever rows are scored beside it; it is
finite; what rows take in memory is bounded, however many they are and whatever the trees.

A few rows go down all trees at once, a level at a time, each by its own bins (`Ways`). Many rows go as bits:
one bit a row, 64 of them in a word. That both ways lead to one leaf holds for the trees that
`algorithms.trees` and `soundness` let pass: where a row's score has to be its own whatever a coordinate of
these trees is, under a privacy budget, every row goes by its bins, however many there are.

Of bits: each different condition of the trees is a row of such words, and where the rows of a block are at a
node is another: that of its left child is the bitwise and with the condition, and of its right one the rest.
So a node costs a few operations for 64 rows, where a row by itself would have to find its way (after Lucchese
et al. 2015, "QuickScorer", whose bits are the leaves of a tree; here they are rows).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heliosdb.domain.state import State
from heliosdb.scoring.kinds import Rows, Scored
from heliosdb.scoring.linear import softmax
from heliosdb.scoring.ways import Ways, bins_of

FEW = 96
"""Rows that are quicker to send down the trees than to turn into bits."""

BLOCK = 4096
"""Rows of a block at most: a multiple of 64."""

_MOST_BINS = 2**22
"""Of a block's rows, one of each input: 32 MiB."""

_MOST_BITS = 2**29
"""Of a block's rows, one of each condition: 64 MiB."""

_FEWEST_AS_BITS = 512
"""Rows of a block as bits at least: trees of so many conditions that fewer have room have rows go by bins."""

_CONDITIONS_AT_ONCE = 2048
"""Of one input, whose bits are a byte each before they are packed."""

_DEEPEST = 8
"""Levels that a leaf's number, one byte, can tell apart."""

_TREES_AT_ONCE = 8
"""So that what is worked on stays in a processor's cache."""

Bits = NDArray[np.uint8]
Numbers = NDArray[np.int64]


def score(content: Mapping[str, Any], arrays: State, inputs: Rows) -> NDArray[np.float64]:
    """Score rows; (n,), with link softmax (n, classes).

    content: link; boosts; target_mean and target_scale of a number. arrays: see `Ways`, and `edges`,
    `n_edges`, `levels` (of an input that is a category, how many, else 0), `tree` (of each node), `values` of
    leaves, (nodes, outputs), and with boosting `base`, the scores to begin with.
    """
    return prepare(content, arrays)(inputs)


def prepare(content: Mapping[str, Any], arrays: State) -> Scored:
    """Return what scores rows, with the tables that they are looked up in made once."""
    return partial(_score, content, Prepared(arrays))


def _score(content: Mapping[str, Any], found: Prepared, inputs: Rows) -> NDArray[np.float64]:
    outputs = add_up(found, inputs, boosts=content["boosts"])
    match content["link"]:
        case "identity":
            return np.asarray(content["target_mean"] + content["target_scale"] * outputs[:, 0])
        case "logistic" if content["boosts"]:
            return 0.5 + 0.5 * np.tanh(0.5 * outputs[:, 0])
        case "softmax" if content["boosts"]:
            return softmax(outputs)
        case "softmax":
            return np.column_stack([1.0 - outputs.sum(axis=1), outputs])
        case _:
            return np.ascontiguousarray(outputs[:, 0])


def add_up(found: Prepared, inputs: Rows, *, boosts: bool) -> NDArray[np.float64]:
    """Return boosting's scores, (n, scores), or the mean of a forest's leaves, (n, outputs)."""
    values = found.arrays["values"]
    if boosts:
        total = np.repeat(found.arrays["base"][None].astype(np.float64), len(inputs), axis=0)
        for rows, tree, leaves in found.leaves(inputs):
            total[rows, tree % total.shape[1]] += values[leaves, 0]
        return total
    total = np.zeros((len(inputs), values.shape[1]))
    for rows, _, leaves in found.leaves(inputs):
        total[rows] += values[leaves]
    return total / max(1, found.count)


class Prepared:
    """Trees as they are scored. count: how many.

    one_way: whether all rows go by their bins, however many there are.
    """

    def __init__(self, arrays: State, *, one_way: bool = False) -> None:
        self.arrays = arrays
        self._edges, self._counts = arrays["edges"], arrays["n_edges"].astype(np.int64)
        self._categories = arrays["levels"] > 0
        self._ways = Ways(arrays, self._counts + 2, self._categories)
        self._roots = np.unique(arrays["tree"], return_index=True)[1]
        self.count = int(self._roots.size)
        self._one_way = one_way
        self._planes: list[_Planes] | None = None
        self._conditions: _Conditions | None = None

    def leaves(self, inputs: Rows) -> Iterator[tuple[slice, int, Numbers]]:
        """Yield for a block of rows, and each tree in its order, the leaf of each row."""
        as_bits = not self._one_way and len(inputs) > FEW and self._go_as_bits()
        found = self._by_bits if as_bits else self._by_bins
        size = self._rows_as_bits() if as_bits else max(1, min(BLOCK, _MOST_BINS // max(1, inputs.shape[1])))
        for start in range(0, len(inputs), size):
            rows = slice(start, min(start + size, len(inputs)))
            for tree, leaves in enumerate(found(inputs[rows])):
                yield rows, tree, leaves

    def _by_bits(self, block: Rows) -> Iterator[Numbers]:
        assert self._conditions is not None
        assert self._planes is not None
        met = self._conditions.met(block)
        for planes in self._planes:
            yield from planes.leaves(met, len(block))

    def _by_bins(self, block: Rows) -> Iterator[Numbers]:
        bins = bins_of(block, self._edges, self._counts)
        step = max(1, BLOCK // max(1, len(block)))
        for first in range(0, self.count, step):
            yield from self._ways.follow_all(bins, self._roots[first : first + step])

    def _rows_as_bits(self) -> int:
        """Return how many rows a block has, a multiple of 64."""
        assert self._conditions is not None
        return min(BLOCK, _MOST_BITS // max(1, self._conditions.count) // 64 * 64)

    def _go_as_bits(self) -> bool:
        """Whether rows can go as bits, for which what that takes is made ready."""
        if self._planes is None:
            self._planes = []
            levels = [_levels(self.arrays, part) for part in self._parts()]
            conditions = _Conditions(self.arrays, self._categories)
            is_shallow = all(len(one) <= _DEEPEST + 1 for one in levels)
            if is_shallow and conditions.count * _FEWEST_AS_BITS <= _MOST_BITS:
                self._conditions = conditions
                self._planes = [_Planes(self.arrays, one, conditions.numbers) for one in levels]
        return bool(self._planes)

    def _parts(self) -> list[Numbers]:
        return [self._roots[at : at + _TREES_AT_ONCE] for at in range(0, self.count, _TREES_AT_ONCE)]


def _levels(arrays: State, roots: Numbers) -> list[Numbers]:
    """Return the nodes of some trees by level; children in the order of their parents."""
    level, found = roots.astype(np.int64), []
    while level.size:
        found.append(level)
        left = arrays["left"][level[arrays["feature"][level] >= 0]].astype(np.int64)
        level = np.stack([left, left + 1], axis=1).ravel()
    return found


class _Conditions:
    """The different conditions of trees. count: how many. numbers: of each node its condition's, (nodes,),
    of a leaf nothing that holds."""

    def __init__(self, arrays: State, categories: NDArray[np.bool_]) -> None:
        inner = np.flatnonzero(arrays["feature"] >= 0)
        names = ("feature", "split", "missing_left")
        about = np.stack([arrays[name][inner].astype(np.int64) for name in names], axis=1)
        found, numbers = np.unique(about, axis=0, return_inverse=True)
        self.count = len(found)
        self.numbers: Numbers = np.zeros(arrays["feature"].size, dtype=np.int64)
        self.numbers[inner] = numbers.ravel()
        starts = np.cumsum(arrays["n_edges"]) - arrays["n_edges"]
        self._parts: list[tuple[int, Numbers, NDArray[np.bool_], NDArray[Any], int]] = []
        for place in np.unique(found[:, 0]):
            ranked = np.flatnonzero(found[:, 0] == place)
            levels = int(arrays["levels"][place])
            for first in range(0, ranked.size, _CONDITIONS_AT_ONCE):
                own = ranked[first : first + _CONDITIONS_AT_ONCE]
                split, missing_left = found[own, 1], found[own, 2] > 0
                by = (
                    arrays["subsets"][split]
                    if categories[place]
                    else _column(arrays["edges"], starts[place] + split)
                )
                self._parts.append((int(place), own, missing_left, by, levels))

    def met(self, block: Rows) -> Bits:
        """Return where each condition is met: a bit a row, in whole words; (conditions, bytes)."""
        padded = -(-len(block) // 64) * 8
        out = np.zeros((self.count, padded), dtype=np.uint8)
        for place, own, missing_left, by, levels in self._parts:
            column = np.ascontiguousarray(block[:, place])
            missing = np.isnan(column)
            met = _has_level(by, column, missing, levels) if levels else column <= by
            met[missing_left] |= missing
            packed = np.packbits(met, axis=1)
            out[own, : packed.shape[1]] = packed
        return out


def _column(array: NDArray[Any], places: Numbers) -> NDArray[Any]:
    return array[places][:, None]


def _has_level(
    subsets: NDArray[np.uint8], column: NDArray[np.float64], missing: NDArray[np.bool_], levels: int
) -> NDArray[np.bool_]:
    """Say in which subsets a row's level is, (conditions, n): of what is missing, in none."""
    level = np.where(missing, 0.0, np.clip(np.ceil(column - 0.5), 0, levels - 1)).astype(np.int64)
    bit = np.right_shift(np.uint8(128), (level % 8).astype(np.uint8))
    found: NDArray[np.bool_] = (subsets[:, level // 8] & bit) > 0
    found &= ~missing
    return found


class _Planes:
    """Some trees of no more than eight levels, as rows of bits go through them."""

    def __init__(self, arrays: State, levels: list[Numbers], conditions: Numbers) -> None:
        self._count = levels[0].size
        tree = {int(number): place for place, number in enumerate(arrays["tree"][levels[0]])}
        self._steps: list[tuple[Numbers | None, Numbers, Numbers, Numbers]] = []
        for level in levels[:-1]:
            inner = np.flatnonzero(arrays["feature"][level] >= 0)
            owners = np.array([tree[int(number)] for number in arrays["tree"][level[inner]]], dtype=np.int64)
            present, starts = np.unique(owners, return_index=True)
            chosen = None if inner.size == level.size else inner
            self._steps.append((chosen, conditions[level[inner]], present, starts.astype(np.int64)))
        self._leaf_of = self._number(arrays, levels, tree)

    def _number(self, arrays: State, levels: list[Numbers], tree: dict[int, int]) -> Numbers:
        """Return the leaf of each way down: its bits, right as 1, from the first level on; (trees, 256)."""
        leaf_of = np.zeros((self._count, 1 << _DEEPEST), dtype=np.int64)
        ways = np.zeros(self._count, dtype=np.int64)
        for depth, level in enumerate(levels):
            ends = arrays["feature"][level] < 0
            owners = [tree[int(number)] for number in arrays["tree"][level[ends]]]
            leaf_of[owners, ways[ends]] = level[ends]
            below = ways[~ends]
            ways = np.stack([below, below | (1 << max(0, _DEEPEST - 1 - depth))], axis=1).ravel()
        return leaf_of

    def leaves(self, met: Bits, count: int) -> Iterator[Numbers]:
        """Yield each tree's leaf of each row. met: of all conditions."""
        words = met.view(np.uint64)
        here = np.full((self._count, words.shape[1]), np.iinfo(np.uint64).max, dtype=np.uint64)
        way = np.zeros((self._count, words.shape[1] * 64), dtype=np.uint8)
        for depth, (chosen, conditions, present, starts) in enumerate(self._steps):
            inner = here if chosen is None else here[chosen]
            below = np.empty((len(inner), 2, words.shape[1]), dtype=np.uint64)
            np.bitwise_and(inner, words[conditions], out=below[:, 0])
            np.bitwise_xor(inner, below[:, 0], out=below[:, 1])
            goes_right = np.bitwise_or.reduceat(below[:, 1], starts, axis=0)
            bit = np.unpackbits(goes_right.view(np.uint8), axis=1)
            np.left_shift(bit, _DEEPEST - 1 - depth, out=bit)
            if present.size == self._count:
                way |= bit
            else:
                way[present] |= bit
            here = below.reshape(-1, words.shape[1])
        for leaf_of, row in zip(self._leaf_of, way, strict=True):
            yield leaf_of[row[:count]]
