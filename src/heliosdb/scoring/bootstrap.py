"""Figures of rows with bootstrap intervals: rows, or whole subjects, are drawn with replacement (Efron 1979).

What always holds: the same rows in the same order, the same seed and the same release of numpy give the same
figures; work is done in steps that each take O(n), of survivors O(n log n), so that whoever asks for the next
one may be interrupted.

As many are drawn as there are: counts are multinomial. Poisson counts, which are independent of each other,
would not keep the number of rows, and take longer to draw. The interval is between percentiles (Efron and
Tibshirani 1993, chapter 13), of what is defined of the resamples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heliosdb.scoring.evaluated import read_rows
from heliosdb.scoring.figures import Measure, measure_of

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]
Draw = Callable[[], Vector]

_VALUES = 3
"""Where a row's values begin: behind its weight and both halves of its subject."""

Line = tuple[str | None, float | None, float | None, float | None, float | None, str | None]
"""Name, value, standard error, both ends of the interval, a remark; one of None is a step that was done."""

_STEP: Line = (None,) * 6


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """What is asked for. resamples: 0 for no intervals. confidence: between 0 and 1. seed: any whole number.
    by_subject: whether whole subjects are drawn."""

    resamples: int
    confidence: float
    seed: int
    by_subject: bool


def evaluate_rows(kind: str, raw: bytes, classes: int, taken: int, asked: Bootstrap) -> Iterator[Line]:
    """Yield the figures of rows, of which there are some, a line each; and a line of None after each step.

    raw: the rows of `read_rows`. classes: how many there are of several. taken: rows of the query, with those
    that are not in raw.
    """
    rows = read_rows(kind, raw)
    subjects = _numbered(rows[:, 1:3]) if asked.by_subject else None
    yield _STEP
    order = np.argsort(rows[:, _VALUES], kind="stable")
    rows, subjects = rows[order], None if subjects is None else subjects[order]
    yield _STEP
    weights = _weights(rows[:, 0])
    measure = measure_of(kind, rows[:, _VALUES:], classes)
    lone = _lone(len(rows), subjects)
    yield _STEP
    with np.errstate(all="ignore"):
        for _ in measure.prepare(weights):
            yield _STEP
        found = measure.figures(weights)
        drawn = np.empty((asked.resamples if lone is None else 0, found.size))
        draw = _drawing(weights, subjects, asked.seed)
        for number in range(len(drawn)):
            drawn[number] = measure.figures(draw())
            yield _STEP
    yield "rows", float(len(rows)), None, None, None, lone if asked.resamples else None
    yield "rows_left_out", float(taken - len(rows)), None, None, None, None
    if subjects is not None:
        yield "subjects", float(subjects.max() + 1), None, None, None, None
    for place, name in enumerate(measure.names):
        yield _line(measure, name, float(found[place]), drawn[:, place], asked.confidence)


def _weights(given: Vector) -> Vector:
    """Return weights whose mean is 1."""
    with np.errstate(over="ignore"):
        mean = given.mean()
    if math.isinf(mean):
        # Their sum is no float; they are, and so is what they are to the largest.
        given = given / given.max()
        mean = given.mean()
    scaled: Vector = given / mean
    return scaled


def _drawing(weights: Vector, subjects: NDArray[np.int64] | None, seed: int) -> Draw:
    """Return what draws: the weights of rows in a resample."""
    source = np.random.default_rng(seed % 2**64)
    size = weights.size if subjects is None else int(subjects.max()) + 1
    all_count_once = bool((weights == 1.0).all())

    def draw() -> Vector:
        counts = np.bincount(source.integers(size, size=size), minlength=size).astype(np.float64)
        if subjects is not None:
            counts = counts[subjects]
        return counts if all_count_once else counts * weights

    return draw


def _lone(rows: int, subjects: NDArray[np.int64] | None) -> str | None:
    """Say that nothing can be drawn but the rows as they are, where that is so."""
    if subjects is None:
        return "of one row there are no intervals" if rows == 1 else None
    return None if subjects.any() else "of one subject there are no intervals"


def _numbered(halves: Matrix) -> NDArray[np.int64]:
    """Return the number of each row's subject, from 0 on; halves: (n, 2)."""
    codes = (halves[:, 0].astype(np.int64) << 32) | halves[:, 1].astype(np.int64)
    found: NDArray[np.int64] = np.unique(codes, return_inverse=True)[1]
    return found


def _line(measure: Measure, name: str, value: float, drawn: Vector, confidence: float) -> Line:
    if math.isnan(value):
        return name, None, None, None, None, f"{name} is not defined: {measure.why[name]}"
    known = drawn[np.isfinite(drawn)]
    if known.size < max(2, math.ceil(0.5 * drawn.size)):
        remark = (
            None if not drawn.size else f"{name} is not defined in most resamples, which leave it no interval"
        )
        return name, value, None, None, None, remark
    tail = 0.5 * (1.0 - confidence)
    low, high = np.quantile(known, [tail, 1.0 - tail])
    remark = None
    if known.size < drawn.size:
        without = f"in {drawn.size - known.size} of {drawn.size} resamples"
        remark = f"{name} is not defined {without}: its interval is of the others"
    # Squares of large numbers are none.
    unit = float(np.abs(known).max()) or 1.0
    return name, value, float((known / unit).std(ddof=1)) * unit, float(low), float(high), remark
