"""Convolutional networks on the image that a row's first inputs are: their layout, and what they compute.

What always holds: what scoring/convolution.py says of a block, here in PyTorch too; a state says all that
tells one network from another. Parameters are those of each block, kernels (channels, channels before,
kernel, kernel), gains and shifts, and then those of the layers, as of any network. All pixels of a channel
have one mean and one scale, so that a kernel sees the same wherever it looks.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heliosdb.algorithms.columns import clamp_parameters
from heliosdb.algorithms.declared_arrays import is_settled, share_scales
from heliosdb.algorithms.perceptron import (
    ACTIVATIONS,
    LAYERS,
    Perceptron,
    activate_by_torch,
    check_numbers,
    compact,
    draw_weights,
    generator,
    layer_arrays,
    read_layers,
    scaled_prediction,
    strange_state,
)
from heliosdb.algorithms.private_convolution import BlockParameters, PassingImages, Window
from heliosdb.algorithms.private_layered import clamped_layers, join_layers, output_slopes
from heliosdb.algorithms.private_layers import Layers, Passing, Shape
from heliosdb.algorithms.table import Table
from heliosdb.algorithms.works import PARAMETERS
from heliosdb.domain.errors import FederatedError, invalid_value
from heliosdb.domain.findings import RunPlan
from heliosdb.domain.prediction import Prediction
from heliosdb.domain.settings import read_settings
from heliosdb.domain.state import State, freeze
from heliosdb.domain.task import Scaling
from heliosdb.domain.vector import AnyVector, Matrix, Vector
from heliosdb.domain.wording import counted
from heliosdb.parts.algorithms import ConvolutionSettings
from heliosdb.parts.images import check_image, check_inputs, count_blocks, made_of, places
from heliosdb.parts.networks import check_layers
from heliosdb.privacy.mechanisms import Integers
from heliosdb.scoring.convolution import EPSILON, Block, Convolutions
from heliosdb.scoring.network import HIDDEN, scale

IMAGE, CHANNELS, BLOCKS = "image", "channels", "blocks"
"""The arrays that say what the blocks are of: channels, height and width; the channels of each; kernel,
groups, and the number of their activation."""


@dataclass(frozen=True, slots=True)
class Convolution:
    """inputs: how many, of which the first are the image, (channels, height, width). channels: of each block.
    head: the layers behind the blocks."""

    inputs: int
    image: tuple[int, int, int]
    channels: tuple[int, ...]
    kernel: int
    groups: int
    activation: str
    head: Perceptron

    @classmethod
    def of(cls, inputs: int, settings: ConvolutionSettings) -> Convolution:
        """Return what the options, which were checked, ask for."""
        channels, height, width = check_image(settings)
        joined = made_of((channels, height, width), settings.channels) + inputs - channels * height * width
        head = Perceptron(joined, settings.layers, settings.activation, settings.output_activation)
        image = (channels, height, width)
        return cls(
            inputs, image, settings.channels, settings.kernel, settings.groups, settings.activation, head
        )

    @property
    def output(self) -> str:
        """See `Architecture`."""
        return self.head.output

    @property
    def pixels(self) -> int:
        """How many inputs are the image."""
        return math.prod(self.image)

    @property
    def size(self) -> int:
        """See `Architecture`."""
        return self._of_blocks + self.head.size

    @property
    def _of_blocks(self) -> int:
        return count_blocks(self.image, self.channels, self.kernel)

    def scale(self, features: Matrix, scaling: Scaling) -> Matrix:
        """See `Architecture`."""
        return scale(features, scaling.means, scaling.scales)

    def hide_few(self, rows: Table, scaling: Scaling) -> Matrix:
        """See `Architecture`: a missing value is the mean already."""
        del scaling
        return rows.features

    def begin(self, seed: int) -> State:
        """See `Architecture`: kernels and layers as `Perceptron.draw` says, gains 1 and shifts 0."""
        rng, parameters = generator(seed), np.zeros(self.size, dtype=np.float32)
        area = self.kernel**2
        for (weights, gains, _), place in zip(self._blocks(parameters), self._places(), strict=True):
            before, units = place.before * area, place.channels * area
            drawn = draw_weights(rng, weights.size, before, units, self.activation)
            weights[...] = drawn.reshape(weights.shape)
            gains[...] = 1.0
        parameters[self._of_blocks :] = self.head.draw(rng)
        return self.to_state(parameters)

    def to_state(self, parameters: AnyVector) -> State:
        """See `Architecture`."""
        of_head = self.head.to_state(parameters)
        about: dict[str, NDArray[Any]] = {
            IMAGE: np.array(self.image, dtype=np.int64),
            CHANNELS: np.array(self.channels, dtype=np.int64),
            BLOCKS: np.array([self.kernel, self.groups, HIDDEN.index(self.activation)], dtype=np.int64),
        }
        return freeze({**of_head, **about})

    def fits(self, classes: int) -> bool:
        """See `Architecture`."""
        return self.head.fits(classes)

    def leaves(self, parameters: Any) -> list[Any]:
        """See `Architecture`."""
        of_blocks = [one for block in self._blocks(parameters) for one in block]
        return [*of_blocks, *self.head.leaves(parameters[self._of_blocks :])]

    def pass_through(self, torch: Any, leaves: Sequence[Any], rows: Any) -> Any:
        """See `Architecture`."""
        functional, count = torch.nn.functional, 3 * len(self.channels)
        values = rows[:, : self.pixels].reshape(-1, *self.image)
        for place in range(0, count, 3):
            weights, gains, shifts = leaves[place : place + 3]
            values = functional.conv2d(values, weights, padding=self.kernel // 2)
            values = torch.group_norm(values, self.groups, gains, shifts, EPSILON)
            values = activate_by_torch(torch, self.activation, values)
            factors = tuple(min(2, side) for side in values.shape[2:])
            values = functional.max_pool2d(values, factors)
        joined = torch.cat([values.reshape(len(rows), -1), rows[:, self.pixels :]], dim=1)
        return self.head.pass_through(torch, leaves[count:], joined)

    def sums(self, parameters: Vector, inputs: Matrix) -> Matrix:
        """See `Architecture`."""
        return self._network(parameters).sums(inputs)

    def shape(self) -> Shape:
        """See `Architecture`."""

        def passing(parameters: Vector) -> Passing:
            weights = self.head.joined(parameters[self._of_blocks :])
            return self._passing(parameters, Layers(weights, self.head.activation), weights[0])

        def join(layers: Sequence[Integers]) -> Integers:
            blocks = len(self.channels)
            return np.concatenate([*(one.ravel() for one in layers[:blocks]), join_layers(layers[blocks:])])

        return Shape(output_slopes(self.output), passing, join)

    def scorer(self, parameters: Vector) -> Passing:
        """See `Architecture`."""
        found = self.head.network(parameters[self._of_blocks :])
        weights = [np.column_stack((one.weights, one.biases)) for one in found]
        clamped = clamp_parameters(np.asarray(parameters, dtype=np.float64))
        return self._passing(clamped, clamped_layers(weights, self.head.activation), weights[0])

    def predict(self, parameters: Vector, scaling: Scaling) -> Prediction:
        """Return the blocks, the layers and the scaling, as scoring/convolution.py reads them."""
        network = self._network(parameters)
        content, arrays = scaled_prediction(network.layers[-1].activation, scaling)
        content |= {
            "activations": [layer.activation for layer in network.layers],
            "image": list(self.image),
            "groups": self.groups,
            "activation": self.activation,
        }
        for place, block in enumerate(network.blocks):
            arrays |= {
                f"kernel_{place}": compact(block.weights),
                f"gains_{place}": compact(block.gains),
                f"shifts_{place}": compact(block.shifts),
            }
        return Prediction("convolution", content, arrays | layer_arrays(network.layers))

    def _network(self, parameters: Vector) -> Convolutions:
        numbers = np.asarray(parameters, dtype=np.float64)
        blocks = [Block(*one) for one in self._blocks(numbers)]
        layers = self.head.network(numbers[self._of_blocks :])
        return Convolutions(self.image, blocks, self.groups, self.activation, layers)

    def _passing(self, parameters: Vector, layers: Layers, first: Matrix) -> Passing:
        numbers = np.asarray(parameters, dtype=np.float64)
        blocks = [
            BlockParameters(weights.reshape(len(weights), -1), gains, shifts, place)
            for (weights, gains, shifts), place in zip(self._blocks(numbers), self._places(), strict=True)
        ]
        return PassingImages(blocks, Window(self.kernel, self.groups, self.activation), layers, first)

    def _places(self) -> Iterator[Any]:
        return places(self.image, self.channels)

    def _blocks(self, parameters: Any) -> list[tuple[Any, Any, Any]]:
        """Return kernels, gains and shifts of each block, as views of the parameters."""
        found, start = [], 0
        for place in self._places():
            own, shape = place.channels, (place.channels, place.before, self.kernel, self.kernel)
            stop = start + math.prod(shape)
            found.append(
                (
                    parameters[start:stop].reshape(shape),
                    parameters[stop : stop + own],
                    parameters[stop + own : stop + 2 * own],
                )
            )
            start = stop + 2 * own
        return found


def read_convolution(state: State, inputs: int) -> Convolution:
    """Read what a state says of itself; FederatedError INVALID_VALUE where it is not that of one."""
    if set(state) != {PARAMETERS, LAYERS, ACTIVATIONS, IMAGE, CHANNELS, BLOCKS}:
        raise strange_state()
    numbers = [state[name] for name in (IMAGE, CHANNELS, BLOCKS)]
    if any(one.dtype != np.int64 or one.ndim != 1 for one in numbers) or numbers[-1].size != 3:
        raise strange_state()
    image, channels, (kernel, groups, activation) = ([int(number) for number in one] for one in numbers)
    if not 0 <= activation < len(HIDDEN):
        raise strange_state()
    about = {"input_shape": image, "channels": channels, "kernel": kernel, "groups": groups}
    try:
        settings = read_settings(ConvolutionSettings, {**about, "activation": HIDDEN[activation]})
        pixels = math.prod(check_image(settings))
    except FederatedError:
        raise strange_state() from None
    if inputs < pixels:
        raise strange_state()
    found = Convolution.of(inputs, settings)
    head = read_layers(state, found.head.inputs)
    if len(head.layers) > 1 and head.activation != found.activation:
        raise strange_state()
    found = replace(found, head=replace(head, activation=found.activation))
    check_numbers(state[PARAMETERS], found.size)
    return found


class ConvolutionFamily:
    """Convolutional networks, see architecture.py."""

    def plan(self, plan: RunPlan) -> Convolution:
        """See `Family`."""
        return Convolution.of(len(plan.inputs), plan.run.options.settings(ConvolutionSettings))

    def check(self, plan: RunPlan, classes: int | None) -> None:
        """See `Family`; where the image ends a feature has to."""
        settings, target = plan.run.options.settings(ConvolutionSettings), plan.run.options.target
        check_layers(settings, target, classes)
        if is_settled(plan):
            check_inputs(settings, len(plan.inputs))
            _check_end(plan, math.prod(check_image(settings)))
        else:
            check_image(settings)

    def read(self, state: State, inputs: int) -> Convolution:
        """See `Family`."""
        return read_convolution(state, inputs)

    def rescale(self, plan: RunPlan, scaling: Scaling) -> Scaling:
        """See `Family`: all pixels of a channel by one mean and one spread, which follow from theirs."""
        channels, *sides = check_image(plan.run.options.settings(ConvolutionSettings))
        area = math.prod(sides)
        return share_scales(scaling, (slice(one * area, (one + 1) * area) for one in range(channels)))


CONVOLUTIONS = ConvolutionFamily()


def _check_end(plan: RunPlan, pixels: int) -> None:
    """Raise FederatedError INVALID_VALUE where the image ends within a feature."""
    encoding, place = plan.findings.encoding, 0
    for column in () if encoding is None else encoding.columns:
        place += len(column.inputs)
        if place == pixels:
            return
        if place > pixels:
            raise invalid_value(
                f"the image of input_shape, {counted(pixels, 'number')}, ends within feature"
                f' "{column.column}", with which there are {counted(place, "input")}',
                hint="The first features are the image: an array of so many elements, or so many numbers.",
            )
