"""What the steps of a round cost a node, where parameters move by private descent.

What always holds: it depends on the run's options and on its plan alone, and names every step that a round
takes, in their order.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from heliosdb.algorithms.classes import CLASSES
from heliosdb.algorithms.evaluation import EVALUATE
from heliosdb.algorithms.gradient import GRADIENT
from heliosdb.algorithms.norms import NORMS, adapts
from heliosdb.algorithms.schedule import evaluates
from heliosdb.algorithms.statistics import REFINE, STATISTICS
from heliosdb.algorithms.steps import Cost
from heliosdb.algorithms.training import TRAIN, private_training
from heliosdb.domain.findings import RunPlan
from heliosdb.domain.privacy import Mechanism


def releases_of_descent(plan: RunPlan) -> Sequence[Cost]:
    """Return what the steps of a round cost a node; () without a budget."""
    made, noised = plan.findings.plan, partial(Mechanism, noise=plan.run.policy.noise)
    if made is None:
        return []
    if plan.round == 0:
        classes = [] if made.classes_noise is None else [Cost(CLASSES, noised(made.classes_noise))]
        refinements = [Cost(REFINE, noised(noise)) for noise in made.refinement_noise]
        return [*classes, Cost(STATISTICS, noised(made.statistics_noise)), *refinements]
    training = private_training(plan, made)
    costs = [Cost(GRADIENT if plan.run.shares_noise else TRAIN, training.mechanism, training.clipping_norm)]
    if adapts(plan) and made.clipping_noise is not None:
        costs.append(Cost(NORMS, Mechanism(made.clipping_noise)))
    if evaluates(plan) and made.evaluation_noise is not None:
        costs.append(Cost(EVALUATE, noised(made.evaluation_noise)))
    return costs
