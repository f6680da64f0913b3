"""What a node trains for itself in each round, as a task says it.

What always holds: nothing of it is in a task under a privacy budget (works.py).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class OwnTerms:
    """What a node trains for itself. layers: so many last ones stay at it; term: a model beside the
    federation's is pulled towards that so hard; None for nothing, and never both."""

    layers: int | None = None
    term: float | None = None

    def __bool__(self) -> bool:
        """Whether there is anything."""
        return self.layers is not None or self.term is not None


NOTHING = OwnTerms()
