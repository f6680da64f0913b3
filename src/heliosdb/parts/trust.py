"""Who adds the noise of a run, and whether what the run is asked to do goes with it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from heliosdb.domain.errors import invalid_value, not_supported
from heliosdb.domain.run import TrainingOptions
from heliosdb.parts.algorithms import ALGORITHMS, DescentSettings, adds_up
from heliosdb.parts.protocols import PLAIN
from heliosdb.parts.strategies import STRATEGIES

DISTRIBUTED, LOCAL = "distributed", "local"

_OWN_NOISE = "Or set trust_model = 'local' in the workspace: each node then adds the whole noise."


def check_trust(
    options: TrainingOptions, trust_model: str | None, *, private: bool, named: Collection[str] = ()
) -> None:
    """Raise FederatedError where nodes cannot share the noise as they are asked to: INVALID_VALUE where
    something would have no effect, NOT_SUPPORTED for what has no form of it yet.

    trust_model: the workspace's; None: where sums are secure they share it. named: the options that were
    given by name.
    """
    if trust_model == DISTRIBUTED and options.protocol == PLAIN:
        raise invalid_value(
            "trust_model = 'distributed' needs secure_aggregation",
            detail="A share of the noise is no protection where the coordinator sees single answers.",
            hint="Train with secure_aggregation = true, or set trust_model = 'local' in the workspace.",
        )
    shares = private and options.protocol != PLAIN and trust_model in (None, DISTRIBUTED)
    if shares and not adds_up(options.algorithm, options.given):
        _check_one_gradient(options, named)


def _check_one_gradient(options: TrainingOptions, named: Collection[str]) -> None:
    """Raise where a round would not be one step on the sum of all nodes' gradients."""
    if not getattr(ALGORITHMS.entry(options.algorithm).settings, "has_gradient_sums", False):
        raise not_supported(
            f"{options.algorithm} with noise that its nodes share",
            hint="Set trust_model = 'local' in the workspace: each node then adds the whole noise.",
        )
    if "local_epochs" in named or options.settings(DescentSettings).local_epochs != 1:
        raise invalid_value(
            "local_epochs has no effect where nodes share the noise",
            detail="A round is then one step on the gradient of a sample of all nodes' subjects, about"
            " batch_size at each node.",
            hint="Leave it out and raise the number of rounds. " + _OWN_NOISE,
        )
    optimizer = options.given.get("optimizer") or "sgd"
    if optimizer not in ("sgd", "newton"):
        raise invalid_value(
            f"optimizer {optimizer} has no effect where nodes share the noise and take no steps of their own",
            hint="Choose aggregation = 'fedopt' for momentum at the coordinator, or 'fedadam'. " + _OWN_NOISE,
        )
    settings: Any = options.settings(STRATEGIES.entry(options.aggregation).settings)
    if hasattr(settings, "proximal_term"):
        raise invalid_value(
            f"aggregation {options.aggregation} has no effect where nodes share the noise: it holds back"
            " further local steps, and there is one",
            hint="Choose another aggregation. " + _OWN_NOISE,
        )
