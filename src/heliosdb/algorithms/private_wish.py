"""Whether a run under a budget wishes for a report, and by which of its figures its noise is judged.

What always holds: the answer depends on the run and on what round 0 found alone, at the coordinator.
"""

from __future__ import annotations

import math
from typing import Protocol, cast

from heliosdb.algorithms.private_layout import CELLS, MOST_CLASSES, PrivateLayout
from heliosdb.algorithms.registry import algorithm
from heliosdb.algorithms.steps import REPORT
from heliosdb.domain.findings import RunPlan
from heliosdb.privacy.plan import REGRESSION_NOISE, AccuracyNoise

_RARER = 0.25
"""Share of the rarer class with which the area's error is foreseen: of one rarer still it is larger."""


class ForeseesNoise(Protocol):
    """A report step."""

    def foresee(self, plan: RunPlan) -> AccuracyNoise | str:
        """Return how the figure is that noise reaches first, or say why there is no report under a budget."""
        ...


def wished_report(plan: RunPlan) -> AccuracyNoise | None:
    """Return how the figure is that noise reaches first; None where a run has no report under a budget."""
    found = _foreseen(plan)
    return found if isinstance(found, AccuracyNoise) else None


def why_unreported(plan: RunPlan) -> str | None:
    """Say of a run that would have a report without a budget that there is none yet; None of others."""
    found = _foreseen(plan)
    return found if isinstance(found, str) else None


def _foreseen(plan: RunPlan) -> AccuracyNoise | str | None:
    options = plan.run.options
    step = algorithm(options.algorithm).steps.get(REPORT)
    if step is None or not plan.run.publishes or options.validation_split == 0:
        return None
    if plan.run.policy.noise != "gaussian":
        # A report bounds its subjects in L2 alone.
        return f"no report is made of {options.algorithm} under {plan.run.policy.noise} noise yet"
    return cast(ForeseesNoise, step).foresee(plan)


def foresee_scores(classes: int, features: int) -> AccuracyNoise | str:
    """Return how noise bears on the report of a model that scores rows, or why there is none."""
    if classes > MOST_CLASSES:
        return f"no report is made of more than {MOST_CLASSES} classes under a privacy_budget yet"
    sensitivity = PrivateLayout(classes, features).sensitivity
    if classes == 0:
        found = REGRESSION_NOISE
        return AccuracyNoise(sensitivity, found.per_noise, found.sampling, found.largest)
    if classes > 2:
        # Of an accuracy of 1/2: the diagonal's noise, less half of the count's.
        return AccuracyNoise(sensitivity, 0.5 * classes, 0.5, largest=0.1)
    return AccuracyNoise(sensitivity, _area_noise(), _area_sampling(), largest=0.1)


def _area_noise() -> float:
    """The derivative of the area by a cell of a class is the share of the other class below it, less the
    area, in units of the class's own count: at worst half of the cells lie below all others' scores."""
    rarer, other = _RARER, 1.0 - _RARER
    return math.sqrt(CELLS / 4.0 * (rarer**-2 + other**-2))


def _area_sampling() -> float:
    """Of an area of 1/2, a twelfth for each class (Hanley and McNeil 1982)."""
    return math.sqrt((1.0 / _RARER + 1.0 / (1.0 - _RARER)) / 12.0)
