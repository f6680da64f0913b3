"""Scores and gradients of fully connected layers, of which each data subject's part depends on nobody else.

What always holds: what is computed for a row (a column of a matrix) is a function of that row and of the
parameters, to the last bit: products are exact (exact_products.py), sums within a column are folds, all else
is elementwise. A subject's gradient is cut to the clipping norm and made whole, in units of 2^-40 of that
norm, before others' are added to it; these sums are exact too. No row and no parameter within the bounds of
domain/bounds.py makes it fail: sums of a layer, and slopes, are cut to bounds that no honest training meets.

A row's gradient by a layer's weights is the product of its slopes by the layer's sums and the layer's inputs;
its norm follows from theirs (Goodfellow 2015, "Efficient per-example gradient computations"), and the sum of
many such products is one matrix product. That is why rows are neither looked at one by one, nor in a model's
size of memory each. Subjects of several rows have theirs added up one after another: there the norm is that
of the sum. Where weights are shared by places of a row (private_convolution.py) each row's gradient is laid
out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from heliosdb.algorithms.column_losses import activate, derivative
from heliosdb.algorithms.exact_products import Whole, WholeRows, round_columns
from heliosdb.algorithms.space import slices
from heliosdb.algorithms.table import Codes, Grouping, Mask
from heliosdb.domain.vector import Matrix, Vector
from heliosdb.privacy.clipping import column_norms, columns_at_once, fold
from heliosdb.privacy.mechanisms import Integers, Lattice

LARGEST_SUM = 1e6
"""A layer's sum beyond counts as this, like a scaled input."""

LARGEST_SLOPE = 1e30

NORM_BITS = 40
"""The clipping norm is 2^40 of the units in which gradients are added up."""

_ROW_OF_SEVERAL = 4.0
"""Of a subject of several rows each row's gradient is cut to so many times the clipping norm, then their
sum to it."""

_ROWS = 1 << 10
"""At a time: so many gradients of four times the clipping norm add up to less than 2^53."""

_LOW_BITS = 20

Slopes = Callable[[Matrix, Vector], Matrix]
"""(scores, targets) → the derivatives of each row's loss by its scores; (units, n), (n,) → (units, n)."""


Sums = Callable[[slice], Matrix]
"""Some rows to the sum of their gradients by one layer, cut and whole; exact."""


class Gradient(Protocol):
    """Rows' gradients by the parameters of one layer."""

    def squares(self) -> Vector:
        """Return the square of each row's norm; (n,)."""
        ...

    def cut(self, factors: Vector) -> Sums:
        """Return what sums them, each row's times its factor and made whole towards 0; (n,)."""
        ...


class Passing(Protocol):
    """A model of layers with one set of parameters in place, through which rows pass as columns."""

    @property
    def width(self) -> int:
        """How many numbers one row is at most, on its way."""
        ...

    @property
    def units(self) -> int:
        """How many the last layer has."""
        ...

    def scores(self, columns: Matrix) -> Matrix:
        """Return the last layer's sums; (d + 1, n), a one last in each, of values within `INPUT` → (units,
        n)."""
        ...

    def gradients(self, columns: Matrix, slopes: Callable[[Matrix], Matrix]) -> list[Gradient]:
        """Return the rows' gradients by each layer. slopes: of the loss, of these rows, by their scores."""
        ...


@dataclass(frozen=True, slots=True)
class Shape:
    """What a model of layers is beside its parameters.

    slopes: of the loss. passing: puts parameters in place, (k,). join: sums by layer, as `Gradient.cut` has
    them, or other numbers in their places, to one vector.
    """

    slopes: Slopes
    passing: Callable[[Vector], Passing]
    join: Callable[[Sequence[Integers]], Integers]


@dataclass(frozen=True, slots=True)
class Passed:
    """What a layer has made of rows. inputs: a one last, (k + 1, n). sums: before the activation."""

    inputs: Whole
    sums: Matrix


@dataclass(frozen=True, slots=True)
class ProductGradient:
    """Of a layer whose units take each input once: slopes x inputs."""

    inputs: Whole
    slopes: Matrix

    def squares(self) -> Vector:
        """See `Gradient`."""
        length = column_norms(self.inputs.numbers) * self.inputs.units
        squares: Vector = fold(self.slopes * self.slopes) * length * length
        return squares

    def cut(self, factors: Vector) -> Sums:
        """See `Gradient`: a product of whole numbers."""
        numbers, whole = self.inputs.numbers, np.trunc(self.slopes * (factors * self.inputs.units))
        return lambda rows: np.asarray(whole[:, rows] @ numbers[:, rows].T)


class Layers:
    """Fully connected layers, made whole once for all rows that go through them.

    weights: of each, (units, inputs + 1), the biases last. activation: what follows the sums of hidden ones.
    staying: of how many, the first ones, nobody asks a gradient.
    """

    def __init__(self, weights: Sequence[Matrix], activation: str, staying: int = 0) -> None:
        self.width, self.units = max(max(one.shape) for one in weights), len(weights[-1])
        self._ahead = [WholeRows.of(one) for one in weights]
        self._back = [WholeRows.of(one[:, :-1].T) for one in weights[staying + 1 :]]
        self._activation, self._staying = activation, staying

    def forward(self, columns: Matrix) -> list[Passed]:
        """Pass rows through; (d + 1, n), a one last in each, of values within `INPUT`."""
        passed: list[Passed] = []
        for place, weights in enumerate(self._ahead):
            if place:
                columns = np.ones((len(passed[-1].sums) + 1, columns.shape[1]))
                columns[:-1] = activate(self._activation, passed[-1].sums)
            inputs = round_columns(columns)
            sums = weights.times(inputs)
            passed.append(Passed(inputs, np.clip(sums, -LARGEST_SUM, LARGEST_SUM, out=sums)))
        return passed

    def backward(self, passed: Sequence[Passed], slopes: Matrix) -> list[Matrix]:
        """Return the derivatives of each row's loss by the sums of each layer that does not stay. passed: of
        these; slopes: by the sums of the last."""
        found = [slopes]
        for before, weights in zip(passed[-2::-1], self._back[::-1], strict=True):
            led = weights.times(round_columns(found[-1]))
            led *= derivative(self._activation, before.sums)
            found.append(np.clip(led, -LARGEST_SLOPE, LARGEST_SLOPE, out=led))
        return found[::-1]

    def scores(self, columns: Matrix) -> Matrix:
        """See `Passing`."""
        return self.forward(columns)[-1].sums

    def gradients(self, columns: Matrix, slopes: Callable[[Matrix], Matrix]) -> list[Gradient]:
        """See `Passing`."""
        passed = self.forward(columns)[self._staying :]
        found = self.backward(passed, slopes(passed[-1].sums))
        return [ProductGradient(one.inputs, led) for one, led in zip(passed, found, strict=True)]


def scores_of(passing: Passing, columns: Matrix) -> Matrix:
    """Return the last layer's sums of rows; (d + 1, n) → (units, n)."""
    out = np.empty((passing.units, columns.shape[1]))
    for block in _blocks(columns.shape[1], passing.width):
        out[:, block] = passing.scores(columns[:, block])
    return out


@dataclass(frozen=True, slots=True)
class LayeredRows:
    """The rows of some subjects, each subject's adjacent, as `SubjectRows` of private_sgd.py.

    columns: (d + 1, n), from `scale_columns`. targets: (n,). starts, sizes: (s,), where each subject's rows
    begin, and how many they are. bound: the clipping norm in steps of the noise's lattice.
    """

    shape: Shape
    columns: Matrix
    targets: Vector
    starts: Codes
    sizes: Codes
    clipping_norm: float
    bound: float

    @classmethod
    def of(
        cls,
        shape: Shape,
        columns: Matrix,
        targets: Vector,
        grouping: Grouping,
        *,
        clipping_norm: float,
        lattice: Lattice | None = None,
    ) -> LayeredRows:
        """Put each subject's rows together. lattice: None where no gradient is to be released."""
        order, bound = grouping.order, 0.0 if lattice is None else clipping_norm / lattice.step
        if order is not None and not bool(np.all(order[1:] > order[:-1])):
            columns, targets = columns.take(order, axis=1), targets.take(order)
        return cls(shape, columns, targets, grouping.starts, grouping.sizes, clipping_norm, bound)

    @property
    def subjects(self) -> int:
        """Number of subjects."""
        return int(self.sizes.size)

    def gradient_steps(self, taken: Mask, parameters: Vector) -> Integers:
        """Sum the clipped gradients of the subjects that are `taken`, in lattice steps; (k,)."""
        return self.exact_sum(taken, parameters).steps(self.bound)

    def exact_sum(self, taken: Mask, parameters: Vector) -> ExactSum:
        """Return their sum before it is rounded to these steps."""
        passing, total = self.shape.passing(parameters), ExactSum(parameters.size)
        for rows in self._of_one(taken, passing):
            _, sums = self._gradients(passing, rows, 1.0)
            total.add(self._join(sums, slice(None)))
        for gradient in self._of_several(taken, passing, parameters.size):
            total.add(_cut(gradient))
        return total

    def counts_within(self, parameters: Vector) -> Mask:
        """Say of each subject whether its gradient is no longer than the clipping norm; (s,)."""
        passing, everybody = self.shape.passing(parameters), np.ones(self.subjects, dtype=np.bool_)
        within, alone = np.zeros(self.subjects, dtype=np.bool_), np.flatnonzero(self.sizes == 1)
        blocks = _blocks(alone.size, passing.width)
        for rows, block in zip(self._of_one(everybody, passing), blocks, strict=True):
            within[alone[block]] = self._gradients(passing, rows, 1.0)[0] <= self.clipping_norm
        several = np.flatnonzero(self.sizes > 1)
        found = self._of_several(everybody, passing, parameters.size)
        for subject, gradient in zip(several, found, strict=True):
            within[subject] = _norm(gradient) <= 2.0**NORM_BITS
        return within

    def _of_one(self, taken: Mask, passing: Passing) -> Iterator[Codes]:
        """Yield the rows of subjects that have one each."""
        rows = self.starts[taken & (self.sizes == 1)]
        for block in _blocks(rows.size, passing.width):
            yield rows[block]

    def _of_several(self, taken: Mask, passing: Passing, size: int) -> Iterator[Integers]:
        """Yield the gradient of each subject that has several rows, each row's cut; they may go on in the
        next block."""
        several = taken & (self.sizes > 1)
        if not several.any():
            return
        rows, ends = np.flatnonzero(np.repeat(several, self.sizes)), np.cumsum(self.sizes[several])
        begun, done = np.zeros(size, dtype=np.int64), 0
        for block in _blocks(rows.size, passing.width):
            _, sums = self._gradients(passing, rows[block], _ROW_OF_SEVERAL)
            start = block.start
            while start < block.stop:
                stop = min(int(ends[done]), block.stop)
                begun += self._join(sums, slice(start - block.start, stop - block.start))
                if stop == ends[done]:
                    yield begun
                    begun, done = np.zeros(size, dtype=np.int64), done + 1
                start = stop

    def _gradients(self, passing: Passing, rows: Codes, times: float) -> tuple[Vector, list[Sums]]:
        """Return the norms of some rows' gradients, and what sums these once each is cut to so many times the
        clipping norm, in units of 2^-40 of it."""
        targets = self.targets.take(rows)
        found = passing.gradients(
            self.columns.take(rows, axis=1), lambda scores: self.shape.slopes(scores, targets)
        )
        return _cut_rows(found, self.clipping_norm, times)

    def _join(self, sums: Sequence[Sums], rows: slice) -> Integers:
        return self.shape.join([one(rows).astype(np.int64) for one in sums])


def _cut_rows(gradients: Sequence[Gradient], norm: float, times: float) -> tuple[Vector, list[Sums]]:
    """Cut each row's gradient over all layers to so many times the norm.

    Numbers are made whole towards 0, so that the cut gradient is never longer than it is to be, but for the
    relative error (below 2^-46) with which its norm is known.
    """
    squares = gradients[0].squares()
    for one in gradients[1:]:
        squares = squares + one.squares()
    norms = np.sqrt(squares)
    limit = times * norm
    factors = (limit / np.maximum(norms, limit)) / norm * 2.0**NORM_BITS
    return norms, [one.cut(factors) for one in gradients]


class ExactSum:
    """A sum of whole vectors of up to 2^53, whatever number of them there is: high x 2^20 + low."""

    def __init__(self, size: int) -> None:
        self.high, self.low = np.zeros(size, dtype=np.int64), np.zeros(size, dtype=np.int64)

    def add(self, numbers: Integers) -> None:
        """Add a vector."""
        self.high += numbers >> _LOW_BITS
        self.low += numbers & ((1 << _LOW_BITS) - 1)

    def steps(self, bound: float) -> Integers:
        """Return the sum in steps of the lattice, of which the clipping norm is `bound`, rounded.

        Two sums that differ by one subject's gradient are so moved apart by less than two steps a coordinate
        more: within what privacy/mechanisms.py allows for.
        """
        whole = self.high.astype(np.float64) * 2.0**_LOW_BITS + self.low
        return np.rint(whole * (bound * 2.0**-NORM_BITS)).astype(np.int64)


def _cut(gradient: Integers) -> Integers:
    """Cut one subject's gradient, whole, to the clipping norm."""
    most = 2.0**NORM_BITS
    cut: Integers = np.trunc(gradient * (most / max(_norm(gradient), most))).astype(np.int64)
    return cut


def _norm(gradient: Integers) -> float:
    return float(column_norms(gradient.astype(np.float64)[:, None])[0])


def _blocks(rows: int, width: int) -> Iterator[slice]:
    """Cut so many rows into blocks, by how many numbers one is at most."""
    return slices(rows, columns_at_once(width, _ROWS))
