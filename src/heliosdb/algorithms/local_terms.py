"""What a run's aggregation adds to the objective that a node descends on.

What always holds: what is added depends on parameters and on what the node was told and keeps, on no row of
this task; it makes no step larger than finite numbers are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from heliosdb.domain.vector import Vector


@dataclass(frozen=True, slots=True)
class LocalTerms:
    """proximal: μ of the term μ/2 |w - w_global|² (Li et al. 2020). correction: what is added to every
    gradient (c - c_i of Karimireddy et al. 2020); None for nothing. towards: w_global, where a descent begins
    elsewhere; None: it begins there."""

    proximal: float = 0.0
    correction: Vector | None = None
    towards: Vector | None = None

    def apply(self, moved: Vector, start: Vector, worth: float) -> Vector:
        """Return where a step leads that, without the terms, has led to `moved`. start: with which the
        descent began. worth: the step's, see `optimizers.worth_of`.

        The proximal term is taken at the step's end: the result is the minimum of the step's own
        quadratic, |w - moved|² / (2 worth), plus the term. So no μ makes the steps overshoot.
        """
        if self.correction is not None:
            moved = moved - worth * self.correction
        if self.proximal == 0.0:
            return moved
        pull = worth * self.proximal
        anchor = start if self.towards is None else self.towards
        return (moved + pull * anchor) / (1.0 + pull)

    def value(self, moved: Vector) -> float:
        """Return what the proximal term adds to the objective, where the parameters moved that far."""
        return 0.5 * self.proximal * float(np.sum(np.square(moved, dtype=np.float64)))


NO_TERMS = LocalTerms()
