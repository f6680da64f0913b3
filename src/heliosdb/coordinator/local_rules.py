"""What a strategy has nodes told beside the parameters, and what it has made of their updates.

What always holds: nodes are told nothing that no step of theirs reads, and no array of a strategy takes the
place of one of a model's.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from heliosdb.aggregation.strategy import Strategy, companions
from heliosdb.algorithms.steps import Algorithm, Asked
from heliosdb.domain.errors import invalid_value
from heliosdb.domain.state import State, freeze
from heliosdb.domain.update import Moved, Total, Updates, norm


def check_local(learned: Algorithm, rule: Strategy, settings: Any) -> None:
    """Raise FederatedError INVALID_VALUE where nodes would be told what no step of theirs reads."""
    for name in rule.local(settings):
        for step in learned.steps.values():
            if step.gathers == "rule" and name not in step.reads:
                raise invalid_value(
                    f"aggregation {rule.name} needs nodes to heed {name}, which {learned.name} does not"
                )


def tell_rule(asked: Asked, size: int, memory: State, rule: Strategy, settings: Any) -> Asked:
    """Add what the strategy has nodes told: settings, and the arrays that go with the parameters.

    size: of the parameters that move. memory: what the strategy remembers. FederatedError INVALID_VALUE
    where the model has an array of the same name.
    """
    told, given = companions(rule), {**asked.work.settings, **rule.local(settings)}
    if not told:
        return replace(asked, work=replace(asked.work, settings=given))
    arrays = {name: memory.get(name, np.zeros(size)) for name in told}
    if clash := sorted(arrays.keys() & asked.state.keys()):
        raise invalid_value(f"the model has an array {clash[0]}, as aggregation {rule.name} has")
    work = replace(asked.work, settings=given, size=asked.work.size + size * len(told))
    return replace(asked, work=work, state=freeze({**asked.state, **arrays}))


def moved_by(parameters: Any, gathered: Total | Updates) -> Moved:
    """Return the parameters that a strategy made of updates, with how many these were and the longest."""
    if isinstance(gathered, Total):
        return Moved(parameters, gathered.nodes, gathered.largest)
    largest = max(gathered, key=lambda update: (norm(update.vector), update.node))
    return Moved(parameters, len(gathered), (largest.node, norm(largest.vector)))
