"""What each feature has to do with a score: Shapley values (Shapley 1953; Lundberg and Lee 2017), by kind.

What always holds: a row's contributions and the base value add up to its score on the scale that is
explained, but for rounding; the inputs that one column becomes are one player, so what is told is about the
features that people know.

The scale is the one on which a version adds up: the target's units (link identity), the logarithm of the
mean (exp), log-odds (logistic), a score of each class up to a number that they share (softmax); of a forest
of classes, whose trees vote, the probability.

Of a linear version the base is the score at the means of training, and features count as independent of each
other: a contribution is slope x (value - mean), summed over the feature's inputs. Of trees a feature that is
not known goes both ways, by the shares of rows that training saw go there (tree_shapley.py). Of networks a
feature that is not known is at its mean, and orders are drawn (sampled_shapley.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from heliosdb.domain.encoding import Encoding
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.state import State
from heliosdb.scoring import sampled_shapley, tree_shapley
from heliosdb.scoring.kinds import Rows
from heliosdb.scoring.players import Players
from heliosdb.scoring.sampled_shapley import Orders


@dataclass(frozen=True, slots=True)
class Explained:
    """base: (outputs,). contributions: (n, outputs, features)."""

    base: NDArray[np.float64]
    contributions: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Explainer:
    """A version by which rows are explained. cost: about how many numbers are reckoned for each row; None
    where orders are drawn, which say themselves how many fit."""

    explain: Callable[[Rows, Orders], Explained]
    cost: int | None

    def __call__(self, inputs: Rows, orders: Orders | None = None) -> Explained:
        """Explain rows, (n, inputs). orders: for what is estimated."""
        with np.errstate(all="ignore"):
            return self.explain(inputs, orders or Orders())


_NOT_YET: Final = {"convolution": "convolutional networks", "series": "networks on series"}
SAMPLED: Final = frozenset({"network"})
"""The kinds whose contributions are estimated."""


def players_of(encoding: Encoding) -> Players:
    """Return which feature each input is made of."""
    sizes = [len(one.inputs) for one in encoding.columns]
    return Players(np.repeat(np.arange(len(sizes)), sizes), len(sizes))


def prepare_explanation(kind: str, content: Mapping[str, Any], arrays: State, players: Players) -> Explainer:
    """Return what explains rows by a version. kind, content, arrays: those of its prediction.

    FederatedError NOT_SUPPORTED where its kind is not known, WRONG_STATE for trees without covers.
    """
    match kind:
        case "linear" | "softmax_linear":
            return _prepare_linear(content, players)
        case "trees":
            trees, cost = tree_shapley.prepare(content, arrays, players)
            return Explainer(lambda inputs, _: Explained(*trees(inputs)), cost)
        case "network":
            network = sampled_shapley.prepare(content, arrays, players)
            return Explainer(lambda inputs, orders: Explained(*network(inputs, orders)), None)
    raise FederatedError(
        ErrorCode.NOT_SUPPORTED,
        f"predictions of {_NOT_YET[kind]} are not explained yet"
        if kind in _NOT_YET
        else f'predictions of kind "{kind}" are not explained',
        hint="Those of regressions, networks of layers alone and trees are.",
    )


def _prepare_linear(content: Mapping[str, Any], players: Players) -> Explainer:
    fills, shifts, slopes = (
        np.array(content[name], dtype=np.float64) for name in ("fills", "shifts", "slopes")
    )
    named = "intercepts" if "intercepts" in content else "intercept"
    slopes, intercepts = np.atleast_2d(slopes), np.atleast_1d(np.array(content[named], dtype=np.float64))
    base = slopes @ (fills - shifts) + intercepts
    if content.get("link") == "identity":
        base = content["target_mean"] + content["target_scale"] * base
        slopes = content["target_scale"] * slopes

    present, starts = np.unique(players.owners, return_index=True)

    def explain(inputs: Rows, orders: Orders) -> Explained:
        del orders
        moved = np.where(np.isnan(inputs), 0.0, inputs - fills)
        found = np.zeros((len(inputs), base.size, players.count))
        found[:, :, present] = np.add.reduceat(moved[:, None, :] * slopes, starts, axis=2)
        return Explained(base, found)

    return Explainer(explain, slopes.size)
