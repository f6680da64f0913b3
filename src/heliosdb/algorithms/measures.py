"""How well predictions do on held-out rows: which sums nodes add up, and which figures are read from them.

What always holds: a plain answer is sums over rows; a private one is sums over subjects, each adding a
vector of L2 norm at most `sensitivity`, whatever its rows; every figure has the standard error that the
held-out rows (as a sample) and the noise give it, or is None, with a note where noise is why.

A private answer. Of each of a subject's row values the mean over its rows is cut to [lower, upper] and
mapped to a coordinate in [-spread/2, spread/2]; a last coordinate is 1/2, the count. So no subject's vector
is longer than sqrt(sum of (spread/2)² + 1/4), at whichever corner of the box it lies:

    classification   loss, right                      spreads 1, 1        sqrt(3)/2  = 0.866
    regression       loss, half square, target        spreads 1, 1, 1/2   sqrt(13)/4 = 0.901

The third coordinate of a regression is there for R², which is about the mean of the held-out rows. At half
the spread it makes the noise of all coordinates larger by 4 % (at a full one by 15 %), and its own error
bears on R² only as far as the released mean of the scaling is off.

Noise. Every coordinate of the sum over nodes has the same standard deviation s, so the count n, twice the
last coordinate, has 2 s, and the mean of a value m has s w/n for itself, with w = (upper - lower) / spread,
and 2 s (m - middle) / n by the count. The error of a figure of such means follows by its derivatives.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import numpy as np

from heliosdb.domain.events import Figures
from heliosdb.domain.vector import Matrix, Vector
from heliosdb.privacy.plan import CLASSIFICATION_NOISE, REGRESSION_NOISE, AccuracyNoise

LOSS_CAP = 4.0
"""A subject's mean loss counts up to this in a private evaluation, as does half the square of its target."""

LARGEST_LOSS_ERROR = 0.5
"""As a part of the base rate's loss: beyond it, two errors cannot tell a perfect model from none."""

LARGEST_LOSS = 1e140
"""A row's loss counts up to this in a plain evaluation, so that the sum of their squares is a number."""

LARGEST_SUM = 1e300
"""Of one value of a plain answer: the square of the largest location."""

_TOLERANCE = 1e-9
"""How far rounding may carry a sum over as many rows as there may be, as a part of it."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The figures of an evaluation. count: rows, or where private a noisy count of subjects.

    notes: what noise has left no figure for.
    """

    figures: Figures
    count: float
    notes: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Box:
    """Where the mean of one of a subject's row values is cut, and how wide its coordinate then is."""

    lower: float
    upper: float
    spread: float = 1.0

    @property
    def middle(self) -> float:
        """What the coordinate 0 stands for."""
        return 0.5 * (self.lower + self.upper)

    @property
    def width(self) -> float:
        """How much of the value one unit of the coordinate is."""
        return (self.upper - self.lower) / self.spread


@dataclass(frozen=True)
class Boxes:
    """The coordinates of a private answer but the last, the count."""

    boxes: tuple[Box, ...]

    @property
    def size(self) -> int:
        """How many values a private answer has."""
        return len(self.boxes) + 1

    @cached_property
    def sensitivity(self) -> float:
        """The L2 norm of the most that one subject adds."""
        return math.sqrt(sum((0.5 * box.spread) ** 2 for box in self.boxes) + 0.25)

    def coordinates(self, means: Matrix) -> Matrix:
        """Return the subjects' vectors; (values, subjects) → (values + 1, subjects)."""
        out = np.full((self.size, means.shape[1]), 0.5)
        for place, box in enumerate(self.boxes):
            # fmax: what is not a number counts as the lower end.
            cut = np.minimum(np.fmax(means[place], box.lower), box.upper)
            out[place] = (cut - box.middle) / box.width
        return out

    def read(self, total: Vector, noise: float) -> Means | None:
        """Read the sum of all nodes; None where the noise has left no count. noise: standard deviation."""
        count = 2.0 * float(total[-1])
        if count < 1.0:
            return None
        means = [
            min(box.upper, max(box.lower, box.middle + box.width * float(total[place]) / count))
            for place, box in enumerate(self.boxes)
        ]
        return Means(self.boxes, tuple(means), count, noise / count)


@dataclass(frozen=True, slots=True)
class Means:
    """What a private sum says of the subjects' means. noise: of a coordinate, over the count."""

    boxes: tuple[Box, ...]
    values: tuple[float, ...]
    count: float
    noise: float

    def error(self, *slopes: float) -> float:
        """Return the noise's standard deviation in a figure with these derivatives by the values."""
        own = math.hypot(
            *(slope * box.width for slope, box in zip(slopes, self.boxes, strict=True)),
        )
        counted = 2.0 * sum(
            slope * (value - box.middle)
            for slope, value, box in zip(slopes, self.values, self.boxes, strict=True)
        )
        return self.noise * math.hypot(own, counted)


class Measure(Protocol):
    """What is summed over held-out rows beside their loss, and what is read from it."""

    @property
    def boxes(self) -> Boxes:
        """The coordinates of a private answer."""
        ...

    @property
    def plain_size(self) -> int:
        """How many values a plain answer has."""
        ...

    @property
    def noise(self) -> AccuracyNoise:
        """What a plan has to know of the accuracy's error."""
        ...

    def row_values(self, losses: Vector, scores: Vector, targets: Vector) -> Matrix:
        """Return what a private answer averages over each subject's rows; (rows,) → (values, rows)."""
        ...

    def plain_sums(self, losses: Vector, scores: Vector, targets: Vector) -> Vector:
        """Return the sums of a plain answer, the count first."""
        ...

    def plain_fault(self, sums: Vector) -> str | None:
        """Say what no rows can have led to in a plain answer; None for nothing."""
        ...

    def read_plain(self, sums: Vector, scale: float) -> Evaluation:
        """Read the sum of plain answers. scale: of the target, in its own units."""
        ...

    def read_private(self, total: Vector, noise: float, scale: float) -> Evaluation:
        """Read the sum of private answers. noise: the standard deviation in each coordinate of it."""
        ...


NOBODY = Evaluation(Figures(None, None), 0.0)


class Classification:
    """Of two classes: accuracy, precision, recall and F1.

    plain: [rows, loss, loss², true positives, predicted positives, positives].
    """

    boxes = Boxes((Box(0.0, LOSS_CAP), Box(0.0, 1.0)))
    plain_size = 6
    noise = CLASSIFICATION_NOISE

    def row_values(self, losses: Vector, scores: Vector, targets: Vector) -> Matrix:
        """Return the loss, and 1 for a row that is classified right."""
        return np.stack([losses, (scores > 0) == (targets > 0.5)])

    def plain_sums(self, losses: Vector, scores: Vector, targets: Vector) -> Vector:
        """Return the sums; see the class."""
        predicted, positive = scores > 0, targets > 0.5
        counts = [np.count_nonzero(one) for one in (predicted & positive, predicted, positive)]
        return np.array([losses.size, losses.sum(), losses @ losses, *counts], dtype=np.float64)

    def plain_fault(self, sums: Vector) -> str | None:
        """Say where the counts are not of these rows, or the losses' squares not theirs."""
        rows, loss, squares, right, predicted, positives = map(float, sums)
        counts = (right, predicted - right, positives - right, rows - predicted - positives + right)
        if not all(count >= 0.0 and count.is_integer() for count in counts):
            return f"its counts of classes are not those of {rows:g} rows"
        return _moments_fault(rows, loss, squares, "losses")

    def read_plain(self, sums: Vector, scale: float) -> Evaluation:
        """Read them: the base rate is that of the held-out rows, and never quite 0 or 1."""
        rows, loss, squares, hits, predicted, positives = map(float, sums)
        if rows < 1.0:
            return NOBODY
        right = rows - predicted - positives + 2.0 * hits
        rate = min(max(positives, 0.5), rows - 0.5) / rows
        figures = Figures(
            loss / rows,
            right / rows,
            _standard_error(squares / rows - (loss / rows) ** 2, rows),
            share_error(right, rows),
            base_loss=-rate * math.log(rate) - (1.0 - rate) * math.log1p(-rate),
            start_loss=math.log(2.0),
            precision=hits / predicted if predicted else None,
            recall=hits / positives if positives else None,
            f1_score=2.0 * hits / (predicted + positives) if predicted + positives else None,
        )
        return Evaluation(figures, rows)

    def read_private(self, total: Vector, noise: float, scale: float) -> Evaluation:
        """Read them: nothing is spent on a base rate, so losses are beside that of tossing a coin."""
        means = self.boxes.read(total, noise)
        if means is None:
            return _nobody_left()
        loss, accuracy = means.values
        # No variance of losses is released: the largest that values between 0 and the cap can have.
        spread = math.sqrt(loss * (LOSS_CAP - loss) / means.count)
        return _kept(
            Figures(
                loss,
                accuracy,
                math.hypot(means.error(1.0, 0.0), spread),
                math.hypot(means.error(0.0, 1.0), share_error(accuracy * means.count, means.count)),
                base_loss=math.log(2.0),
            ),
            means.count,
            self.noise.largest,
        )


class Regression:
    """Of a number: mean squared error in the target's own units, and R² about the held-out rows' mean.

    plain: [rows, then sums of loss, half square, target; then of the products loss², loss x half square,
    loss x target, half square², half square x target]. The loss is half the squared error, the half square
    that of the target, all in units of the scaling.
    """

    boxes = Boxes((Box(0.0, LOSS_CAP), Box(0.0, LOSS_CAP), Box(-(8.0**0.5), 8.0**0.5, 0.5)))
    plain_size = 9
    noise = REGRESSION_NOISE

    def row_values(self, losses: Vector, scores: Vector, targets: Vector) -> Matrix:
        """Return loss, half square and target."""
        return np.stack([losses, 0.5 * np.square(targets), targets])

    def plain_sums(self, losses: Vector, scores: Vector, targets: Vector) -> Vector:
        """Return the sums; see the class."""
        halves = 0.5 * np.square(targets)
        values = (losses, halves, targets)
        products = (losses @ losses, losses @ halves, losses @ targets, halves @ halves, halves @ targets)
        return np.array([losses.size, *(one.sum() for one in values), *products], dtype=np.float64)

    def plain_fault(self, sums: Vector) -> str | None:
        """Say where sums of squares are not those of numbers with such sums."""
        rows, loss, half, target, losses, _, _, halves, _ = map(float, sums)
        if not np.all(np.abs(sums) <= LARGEST_SUM):
            return f"a sum is larger than {LARGEST_SUM:g}"
        fault = _moments_fault(rows, loss, losses, "losses") or _moments_fault(rows, half, halves, "squares")
        return fault or _moments_fault(rows, abs(target), 2.0 * half, "targets")

    def read_plain(self, sums: Vector, scale: float) -> Evaluation:
        """Read them; R² is not defined where the held-out targets are all the same."""
        rows = float(sums[0])
        if rows < 1.0:
            return NOBODY
        loss, half, target, *products = (float(one) / rows for one in sums[1:])
        base = half - 0.5 * target * target
        if base <= _TOLERANCE * half:
            base = 0.0
        spread = _standard_error(products[0] - loss * loss, rows)
        accuracy = error = None
        if base > 0.0:
            ratio = loss / base
            accuracy = 1.0 - ratio
            # The mean square of loss - ratio x (half square about the mean), whose own mean is 0.
            slopes = np.array([1.0, -ratio, ratio * target, -ratio * 0.5 * target * target])
            error = _standard_error(float(slopes @ _squares(loss, half, target, products) @ slopes), rows)
            error = None if error is None else error / base
        return Evaluation(_in_units(Figures(loss, accuracy, spread, error, base), scale), rows)

    def read_private(self, total: Vector, noise: float, scale: float) -> Evaluation:
        """Read them; the base loss is what the released scale of the target says, without new noise."""
        means = self.boxes.read(total, noise)
        if means is None:
            return _nobody_left()
        loss, half, target = means.values
        # Noise adds to the square of a mean.
        base = half - 0.5 * max(0.0, target * target - means.error(0.0, 0.0, 1.0) ** 2)
        spread = math.hypot(means.error(1.0, 0.0, 0.0), math.sqrt(loss * (LOSS_CAP - loss) / means.count))
        accuracy, error = None, math.inf
        if base > 0.0:
            ratio = loss / base
            accuracy = min(1.0, 1.0 - ratio)
            noisy = means.error(-1.0 / base, ratio / base, -ratio * target / base)
            error = math.hypot(noisy, 2.0 * ratio * math.sqrt(abs(1.0 - ratio) / means.count))
        figures = _kept(Figures(loss, accuracy, spread, error, 0.5), means.count, self.noise.largest)
        return replace(figures, figures=_in_units(figures.figures, scale))


CLASSIFICATION, REGRESSION = Classification(), Regression()


def measure(classes: int) -> Measure:
    """Return how predictions of so many classes (two of them), or of a number (0), are measured."""
    return CLASSIFICATION if classes else REGRESSION


def share_error(chosen: float, of: float) -> float:
    """Return the standard error of a share, after Agresti and Coull 1998: not 0 where all or none are."""
    share = min(1.0, max(0.0, (chosen + 2.0) / (of + 4.0)))
    return math.sqrt(share * (1.0 - share) / (of + 4.0))


def _standard_error(square: float, rows: float) -> float | None:
    """Return that of a mean, from the mean square about it; None where one row says nothing of it."""
    return math.sqrt(max(0.0, square) / (rows - 1.0)) if rows > 1.0 else None


def _squares(loss: float, half: float, target: float, products: Sequence[float]) -> Matrix:
    """Return the means of all products of (loss, half square, target, 1)."""
    losses, loss_half, loss_target, halves, half_target = products
    return np.array(
        [
            [losses, loss_half, loss_target, loss],
            [loss_half, halves, half_target, half],
            [loss_target, half_target, 2.0 * half, target],
            [loss, half, target, 1.0],
        ]
    )


def _in_units(found: Figures, scale: float) -> Figures:
    """Turn halves of squares of scaled targets into mean squares in the target's own units."""

    def squared(value: float | None) -> float | None:
        # What would soon be no number any more counts as the largest sum.
        return None if value is None else min(2.0 * value * scale * scale, LARGEST_SUM)

    loss = squared(found.loss)
    return replace(
        found,
        loss=loss,
        rmse=None if loss is None else math.sqrt(loss),
        loss_error=squared(found.loss_error),
        base_loss=squared(found.base_loss) or None,
    )


def _nobody_left() -> Evaluation:
    return Evaluation(
        Figures(None, None), 0.0, ("no loss and accuracy: noise has left no count of subjects",)
    )


def _kept(found: Figures, count: float, largest: float) -> Evaluation:
    """Withhold what has too large an error to be of use, and say so."""
    notes = []
    loss, loss_error, base = found.loss, found.loss_error, found.base_loss
    assert loss_error is not None
    assert base is not None
    if loss_error > LARGEST_LOSS_ERROR * base:
        part = f"{loss_error / base:.2g} times the loss of the base rate"
        notes.append(f"the loss is withheld: its standard error would be {part}")
        loss = loss_error = None
    accuracy, accuracy_error = found.accuracy, found.accuracy_error
    assert accuracy_error is not None
    if accuracy_error > largest:
        said = f"{accuracy_error:.2g}" if math.isfinite(accuracy_error) else "larger than any figure"
        notes.append(f"the accuracy is withheld: its standard error would be {said}")
        accuracy = accuracy_error = None
    return Evaluation(Figures(loss, accuracy, loss_error, accuracy_error, base), count, tuple(notes))


def _moments_fault(rows: float, values: float, squares: float, what: str) -> str | None:
    """By Cauchy and Schwarz: sum² ≤ rows x sum of squares; of numbers that are not negative also the sum of
    squares ≤ sum²."""
    if not (0.0 <= values <= LARGEST_SUM and 0.0 <= squares <= LARGEST_SUM):
        return f"its {what} have sums that no rows have"
    if values > math.sqrt(rows) * math.sqrt(squares) * (1.0 + _TOLERANCE) + rows * 1e-150:
        return f"no {rows:g} {what} have the sum {values:g} and the sum of squares {squares:g}"
    return None
