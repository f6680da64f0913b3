"""What a convolutional network makes of rows: at nodes that evaluate it, in the database, and in tests.

What always holds: no value overflows where the inputs were scaled by `scale`; sums are in float64, and agree
with PyTorch's in float32 to 1e-5, relative to the largest that they are made of. What is computed of rows at
a time takes some tens of megabytes, however many rows and whatever the network.

A row's first inputs are an image, channel by channel and line by line; the others join what the blocks have
made of it. A block is a convolution with odd kernels, zeros (the mean of scaled inputs) around the image, so
that its sides stay; a normalisation over groups of channels of the one row (Wu and He 2018), which knows no
other row, and so is the same in training, in a private computation and for a single prediction; an
activation; and the largest of each 2 x 2 places, where a side has two.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from heliosdb.domain.state import State
from heliosdb.scoring.network import Layer, activate, forward, linked, scale

Matrix = NDArray[np.float64]
Images = NDArray[np.float64]
"""(n, channels, height, width)."""

EPSILON = 1e-5
"""Added to the variance of a group, as PyTorch does."""

_NUMBERS_AT_ONCE = 1 << 20


@dataclass(frozen=True, slots=True)
class Block:
    """weights: (channels, channels before, kernel, kernel). gains, shifts: (channels,), behind the
    normalisation."""

    weights: NDArray[np.float64]
    gains: Matrix
    shifts: Matrix


@dataclass(frozen=True, slots=True)
class Convolutions:
    """A whole network. image: channels, height, width. activation: of the blocks. layers: behind them."""

    image: tuple[int, int, int]
    blocks: Sequence[Block]
    groups: int
    activation: str
    layers: Sequence[Layer]

    @property
    def pixels(self) -> int:
        """How many of a row's inputs are its image."""
        channels, height, width = self.image
        return channels * height * width

    def sums(self, inputs: Matrix) -> Matrix:
        """Return the last sums, before their activation; (n, inputs) → (n, units), inputs as `scale` left
        them."""
        out = np.empty((len(inputs), self.layers[-1].biases.size))
        at_once = max(1, _NUMBERS_AT_ONCE // self._widest())
        for start in range(0, len(out), at_once):
            rows = inputs[start : start + at_once]
            made = self._pass_blocks(rows[:, : self.pixels].reshape(len(rows), *self.image))
            joined = np.concatenate([made.reshape(len(rows), -1), rows[:, self.pixels :]], axis=1)
            out[start : start + at_once] = forward(self.layers, joined)
        return out

    def _pass_blocks(self, values: Images) -> Images:
        for block in self.blocks:
            found = normalise(_convolve(values, block.weights), self.groups)
            found *= block.gains[:, None, None]
            found += block.shifts[:, None, None]
            values = pool(np.asarray(activate(self.activation, found)))
        return values

    def _widest(self) -> int:
        _, height, width = self.image
        most = 1
        for block in self.blocks:
            most = max(most, height * width * max(block.weights[0].size, len(block.weights)))
            height, width = halved(height), halved(width)
        return most


def _convolve(values: Images, weights: NDArray[np.float64]) -> Images:
    """Return the sums of a convolution that leaves the sides as they are."""
    rows, _, height, width = values.shape
    channels, kernel = len(weights), weights.shape[-1]
    around = kernel // 2
    padded = np.pad(values, ((0, 0), (0, 0), (around, around), (around, around)))
    windows = sliding_window_view(padded, (kernel, kernel), axis=(2, 3))
    patches = windows.transpose(0, 2, 3, 1, 4, 5).reshape(rows * height * width, -1)
    sums = patches @ weights.reshape(channels, -1).T
    return sums.reshape(rows, height, width, channels).transpose(0, 3, 1, 2)


def normalise(values: Images, groups: int) -> Images:
    """Scale each group of channels of each row to mean 0 and variance 1."""
    grouped = np.ascontiguousarray(values).reshape(len(values), groups, -1)
    centred = grouped - grouped.mean(axis=2, keepdims=True)
    centred /= np.sqrt(np.square(centred).mean(axis=2, keepdims=True) + EPSILON)
    normalised: Images = centred.reshape(values.shape)
    return normalised


def pool(values: Images) -> Images:
    """Return the largest of each 2 x 2 places; the last line or column of an odd number is left out."""
    height, width = values.shape[2:]
    if height > 1:
        values = np.maximum(values[:, :, 0 : height - 1 : 2], values[:, :, 1:height:2])
    if width > 1:
        values = np.maximum(values[..., 0 : width - 1 : 2], values[..., 1:width:2])
    return values


def halved(side: int) -> int:
    """Return how long a side is behind a block."""
    return max(1, side // 2)


def read_convolutions(content: Mapping[str, Any], arrays: State) -> Convolutions:
    """Read a prediction: content has `image`, `groups`, `activation` and, of the layers, `activations`;
    arrays kernel_0, gains_0, shifts_0 of each block, weight_0 and bias_0 of each layer."""
    channels, height, width = content["image"]
    count = sum(name.startswith("kernel_") for name in arrays)
    blocks = [
        Block(*(np.asarray(arrays[f"{name}_{place}"], np.float64) for name in ("kernel", "gains", "shifts")))
        for place in range(count)
    ]
    layers = [
        Layer.of(arrays[f"weight_{place}"], arrays[f"bias_{place}"], name)
        for place, name in enumerate(content["activations"])
    ]
    return Convolutions((channels, height, width), blocks, content["groups"], content["activation"], layers)


def score(content: Mapping[str, Any], arrays: State, inputs: Matrix) -> Matrix:
    """Score rows, see scoring/kinds.py and `read_convolutions`."""
    return prepare(content, arrays)(inputs)


def prepare(content: Mapping[str, Any], arrays: State) -> Callable[[Matrix], Matrix]:
    """Return what scores rows as `score` does, with the network in place."""
    network = read_convolutions(content, arrays)

    def scored(inputs: Matrix) -> Matrix:
        return linked(content, network.sums(scale(inputs, arrays["means"], arrays["scales"])))

    return scored
