"""Scores and gradients of convolutional networks, of which each row's part depends on nobody else.

What always holds: what private_layers.py keeps. The windows that a kernel looks at are columns, for each row
one for each place: their products are exact, so that how many rows there are changes no bit of one. A kernel
is shared by the places of a row, so a row's gradient by it is a sum of products over places: whole numbers
again, multiplied row by row and laid out. Means and variances of groups are folds within a row; all else is
elementwise. No row and no parameters within their bounds make it fail: sums, and slopes, are cut to bounds
that no honest training meets.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from heliosdb.algorithms.column_losses import activate, derivative
from heliosdb.algorithms.exact_products import Whole, WholeRows, round_columns, whole_bits
from heliosdb.algorithms.private_layers import (
    LARGEST_SLOPE,
    LARGEST_SUM,
    Gradient,
    Layers,
    ProductGradient,
    Sums,
)
from heliosdb.domain.vector import Matrix, Vector
from heliosdb.parts.images import Place
from heliosdb.privacy.clipping import fold
from heliosdb.scoring.convolution import EPSILON

Images = NDArray[np.float64]
"""(channels, height, width, n): rows come last, as in columns."""

_EXACT_BITS = 53


@dataclass(frozen=True, slots=True)
class LaidOutGradient:
    """Of parameters that rows meet in many places: (k, n), a number for each of them and each row."""

    numbers: Matrix

    def squares(self) -> Vector:
        """See `Gradient`."""
        return fold(self.numbers * self.numbers)

    def cut(self, factors: Vector) -> Sums:
        """See `Gradient`: whole numbers, which add up exactly in any order."""
        whole = np.trunc(self.numbers * factors)
        return lambda rows: np.asarray(whole[:, rows].sum(axis=1))


@dataclass(frozen=True, slots=True)
class BlockParameters:
    """A block's: weights (channels, channels before x kernel x kernel), gains and shifts (channels,)."""

    weights: Matrix
    gains: Vector
    shifts: Vector
    place: Place


@dataclass(frozen=True, slots=True)
class Window:
    """What all blocks share: how wide a kernel is, how many groups there are, what follows them."""

    kernel: int
    groups: int
    activation: str


@dataclass(frozen=True, slots=True)
class _Seen:
    """What a block has made of rows. windows: (k, places x n). scaled: normalised sums, and inverse: one
    over the deviation of each group, (groups, n). sums: before the activation. values: behind it."""

    windows: Whole
    scaled: Images
    inverse: Matrix
    sums: Images
    values: Images


class PassingImages:
    """Blocks and the layers behind them, as `Passing`. first: the weights of the first of these, (units,
    inputs + 1)."""

    def __init__(
        self, blocks: Sequence[BlockParameters], window: Window, layers: Layers, first: Matrix
    ) -> None:
        self._blocks = [_Block(one, window) for one in blocks]
        self._layers, self.units = layers, layers.units
        last = blocks[-1].place
        self._made = (last.channels, max(1, last.height // 2), max(1, last.width // 2))
        self._image = (blocks[0].place.before, blocks[0].place.height, blocks[0].place.width)
        count = int(np.prod(self._made))
        self._back = WholeRows.of(first[:, :count].T)
        self.width = max(layers.width, *(one.width for one in self._blocks))

    def scores(self, columns: Matrix) -> Matrix:
        """See `Passing`."""
        return self._layers.scores(self._joined(self._see(columns), columns))

    def gradients(self, columns: Matrix, slopes: Callable[[Matrix], Matrix]) -> list[Gradient]:
        """See `Passing`: one of each block, then of each layer."""
        seen = self._see(columns)
        passed = self._layers.forward(self._joined(seen, columns))
        led = self._layers.backward(passed, slopes(passed[-1].sums))
        found: list[Gradient] = [
            ProductGradient(one.inputs, own) for one, own in zip(passed, led, strict=True)
        ]
        back = _bounded(self._back.times(round_columns(led[0]))).reshape(*self._made, -1)
        for block, one in zip(self._blocks[::-1], seen[::-1], strict=True):
            gradient, back = block.backward(one, back, is_first=block is self._blocks[0])
            found.insert(0, gradient)
        return found

    def _see(self, columns: Matrix) -> list[_Seen]:
        pixels = int(np.prod(self._image))
        values, seen = columns[:pixels].reshape(*self._image, columns.shape[1]), list[_Seen]()
        for block in self._blocks:
            seen.append(block.forward(values))
            values = _pool(seen[-1].values)
        return seen

    def _joined(self, seen: Sequence[_Seen], columns: Matrix) -> Matrix:
        """Put the inputs that are no image, and the one, behind what the blocks have made."""
        made = _pool(seen[-1].values).reshape(-1, columns.shape[1])
        return np.concatenate([made, columns[int(np.prod(self._image)) :]])


class _Block:
    """One block with its parameters in place."""

    def __init__(self, own: BlockParameters, window: Window) -> None:
        self._own, self._kernel = own, window.kernel
        self._groups, self._activation = window.groups, window.activation
        self._ahead, self._back = WholeRows.of(own.weights), WholeRows.of(own.weights.T)
        place = own.place
        self._sides = (place.height, place.width)
        # The windows of one row, and the row's gradient, which is laid out.
        self.width = max(place.height * place.width * max(own.weights.shape), own.weights.size)

    def forward(self, values: Images) -> _Seen:
        """Pass rows through, up to the activation."""
        windows = round_columns(self._windows(values))
        sums = self._ahead.times(windows).reshape(-1, *self._sides, values.shape[-1])
        np.clip(sums, -LARGEST_SUM, LARGEST_SUM, out=sums)
        scaled, inverse = self._normalise(sums)
        gains, shifts = (one[:, None, None, None] for one in (self._own.gains, self._own.shifts))
        made = np.clip(scaled * gains + shifts, -LARGEST_SUM, LARGEST_SUM)
        return _Seen(windows, scaled, inverse, made, activate(self._activation, made))

    def backward(self, seen: _Seen, slopes: Images, *, is_first: bool) -> tuple[LaidOutGradient, Images]:
        """Return the gradient by the block's parameters, and slopes by what came into it.

        slopes: by what it has made, pooled.
        """
        led = _unpool(seen.values, slopes) * derivative(self._activation, seen.sums)
        rows = led.shape[-1]
        by_gains, by_shifts = _fold_places(led * seen.scaled), _fold_places(led)
        led = _bounded(self._through_norm(seen, led * self._own.gains[:, None, None, None]))
        flat = led.reshape(len(led), -1)
        by_weights = self._by_weights(seen.windows, flat, rows)
        gradient = LaidOutGradient(np.concatenate([by_weights, by_gains, by_shifts]))
        if is_first:
            return gradient, slopes
        return gradient, _bounded(self._gather(self._back.times(round_columns(flat)), rows))

    def _windows(self, values: Images) -> Matrix:
        around = self._kernel // 2
        padded = np.pad(values, ((0, 0), (around, around), (around, around), (0, 0)))
        found = sliding_window_view(padded, (self._kernel, self._kernel), axis=(1, 2))
        # (channels, height, width, n, kernel, kernel) → (channels x kernel x kernel, places x n)
        made: Matrix = found.transpose(0, 4, 5, 1, 2, 3).reshape(self._own.weights.shape[1], -1)
        return made

    def _gather(self, windows: Matrix, rows: int) -> Images:
        """Add up what windows say of each place, one place of the kernel after the other."""
        (height, width), kernel, around = self._sides, self._kernel, self._kernel // 2
        parts = windows.reshape(-1, kernel, kernel, height, width, rows)
        padded = np.zeros((len(parts), height + 2 * around, width + 2 * around, rows))
        for down in range(kernel):
            for right in range(kernel):
                padded[:, down : down + height, right : right + width] += parts[:, down, right]
        return padded[:, around : around + height, around : around + width]

    def _normalise(self, sums: Images) -> tuple[Images, Matrix]:
        grouped = self._grouped(sums)
        centred = grouped - self._means(grouped)
        inverse = 1.0 / np.sqrt(self._means(centred * centred) + EPSILON)
        centred *= inverse
        return centred.reshape(sums.shape), inverse[:, 0]

    def _through_norm(self, seen: _Seen, slopes: Images) -> Images:
        """Slopes by the scaled sums become slopes by the sums: less their mean, and what goes with them."""
        led, scaled = self._grouped(slopes), self._grouped(seen.scaled)
        along = self._means(led * scaled)
        found = (led - self._means(led) - scaled * along) * seen.inverse[:, None]
        return found.reshape(slopes.shape)

    def _grouped(self, values: Images) -> Matrix:
        """(channels, height, width, n) → (groups, numbers of a group, n)."""
        return values.reshape(self._groups, -1, values.shape[-1])

    @staticmethod
    def _means(grouped: Matrix) -> Matrix:
        """(groups, k, n) → (groups, 1, n), each a fold."""
        turned = np.array(grouped.transpose(1, 0, 2))
        means: Matrix = (fold(turned) / grouped.shape[1])[:, None]
        return means

    def _by_weights(self, windows: Whole, slopes: Matrix, rows: int) -> Matrix:
        """Return each row's gradient by the kernels; (channels x k, n). slopes: (channels, places x n).

        A row's slopes, in units of the windows that they meet, are made whole relative to the largest of the
        row; that leaves as many bits as let the sum over its places be exact.
        """
        length, places = windows.numbers.shape[0], slopes.shape[1] // rows
        bits = _EXACT_BITS - whole_bits(length) - (places - 1).bit_length()
        led = (slopes * windows.units).reshape(len(slopes), places, rows)
        exponents = np.frexp(np.max(np.abs(led), axis=(0, 1)))[1]
        units = np.ldexp(1.0, np.maximum(exponents, -900) - bits)
        whole = np.rint(led / units).transpose(2, 0, 1)
        seen = windows.numbers.reshape(length, places, rows).transpose(2, 1, 0)
        product = np.matmul(np.ascontiguousarray(whole), np.ascontiguousarray(seen))
        found: Matrix = product.reshape(rows, -1).T * units
        return found


def _fold_places(values: Images) -> Matrix:
    """(channels, height, width, n) → (channels, n)."""
    channels, rows = len(values), values.shape[-1]
    turned = np.array(values.reshape(channels, -1, rows).transpose(1, 0, 2))
    return np.asarray(fold(turned))


def _pool(values: Images) -> Images:
    """As scoring/convolution.py does."""
    for axis in (1, 2):
        if values.shape[axis] > 1:
            first, second = _pairs(values, axis)
            values = np.maximum(first, second)
    return values


def _unpool(values: Images, slopes: Images) -> Images:
    """Give slopes to the places that were the largest, of equal ones the first. values: before pooling."""
    shapes = [values]
    if values.shape[1] > 1:
        shapes.append(np.maximum(*_pairs(values, 1)))
    if values.shape[2] > 1:
        slopes = _spread(shapes[-1], slopes, 2)
    return _spread(values, slopes, 1) if values.shape[1] > 1 else slopes


def _spread(values: Images, slopes: Images, axis: int) -> Images:
    first, second = _pairs(values, axis)
    is_first = first >= second
    found = np.zeros(values.shape)
    to_first, to_second = _pairs(found, axis)
    to_first[...] = np.where(is_first, slopes, 0.0)
    to_second[...] = np.where(is_first, 0.0, slopes)
    return found


def _pairs(values: Images, axis: int) -> tuple[Images, Images]:
    """Views of the first and the second of each two places along an axis."""
    length = values.shape[axis]
    before: list[slice] = [slice(None)] * axis
    return values[(*before, slice(0, length - 1, 2))], values[(*before, slice(1, length, 2))]


def _bounded(slopes: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.clip(slopes, -LARGEST_SLOPE, LARGEST_SLOPE, out=slopes)
