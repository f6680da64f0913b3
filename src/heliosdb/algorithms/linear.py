"""Logistic and linear regression, trained by stochastic gradient descent on scaled inputs.

What always holds: parameters are (weights…, bias) on inputs scaled by the task's `Scaling`, a missing value
being the mean (0 after scaling), exactly as the generated SQL treats NULL.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from federated_sql.errors import ErrorCode, FederatedError
from heliosdb.algorithms.classes import CLASSES, ClassesStep
from heliosdb.algorithms.columns import clamp_parameters, scale_columns, scale_target, scores
from heliosdb.algorithms.evaluation import EVALUATE, EvaluateStep
from heliosdb.algorithms.levels import LEVELS, LevelsStep, first_of_round_0
from heliosdb.algorithms.measures import LARGEST_LOSS, Evaluation, Measure, measure
from heliosdb.algorithms.private_sgd import descend_privately
from heliosdb.algorithms.refinement import REFINE, RefineStep
from heliosdb.algorithms.report import ReportStep
from heliosdb.algorithms.schedule import evaluates
from heliosdb.algorithms.sgd import descend
from heliosdb.algorithms.sql import LinearPrediction, Link, linear_prediction
from heliosdb.algorithms.statistics import STATISTICS, StatisticsStep, prepare
from heliosdb.algorithms.steps import REPORT, Cost, Step
from heliosdb.algorithms.table import Table, group_by_subject
from heliosdb.algorithms.training import TRAIN, TrainStep, private_training
from heliosdb.algorithms.works import PARAMETERS, TRAINING_TERMS, EvaluateWork, PrivateTraining, TrainWork
from heliosdb.domain import bounds
from heliosdb.domain.errors import invalid_value
from heliosdb.domain.findings import Findings, RunPlan
from heliosdb.domain.ids import StepName
from heliosdb.domain.prediction import Prediction
from heliosdb.domain.privacy import Mechanism
from heliosdb.domain.settings import outside
from heliosdb.domain.state import State, make_state
from heliosdb.domain.task import Scaling, Task
from heliosdb.domain.vector import AlreadyPrivate, ClippedSum, Contribution, Dtype, Matrix, Plain, Vector
from heliosdb.privacy.mechanisms import Lattice, Secret

_ROW_CAP = 1024.0
"""A row's loss counts up to this in the mean of its subject."""

RowValues = Callable[[Vector, Vector], Vector]
"""(scores, scaled targets) → one value a row."""


def sigmoid(scores: Vector) -> Vector:
    """Return 1 / (1 + exp(-score)), without overflow."""
    probabilities: Vector = 0.5 * (1.0 + np.tanh(0.5 * scores))
    return probabilities


def log_loss(scores: Vector, targets: Vector) -> Vector:
    """Return -log p(target), from the scores, so that no probability is rounded to 0 or 1."""
    losses: Vector = np.logaddexp(0.0, scores) - targets * scores
    return losses


def half_squared_error(scores: Vector, targets: Vector) -> Vector:
    """Return half the squared error, in units of the scaled target."""
    losses: Vector = 0.5 * np.square(scores - targets)
    return losses


def scale_inputs(features: Matrix, scaling: Scaling) -> Matrix:
    """Scale features, fill what is missing (or not finite) with 0, the mean, and append a column of ones."""
    inputs = np.ones((features.shape[0], features.shape[1] + 1))
    scaled = inputs[:, :-1]
    np.subtract(features, np.array(scaling.means), out=scaled)
    np.divide(scaled, np.array(scaling.scales), out=scaled)
    scaled[~np.isfinite(scaled)] = 0.0
    return inputs


def check_parameters(state: State, inputs: int) -> None:
    """Raise FederatedError (22023) for all but one array of a weight for each input and a bias, in bounds."""
    parameters = state.get(PARAMETERS)
    if len(state) != 1 or parameters is None or parameters.dtype != np.float64:
        raise invalid_value("The task's parameters do not fit its algorithm and features.")
    if parameters.shape != (inputs + 1,):
        raise invalid_value("The task's parameters do not fit its algorithm and features.")
    within = bounds.PARAMETER
    inside = (parameters >= within.least) & (parameters <= within.most)
    if not np.all(inside):
        raise outside("a parameter", float(parameters[~inside][0]), within)


@dataclass(frozen=True, slots=True)
class LinearModel:
    """One score a row, linear in the scaled inputs, under a loss.

    residual: the loss's derivative by the score.
    """

    name: str
    scales_target: bool
    residual: RowValues
    loss: RowValues
    link: Link

    @property
    def steps(self) -> Mapping[StepName, Step]:
        """Statistics in round 0, under a budget looked at closer, and before them the target's classes; then
        training and, in some rounds, an evaluation; in the end a report."""
        return {
            LEVELS: LevelsStep(self.name),
            CLASSES: ClassesStep(self.name),
            STATISTICS: StatisticsStep(self.name),
            REFINE: RefineStep(self.name),
            TRAIN: TrainStep(self.name, reads=TRAINING_TERMS),
            EVALUATE: EvaluateStep(self.name),
            REPORT: ReportStep(self.name),
        }

    def prepare(self, plan: RunPlan) -> Findings:
        """Choose the noise of round 0."""
        return prepare(plan)

    def begin(self, plan: RunPlan) -> State:
        """Return zeros; (features + 1,), weights then bias."""
        return make_state(**{PARAMETERS: np.zeros(len(plan.inputs) + 1)})

    def first(self, plan: RunPlan) -> StepName:
        """Return for round 0 statistics, before which levels or undeclared classes are asked for; else
        training."""
        if plan.round > 0:
            return TRAIN
        return first_of_round_0(plan)

    def releases(self, plan: RunPlan) -> Sequence[Cost]:
        """Return what the steps of a round cost a node."""
        made = plan.findings.plan
        if made is None:
            return []
        if plan.round == 0:
            classes = [] if made.classes_noise is None else [Cost(CLASSES, Mechanism(made.classes_noise))]
            refinements = [Cost(REFINE, Mechanism(noise)) for noise in made.refinement_noise]
            return [*classes, Cost(STATISTICS, Mechanism(made.statistics_noise)), *refinements]
        training = private_training(plan, made)
        costs = [Cost(TRAIN, training.mechanism, training.clipping_norm)]
        if evaluates(plan) and made.evaluation_noise is not None:
            costs.append(Cost(EVALUATE, Mechanism(made.evaluation_noise)))
        return costs

    def predict(self, state: State, findings: Findings) -> Prediction:
        """Return slopes of raw inputs, and a link."""
        assert findings.scaling is not None
        return self.make_prediction(findings.scaling, state[PARAMETERS]).to_prediction()

    @property
    def dtype(self) -> Dtype:
        """Of parameters and updates."""
        return Dtype.FLOAT64

    def of(self, state: State, inputs: int) -> LinearModel:
        """Return itself: all its states have one form."""
        del state, inputs
        return self

    def check_state(self, state: State, inputs: int, classes: int) -> None:
        """Raise FederatedError (22023) for all but a weight for each input and a bias, in their bounds."""
        del classes
        check_parameters(state, inputs)

    def allows(self, classes: int) -> bool:
        """Whether that is what its targets have: two classes, or a number."""
        return classes == (0 if self.scales_target else 2)

    def check_target(self, table: Table, classes: int) -> None:
        """Raise FederatedError (22023), without revealing a value, where a class is not 0 or 1.

        For plain answers only: whether it is raised tells something of a single row. A private answer counts
        a class outside [0, 1] as the nearer of the two.
        """
        if not self.scales_target and not np.all((table.target == 0) | (table.target == 1)):
            raise FederatedError(
                ErrorCode.INVALID_VALUE,
                f"The target of {self.name} must be 0 or 1 in every row.",
                hint="target_classes names what else its two classes are.",
            )

    def train(
        self,
        table: Table,
        parameters: Vector,
        work: TrainWork,
        rng: np.random.Generator,
        secret: Secret | None = None,
    ) -> Contribution:
        """Train from `parameters` on the rows that are not held out.

        The vector is new - old parameters. Weight: the number of rows; where private, the released count of
        subjects, never the true one. rng shuffles (see `derive_rng`); secret is for DP-SGD, fresh by
        default. Raises FederatedError: UF003 where training diverges, 22023 where no row is left to train
        on (plain only: a private answer does not tell).
        """
        rows = table.training()
        if work.privacy is not None:
            return self._train_privately(rows, parameters, work, work.privacy, secret or Secret())
        if rows.rows == 0:
            raise FederatedError(ErrorCode.INVALID_VALUE, "The dataset has no row with a target to train on.")
        new = descend(
            scale_inputs(rows.features, work.scaling),
            self._targets(rows, work.scaling),
            parameters,
            self.residual,
            epochs=work.local_epochs,
            batch_size=work.batch_size,
            learning_rate=work.learning_rate,
            rng=rng,
            optimizer=work.optimizer,
            terms=work.terms,
        )
        return Contribution(new - parameters, float(rows.rows), Plain())

    def _train_privately(
        self, rows: Table, parameters: Vector, work: TrainWork, privacy: PrivateTraining, secret: Secret
    ) -> Contribution:
        new = descend_privately(
            scale_columns(rows.features, work.scaling),
            self._private_targets(rows, work.scaling),
            group_by_subject(rows.subjects),
            parameters,
            self.residual,
            privacy=privacy,
            learning_rate=work.learning_rate,
            secret=secret,
            optimizer=work.optimizer,
            terms=work.terms,
        )
        guard = AlreadyPrivate(privacy.mechanism)
        return Contribution(new - parameters, privacy.expected_subjects, guard)

    @property
    def measure(self) -> Measure:
        """How its predictions are measured."""
        return measure(0 if self.scales_target else 2)

    def evaluate(self, table: Table, parameters: Vector, work: EvaluateWork) -> Contribution:
        """Measure on the held-out rows: the sums of the measure, to be read by `read_evaluation`.

        Where private in whole steps of the lattice of their noise.
        """
        rows = table.validation()
        if work.noise_multiplier is not None:
            return self._evaluate_privately(rows, parameters, work.scaling, work.noise_multiplier)
        with np.errstate(over="ignore", invalid="ignore"):
            values = scale_inputs(rows.features, work.scaling) @ parameters
            targets = self._targets(rows, work.scaling)
            losses = np.fmin(self.loss(values, targets), LARGEST_LOSS)
            sums = self.measure.plain_sums(losses, values, targets)
        return Contribution(sums, max(1.0, float(rows.rows)), Plain())

    def _evaluate_privately(
        self, rows: Table, parameters: Vector, scaling: Scaling, noise_multiplier: float
    ) -> Contribution:
        values, boxes = scores(rows.features, scaling, clamp_parameters(parameters)), self.measure.boxes
        targets = self._private_targets(rows, scaling)
        measured = self.measure.row_values(self.loss(values, targets), values, targets)
        means = group_by_subject(rows.subjects).means(measured, _ROW_CAP)
        lattice = Lattice.of(boxes.sensitivity, noise_multiplier, boxes.size)
        guard = ClippedSum(boxes.sensitivity, Mechanism(noise_multiplier))
        return Contribution(lattice.total(lattice.sum_steps(boxes.coordinates(means))), 1.0, guard)

    def read_evaluation(self, total: Vector, work: EvaluateWork, nodes: int) -> Evaluation:
        """Read the sum of so many nodes' answers to `evaluate`."""
        scale = work.scaling.target_scale
        if work.noise_multiplier is None:
            return self.measure.read_plain(total, scale)
        boxes = self.measure.boxes
        noise = Lattice.of(boxes.sensitivity, work.noise_multiplier, boxes.size).std * math.sqrt(nodes)
        return self.measure.read_private(total, noise, scale)

    def check_scored(self, task: Task) -> None:
        """Refuse what are no parameters, or outside their bounds."""
        check_parameters(task.state, task.n_inputs)

    def score(self, features: Matrix, task: Task) -> Matrix:
        """Return the scores; (rows, inputs) → (rows,)."""
        assert task.scaling is not None
        scored: Vector = scale_inputs(features, task.scaling) @ task.state[PARAMETERS]
        return scored

    def make_prediction(self, scaling: Scaling, parameters: Vector) -> LinearPrediction:
        """Return the prediction as numbers; see `heliosdb.algorithms.sql`."""
        return linear_prediction(self.link, scaling, parameters)

    def _targets(self, rows: Table, scaling: Scaling) -> Vector:
        if not self.scales_target:
            return rows.target
        return (rows.target - scaling.target_mean) / scaling.target_scale

    def _private_targets(self, rows: Table, scaling: Scaling) -> Vector:
        if self.scales_target:
            return scale_target(rows.target, scaling)
        # fmax, fmin: what is not a number counts as a class too.
        classes: Vector = np.fmin(np.fmax(rows.target, 0.0), 1.0)
        return classes


LOGISTIC_REGRESSION = LinearModel(
    name="logistic_regression",
    scales_target=False,
    residual=lambda scores, targets: sigmoid(scores) - targets,
    loss=log_loss,
    link="logistic",
)

LINEAR_REGRESSION = LinearModel(
    name="linear_regression",
    scales_target=True,
    residual=lambda scores, targets: scores - targets,
    loss=half_squared_error,
    link="identity",
)
