"""Neural networks of any architecture on scaled inputs, for two or more classes or a number.

What always holds: only training at a node needs PyTorch; a network begins, is measured and predicts by numpy
alone. Inputs are scaled by the task's `Scaling`, a missing value being the mean, and cut, exactly as
scoring/network.py does for predictions. Under a privacy budget nothing needs PyTorch: see
private_layers.py. What a network is made of is its architecture's matter alone (architecture.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np

from heliosdb.algorithms.architecture import Architecture, Family
from heliosdb.algorithms.binning import BINS, BinsStep, first_of_round_0
from heliosdb.algorithms.budget_plan import prepare
from heliosdb.algorithms.classes import CLASSES, ClassesStep
from heliosdb.algorithms.convolution import CONVOLUTIONS
from heliosdb.algorithms.evaluation import EVALUATE, EvaluateStep
from heliosdb.algorithms.families import half_squared_error, log_loss
from heliosdb.algorithms.frozen import Frozen, hold_layers, whole_state
from heliosdb.algorithms.gradient import GRADIENT, GradientStep, GradientWork, sum_layer_gradients
from heliosdb.algorithms.image_levels import ImageLevelsStep
from heliosdb.algorithms.levels import LEVELS
from heliosdb.algorithms.measures import LARGEST_LOSS, told_sums
from heliosdb.algorithms.network_training import Descent, train_network
from heliosdb.algorithms.norms import NORMS, NormsStep
from heliosdb.algorithms.perceptron import PERCEPTRONS
from heliosdb.algorithms.personalizing import PersonalizeStep
from heliosdb.algorithms.private_layered import layered_scores, train_layers
from heliosdb.algorithms.private_layers import Shape
from heliosdb.algorithms.private_measuring import RowScores, measure_privately
from heliosdb.algorithms.recurrent import GRUS, LSTMS
from heliosdb.algorithms.refinement import REFINE, RefineStep
from heliosdb.algorithms.registry import classes_of, supervised
from heliosdb.algorithms.releases import releases_of_descent
from heliosdb.algorithms.report import ReportStep
from heliosdb.algorithms.statistics import STATISTICS, StatisticsStep
from heliosdb.algorithms.steps import PERSONALIZE, REPORT, Cost, Step, Taken
from heliosdb.algorithms.table import Table
from heliosdb.algorithms.training import TRAIN, TrainStep
from heliosdb.algorithms.transfer import Carried
from heliosdb.algorithms.transferred_layers import carry_layers
from heliosdb.algorithms.transformer import TRANSFORMERS
from heliosdb.algorithms.vocabulary import VOCABULARY, VocabularyStep
from heliosdb.algorithms.works import PARAMETERS, TRAINING_TERMS, EvaluateWork, ReportWork, TrainWork
from heliosdb.domain.errors import ErrorCode, FederatedError, invalid_value
from heliosdb.domain.findings import Findings, RunPlan
from heliosdb.domain.ids import StepName
from heliosdb.domain.origin import Origin
from heliosdb.domain.prediction import Prediction
from heliosdb.domain.state import State
from heliosdb.domain.task import Scaling, Task
from heliosdb.domain.update import Moved, Total
from heliosdb.domain.vector import AnyVector, Contribution, Dtype, Matrix, Plain, Vector
from heliosdb.domain.wording import counted
from heliosdb.parts.algorithms import check_private, has_classes
from heliosdb.parts.transfer import frozen_layers
from heliosdb.privacy.mechanisms import Secret
from heliosdb.scoring.network import scale


@dataclass(frozen=True, slots=True)
class MeasuredStatisticsStep(StatisticsStep):
    """Round 0, which ends only where the layers fit the target that it found."""

    def read(self, plan: RunPlan, state: State, gathered: Total | Moved) -> Taken:
        """Turn the sums into scaling; FederatedError 22023 where the last layer and the target differ."""
        check_network(plan)
        return StatisticsStep.read(self, plan, state, gathered)

    def rescale(self, plan: RunPlan, scaling: Scaling) -> Scaling:
        """Let the network say by what its inputs are scaled."""
        return _family(plan).rescale(plan, scaling)


@dataclass(frozen=True, slots=True)
class MeasuredRefineStep(RefineStep):
    """As the step before it."""

    def read(self, plan: RunPlan, state: State, gathered: Total | Moved) -> Taken:
        """See `MeasuredStatisticsStep.read`."""
        check_network(plan)
        return RefineStep.read(self, plan, state, gathered)

    def rescale(self, plan: RunPlan, scaling: Scaling) -> Scaling:
        """See `MeasuredStatisticsStep.rescale`."""
        return _family(plan).rescale(plan, scaling)


@dataclass(frozen=True, slots=True)
class NeuralNetwork:
    """A network. family: of what kind; architecture: how it is laid out, None where that is not asked yet.
    frozen: the layers that stay as they were; None where all move."""

    architecture: Architecture | None = None
    frozen: Frozen | None = None
    name: str = "neural_network"
    family: Family = PERCEPTRONS

    @property
    def steps(self) -> Mapping[StepName, Step]:
        """Statistics in round 0, under a budget looked at closer, and before them the target's classes; then
        training, by gradients where the noise is of their sum, and, in some rounds, an evaluation; in the end
        a report."""
        return {
            BINS: BinsStep(self.name),
            LEVELS: ImageLevelsStep(self.name),
            VOCABULARY: VocabularyStep(self.name),
            CLASSES: ClassesStep(self.name, streams=True, adds_blocks=True),
            STATISTICS: MeasuredStatisticsStep(self.name, streams_privately=True),
            REFINE: MeasuredRefineStep(self.name, streams=True, adds_blocks=True),
            TRAIN: TrainStep(self.name, reads=TRAINING_TERMS, streams_privately=True),
            GRADIENT: GradientStep(self.name, reads=TRAINING_TERMS, streams=True),
            NORMS: NormsStep(self.name, streams=True),
            EVALUATE: EvaluateStep(self.name, streams_privately=True),
            REPORT: ReportStep(self.name, streams_privately=True),
            PERSONALIZE: PersonalizeStep(self.name),
        }

    def prepare(self, plan: RunPlan) -> Findings:
        """Choose the noise of round 0; 22023 where the layers cannot fit, 0A000 where there is a budget and
        no private form of them."""
        if plan.run.policy.budget is not None:
            check_private(self.name, plan.run.options.given)
        options, encoding = plan.run.options, plan.findings.encoding
        classes: int | None = len(options.target_classes if encoding is None else encoding.classes)
        if has_classes(self.name, options.given) and not classes:
            classes = None
        self.family.check(plan, classes)
        return prepare(plan)

    def begin(self, plan: RunPlan) -> State:
        """Return the network that the run's seed gives."""
        check_network(plan)
        fresh = self.family.plan(plan).begin(plan.run.seed)
        return hold_layers(fresh, len(plan.inputs), frozen_layers(plan.run.options))

    def carry(self, plan: RunPlan, fresh: State, origin: Origin) -> Carried:
        """Return the version's layers on the run's inputs, and a last one of its own for another target."""
        return carry_layers(plan, fresh, origin)

    def first(self, plan: RunPlan) -> StepName:
        """Return for round 0 statistics, before which levels and classes may be asked for; else training."""
        if plan.round > 0:
            return GRADIENT if plan.run.noises_sums else TRAIN
        return first_of_round_0(plan)

    def releases(self, plan: RunPlan) -> Sequence[Cost]:
        """Return what the steps of a round cost a node."""
        return releases_of_descent(plan)

    def predict(self, state: State, findings: Findings) -> Prediction:
        """Return what predicts with the state's parameters."""
        scaling = findings.scaling
        assert scaling is not None
        found = self._found(state, len(scaling.means))
        return found.predict(whole_state(state)[PARAMETERS], scaling)

    @property
    def dtype(self) -> Dtype:
        """Of parameters and updates."""
        return Dtype.FLOAT32

    def of(self, state: State, inputs: int) -> NeuralNetwork:
        """Return it as the state lays it out."""
        found = self.family.read(whole_state(state), inputs)
        return replace(self, architecture=found, frozen=Frozen.of(state, inputs))

    def check_state(self, state: State, inputs: int, classes: int) -> None:
        """Raise FederatedError (22023) for what is no network of so many inputs and classes."""
        Frozen.of(state, inputs)
        if not self.family.read(whole_state(state), inputs).fits(classes):
            raise invalid_value(
                f"The task's network is not of a target of {counted(classes, 'class', 'classes')}."
            )

    def allows(self, classes: int) -> bool:
        """Whether that is what a target may have: a number, or classes."""
        return classes != 1

    def check_target(self, table: Table, classes: int) -> None:
        """Raise FederatedError (22023), without revealing a value, where a class is not one of so many."""
        target = table.target
        if classes and not np.all((target >= 0) & (target < classes) & (target == np.rint(target))):
            raise FederatedError(
                ErrorCode.INVALID_VALUE,
                f"The target of {self.name} must be one of its {classes} classes in every row.",
                hint="target_classes names what else its classes are.",
            )

    def train(
        self,
        table: Table,
        parameters: Vector,
        work: TrainWork,
        rng: np.random.Generator,
        secret: Secret | None = None,
    ) -> Contribution:
        """Train from `parameters` on the rows that are not held out; see `LinearModel.train`."""
        rows = table.training()
        if work.privacy is not None:
            shape, start = self.layers(work.classes, rows.features.shape[1]), parameters.astype(np.float64)
            led = train_layers(shape, rows, start, work=work, privacy=work.privacy, secret=secret or Secret())
            return replace(led, vector=led.vector.astype(np.float32))
        rows, scaling = self._moving_rows(rows, work.scaling)
        if rows.rows == 0:
            raise FederatedError(ErrorCode.INVALID_VALUE, "The dataset has no row with a target to train on.")
        moved = train_network(
            self._moving,
            parameters,
            self._moving.scale(self._moving.hide_few(rows, scaling), scaling).astype(np.float32),
            _targets(rows, scaling, work.classes),
            descent=Descent(
                work.local_epochs, work.batch_size, work.optimizer, work.learning_rate, work.terms
            ),
            rng=rng,
        )
        return Contribution(moved - parameters, float(rows.rows), Plain())

    def layers(self, classes: int, inputs: int) -> Shape:
        """Return its layers that move, as private training takes them."""
        del classes, inputs  # A state's layers say both.
        assert self.architecture is not None
        return self.architecture.shape() if self.frozen is None else self.frozen.shape()

    def count_last(self, layers: int) -> int:
        """Return how many parameters the last so many layers have; 22023 where no layer is before them."""
        assert self.architecture is not None
        leaves = self._moving.leaves(np.zeros(self._moving.size, dtype=np.float32))
        last = leaves[-2 * layers :]
        if len(last) == len(leaves):
            raise invalid_value("the network has no layer before those that stay at the nodes")
        return sum(one.size for one in last)

    def sum_gradients(
        self, table: Table, parameters: Vector, work: GradientWork, secret: Secret
    ) -> Contribution:
        """Sum the clipped gradients of a Poisson sample of the subjects that are not held out."""
        shape = self.layers(work.classes, table.features.shape[1])
        return sum_layer_gradients(shape, table.training(), parameters.astype(np.float64), work, secret)

    def objective(self, table: Table, parameters: Vector, work: TrainWork) -> float:
        """Return what `train` descends on: the mean loss of its rows."""
        assert self.architecture is not None
        rows = table.training()
        scores = _scores(self.architecture, self._all(parameters), rows.features, work.scaling)
        losses = _losses(scores, _targets(rows, work.scaling, work.classes), work.classes)
        return float(np.fmin(losses, LARGEST_LOSS).mean())

    def evaluate(self, table: Table, parameters: Vector, work: EvaluateWork) -> Contribution:
        """Measure on the held-out rows: the sums of the measure, to be read by `read_evaluation`.

        Where private in whole steps of the lattice of their noise.
        """
        assert self.architecture is not None
        rows = table.validation()
        if work.noise_multiplier is not None:
            scores_of = _row_scores(self.architecture, self._all(parameters), work.scaling)
            return measure_privately(scores_of, rows, work)
        scores = _scores(self.architecture, self._all(parameters), rows.features, work.scaling)
        targets = _targets(rows, work.scaling, work.classes)
        losses = np.fmin(_losses(scores, targets, work.classes), LARGEST_LOSS)
        made = told_sums(work.measure, losses, scores, targets, rows)
        return Contribution(made, max(1.0, float(rows.rows)), Plain())

    def check_scored(self, task: Task) -> None:
        """Refuse what is no network of the task's inputs and classes."""
        self.check_state(task.state, task.n_inputs, ReportWork.of(task).classes)

    def score(self, features: Matrix, task: Task, offset: Vector | None = None) -> Matrix:
        """Return the scores; (rows, inputs) → (rows,), of more than two classes (rows, classes)."""
        del offset  # There is none of it.
        assert task.scaling is not None
        found = self._found(task.state, task.n_inputs)
        return _scores(found, whole_state(task.state)[PARAMETERS], features, task.scaling)

    def private_scores(self, task: Task) -> RowScores:
        """Return what scores rows, each by itself; see private_measuring.py."""
        assert task.scaling is not None
        found = self._found(task.state, task.n_inputs)
        return _row_scores(found, whole_state(task.state)[PARAMETERS], task.scaling)

    def _found(self, state: State, inputs: int) -> Architecture:
        return self.architecture or self.family.read(whole_state(state), inputs)

    @property
    def _moving(self) -> Architecture:
        """The network of the layers that move."""
        assert self.architecture is not None
        return self.architecture if self.frozen is None else self.frozen.rest

    def _moving_rows(self, rows: Table, scaling: Scaling) -> tuple[Table, Scaling]:
        """Return what these layers are given of rows, and how it is scaled."""
        return (rows, scaling) if self.frozen is None else self.frozen.pass_rows(rows, scaling)

    def _all(self, parameters: Vector) -> AnyVector:
        """Return the parameters of all layers."""
        return parameters if self.frozen is None else self.frozen.join(parameters)


def check_network(plan: RunPlan) -> None:
    """Raise FederatedError (22023) where a network cannot fit inputs and target, or is too many numbers."""
    _family(plan).check(plan, len(classes_of(plan)))


def _family(plan: RunPlan) -> Family:
    return cast(NeuralNetwork, supervised(plan.run.options.algorithm)).family


def _scores(architecture: Architecture, parameters: Vector, features: Matrix, scaling: Scaling) -> Matrix:
    """Return what the measures take: the last sums; of one unit, or of two classes, (rows,)."""
    sums = architecture.sums(parameters, architecture.scale(features, scaling))
    return sums if sums.shape[1] > 1 else sums[:, 0]


def _row_scores(architecture: Architecture, parameters: Vector, scaling: Scaling) -> RowScores:
    return layered_scores(architecture.scorer(parameters), scaling)


def _targets(rows: Table, scaling: Scaling, classes: int) -> Vector:
    if classes:
        return rows.target
    return scale(rows.target[:, None], (scaling.target_mean,), (scaling.target_scale,))[:, 0]


def _losses(scores: Matrix, targets: Vector, classes: int) -> Vector:
    """Return the loss of each row; of several classes -log p(target), from the scores."""
    if classes == 0:
        return half_squared_error(scores, targets)
    if classes == 2:
        return log_loss(scores, targets)
    lead = scores - scores.max(axis=1, keepdims=True)
    chosen = lead[np.arange(targets.size), targets.astype(np.int64)]
    losses: Vector = np.log(np.exp(lead).sum(axis=1)) - chosen
    return losses


NEURAL_NETWORK = NeuralNetwork()
CNN = NeuralNetwork(name="cnn", family=CONVOLUTIONS)
LSTM = NeuralNetwork(name="lstm", family=LSTMS)
GRU = NeuralNetwork(name="gru", family=GRUS)
TRANSFORMER = NeuralNetwork(name="transformer", family=TRANSFORMERS)
