"""The front of a network on series: what it makes of a row's flat inputs, steps of some numbers each.

What always holds: what comes of a row depends on that row alone. Steps behind the last one of which anything
is known are padding, and `there` says so; a value that is missing before it is 0, the mean, and flagged.

**To add a front**, write a class as `Front` says, list it in `FRONTS` and its training in
algorithms/fronts.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heliosdb.domain.errors import invalid_value
from heliosdb.parts.series import check_shape
from heliosdb.scoring.network import LARGEST_INPUT

Matrix = NDArray[np.float64]
Steps = NDArray[np.float64]
"""(n, length, numbers of a step)."""

There = NDArray[np.bool_]
"""(n, length): whether a step is none of padding."""

Shapes = Sequence[tuple[int, ...]]


class Front(Protocol):
    """One front without its numbers. kind: its name in a prediction."""

    kind: ClassVar[str]

    @property
    def inputs(self) -> int:
        """How many of a row's first inputs it takes."""
        ...

    @property
    def length(self) -> int:
        """How many steps it makes of them."""
        ...

    @property
    def width(self) -> int:
        """How many numbers a step is."""
        ...

    @property
    def flags(self) -> int:
        """How many of a step's last numbers say that something is missing: weights on them begin with 0, so
        that where nothing ever was, what is missing is the mean."""
        ...

    @property
    def shapes(self) -> Shapes:
        """Of its parameters, which follow one another."""
        ...

    def scale(self, features: Matrix, means: ArrayLike, scales: ArrayLike) -> Matrix:
        """Return its inputs as it takes them; what is missing may be NaN. (n, inputs) → (n, inputs)."""
        ...

    def hide_few(
        self, features: Matrix, is_few: Callable[[NDArray[np.bool_]], bool], means: ArrayLike
    ) -> Matrix | None:
        """Return its inputs with the mean where what is missing is flagged and `is_few` says of these rows
        that they are of a few subjects; None where nothing is so. Before `scale`."""
        ...

    def take(self, leaves: Sequence[Matrix], rows: Matrix) -> tuple[Steps, There]:
        """Return the steps of rows, as `scale` left them."""
        ...

    def to_numbers(self) -> list[int]:
        """Return what tells it from others of its kind, which `of_numbers` reads."""
        ...

    @classmethod
    def of_numbers(cls, numbers: Sequence[int]) -> Self:
        """Read what `to_numbers` wrote; FederatedError INVALID_VALUE for what is none."""
        ...


@dataclass(frozen=True, slots=True)
class Numbers:
    """Series of numbers, channel by channel: a step is the values of all channels, and whether each is
    missing.

    projected: to how many numbers a linear map takes a step; 0 where it stays as it is.
    """

    kind: ClassVar[str] = "numbers"

    length: int
    channels: int
    projected: int

    @property
    def inputs(self) -> int:
        """See `Front`."""
        return self.length * self.channels

    @property
    def width(self) -> int:
        """See `Front`."""
        return self.projected or 2 * self.channels

    @property
    def flags(self) -> int:
        """See `Front`: none behind a map, which has them itself."""
        return 0 if self.projected else self.channels

    @property
    def shapes(self) -> Shapes:
        """See `Front`: the map's weights and biases."""
        return [(self.projected, 2 * self.channels), (self.projected,)] if self.projected else []

    def scale(self, features: Matrix, means: ArrayLike, scales: ArrayLike) -> Matrix:
        """See `Front`: as `network.scale`, but what is missing stays so."""
        with np.errstate(over="ignore", invalid="ignore"):
            scaled: Matrix = (features - np.asarray(means)) / np.asarray(scales)
            cut: Matrix = np.clip(scaled, -LARGEST_INPUT, LARGEST_INPUT)
        cut[~np.isfinite(features)] = np.nan
        return cut

    def hide_few(
        self, features: Matrix, is_few: Callable[[NDArray[np.bool_]], bool], means: ArrayLike
    ) -> Matrix | None:
        """See `Front`: channel by channel."""
        missing = ~np.isfinite(features).reshape(-1, self.channels, self.length)
        few = np.array([is_few(np.asarray(missing[:, one].any(axis=1))) for one in range(self.channels)])
        if not few.any():
            return None
        hidden = (missing & few[:, None]).reshape(features.shape)
        return np.where(hidden, np.asarray(means), features)

    def take(self, leaves: Sequence[Matrix], rows: Matrix) -> tuple[Steps, There]:
        """See `Front`."""
        values = rows.reshape(len(rows), self.channels, self.length).transpose(0, 2, 1)
        missing = np.isnan(values)
        known = ~np.all(missing, axis=2)
        there: There = np.logical_or.accumulate(known[:, ::-1], axis=1)[:, ::-1]
        steps = np.concatenate([np.where(missing, 0.0, values), missing], axis=2)
        if leaves:
            steps = steps @ leaves[0].T + leaves[1]
        return steps, there

    def to_numbers(self) -> list[int]:
        """See `Front`."""
        return [self.length, self.channels, self.projected]

    @classmethod
    def of_numbers(cls, numbers: Sequence[int]) -> Self:
        """See `Front`."""
        if len(numbers) != 3 or not all(0 <= one <= 1_600 for one in numbers) or not all(numbers[:2]):
            raise invalid_value("the front of its network is none")
        return cls(*check_shape(tuple(numbers[:2])), numbers[2])


FRONTS: Mapping[str, type[Any]] = {one.kind: one for one in (Numbers,)}
"""By their names."""


def views(parameters: Any, shapes: Shapes) -> list[Any]:
    """Return views of parameters, an array or a tensor, in these shapes one after the other."""
    found, start = [], 0
    for shape in shapes:
        stop = start + count([shape])
        found.append(parameters[start:stop].reshape(shape))
        start = stop
    return found


def count(shapes: Shapes) -> int:
    """Return how many numbers are in such shapes."""
    return sum(int(np.prod(shape, dtype=np.int64)) for shape in shapes)
