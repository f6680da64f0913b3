"""Shapley values of trees, exact, where a feature that is not known goes both ways.

What always holds: a way that nothing is known about is taken by the share of training rows that took it
(path-dependent, as Lundberg, Erion and Lee 2018, "Consistent individualized feature attribution for tree
ensembles", and the shap package by default); several inputs of one feature are one player.

A leaf's part in the game is its value times, of each player on its way, 1 or 0 where the player is known (the
row goes there or does not) and a share where it is not. A player's Shapley value is the integral over t in
[0, 1] of what it adds where every other player is known with probability t (Owen 1972). Of a leaf that is a
polynomial of no higher degree than there are other players, which Gauss and Legendre's rule integrates
exactly. So all leaves of all trees are reckoned at once, and without a division.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.state import State
from heliosdb.scoring.kinds import Rows
from heliosdb.scoring.players import Players
from heliosdb.scoring.ways import Ways, bins_of

Matrix = NDArray[np.float64]
Numbers = NDArray[np.int64]
Flags = NDArray[np.bool_]

_NUMBERS_AT_ONCE = 2**21

MOST_STEPS = 2**24
"""Nodes times the steps of the longest way: what is kept of the ways is as many numbers of each kind."""


def prepare(
    content: Mapping[str, Any], arrays: State, players: Players
) -> tuple[Callable[[Rows], tuple[Matrix, Matrix]], int]:
    """Return what gives rows, (n, inputs), the base values, (outputs,), and contributions, (n, outputs,
    features); and how many numbers it reckons for each row.

    content, arrays: as `trees.score` reads them, and `cover`, (nodes,): how many training rows, or draws of
    them, went to each node by the sums of the node above.
    """
    ways, leaves = _Row(arrays), _Leaves(content, arrays, players)
    link, boosts = content["link"], content["boosts"]

    def explain(inputs: Rows) -> tuple[Matrix, Matrix]:
        base = leaves.base
        found = np.array([leaves.explain(ways.goes_left(row)) for row in inputs]).reshape(
            len(inputs), leaves.outputs, -1
        )
        if link == "identity":
            scale = content["target_scale"]
            return content["target_mean"] + scale * base, scale * found
        if link == "softmax" and not boosts:
            # A leaf has the shares of all classes but the first.
            first = -found.sum(axis=1, keepdims=True)
            return np.append(1.0 - base.sum(), base), np.concatenate([first, found], axis=1)
        return base, found

    return explain, leaves.cost


def has_covers(arrays: State) -> bool:
    """Whether it is known of each split how many rows went which way."""
    cover, inner = arrays.get("cover"), arrays["feature"] >= 0
    if cover is None:
        return False
    left = arrays["left"][inner].astype(np.int64)
    return bool(np.all(cover[left] > 0) and np.all(cover[left + 1] > 0))


class _Row:
    """Which way one row goes at every node."""

    def __init__(self, arrays: State) -> None:
        self._edges, self._counts = arrays["edges"], arrays["n_edges"].astype(np.int64)
        self._ways = Ways(arrays, self._counts + 2, arrays["levels"] > 0)

    def goes_left(self, row: NDArray[np.float64]) -> Flags:
        return self._ways.directions(bins_of(row[None], self._edges, self._counts)[:, 0])


def _check_size(arrays: State) -> None:
    """FederatedError PROGRAM_LIMIT where all ways are too many steps; before any is kept."""
    inner = np.flatnonzero(arrays["feature"] >= 0)
    left = arrays["left"][inner].astype(np.int64)
    parent = np.full(arrays["feature"].size, -1)
    parent[left], parent[left + 1] = inner, inner
    here, steps = np.arange(parent.size), 0
    while here.size:
        if parent.size * steps > MOST_STEPS:
            raise FederatedError(
                ErrorCode.PROGRAM_LIMIT,
                "the version's trees have too many nodes on too long ways to be explained",
                hint="Versions of fewer or less deep trees are: options trees and max_depth.",
            )
        here, steps = parent[here], steps + 1
        here = here[here >= 0]


class _Leaves:
    """The ways to all leaves. splits: the node of each split on the way, (leaves, steps), 0 where there is
    none; is_left: whether the leaf lies to its left; players: whose split it is, the first time on the way
    that he has one; else nobody's, which is one more number. shares: of each player, (leaves, steps)."""

    def __init__(self, content: Mapping[str, Any], arrays: State, players: Players) -> None:
        if not has_covers(arrays):
            raise FederatedError(
                ErrorCode.WRONG_STATE,
                "it is not kept how many rows went which way at the splits of this version's trees",
                hint="Train the model anew: versions made since keep it.",
            )
        self._players = players.count
        nodes = np.flatnonzero(arrays["feature"] < 0)
        _check_size(arrays)
        self._find_ways(arrays, nodes, players.owners)
        self._merge()
        most = int(np.count_nonzero(self._owner < self._players, axis=1).max(initial=0))
        points, weights = np.polynomial.legendre.leggauss(max(1, (most + 1) // 2))
        self._points, self._weights = 0.5 * (points + 1.0), 0.5 * weights
        self._set_values(content, arrays, nodes)

    @property
    def cost(self) -> int:
        """How many numbers are reckoned for a row."""
        return self._owner.size * self._points.size

    def explain(self, goes_left: Flags) -> Matrix:
        """Return the contributions of one row, (outputs, features). goes_left: (nodes,)."""
        found = np.zeros(self.outputs * (self._players + 1))
        for part in self._parts():
            met = self._met(goes_left, part).astype(np.float64)
            share, owner = self._share[part], self._owner[part]
            adds = (met - share) * self._others(met, share)
            for values, classes in self._values:
                key = owner + classes[part, None] * (self._players + 1)
                found += np.bincount(key.ravel(), (adds * values[part, None]).ravel(), minlength=found.size)
        return found.reshape(self.outputs, -1)[:, :-1]

    def _find_ways(self, arrays: State, nodes: Numbers, owners: Numbers) -> None:
        """Go up from all leaves at once."""
        feature, left = arrays["feature"].astype(np.int64), arrays["left"].astype(np.int64)
        cover, inner = arrays["cover"], np.flatnonzero(feature >= 0)
        parent, share = np.full(feature.size, -1), np.ones(feature.size)
        both = cover[left[inner]] + cover[left[inner] + 1]
        for side in (0, 1):
            parent[left[inner] + side] = inner
            share[left[inner] + side] = cover[left[inner] + side] / both
        splits: list[Numbers] = []
        sides: list[Flags] = []
        owner: list[Numbers] = []
        shares: list[Matrix] = []
        here = nodes
        while True:
            above = np.where(here >= 0, parent[here], -1)
            moves = above >= 0
            if not moves.any() and splits:
                break
            splits.append(np.where(moves, above, 0))
            sides.append(moves & (left[splits[-1]] == here))
            owner.append(np.where(moves, owners[np.maximum(feature[splits[-1]], 0)], self._players))
            shares.append(np.where(moves, share[here], 1.0))
            here = above
        self._splits, self._is_left = np.stack(splits, axis=1), np.stack(sides, axis=1)
        self._owner, self._share = np.stack(owner, axis=1), np.stack(shares, axis=1)

    def _merge(self) -> None:
        """Have a player who splits several times on a way take part once."""
        self._is_none = self._owner == self._players
        self._again: list[tuple[int, Numbers, Numbers]] = []
        for step in range(1, self._owner.shape[1]):
            same = self._owner[:, :step] == self._owner[:, step, None]
            rows = np.flatnonzero(same.any(axis=1) & ~self._is_none[:, step])
            if rows.size:
                first = np.argmax(same[rows], axis=1)
                self._again.append((step, rows, first))
                self._share[rows, first] *= self._share[rows, step]
        for step, rows, _ in self._again:
            self._owner[rows, step], self._share[rows, step] = self._players, 1.0

    def _set_values(self, content: Mapping[str, Any], arrays: State, nodes: Numbers) -> None:
        """values: what leaves add to an output and to which, (leaves,) each."""
        tree, said = arrays["tree"][nodes].astype(np.int64), arrays["values"][nodes]
        if content["boosts"]:
            begins = np.asarray(arrays["base"], dtype=np.float64)
            self.outputs = begins.size
            self._values = [(said[:, 0], tree % self.outputs)]
        else:
            self.outputs = said.shape[1]
            begins = np.zeros(self.outputs)
            said = said / max(1, int(tree.max(initial=-1)) + 1)
            self._values = [(said[:, one], np.full(tree.size, one)) for one in range(self.outputs)]
        self.base: Matrix = begins.copy()
        reached = self._share.prod(axis=1)
        for values, classes in self._values:
            self.base += np.bincount(classes, values * reached, minlength=self.outputs)

    def _parts(self) -> Iterator[slice]:
        leaves, steps = self._owner.shape
        many = max(1, _NUMBERS_AT_ONCE // (steps * self._points.size))
        return (slice(start, start + many) for start in range(0, leaves, many))

    def _met(self, goes_left: Flags, part: slice) -> Flags:
        """Say of each player on each way whether the row goes there at all splits of his."""
        met: Flags = (goes_left[self._splits[part]] == self._is_left[part]) | self._is_none[part]
        first = part.start
        for step, rows, before in self._again:
            ours = slice(*np.searchsorted(rows, (first, first + len(met))))
            met[rows[ours] - first, before[ours]] &= met[rows[ours] - first, step]
            met[rows[ours] - first, step] = True
        return met

    def _others(self, met: Matrix, share: Matrix) -> Matrix:
        """Return of each player the integral over the product of all others' parts; (leaves, steps)."""
        factors = share[..., None] + (met - share)[..., None] * self._points
        ones = np.ones_like(factors[:, :1])
        before = np.cumprod(np.concatenate([ones, factors[:, :-1]], axis=1), axis=1)
        behind = np.cumprod(np.concatenate([ones, factors[:, :0:-1]], axis=1), axis=1)[:, ::-1]
        found: Matrix = (before * behind) @ self._weights
        return found
