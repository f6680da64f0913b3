"""What a run may be that combines updates before all of a round are there: the options that must fit for it.

What always holds: what is refused here is refused by START, and once more when a run is claimed; a run that
passes has one training exchange a round, whose updates only their sum is needed of.
"""

from __future__ import annotations

from dataclasses import dataclass

from heliosdb.domain.errors import FederatedError, invalid_value, not_supported
from heliosdb.domain.run import TrainingOptions
from heliosdb.domain.wording import counted
from heliosdb.parts.algorithms import has_asynchronous_form
from heliosdb.parts.protocols import PLAIN
from heliosdb.parts.strategies import STRATEGIES, needs_of


@dataclass(frozen=True, slots=True)
class Batching:
    """What a workspace says of it. size: aggregation_batch_size, 0 for all at once. is_asynchronous: whether
    rounds close with so many updates. selection: node_selection. private: whether there is a budget."""

    size: int
    is_asynchronous: bool
    selection: str
    private: bool


def check_batching(options: TrainingOptions, batching: Batching, most_nodes: int | None = None) -> None:
    """Raise FederatedError where a run cannot combine its updates so: INVALID_VALUE, or NOT_SUPPORTED where
    that is not built. most_nodes: the most nodes that a round can have; None: not known."""
    if not batching.size:
        return
    _check_sum(options, batching)
    if not batching.is_asynchronous:
        return
    if batching.private:
        raise not_supported(
            "async_aggregation is not supported under a privacy_budget yet",
            hint="A budget is divided over rounds that ask each node once: set async_aggregation = false.",
        )
    if batching.selection != "all":
        raise not_supported(
            f"node_selection {batching.selection} is not supported with async_aggregation yet",
            hint="An asynchronous round asks all nodes that are free.",
        )
    if not has_asynchronous_form(options.algorithm, options.given):
        raise invalid_value(
            f"{_named(options)} cannot be trained in asynchronous rounds",
            detail="Each of its steps sums what all nodes say of the same model.",
            hint="ALTER FEDERATED WORKSPACE ... SET (async_aggregation = false), or train by descent.",
        )
    if options.given.get("adaptive_learning"):
        raise not_supported("adaptive_learning is not supported with async_aggregation yet")
    if most_nodes is not None and batching.size > most_nodes:
        raise invalid_value(
            f"aggregation_batch_size is {batching.size}, and a round has at most"
            f" {counted(most_nodes, 'node')}",
            detail="An asynchronous round closes with so many updates, of as many nodes.",
            hint="Choose a smaller aggregation_batch_size, or register more nodes.",
        )


def _check_sum(options: TrainingOptions, batching: Batching) -> None:
    """Raise FederatedError INVALID_VALUE where all updates of a round are needed together."""
    told = f"aggregation_batch_size is {batching.size}"
    if needs_of(STRATEGIES.entry(options.aggregation).settings) != "sum":
        raise invalid_value(
            f"aggregation {options.aggregation} needs all updates of a round at once, and {told}",
            hint="Choose an aggregation that works on sums, such as fedavg, or aggregation_batch_size = 0.",
        )
    if options.protocol != PLAIN:
        raise _hidden(told)


def _hidden(told: str) -> FederatedError:
    return invalid_value(
        f"secure_aggregation opens the sum of a whole round, and {told}",
        hint="Choose aggregation_batch_size = 0, or train without secure_aggregation.",
    )


def _named(options: TrainingOptions) -> str:
    newton = options.given.get("optimizer") == "newton"
    return f"{options.algorithm} by optimizer newton" if newton else options.algorithm
