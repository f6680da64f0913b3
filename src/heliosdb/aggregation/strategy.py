"""How the updates of an exchange become new parameters: what a strategy is.

What always holds: a strategy is a pure function, the same to the bit whatever the order of arrival; what it
remembers from round to round is arrays, kept sealed beside the model's state. tests/contracts holds every
registered strategy to this.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol, cast

from heliosdb.aggregation.sums import SumProtocol
from heliosdb.domain.errors import ErrorCode, FederatedError, not_supported
from heliosdb.domain.settings import Setting
from heliosdb.domain.state import State
from heliosdb.domain.update import Total, Updates
from heliosdb.domain.vector import Vector
from heliosdb.parts.strategies import STRATEGIES, MeanSettings, groups_of


class Strategy(Protocol):
    """A rule. sees `sum`: a `Total` of weight x update, and of weights; `each`: every single update, in the
    order of the nodes' names, which only an open sum protocol can give (aggregation/sums.py), or in its place
    the mean of every group (aggregation/groups.py). The settings of one that sees each say `needs`
    (parts/strategies.py), so that it is given none of which a part is missing.
    """

    @property
    def name(self) -> str:
        """The name in the language, in lower case."""
        ...

    @property
    def sees(self) -> Literal["each", "sum"]:
        """What it must see."""
        ...

    def local(self, settings: Any) -> Mapping[str, Setting]:
        """What nodes need of it, for the settings of a training task."""
        ...

    def combine(
        self, parameters: Vector, memory: State, gathered: Total | Updates, settings: Any
    ) -> tuple[Vector, State]:
        """The new parameters, and what to remember. settings: of the class registered with the name.

        memory: what it returned in the round before, NO_STATE in the first. FederatedError UPDATE_REJECTED
        where there is no update, where shapes differ from the parameters', and where the result is not
        finite; TypeError where it is given what it does not see.
        """
        ...


def strategy(name: str) -> Strategy:
    """The strategy of that name, whatever its case; FederatedError NOT_SUPPORTED where there is none."""
    return cast(Strategy, STRATEGIES.get(name))


def companions(rule: Strategy) -> Sequence[str]:
    """The arrays of its memory that a rule tells the nodes, each of as many values as the parameters that
    move; zeros before it has made them. () for most rules.

    Such a rule has an attribute `companions`. A node finds the arrays in its task's state, under their names,
    and answers as many values for each behind its update: what the rule is given to combine is so much
    longer than the parameters.
    """
    found: Sequence[str] = getattr(rule, "companions", ())
    return found


def weighs(settings: object) -> bool:
    """Whether a rule with these settings, which sees a sum, wants updates weighted by their nodes' rows."""
    return not isinstance(settings, MeanSettings) or settings.weighted_aggregation


def check_fits(rule: Strategy, summing: SumProtocol, settings: object = None) -> None:
    """Raise FederatedError INVALID_VALUE where the strategy must see what the protocol hides, NOT_SUPPORTED
    where nodes behind one would have to weigh their updates equally. settings: the strategy's.

    To be called when a run is loaded, before anybody is asked.
    """
    if not weighs(settings) and not summing.is_open:
        raise not_supported(f"weighted_aggregation = false with {summing.name}, whose nodes weigh by rows,")
    if rule.sees == "each" and not summing.is_open and groups_of(settings) is None:
        raise FederatedError(
            ErrorCode.INVALID_VALUE,
            f"aggregation {rule.name} needs every single update, and {summing.name} shows only their sum",
            hint="Choose an aggregation that works on sums, such as fedavg, or no secure_aggregation.",
        )
