"""Who takes part in a round, by name; the argument of a selection stands in the text that names it."""

from __future__ import annotations

from dataclasses import dataclass

from federated_sql.option_values import read_policy
from heliosdb.domain.bounds import Bounds
from heliosdb.domain.errors import FederatedError, invalid_value
from heliosdb.domain.settings import option_names, read_settings, within
from heliosdb.parts.registry import RegisteredPart, Registry


@dataclass(frozen=True, slots=True)
class SomeNodes:
    """k: how many are chosen."""

    k: int = within(Bounds(1, 10_000))


@dataclass(frozen=True, slots=True)
class RankedNodes(SomeNodes):
    """k: how many are chosen, by what single answers say, which secure sums hide."""


@dataclass(frozen=True, slots=True)
class ComparedNodes(RankedNodes):
    """k: how many are chosen, by how their updates compare with each other: an update alone has no figure."""

    k: int = within(Bounds(2, 10_000))


@dataclass(frozen=True, slots=True)
class NodesInTurn(SomeNodes):
    """k: how many are chosen, those whose turn it is: it follows from the run's own rounds."""


SELECTIONS = Registry("node selection")
SELECTIONS.register("all", "heliosdb.coordinator.selections:ALL")
SELECTIONS.register("random", "heliosdb.coordinator.selections:RANDOM", settings=SomeNodes)
SELECTIONS.register("most_data", "heliosdb.coordinator.selections:MOST_DATA", settings=RankedNodes)
SELECTIONS.register(
    "best_performance", "heliosdb.coordinator.selections:BEST_PERFORMANCE", settings=ComparedNodes
)
SELECTIONS.register("cyclic", "heliosdb.coordinator.selections:CYCLIC", settings=NodesInTurn)


def count_chosen(text: str, able: int) -> int:
    """Return how many of so many able nodes a round asks at most; errors as `read_selection`."""
    settings = read_selection(text)[1]
    return min(able, settings.k) if isinstance(settings, SomeNodes) else able


def read_selection(text: str) -> tuple[RegisteredPart, object]:
    """Return what the option node_selection names, and its settings; text: `all`, `random(5)`.

    FederatedError INVALID_VALUE for a text that is none, NOT_SUPPORTED for a selection that there is not.
    """
    try:
        name, count = read_policy(text)
    except ValueError:
        raise invalid_value(f'node_selection "{text[:100]}" names no selection') from None
    entry = SELECTIONS.entry(name)
    arguments = option_names(entry.settings)
    if (count is None) is bool(arguments):
        form = f"{name}({arguments[0]})" if arguments else name
        raise invalid_value(f'node_selection "{text[:100]}" is not of the form {form}')
    try:
        return entry, read_settings(entry.settings, {} if count is None else {arguments[0]: count})
    except FederatedError as error:
        raise invalid_value(f"node_selection {text[:100]}: {error.message}") from None
