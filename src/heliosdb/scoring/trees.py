"""Predictions of trees: the mean of a forest's leaves, or the sum of boosting's.

What always holds: a row's prediction is the same, to the bit, whatever rows are scored beside it and by
whichever of the two ways below; it is finite for every row.

A few rows go down all trees at once, a level at a time. Many rows go as bits: one bit a row, 64 of them in a
word. Each different condition of the trees is a row of such words, and where the rows of a block are at a
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
"""Rows of a block: a multiple of 64."""

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
    """Trees as they are scored. count: how many."""

    def __init__(self, arrays: State) -> None:
        self.arrays = arrays
        self._edges, self._counts = arrays["edges"], arrays["n_edges"].astype(np.int64)
        self._categories = arrays["levels"] > 0
        self._ways = Ways(arrays, self._counts + 2, self._categories)
        self._roots = np.unique(arrays["tree"], return_index=True)[1]
        self.count = int(self._roots.size)
        self._planes: list[_Planes] | None = None
        self._conditions: _Conditions | None = None

    def leaves(self, inputs: Rows) -> Iterator[tuple[slice, int, Numbers]]:
        """Yield for a block of rows, and each tree in its order, the leaf of each row."""
        for start in range(0, len(inputs), BLOCK):
            rows = slice(start, min(start + BLOCK, len(inputs)))
            for tree, leaves in enumerate(self._leaves(inputs[rows])):
                yield rows, tree, leaves

    def _leaves(self, block: Rows) -> Iterator[Numbers]:
        if len(block) > FEW and self._are_shallow():
            assert self._conditions is not None
            assert self._planes is not None
            met = self._conditions.met(block)
            for planes in self._planes:
                yield from planes.leaves(met, len(block))
            return
        bins = bins_of(block, self._edges, self._counts)
        step = max(1, BLOCK // max(1, len(block)))
        for first in range(0, self.count, step):
            yield from self._ways.follow_all(bins, self._roots[first : first + step])

    def _are_shallow(self) -> bool:
        """Whether rows can go as bits, for which what that takes is made ready."""
        if self._planes is None:
            levels = [_levels(self.arrays, part) for part in self._parts()]
            if any(len(one) > _DEEPEST + 1 for one in levels):
                self._planes = []
            else:
                self._conditions = _Conditions(self.arrays, self._categories)
                self._planes = [_Planes(self.arrays, one, self._conditions.numbers) for one in levels]
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
    """The different conditions of trees. numbers: of each node its condition's, (nodes,)."""

    def __init__(self, arrays: State, categories: NDArray[np.bool_]) -> None:
        feature = np.maximum(arrays["feature"].astype(np.int64), 0)
        split = arrays["split"].astype(np.int64)
        about = np.stack([feature, split, arrays["missing_left"].astype(np.int64)], axis=1)
        about[arrays["feature"] < 0] = 0
        found, numbers = np.unique(about, axis=0, return_inverse=True)
        self.numbers: Numbers = numbers.ravel().astype(np.int64)
        starts = np.cumsum(arrays["n_edges"]) - arrays["n_edges"]
        self._count = len(found)
        self._by_input: list[tuple[int, Numbers, NDArray[np.bool_], NDArray[Any], int]] = []
        for place in np.unique(found[:, 0]):
            own = np.flatnonzero(found[:, 0] == place)
            missing_left = found[own, 2] > 0
            if categories[place]:
                # A leaf counts as a split of input 0, by which no row goes: also where nothing splits it.
                rows = _or_one(arrays["subsets"])
                subsets = np.unpackbits(rows, axis=1).astype(np.bool_)
                table: NDArray[Any] = subsets[np.minimum(found[own, 1], len(subsets) - 1)]
            else:
                last = max(0, int(arrays["n_edges"][place]) - 1)
                edges = _or_one(arrays["edges"])[starts[place] + np.minimum(found[own, 1], last)]
                table = edges[:, None]
            levels = int(arrays["levels"][place])
            self._by_input.append((int(place), own, missing_left, table, levels))

    def met(self, block: Rows) -> Bits:
        """Return where each condition is met: a bit a row, in whole words; (conditions, bytes)."""
        padded = -(-len(block) // 64) * 8
        out = np.zeros((self._count, padded), dtype=np.uint8)
        for place, own, missing_left, table, levels in self._by_input:
            column = np.ascontiguousarray(block[:, place])
            missing = np.isnan(column)
            if levels:
                level = np.where(missing, 0.0, np.clip(np.ceil(column - 0.5), 0, levels - 1))
                met = table[:, level.astype(np.int64)] & ~missing
            else:
                met = column <= table
            met[missing_left] |= missing
            packed = np.packbits(met, axis=1)
            out[own, : packed.shape[1]] = packed
        return out


def _or_one(array: NDArray[Any]) -> NDArray[Any]:
    """Return an array with a first entry of zeros where it has none."""
    return array if len(array) else np.zeros((1, *array.shape[1:]), dtype=array.dtype)


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
