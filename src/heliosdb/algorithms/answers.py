"""Whether the sums that a node answered can be those of any rows: what each layout allows, and no more.

What always holds: an answer as an honest node computes it has no fault, whatever its rows (rounding, and all
but a tail of the noise that is never met, included); sums of answers without a fault, over as many nodes as
there may be, are finite, and the means and scales that plain ones lead to lie within their bounds up to
rounding. A fault is said in words that read on from the node's name.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from heliosdb.algorithms.exact import read_moments
from heliosdb.algorithms.features import block_count, private_noise
from heliosdb.algorithms.layout import CLASSES_SENSITIVITY, COLUMN_DIGITS, DIGIT_BITS
from heliosdb.algorithms.works import ClassesWork, EvaluateWork, StatisticsWork
from heliosdb.domain.bounds import LOCATION, ROWS
from heliosdb.domain.vector import Vector
from heliosdb.domain.wording import counted
from heliosdb.privacy.mechanisms import judged_deviation

_DEVIATIONS = 40.0
"""Noise beyond so many standard deviations is never met."""


def statistics_fault(
    vector: Vector, weight: float, work: StatisticsWork, columns: Sequence[str]
) -> str | None:
    """Say what is wrong with an answer to round 0, None where nothing is; columns: features, then target.

    Stops a statement of rows that no table has, counts that are no counts, and sums that no rows have (by
    Cauchy and Schwarz: sum² ≤ present x sum of squares, exactly), with any of which one node would set the
    scaling of all.
    """
    if work.noise_multiplier is not None:
        blocks = block_count(len(columns) - 1, work)
        return noised_fault(vector, ROWS.most, private_noise(blocks, work, 1))
    rows = float(vector[0])
    if not (ROWS.hold(rows) and rows.is_integer()):
        return f"the {rows:g} rows that it states are no number of rows"
    if weight != max(1.0, rows):
        return f"its weight {weight:g} is not that of the {counted(rows, 'row')} that it states"
    described = columns if work.scales_target else columns[:-1]
    for index, column in enumerate(described):
        fault = _moments_fault(rows, vector[1 + COLUMN_DIGITS * index : 1 + COLUMN_DIGITS * (index + 1)])
        if fault is not None:
            return f"{fault} in column {column}"
    return None if work.scales_target else _counts_fault(rows, vector[1 - work.classes :])


def classes_fault(vector: Vector, work: ClassesWork) -> str | None:
    """Say what is wrong with counts of a target's classes, None where nothing is."""
    deviation = judged_deviation(work.noise_multiplier * CLASSES_SENSITIVITY, work.noise)
    return noised_fault(vector, ROWS.most, deviation)


def evaluation_fault(vector: Vector, weight: float, work: EvaluateWork) -> str | None:
    """Say what is wrong with an evaluation, None where nothing is."""
    if work.noise_multiplier is not None:
        scale = work.noise_multiplier * work.measure.boxes.norm(work.noise)
        deviation = judged_deviation(scale, work.noise)
        return noised_fault(vector, 0.5 * ROWS.most, deviation)
    count = float(vector[0])
    if weight != max(1.0, count) or not _is_count(count, ROWS.most):
        return f"its weight {weight:g} is not that of the {counted(count, 'row')} that it counts"
    if count == 0.0 and np.any(vector):
        return "it measures a loss over no rows"
    return work.measure.plain_fault(vector)


def noised_fault(vector: Vector, most: float, deviation: float) -> str | None:
    """Say where a value is more than so many subjects, of 1 each, and noise of that deviation add up to; None
    where none is."""
    allowed = most + _DEVIATIONS * deviation
    largest = float(np.abs(vector).max(initial=0.0))
    if not largest <= allowed:
        return f"its value {largest:g} is more than {counted(most, 'subject')} and the noise can add up to"
    return None


def _moments_fault(rows: float, block: Vector) -> str | None:
    present = float(block[0])
    if not _is_count(present, rows):
        return f"its count {present:g} is not of values among {counted(rows, 'row')}"
    digits = block[1:]
    if not bool(np.all((np.abs(digits) < 2.0**DIGIT_BITS) & (digits == np.rint(digits)))):
        return "a digit of its sums is none"
    found = read_moments(block)
    if not found.are_possible():
        return f"its sum and its sum of squares are not of {counted(present, 'value')}"
    if found.count > 0 and found.root_mean_square() > LOCATION.most:
        return f"its values are larger than {LOCATION.most:g}"
    return None


def _counts_fault(rows: float, counts: Vector) -> str | None:
    """Of every class but the first."""
    for number, count in enumerate(counts, 1):
        if not _is_count(float(count), rows):
            return (
                f"the {counted(float(count), 'row')} of class {number} that it states are not among {rows:g}"
            )
    if math.fsum(counts) > rows:
        return f"the rows of its classes are more than the {rows:g} that it states"
    return None


def _is_count(number: float, most: float) -> bool:
    return 0.0 <= number <= most and number.is_integer()
