"""The aggregation strategies by name: a Protocol and a registry that refuses silent overwriting."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from federated_sql.errors import ErrorCode, FederatedError
from heliosdb.aggregation.updates import Update
from heliosdb.domain.vector import Vector


class Strategy(Protocol):
    """How the updates of a round become new parameters."""

    @property
    def name(self) -> str:
        """The name in the language, in lower case."""
        ...

    def combine(self, parameters: Vector, updates: Sequence[Update]) -> Vector:
        """Return the new global parameters; deterministic bit for bit, whatever the order of `updates`."""
        ...


_STRATEGIES: dict[str, Strategy] = {}


def register(strategy: Strategy) -> None:
    """Add a strategy; a name that is taken is a programming error."""
    if strategy.name in _STRATEGIES:
        raise ValueError(f"the aggregation {strategy.name!r} is registered already")
    _STRATEGIES[strategy.name] = strategy


def names() -> tuple[str, ...]:
    """Return the registered names, sorted."""
    return tuple(sorted(_STRATEGIES))


def strategy(name: str) -> Strategy:
    """Return the strategy of that name, whatever its case; 0A000 where it is not built."""
    found = _STRATEGIES.get(name.lower())
    if found is None:
        raise FederatedError(
            ErrorCode.NOT_SUPPORTED,
            f'The aggregation "{name}" is not supported.',
            hint=f"Available: {', '.join(names())}.",
        )
    return found
