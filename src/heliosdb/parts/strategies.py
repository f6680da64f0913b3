"""The aggregation strategies by name, and their settings."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from federated_sql.option_table import OPTIONS, OptionKind
from federated_sql.option_values import is_custom
from heliosdb.domain.bounds import BATCH_SIZE, EPOCHS, PROXIMAL_TERM, Bounds
from heliosdb.domain.ids import NodeName
from heliosdb.domain.settings import within
from heliosdb.parts.registry import RegisteredPart, Registry

_SHARE = Bounds(0.0, math.nextafter(1.0, 0.0))
LEAST_GROUPS = 3
"""Of fewer groups none is in a minority."""
_GROUPS = Bounds(LEAST_GROUPS, 1_000)

Needs = Literal["sum", "whole", "exact"]
"""What a rule needs of updates: that they are right in sum, whatever of each is sent when; that each is
whole, since it is compared with the others; that each is whole and its values are not rounded."""


@dataclass(frozen=True, slots=True)
class MeanSettings:
    """Of a mean: whether an update counts as much as its node has rows, or as much as any other."""

    weighted_aggregation: bool = True


@dataclass(frozen=True, slots=True)
class ProximalSettings(MeanSettings):
    """Of fedprox. proximal_term: μ; None: 0.01."""

    proximal_term: float | None = within(PROXIMAL_TERM, default=None)


@dataclass(frozen=True, slots=True)
class ServerSettings(MeanSettings):
    """Of a server that takes a step of its own size along the mean. None: what each rule says."""

    server_learning_rate: float | None = within(Bounds(1e-12, 1e3), default=None)


@dataclass(frozen=True, slots=True)
class ScaffoldSettings(ServerSettings):
    """Of scaffold, whose nodes remember what comes of their rows: there is no private form of that. What they
    send behind an update is no update, and must arrive as it is."""

    has_private_form: ClassVar[bool] = False
    needs: ClassVar[Needs] = "exact"


@dataclass(frozen=True, slots=True)
class NovaSettings:
    """Of fednova, which divides each update by what its steps are worth: those that a run's nodes take, of
    plain steps or with momentum. Under a budget nodes take as many steps as each other."""

    has_private_form: ClassVar[bool] = False
    needs: ClassVar[Needs] = "whole"

    local_epochs: int = within(EPOCHS, default=1)
    batch_size: int = within(BATCH_SIZE, default=32)
    optimizer: Literal["sgd", "momentum", "adam", "newton"] = "sgd"


@dataclass(frozen=True, slots=True)
class MomentumSettings(ServerSettings):
    """Of a server that takes steps along a moving mean of the updates. None: what each rule says."""

    beta1: float | None = within(_SHARE, default=None)


@dataclass(frozen=True, slots=True)
class AdagradSettings(MomentumSettings):
    """Of one that divides them by what updates have been. tau: how small a divisor may become; None: 1e-3."""

    tau: float | None = within(Bounds(1e-12, 1.0), default=None)


@dataclass(frozen=True, slots=True)
class AdaptiveSettings(AdagradSettings):
    """Of one that forgets old updates. beta2: how much of them stays; None: 0.99."""

    beta2: float | None = within(_SHARE, default=None)


@dataclass(frozen=True, slots=True)
class EachSettings:
    """Of a rule that compares updates. robust_groups: how many means of groups it is given in their place;
    None: single updates."""

    needs: ClassVar[Needs] = "whole"

    robust_groups: int | None = within(_GROUPS, default=None)


class NodesNeeded(ABC):
    """Settings that say how many updates their rule cannot do without; it compares single ones."""

    __slots__ = ()

    needs: ClassVar[Needs] = "whole"

    @property
    @abstractmethod
    def fewest_nodes(self) -> int:
        """The least number of updates that a round must have."""


@dataclass(frozen=True, slots=True)
class TrimmedMeanSettings(NodesNeeded):
    """trim_ratio: the part of the updates that is cut at either end; None: 0.2, and at least one of three.
    robust_groups: as of `EachSettings`."""

    trim_ratio: float | None = within(Bounds(0.0, math.nextafter(0.5, 0.0)), default=None)
    robust_groups: int | None = within(_GROUPS, default=None)

    @property
    def fewest_nodes(self) -> int:
        """As many as it takes for one to be cut."""
        if not self.trim_ratio:
            return 1
        least = max(3, math.floor(1.0 / max(self.trim_ratio, 1e-9)))
        return least if self.cut(least) else least + 1

    def cut(self, nodes: int) -> int:
        """How many of so many updates are cut at either end; at least one is left."""
        if self.trim_ratio is None:
            return max(1, nodes // 5) if nodes >= 3 else 0
        # 0.29 of 100 is 29, though as doubles it is a little less.
        return min(math.floor(self.trim_ratio * nodes * (1.0 + 1e-12)), (nodes - 1) // 2)


@dataclass(frozen=True, slots=True)
class HostileNodes(NodesNeeded):
    """byzantine_nodes: f, how many hostile nodes are withstood; None: as many as the updates allow. Of groups
    (robust_groups, as of `EachSettings`): how many that hold one, which are no more than there are nodes."""

    byzantine_nodes: int | None = within(Bounds(0, 10_000), default=None)
    robust_groups: int | None = within(_GROUPS, default=None)

    apiece: ClassVar[int]
    """How many updates each of them costs, beside three."""

    @property
    def fewest_nodes(self) -> int:
        """Those that it takes for byzantine_nodes."""
        return 1 if self.byzantine_nodes is None else self.nodes_for(self.byzantine_nodes)

    def nodes_for(self, hostile: int) -> int:
        """How many updates it takes to withstand so many."""
        return self.apiece * hostile + 3

    def hostile(self, nodes: int) -> int:
        """How many of so many are withstood."""
        return max(0, (nodes - 3) // self.apiece) if self.byzantine_nodes is None else self.byzantine_nodes


@dataclass(frozen=True, slots=True)
class KrumSettings(HostileNodes):
    """n >= 2f + 3."""

    apiece: ClassVar[int] = 2


@dataclass(frozen=True, slots=True)
class BulyanSettings(HostileNodes):
    """n >= 4f + 3."""

    apiece: ClassVar[int] = 4


@dataclass(frozen=True, slots=True)
class TrustSettings(NodesNeeded):
    """root_node: the registered node whose rows are trusted, and to whose update the others are held; None:
    not named yet, which no run can do with. server_learning_rate: η; None: 1.

    Under a budget the noise of a small trusted table would decide whom the rule trusts.
    """

    root_node: str | None = None
    server_learning_rate: float | None = within(Bounds(1e-12, 1e3), default=None)

    has_private_form: ClassVar[bool] = False

    @property
    def fewest_nodes(self) -> int:
        """The root node's, and one that is held to it."""
        return 1 if self.root_node is None else 2


_CUSTOM = "heliosdb.aggregation.custom_function:CustomFunction"


class StrategyRegistry(Registry):
    """The strategies, and any name that none of the language's has: a function that people have written.

    Whether there is a function of that name only its database knows.
    """

    def entry(self, name: str) -> RegisteredPart:
        """As a registry's; of a function's name an entry without options."""
        if self.is_custom(name):
            return RegisteredPart(name.lower(), _CUSTOM, EachSettings)
        return super().entry(name)

    def get(self, name: str) -> Any:
        """As a registry's; of a function's name the rule that calls it."""
        return self._find(name, _CUSTOM)(name.lower()) if self.is_custom(name) else super().get(name)

    def is_custom(self, name: str) -> bool:
        """Whether it may be the name of a function."""
        return name.lower() not in self.names() and is_custom(_AGGREGATION, name.lower())


_AGGREGATION = OPTIONS[OptionKind.MODEL]["aggregation"]
STRATEGIES = StrategyRegistry("aggregation")
STRATEGIES.register("fedavg", "heliosdb.aggregation.fedavg:FEDAVG", settings=MeanSettings)
STRATEGIES.register("weighted", "heliosdb.aggregation.fedavg:WEIGHTED")
STRATEGIES.register("fedprox", "heliosdb.aggregation.fedprox:FEDPROX", settings=ProximalSettings)
STRATEGIES.register("scaffold", "heliosdb.aggregation.scaffold:SCAFFOLD", settings=ScaffoldSettings)
STRATEGIES.register("fednova", "heliosdb.aggregation.fednova:FEDNOVA", settings=NovaSettings)
STRATEGIES.register("fedopt", "heliosdb.aggregation.fedopt:FEDOPT", settings=MomentumSettings)
STRATEGIES.register("fedadagrad", "heliosdb.aggregation.fedopt:FEDADAGRAD", settings=AdagradSettings)
STRATEGIES.register("fedadam", "heliosdb.aggregation.fedopt:FEDADAM", settings=AdaptiveSettings)
STRATEGIES.register("fedyogi", "heliosdb.aggregation.fedopt:FEDYOGI", settings=AdaptiveSettings)
STRATEGIES.register("median", "heliosdb.aggregation.median:MEDIAN", settings=EachSettings)
STRATEGIES.register(
    "trimmed_mean", "heliosdb.aggregation.trimmed_mean:TRIMMED_MEAN", settings=TrimmedMeanSettings
)
STRATEGIES.register("krum", "heliosdb.aggregation.krum:KRUM", settings=KrumSettings)
STRATEGIES.register("multi_krum", "heliosdb.aggregation.krum:MULTI_KRUM", settings=KrumSettings)
STRATEGIES.register("bulyan", "heliosdb.aggregation.bulyan:BULYAN", settings=BulyanSettings)
STRATEGIES.register(
    "geometric_median", "heliosdb.aggregation.geometric_median:GEOMETRIC_MEDIAN", settings=EachSettings
)
STRATEGIES.register("fltrust", "heliosdb.aggregation.fltrust:FLTRUST", settings=TrustSettings)


def fewest_nodes(settings: object) -> int:
    """How many updates a round must have for a rule with these settings."""
    return settings.fewest_nodes if isinstance(settings, NodesNeeded) else 1


def groups_of(settings: object) -> int | None:
    """How many groups' means a rule with these settings is given; None where it is given single updates, or
    their sum."""
    found: int | None = getattr(settings, "robust_groups", None)
    return found


def fewest_groups(settings: object) -> int:
    """How many of a run's groups a round cannot do without: as many as its rule needs for what the settings
    say, and at least as many as it takes to withstand one that is hostile, where all of them do."""
    needed = fewest_nodes(settings)
    if isinstance(settings, HostileNodes) and settings.byzantine_nodes is None:
        needed = settings.nodes_for(min(1, settings.hostile(groups_of(settings) or 0)))
    return max(LEAST_GROUPS, needed)


def root_node(settings: object) -> NodeName | None:
    """The node without which a rule with these settings can combine nothing; None for most rules."""
    named = settings.root_node if isinstance(settings, TrustSettings) else None
    return None if named is None else NodeName(named)


def has_private_form(settings: object) -> bool:
    """Whether a rule with these settings may be used under a privacy budget."""
    return bool(getattr(settings, "has_private_form", True))


def needs_of(settings: object) -> Needs:
    """What a rule with these settings, an object or their class, needs of updates."""
    found: Needs = getattr(settings, "needs", "sum")
    return found
