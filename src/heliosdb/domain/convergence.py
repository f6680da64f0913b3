"""When a run has converged.

The rule, over the last 2P evaluations (P = early_stopping_rounds), the first P of them called before and
the last P after:

    improvement = mean(before) - mean(after)
    error       = sqrt(var(before) / P + var(after) / P)
    converged   iff  improvement + 2 error < convergence_threshold

Comparing two consecutive losses stops a run at the first slow or unlucky round, and comparing with the best
one so far never stops a noisy one that has long been flat. Here one odd round is one of 2P; and a run is
stopped only where the improvement is below the threshold even at the optimistic end of its 95 % interval,
so a loss too noisy to tell does not stop a run. A steady slope within the window counts as spread too,
which again errs towards going on. A rising loss has a negative improvement and stops.

What always holds: the answer is a pure function of the losses, and losses that are not finite stop no run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, variance

_LARGE = 1e100


def converged(losses: Sequence[float | None], threshold: float, patience: int) -> bool:
    """Say whether the run may stop: see the module's rule.

    losses: one a round, oldest first; None where a round was not evaluated (it is passed over). threshold:
    ≥ 0, in the loss's units. patience: P ≥ 1; with 1 there is no spread to see, so two losses are compared
    as they are. A loss that is not finite never counts as converged.
    """
    if patience < 1:
        raise ValueError("patience must be at least 1")
    known = [loss for loss in losses if loss is not None]
    window = known[-2 * patience :]
    if len(window) < 2 * patience or not all(map(math.isfinite, window)):
        return False
    # Squares and sums of numbers near the largest double would overflow: then the units are changed.
    largest = max(map(abs, window))
    unit = largest if largest > _LARGE else 1.0
    window = [loss / unit for loss in window]
    before, after = window[:patience], window[patience:]
    error = 0.0
    if patience > 1:
        error = math.sqrt((variance(before) + variance(after)) / patience)
    return fmean(before) - fmean(after) + 2.0 * error < threshold / unit
