"""How a run of trees under a privacy budget begins, and what its rounds cost.

What always holds: all of it follows from the run and from what round 0 released; every release of a round is
among its costs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from heliosdb.algorithms.classes import CLASSES
from heliosdb.algorithms.evaluation import EVALUATE
from heliosdb.algorithms.registry import classes_of
from heliosdb.algorithms.schedule import evaluates
from heliosdb.algorithms.statistics import REFINE, STATISTICS
from heliosdb.algorithms.steps import Cost
from heliosdb.algorithms.trees.grown import Trees
from heliosdb.algorithms.trees.leaves import BoostingLearner
from heliosdb.algorithms.trees.private_growing import LEAVES
from heliosdb.algorithms.trees.private_work import privacy_of, settings_of_trees
from heliosdb.algorithms.trees.structure import normal_edges
from heliosdb.algorithms.trees.work import Model, levels_of, make_learner
from heliosdb.algorithms.vocabulary import costs_of_levels
from heliosdb.domain.encoding import ColumnKind
from heliosdb.domain.errors import not_supported
from heliosdb.domain.findings import PrivacyPlan, RunPlan
from heliosdb.domain.privacy import Mechanism
from heliosdb.domain.state import State


def check_learned(name: str, classes: int, *, boosts: bool) -> None:
    """Raise FederatedError NOT_SUPPORTED for a target that trees do not learn under a budget."""
    if boosts and classes > 2:
        raise not_supported(
            f"{name} of more than two classes is not supported under a privacy_budget yet",
            hint="random_forest learns them.",
        )


def begin_privately(plan: RunPlan, *, boosts: bool) -> State:
    """Return the state with which round 1 begins: bins, and no trees."""
    scaling, encoding = plan.findings.scaling, plan.findings.encoding
    assert scaling is not None
    levels = levels_of(encoding, len(plan.inputs))
    edges = normal_edges(scaling, levels, _flags(plan), settings_of_trees(plan).bins)
    learner = make_learner(len(classes_of(plan)), 0, boosts=boosts)
    widest = max((many + 1 for many in levels if many), default=0)
    base = np.zeros(learner.scores) if isinstance(learner, BoostingLearner) else np.empty(0)
    return Model(edges, levels, base, Trees.empty(learner.outputs, widest)).to_state()


def _flags(plan: RunPlan) -> tuple[bool, ...]:
    """Say of each input whether it is 0 or 1: a boolean, or an indicator that a value is missing."""
    encoding = plan.findings.encoding
    if encoding is None:
        return plan.findings.booleans or (False,) * len(plan.inputs)
    return tuple(
        (column.kind is ColumnKind.BOOLEAN and column.form == "value")
        or (column.missing_indicator and place == len(column.inputs) - 1)
        for column in encoding.columns
        for place in range(len(column.inputs))
    )


def private_costs(plan: RunPlan) -> Sequence[Cost]:
    """Return what the steps of a round cost a node, in their order; () without a budget."""
    made = plan.findings.plan
    if made is None:
        return ()
    if plan.round == 0:
        return _of_round_0(made)
    costs = [Cost(LEAVES, privacy_of(made).mechanism, plan.run.policy.clipping_threshold)]
    if evaluates(plan) and made.evaluation_noise is not None:
        costs.append(Cost(EVALUATE, Mechanism(made.evaluation_noise)))
    return costs


def _of_round_0(made: PrivacyPlan) -> Sequence[Cost]:
    classes = [] if made.classes_noise is None else [Cost(CLASSES, Mechanism(made.classes_noise))]
    refinements = [Cost(REFINE, Mechanism(noise)) for noise in made.refinement_noise]
    return [
        *costs_of_levels(made),
        *classes,
        Cost(STATISTICS, Mechanism(made.statistics_noise)),
        *refinements,
    ]
