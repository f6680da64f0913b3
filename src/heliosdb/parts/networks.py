"""Whether a network's layers fit its target, told from the options alone: where START is typed, and later.

What always holds: nothing here imports numpy; a network that passes has one unit for each number that its
output is made of, and no more parameters than an update may carry.
"""

from __future__ import annotations

from itertools import pairwise

from heliosdb.domain import bounds
from heliosdb.domain.errors import FederatedError, invalid_value
from heliosdb.parts.algorithms import NetworkSettings


def check_layers(settings: NetworkSettings, target: str, classes: int | None) -> None:
    """Raise FederatedError INVALID_VALUE where the last layer and the target differ.

    classes: how many the target has, 0 where it is a number, None where that is not known yet.
    """
    if not bounds.LAYERS.hold(len(settings.layers)):
        raise invalid_value(
            f"layers has {len(settings.layers)} entries", hint=f"A network has 1 to {bounds.LAYERS.most:.0f}."
        )
    last, output = settings.layers[-1], settings.output_activation
    if output != "softmax" and last != 1:
        raise invalid_value(
            f"layers ends with {last} units, and output_activation {output} needs 1",
            hint="For several classes choose output_activation = 'softmax' and a unit for each; else let "
            "layers end with 1.",
        )
    if classes is not None:
        _check_target(settings, target, classes)


def _check_target(settings: NetworkSettings, target: str, classes: int) -> None:
    last, output = settings.layers[-1], settings.output_activation
    has = f'the target "{target}" ' + (f"has {classes} classes" if classes else "is a number")
    if output == "softmax":
        fits, needs = last == classes, f"layers ends with {last} units"
    elif output == "sigmoid":
        fits, needs = classes == 2, "output_activation sigmoid tells two classes apart"
    else:
        fits, needs = classes == 0, "output_activation linear predicts a number"
    if not fits:
        raise invalid_value(f"{needs}, and {has}", hint=_remedy(classes))


def _remedy(classes: int) -> str:
    if classes == 0:
        return "For a number let layers end with 1, and choose output_activation = 'linear'."
    softmax = f"let layers end with {classes}, and choose output_activation = 'softmax'"
    if classes > 2:
        return f"For {classes} classes {softmax}."
    return f"For two classes let layers end with 1, and choose output_activation = 'sigmoid'; or {softmax}."


def count_parameters(inputs: int, layers: tuple[int, ...]) -> int:
    """Return how many weights and biases a network has."""
    return sum(units * (before + 1) for before, units in pairwise((inputs, *layers)))


def check_size(inputs: int, layers: tuple[int, ...]) -> None:
    """Raise FederatedError INVALID_VALUE for more parameters than an update may carry."""
    count = count_parameters(inputs, layers)
    if not bounds.NETWORK_PARAMETERS.hold(count):
        raise too_large(count)


def too_large(count: int) -> FederatedError:
    """Make the error for a network of so many parameters."""
    return invalid_value(
        f"the network has {count} parameters, more than {bounds.NETWORK_PARAMETERS.most:.0f}",
        hint="Use fewer or smaller layers.",
    )
