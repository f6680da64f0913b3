"""Predictions that are linear up to their link: what `federated._render_linear` makes SQL of, by numpy.

What always holds: both ways agree to 1e-9, and what is missing counts as the mean of training.

Content has for each input one of fills, shifts and slopes, and an intercept, target_mean, target_scale and
link; of kind softmax_linear slopes has a list for each class, and intercepts one number.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heliosdb.domain.state import State
from heliosdb.scoring.kinds import Rows, Scored

LARGEST_EXPONENT = 700.0
"""Exponents are cut here on both sides: exp is then neither 0 nor more than the largest float."""


def score(content: Mapping[str, Any], arrays: State, inputs: Rows) -> NDArray[np.float64]:
    """Score rows; (n,), with link softmax (n, classes)."""
    return prepare(content, arrays)(inputs)


def prepare(content: Mapping[str, Any], arrays: State) -> Scored:
    """Return what scores rows by numbers that are arrays already."""
    # Whole numbers beyond 64 bits would be objects.
    fills, shifts, slopes = (
        np.array(content[name], dtype=np.float64) for name in ("fills", "shifts", "slopes")
    )
    named = "intercepts" if "intercepts" in content else "intercept"
    intercepts = np.array(content[named], dtype=np.float64)

    def scored(inputs: Rows) -> NDArray[np.float64]:
        centred = np.where(np.isnan(inputs), fills, inputs) - shifts
        return _linked(content, centred @ slopes.T + intercepts)

    return scored


def _linked(content: Mapping[str, Any], scores: NDArray[np.float64]) -> NDArray[np.float64]:
    if scores.ndim == 2:
        return softmax(scores)
    match content["link"]:
        case "logistic":
            return 0.5 + 0.5 * np.tanh(0.5 * scores)
        case "exp":
            return np.exp(np.clip(scores, -LARGEST_EXPONENT, LARGEST_EXPONENT))
        case _:
            return np.asarray(content["target_mean"] + content["target_scale"] * scores)


def softmax(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return exp(score) of each of a row's scores, divided by their sum; (n, classes)."""
    powers = np.exp(np.maximum(scores - scores.max(axis=1, keepdims=True), -LARGEST_EXPONENT))
    shares: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return shares
