"""Trees as ONNX nodes that each runtime has: all rows go down all trees at once, a level at a time.

What always holds: a row ends at the leaf that `scoring.trees` finds, to the bit, also where its numbers
differ from an edge by less than a float32 could tell (the operators for trees of ai.onnx.ml before version 5
give float32).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.state import State
from heliosdb.exchange.onnx_nodes import Nodes
from heliosdb.exchange.portable import Portable

MOST_TABLE: Final = 2**26
"""Entries of the table that says which way a bin goes."""

Numbers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Table:
    """goes_left: of each node its bins, 1 for left, and of leaves always 1. start: of each node, its place
    there; a leaf's children are itself. depth: steps that the longest way takes."""

    goes_left: NDArray[np.uint8]
    start: Numbers
    feature: Numbers
    left: Numbers
    roots: Numbers
    depth: int


def add_trees(nodes: Nodes, model: Portable, inputs: str) -> str:
    """Return boosting's scores, or the means of a forest's leaves; (rows, outputs)."""
    trees = model.arrays
    table = _make_table(trees)
    leaves = _leaves(nodes, table, _bins(nodes, trees, inputs))
    count = int(table.roots.size)
    if not model.content["boosts"]:
        values = nodes.add("Gather", nodes.constant(trees["values"]), leaves, axis=0)
        return nodes.add("Div", nodes.sum_of_rows(values), nodes.constant(float(count)))
    base = np.asarray(trees["base"], dtype=np.float64)
    values = nodes.add("Gather", nodes.constant(trees["values"][:, 0]), leaves, axis=0)
    shape = nodes.constant([0, -1, base.size], np.int64)
    by_score = nodes.add("Reshape", values, shape)
    return nodes.add("Add", nodes.sum_of_rows(by_score), nodes.constant([base]))


def _bins(nodes: Nodes, trees: State, inputs: str) -> str:
    """The bin of each input, (rows, inputs): how many edges lie below it; the last for what is missing."""
    counts = np.asarray(trees["n_edges"], dtype=np.int64)
    widest = max(1, int(counts.max(initial=0)))
    edges = np.full((counts.size, widest), math.inf)
    for place, part in enumerate(np.split(trees["edges"], np.cumsum(counts)[:-1])):
        edges[place, : part.size] = part
    wide = nodes.add("Unsqueeze", inputs, nodes.constant([2], np.int64))
    above = nodes.add("Cast", nodes.add("Greater", wide, nodes.constant([edges])), to=TensorProto.INT64)
    below = nodes.sum_of_rows(above, axis=2)
    return nodes.add("Where", nodes.add("IsNaN", inputs), nodes.constant([counts + 1], np.int64), below)


def _leaves(nodes: Nodes, table: _Table, bins: str) -> str:
    """The leaf of each row in each tree, (rows, trees)."""
    first = nodes.add("Slice", bins, *(nodes.constant([at], np.int64) for at in (0, 1, 1)))
    nothing = nodes.add("Mul", first, nodes.constant(0, np.int64))
    here = nodes.add("Add", nothing, nodes.constant([table.roots], np.int64))
    goes_left = nodes.constant(table.goes_left, np.uint8)
    for _ in range(table.depth):
        feature, start, left = (
            nodes.add("Gather", nodes.constant(part, np.int64), here)
            for part in (table.feature, table.start, table.left)
        )
        place = nodes.add("Add", start, nodes.add("GatherElements", bins, feature, axis=1))
        way = nodes.add("Cast", nodes.add("Gather", goes_left, place), to=TensorProto.INT64)
        right = nodes.add("Sub", nodes.constant(1, np.int64), way)
        here = nodes.add("Add", left, right)
    return here


def _make_table(trees: State) -> _Table:
    feature = trees["feature"].astype(np.int64)
    inner = feature >= 0
    counts = np.asarray(trees["n_edges"], dtype=np.int64)
    widths = counts + 2
    widest = int(widths.max(initial=2))
    sizes = np.where(inner, widths[np.maximum(feature, 0)], 0)
    start = np.where(inner, widest + np.cumsum(sizes) - sizes, 0)
    total = widest + int(sizes.sum())
    if total > MOST_TABLE:
        raise FederatedError(
            ErrorCode.PROGRAM_LIMIT, "the trees are too large to be exported as ONNX",
            detail=f"Their nodes have {total} bins, and at most {MOST_TABLE} are written.",
        )  # fmt: skip
    goes_left = np.zeros(total, dtype=np.uint8)
    goes_left[:widest] = 1
    subsets = np.unpackbits(trees["subsets"], axis=1)
    for node in np.flatnonzero(inner):
        at, width = int(start[node]), int(sizes[node])
        split, levels = int(trees["split"][node]), int(trees["levels"][feature[node]])
        if levels:
            goes_left[at : at + levels] = subsets[split, :levels]
        else:
            goes_left[at : at + split + 1] = 1
        goes_left[at + width - 1] = trees["missing_left"][node]
    left = np.where(inner, trees["left"].astype(np.int64), np.arange(feature.size))
    roots = np.unique(trees["tree"], return_index=True)[1].astype(np.int64)
    return _Table(goes_left, start, np.maximum(feature, 0), left, roots, _depth(inner, left, roots))


def _depth(inner: NDArray[np.bool_], left: Numbers, roots: Numbers) -> int:
    steps, level = 0, roots
    while (level := level[inner[level]]).size:
        level = np.concatenate([left[level], left[level] + 1])
        steps += 1
    return steps
