"""Predictions of trees: the mean of a forest's leaves, or the sum of boosting's.

What always holds: a row's prediction is the same, to the bit, whatever rows are scored beside it; it is
finite for every row.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heliosdb.domain.state import State
from heliosdb.scoring.kinds import Rows
from heliosdb.scoring.ways import Ways, bins_of


def score(content: Mapping[str, Any], arrays: State, inputs: Rows) -> NDArray[np.float64]:
    """Score rows; (n,), with link softmax (n, classes).

    content: link; boosts; target_mean and target_scale of a number. arrays: see `Ways`, and `edges`,
    `n_edges`, `levels` (of an input that is a category, how many, else 0), `tree` (of each node, ascending),
    `values` of leaves, (nodes, outputs), and with boosting `base`, the scores to begin with.
    """
    outputs = add_up(content, arrays, inputs)
    match content["link"]:
        case "identity":
            return np.asarray(content["target_mean"] + content["target_scale"] * outputs[:, 0])
        case "logistic" if content["boosts"]:
            return 0.5 + 0.5 * np.tanh(0.5 * outputs[:, 0])
        case "softmax" if content["boosts"]:
            return _softmax(outputs)
        case "softmax":
            return np.column_stack([1.0 - outputs.sum(axis=1), outputs])
        case _:
            return np.ascontiguousarray(outputs[:, 0])


def add_up(content: Mapping[str, Any], arrays: State, inputs: Rows) -> NDArray[np.float64]:
    """Return boosting's scores, (n, scores), or the mean of a forest's leaves, (n, outputs)."""
    counts = arrays["n_edges"].astype(np.int64)
    bins = bins_of(inputs, arrays["edges"], counts)
    ways = Ways(arrays, counts + 2, arrays["levels"] > 0)
    roots = np.unique(arrays["tree"], return_index=True)[1]
    values = arrays["values"]
    if not content["boosts"]:
        total = np.zeros((len(inputs), values.shape[1]))
        for root in roots:
            total += values[ways.follow(bins, root)]
        return total / max(1, roots.size)
    scores = np.repeat(arrays["base"][None], len(inputs), axis=0)
    for tree, root in enumerate(roots):
        scores[:, tree % scores.shape[1]] += values[ways.follow(bins, root), 0]
    return scores


def _softmax(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    powers = np.exp(np.maximum(scores - scores.max(axis=1, keepdims=True), -700.0))
    shares: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return shares
