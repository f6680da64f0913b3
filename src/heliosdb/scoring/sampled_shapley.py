"""Shapley values of a network, estimated by orders of the features.

What always holds: contributions and base add up, whatever is drawn; the same row, version, number of orders
and seed give the same numbers.

A feature that is not known is at the mean of training, as one that is missing is. In each order features are
made known one after the other, and what the score moves by is theirs (Castro, Gómez and Tejada 2009,
Computers & Operations Research 36); each order is taken backwards too (antithetic: Mitchell et al. 2022, JMLR
23). Scores are in float64 and before their link.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heliosdb.domain.errors import ErrorCode, FederatedError, invalid_value
from heliosdb.domain.state import State, size_of
from heliosdb.scoring.kinds import Rows
from heliosdb.scoring.network import Layer, forward, scale
from heliosdb.scoring.players import Players

Matrix = NDArray[np.float64]
Numbers = NDArray[np.int64]

ORDERS, MOST_ORDERS = 500, 100_000
"""Where no number is given; and the largest that may be."""

MOST_PRODUCTS = 2e10
"""Multiplications of one explanation: a few seconds, in which the server cannot cancel it."""

_NUMBERS_AT_ONCE = 2**20


@dataclass(frozen=True, slots=True)
class Orders:
    """How many orders are drawn, each taken both ways; None: `ORDERS`, or as many as `MOST_PRODUCTS`
    allows."""

    count: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the bounds; FederatedError INVALID_VALUE."""
        if self.count is not None and not 1 <= self.count <= MOST_ORDERS:
            raise invalid_value(f"samples must be from 1 to {MOST_ORDERS}, not {self.count}")
        if self.seed < 0:
            raise invalid_value(f"seed must be 0 or more, not {self.seed}")


def prepare(
    content: Mapping[str, Any], arrays: State, players: Players
) -> Callable[[Rows, Orders], tuple[Matrix, Matrix]]:
    """Return what gives rows, (n, inputs), the base values, (outputs,), and contributions, (n, outputs,
    features). content, arrays: as `network.score` reads them.
    """
    layers = [
        Layer.of(arrays[f"weight_{place}"], arrays[f"bias_{place}"], name)
        for place, name in enumerate(content["activations"])
    ]
    is_number = content["link"] in ("identity", "exp")
    owners, features, dear = players.owners, players.count, size_of(arrays)
    widest = max(owners.size, *(one.biases.size for one in layers))

    def score(inputs: Rows) -> Matrix:
        with np.errstate(all="ignore"):
            sums = forward(layers, inputs)
        return content["target_mean"] + content["target_scale"] * sums if is_number else sums

    def explain(inputs: Rows, orders: Orders) -> tuple[Matrix, Matrix]:
        # Scaled inputs of 0 are means, and what is missing is 0.
        scaled = scale(inputs, arrays["means"], arrays["scales"])
        count = _count_orders(orders, features, dear, len(inputs))
        rng = np.random.default_rng(orders.seed)
        ranks = np.argsort(rng.random((count, features)), axis=1)
        ranks = np.concatenate([ranks, features - 1 - ranks])
        walk = _Walk(score, owners, ranks, max(1, _NUMBERS_AT_ONCE // widest))
        found = np.array([walk.explain(row) for row in scaled])
        return score(np.zeros((1, owners.size)))[0], found.reshape(len(inputs), -1, features)

    return explain


def _count_orders(orders: Orders, features: int, dear: int, rows: int) -> int:
    fits = int(MOST_PRODUCTS / (2.0 * (features + 1) * max(1, dear) * max(1, rows)))
    if orders.count is None and fits >= 1:
        return min(ORDERS, fits)
    if fits < (orders.count or 1):
        raise FederatedError(
            ErrorCode.PROGRAM_LIMIT,
            "the network has too many features and weights for so many samples"
            if fits
            else "the network has too many features and weights to be explained",
            hint=f"At most {fits} samples are taken of it." if fits else None,
        )
    assert orders.count is not None
    return orders.count


class _Walk:
    """ranks: the place of each feature in each order, (orders, features)."""

    def __init__(
        self, score: Callable[[Rows], Matrix], owners: Numbers, ranks: Numbers, at_once: int
    ) -> None:
        self._score, self._owners, self._ranks, self._at_once = score, owners, ranks, at_once

    def explain(self, row: NDArray[np.float64]) -> Matrix:
        """Return the mean over all orders of what each feature moves the score by, (outputs, features)."""
        orders, features = self._ranks.shape
        steps, parts = orders * (features + 1), []
        for start in range(0, steps, self._at_once):
            step = np.arange(start, min(steps, start + self._at_once))
            known = self._ranks[step // (features + 1)] < (step % (features + 1))[:, None]
            parts.append(self._score(np.where(known[:, self._owners], row, 0.0)))
        scores = np.concatenate(parts).reshape(orders, features + 1, -1)
        moved = np.diff(scores, axis=1)
        of_features: Matrix = np.take_along_axis(moved, self._ranks[..., None], axis=1)
        means: Matrix = of_features.mean(axis=0).T
        return means
