"""What a private release costs: mechanisms as data, so that node, coordinator and ledger agree.

What always holds: a `Mechanism` states everything an accountant needs to know and nothing else; noise
multipliers are relative to the sensitivity: of Gaussian noise the standard deviation ÷ the L2 sensitivity, of
Laplace noise the scale b ÷ the L1 sensitivity, so that one release at full participation has a pure ε of
1 / noise_multiplier.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Noise = Literal["gaussian", "laplacian"]
"""The distribution of a release's noise, as the option noise_mechanism names it."""

Trust = Literal["local", "distributed", "central"]
"""Who adds a release's noise, as the option trust_model names it: each node all of it, each a share of that
of their sum, or the coordinator, which sees the sum alone."""


@dataclass(frozen=True, slots=True)
class Mechanism:
    """`steps` noised releases, each over a Poisson sample of rate `sampling_rate` of the subjects.

    sampling_rate: in (0, 1]; 1 is full participation. noise_multiplier: > 0. steps: ≥ 1. noise: how it is
    distributed.
    """

    noise_multiplier: float
    sampling_rate: float = 1.0
    steps: int = 1
    noise: Noise = "gaussian"


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
