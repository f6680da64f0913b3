"""Logistic and linear regression, trained by stochastic gradient descent on scaled inputs.

What always holds: parameters are (weights…, bias) on inputs scaled by the task's `Scaling`, a missing value
being the mean (0 after scaling), exactly as the generated SQL treats NULL.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from federated_sql.errors import ErrorCode, FederatedError
from heliosdb.algorithms.columns import clamp_parameters, scale_columns, scale_target, scores
from heliosdb.algorithms.evaluation import EVALUATE, EvaluateStep
from heliosdb.algorithms.private_sgd import descend_privately
from heliosdb.algorithms.refinement import REFINE, RefineStep
from heliosdb.algorithms.schedule import evaluates
from heliosdb.algorithms.sgd import descend
from heliosdb.algorithms.sql import LinearPrediction, Link, linear_prediction
from heliosdb.algorithms.statistics import STATISTICS, StatisticsStep, prepare
from heliosdb.algorithms.steps import Cost, Step
from heliosdb.algorithms.table import Table, group_by_subject
from heliosdb.algorithms.training import TRAIN, TrainStep, private_training
from heliosdb.algorithms.works import PARAMETERS, EvaluateWork, Evaluation, PrivateTraining, TrainWork
from heliosdb.domain.findings import Findings, RunPlan
from heliosdb.domain.ids import RoundNumber, StepName
from heliosdb.domain.prediction import Prediction
from heliosdb.domain.privacy import Mechanism
from heliosdb.domain.state import State, make_state
from heliosdb.domain.task import Scaling
from heliosdb.domain.vector import AlreadyPrivate, ClippedSum, Contribution, Matrix, Plain, Vector
from heliosdb.privacy.mechanisms import Lattice, Secret
from heliosdb.privacy.plan import EVALUATION_SENSITIVITY

LOSS_CAP = 4.0
"""A subject's mean loss counts up to this in a private evaluation."""

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


def _classified(scores: Vector, targets: Vector) -> Vector:
    right: Vector = ((scores > 0) == (targets > 0.5)).astype(np.float64)
    return right


def _half_square_of_target(scores: Vector, targets: Vector) -> Vector:
    return 0.5 * np.square(targets)


def scale_inputs(features: Matrix, scaling: Scaling) -> Matrix:
    """Scale features, fill what is missing (or not finite) with 0, the mean, and append a column of ones."""
    inputs = np.ones((features.shape[0], features.shape[1] + 1))
    scaled = inputs[:, :-1]
    np.subtract(features, np.array(scaling.means), out=scaled)
    np.divide(scaled, np.array(scaling.scales), out=scaled)
    scaled[~np.isfinite(scaled)] = 0.0
    return inputs


@dataclass(frozen=True, slots=True)
class LinearModel:
    """One score a row, linear in the scaled inputs, under a loss.

    residual: the loss's derivative by the score. quality: what is summed beside the loss to give the
    accuracy.
    """

    name: str
    scales_target: bool
    residual: RowValues
    loss: RowValues
    quality: RowValues
    link: Link

    @property
    def steps(self) -> Mapping[StepName, Step]:
        """Statistics in round 0, looked at closer under a budget; then training and, in some rounds, an
        evaluation."""
        return {
            STATISTICS: StatisticsStep(self.name),
            REFINE: RefineStep(self.name),
            TRAIN: TrainStep(self.name),
            EVALUATE: EvaluateStep(self.name),
        }

    def prepare(self, plan: RunPlan) -> Findings:
        """Choose the noise of round 0."""
        return prepare(plan)

    def begin(self, plan: RunPlan) -> State:
        """Return zeros; (features + 1,), weights then bias."""
        return make_state(**{PARAMETERS: np.zeros(len(plan.run.options.features) + 1)})

    def first(self, number: RoundNumber) -> StepName:
        """Return statistics for round 0, else training."""
        return STATISTICS if number == 0 else TRAIN

    def releases(self, plan: RunPlan) -> Sequence[Cost]:
        """Return what the steps of a round cost a node."""
        made = plan.findings.plan
        if made is None:
            return []
        if plan.round == 0:
            refinements = [Cost(REFINE, Mechanism(noise)) for noise in made.refinement_noise]
            return [Cost(STATISTICS, Mechanism(made.statistics_noise)), *refinements]
        training = private_training(plan, made)
        costs = [Cost(TRAIN, training.mechanism, training.clipping_norm)]
        if evaluates(plan) and made.evaluation_noise is not None:
            costs.append(Cost(EVALUATE, Mechanism(made.evaluation_noise)))
        return costs

    def predict(self, state: State, scaling: Scaling | None) -> Prediction:
        """Return slopes of raw features, and a link."""
        assert scaling is not None
        return self.make_prediction(scaling, state[PARAMETERS]).to_prediction()

    def check_target(self, table: Table) -> None:
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
        )
        guard = AlreadyPrivate(privacy.mechanism)
        return Contribution(new - parameters, privacy.expected_subjects, guard)

    def evaluate(self, table: Table, parameters: Vector, work: EvaluateWork) -> Contribution:
        """Measure on the held-out rows: (loss, quality, count) as sums, to be read by `read_evaluation`.

        Plain: the sums over rows. Quality is 1 for a row classified right; for regression half the square
        of the scaled target, so that R² = 1 - loss / quality (about the mean that scaling uses). Private:
        over subjects, each with the means over its rows cut to [0, cap] and mapped to [-1/2, 1/2], and a
        half for the count: L2 sensitivity sqrt(3) / 2; in whole steps of the lattice of its noise.
        """
        rows = table.validation()
        if work.noise_multiplier is not None:
            return self._evaluate_privately(rows, parameters, work.scaling, work.noise_multiplier)
        with np.errstate(over="ignore", invalid="ignore"):
            values = scale_inputs(rows.features, work.scaling) @ parameters
            targets = self._targets(rows, work.scaling)
            loss, quality = self.loss(values, targets), self.quality(values, targets)
        sums = np.array([loss.sum(), quality.sum(), float(rows.rows)])
        return Contribution(sums, max(1.0, float(rows.rows)), Plain())

    def _evaluate_privately(
        self, rows: Table, parameters: Vector, scaling: Scaling, noise_multiplier: float
    ) -> Contribution:
        values = scores(rows.features, scaling, clamp_parameters(parameters))
        targets = self._private_targets(rows, scaling)
        measured = np.stack([self.loss(values, targets), self.quality(values, targets)])
        means = group_by_subject(rows.subjects).means(measured, _ROW_CAP)
        caps = np.array([[LOSS_CAP], [self._quality_cap()]])
        subjects = np.full((3, means.shape[1]), 0.5)
        np.subtract(np.minimum(np.maximum(means, 0.0), caps) / caps, 0.5, out=subjects[:2])
        lattice = Lattice.of(EVALUATION_SENSITIVITY, noise_multiplier, 3)
        guard = ClippedSum(EVALUATION_SENSITIVITY, Mechanism(noise_multiplier))
        return Contribution(lattice.total(lattice.sum_steps(subjects)), 1.0, guard)

    def read_evaluation(self, total: Vector, work: EvaluateWork) -> Evaluation:
        """Read the sum of all nodes' answers to `evaluate`; noise that leaves no count gives no figures."""
        if work.noise_multiplier is None:
            count = float(total[2])
            loss_sum, quality_sum = float(total[0]), float(total[1])
        else:
            count = 2.0 * float(total[2])
            loss_sum = LOSS_CAP * (float(total[0]) + 0.5 * count)
            quality_sum = self._quality_cap() * (float(total[1]) + 0.5 * count)
        if count < 1.0:
            return Evaluation(None, None, max(0.0, count))
        return Evaluation(max(0.0, loss_sum / count), self._accuracy(loss_sum, quality_sum, count), count)

    def make_prediction(self, scaling: Scaling, parameters: Vector) -> LinearPrediction:
        """Return the prediction as numbers; see `heliosdb.algorithms.sql`."""
        return linear_prediction(self.link, scaling, parameters)

    def _accuracy(self, loss_sum: float, quality_sum: float, count: float) -> float | None:
        if not self.scales_target:
            return min(1.0, max(0.0, quality_sum / count))
        return min(1.0, 1.0 - loss_sum / quality_sum) if quality_sum > 0 else None

    def _quality_cap(self) -> float:
        return LOSS_CAP if self.scales_target else 1.0

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
    quality=_classified,
    link="logistic",
)

LINEAR_REGRESSION = LinearModel(
    name="linear_regression",
    scales_target=True,
    residual=lambda scores, targets: scores - targets,
    loss=half_squared_error,
    quality=_half_square_of_target,
    link="identity",
)
