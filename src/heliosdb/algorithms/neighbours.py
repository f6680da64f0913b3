"""Groups of neighbouring values: what bins of a number may be about, in answers without noise.

What always holds: every group has `least` data subjects or more, of all rows and of those that are trained
on, and so has the group without a value. Where groups are too small among the latter they are joined whole;
which values are one before that follows from the node's rows alone, never from a task. So wherever edges lie,
whatever is subtracted of answers about the same rows and other edges is about whole groups.
"""

from __future__ import annotations

from bisect import bisect_left

import numpy as np
from numpy.typing import NDArray

from heliosdb.algorithms.table import Table
from heliosdb.domain.vector import Vector

Counts = NDArray[np.int64]


def gather(values: Vector, table: Table, least: int) -> Vector:
    """Return for each row the value that its group goes by, NaN for the group without one; (n,) → (n,).

    A value that enough subjects have stays as it is, but with those left over before it; others are one with
    their neighbours, and go by their median, as roughly as it still lies among them: that tells no one value.
    Where too few subjects lack a value they go with the group that is in the middle; where too few have one,
    nobody has.
    """
    found = np.where(np.isfinite(values), values, np.nan)
    there, firsts = ~np.isnan(found), _firsts(table)
    numbers, places = np.unique(found[there] + 0.0, return_inverse=True)
    everybody, trained = (
        np.cumsum(np.bincount(places, some[there], numbers.size)).astype(np.int64)
        for some in (firsts, firsts & ~table.held_out)
    )
    if not numbers.size or min(everybody[-1], trained[-1]) < least:
        return np.full(values.size, np.nan)
    alone = _ends(everybody, least)
    ends = alone[_ends(trained[alone], least)]
    starts = np.concatenate([[0], ends[:-1] + 1])
    half = 0.5 * (np.concatenate([[0], everybody[ends[:-1]]]) + everybody[ends])
    middles = _roughly(numbers[np.searchsorted(everybody, half)], numbers[starts], numbers[ends])
    found[there] = middles[np.searchsorted(ends, places)]
    if int((firsts & ~table.held_out)[~there].sum()) < least:
        central = alone[np.searchsorted(everybody[alone], 0.5 * everybody[-1])]
        found[~there] = middles[np.searchsorted(ends, central)]
    return found


def _roughly(values: Vector, lowest: Vector, highest: Vector) -> Vector:
    """Round each value to as few binary digits as leave it between the two others; (n,) each."""
    fractions, exponents = np.frexp(values)
    found = values
    for digits in range(52, 0, -1):
        with np.errstate(over="ignore"):
            rounded = np.ldexp(np.rint(np.ldexp(fractions, digits)), exponents - digits)
        found = np.where((lowest <= rounded) & (rounded <= highest), rounded, found)
    return found


def _firsts(table: Table) -> NDArray[np.bool_]:
    """One row of each data subject: a group with so many of these has as many subjects."""
    firsts = np.zeros(table.rows, dtype=np.bool_)
    firsts[np.unique(table.subjects, return_index=True)[1]] = True
    return firsts


def _ends(having: Counts, least: int) -> Counts:
    """Return the place of each group's last value: a group ends as soon as it has enough, and what is left
    behind the last belongs to that. having: subjects of all values up to each, `least` at least in the
    end."""
    counts, ends, told = having.tolist(), list[int](), 0
    while counts[-1] - told >= least:
        ends.append(bisect_left(counts, told + least))
        told = counts[ends[-1]]
    ends[-1] = len(counts) - 1
    return np.array(ends, dtype=np.int64)
