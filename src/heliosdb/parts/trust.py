"""Who adds the noise of a run, and whether what the run is asked to do goes with it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from heliosdb.domain.errors import invalid_value, not_supported
from heliosdb.domain.run import Policy, TrainingOptions
from heliosdb.parts.algorithms import ALGORITHMS, DescentSettings, adds_up
from heliosdb.parts.protocols import PLAIN
from heliosdb.parts.strategies import STRATEGIES

DISTRIBUTED, LOCAL = "distributed", "local"

_LOCAL = "Set trust_model = 'local' in the workspace: each node then adds the whole noise."
_OWN_NOISE = "Or set trust_model = 'local' in the workspace: each node then adds the whole noise."


@dataclass(frozen=True, slots=True)
class TrustTerms:
    """What a workspace says. trust_model None: where sums are secure nodes share the noise. private: whether
    there is a budget. noise, adaptive_clipping, overlap: its options noise_mechanism, adaptive_clipping and
    subjects_overlap."""

    trust_model: str | None
    private: bool
    noise: str = "gaussian"
    adaptive_clipping: bool = False
    overlap: bool = False

    def shares_noise(self, options: TrainingOptions) -> bool:
        """Whether each node of a run adds a share of a sum's noise."""
        return self.private and options.protocol != PLAIN and self.trust_model in (None, DISTRIBUTED)

    @classmethod
    def of_options(cls, policy: Mapping[str, Any]) -> TrustTerms:
        """Of a workspace's options, defaults filled in."""
        return cls(
            policy.get("trust_model"),
            policy.get("privacy_budget") is not None,
            policy.get("noise_mechanism") or "gaussian",
            bool(policy.get("adaptive_clipping")),
            bool(policy.get("subjects_overlap")),
        )

    @classmethod
    def of_policy(cls, policy: Policy) -> TrustTerms:
        """Of a run's policy."""
        return cls(
            policy.trust_model,
            policy.budget is not None,
            policy.noise,
            policy.adaptive_clipping,
            policy.overlap,
        )


def check_trust(options: TrainingOptions, terms: TrustTerms, named: Collection[str] = ()) -> None:
    """Raise FederatedError where nodes cannot share the noise as they are asked to: INVALID_VALUE where
    something would have no effect, NOT_SUPPORTED for what has no form of it yet.

    named: the options that were given by name.
    """
    if terms.trust_model == DISTRIBUTED and options.protocol == PLAIN:
        raise invalid_value(
            "trust_model = 'distributed' needs secure_aggregation",
            detail="A share of the noise is no protection where the coordinator sees single answers.",
            hint="Train with secure_aggregation = true, or set trust_model = 'local' in the workspace.",
        )
    if not terms.shares_noise(options):
        return
    _check_terms(terms)
    if not adds_up(options.algorithm, options.given):
        _check_one_gradient(options, named)


def _check_terms(terms: TrustTerms) -> None:
    """Raise NOT_SUPPORTED for what the sum of shares is not, or has no share of."""
    if terms.noise != "gaussian":
        raise not_supported(
            f"noise_mechanism {terms.noise} is not supported where nodes share the noise: shares of it do not"
            " add up to such noise",
            hint=_LOCAL,
        )
    if terms.adaptive_clipping:
        raise not_supported("adaptive_clipping is not supported yet where nodes share the noise", hint=_LOCAL)
    if terms.overlap:
        # What such a subject moves the sum by is not what its nodes' ledgers add up to.
        raise not_supported("subjects_overlap is not supported yet where nodes share the noise", hint=_LOCAL)


def _check_one_gradient(options: TrainingOptions, named: Collection[str]) -> None:
    """Raise where a round would not be one step on the sum of all nodes' gradients."""
    if not getattr(ALGORITHMS.entry(options.algorithm).settings, "has_gradient_sums", False):
        raise not_supported(
            f"{options.algorithm} is not supported yet where nodes share the noise",
            hint=_LOCAL,
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
