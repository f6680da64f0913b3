"""How many steps a node's descent takes, and what they are worth together: known without a message.

What always holds: both follow from the task and from the number of rows, which is an update's weight.
"""

from __future__ import annotations

MOMENTUM = 0.9
"""The part of the earlier steps that each one keeps (Polyak 1964; Sutskever et al. 2013)."""


def count_steps(rows: int, epochs: int, batch_size: int) -> int:
    """Return how many steps a descent takes over so many rows: those that fill no batch join the others."""
    return epochs * max(1, rows // batch_size)


def worth_of_step(step: int, momentum: float) -> float:
    """Return how many plain steps one is worth, counted from 1, that goes on with a part of those before it,
    where the gradient stays the same."""
    return (1.0 - momentum**step) / (1.0 - momentum)


def added_steps(steps: int, momentum: float) -> float:
    """Return how many plain steps so many are worth where each goes on with a part of the last: the sum of
    what each gradient is counted with at the end, |a|₁ of Wang et al. 2020, section 4.1; without momentum
    their number."""
    if momentum == 0.0:
        return float(steps)
    carried = momentum * (1.0 - momentum**steps) / (1.0 - momentum)
    return (steps - carried) / (1.0 - momentum)
