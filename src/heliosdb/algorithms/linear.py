"""Logistic, linear and Poisson regression: by stochastic gradient descent or by Newton steps.

What always holds: parameters are (weights…, bias) on inputs scaled by the task's `Scaling`, a missing value
being the mean (0 after scaling), exactly as the generated SQL treats NULL; of a target of K > 2 classes one
such row for each class but the first, whose score is 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import add

import numpy as np

from federated_sql.errors import ErrorCode, FederatedError
from heliosdb.algorithms.binning import BINS, BinsStep, first_of_round_0
from heliosdb.algorithms.blockwise import sum_parts
from heliosdb.algorithms.budget_plan import prepare
from heliosdb.algorithms.checks import check_parameters, check_rows
from heliosdb.algorithms.classes import CLASSES, ClassesStep
from heliosdb.algorithms.coefficients import Units, describe_coefficients
from heliosdb.algorithms.columns import clamp_parameters, private_targets, scale_columns, scores
from heliosdb.algorithms.curvature import Curvature, one_score, several_scores
from heliosdb.algorithms.evaluation import EVALUATE, EvaluateStep
from heliosdb.algorithms.families import (
    BINOMIAL,
    GAUSSIAN,
    POISSON,
    Family,
    RowValues,
    half_squared_error,
    softmax,
    softmax_losses,
    softmax_residuals,
)
from heliosdb.algorithms.gradient import GRADIENT, GradientStep, GradientWork, sum_layer_gradients
from heliosdb.algorithms.levels import LEVELS, LevelsStep
from heliosdb.algorithms.measures import LARGEST_LOSS, Measure, first_rows, measure
from heliosdb.algorithms.newton import NEWTON, NewtonStep, check_newton_run, fit_of
from heliosdb.algorithms.noisy_newton import FURTHEST_SCORE
from heliosdb.algorithms.norms import NORMS, NormsStep
from heliosdb.algorithms.personalizing import PersonalizeStep
from heliosdb.algorithms.private_layered import (
    clamped_layers,
    classes_shape,
    layered_scores,
    scores_shape,
    train_layers,
)
from heliosdb.algorithms.private_layers import Shape
from heliosdb.algorithms.private_measuring import RowScores, measure_privately
from heliosdb.algorithms.private_newton import NoisyWork, bounded_curvature
from heliosdb.algorithms.private_sgd import descend_privately, sum_gradients
from heliosdb.algorithms.refinement import REFINE, RefineStep
from heliosdb.algorithms.registry import classes_of
from heliosdb.algorithms.releases import releases_of_descent
from heliosdb.algorithms.report import ReportStep
from heliosdb.algorithms.roles import check_weights, offset_of, weights_of
from heliosdb.algorithms.sgd import HeldRows, TrainingRows, descend, net_value, shrinking
from heliosdb.algorithms.sql import LinearPrediction, Link, linear_prediction, softmax_prediction
from heliosdb.algorithms.statistics import STATISTICS, StatisticsStep
from heliosdb.algorithms.steps import PERSONALIZE, REPORT, Cost, Step
from heliosdb.algorithms.stored_rows import StoredRows
from heliosdb.algorithms.table import Table, group_by_subject
from heliosdb.algorithms.training import TRAIN, TrainStep
from heliosdb.algorithms.transfer import Carried
from heliosdb.algorithms.transferred_scores import carry_linear
from heliosdb.algorithms.vocabulary import VOCABULARY, VocabularyStep
from heliosdb.algorithms.works import (
    PARAMETERS,
    TRAINING_TERMS,
    EvaluateWork,
    PrivateTraining,
    ReportWork,
    TrainWork,
)
from heliosdb.domain.bounds import INPUT
from heliosdb.domain.errors import invalid_value, not_supported
from heliosdb.domain.findings import Findings, RunPlan
from heliosdb.domain.ids import StepName
from heliosdb.domain.origin import Origin
from heliosdb.domain.prediction import Prediction
from heliosdb.domain.state import State, make_state
from heliosdb.domain.task import Scaling, Task
from heliosdb.domain.vector import AlreadyPrivate, ClippedSum, Contribution, Dtype, Matrix, Plain, Vector
from heliosdb.parts.algorithms import by_newton, check_private
from heliosdb.parts.private_classes import check_private_classes
from heliosdb.privacy.mechanisms import Lattice, Secret


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
    """One score a row, linear in the scaled inputs, under the loss of a family; see families.py.

    counts: whether the target is a count, 0 or more.
    """

    name: str
    family: Family
    counts: bool = False

    @property
    def scales_target(self) -> bool:
        """Whether the target is a number."""
        return self.family.scales_target

    @property
    def residual(self) -> RowValues:
        """The loss's derivative by the score."""
        return self.family.residuals

    @property
    def loss(self) -> RowValues:
        """The loss of each row."""
        return self.family.losses

    @property
    def link(self) -> Link:
        """From scores to what is predicted."""
        return self.family.link

    @property
    def steps(self) -> Mapping[StepName, Step]:
        """Statistics in round 0, under a budget looked at closer, and before them the target's classes; then
        training, by descent or by Newton steps, and, in some rounds, an evaluation; in the end a report."""
        return {
            BINS: BinsStep(self.name),
            LEVELS: LevelsStep(self.name, streams=True, adds_blocks=True),
            VOCABULARY: VocabularyStep(self.name),
            CLASSES: ClassesStep(self.name, streams=True, adds_blocks=True),
            STATISTICS: StatisticsStep(self.name, streams=True, adds_blocks=True),
            REFINE: RefineStep(self.name, streams=True, adds_blocks=True),
            TRAIN: TrainStep(self.name, reads=TRAINING_TERMS, is_private=not self.counts, streams=True),
            **({} if self.counts else {NORMS: NormsStep(self.name, streams=True)}),
            GRADIENT: GradientStep(self.name, reads=TRAINING_TERMS, is_private=not self.counts, streams=True),
            NEWTON: NewtonStep(self.name),
            EVALUATE: EvaluateStep(self.name, told=(PARAMETERS,), streams=True, adds_blocks=True),
            REPORT: ReportStep(self.name, told=(PARAMETERS,), streams=True),
            PERSONALIZE: PersonalizeStep(self.name, told=(PARAMETERS,), streams=True),
        }

    def prepare(self, plan: RunPlan) -> Findings:
        """Choose the noise of round 0; NOT_SUPPORTED for what there is no private form of."""
        if plan.run.policy.budget is not None:
            self._check_private(plan)
        check_newton_run(plan)
        return prepare(plan)

    def _check_private(self, plan: RunPlan) -> None:
        options = plan.run.options
        check_private(self.name, options.given)
        for name in ("penalty", "weights", "offset"):
            if options.given.get(name):
                raise not_supported(f"the option {name} is not supported under a privacy_budget yet")
        check_private_classes(self.name, options.given, len(classes_of(plan)), plan.run.policy.noise)

    def begin(self, plan: RunPlan) -> State:
        """Return zeros; (inputs + 1,), weights then bias; of K > 2 classes (K - 1, inputs + 1).

        FederatedError INVALID_VALUE for counts that are all 0.
        """
        classes, width = len(classes_of(plan)), len(plan.inputs) + 1
        scaling = plan.findings.scaling
        if self.counts and (scaling is None or not scaling.target_mean > 0.0):
            if plan.findings.plan is not None:
                raise invalid_value("the mean of the counts is, with its noise, not more than 0")
            raise invalid_value("The target is 0 in every row of every node: there is nothing to learn.")
        return make_state(**{PARAMETERS: np.zeros((classes - 1, width) if classes > 2 else width)})

    def carry(self, plan: RunPlan, fresh: State, origin: Origin) -> Carried:
        """Return the version's scores on the run's inputs, in the unit and the classes of its target."""
        return carry_linear(plan, fresh, origin, self.family)

    def first(self, plan: RunPlan) -> StepName:
        """Return for round 0 statistics, before which levels or undeclared classes are asked for; else
        training."""
        if plan.round > 0:
            options = plan.run.options
            if by_newton(options.algorithm, options.given):
                return NEWTON
            return GRADIENT if plan.run.noises_sums else TRAIN
        return first_of_round_0(plan)

    def releases(self, plan: RunPlan) -> Sequence[Cost]:
        """Return what the steps of a round cost a node."""
        return releases_of_descent(plan)

    def predict(self, state: State, findings: Findings) -> Prediction:
        """Return slopes of raw inputs and a link, of several classes those of each, and the coefficients."""
        scaling, parameters = findings.scaling, state[PARAMETERS]
        assert scaling is not None
        made = (
            softmax_prediction(scaling, parameters)
            if parameters.ndim > 1
            else self.make_prediction(scaling, parameters).to_prediction()
        )
        encoding = findings.encoding
        table = describe_coefficients(
            scaling,
            np.atleast_2d(parameters),
            Units.of(self.link, scaling),
            fit_of(state, findings, dispersed=self.family.has_dispersion),
            inputs=() if encoding is None else encoding.inputs,
        )
        return Prediction(made.kind, {**made.content, "coefficients": table})

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
        check_parameters(state, inputs, classes)

    def allows(self, classes: int) -> bool:
        """Whether that is what its targets have: two classes or more, or a number."""
        return classes == 0 if self.scales_target else classes >= 2

    def check_target(self, table: Table, classes: int) -> None:
        """Raise FederatedError (22023), revealing no value, where a target is no class or count, or a weight
        is not more than 0.

        For plain answers only: whether it is raised tells something of a single row. A private answer counts
        a class outside [0, 1] as the nearer of the two.
        """
        check_weights(table)
        target = table.target
        if self.counts and not np.all(target >= 0.0):
            raise FederatedError(
                ErrorCode.INVALID_VALUE, f"The target of {self.name} must be 0 or more in every row."
            )
        if not self.scales_target and not np.all(
            (target >= 0) & (target < classes) & (target == np.rint(target))
        ):
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
        if work.privacy is not None:
            rows, drawn = table.training(), secret or Secret()
            if parameters.ndim > 1:
                shape = self.layers(work.classes, rows.features.shape[1])
                return train_layers(
                    shape, rows, parameters.ravel(), work=work, privacy=work.privacy, secret=drawn
                )
            return self._train_privately(rows, parameters, work, work.privacy, drawn)
        check_rows(table.training_rows)
        new = descend(
            self._training_rows(table, work.scaling),
            parameters,
            self.residual if parameters.ndim == 1 else softmax_residuals,
            epochs=work.local_epochs,
            batch_size=work.batch_size,
            learning_rate=work.learning_rate,
            rng=rng,
            optimizer=work.optimizer,
            terms=work.terms,
            shrink=shrinking(work.penalty, work.l1_ratio),
        )
        return Contribution((new - parameters).ravel(), float(table.training_rows), Plain())

    def _training_rows(self, table: Table, scaling: Scaling) -> TrainingRows:
        """The rows to descend over: scaled at once where they lie in memory, else as they are asked for."""
        if table.space.is_memory:
            rows = table.training()
            return HeldRows(scale_inputs(rows.features, scaling), self._targets(rows, scaling))

        def scaled(rows: Table) -> tuple[Matrix, Vector]:
            return scale_inputs(rows.features, scaling), self._targets(rows, scaling)

        return StoredRows(table, scaled)

    def objective(self, table: Table, parameters: Vector, work: TrainWork) -> float:
        """Return what `train` descends on without privacy: the mean loss of its rows, and the elastic net."""

        def losses_of(rows: Table) -> float:
            scores = scale_inputs(rows.features, work.scaling) @ parameters.T
            losses = softmax_losses if parameters.ndim > 1 else self.loss
            return float(np.fmin(losses(scores, self._targets(rows, work.scaling)), LARGEST_LOSS).sum())

        with np.errstate(over="ignore", invalid="ignore"):
            total: float = sum_parts(table.training_blocks(), losses_of, add)
            return total / table.training_rows + net_value(parameters, work.penalty, work.l1_ratio)

    def layers(self, classes: int, inputs: int) -> Shape:
        """Return it as one layer, a unit for each score."""
        return classes_shape(classes, inputs) if classes > 2 else scores_shape(self.residual)

    def sum_gradients(
        self, table: Table, parameters: Vector, work: GradientWork, secret: Secret
    ) -> Contribution:
        """Sum the clipped gradients of a Poisson sample of the subjects that are not held out."""
        rows = table.training()
        if parameters.ndim > 1:
            shape = self.layers(work.classes, rows.features.shape[1])
            return sum_layer_gradients(shape, rows, parameters.ravel(), work, secret)
        total = sum_gradients(
            scale_columns(rows.features, work.scaling, rows.space),
            self._private_targets(rows, work.scaling),
            group_by_subject(rows.subjects),
            parameters,
            self.residual,
            lattice=Lattice.of(work.clipping_norm, work.noise_multiplier, parameters.size),
            clipping_norm=work.clipping_norm,
            sampling_rate=work.sampling_rate,
            secret=secret,
        )
        return Contribution(total, 1.0, ClippedSum(work.clipping_norm, work.mechanism))

    def _train_privately(
        self, rows: Table, parameters: Vector, work: TrainWork, privacy: PrivateTraining, secret: Secret
    ) -> Contribution:
        new = descend_privately(
            scale_columns(rows.features, work.scaling, rows.space),
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

    def curvature(self, table: Table, parameters: Vector, scaling: Scaling) -> Curvature:
        """Return loss, gradient and Hessian at `parameters` over the rows that are not held out."""
        check_rows(table.training_rows)

        def curvature_of(rows: Table) -> Curvature:
            inputs, weights = scale_inputs(rows.features, scaling), weights_of(rows)
            values = _shifted(inputs @ parameters.T, self._offset(rows, scaling))
            found = self._derivatives(inputs, values, self._targets(rows, scaling), weights)
            return Curvature(float(rows.rows), float(weights.sum()), *found)

        with np.errstate(over="ignore", invalid="ignore"):
            return sum_parts(table.training_blocks(), curvature_of, Curvature.plus)

    def bounded_curvature(
        self, table: Table, parameters: Vector, scaling: Scaling, work: NoisyWork
    ) -> Contribution:
        """Return gradient and Hessian over the same rows, each subject's clipped; the door adds noise."""
        rows, clamped = table.training(), clamp_parameters(parameters)
        return bounded_curvature(rows, clamped, scaling, self.family, self._private_targets, work)

    def _derivatives(
        self, inputs: Matrix, values: Matrix, targets: Vector, weights: Vector
    ) -> tuple[float, Vector, Matrix]:
        """Loss, gradient and Hessian over rows of these scores."""
        if values.ndim == 1:
            losses, family = self.loss(values, targets), self.family
            slopes, curved = family.residuals(values, targets), family.weights(values)
            return float(weights @ losses), *one_score(inputs, weights * slopes, weights * curved)
        losses, slopes = softmax_losses(values, targets), softmax_residuals(values, targets)
        return float(weights @ losses), *several_scores(inputs, slopes, softmax(values), weights)

    def _offset(self, rows: Table, scaling: Scaling) -> Vector:
        return offset_of(rows, self._offset_unit(scaling))

    def _offset_unit(self, scaling: Scaling) -> float:
        return scaling.target_scale if self.link == "identity" else 1.0

    @property
    def measure(self) -> Measure:
        """How its predictions are measured where it has two classes at most."""
        return measure(0 if self.scales_target else 2)

    def evaluate(self, table: Table, parameters: Vector, work: EvaluateWork) -> Contribution:
        """Measure on the held-out rows: the sums of the measure, to be read by `read_evaluation`.

        Where private in whole steps of the lattice of their noise.
        """
        if work.noise_multiplier is not None:
            scores_of = self._row_scores(parameters, work.scaling)
            return measure_privately(scores_of, table.validation(), work)
        how, held_out = work.measure, table.rows - table.training_rows

        def sums_of(rows: Table) -> Vector:
            values = scale_inputs(rows.features, work.scaling) @ parameters.T
            values = _shifted(values, self._offset(rows, work.scaling))
            losses, values, targets = self._measured(values, rows, work.scaling)
            sums = how.plain_sums(np.fmin(losses, LARGEST_LOSS), values, targets)
            firsts = first_rows(rows, are_all=rows.rows == held_out)
            return np.concatenate([sums, how.cells(values, targets, firsts)])

        with np.errstate(over="ignore", invalid="ignore"):
            added = sum_parts(table.validation_blocks(), sums_of, np.add)
        sums = how.tell(added[: how.plain_size], added[how.plain_size :], table.min_cell)
        return Contribution(sums, max(1.0, float(held_out)), Plain())

    def _measured(self, values: Matrix, rows: Table, scaling: Scaling) -> tuple[Vector, Matrix, Vector]:
        """Return losses, scores and targets: of a count how far its mean is off, as of any number."""
        targets, scored = self._targets(rows, scaling), self._scores(values, scaling)
        if values.ndim > 1:
            return softmax_losses(values, targets), scored, targets
        if self.counts:
            targets = scaling.target_mean / scaling.target_scale * (targets - 1.0)
            return half_squared_error(scored, targets), scored, targets
        return self.loss(values, targets), scored, targets

    def _scores(self, values: Matrix, scaling: Scaling) -> Matrix:
        """Return what measures take: of several classes a score of each, of a count its mean, as of any
        number."""
        if values.ndim > 1:
            return np.column_stack([np.zeros(len(values)), values])
        if self.counts:
            factor = scaling.target_mean / scaling.target_scale
            means: Vector = factor * (self.family.weights(values) - 1.0)
            return means
        return values

    def check_scored(self, task: Task) -> None:
        """Refuse what are no parameters, or outside their bounds."""
        check_parameters(task.state, task.n_inputs, ReportWork.of(task).classes)

    def score(self, features: Matrix, task: Task, offset: Vector | None = None) -> Matrix:
        """Return the scores; (rows, inputs) → (rows,), of more than two classes (rows, classes)."""
        assert task.scaling is not None
        with np.errstate(over="ignore", invalid="ignore"):
            values = scale_inputs(features, task.scaling) @ task.state[PARAMETERS].T
            if offset is not None:
                values = _shifted(values, offset / self._offset_unit(task.scaling))
            return self._scores(values, task.scaling)

    def private_scores(self, task: Task) -> RowScores:
        """Return what scores rows, each by itself; see private_measuring.py."""
        assert task.scaling is not None
        return self._row_scores(task.state[PARAMETERS], task.scaling)

    def _row_scores(self, parameters: Vector, scaling: Scaling) -> RowScores:
        if parameters.ndim > 1:
            layers = clamped_layers([parameters], "relu")
            return layered_scores(layers, scaling, is_reduced=True)
        clamped = clamp_parameters(parameters)
        # Of a count its mean is measured, as of any number.
        unit = scaling.target_mean / scaling.target_scale if self.counts else 0.0
        factor = min(max(unit, 1.0 / INPUT.most), INPUT.most)

        def scores_of(features: Matrix) -> Matrix:
            values = scores(features, scaling, clamped)
            return factor * (np.exp(np.minimum(values, FURTHEST_SCORE)) - 1.0) if self.counts else values

        return scores_of

    def make_prediction(self, scaling: Scaling, parameters: Vector) -> LinearPrediction:
        """Return the prediction as numbers; see `heliosdb.algorithms.sql`."""
        return linear_prediction(self.link, scaling, parameters)

    def _targets(self, rows: Table, scaling: Scaling) -> Vector:
        if self.counts and not scaling.target_mean > 0.0:
            raise invalid_value("the mean of counts is more than 0")
        return self.family.units(rows.target, scaling)

    def _private_targets(self, rows: Table, scaling: Scaling) -> Vector:
        if self.counts:
            # Not finite is none of them: a table has no such target.
            with np.errstate(over="ignore"):
                return np.minimum(np.maximum(rows.target / scaling.target_mean, 0.0), INPUT.most)
        return private_targets(rows.target, scaling, 0 if self.scales_target else 2)


def _shifted(values: Matrix, offset: Vector) -> Matrix:
    """Add a row's offset to its score, or to each of its scores."""
    return values + (offset if values.ndim == 1 else offset[:, None])


LOGISTIC_REGRESSION = LinearModel("logistic_regression", BINOMIAL)
LINEAR_REGRESSION = LinearModel("linear_regression", GAUSSIAN)
POISSON_REGRESSION = LinearModel("poisson_regression", POISSON, counts=True)
