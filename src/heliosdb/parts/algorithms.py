"""The algorithms by name, and the settings of their local training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from heliosdb.domain import bounds
from heliosdb.domain.classes import Learns
from heliosdb.domain.errors import not_supported
from heliosdb.domain.privacy import Noise
from heliosdb.domain.run import Run, TrainingOptions
from heliosdb.domain.settings import option_names, within
from heliosdb.parts.registry import Registry

LocalOptimizer = Literal["sgd", "momentum", "adam"]
Optimizer = Literal["sgd", "momentum", "adam", "newton"]


@dataclass(frozen=True, slots=True)
class OptimizerSettings:
    """How a local step follows from its gradient, see algorithms/optimizers.py."""

    optimizer: LocalOptimizer = "sgd"


@dataclass(frozen=True, slots=True)
class DescentSettings:
    """Of stochastic gradient descent over a node's rows: passes, rows a step, step size.

    adaptive_learning: whether each node takes a part of the step size that follows its own progress.
    """

    local_epochs: int = within(bounds.EPOCHS, default=1)
    batch_size: int = within(bounds.BATCH_SIZE, default=32)
    learning_rate: float = within(bounds.LEARNING_RATE, default=0.01)
    adaptive_learning: bool = False


@dataclass(frozen=True, slots=True)
class SumDescentSettings:
    """Of the same where the noise is that of the nodes' sum, and a round is one step. batch_size: subjects of
    a node in the round's sample, about; None: all, which makes most of a noise that is there once a round.
    learning_rate: None: as `learning_rate_of` has it."""

    batch_size: int | None = within(bounds.BATCH_SIZE, default=None)
    learning_rate: float | None = within(bounds.LEARNING_RATE, default=None)


@dataclass(frozen=True, slots=True)
class RegressorSettings(DescentSettings):
    """Of one that learns a number."""

    optimizer: LocalOptimizer = "sgd"


@dataclass(frozen=True, slots=True)
class ClassifierSettings(RegressorSettings):
    """Of one that learns two classes: their labels, where the target is not true or false, or 0 or 1."""

    target_classes: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class NetSettings:
    """Of an elastic net on the coefficients of scaled inputs; see algorithms/newton_solver.py."""

    penalty: float = within(bounds.PENALTY, default=0.0)
    l1_ratio: float = within(bounds.Bounds(0.0, 1.0), default=0.0)


@dataclass(frozen=True, slots=True)
class RegressionSettings(DescentSettings):
    """Of a model that is linear up to its link: which way it is estimated, and an elastic net.

    optimizer newton: by steps on the summed derivatives of all nodes' rows, of which passes, batches and
    step size are none. penalty, l1_ratio: as of `NetSettings`. weights, offset: columns, for newton alone.
    """

    optimizer: Optimizer = "sgd"
    penalty: float = within(bounds.PENALTY, default=0.0)
    l1_ratio: float = within(bounds.Bounds(0.0, 1.0), default=0.0)
    weights: str | None = None
    offset: str | None = None

    has_gradient_sums: ClassVar[bool] = True
    transfers: ClassVar[bool] = True
    personalizes: ClassVar[tuple[str, ...]] = ("fine_tune", "ditto")
    noises: ClassVar[tuple[Noise, ...]] = ("gaussian", "laplacian")


@dataclass(frozen=True, slots=True)
class LogisticSettings(RegressionSettings):
    """Of one that learns classes: their labels, where the target is not true or false, or 0 or 1."""

    target_classes: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class CountSettings(RegressionSettings):
    """Of one that learns counts; under a privacy budget by Newton steps alone."""

    noises: ClassVar[tuple[Noise, ...]] = ("gaussian",)
    is_private_by_newton: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class CoxSettings:
    """Of a Cox regression: the column that says whether a time ended with the event, and an elastic net.

    optimizer: newton alone is one; descent is refused when the run is prepared.
    """

    event: str | None = None
    optimizer: Literal["sgd", "newton"] = "sgd"
    penalty: float = within(bounds.PENALTY, default=0.0)
    l1_ratio: float = within(bounds.Bounds(0.0, 1.0), default=0.0)

    has_asynchronous_form: ClassVar[bool] = False
    transfers: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class NetworkSettings(ClassifierSettings):
    """Of a neural network: units of its layers, and what is made of their sums. See parts/networks.py.

    output_activation: sigmoid for two classes, softmax for two or more, linear for a number.
    """

    extra: ClassVar[str | None] = "neural"
    has_gradient_sums: ClassVar[bool] = True
    transfers: ClassVar[bool] = True
    personalizes: ClassVar[tuple[str, ...]] = ("fine_tune", "local_head", "ditto")

    layers: tuple[int, ...] = within(bounds.UNITS, default=(64, 32, 1))
    activation: Literal["relu", "tanh", "sigmoid", "gelu"] = "relu"
    output_activation: Literal["sigmoid", "softmax", "linear"] = "sigmoid"


@dataclass(frozen=True, slots=True)
class ConvolutionSettings(NetworkSettings):
    """Of a convolutional network: channels, height and width of the image that a row's first inputs are; the
    channels of each block, how wide its kernels are, and over how many groups of channels it normalises; then
    layers as of any network. See parts/images.py."""

    transfers: ClassVar[bool] = False

    layers: tuple[int, ...] = within(bounds.UNITS, default=(1,))
    input_shape: tuple[int, ...] | None = within(bounds.SIDE, default=None)
    channels: tuple[int, ...] = within(bounds.CHANNELS, default=(8, 16))
    kernel: int = within(bounds.KERNEL, default=3)
    groups: int = within(bounds.CHANNELS, default=4)


@dataclass(frozen=True, slots=True)
class SeriesSettings(NetworkSettings):
    """Of a network on series: length and channels of those that a row's first inputs are; then layers as of
    any network. See parts/series.py."""

    transfers: ClassVar[bool] = False
    has_gradient_sums: ClassVar[bool] = False
    has_private_form: ClassVar[bool] = False
    personalizes: ClassVar[tuple[str, ...]] = ()

    layers: tuple[int, ...] = within(bounds.UNITS, default=(1,))
    input_shape: tuple[int, ...] | None = within(bounds.SIDE, default=None)
    width: int = within(bounds.WIDTH, default=32)


@dataclass(frozen=True, slots=True)
class RecurrentSettings(SeriesSettings):
    """Of an lstm or a gru: cells one upon the other, and whether they also go over the series backwards."""

    depth: int = within(bounds.STACK, default=1)
    bidirectional: bool = False


@dataclass(frozen=True, slots=True)
class TransformerSettings(SeriesSettings):
    """Of a transformer: blocks one upon the other, and among how many heads attention is divided."""

    depth: int = within(bounds.STACK, default=2)
    heads: int = within(bounds.HEADS, default=4)


@dataclass(frozen=True, slots=True)
class TreeSettings:
    """Of algorithms that grow trees from histograms: how many, how deep, over how many bins of an input.

    min_rows_per_leaf: of all nodes together. subsample: of the rows, for each tree.
    """

    trees: int = within(bounds.TREES, default=100)
    max_depth: int = within(bounds.DEPTH, default=8)
    bins: int = within(bounds.BINS, default=64)
    min_rows_per_leaf: int = within(bounds.ROWS_PER_LEAF, default=20)
    subsample: float = within(bounds.SUBSAMPLE, default=1.0)
    target_classes: tuple[str, ...] | None = None

    has_asynchronous_form: ClassVar[bool] = False
    group: ClassVar[int] = 1
    """How many trees a round grows at least."""

    def last_round(self, rounds: int) -> int:
        """Return with which round the last tree is grown, of so many that the run may have."""
        return min(rounds, -(-self.trees // self.group))

    def grown(self, number: int, rounds: int) -> int:
        """Return how many trees there are once a round is closed: in every round about as many more."""
        last = self.last_round(rounds)
        return self.trees * min(number, last) // last


@dataclass(frozen=True, slots=True)
class ForestSettings(TreeSettings):
    """Of a random forest, whose trees do not wait for each other: a round grows ten or more."""

    group: ClassVar[int] = 10


@dataclass(frozen=True, slots=True)
class BoostingSettings(TreeSettings):
    """Of gradient boosting. learning_rate: the part of each tree's step that is taken."""

    learning_rate: float = within(bounds.LEARNING_RATE, default=0.1)


ALGORITHMS = Registry("algorithm")
ALGORITHMS.register(
    "logistic_regression", "heliosdb.algorithms.linear:LOGISTIC_REGRESSION", settings=LogisticSettings
)
ALGORITHMS.register(
    "linear_regression", "heliosdb.algorithms.linear:LINEAR_REGRESSION", settings=RegressionSettings
)
ALGORITHMS.register("neural_network", "heliosdb.algorithms.neural:NEURAL_NETWORK", settings=NetworkSettings)
ALGORITHMS.register("cnn", "heliosdb.algorithms.neural:CNN", settings=ConvolutionSettings)
ALGORITHMS.register("lstm", "heliosdb.algorithms.neural:LSTM", settings=RecurrentSettings)
ALGORITHMS.register("gru", "heliosdb.algorithms.neural:GRU", settings=RecurrentSettings)
ALGORITHMS.register("transformer", "heliosdb.algorithms.neural:TRANSFORMER", settings=TransformerSettings)
ALGORITHMS.register(
    "random_forest", "heliosdb.algorithms.random_forest:RANDOM_FOREST", settings=ForestSettings
)
ALGORITHMS.register(
    "gradient_boosting", "heliosdb.algorithms.gradient_boosting:GRADIENT_BOOSTING", settings=BoostingSettings
)
ALGORITHMS.register(
    "poisson_regression", "heliosdb.algorithms.linear:POISSON_REGRESSION", settings=CountSettings
)
ALGORITHMS.register("cox_regression", "heliosdb.algorithms.cox:COX_REGRESSION", settings=CoxSettings)


def roles_of(algorithm: str, given: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Return the columns that an algorithm reads beside features and target: (role, column), by the roles of
    domain/task.py, which are options of the same name. NOT_SUPPORTED for an algorithm that there is not."""
    read = option_names(ALGORITHMS.entry(algorithm).settings)
    return tuple(
        (role, given[role]) for role in ("weights", "offset", "event") if role in read and given.get(role)
    )


def by_newton(algorithm: str, given: Mapping[str, Any]) -> bool:
    """Whether a run takes Newton steps: it then ends by itself, and its last round is the result."""
    settings = ALGORITHMS.entry(algorithm).settings
    return "optimizer" in option_names(settings) and given.get("optimizer") == "newton"


def adds_up(algorithm: str, given: Mapping[str, Any]) -> bool:
    """Whether a run adds up sums alone, and its nodes move no parameters that a rule could combine."""
    return by_newton(algorithm, given) or issubclass(ALGORITHMS.entry(algorithm).settings, TreeSettings)


def learns(algorithm: str, given: Mapping[str, object]) -> Learns:
    """What the target is with these options; NOT_SUPPORTED where there is no such algorithm.

    One that has an output_activation learns a number where that is linear.
    """
    settings = ALGORITHMS.entry(algorithm).settings
    if issubclass(settings, TreeSettings):
        return "classes" if given.get("target_classes") else "either"
    names = option_names(settings)
    is_linear = "output_activation" in names and given.get("output_activation") == "linear"
    return "classes" if "target_classes" in names and not is_linear else "number"


MOST_PRIVATE_STEPS = 3
"""Newton steps under a budget, each of which has a part of it: after three, what is left to find is less than
the noise that a fourth would add to all. Of a linear regression the first finds all there is."""


def last_round(options: TrainingOptions, *, private: bool = False) -> int:
    """Return the last round that a run may come to: fewer than it was given where nothing would be left to
    do. private: under a budget."""
    settings = ALGORITHMS.entry(options.algorithm).settings
    if private and by_newton(options.algorithm, options.given):
        return min(options.rounds, 1 if settings is RegressionSettings else MOST_PRIVATE_STEPS)
    if issubclass(settings, TreeSettings):
        return options.settings(settings).last_round(options.rounds)
    return options.rounds


LONGEST_STEP: Mapping[Learns, float] = {"classes": 1.0, "number": 0.3}
"""By which a round on a sum with noise moves parameters at most where no learning_rate is named. A squared
loss curves as its inputs do: of many that go together a step of 1 goes beyond its minimum, and back."""


def learning_rate_of(run: Run, clipping_norm: float | None = None) -> float | None:
    """Return the step size in force: that a run was given, or has by default; None where it takes none.

    clipping_norm: to which gradients are clipped, None for that of the workspace (with which adaptive
    clipping begins). A mean of clipped gradients is that long at most, so that a step on a sum with noise is
    shorter by as much where the norm is more than 1.
    """
    options = run.options
    if by_newton(options.algorithm, options.given):
        return None
    if not run.noises_sums or adds_up(options.algorithm, options.given):
        kind: type[object] = ALGORITHMS.entry(options.algorithm).settings
        rate: float | None = getattr(options.settings(kind), "learning_rate", None)
        return rate
    named = options.settings(SumDescentSettings).learning_rate
    if named is not None:
        return named
    longest = LONGEST_STEP[learns(options.algorithm, options.given)]
    return longest / max(1.0, run.policy.clipping_threshold if clipping_norm is None else clipping_norm)


def has_classes(algorithm: str, given: Mapping[str, object]) -> bool:
    """Whether the target may have classes with these options; NOT_SUPPORTED for no algorithm."""
    return learns(algorithm, given) != "number"


def check_private(algorithm: str, given: Mapping[str, Any] | None = None) -> None:
    """Raise FederatedError NOT_SUPPORTED for one that cannot be had under a privacy budget. given: the
    options of its run, where they are known."""
    entry = ALGORITHMS.entry(algorithm)
    if not getattr(entry.settings, "has_private_form", True):
        able = [one.name for one in ALGORITHMS.entries() if getattr(one.settings, "has_private_form", True)]
        raise not_supported(
            f"{entry.name} is not supported under a privacy_budget yet", hint=f"These are: {', '.join(able)}."
        )
    newton_alone = getattr(entry.settings, "is_private_by_newton", False)
    if newton_alone and given is not None and not by_newton(algorithm, given):
        raise not_supported(
            f"{entry.name} by optimizer {given.get('optimizer')} is not supported under a privacy_budget yet",
            hint="Train with optimizer = 'newton'.",
        )


def check_noise(algorithm: str, given: Mapping[str, Any], noise: Noise) -> None:
    """Raise FederatedError NOT_SUPPORTED where what leaves a node under a budget has no form with such noise.

    Laplace noise needs what a subject adds to be clipped in L1 norm: that is built for the descent of linear
    models.
    """
    entry = ALGORITHMS.entry(algorithm)
    if noise not in getattr(entry.settings, "noises", ("gaussian",)) or (
        noise != "gaussian" and by_newton(algorithm, given)
    ):
        newton = " by optimizer newton" if by_newton(algorithm, given) else ""
        raise not_supported(
            f"{entry.name}{newton} is not supported under noise_mechanism {noise}",
            hint="Laplace noise is for linear_regression and logistic_regression by descent; everything else"
            " under a privacy_budget has Gaussian noise.",
        )


def has_asynchronous_form(algorithm: str, given: Mapping[str, Any]) -> bool:
    """Whether its nodes move the parameters by themselves, so that updates of unlike age can be combined."""
    settings = ALGORITHMS.entry(algorithm).settings
    return getattr(settings, "has_asynchronous_form", True) and not by_newton(algorithm, given)


def extra_of(algorithm: str) -> str | None:
    """Return what a node must have installed beside the product to compute it, see parts/extras.py."""
    found: str | None = getattr(ALGORITHMS.entry(algorithm).settings, "extra", None)
    return found
