"""In which rounds a run is evaluated.

What always holds: the answer depends on the options and on what round 0 found alone.
"""

from __future__ import annotations

from heliosdb.domain.findings import RunPlan
from heliosdb.domain.run import TrainingOptions
from heliosdb.parts.algorithms import last_round


def count_evaluations(options: TrainingOptions, *, private: bool = False) -> int:
    """Return how many rounds of a whole run end with an evaluation. private: under a budget."""
    if options.validation_split == 0:
        return 0
    whole, rest = divmod(last_round(options, private=private), options.validation_frequency)
    return whole + (1 if rest else 0)


def evaluates(plan: RunPlan, *, ends: bool = False) -> bool:
    """Whether the plan's round ends with an evaluation: every n-th, and the last; none where noise would
    leave no figures. ends: whether it is the last by the algorithm's own word."""
    options, findings = plan.run.options, plan.findings
    if options.validation_split == 0 or plan.round == 0:
        return False
    if findings.plan is not None and findings.plan.evaluation_noise is None:
        return False
    last = last_round(options, private=plan.run.policy.budget is not None)
    return ends or plan.round % options.validation_frequency == 0 or plan.round == last
