"""What the steps of supervised learning read of a task's work: typed, and as the one envelope.

What always holds: `of` reads what `to_work` wrote, every number within its bounds, or raises FederatedError
INVALID_VALUE; nothing else may be among the settings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from heliosdb.algorithms.layout import CLASS_COUNTS, plain_size, private_size
from heliosdb.algorithms.local_terms import NO_TERMS, LocalTerms
from heliosdb.algorithms.measures import Measure, measure
from heliosdb.algorithms.own_terms import NOTHING, OwnTerms
from heliosdb.algorithms.report_layout import ReportLayout
from heliosdb.domain import bounds
from heliosdb.domain.errors import FederatedError, invalid_value, not_supported
from heliosdb.domain.privacy import Mechanism, Noise
from heliosdb.domain.settings import outside, read_settings, settings_of, within
from heliosdb.domain.state import State
from heliosdb.domain.task import Privacy, Scaling, Task, Work
from heliosdb.domain.vector import Dtype
from heliosdb.parts.algorithms import LocalOptimizer
from heliosdb.privacy.mechanisms import Lattice

PARAMETERS = "parameters"
"""The one array of a model that is trained by descent."""

Range = tuple[float, float]

Window = tuple[float, float]
"""Centre, and width of a cell; a width of 0 stands for the logarithmic grid."""

LOGARITHMIC: Window = (0.0, 0.0)


@dataclass(frozen=True, slots=True)
class _StatisticsSettings:
    classes: int = within(bounds.CLASSES)
    range_lowers: tuple[float, ...] | None = within(bounds.RANGE_END, default=None)
    range_uppers: tuple[float, ...] | None = within(bounds.RANGE_END, default=None)
    centres: tuple[float, ...] | None = within(bounds.LOCATION, default=None)
    widths: tuple[float, ...] | None = within(bounds.Bounds(0.0, bounds.SCALE.most), default=None)


@dataclass(frozen=True, slots=True)
class StatisticsWork:
    """Round 0: what scaling needs. noise_multiplier None: plain sums; else noisy counts on a signed-log grid.

    classes: of the target; 0: it is a number, and scaled.
    `ranges` (lower, upper per feature, then for the target where it is scaled) replaces the grid by bounded
    sums; `windows` (centre and width of the cells) by windows, where the width is not 0.
    """

    algorithm: str
    noise_multiplier: float | None
    ranges: tuple[Range, ...] | None = None
    windows: tuple[Window, ...] | None = None
    classes: int = field(kw_only=True)
    noise: Noise = field(default="gaussian", kw_only=True)

    @classmethod
    def of(cls, work: Work) -> StatisticsWork:
        """Read the envelope."""
        noise, given = one_noise(work), read_settings(_StatisticsSettings, work.settings, exact=True)
        ranges = _pairs(given.range_lowers, given.range_uppers, "a range has a lower and an upper end")
        windows = _pairs(given.centres, given.widths, "a window has a centre and a width")
        if noise is None and (ranges, windows) != (None, None):
            raise invalid_value("ranges and privacy go together")
        if ranges is not None and windows is not None:
            raise invalid_value("a column has a range or a window")
        for ends in ranges or ():
            _range(*ends)
        for centre, width in windows or ():
            _window(centre, width)
        kind = noise_of_sum(work)
        return cls(work.algorithm, noise, ranges, windows, classes=given.classes, noise=kind)

    def to_work(self, n_inputs: int) -> Work:
        """Write the envelope."""
        lowers, uppers = _ends(self.ranges)
        centres, widths = _ends(self.windows)
        settings = settings_of(_StatisticsSettings(self.classes, lowers, uppers, centres, widths))
        privacy = privacy_of_sum(self.noise_multiplier, self.noise)
        return Work(self.algorithm, self.size(n_inputs), privacy=privacy, settings=settings)

    @property
    def scales_target(self) -> bool:
        """Whether the target is a number, and scaled like an input."""
        return self.classes == 0

    def size(self, n_inputs: int) -> int:
        """Return how many values an answer holds."""
        if self.noise_multiplier is None:
            return plain_size(n_inputs, self.classes)
        return private_size(n_inputs + self.scales_target, ranges=self.ranges is not None)


@dataclass(frozen=True, slots=True)
class ClassesWork:
    """Before the statistics of a private run: how many subjects the target's classes have, noised."""

    algorithm: str
    noise_multiplier: float
    noise: Noise = "gaussian"

    @classmethod
    def of(cls, work: Work) -> ClassesWork:
        """Read the envelope."""
        noise = one_noise(work)
        if noise is None:
            raise invalid_value("classes are counted under a privacy budget alone")
        demand_no_settings(work)
        return cls(work.algorithm, noise, noise_of_sum(work))

    def to_work(self) -> Work:
        """Write the envelope."""
        return Work(self.algorithm, CLASS_COUNTS, privacy=privacy_of_sum(self.noise_multiplier, self.noise))


@dataclass(frozen=True, slots=True)
class PrivateTraining:
    """DP-SGD: `steps` Poisson samples of subjects at `sampling_rate`, per-subject clipping, noise.

    expected_subjects: the fixed denominator is sampling_rate x expected_subjects (a released, noisy count).
    """

    noise_multiplier: float
    clipping_norm: float
    sampling_rate: float
    steps: int
    expected_subjects: float
    noise: Noise = "gaussian"

    @property
    def mechanism(self) -> Mechanism:
        """What it costs."""
        return Mechanism(self.noise_multiplier, self.sampling_rate, self.steps, self.noise)


@dataclass(frozen=True, slots=True)
class _TrainSettings:
    classes: int = within(bounds.CLASSES)
    local_epochs: int = within(bounds.EPOCHS)
    batch_size: int = within(bounds.BATCH_SIZE)
    learning_rate: float = within(bounds.LEARNING_RATE)
    clipping_norm: float | None = within(bounds.CLIPPING_NORM, default=None)
    penalty: float = within(bounds.PENALTY, default=0.0)
    l1_ratio: float = within(bounds.Bounds(0.0, 1.0), default=0.0)
    proximal_term: float | None = within(bounds.PROXIMAL_TERM, default=None)
    control_variates: bool | None = None
    optimizer: LocalOptimizer = "sgd"
    adaptive_learning: bool | None = None
    local_layers: int | None = within(bounds.LAYERS, default=None)
    personal_term: float | None = within(bounds.PROXIMAL_TERM, default=None)


TRAINING_TERMS = ("proximal_term", "control_variates")
"""The settings of training that a strategy may add."""

CONTROL = "control"
"""The array of a task, and of what a node keeps, that holds a control variate."""


def without_control(state: State, work: TrainWork) -> State:
    """Return the arrays of the model alone: a control variate goes with them where the work has nodes keep
    one.
    """
    if not work.control_variates:
        return state
    return MappingProxyType({name: array for name, array in state.items() if name != CONTROL})


@dataclass(frozen=True, slots=True)
class TrainWork:
    """Local epochs of mini-batch SGD from the task's parameters; the answer is how far the parameters
    moved. classes: of the target, 0 where it is a number. penalty, l1_ratio: of an elastic net, of plain
    training.

    terms: what the run's aggregation adds to the objective. control_variates: whether the node's variate
    (the mean gradient of its steps) is answered behind that, and corrects its steps the next time.
    adaptive_learning: whether the node takes a part of the learning rate that it finds itself, see pace.py.
    own: what the node trains for itself, see own_model.py.
    """

    algorithm: str
    scaling: Scaling
    local_epochs: int
    batch_size: int
    learning_rate: float
    privacy: PrivateTraining | None = None
    optimizer: LocalOptimizer = "sgd"
    terms: LocalTerms = NO_TERMS
    control_variates: bool = False
    classes: int = field(kw_only=True)
    penalty: float = 0.0
    l1_ratio: float = 0.0
    adaptive_learning: bool = False
    own: OwnTerms = NOTHING

    @classmethod
    def of(cls, task: Task) -> TrainWork:
        """Read the envelope."""
        work, given = task.work, read_settings(_TrainSettings, task.work.settings, exact=True)
        private = None
        if work.privacy is not None and given.control_variates:
            raise not_supported("control variates are not supported under a privacy_budget yet")
        if given.control_variates and given.optimizer != "sgd":
            raise invalid_value(f"control variates are of plain steps, not of {given.optimizer}")
        if given.adaptive_learning:
            _check_adaptive(work, given)
        own = OwnTerms(given.local_layers, given.personal_term)
        if own:
            _check_own(task, given)
        if (work.privacy is None) != (given.clipping_norm is None):
            raise invalid_value("clipping_norm and privacy go together")
        if work.privacy is not None and given.clipping_norm is not None:
            private = _private_training(work.privacy, given.clipping_norm)
        if private is not None and given.penalty:
            raise invalid_value("there is no penalty in private training")
        return cls(
            work.algorithm,
            scaling_of(task),
            given.local_epochs,
            given.batch_size,
            given.learning_rate,
            private,
            given.optimizer,
            LocalTerms(given.proximal_term or 0.0),
            bool(given.control_variates),
            classes=given.classes,
            penalty=given.penalty,
            l1_ratio=given.l1_ratio,
            adaptive_learning=bool(given.adaptive_learning),
            own=own,
        )

    def to_work(self, size: int, dtype: Dtype = Dtype.FLOAT64) -> Work:
        """Write the envelope, to which a strategy adds its terms; size and type: of the parameters."""
        private = self.privacy
        clipping_norm = None if private is None else private.clipping_norm
        given = _TrainSettings(
            self.classes,
            self.local_epochs,
            self.batch_size,
            self.learning_rate,
            clipping_norm,
            self.penalty,
            self.l1_ratio,
            optimizer=self.optimizer,
            adaptive_learning=self.adaptive_learning or None,
            local_layers=self.own.layers,
            personal_term=self.own.term,
        )
        return Work(
            self.algorithm,
            size,
            dtype,
            privacy=None if private is None else Privacy(private.mechanism, private.expected_subjects),
            settings=settings_of(given),
        )


@dataclass(frozen=True, slots=True)
class _EvaluateSettings:
    classes: int = within(bounds.CLASSES)
    local_layers: int | None = within(bounds.LAYERS, default=None)


@dataclass(frozen=True, slots=True)
class EvaluateWork:
    """Loss and accuracy of the task's parameters on the held-out subjects, as sums. None: plain; else
    noised. classes: of the target, 0 where it is a number. local_layers: the last so many are the node's own.
    """

    algorithm: str
    scaling: Scaling
    noise_multiplier: float | None
    classes: int = field(kw_only=True)
    noise: Noise = field(default="gaussian", kw_only=True)
    local_layers: int | None = field(default=None, kw_only=True)

    @classmethod
    def of(cls, task: Task) -> EvaluateWork:
        """Read the envelope."""
        given = read_settings(_EvaluateSettings, task.work.settings, exact=True)
        work, scaling, noise = task.work, scaling_of(task), one_noise(task.work)
        _check_measured(task, given)
        layers = given.local_layers
        return cls(
            work.algorithm,
            scaling,
            noise,
            classes=given.classes,
            noise=noise_of_sum(work),
            local_layers=layers,
        )

    def to_work(self) -> Work:
        """Write the envelope."""
        settings = settings_of(_EvaluateSettings(self.classes, self.local_layers))
        privacy = privacy_of_sum(self.noise_multiplier, self.noise)
        return Work(self.algorithm, self.size, privacy=privacy, settings=settings)

    @property
    def measure(self) -> Measure:
        """How the algorithm's predictions are measured."""
        return measure(self.classes)

    def lattice(self) -> Lattice:
        """The lattice of its noise; FederatedError as `Lattice.of`."""
        assert self.noise_multiplier is not None
        boxes = self.measure.boxes
        return Lattice.of(boxes.norm(self.noise), self.noise_multiplier, boxes.size, self.noise)

    @property
    def size(self) -> int:
        """How many values an answer holds."""
        return self.measure.plain_size if self.noise_multiplier is None else self.measure.boxes.size


@dataclass(frozen=True, slots=True)
class ReportWork:
    """How the task's model does on the held-out subjects, in detail, plainly. classes: of the target, 0 where
    it is a number. local_layers: the last so many are the node's own.
    """

    algorithm: str
    scaling: Scaling
    classes: int = field(kw_only=True)
    local_layers: int | None = field(default=None, kw_only=True)

    @classmethod
    def of(cls, task: Task) -> ReportWork:
        """Read the envelope."""
        given = read_settings(_EvaluateSettings, task.work.settings, exact=True)
        _check_measured(task, given)
        return cls(
            task.work.algorithm, scaling_of(task), classes=given.classes, local_layers=given.local_layers
        )

    def to_work(self, layout: ReportLayout) -> Work:
        """Write the envelope."""
        settings = settings_of(_EvaluateSettings(self.classes, self.local_layers))
        return Work(self.algorithm, layout.size, settings=settings)


@dataclass(frozen=True, slots=True)
class PrivateReportWork:
    """The same under a budget: one noised sum over the held-out subjects; see private_layout.py."""

    algorithm: str
    scaling: Scaling
    noise_multiplier: float
    classes: int = field(kw_only=True)

    @classmethod
    def of(cls, task: Task) -> PrivateReportWork:
        """Read the envelope."""
        noise = one_noise(task.work)
        assert noise is not None
        given = read_settings(_EvaluateSettings, task.work.settings, exact=True)
        return cls(task.work.algorithm, scaling_of(task), noise, classes=given.classes)

    def to_work(self, size: int) -> Work:
        """Write the envelope; size: of the layout."""
        settings = settings_of(_EvaluateSettings(self.classes))
        return Work(self.algorithm, size, privacy=privacy_of_sum(self.noise_multiplier), settings=settings)


def _check_adaptive(work: Work, given: _TrainSettings) -> None:
    """A learning rate that follows a node's progress follows its rows, and changes from round to round."""
    if work.privacy is not None:
        raise not_supported("adaptive_learning is not supported under a privacy_budget yet")
    if given.control_variates:
        raise invalid_value("control variates are of steps of one length, and adaptive_learning changes it")


def _check_own(task: Task, given: _TrainSettings) -> None:
    """What a node trains for itself has no form under a budget, nor beside what else it keeps of a run."""
    if task.budget is not None or task.work.privacy is not None:
        raise not_supported("personalization is not supported under a privacy_budget yet")
    if given.local_layers is not None and given.personal_term is not None:
        raise invalid_value("a node keeps its last layers or trains a model of its own, not both")
    if given.control_variates or given.adaptive_learning:
        raise not_supported("personalization is not supported beside what else a node keeps of a run yet")


def _check_measured(task: Task, given: _EvaluateSettings) -> None:
    """What a node keeps of a run is in no private answer."""
    if given.local_layers is not None and (task.budget is not None or task.work.privacy is not None):
        raise not_supported("personalization is not supported under a privacy_budget yet")


def demand_no_settings(work: Work) -> None:
    """Raise FederatedError INVALID_VALUE for a setting where there is none."""
    if work.settings:
        raise invalid_value(f"{min(work.settings)} is no setting here")


def scaling_of(task: Task) -> Scaling:
    """Return a task's scaling, every number within its bounds; FederatedError INVALID_VALUE."""
    scaling = task.scaling
    if scaling is None:
        raise invalid_value("the task holds no scaling")
    if not len(scaling.means) == len(scaling.scales) == task.n_inputs:
        raise invalid_value("scaling and inputs differ in length")
    for mean in scaling.means:
        _hold("a mean", mean, bounds.LOCATION)
    for scale in scaling.scales:
        _hold("a scale", scale, bounds.SCALE)
    _hold("target_mean", scaling.target_mean, bounds.LOCATION)
    _hold("target_scale", scaling.target_scale, bounds.SCALE)
    return scaling


def _private_training(privacy: Privacy, clipping_norm: float) -> PrivateTraining:
    mechanism, expected_subjects = privacy.mechanism, privacy.weight
    _hold("noise_multiplier", mechanism.noise_multiplier, bounds.NOISE_MULTIPLIER)
    _hold("sampling_rate", mechanism.sampling_rate, bounds.SAMPLING_RATE)
    _hold("steps", mechanism.steps, bounds.STEPS)
    _hold("expected_subjects", expected_subjects, bounds.EXPECTED_SUBJECTS)
    return PrivateTraining(
        mechanism.noise_multiplier,
        clipping_norm,
        mechanism.sampling_rate,
        mechanism.steps,
        expected_subjects,
        mechanism.noise,
    )


def privacy_of_sum(noise_multiplier: float | None, noise: Noise = "gaussian") -> Privacy | None:
    """Return what a task says of such a sum; None for no noise."""
    return None if noise_multiplier is None else Privacy(Mechanism(noise_multiplier, noise=noise), 1.0)


def noise_of_sum(work: Work) -> Noise:
    """Return how the noise of a work is distributed; of a plain one it is of no meaning."""
    return "gaussian" if work.privacy is None else work.privacy.mechanism.noise


def one_noise(work: Work) -> float | None:
    """Return the noise of a sum in which every subject takes part once, and of which no weight is told."""
    if work.privacy is None:
        return None
    noise = work.privacy.mechanism.noise_multiplier
    if work.privacy != privacy_of_sum(noise, noise_of_sum(work)):
        raise invalid_value("a sum over all subjects is neither sampled, nor repeated, nor weighted")
    _hold("noise_multiplier", noise, bounds.NOISE_MULTIPLIER)
    return noise


def _pairs(
    first: tuple[float, ...] | None, second: tuple[float, ...] | None, otherwise: str
) -> tuple[tuple[float, float], ...] | None:
    if first is None and second is None:
        return None
    if first is None or second is None or len(first) != len(second):
        raise invalid_value(otherwise)
    return tuple(zip(first, second, strict=True))


def _ends(
    pairs: Sequence[tuple[float, float]] | None,
) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    """The inverse of `_pairs`."""
    if pairs is None:
        return None, None
    return tuple(first for first, _ in pairs), tuple(second for _, second in pairs)


def _range(lower: float, upper: float) -> None:
    """The ends of a declared range: far enough apart that rounding leaves positions in it."""
    _hold("a range's width", upper - lower, bounds.RANGE_WIDTH)
    if upper - lower < bounds.RANGE_RESOLUTION * max(abs(lower), abs(upper)):
        raise _lost(lower, upper)


def _window(centre: float, width: float) -> None:
    if width == 0.0 and centre != 0.0:
        raise invalid_value("the logarithmic grid has no centre")
    if width != 0.0:
        _hold("a window's width", width, bounds.SCALE)


def _lost(lower: float, upper: float) -> FederatedError:
    return invalid_value(f"the range from {lower:.17g} to {upper:.17g} is lost to rounding")


def _hold(name: str, number: float, within: bounds.Bounds) -> None:
    if not within.hold(number):
        raise outside(name, number, within)
