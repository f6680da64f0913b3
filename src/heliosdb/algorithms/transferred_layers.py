"""A network's layers as those with which another run begins; see transfer.py.

What always holds: hidden layers are the version's, the first of them on the run's inputs; the last one too
where the target is the same, in the run's unit, and else it is that of a run of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import numpy as np

from heliosdb.algorithms.frozen import hold_layers, whole_state
from heliosdb.algorithms.perceptron import Perceptron, read_perceptron
from heliosdb.algorithms.registry import classes_of
from heliosdb.algorithms.transfer import (
    Carried,
    Conversion,
    check_carried,
    describe,
    rescale_target,
)
from heliosdb.algorithms.works import PARAMETERS
from heliosdb.domain.errors import invalid_value
from heliosdb.domain.findings import RunPlan
from heliosdb.domain.origin import Origin
from heliosdb.domain.state import State
from heliosdb.domain.vector import Matrix, Vector
from heliosdb.parts.transfer import frozen_layers

_Pair = tuple[Matrix, Vector]
"""A layer's weights, (units, inputs), and biases."""


def carry_layers(plan: RunPlan, fresh: State, origin: Origin) -> Carried:
    """Return with what a run begins; FederatedError INVALID_VALUE where hidden layers differ."""
    own, source, count = whole_state(fresh), whole_state(origin.state), frozen_layers(plan.run.options)
    here, there = read_perceptron(own, len(plan.inputs)), read_perceptron(source, len(origin.inputs))
    _check_hidden(here, there, origin)
    ours, theirs = _pairs(here, own), _pairs(there, source)
    conversion, notes = Conversion.of(plan, origin), list(describe(plan, origin))
    first, new = ours[0][0], sorted(set(range(len(plan.inputs))) - set(conversion.places))
    if count and new:
        first = _without(first, new)
        notes.append("what it does not have has no effect, since its first layer stays as it was")
    keeps_head = (here.layers[-1], here.output) == (there.layers[-1], there.output)
    keeps_head = keeps_head and classes_of(plan) == origin.classes
    taken = theirs if keeps_head else [*theirs[:-1], ours[-1]]
    if not keeps_head:
        notes.append("the last layer begins anew")
    if len(taken) > 1 or keeps_head:
        weights, added = conversion.weights(theirs[0][0], first)
        taken[0] = (weights, theirs[0][1] + added)
    elif not keeps_head:
        raise invalid_value(f"{origin.name} has no hidden layer, and the last one would begin anew")
    if keeps_head and here.output == "linear":
        taken[-1] = _rescaled(taken[-1], plan, origin)
    parameters = np.concatenate(list(chain.from_iterable((w.ravel(), b) for w, b in taken)))
    check_carried(parameters, origin)
    state = hold_layers(here.to_state(parameters), len(plan.inputs), count)
    return Carried(state, tuple(notes))


def _without(weights: Matrix, inputs: Sequence[int]) -> Matrix:
    """Return them without effect of some inputs: nobody has learned these weights, and nobody will."""
    made = np.array(weights)
    made[:, inputs] = 0.0
    return made


def _check_hidden(here: Perceptron, there: Perceptron, origin: Origin) -> None:
    if (here.layers[:-1], here.activation) == (there.layers[:-1], there.activation):
        return
    raise invalid_value(
        f"the hidden layers of {origin.name} and of this run differ",
        detail=f"There they are {there.layers[:-1]}, {there.activation}; here {here.layers[:-1]},"
        f" {here.activation}.",
    )


def _pairs(architecture: Perceptron, state: State) -> list[_Pair]:
    return list(architecture.split(np.asarray(state[PARAMETERS], dtype=np.float64)))


def _rescaled(head: Sequence[Matrix], plan: RunPlan, origin: Origin) -> _Pair:
    assert plan.findings.scaling is not None
    scores = rescale_target(np.column_stack(tuple(head)), origin.scaling, plan.findings.scaling)
    return scores[:, :-1], scores[:, -1]
