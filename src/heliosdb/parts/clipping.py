"""Whether a run's clipping norm can follow its gradients (adaptive_clipping), told from the options alone."""

from __future__ import annotations

from heliosdb.domain.errors import invalid_value, not_supported
from heliosdb.domain.privacy import Noise
from heliosdb.domain.run import TrainingOptions
from heliosdb.parts.algorithms import ALGORITHMS, DescentSettings, by_newton


def check_adaptive_clipping(options: TrainingOptions, noise: Noise) -> None:
    """Raise FederatedError INVALID_VALUE where adaptive_clipping, which the workspace has, has no effect;
    NOT_SUPPORTED where gradients have no L2 norms that it could follow. noise: of the workspace."""
    if noise != "gaussian":
        raise not_supported(
            f"adaptive_clipping is not supported under noise_mechanism {noise}",
            hint="It follows L2 norms; set noise_mechanism = 'gaussian', or adaptive_clipping = false.",
        )
    is_descent = issubclass(ALGORITHMS.entry(options.algorithm).settings, DescentSettings)
    if not is_descent or by_newton(options.algorithm, options.given):
        name = "optimizer newton" if is_descent else options.algorithm
        raise invalid_value(
            f"adaptive_clipping has no effect on {name}",
            detail="It follows the norms of gradients, and nothing else is clipped to such a norm.",
            hint="Train by descent, or in a workspace without adaptive_clipping.",
        )
    if options.rounds < 2:
        raise invalid_value(
            "adaptive_clipping has no effect on a run of one round",
            detail="What a round finds of the norms of gradients decides on how the next one clips.",
            hint="Raise rounds, and lower local_epochs.",
        )
