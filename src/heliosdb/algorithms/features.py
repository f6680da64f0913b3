"""Round 0: the feature statistics from which a run's scaling is made.

What always holds: a node's answer is a vector of sums; under a privacy budget every block of it (one
feature) has L2 norm at most `_block_norm` for one subject, the declared sensitivity is that of all blocks
together, a subject's part is rounded to whole steps of the lattice of the noise before it is added to
others', no value in a table makes it fail, and the coordinator's reading of the noisy sums is
post-processing. All usable rows count, held-out ones too: scaling sees no relation between features and
target, and a smaller count would drown in the noise.

Three layouts:

plain          [rows, then per feature: present, and the digits of the exact sum and sum of squares
(exact.py);
               target: the same (regression) or the rows of every class but the first]
grid           [per feature (and target of a regression) the subjects' mean positions on a grid; count of
               subjects]. The logarithmic grid needs no knowledge of the data: a bin for missing, one for
               zero, and per sign one for each octave of magnitude from 2^-74 to 2^74, beyond which lie the
               first and the last. A window is laid about a place that earlier counts found: a bin for
               missing, one for zero, and cells (layout.py). Which bin a value is in depends on the value
               and the task alone, whatever centre and width the task names; so a subject's shares of either
               grid sum to 1.
ranges         [per feature (and target): u, u² - 1/2, missing, as means over the subject's rows, u in [-1, 1]
               being the position in the declared range; count of subjects]
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from operator import add

import numpy as np
from numpy.typing import NDArray

from federated_sql.errors import ErrorCode, FederatedError
from heliosdb.algorithms.blockwise import sum_parts
from heliosdb.algorithms.exact import Moments, largest_magnitude, moments_beside
from heliosdb.algorithms.layout import (
    ABOVE,
    BELOW,
    BINS,
    CELLS,
    HIGHEST_OCTAVE,
    LINEAR,
    LOWEST_OCTAVE,
    MISSING,
    NEGATIVE,
    POSITIVE,
    RANGE_BLOCK,
    TAIL,
    ZERO,
)
from heliosdb.algorithms.registry import supervised
from heliosdb.algorithms.space import AT_ONCE, held, slices
from heliosdb.algorithms.table import Grouping, Table, group_by_subject, starts_of_runs
from heliosdb.algorithms.works import StatisticsWork, Window
from heliosdb.domain.bounds import RANGE_END, RANGE_WIDTH
from heliosdb.domain.privacy import Mechanism
from heliosdb.domain.vector import ClippedSum, Contribution, Plain, Vector
from heliosdb.privacy.mechanisms import Integers, Lattice, judged_deviation

_BIN_BITS = 9
"""A bin's number fits into so many."""


def statistics(table: Table, work: StatisticsWork) -> Contribution:
    """Compute a node's answer to round 0; see the module for the layout.

    Weight: rows; where private 1, since the count is itself released. Raises FederatedError (22023) where the
    target is of no use to the algorithm (plain only: a private answer does not tell); as `check_columns` and
    `Lattice.of` do, whatever the rows are.
    """
    if work.noise_multiplier is None:
        supervised(work.algorithm).check_target(table, work.classes)
        return Contribution(_plain_sums(table, work), max(1.0, float(table.rows)), Plain())
    n_inputs = table.features.shape[1]
    check_columns(n_inputs, work)
    mechanism = Mechanism(work.noise_multiplier, noise=work.noise)
    guard = ClippedSum(sensitivity_of(n_inputs, work), mechanism)
    lattice = Lattice.of(guard.sensitivity, work.noise_multiplier, work.size(n_inputs), work.noise)

    # Blocks need not be small, however wide rows are: one column of them is looked at at a time.
    def steps_of(rows: Table) -> Integers:
        grouping = group_by_subject(rows.subjects)
        blocks = [
            _block_steps(column, index, work, grouping, lattice)
            for index, column in enumerate(_columns(rows, work))
        ]
        count = grouping.subjects * lattice.sum_steps(np.ones((1, 1)))
        return np.concatenate([*blocks, count])

    return Contribution(lattice.total(sum_parts(table.subject_blocks(AT_ONCE), steps_of, add)), 1.0, guard)


def sensitivity(blocks: int, work: StatisticsWork) -> float:
    """Return the norm of the most that one subject adds to an answer of so many blocks and a count: L2, L1
    under Laplace noise."""
    if work.noise == "laplacian":
        return blocks * _block_norm(work) + 1.0
    return math.sqrt(blocks * _block_norm(work) ** 2 + 1.0)


def sensitivity_of(n_inputs: int, work: StatisticsWork) -> float:
    """The same over all blocks of so many inputs."""
    return sensitivity(block_count(n_inputs, work), work)


def block_count(n_inputs: int, work: StatisticsWork) -> int:
    """Return how many columns a private answer describes: the inputs, and the target where it is scaled."""
    return n_inputs + (1 if work.scales_target else 0)


def _block_norm(work: StatisticsWork) -> float:
    """Bound a subject's block: shares of the grid sum to 1, which bounds both norms; of a range's values
    u² + (u² - 1/2)² ≤ 5/4 and |u| + |u² - 1/2| ≤ 3/2 on [-1, 1], and the third is 1 where these are 0."""
    if work.ranges is None:
        return 1.0
    return 1.5 if work.noise == "laplacian" else math.sqrt(1.25)


def _columns(table: Table, work: StatisticsWork) -> Iterator[Vector]:
    """Yield the columns to describe."""
    yield from (held(column, table.space) for column in table.features.T)
    if work.scales_target:
        yield held(table.target, table.space)


def _plain_sums(table: Table, work: StatisticsWork) -> Vector:
    blocks = [np.array([float(table.rows)]), *(one.to_vector() for one in _moments(table, work))]
    if not work.scales_target:
        counts = [
            np.bincount(table.target[rows].astype(np.int64), minlength=work.classes)
            for rows in slices(max(1, table.rows))
        ]
        blocks.append(np.sum(counts, axis=0)[1:].astype(np.float64))
    return np.concatenate(blocks)


def _moments(table: Table, work: StatisticsWork) -> list[Moments]:
    """Add up each column, block by block; its largest value, beside which sums are exact, is found first."""

    def largest_of(rows: Table) -> Vector:
        return np.array(list(map(largest_magnitude, _columns(rows, work))))

    largest = sum_parts(table.blocks("all", AT_ONCE), largest_of, np.maximum).tolist()

    def moments_of(rows: Table) -> list[Moments]:
        return list(map(moments_beside, _columns(rows, work), largest))

    def plus(one: list[Moments], other: list[Moments]) -> list[Moments]:
        return list(map(Moments.plus, one, other))

    return sum_parts(table.blocks("all", AT_ONCE), moments_of, plus)


def _block_steps(
    column: Vector, index: int, work: StatisticsWork, grouping: Grouping, lattice: Lattice
) -> Integers:
    """Return what a private answer says of one column."""
    if work.ranges is not None:
        return _range_steps(range_position(column, work.ranges[index]), grouping, lattice)
    if work.windows is not None and work.windows[index][1] > 0.0:
        return _grid_steps(window_position(column, work.windows[index]), grouping, lattice)
    return _grid_steps(grid_position(column), grouping, lattice)


def _grid_steps(bins: NDArray[np.int64], grouping: Grouping, lattice: Lattice) -> Integers:
    """Return the sum of the subjects' shares in each bin, a subject's rows having a total share of 1.

    A subject's rows in a bin are counted, and their share rounded once.
    """
    if grouping.order is None:
        return np.bincount(bins, minlength=BINS) * lattice.sum_steps(np.ones((1, 1)))
    cells = np.repeat(np.arange(grouping.subjects) << _BIN_BITS, grouping.sizes)
    cells |= bins[grouping.order]
    # Subjects are in order already, of which a merging sort makes use.
    cells.sort(kind="stable")
    starts = starts_of_runs(cells)
    counts = np.diff(starts, append=cells.size)
    subject, place = cells[starts] >> _BIN_BITS, cells[starts] & ((1 << _BIN_BITS) - 1)
    shares = np.rint(counts / grouping.sizes[subject] / lattice.step).astype(np.int64)
    total = np.zeros(BINS, dtype=np.int64)
    np.add.at(total, place, shares)
    return total


def _range_steps(position: Vector, grouping: Grouping, lattice: Lattice) -> Integers:
    """Return the sum of the subjects' means of u, u² - 1/2 and missing; position: u, NaN = missing."""
    missing = np.isnan(position)
    values = np.stack([position, np.square(position) - 0.5, missing])
    values[:2, missing] = 0.0
    return lattice.sum_steps(grouping.means(values, 1.0))


def grid_position(values: Vector) -> NDArray[np.int64]:
    """Return the bin of each value; magnitudes beyond the grid go to its ends, not finite ones to missing."""
    missing = ~np.isfinite(values)
    magnitude = np.abs(np.where(missing, 0.0, values))
    # frexp: magnitude = mantissa x 2^exponent with mantissa in [1/2, 1), so the octave is exponent - 1.
    octave = np.frexp(magnitude)[1].astype(np.int64) - 1
    place = np.clip(octave, LOWEST_OCTAVE, HIGHEST_OCTAVE - 1) - LOWEST_OCTAVE
    bins = place + np.where(values < 0, NEGATIVE, POSITIVE)
    bins[magnitude == 0] = ZERO
    bins[missing] = MISSING
    return bins


def window_position(values: Vector, window: Window) -> NDArray[np.int64]:
    """Return the bin of each value in a window; what lies beyond goes to the cell at that end."""
    centre, width = window
    missing = ~np.isfinite(values)
    with np.errstate(over="ignore"):
        cells = (np.where(missing, centre, values) - centre) / width
    # What overflowed is as far away as any number.
    cells = np.clip(cells, -1e300, 1e300)
    outside = np.frexp(np.abs(cells) * (1.0 / CELLS))[1].astype(np.int64) - 1
    outside = np.clip(outside, 0, TAIL - 1)
    inside = np.floor(np.clip(cells, -CELLS, CELLS - 1)).astype(np.int64) + (LINEAR + CELLS)
    bins = np.where(cells >= CELLS, ABOVE + outside, np.where(cells < -CELLS, BELOW + outside, inside))
    bins[values == 0] = ZERO
    bins[missing] = MISSING
    return bins


def check_columns(n_inputs: int, work: StatisticsWork) -> None:
    """Raise FederatedError (22023) where ranges or windows are not what a private answer needs."""
    given = work.ranges if work.ranges is not None else work.windows
    if given is None:
        return
    if len(given) != block_count(n_inputs, work):
        raise FederatedError(
            ErrorCode.INVALID_VALUE,
            "There must be one range or window for every feature, and one for the target of a regression.",
        )
    for lower, upper in work.ranges or ():
        if not (RANGE_END.hold(lower) and RANGE_END.hold(upper) and RANGE_WIDTH.hold(upper - lower)):
            raise FederatedError(
                ErrorCode.INVALID_VALUE,
                f"A range must rise from a finite bound to another, not ({lower}, {upper}).",
            )


def range_position(column: Vector, bounds: tuple[float, float]) -> Vector:
    """Return each value's position in its declared range as a number in [-1, 1], cut to it; NaN = missing."""
    lower, upper = bounds
    with np.errstate(over="ignore", invalid="ignore"):
        position = (column - lower) * (2.0 / (upper - lower)) - 1.0
    return np.where(np.isfinite(column), np.clip(position, -1.0, 1.0), np.nan)


def private_noise(blocks: int, work: StatisticsWork, noise_variance: float) -> float:
    """Return the standard deviation of the noise in every value of a sum whose noise has so many times the
    variance of one node's, as what stands out of it is judged by: see `judged_deviation`."""
    if work.noise_multiplier is None:
        return 0.0
    scale = work.noise_multiplier * sensitivity(blocks, work)
    return judged_deviation(scale, work.noise) * math.sqrt(noise_variance)


def split_blocks(total: Vector, blocks: int, work: StatisticsWork) -> list[Vector]:
    """Cut the private sum into the columns' blocks, leaving out the count at its end."""
    width = BINS if work.ranges is None else RANGE_BLOCK
    return [total[start : start + width] for start in range(0, width * blocks, width)]
