"""Networks on the series that a row's first inputs are: their layout, whatever body they have.

What always holds: what scoring/series.py says of a network, here in PyTorch too; a state says all that tells
one network from another. Parameters are those of the front, then of the body, then of the layers, as of any
network. All steps of a channel have one mean and one scale. There is no private form yet: under a budget the
algorithms are refused, at START and by a node before the charge (`SeriesSettings.has_private_form`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from heliosdb.algorithms.declared_arrays import is_settled, share_scales
from heliosdb.algorithms.fronts import training_of
from heliosdb.algorithms.perceptron import (
    ACTIVATIONS,
    LAYERS,
    Perceptron,
    check_numbers,
    compact,
    generator,
    layer_arrays,
    read_layers,
    scaled_prediction,
    strange_state,
)
from heliosdb.algorithms.private_layers import Passing, Shape
from heliosdb.algorithms.table import Table
from heliosdb.algorithms.works import PARAMETERS
from heliosdb.domain import bounds
from heliosdb.domain.errors import FederatedError, invalid_value, not_supported
from heliosdb.domain.findings import RunPlan
from heliosdb.domain.prediction import Prediction
from heliosdb.domain.state import State, freeze
from heliosdb.domain.task import Scaling
from heliosdb.domain.vector import AnyVector, Matrix, Vector
from heliosdb.domain.wording import counted
from heliosdb.parts.algorithms import SeriesSettings
from heliosdb.parts.networks import check_layers, too_large
from heliosdb.parts.series import HINT, check_series, check_series_inputs
from heliosdb.scoring.fronts import Front, Numbers, count, views
from heliosdb.scoring.series import MOST_AT_ONCE, Body, Series, read_body, read_front, scale

NETWORK = "network"
"""The array that says what front and body are: the bytes of what a prediction says of them, as JSON."""

_LONGEST = 4_096


class BodyTraining(Protocol):
    """What there is to one kind of body at a node that trains, and where networks begin."""

    @property
    def kind(self) -> str:
        """The name of its bodies in a prediction."""
        ...

    def of(self, settings: Any, front_width: int) -> Body:
        """Return the one that options ask for, behind steps of so many numbers."""
        ...

    def projects(self, settings: Any) -> int:
        """To how many numbers a front has to take a step; 0 where any will do."""
        ...

    def draw(self, body: Any, rng: np.random.Generator, flags: int) -> Sequence[NDArray[Any]]:
        """Return its parameters to begin with, in their shapes; flags: see `Front.flags`."""
        ...

    def pass_through(self, torch: Any, body: Any, leaves: Sequence[Any], steps: Any, there: Any) -> Any:
        """As `Body.pass_rows`, by PyTorch."""
        ...


@dataclass(frozen=True, slots=True)
class SeriesNetwork:
    """inputs: how many, of which the first are the front's. head: the layers behind the body."""

    inputs: int
    front: Front
    body: Body
    head: Perceptron
    training: BodyTraining

    @classmethod
    def of(cls, inputs: int, settings: SeriesSettings, training: BodyTraining) -> SeriesNetwork:
        """Return what the options, which were checked, ask for."""
        length, channels = check_series(settings)
        front = Numbers(length, channels, training.projects(settings))
        body = training.of(settings, front.width)
        joined = body.made + inputs - front.inputs
        head = Perceptron(joined, settings.layers, settings.activation, settings.output_activation)
        return cls(inputs, front, body, head, training)

    @property
    def output(self) -> str:
        """See `Architecture`."""
        return self.head.output

    @property
    def size(self) -> int:
        """See `Architecture`."""
        return self._before_head + self.head.size

    @property
    def _before_head(self) -> int:
        return count(self.front.shapes) + count(self.body.shapes)

    def scale(self, features: Matrix, scaling: Scaling) -> Matrix:
        """See `Architecture`: what is missing of a series stays NaN."""
        return scale(self.front, features, scaling.means, scaling.scales)

    def hide_few(self, rows: Table, scaling: Scaling) -> Matrix:
        """See `Architecture`: where fewer subjects miss something in a channel, it is the mean there."""
        features, own = np.asarray(rows.features), self.front.inputs

        def is_few(missing: NDArray[np.bool_]) -> bool:
            return 0 < np.unique(rows.subjects[missing]).size < rows.min_cell

        told = self.front.hide_few(features[:, :own], is_few, scaling.means[:own])
        return features if told is None else np.concatenate([told, features[:, own:]], axis=1)

    def begin(self, seed: int) -> State:
        """See `Architecture`."""
        rng = generator(seed)
        of_front = training_of(self.front).draw(self.front, rng)
        of_body = self.training.draw(self.body, rng, self.front.flags)
        drawn = [one.ravel() for one in (*of_front, *of_body)]
        return self.to_state(np.concatenate([*drawn, self.head.draw(rng)]))

    def to_state(self, parameters: AnyVector) -> State:
        """See `Architecture`."""
        told = json.dumps(self._content(), sort_keys=True, separators=(",", ":")).encode()
        about: dict[str, NDArray[Any]] = {NETWORK: np.frombuffer(told, dtype=np.uint8)}
        return freeze({**self.head.to_state(parameters), **about})

    def fits(self, classes: int) -> bool:
        """See `Architecture`."""
        return self.head.fits(classes)

    def leaves(self, parameters: Any) -> list[Any]:
        """See `Architecture`."""
        shapes = [*self.front.shapes, *self.body.shapes]
        return [*views(parameters, shapes), *self.head.leaves(parameters[self._before_head :])]

    def pass_through(self, torch: Any, leaves: Sequence[Any], rows: Any) -> Any:
        """See `Architecture`."""
        first, second, own = len(self.front.shapes), len(self.body.shapes), self.front.inputs
        steps, there = training_of(self.front).take(torch, self.front, leaves[:first], rows[:, :own])
        made = self.training.pass_through(torch, self.body, leaves[first : first + second], steps, there)
        joined = torch.cat([made, rows[:, own:]], dim=1)
        return self.head.pass_through(torch, leaves[first + second :], joined)

    def sums(self, parameters: Vector, inputs: Matrix) -> Matrix:
        """See `Architecture`."""
        return self._network(parameters).sums(inputs)

    def shape(self) -> Shape:
        """See `Architecture`: there is none yet."""
        raise self._not_private()

    def scorer(self, parameters: Vector) -> Passing:
        """See `Architecture`: there is none yet."""
        del parameters
        raise self._not_private()

    def predict(self, parameters: Vector, scaling: Scaling) -> Prediction:
        """Return front, body, layers and the scaling, as scoring/series.py reads them."""
        layers = self._network(parameters).layers
        content, arrays = scaled_prediction(layers[-1].activation, scaling)
        content |= {"activations": [layer.activation for layer in layers], **self._content()}
        first, numbers = count(self.front.shapes), np.asarray(parameters, dtype=np.float64)
        arrays |= {
            "front": compact(numbers[:first]),
            "body": compact(numbers[first : self._before_head]),
        }
        return Prediction("series", content, arrays | layer_arrays(layers))

    def _content(self) -> dict[str, Any]:
        front = {"kind": self.front.kind, "numbers": self.front.to_numbers()}
        return {"front": front, "body": self.body.to_content()}

    def _network(self, parameters: Vector) -> Series:
        numbers = np.asarray(parameters, dtype=np.float64)
        first, before = count(self.front.shapes), self._before_head
        of_front = views(numbers[:first], self.front.shapes)
        of_body = views(numbers[first:before], self.body.shapes)
        return Series(self.front, self.body, of_front, of_body, self.head.network(numbers[before:]))

    def _not_private(self) -> FederatedError:
        return not_supported(f"{self.body.kind} is not supported under a privacy_budget yet")


def read_network(state: State, inputs: int, training: BodyTraining) -> SeriesNetwork:
    """Read what a state says of itself; FederatedError INVALID_VALUE where it is not that of one."""
    if set(state) != {PARAMETERS, LAYERS, ACTIVATIONS, NETWORK}:
        raise strange_state()
    told = state[NETWORK]
    if told.dtype != np.uint8 or told.ndim != 1 or told.size > _LONGEST:
        raise strange_state()
    try:
        content = json.loads(told.tobytes())
        front = read_front(content["front"])
        body = read_body(content["body"], front.width)
    except (FederatedError, LookupError, RecursionError, TypeError, ValueError):
        raise strange_state() from None
    if set(content) != {"front", "body"} or body.kind != training.kind or inputs < front.inputs:
        raise strange_state()
    if body.widest(front.length) > MOST_AT_ONCE:
        raise strange_state()
    head = read_layers(state, body.made + inputs - front.inputs)
    found = SeriesNetwork(inputs, front, body, head, training)
    check_numbers(state[PARAMETERS], found.size)
    return found


@dataclass(frozen=True, slots=True)
class SeriesFamily:
    """Networks on series of one body, see architecture.py. settings: the class of their options."""

    training: BodyTraining
    settings: type[SeriesSettings]

    def plan(self, plan: RunPlan) -> SeriesNetwork:
        """See `Family`."""
        return SeriesNetwork.of(len(plan.inputs), self._settings(plan), self.training)

    def check(self, plan: RunPlan, classes: int | None) -> None:
        """See `Family`; where a channel ends a feature has to."""
        settings = self._settings(plan)
        check_layers(settings, plan.run.options.target, classes)
        length, channels = check_series(settings)
        if is_settled(plan):
            check_series_inputs(settings, len(plan.inputs))
            _check_ends(plan, length, channels)
            size = self.plan(plan).size
            if not bounds.NETWORK_PARAMETERS.hold(size):
                raise too_large(size)

    def read(self, state: State, inputs: int) -> SeriesNetwork:
        """See `Family`."""
        return read_network(state, inputs, self.training)

    def rescale(self, plan: RunPlan, scaling: Scaling) -> Scaling:
        """See `Family`: all steps of a channel by one mean and one spread, which follow from theirs."""
        length, channels = check_series(self._settings(plan))
        return share_scales(scaling, (slice(one * length, (one + 1) * length) for one in range(channels)))

    def _settings(self, plan: RunPlan) -> SeriesSettings:
        return plan.run.options.settings(self.settings)


def _check_ends(plan: RunPlan, length: int, channels: int) -> None:
    """Raise FederatedError INVALID_VALUE where a channel ends within a feature: the numbers of an array would
    be taken for those of another channel, or of another step."""
    encoding, place, ends = plan.findings.encoding, 0, 0
    for column in () if encoding is None else encoding.columns:
        place += len(column.inputs)
        if place >= length * (ends + 1) and ends < channels:
            if place > length * (ends + 1):
                raise invalid_value(
                    f"channel {ends + 1} of input_shape {[length, channels]} ends within feature"
                    f' "{column.column}", with which there are {counted(place, "input")}',
                    hint=HINT,
                )
            ends += 1
