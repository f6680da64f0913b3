"""Adaptive federated optimization (Reddi et al. 2021, algorithm 2): the server takes steps of its own.

The mean update Δ is what a gradient is to an optimizer, with the sign turned:

    m = β1 m + (1 - β1) Δ,    new = old + η m / (√v + τ),    with m = 0 and v = τ² before the first round, and
    v = v + Δ²                            fedadagrad
    v = β2 v + (1 - β2) Δ²                fedadam
    v = v - (1 - β2) Δ² sign(v - Δ²)      fedyogi

`fedopt` is the algorithm without v: new = old + η m.

What always holds: the memory is m and √v, one number each for every parameter, whoever answered; √v and not v
is kept, so that no square overflows; √v is never negative, and it is divided by at least τ > 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from heliosdb.aggregation.updates import mean_of, move, rejected
from heliosdb.domain.settings import Setting
from heliosdb.domain.state import State, make_state
from heliosdb.domain.update import Total, Updates
from heliosdb.domain.vector import Vector
from heliosdb.parts.strategies import AdagradSettings, AdaptiveSettings, MomentumSettings

_TAU, _BETA2 = 1e-3, 0.99
"""The paper's (section 5.2, table 8 and appendix D)."""

_MOMENT, _ROOT = "moment", "root"

Root = Callable[[Vector, Vector, Any], Vector]
"""(√v, Δ, settings) → the new √v."""


@dataclass(frozen=True, slots=True)
class ServerOptimizer:
    """One of the four. rate, beta1: η and β1 where they are not given. root: how √v goes on; None: no v."""

    name: str
    rate: float
    beta1: float
    root: Root | None = None
    sees: Literal["each", "sum"] = "sum"

    def local(self, settings: Any) -> Mapping[str, Setting]:
        """Nothing."""
        return {}

    def combine(
        self, parameters: Vector, memory: State, gathered: Total | Updates, settings: MomentumSettings
    ) -> tuple[Vector, State]:
        """The moved parameters, and m and √v.

        Raises FederatedError (UF003) for no update, for one of another shape, for a memory of another model,
        and where the result is not finite.
        """
        mean = mean_of(parameters, gathered)
        if any(array.shape != parameters.shape for array in memory.values()):
            raise rejected("What was remembered is of another model.")
        beta1 = _or(settings.beta1, self.beta1)
        moment: Vector = beta1 * memory.get(_MOMENT, np.zeros(mean.size)) + (1.0 - beta1) * mean
        rate = _or(settings.server_learning_rate, self.rate)
        with np.errstate(over="ignore", under="ignore"):
            if self.root is None:
                return move(parameters, rate * moment), make_state(**{_MOMENT: moment})
            assert isinstance(settings, AdagradSettings)
            tau = _or(settings.tau, _TAU)
            root = self.root(memory.get(_ROOT, np.full(mean.size, tau)), mean, settings)
            step = rate * (moment / (root + tau))
        return move(parameters, step), make_state(**{_MOMENT: moment, _ROOT: root})


def _adagrad(root: Vector, mean: Vector, settings: AdagradSettings) -> Vector:
    new: Vector = np.hypot(root, mean)
    return new


def _adam(root: Vector, mean: Vector, settings: AdaptiveSettings) -> Vector:
    beta2 = _or(settings.beta2, _BETA2)
    new: Vector = np.hypot(np.sqrt(beta2) * root, np.sqrt(1.0 - beta2) * mean)
    return new


def _yogi(root: Vector, mean: Vector, settings: AdaptiveSettings) -> Vector:
    share, size = 1.0 - _or(settings.beta2, _BETA2), np.abs(mean)
    # Where Δ² < v the ratio is below 1, and so its square is a number.
    ratio = np.divide(size, root, out=np.zeros_like(root), where=size < root)
    smaller = root * np.sqrt(1.0 - share * np.square(ratio))
    larger = np.hypot(root, np.sqrt(share) * mean)
    return np.where(size > root, larger, np.where(size < root, smaller, root))


def _or(given: float | None, otherwise: float) -> float:
    return otherwise if given is None else given


FEDOPT = ServerOptimizer("fedopt", rate=1.0, beta1=0.9)
FEDADAGRAD = ServerOptimizer("fedadagrad", rate=0.1, beta1=0.0, root=_adagrad)
FEDADAM = ServerOptimizer("fedadam", rate=0.1, beta1=0.9, root=_adam)
FEDYOGI = ServerOptimizer("fedyogi", rate=0.1, beta1=0.9, root=_yogi)
