"""How many classes a model under a privacy budget may tell apart, and by what."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from heliosdb.domain.errors import not_supported
from heliosdb.domain.privacy import Noise
from heliosdb.parts.algorithms import by_newton


def check_private_classes(algorithm: str, given: Mapping[str, Any], classes: int, noise: Noise) -> None:
    """Raise FederatedError NOT_SUPPORTED for more than two where what leaves has no form for them.

    noise: of the workspace's budget.
    """
    if classes <= 2:
        return
    if algorithm == "gradient_boosting":
        raise not_supported(
            "gradient_boosting of more than two classes is not supported under a privacy_budget yet",
            hint="random_forest learns several classes.",
        )
    if by_newton(algorithm, given):
        raise not_supported(
            "more than two classes are not supported under a privacy_budget by optimizer newton yet",
            hint="Train with optimizer = 'sgd'.",
        )
    if noise != "gaussian":
        raise not_supported(
            f"more than two classes are not supported under noise_mechanism {noise}",
            hint="Their gradients are bounded in L2 norm; set noise_mechanism = 'gaussian'.",
        )
