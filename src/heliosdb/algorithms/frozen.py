"""Networks whose first layers stay as they were: of these a state has the numbers beside those that move.

What always holds: what training moves, what it clips, what noise is added to and what is sent is the vector
of the other layers alone; the frozen ones are read and never changed. To training they are a function of a
row: what comes out of them is what goes into the first layer that moves. That function of a row depends on
nobody else's row, to the last bit (private_layers.py), so a subject's gradient has the sensitivity that it
has in a network of these layers alone. Under a budget it is made of some rows at a time, and never kept: how
wide these layers are is a task's to say, and how many rows there are must not show in what that takes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

import numpy as np

from heliosdb.algorithms.column_losses import activate
from heliosdb.algorithms.columns import clamp_parameters, scale_columns
from heliosdb.algorithms.perceptron import Perceptron, read_perceptron
from heliosdb.algorithms.private_layers import Layers, Shape, scores_of
from heliosdb.algorithms.space import slices
from heliosdb.algorithms.table import Table
from heliosdb.algorithms.works import PARAMETERS
from heliosdb.domain.errors import invalid_value
from heliosdb.domain.state import State, freeze
from heliosdb.domain.task import Scaling
from heliosdb.domain.vector import AnyVector, Vector
from heliosdb.privacy.clipping import columns_at_once

FROZEN = "frozen"
"""The array of a state that has the numbers of the layers that stay."""


def hold_layers(state: State, inputs: int, count: int) -> State:
    """Return the state of which the first so many layers stay; all of them are in `state`."""
    whole = whole_state(state)
    if not count:
        return whole
    place = _ends(read_perceptron(whole, inputs))[count - 1]
    parts = {FROZEN: whole[PARAMETERS][:place], PARAMETERS: whole[PARAMETERS][place:]}
    return freeze({**whole, **parts})


def whole_state(state: State) -> State:
    """Return the state with all layers' numbers in one vector; itself where none stay."""
    if FROZEN not in state:
        return state
    kept = {name: array for name, array in state.items() if name != FROZEN}
    return freeze({**kept, PARAMETERS: np.concatenate((state[FROZEN], state[PARAMETERS]))})


@dataclass(frozen=True, slots=True)
class Frozen:
    """The layers that stay. parameters: theirs. whole: the network that they are the first layers of; rest:
    that of the others, whose inputs are what comes out of these."""

    parameters: AnyVector
    whole: Perceptron
    rest: Perceptron

    @classmethod
    def of(cls, state: State, inputs: int) -> Frozen | None:
        """Read a state; None where no layers stay. FederatedError INVALID_VALUE where it is none that
        `hold_layers` makes."""
        if FROZEN not in state:
            return None
        if state[FROZEN].dtype != np.float32 or state[FROZEN].ndim != 1:
            raise invalid_value("The task's frozen parameters are not those of layers.")
        whole = read_perceptron(whole_state(state), inputs)
        ends = _ends(whole)[:-1]
        if state[FROZEN].size not in ends:
            raise invalid_value("The task's frozen parameters are not those of whole layers.")
        count = ends.index(state[FROZEN].size) + 1
        rest = Perceptron(whole.layers[count - 1], whole.layers[count:], whole.activation, whole.output)
        return cls(state[FROZEN], whole, rest)

    def join(self, moving: AnyVector) -> AnyVector:
        """Return the parameters of all layers, from those of the others; (k,) → (k + frozen,)."""
        return np.concatenate((self.parameters.astype(moving.dtype), moving))

    @property
    def count(self) -> int:
        """How many layers stay."""
        return len(self.whole.layers) - len(self.rest.layers)

    def shape(self) -> Shape:
        """Return what private training is to know of it: rows go through all layers, and the gradients are
        those of the layers that move."""
        staying = clamp_parameters(self.parameters.astype(np.float64))

        def passing(moving: Vector) -> Layers:
            weights = self.whole.joined(np.concatenate((staying, moving)))
            return Layers(weights, self.whole.activation, self.count)

        return replace(self.rest.shape(), passing=passing)

    def pass_rows(self, rows: Table, scaling: Scaling) -> tuple[Table, Scaling]:
        """Return the rows with what comes out of the frozen layers as their features, and a scaling that
        leaves these as they are; for training without a budget."""
        pairs = self.whole.split(clamp_parameters(self.join(np.zeros(self.rest.size)).astype(np.float64)))
        weights = [np.column_stack(pair) for pair in pairs[: self.count]]
        features = rows.space.empty((rows.rows, self.rest.inputs))
        widest = max(max(one.shape) for one in weights)
        for block in slices(rows.rows, columns_at_once(widest, _ROWS)):
            columns = scale_columns(rows.features[block], scaling)
            sums = scores_of(Layers(weights, self.whole.activation), columns)
            features[block] = activate(self.whole.activation, sums).T
            rows.space.rest(2 * features[block].nbytes)
        width = self.rest.inputs
        same = Scaling((0.0,) * width, (1.0,) * width, scaling.target_mean, scaling.target_scale)
        return replace(rows, features=features, columns=()), same


_ROWS = 1 << 10
"""At a time."""


def _ends(architecture: Perceptron) -> list[int]:
    """Return where the numbers of each layer end."""
    widths = pairwise((architecture.inputs, *architecture.layers))
    return list(accumulate(units * (before + 1) for before, units in widths))
