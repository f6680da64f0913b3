"""Rows with their predictions, as a query of the caller's brings them: block by block, and then as one table.

What always holds: a row without a target, without a prediction, or without a value in a column that decides
what it counts, is left out; what is kept of a row are the numbers that `figures` measures, which are few
whatever the number of classes. Errors name no value of a row.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from heliosdb.domain.classes import class_number
from heliosdb.domain.errors import invalid_value

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]

KINDS = ("binary", "classes", "number", "counts", "survival")
"""What is predicted: the probability of the second of two classes, those of several, a number, the mean of a
count, a hazard."""

COLUMNS = ("target", "event", "weight", "offset", "subject", "subject_low")
"""What comes with a prediction, each NaN where it is NULL; a subject as the two halves of a hash of 64 bits.
The event of what is no survivor, the weight of a row that counts once, an offset and a subject that there are
none of, are 1, 1, 0 and 0."""

LARGEST = 1e140
"""Predictions and targets count up to this, so that sums of squares are numbers."""

LEAST_PROBABILITY = 5e-324
LEAST_REST = 2.0**-54
"""What a probability and 1 less one are at least in a logarithm: the smallest float, and half of the last bit
of a probability of almost 1, which may have been rounded to 1."""

_LARGEST_REAL = 1e38

_WIDTHS = {"binary": 5, "classes": 7, "number": 5, "counts": 5, "survival": 6}


def reduce_block(kind: str, scores: Matrix, columns: Matrix, classes: Sequence[str] | None) -> Matrix:
    """Return what is kept of the rows that are not left out; (n, …) → (m, width).

    scores: (n,), or (n, classes). columns: (n, `COLUMNS`). classes: their labels where the target is a
    number; None where it is the index of a class already, or no class.

    A row becomes weight, both halves of its subject, and then: of two classes probability and class; of
    several log loss, squared error, predicted and actual class; of a number prediction and target; of a
    survivor hazard, time and event. FederatedError (22023) for what a target, weight or event may not be.
    """
    target, event, weight, offset, *subject = columns.T
    known = np.isfinite(columns[:, :4]).all(axis=1)
    known &= ~np.isnan(scores.reshape(len(columns), -1)).any(axis=1)
    if classes is not None:
        target = _number(target, classes)
    target, event, weight, offset, scores = (one[known] for one in (target, event, weight, offset, scores))
    _check(kind, target, event, weight)
    if np.isnan(columns[known, 4:]).any():
        raise invalid_value("the column that names a row's subject must not be null")
    with np.errstate(all="ignore"):
        scores = _shift(kind, scores, offset)
        values = _values(kind, scores, target, event)
    made: Matrix = np.column_stack([weight, *(one[known] for one in subject), *values])
    return made


def read_rows(kind: str, raw: bytes) -> Matrix:
    """Return the rows of all blocks, one behind the other; (n, width)."""
    return np.frombuffer(raw, np.float64).reshape(-1, _WIDTHS[kind])


def _number(target: Vector, classes: Sequence[str]) -> Vector:
    """Return the index of each row's class, -1 for a value that is none."""
    found = np.where(np.isnan(target), np.nan, -1.0)
    for index, label in enumerate(classes):
        number = class_number(label)
        if number is None:
            continue
        found[target == number] = index
        if not number.is_integer() and abs(number) < _LARGEST_REAL:
            # A column of type real holds the nearest that it can.
            found[(target == float(np.float32(number))) & (found < 0.0)] = index
    return found


def _check(kind: str, target: Vector, event: Vector, weight: Vector) -> None:
    if not bool((weight > 0.0).all()):
        raise invalid_value(
            "a row's weight must be more than 0",
            hint="Leave out rows that are not to count by the query's WHERE.",
        )
    if kind in ("binary", "classes") and bool((target < 0.0).any()):
        raise invalid_value(
            "the target must be one of the model's classes in every row",
            hint="Leave out rows of further classes by the query's WHERE.",
        )
    if kind in ("counts", "survival") and not bool((target >= 0.0).all()):
        what = "a count" if kind == "counts" else "a survival time"
        raise invalid_value(f"the target, {what}, must be 0 or more in every row")
    if kind == "survival" and not bool(np.isin(event, (0.0, 1.0)).all()):
        raise invalid_value("the event column must be true or false, or 0 or 1, in every row")


def _shift(kind: str, scores: Matrix, offset: Vector) -> Matrix:
    """Add an offset on the scale of the link; of several classes to each but the first."""
    if not offset.any():
        return scores
    if kind == "number":
        return scores + offset
    if kind == "binary":
        shifted: Vector = 0.5 + 0.5 * np.tanh(0.5 * (log_odds(scores) + offset))
        return shifted
    if kind == "classes":
        logs = np.log(np.maximum(scores, LEAST_PROBABILITY))
        logs[:, 1:] += offset[:, None]
        grown = np.exp(logs - logs.max(axis=1, keepdims=True))
        shares: Matrix = grown / grown.sum(axis=1, keepdims=True)
        return shares
    grown = scores * np.exp(offset)
    return grown


def _values(kind: str, scores: Matrix, target: Vector, event: Vector) -> Sequence[Vector]:
    if kind == "classes":
        actual, row = target.astype(np.int64), np.arange(target.size)
        chosen = scores[row, actual]
        squares = np.square(scores).sum(axis=1) - 2.0 * chosen + 1.0
        return -np.log(np.maximum(chosen, LEAST_PROBABILITY)), squares, scores.argmax(axis=1), target
    if kind == "survival":
        return scores, target, event
    if kind == "binary":
        return scores, target
    return np.clip(scores, -LARGEST, LARGEST), np.clip(target, -LARGEST, LARGEST)


def log_odds(probabilities: Vector) -> Vector:
    """Return the log-odds of probabilities; finite."""
    found: Vector = np.log(np.maximum(probabilities, LEAST_PROBABILITY)) - np.log(
        np.maximum(1.0 - probabilities, LEAST_REST)
    )
    return found
