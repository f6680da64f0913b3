"""random_forest and gradient_boosting as the coordinator and nodes know them.

What always holds: without a privacy budget round 0 makes the state; under one it makes scaling and plan, and
splits are drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from heliosdb.algorithms.binning import BINS, BinsStep, first_of_round_0
from heliosdb.algorithms.budget_plan import prepare
from heliosdb.algorithms.classes import CLASSES, ClassesStep
from heliosdb.algorithms.evaluation import EVALUATE
from heliosdb.algorithms.levels import LEVELS, LevelsStep
from heliosdb.algorithms.private_measuring import RowScores
from heliosdb.algorithms.registry import classes_of
from heliosdb.algorithms.statistics import REFINE, STATISTICS
from heliosdb.algorithms.steps import REPORT, Cost, Step
from heliosdb.algorithms.table import Table
from heliosdb.algorithms.trees.growing import GROW, GrowStep
from heliosdb.algorithms.trees.locating import QUANTILES, QuantilesStep, TreeStatisticsStep
from heliosdb.algorithms.trees.measuring import (
    TreeEvaluateStep,
    TreeReportStep,
    check_scored,
    row_scores,
    told_arrays,
)
from heliosdb.algorithms.trees.planned import begin_privately, check_learned, private_costs
from heliosdb.algorithms.trees.prediction import tree_prediction
from heliosdb.algorithms.trees.private_growing import LEAVES, LeavesStep
from heliosdb.algorithms.trees.private_round_0 import TreeRefineStep
from heliosdb.algorithms.vocabulary import VOCABULARY, VocabularyStep
from heliosdb.domain.classes import BINARY_LABELS
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.findings import Findings, RunPlan
from heliosdb.domain.ids import StepName
from heliosdb.domain.prediction import Prediction
from heliosdb.domain.state import State
from heliosdb.domain.task import Task
from heliosdb.domain.vector import Matrix, Vector


@dataclass(frozen=True, slots=True)
class TreeModel:
    """boosts: whether each tree is a step of boosting after those before it, or one of a forest."""

    name: str
    boosts: bool
    coding: Literal["index"] = "index"

    @property
    def steps(self) -> Mapping[StepName, Step]:
        """In round 0 levels, where rows alone tell them, statistics and counts; then sums, from which trees
        grow, and an evaluation; in the end a report. Under a budget in round 0 classes, where rows alone tell
        them, and statistics that are looked at closer; then sums over the leaves of drawn trees."""
        return {
            BINS: BinsStep(self.name),
            LEVELS: LevelsStep(self.name),
            VOCABULARY: VocabularyStep(self.name),
            CLASSES: ClassesStep(self.name, streams=True),
            STATISTICS: TreeStatisticsStep(self.name, boosts=self.boosts, streams_privately=True),
            REFINE: TreeRefineStep(self.name, streams=True),
            QUANTILES: QuantilesStep(self.name, self.boosts),
            GROW: GrowStep(self.name, self.boosts),
            LEAVES: LeavesStep(self.name, self.boosts),
            EVALUATE: TreeEvaluateStep(
                self.name, boosts=self.boosts, told=told_arrays(boosts=self.boosts), streams_privately=True
            ),
            REPORT: TreeReportStep(self.name, streams_privately=True),
        }

    def prepare(self, plan: RunPlan) -> Findings:
        """Choose the noise of round 0 where there is a budget; NOT_SUPPORTED for what has no private form."""
        if plan.run.policy.budget is None:
            return plan.findings
        check_learned(self.name, len(classes_of(plan)), boosts=self.boosts)
        return prepare(plan)

    def begin(self, plan: RunPlan) -> State:
        """Return no trees, under a budget: without one round 0 has made the state."""
        return begin_privately(plan, boosts=self.boosts)

    def first(self, plan: RunPlan) -> StepName:
        """For round 0 statistics, before which levels and classes may be asked for; then sums."""
        if plan.round == 0:
            return first_of_round_0(plan)
        return GROW if plan.run.policy.budget is None else LEAVES

    def releases(self, plan: RunPlan) -> Sequence[Cost]:
        """Return what the steps of a round cost a node; () without a budget."""
        return private_costs(plan)

    def predict(self, state: State, findings: Findings) -> Prediction:
        """Return the trees as flat arrays."""
        encoding = findings.encoding
        undeclared = 0 if findings.number_target else len(BINARY_LABELS)
        classes = undeclared if encoding is None else len(encoding.classes)
        return tree_prediction(state, findings, classes, boosts=self.boosts)

    def check_scored(self, task: Task) -> None:
        """Refuse what are no whole trees."""
        check_scored(task, boosts=self.boosts, covers=True)

    def score(self, features: Matrix, task: Task, offset: Vector | None = None) -> Matrix:
        """Return the scores, as measures/measure.py has them."""
        del offset  # There is none of it.
        return row_scores(task, boosts=self.boosts)(features)

    def private_scores(self, task: Task) -> RowScores:
        """Return what scores rows, each by itself; see private_measuring.py."""
        return row_scores(task, boosts=self.boosts, privately=True)

    def allows(self, classes: int) -> bool:
        """Whether a target has two classes or more, or is a number."""
        return classes != 1

    def check_target(self, table: Table, classes: int) -> None:
        """Raise FederatedError (22023), naming no value, where a class is none of so many."""
        if classes and not np.isin(table.target, np.arange(classes)).all():
            raise FederatedError(
                ErrorCode.INVALID_VALUE,
                f"The target of {self.name} is none of its {classes} classes in some row.",
                hint="target_classes names what else its two classes are.",
            )
