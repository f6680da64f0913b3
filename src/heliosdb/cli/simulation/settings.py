"""What a simulation is asked for: the options of the language, by name, and what they make of a run.

What always holds: an option is read by the table that CREATE FEDERATED MODEL, WORKSPACE and DATASET read;
one that is unknown is named, and one that has no effect on a simulation is refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any
from uuid import UUID

from federated_sql.clause_values import Option, OptionValue, Scalar
from federated_sql.options import (
    OptionKind,
    OptionSpec,
    OptionType,
    check_dataset,
    check_model,
    check_workspace,
    defaults,
    specs,
    validate,
)
from heliosdb.catalog.run_options import parse_options, parse_policy
from heliosdb.domain.errors import ErrorCode, FederatedError, not_supported
from heliosdb.domain.ids import ModelName, RunId, WorkspaceName
from heliosdb.domain.run import Run
from heliosdb.extension.contract import check_algorithm, check_ranges, check_target_classes, check_transforms
from heliosdb.extension.regressions import check_regression
from heliosdb.parts.algorithms import check_noise, check_private
from heliosdb.parts.built import built_parts
from heliosdb.parts.checks import (
    check_rule,
    check_selection,
    describe_rule,
    explain_unread,
    unread_option,
)
from heliosdb.parts.clipping import check_adaptive_clipping
from heliosdb.parts.selections import count_chosen
from heliosdb.parts.trust import TrustTerms, check_trust

DEFAULT_SEED = 1

_OF_THE_WORKSPACE = frozenset(
    {
        *("privacy_budget", "delta", "privacy_per_round", "noise_multiplier", "clipping_threshold"),
        "adaptive_clipping",
        "noise_mechanism",
        "trust_model",
        *("min_nodes", "max_nodes", "min_nodes_per_round", "node_selection"),
    }
)
_OF_THE_DATASET = frozenset(
    {"subject", "min_rows", "max_parameter_share", "min_cell", "min_category", "max_dominance"}
)
_WITHOUT_EFFECT = frozenset(
    {
        *(
            "dataset",
            "intended_use",
            "owner_contact",
            "promote",
            "folds",
            "search",
            "voting_groups",
            "checkpoint_every",
        ),
        *("compression", "compression_level", "transfer_from", "priority"),
    }
)
_WORDS = {"true": True, "on": True, "false": False, "off": False}
_ARRAYS = (OptionType.TEXT_ARRAY, OptionType.INTEGER_ARRAY)
_TEXTS = (OptionType.TEXT, OptionType.CHOICE, OptionType.POLICY, OptionType.RANGES)


@dataclass(frozen=True, slots=True)
class SimulationSettings:
    """What is simulated. run: as a coordinator would have claimed it. seed: of the split, and of the nodes'
    secrets. dataset: the options that each node's dataset has. said: what START would say of it."""

    run: Run
    seed: int
    dataset: Mapping[str, Any]
    said: tuple[str, ...] = ()

    @property
    def subject(self) -> str | None:
        """The column that names the data subject; None: every row is one."""
        found: str | None = self.dataset.get("subject")
        return found


def read_simulation(given: Mapping[str, str], nodes: int) -> SimulationSettings:
    """Read options by name, as they were typed. nodes: how many there are.

    FederatedError as the statements raise it, NOT_SUPPORTED for one that has no effect on a simulation.
    """
    sorted_out: dict[OptionKind, dict[str, str]] = {kind: {} for kind in _KINDS}
    for name, text in given.items():
        sorted_out[_kind_of(name)][name] = text
    model, policy, dataset = (_read(kind, sorted_out[kind]) for kind in _KINDS)
    check_model(model)
    check_dataset(dataset)
    missing = [name for name in ("algorithm", "features", "target") if not model.get(name)]
    if missing:
        options = " ".join(f"--{name} …" for name in missing)
        raise FederatedError(
            ErrorCode.WRONG_STATE,
            f"the simulated model is incomplete: {', '.join(missing)} not set",
            hint=f"Add {options}.",
        )
    seed = model.get("seed", DEFAULT_SEED)
    # As many as there are: what a workspace admits is not what is tried out here.
    policy = {"max_nodes": nodes, "min_nodes": min(2, nodes)} | policy
    check_workspace(policy)
    run = _make_run(model, policy, seed)
    said = _check(run, model, given=sorted_out[OptionKind.MODEL], nodes=nodes)
    return SimulationSettings(run, seed, MappingProxyType(dataset), tuple(said))


_KINDS = (OptionKind.MODEL, OptionKind.WORKSPACE, OptionKind.DATASET)


def _kind_of(name: str) -> OptionKind:
    built = built_parts()
    if name in specs(OptionKind.MODEL, built):
        if name in _WITHOUT_EFFECT:
            raise _has_no_effect(name)
        return OptionKind.MODEL
    for kind, known in ((OptionKind.WORKSPACE, _OF_THE_WORKSPACE), (OptionKind.DATASET, _OF_THE_DATASET)):
        if name in known:
            return kind
        if name in specs(kind, built):
            raise _has_no_effect(name)
    # Said by the model's table, which knows what is near.
    return OptionKind.MODEL


def _has_no_effect(name: str) -> FederatedError:
    return not_supported(
        f'option "{name}" has no effect on a simulation',
        hint="A simulation has no daemons, no network and no catalog; leave it out.",
    )


def _read(kind: OptionKind, given: Mapping[str, str]) -> dict[str, Any]:
    built = built_parts()
    table = specs(kind, built)
    options = [Option(name, _literal(table.get(name), text)) for name, text in given.items()]
    return dict(validate(kind, options, built))


def _literal(spec: OptionSpec | None, text: str) -> OptionValue:
    """Return what the statement would have had in place of the text; a list may be written `a,b`."""
    if spec is None or spec.type in _TEXTS or text.lstrip().startswith(("[", "{")):
        return text
    if spec.type in _ARRAYS:
        parts = [part.strip() for part in text.split(",")]
        return tuple(parts if spec.type is OptionType.TEXT_ARRAY else map(_scalar, parts))
    return _scalar(text)


def _scalar(text: str) -> Scalar:
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _make_run(model: Mapping[str, Any], policy: Mapping[str, Any], seed: int) -> Run:
    built = built_parts()
    return Run(
        id=RunId(UUID(int=seed)),
        model=ModelName("simulation"),
        model_id=1,
        workspace_id=1,
        options=parse_options({**defaults(OptionKind.MODEL, built), **model, "seed": seed}),
        policy=parse_policy({**defaults(OptionKind.WORKSPACE, built), **policy}, WorkspaceName("simulation")),
    )


def _check(run: Run, model: Mapping[str, Any], *, given: Mapping[str, str], nodes: int) -> list[str]:
    """Raise what START raises; returns what it says."""
    options, private = run.options, run.policy.budget is not None
    if private:
        check_private(options.algorithm, options.given)
        if run.policy.adaptive_clipping:
            check_adaptive_clipping(options, run.policy.noise)
        check_noise(options.algorithm, options.given, run.policy.noise)
    elif model.get("feature_ranges"):
        raise FederatedError(
            ErrorCode.INVALID_VALUE,
            "feature_ranges has no effect without a privacy_budget",
            hint="Add --privacy-budget, or leave the ranges out.",
        )
    check_target_classes(model)
    check_transforms(model)
    if any(one.function == "hashed" for one in options.transforms):
        raise not_supported(
            "heliosdb simulate does not read texts yet",
            hint="Train on servers: heliosdb up starts some.",
        )
    unread = unread_option(given, options)
    if unread is not None:
        detail, instead = explain_unread(unread, options)
        raise FederatedError(
            ErrorCode.INVALID_VALUE,
            f'option "{unread}" has no effect on this run',
            detail=detail,
            hint=f"Leave it out, or {instead}.",
        )
    check_ranges(options)
    check_regression(options, [Option(name, None) for name in given], private=private)
    check_selection(options, run.policy.node_selection, nodes=min(nodes, run.policy.max_nodes))
    most = count_chosen(run.policy.node_selection, nodes)
    check_rule(options, private=private, most_nodes=most)
    check_trust(options, TrustTerms.of_policy(run.policy), given)
    check_algorithm(options, private=private)
    return describe_rule(options, most)


def read_option_words(words: list[str]) -> dict[str, str]:
    """Read `--name value` and `--name=value` as options of the language; FederatedError SYNTAX for else.

    A name's hyphens are underscores there.
    """
    found: dict[str, str] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        if not name.startswith("--") or len(name) < 3:
            raise FederatedError(ErrorCode.SYNTAX, f"unexpected argument {json.dumps(word)}")
        if not equals:
            if not rest:
                raise FederatedError(ErrorCode.SYNTAX, f"option {name} has no value")
            value = rest.pop(0)
        option = name[2:].replace("-", "_")
        if option in found:
            raise FederatedError(ErrorCode.SYNTAX, f"option {name} is given twice")
        found[option] = value
    return found
