"""Bounding what one data subject contributes, by arithmetic in which it stands alone.

What always holds: what is computed for one subject (a column of a matrix) is a function of that column, to
the last bit, whichever other columns there are and however many. Sums within a column are therefore written
as additions of whole rows in an order that is spelled out here: a matrix product, einsum or add.reduce
chooses its order by the shape of all, so that a column could change when another one is taken away. After
clipping a subject's integers have a norm at most the bound, L2 for Gaussian noise and L1 for Laplace noise,
but for the one rounding a coordinate that privacy/mechanisms.py allows for.
"""

from __future__ import annotations

import math

import numpy as np

from heliosdb.domain.privacy import Noise
from heliosdb.domain.vector import Matrix, Vector
from heliosdb.privacy.mechanisms import Integers

_INEXACT_STEPS = 2.0**-14
"""How much longer, in steps, a clipped vector can be for the clipping's own floating-point error."""

BLOCK = 4096
"""Columns at a time, so that intermediate results stay in the processor's cache."""

_NUMBERS = 1 << 20


def columns_at_once(length: int, most: int = BLOCK) -> int:
    """Return how many columns of so many numbers are computed on at a time, `most` unless they are long.

    How long they are is a task's to say: what an intermediate result takes must not be, or how many rows
    there are would show in whether it fits into memory.
    """
    return max(1, min(most, _NUMBERS // length))


def fold(values: Matrix) -> Vector:
    """Sum each column by adding the lower half of the rows to the upper, until one is left; (k, n) → (n,).

    k ≥ 1. `values` is used up: the result is its first row.
    """
    width = values.shape[0]
    while width > 1:
        half = (width + 1) // 2
        upper = values[: width - half]
        np.add(upper, values[half:width], out=upper)
        width = half
    folded: Vector = values[0]
    return folded


def column_norms(vectors: Matrix, noise: Noise = "gaussian") -> Vector:
    """Return the norm of each column by which `noise` is calibrated, L2 or L1; (k, n) → (n,)."""
    sums = np.empty(vectors.shape[1])
    at_once = columns_at_once(len(vectors))
    for start in range(0, sums.size, at_once):
        block = vectors[:, start : start + at_once]
        sums[start : start + at_once] = fold(np.abs(block) if noise == "laplacian" else block * block)
    return sums if noise == "laplacian" else np.sqrt(sums, out=sums)


def clip_steps(steps: Integers, bound: float, noise: Noise = "gaussian") -> Matrix:
    """Scale each column (one subject's integers) to a norm at most `bound` > 0 and round; (d, s).

    noise: by which norm, see `column_norms`. The result is within half a step a coordinate of a vector that
    long. What is so already stays as it is.
    """
    vectors = steps.astype(np.float64)
    norms = column_norms(vectors, noise)
    spread = float(len(steps)) if noise == "laplacian" else math.sqrt(len(steps))
    rounded = bound + 0.5 * spread + _INEXACT_STEPS
    vectors *= np.where(norms <= rounded, 1.0, bound / np.maximum(norms, bound))
    return np.rint(vectors, out=vectors)
