"""Whether a run can begin with a version, told from options alone: where START is typed, and when it is read.

What always holds: nothing here imports numpy. What only round 0 tells, such as inputs and classes that are
named nowhere, is for algorithms/transfer.py.
"""

from __future__ import annotations

from heliosdb.domain.errors import FederatedError, invalid_value, not_supported
from heliosdb.domain.run import TrainingOptions
from heliosdb.domain.wording import counted
from heliosdb.parts.algorithms import ALGORITHMS, NetworkSettings, TreeSettings, has_classes


def frozen_layers(options: TrainingOptions) -> int:
    """Return how many of the first layers stay as they were; 0 for none."""
    return int(options.given.get("freeze_layers") or 0)


def check_transfer(options: TrainingOptions) -> None:
    """Raise FederatedError where no version can be begun with (NOT_SUPPORTED), or the layers that are to stay
    are not there (INVALID_VALUE)."""
    given = options.given
    for name in ("transfer_from", "freeze_layers"):
        if name in (given.get("search") or {}):
            raise invalid_value(f"{name} cannot be searched", hint="Set it beside the search.")
    if given.get("transfer_from") and not getattr(_settings_of(options), "transfers", False):
        raise not_supported(
            f"transfer_from is not supported with {options.algorithm}",
            detail=_why_not(options),
            hint="Leave it out. Regressions and neural networks can begin with a version.",
        )
    if frozen_layers(options):
        _check_frozen(options)


def _why_not(options: TrainingOptions) -> str | None:
    if not issubclass(_settings_of(options), TreeSettings):
        return None
    return "Trees are grown over bins of the rows that their own run has seen: over others none could go on."


def _check_frozen(options: TrainingOptions) -> None:
    count = frozen_layers(options)
    if _settings_of(options) is not NetworkSettings:
        raise invalid_value(
            f"freeze_layers has no effect on {options.algorithm}",
            detail="Layers of a neural_network alone can stay as they were.",
            hint="Leave it out.",
        )
    if not options.given.get("transfer_from"):
        raise invalid_value(
            f"freeze_layers {count} would keep layers that have learned nothing",
            hint="Name with transfer_from the version whose layers they are, or leave freeze_layers out.",
        )
    layers = options.settings(NetworkSettings).layers
    if count >= len(layers):
        raise invalid_value(
            f"freeze_layers is {count}, and the network has {counted(len(layers), 'layer')}",
            detail=f"layers is {_shown(layers)}; the last one is always trained.",
            hint=f"Freeze at most {len(layers) - 1}." if len(layers) > 1 else "Leave freeze_layers out.",
        )


def check_source(options: TrainingOptions, name: str, source: TrainingOptions) -> list[str]:
    """Raise FederatedError INVALID_VALUE where a run cannot begin with the version of that name; returns what
    is to be said of it. source: the options of the version's run."""
    if options.algorithm != source.algorithm:
        raise invalid_value(
            f"{name} is of {source.algorithm}, and this run of {options.algorithm}",
            hint="Name in transfer_from a version of the same algorithm.",
        )
    said = [] if options.fold is None and not options.given.get("folds") else [_of_folds(name)]
    if _settings_of(options) is NetworkSettings:
        return [*said, *_check_layers(options, name, source)]
    ours, theirs = options.target_classes, source.target_classes
    if ours and theirs and set(ours) != set(theirs):
        raise other_classes(name, theirs, ours)
    return said


def other_classes(name: str, theirs: tuple[str, ...], ours: tuple[str, ...]) -> FederatedError:
    """Make the error for a model of one layer and other classes: all of its numbers are of its classes."""
    return invalid_value(
        f"{name} tells apart {_listed(theirs)}, and this run {_listed(ours)}",
        detail="All numbers of a model without hidden layers are of its classes: none could be taken over.",
        hint="Name in transfer_from a version of the same classes, or leave it out.",
    )


def _check_layers(options: TrainingOptions, name: str, source: TrainingOptions) -> list[str]:
    ours, theirs = options.settings(NetworkSettings), source.settings(NetworkSettings)
    if ours.layers[:-1] != theirs.layers[:-1]:
        raise invalid_value(
            f"the hidden layers of {name} and of this run differ",
            detail=f"layers is {_shown(theirs.layers)} there, and {_shown(ours.layers)} here.",
            hint=f"Give the model layers = {_shown((*theirs.layers[:-1], ours.layers[-1]))}.",
        )
    if len(ours.layers) > 1 and ours.activation != theirs.activation:
        raise invalid_value(
            f"the hidden layers of {name} have activation {theirs.activation}, and those of this run"
            f" {ours.activation}",
            hint=f"Give the model activation = '{theirs.activation}'.",
        )
    if _has_other_head(options, source, ours, theirs):
        return [f"the last layer begins anew: that of {name} is of another target"]
    return []


def _has_other_head(
    options: TrainingOptions, source: TrainingOptions, ours: NetworkSettings, theirs: NetworkSettings
) -> bool:
    """Whether the options tell that the last layers differ."""
    if (ours.layers[-1], ours.output_activation) != (theirs.layers[-1], theirs.output_activation):
        return True
    if has_classes(options.algorithm, options.given) != has_classes(source.algorithm, source.given):
        return True
    named = options.target_classes, source.target_classes
    return all(named) and named[0] != named[1]


def _settings_of(options: TrainingOptions) -> type:
    return ALGORITHMS.entry(options.algorithm).settings


def _of_folds(name: str) -> str:
    return f"{name} may have learned from rows that a fold holds out: figures of folds may flatter"


def _shown(layers: tuple[int, ...]) -> str:
    return f"[{', '.join(map(str, layers))}]"


def _listed(classes: tuple[str, ...]) -> str:
    return f"{', '.join(classes[:5])}{', …' if len(classes) > 5 else ''}" if classes else "a number"
