"""What the tests of aggregation rules share: updates, and a rule applied to them."""

from __future__ import annotations

from typing import Any

import numpy as np

from heliosdb.aggregation import gathering_for, strategy
from heliosdb.domain.ids import NodeName
from heliosdb.domain.settings import read_settings
from heliosdb.domain.state import NO_STATE, State
from heliosdb.domain.update import Update
from heliosdb.domain.vector import Matrix, Vector
from heliosdb.parts.strategies import STRATEGIES


def random_updates(seed: int, nodes: int, size: int = 6) -> Matrix:
    """Updates around a common direction, some of them equal, some far away."""
    rng = np.random.default_rng(seed)
    made = rng.normal(1.0, 1.0, size=(nodes, size))
    made[rng.random(nodes) < 0.2] *= -100.0
    if nodes > 2 and seed % 3 == 0:
        made[-1] = made[0]
    return made


def combined(
    name: str,
    updates: Matrix,
    *,
    weights: Vector | None = None,
    parameters: Vector | None = None,
    memory: State = NO_STATE,
    **options: Any,
) -> tuple[Vector, State]:
    """What the rule of that name makes of updates, one a row, and what it remembers."""
    rule, settings = strategy(name), read_settings(STRATEGIES.entry(name).settings, options, exact=True)
    start = np.zeros(updates.shape[1]) if parameters is None else parameters
    gathering = gathering_for(rule, updates.shape[1], settings=settings)
    for number, update in enumerate(updates):
        weight = 1.0 if weights is None else float(weights[number])
        gathering.take(Update(NodeName(f"node_{number:03d}"), update, weight))
    return rule.combine(start, memory, gathering.result(), settings)


def moved(name: str, updates: Matrix, **given: Any) -> Vector:
    """How far the rule moves."""
    return combined(name, updates, **given)[0]
