"""What releases with full participation cost, exactly: the analytic Gaussian mechanism.

What always holds: the answer is never below the exact ε, and above it by a relative 1e-9 at most.
"""

from __future__ import annotations

import math
from functools import lru_cache

from heliosdb.privacy.special import special

_DOUBLINGS = 60


def _delta(epsilon: float, sigma: float) -> float:
    """Return the δ of Gaussian noise of standard deviation `sigma` at sensitivity 1 for `epsilon`.

    Φ(1/(2σ) - εσ) - exp(ε) Φ(-1/(2σ) - εσ): Balle & Wang 2018, "Improving the Gaussian mechanism for
    differential privacy: analytical calibration and optimal denoising", theorem 8.
    """
    _, log_ndtr = special()
    first = float(log_ndtr(0.5 / sigma - epsilon * sigma))
    second = epsilon + float(log_ndtr(-0.5 / sigma - epsilon * sigma))
    # The difference of two numbers by their logarithms: neither exp(ε) nor a tail is written out.
    return math.exp(first) * -math.expm1(min(0.0, second - first))


@lru_cache(maxsize=4096)
def gaussian_epsilon(sigma: float, delta: float) -> float:
    """Return the ε at `delta` of one release with noise multiplier `sigma` > 0; 0 where it costs nothing."""
    if _delta(0.0, sigma) <= delta:
        return 0.0
    low, high = 0.0, 1.0
    for _ in range(_DOUBLINGS):
        if _delta(high, sigma) <= delta:
            break
        low, high = high, 2.0 * high
    while high - low > 1e-9 * high:
        middle = 0.5 * (low + high)
        low, high = (low, middle) if _delta(middle, sigma) <= delta else (middle, high)
    return high
