"""Whether a run under a budget wishes for a report, and by which of its figures its noise is judged.

What always holds: the answer depends on the run and on what round 0 found alone, at the coordinator.
"""

from __future__ import annotations

import math

from heliosdb.algorithms.private_layout import CELLS, MOST_CLASSES, PrivateLayout
from heliosdb.algorithms.private_report import ScoresRows
from heliosdb.algorithms.registry import algorithm, classes_of
from heliosdb.algorithms.steps import REPORT
from heliosdb.domain.findings import RunPlan
from heliosdb.privacy.plan import REGRESSION_NOISE, AccuracyNoise

_RARER = 0.25
"""Share of the rarer class with which the area's error is foreseen: of one rarer still it is larger."""


def wished_report(plan: RunPlan) -> AccuracyNoise | None:
    """Return how the figure is that noise reaches first; None where a run has no report under a budget."""
    options = plan.run.options
    method, classes = algorithm(options.algorithm), len(classes_of(plan))
    able = REPORT in method.steps and isinstance(method, ScoresRows) and classes <= MOST_CLASSES
    # A report bounds its subjects in L2 alone.
    able = able and plan.run.policy.noise == "gaussian"
    if not able or not plan.run.publishes or options.validation_split == 0:
        return None
    sensitivity = PrivateLayout(classes, len(options.features)).sensitivity
    if classes == 0:
        found = REGRESSION_NOISE
        return AccuracyNoise(sensitivity, found.per_noise, found.sampling, found.largest)
    if classes > 2:
        # Of an accuracy of 1/2: the diagonal's noise, less half of the count's.
        return AccuracyNoise(sensitivity, 0.5 * classes, 0.5, largest=0.1)
    return AccuracyNoise(sensitivity, _area_noise(), _area_sampling(), largest=0.1)


def why_unreported(plan: RunPlan) -> str | None:
    """Say of a run that would have a report without a budget that there is none of its model yet; None of
    others."""
    options = plan.run.options
    method = algorithm(options.algorithm)
    if REPORT not in method.steps or not plan.run.publishes or options.validation_split == 0:
        return None
    if isinstance(method, ScoresRows) and plan.run.policy.noise == "gaussian":
        return None
    under = "a privacy_budget" if plan.run.policy.noise == "gaussian" else f"{plan.run.policy.noise} noise"
    return f"no report is made of {options.algorithm} under {under} yet"


def _area_noise() -> float:
    """The derivative of the area by a cell of a class is the share of the other class below it, less the
    area, in units of the class's own count: at worst half of the cells lie below all others' scores."""
    rarer, other = _RARER, 1.0 - _RARER
    return math.sqrt(CELLS / 4.0 * (rarer**-2 + other**-2))


def _area_sampling() -> float:
    """Of an area of 1/2, a twelfth for each class (Hanley and McNeil 1982)."""
    return math.sqrt((1.0 / _RARER + 1.0 / (1.0 - _RARER)) / 12.0)
