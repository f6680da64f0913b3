"""Trees as flat arrays: how they travel in a state, and how they grow.

What always holds: a tree node comes before its children, which lie side by side, the left one first; so a
`Trees` that `read` gave has no loops, every node of it belongs to one tree, and no row's way is longer than
`bounds.DEPTH` allows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heliosdb.domain import bounds
from heliosdb.domain.errors import invalid_value
from heliosdb.domain.state import State
from heliosdb.domain.vector import Matrix, Vector
from heliosdb.scoring.ways import Ways

LEAF, OPEN = -1, -2
"""Of `feature`: the node is a leaf; it is to be split, or to become one."""

Numbers = NDArray[np.int64]
Flags = NDArray[np.bool_]

_ARRAYS = {
    "tree": np.int32,
    "feature": np.int32,
    "split": np.int32,
    "left": np.int32,
    "missing_left": np.uint8,
    "values": np.float64,
    "subsets": np.uint8,
}
"""The arrays of a state that are its trees', and their types."""

NAMES = tuple(_ARRAYS)

COVER = "cover"
"""The array of a state that says how many rows, or draws of them, went to each node."""

LARGEST_VALUE = 1e9
"""Of what a leaf says."""


@dataclass(frozen=True, slots=True)
class Trees:
    """n nodes of all trees, whose values are of `outputs` numbers.

    tree: which one, (n,). feature: the input that is split, or LEAF or OPEN, (n,). split: the last bin that
    goes left; of a category, the row of `subsets` (s, bytes) whose bits are the bins that do, (n,). left: the
    first child, 0 for none, (n,). missing_left: whether missing values go left, (n,). values: what a leaf
    says, (n, outputs). cover: what went to each child by the sums of the node above, 0 where that is not
    known, as for a root, (n,); the coordinator alone has it.
    """

    tree: NDArray[Any]
    feature: NDArray[Any]
    split: NDArray[Any]
    left: NDArray[Any]
    missing_left: NDArray[Any]
    values: Matrix
    subsets: NDArray[Any]
    cover: NDArray[np.float64]

    @classmethod
    def empty(cls, outputs: int, widest: int) -> Trees:
        """Return no trees. widest: bins of the category with the most, 0 where there is none."""
        none = np.zeros(0, dtype=np.int32)
        values, flags = np.zeros((0, outputs)), np.zeros(0, dtype=np.uint8)
        subsets = np.zeros((0, -(-widest // 8)), dtype=np.uint8)
        return cls(none, none, none, none, flags, values, subsets, np.zeros(0))

    @classmethod
    def read(cls, state: State, outputs: int, widths: Numbers, categories: Flags) -> Trees:
        """Read the trees of a state; FederatedError INVALID_VALUE for what are none.

        widths: bins of each input, with that of missing values. categories: which inputs are some.
        """
        arrays = {name: state.get(name) for name in NAMES}
        for name, array in arrays.items():
            if array is None or array.dtype != _ARRAYS[name]:
                raise _none()
        tree = arrays["tree"]
        assert tree is not None
        # Nodes are told of none, and a run from before they were kept has none.
        cover = state.get(COVER, np.zeros(tree.shape))
        if cover.dtype != np.float64 or np.any((cover < 0.0) | (cover >= 2.0**53)):
            raise _none()
        found = cls(**arrays, cover=cover)  # type: ignore[arg-type]
        found._check_shapes(outputs, widths, categories)
        found._check_splits(widths, categories)
        found._check_ways()
        return found

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays of a state, without `cover`."""
        return {name: getattr(self, name).astype(kind) for name, kind in _ARRAYS.items()}

    @property
    def count(self) -> int:
        """How many trees there are."""
        return int(self.tree.max(initial=-1)) + 1

    @property
    def size(self) -> int:
        """How many nodes there are."""
        return int(self.tree.size)

    def open_nodes(self) -> Numbers:
        """Return the nodes that are to be split, the first ones first."""
        return np.flatnonzero(self.feature == OPEN)

    def roots(self) -> Numbers:
        """Return the first node of each tree, (trees,)."""
        return np.unique(self.tree, return_index=True)[1].astype(np.int64)

    def depths(self) -> Numbers:
        """Return how far each node lies below its root."""
        depths = np.zeros(self.size, dtype=np.int64)
        level, depth = self.roots(), 0
        while level.size:
            depths[level] = depth
            level, depth = self.children(level), depth + 1
        return depths

    def children(self, nodes: Numbers) -> Numbers:
        """Return the children of such nodes as have some, side by side."""
        left = self.left[nodes[self.feature[nodes] >= 0]].astype(np.int64)
        return np.stack([left, left + 1], axis=1).ravel()

    def ways(self, widths: Numbers, categories: Flags) -> Ways:
        """Return where rows go. widths: bins of each input. categories: which inputs are some."""
        return Ways(self.to_arrays(), widths, categories)

    def leaves_of_largest(self) -> int:
        """Return how many leaves the tree with the most of them has; open nodes count as leaves."""
        ends = np.bincount(self.tree[self.feature < 0])
        return int(ends.max(initial=0))

    def part(self, first: int, last: int) -> Trees:
        """Return the trees from `first` up to, and without, `last`, which are numbered from 0 again."""
        kept = np.flatnonzero((self.tree >= first) & (self.tree < last))
        moved = np.zeros(self.size, dtype=np.int32)
        moved[kept] = np.arange(kept.size)
        left = np.where(self.feature[kept] >= 0, moved[self.left[kept]], 0)
        return Trees(
            self.tree[kept] - first,
            self.feature[kept],
            self.split[kept],
            left,
            self.missing_left[kept],
            self.values[kept],
            self.subsets,
            self.cover[kept],
        )

    def with_roots(self, count: int, feature: int = OPEN) -> Trees:
        """Return the trees with so many more, each a single node that is open."""
        numbers = self.count + np.arange(count)
        values = np.zeros((count, self.values.shape[1]))
        return self._appended(numbers, np.full(count, feature), values, np.zeros(count))

    def _appended(self, tree: Numbers, feature: Numbers, values: Matrix, cover: Vector) -> Trees:
        none = np.zeros(tree.size, dtype=np.int32)
        return replace(
            self,
            tree=np.concatenate([self.tree, tree.astype(np.int32)]),
            feature=np.concatenate([self.feature, feature.astype(np.int32)]),
            split=np.concatenate([self.split, none]),
            left=np.concatenate([self.left, none]),
            missing_left=np.concatenate([self.missing_left, none.astype(np.uint8)]),
            values=np.concatenate([self.values, values]),
            cover=np.concatenate([self.cover, cover]),
        )

    def closed(self, nodes: Numbers) -> Trees:
        """Return the trees with these nodes as leaves."""
        feature = self.feature.copy()
        feature[nodes] = LEAF
        return replace(self, feature=feature)

    def with_values(self, nodes: Numbers, values: Matrix) -> Trees:
        """Return the trees with other values of these nodes."""
        changed = self.values.copy()
        changed[nodes] = values
        return replace(self, values=changed)

    def grown(self, nodes: Numbers, found: Splits) -> Trees:
        """Return the trees with these nodes split, each into two more at the end."""
        count = nodes.size
        tree = np.repeat(self.tree[nodes], 2)
        feature = np.where(found.opens.ravel(), OPEN, LEAF)
        values = found.values.reshape(2 * count, self.values.shape[1])
        more = self._appended(tree, feature, values, found.cover.ravel())
        more.feature[nodes], more.missing_left[nodes] = found.feature, found.missing_left
        more.split[nodes] = found.split
        more.left[nodes] = self.size + 2 * np.arange(count)
        chosen = found.is_category
        more.split[nodes[chosen]] = len(self.subsets) + np.arange(int(chosen.sum()))
        return replace(more, subsets=np.concatenate([self.subsets, found.subsets[chosen]]))

    def _check_shapes(self, outputs: int, widths: Numbers, categories: Flags) -> None:
        n, widest = self.size, int(widths[categories].max(initial=0))
        flat = (self.tree, self.feature, self.split, self.left, self.missing_left, self.cover)
        fits = all(array.shape == (n,) for array in flat) and self.values.shape == (n, outputs)
        splits = int(categories[self.feature[self.feature >= 0]].sum()) if self._inputs_fit(widths) else -1
        if not fits or self.subsets.shape != (splits, -(-widest // 8)):
            raise _none()
        if n and (np.abs(self.values).max(initial=0.0) > LARGEST_VALUE or self.tree.max() >= n):
            raise _none()

    def _inputs_fit(self, widths: Numbers) -> bool:
        return bool(np.all((self.feature >= OPEN) & (self.feature < widths.size)))

    def _check_splits(self, widths: Numbers, categories: Flags) -> None:
        inner = np.flatnonzero(self.feature >= 0)
        feature, split = self.feature[inner], self.split[inner].astype(np.int64)
        # A number is split at one of its edges: beyond the last one nothing lies but what is missing.
        most = np.where(categories[feature], len(self.subsets), widths[feature] - 2)
        used = np.sort(split[categories[feature]])
        if np.any((split < 0) | (split >= most)) or not np.array_equal(used, np.arange(len(self.subsets))):
            raise _none()
        rest = np.delete(self.split, inner).any() or np.delete(self.missing_left, inner).any()
        if rest or np.delete(self.left, inner).any() or np.any(self.missing_left > 1):
            raise _none()

    def _check_ways(self) -> None:
        """Every node is reached once, from the first node of its own tree, in no more steps than allowed."""
        inner = np.flatnonzero(self.feature >= 0)
        left = self.left[inner].astype(np.int64)
        if np.any((left <= inner) | (left + 1 >= self.size)):
            raise _none()
        if np.any(self.tree[left] != self.tree[inner]) or np.any(self.tree[left + 1] != self.tree[inner]):
            raise _none()
        roots = self.roots()
        if self.size and not np.array_equal(self.tree[roots], np.arange(roots.size)):
            raise _none()
        reached = np.concatenate([roots, left, left + 1])
        if reached.size != self.size or np.unique(reached).size != self.size:
            raise _none()
        level = roots
        for _ in range(int(bounds.DEPTH.most) + 1):
            level = self.children(level)
        if level.size:
            raise _none()


@dataclass(frozen=True, slots=True)
class Splits:
    """How k nodes are split. values: of the children, (k, 2, outputs). opens: which of them are to be split
    further, (k, 2). subsets: of those whose input is a category, (k, bytes), else zeros. cover: of the
    children, (k, 2)."""

    feature: Numbers
    split: Numbers
    missing_left: Flags
    is_category: Flags
    subsets: NDArray[np.uint8]
    values: NDArray[np.float64]
    opens: Flags
    cover: NDArray[np.float64]


def _none() -> Exception:
    return invalid_value("the task's trees are none")
