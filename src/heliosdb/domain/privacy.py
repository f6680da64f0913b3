"""What a private release costs: mechanisms as data, so that node, coordinator and ledger agree.

What always holds: a `Mechanism` states everything an accountant needs to know and nothing else; noise
multipliers are relative to the sensitivity (σ = standard deviation ÷ sensitivity).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mechanism:
    """`steps` Gaussian releases, each over a Poisson sample of rate `sampling_rate` of the subjects.

    sampling_rate: in (0, 1]; 1 is full participation. noise_multiplier: > 0. steps: ≥ 1.
    """

    noise_multiplier: float
    sampling_rate: float = 1.0
    steps: int = 1


@dataclass(frozen=True, slots=True)
class Budget:
    """A total (ε, δ) that may be spent; both > 0."""

    epsilon: float
    delta: float


@dataclass(frozen=True, slots=True)
class Spending:
    """What a ledger shows: ε by summing each release's own ε, and by composing all of them, at δ."""

    epsilon_basic: float
    epsilon_tight: float
