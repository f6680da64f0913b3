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
from heliosdb.algorithms.newton import NEWTON
from heliosdb.algorithms.norms import NORMS, adapts
from heliosdb.algorithms.private_newton import training_noise
from heliosdb.algorithms.schedule import evaluates
from heliosdb.algorithms.statistics import REFINE, STATISTICS
from heliosdb.algorithms.steps import Cost
from heliosdb.algorithms.training import TRAIN, private_training
from heliosdb.algorithms.vocabulary import costs_of_levels
from heliosdb.domain.findings import PrivacyPlan, RunPlan
from heliosdb.domain.privacy import Mechanism
from heliosdb.parts.algorithms import by_newton


def releases_of_descent(plan: RunPlan) -> Sequence[Cost]:
    """Return what the steps of a round cost a node; () without a budget."""
    made, noised = plan.findings.plan, partial(Mechanism, noise=plan.run.policy.noise)
    if made is None:
        return []
    if plan.round == 0:
        levels = costs_of_levels(made)
        classes = [] if made.classes_noise is None else [Cost(CLASSES, noised(made.classes_noise))]
        refinements = [Cost(REFINE, noised(noise)) for noise in made.refinement_noise]
        return [*levels, *classes, Cost(STATISTICS, noised(made.statistics_noise)), *refinements]
    if by_newton(plan.run.options.algorithm, plan.run.options.given):
        noise, norm = training_noise(made), plan.run.policy.clipping_threshold
        return [Cost(NEWTON, Mechanism(noise), norm), *_evaluation(plan, made)]
    training = private_training(plan, made)
    costs = [Cost(GRADIENT if plan.run.noises_sums else TRAIN, training.mechanism, training.clipping_norm)]
    if adapts(plan) and made.clipping_noise is not None:
        costs.append(Cost(NORMS, Mechanism(made.clipping_noise)))
    return [*costs, *_evaluation(plan, made)]


def _evaluation(plan: RunPlan, made: PrivacyPlan) -> Sequence[Cost]:
    if not evaluates(plan) or made.evaluation_noise is None:
        return []
    return [Cost(EVALUATE, Mechanism(made.evaluation_noise, noise=plan.run.policy.noise))]
