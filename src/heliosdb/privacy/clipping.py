"""Bounding what one data subject contributes.

What always holds: after clipping, a subject's vector has L2 norm at most the clipping norm; a subject whose
vector is not finite contributes nothing at all (which is within every bound, and says nothing about the
value).
"""

from __future__ import annotations

import numpy as np

from heliosdb.domain.vector import Matrix, Vector


def clip_factors(norms: Vector, clipping_norm: float) -> Vector:
    """Return the factor for each L2 norm: min(1, clipping_norm / norm), 0 where not finite."""
    with np.errstate(divide="ignore", invalid="ignore"):
        factors = np.minimum(1.0, clipping_norm / norms)
    usable: Vector = np.where(np.isfinite(norms), factors, 0.0)
    return usable


def clip_rows(vectors: Matrix, clipping_norm: float) -> Matrix:
    """Scale each row (one subject's vector, shape (s, d)) to L2 norm at most `clipping_norm`."""
    with np.errstate(over="ignore", invalid="ignore"):
        norms = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    factors = clip_factors(norms, clipping_norm)
    clipped: Matrix = np.where(factors[:, None] > 0, vectors, 0.0) * factors[:, None]
    return clipped
