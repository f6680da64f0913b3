"""Whether an option list is right: known names, right types, in range, built, and fitting together.

What always holds: an option that passes `validate` has an effect, or names what is done anyway; one whose
effect is not built is refused (0A000), never ignored. What is wrong in any case is said before that. Of the
options of parts the caller says what is built: the language knows no part.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import replace

from federated_sql.clause_values import Option, OptionName
from federated_sql.compliance import check_mode
from federated_sql.consent_options import check_consent
from federated_sql.errors import ErrorCode, FederatedError, not_supported
from federated_sql.option_table import OPTIONS, OptionKind, specs
from federated_sql.option_values import (
    NO_PARTS,
    Built,
    OptionJson,
    OptionSpec,
    OptionType,
    allowed_text,
    canonical,
    read_policy,
)
from federated_sql.search_option import as_typed, check_folds, read_search, tried_options

__all__ = [
    "NO_PARTS",
    "OPTIONS",
    "Built",
    "OptionJson",
    "OptionKind",
    "OptionSpec",
    "OptionType",
    "check_dataset",
    "check_model",
    "check_sparsification",
    "check_stored",
    "check_workspace",
    "defaults",
    "drop_options",
    "nodes_come",
    "read_options",
    "require_built",
    "specs",
    "validate",
]


def defaults(kind: OptionKind, built: Built) -> dict[str, OptionJson]:
    """Return the options of `kind` that are in effect when nobody names them, with their values."""
    return {name: spec.default for name, spec in specs(kind, built).items() if spec.in_effect_by_default}


def validate(kind: OptionKind, options: Sequence[Option], built: Built) -> dict[str, OptionJson]:
    """Return the given options as `read_options` does, once `require_built` has passed them."""
    values = read_options(kind, options, built)
    require_built(kind, options, values, built)
    return values


def read_options(kind: OptionKind, options: Sequence[Option], built: Built) -> dict[str, OptionJson]:
    """Return the given options as canonical values that JSON can hold; defaults are not filled in.

    Raises FederatedError (22023) with the option's position for an unknown option, a wrong type or a value
    out of range. What has no effect yet is returned too: whoever acts on it calls `require_built` first.
    """
    table = specs(kind, built)
    values: dict[str, OptionJson] = {}
    for option in options:
        spec = table.get(option.name)
        if spec is None:
            raise _unknown(kind, option)
        if option.name in values:
            raise _refused(option, f'option "{option.name}" specified more than once')
        value = canonical(spec, option)
        if spec.type is OptionType.SEARCH and isinstance(value, dict):
            value = read_search(specs(OptionKind.TRAINING, built), option, value)
        values[option.name] = value
    return values


def drop_options(
    kind: OptionKind, options: Sequence[OptionName], values: Mapping[str, OptionJson]
) -> dict[str, OptionJson]:
    """Return `values` without the named options, so that these have their defaults again.

    Raises FederatedError (22023) for an unknown option; one that was not set is none.
    """
    for option in options:
        if option.name not in OPTIONS[kind]:
            raise _unknown(kind, option)
    named = {option.name for option in options}
    return {name: value for name, value in values.items() if name not in named}


def require_built(
    kind: OptionKind, options: Sequence[Option], values: Mapping[str, OptionJson], built: Built
) -> None:
    """Raise 0A000 for the first of the options whose value, read before, has no effect yet."""
    table = specs(kind, built)
    for option in options:
        _require_built(table[option.name], option, values[option.name])
        if table[option.name].type is OptionType.SEARCH:
            _require_built_trials(option, values[option.name], built)


def _require_built_trials(option: Option, search: OptionJson, built: Built) -> None:
    assert isinstance(search, dict)
    for tried in tried_options(search):
        spec = specs(OptionKind.TRAINING, built)[tried.name]
        _require_built(spec, replace(tried, position=option.position), canonical(spec, tried))


_SYNONYMS = {
    "differential_privacy": "privacy_budget",
    "epsilon": "privacy_budget",
    "epochs": "local_epochs",
    "label": "target",
    "strategy": "aggregation",
}
"""Names that people try, and the options that they mean."""


def _refused(option: Option | OptionName, message: str, hint: str | None = None) -> FederatedError:
    return FederatedError(ErrorCode.INVALID_VALUE, message, hint=hint, position=option.position or None)


def _unknown(kind: OptionKind, option: Option | OptionName) -> FederatedError:
    if kind is OptionKind.TRAINING and option.name in OPTIONS[OptionKind.MODEL]:
        return _refused(
            option,
            f'option "{option.name}" belongs to the model and cannot be changed for one run',
            "Use ALTER FEDERATED MODEL ... SET.",
        )
    meant = _SYNONYMS.get(option.name)
    near = (
        [meant] if meant in OPTIONS[kind] else difflib.get_close_matches(option.name, OPTIONS[kind], 1, 0.7)
    )
    elsewhere = [other.value for other, table in OPTIONS.items() if option.name in table]
    hint = f'Did you mean "{near[0]}"?' if near else None
    if elsewhere:
        article = "an" if elsewhere[0][0] in "aeiou" else "a"
        hint = f'"{option.name}" is an option of {article} {elsewhere[0]}.'
    return _refused(option, f'unrecognized parameter "{option.name}"', hint)


def _require_built(spec: OptionSpec, option: Option, value: OptionJson) -> None:
    if spec.has_effect(value):
        return
    position = option.position or None
    if not spec.built or spec.built_values is None:
        raise not_supported(
            f'option "{spec.name}" is not supported yet', position=position, detail=spec.missing
        )
    working = ", ".join(map(allowed_text, spec.built_values))
    raise not_supported(
        f'option "{spec.name}" = {allowed_text(value)} is not supported yet',
        detail=spec.missing,
        hint=f"Supported: {working}.",
        position=position,
    )


def _conflict(message: str, hint: str | None = None) -> FederatedError:
    return FederatedError(ErrorCode.INVALID_VALUE, message, hint=hint)


_AT_MOST = (
    ("min_nodes", "max_nodes"),
    ("min_nodes_per_round", "max_nodes"),
    ("stragglers_timeout", "round_timeout"),
    ("aggregation_batch_size", "max_nodes"),
    ("privacy_per_round", "privacy_budget"),
)
_OF_WHO_COMES = {
    "https": {
        "keepalive_interval": "The nodes dial: it is a setting of each of them.",
        "reconnect_interval": "The nodes dial, and dial again within 5 seconds.",
    },
    "flower": {
        "keepalive_interval": "Flower keeps its connections up itself.",
        "reconnect_interval": "A node is there again once Flower brings its messages again.",
    },
}
_NEEDS_BUDGET = ("delta", "privacy_per_round", "noise_multiplier", "clipping_threshold", "trust_model")
_NEEDS_BUDGET_UNLESS_DEFAULT = ("noise_mechanism", "adaptive_clipping", "subjects_overlap")
"""Of these the default says that there is nothing to have an effect."""


def check_workspace(options: Mapping[str, OptionJson]) -> None:
    """Raise 22023 where canonical options, each valid in itself, do not fit together.

    `options` holds what was set explicitly, after CREATE and every ALTER; defaults are known here.
    """
    standard = defaults(OptionKind.WORKSPACE, NO_PARTS)
    merged = {**standard, **options}
    for small, large in _AT_MOST:
        low, high = merged.get(small), merged.get(large)
        if isinstance(low, int | float) and isinstance(high, int | float) and low > high:
            unset = large if large not in options else small if small not in options else None
            hint = f"{unset} is {merged[unset]} unless set." if unset else None
            raise _conflict(f"{small} ({low}) may not be greater than {large} ({high})", hint)
    _check_selection(merged)
    if merged["async_aggregation"] and not merged["aggregation_batch_size"]:
        raise _conflict(
            "async_aggregation needs an aggregation_batch_size",
            "An asynchronous round closes with so many updates.",
        )
    if options.get("privacy_budget") is None:
        needing = [name for name in _NEEDS_BUDGET if name in options]
        needing += [name for name in _NEEDS_BUDGET_UNLESS_DEFAULT if merged[name] != standard[name]]
        if needing:
            raise _conflict(
                f"{needing[0]} has no effect without a privacy_budget",
                f"Set privacy_budget too, or leave {' and '.join(needing)} at the default.",
            )
    protocol = str(options.get("communication_protocol"))
    for name, instead in _OF_WHO_COMES.get(protocol, {}).items():
        if name in options:
            raise _conflict(f"{name} has no effect with communication_protocol = '{protocol}'", instead)
    check_mode(merged)


def nodes_come(options: Mapping[str, OptionJson]) -> bool:
    """Whether the nodes of a workspace with these options come to the coordinator, and have no endpoint."""
    return options.get("communication_protocol") in _OF_WHO_COMES


def _check_selection(merged: Mapping[str, OptionJson]) -> None:
    """Raise 22023 where a round would have fewer nodes than it needs."""
    selection = str(merged.get("node_selection") or "all")
    _, count = read_policy(selection)
    stated = merged.get("min_nodes_per_round")
    needed = merged["min_nodes"] if stated is None else stated
    if count is not None and isinstance(needed, int) and count < needed:
        hint = None if stated is not None else "min_nodes_per_round is min_nodes unless set."
        raise _conflict(
            f"node_selection {selection} chooses fewer nodes than min_nodes_per_round ({needed})", hint
        )


def check_stored(kind: OptionKind, values: Mapping[str, OptionJson], built: Built) -> None:
    """Raise FederatedError where options as they are stored could not have come from a statement."""
    options = [Option(name, as_typed(value)) for name, value in values.items()]
    for name, value in validate(kind, options, built).items():
        if value != values[name] or type(value) is not type(values[name]):
            raise _conflict(f'the value of option "{name}" is not as a statement would store it')
    if kind is OptionKind.WORKSPACE:
        check_workspace(values)
    elif kind is OptionKind.MODEL:
        check_model(values)
    elif kind is OptionKind.DATASET:
        check_dataset(values)
    elif kind is OptionKind.TRAINING:
        check_folds(values)


def check_dataset(options: Mapping[str, OptionJson]) -> None:
    """Raise 22023 where a dataset's canonical options do not fit together."""
    if options.get("plain_answers") and "max_epsilon" in options:
        raise _conflict(
            "plain_answers and max_epsilon exclude each other",
            "A table that ever had a max_epsilon gives no answer without noise.",
        )
    if options.get("erasure") == "delete" and "subject" not in options:
        raise _conflict(
            "erasure = 'delete' needs a subject",
            "Without WITH (subject = 'column') nobody knows whose a row is.",
        )
    check_consent(options)


def check_sparsification(options: Mapping[str, OptionJson]) -> None:
    """Raise 22023 where it is said twice how much of an update is sent."""
    if options.get("top_k") is not None and options.get("gradient_sparsification"):
        raise _conflict(
            "top_k and gradient_sparsification exclude each other",
            "Both say how many values of an update are sent. Leave one out.",
        )


def check_model(options: Mapping[str, OptionJson]) -> None:
    """Raise 22023 where a model's canonical options do not fit together; what is missing, START says."""
    check_folds(options)
    check_sparsification(options)
    features, target = options.get("features"), options.get("target")
    if isinstance(features, list) and target in features:
        raise _conflict(f'the target "{target}" cannot be one of the features')
    ranges = options.get("feature_ranges")
    if isinstance(ranges, dict) and isinstance(features, list):
        for column in ranges:
            if column not in features and column != target:
                raise _conflict(f'feature_ranges names "{column}", which is neither feature nor target')
