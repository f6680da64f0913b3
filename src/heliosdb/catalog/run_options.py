"""The options and the policy of a run's row, as START has recorded them, read once into objects.

What always holds: what reads the JSON is here; a value that is missing or of another type raises what Python
raises for it, which the caller turns into one error.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from heliosdb.domain.folds import Fold
from heliosdb.domain.ids import NodeName, WorkspaceName
from heliosdb.domain.run import Policy, TrainingOptions
from heliosdb.parts.algorithms import adds_up, roles_of

_OF_THE_WORKSPACE = ("compression", "compression_level", "quantization")
"""What a model that does not say it has from its workspace."""


def parse_options(
    options: Mapping[str, Any], fold: int | None = None, policy: Mapping[str, Any] = MappingProxyType({})
) -> TrainingOptions:
    """Read the training options that START has recorded, defaults included. fold: which one the run holds
    out. policy: the workspace's options."""
    options = {**_inherited(options, policy), **options}
    part = None if fold is None else _fold(fold, options["folds"])
    ranges = options.get("feature_ranges") or {}
    return TrainingOptions(
        algorithm=options["algorithm"].lower(),
        features=tuple(options["features"]),
        target=options["target"],
        dataset=options.get("dataset"),
        feature_ranges=tuple((name, float(low), float(high)) for name, (low, high) in ranges.items()),
        seed=options.get("seed"),
        rounds=options["rounds"],
        aggregation=options["aggregation"].lower(),
        convergence_threshold=options.get("convergence_threshold"),
        early_stopping_rounds=options.get("early_stopping_rounds"),
        target_accuracy=options.get("target_accuracy"),
        validation_split=part.share if part is not None else float(options.get("validation_split") or 0.0),
        validation_frequency=options.get("validation_frequency") or 1,
        max_update_norm=_number(options.get("max_update_norm")),
        keep_best=bool(options.get("keep_best")),
        promote=options.get("promote", True),
        roles=roles_of(options["algorithm"], options),
        given=MappingProxyType(dict(options)),
        fold=part,
    )


def _inherited(options: Mapping[str, Any], policy: Mapping[str, Any]) -> dict[str, Any]:
    """What the workspace says of how updates travel. What is added up exactly has no values to round: there a
    workspace's quantization is about other models."""
    names = [name for name in _OF_THE_WORKSPACE if policy.get(name) is not None]
    if "quantization" in names and adds_up(options["algorithm"].lower(), options):
        names.remove("quantization")
    return {name: policy[name] for name in names}


def _fold(number: int, of: int) -> Fold:
    fold = Fold(number, of)
    if not fold.is_possible:
        raise ValueError
    return fold


def _number(value: float | None) -> float | None:
    return None if value is None else float(value)


def parse_policy(policy: Mapping[str, Any], workspace: WorkspaceName) -> Policy:
    """Read the workspace options that START has recorded; what is derived from others is derived here."""
    round_timeout = float(policy["round_timeout"])
    stragglers = policy.get("stragglers_timeout")
    overlap = bool(policy.get("subjects_overlap"))
    return Policy(
        workspace=workspace,
        privacy_budget=policy.get("privacy_budget"),
        # As many (ε, δ) as there may be nodes add up to the workspace's δ.
        delta=float(policy["delta"]) / (policy["max_nodes"] if overlap else 1),
        privacy_per_round=policy.get("privacy_per_round"),
        noise_multiplier=policy.get("noise_multiplier"),
        clipping_threshold=float(policy["clipping_threshold"]),
        min_nodes=policy["min_nodes"],
        max_nodes=policy["max_nodes"],
        min_nodes_per_round=policy.get("min_nodes_per_round") or policy["min_nodes"],
        round_timeout=round_timeout,
        stragglers_timeout=round_timeout if stragglers is None else float(stragglers),
        data_residency=policy.get("data_residency"),
        compliance_mode=policy.get("compliance_mode") or "none",
        node_selection=policy.get("node_selection") or "all",
        aggregators={
            NodeName(node): NodeName(above) for node, above in (policy.get("aggregators") or {}).items()
        },
        adaptive_clipping=bool(policy.get("adaptive_clipping")),
        noise=policy.get("noise_mechanism") or "gaussian",
        overlap=overlap,
        trust_model=policy.get("trust_model"),
        buffer=(policy.get("aggregation_batch_size") or 0) if policy.get("async_aggregation") else 0,
    )
