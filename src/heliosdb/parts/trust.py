"""Who adds the noise of a run, and whether what the run is asked to do goes with it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from heliosdb.domain.errors import invalid_value, not_supported
from heliosdb.domain.privacy import Trust
from heliosdb.domain.run import Policy, TrainingOptions
from heliosdb.parts.algorithms import ALGORITHMS, DescentSettings, adds_up
from heliosdb.parts.protocols import PLAIN
from heliosdb.parts.strategies import STRATEGIES

_UNSEEN: Mapping[Trust | None, str] = {
    "distributed": "A share of the noise is no protection where the coordinator sees single answers.",
    "central": "The coordinator is to see the exact sum of several nodes, and no single answer.",
}
"""Why nobody may see single answers."""

_LOCAL = "Set trust_model = 'local' in the workspace: each node then adds the whole noise."
_OWN_NOISE = "Or set trust_model = 'local' in the workspace: each node then adds the whole noise."


@dataclass(frozen=True, slots=True)
class TrustTerms:
    """What a workspace says. trust_model None: where sums are secure nodes share the noise. private: whether
    there is a budget. noise, overlap: its options noise_mechanism and subjects_overlap."""

    trust_model: Trust | None
    private: bool
    noise: str = "gaussian"
    overlap: bool = False

    def noises_sums(self, options: TrainingOptions) -> bool:
        """Whether the noise of a run is that of the nodes' sum, and no node adds all of it."""
        return self.private and options.protocol != PLAIN and self.trust_model != "local"

    @classmethod
    def of_options(cls, policy: Mapping[str, Any]) -> TrustTerms:
        """Of a workspace's options, defaults filled in."""
        return cls(
            policy.get("trust_model"),
            policy.get("privacy_budget") is not None,
            policy.get("noise_mechanism") or "gaussian",
            bool(policy.get("subjects_overlap")),
        )

    @classmethod
    def of_policy(cls, policy: Policy) -> TrustTerms:
        """Of a run's policy."""
        return cls(policy.trust_model, policy.budget is not None, policy.noise, policy.overlap)


def check_trust(options: TrainingOptions, terms: TrustTerms, named: Collection[str] = ()) -> None:
    """Raise FederatedError where a sum cannot have its noise as it is to: INVALID_VALUE where something would
    have no effect, or no protection would be left, NOT_SUPPORTED for what has no form of it yet.

    named: the options that were given by name.
    """
    trust = terms.trust_model
    if trust in _UNSEEN and options.protocol == PLAIN:
        raise invalid_value(
            f"trust_model = '{trust}' needs secure_aggregation",
            detail=_UNSEEN[trust],
            hint="Train with secure_aggregation = true, or set trust_model = 'local' in the workspace.",
        )
    if not terms.noises_sums(options):
        return
    _check_terms(terms)
    if not adds_up(options.algorithm, options.given):
        _check_one_gradient(options, named)


def _check_terms(terms: TrustTerms) -> None:
    """Raise NOT_SUPPORTED for what the noise of a sum is not, or does not cover."""
    if terms.noise != "gaussian":
        raise not_supported(
            f"noise_mechanism {terms.noise} is not supported where the noise is that of a sum: shares of it"
            " do not add up to such noise",
            hint=_LOCAL,
        )
    if terms.overlap:
        # What such a subject moves the sum by is not what its nodes' ledgers add up to.
        raise not_supported(
            "subjects_overlap is not supported where the noise is that of a sum: a data subject of m nodes"
            " moves it m times as far, and no node's ledger knows that",
            hint=_LOCAL,
        )


def _check_one_gradient(options: TrainingOptions, named: Collection[str]) -> None:
    """Raise where a round would not be one step on the sum of all nodes' gradients."""
    if not getattr(ALGORITHMS.entry(options.algorithm).settings, "has_gradient_sums", False):
        raise not_supported(
            f"{options.algorithm} is not supported yet where the noise is that of a sum",
            hint=_LOCAL,
        )
    if "local_epochs" in named or options.settings(DescentSettings).local_epochs != 1:
        raise invalid_value(
            "local_epochs has no effect where the noise is that of a sum",
            detail="A round is then one step on the gradient of a sample of all nodes' subjects, about"
            " batch_size at each node.",
            hint="Leave it out and raise the number of rounds. " + _OWN_NOISE,
        )
    optimizer = options.given.get("optimizer") or "sgd"
    if optimizer not in ("sgd", "newton"):
        raise invalid_value(
            f"optimizer {optimizer} has no effect where the noise is that of a sum: nodes take no steps of"
            " their own",
            hint="Choose aggregation = 'fedopt' for momentum at the coordinator, or 'fedadam'. " + _OWN_NOISE,
        )
    settings: Any = options.settings(STRATEGIES.entry(options.aggregation).settings)
    if hasattr(settings, "proximal_term"):
        raise invalid_value(
            f"aggregation {options.aggregation} has no effect where the noise is that of a sum: it holds back"
            " further local steps, and there is one",
            hint="Choose another aggregation. " + _OWN_NOISE,
        )
