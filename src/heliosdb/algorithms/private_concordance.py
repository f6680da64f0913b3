"""Harrell's C of a Cox regression under a privacy budget, from one noised histogram.

What always holds: what a subject adds are its rows' shares in cells, which add up to 1: a function of its own
rows, to the last bit, of L2 norm at most 1. Cells follow from the task alone. Whatever the rows are, it is
computed.

A pair of subjects is a part of no single subject's sum, so that nothing that is clipped by subject bounds a
count of pairs. Pairs of cells are post-processing: subjects are counted by predicted hazard (six cells, of
equal size were the score normal and the inputs independent), by interval of time and by whether they had the
event. Pairs count whose times lie in different intervals, over all nodes together; equal cells of hazard
count half.
"""

from __future__ import annotations

import math
from functools import cache
from statistics import NormalDist

import numpy as np

from heliosdb.algorithms.columns import scale_columns
from heliosdb.algorithms.private_report import share_steps
from heliosdb.algorithms.table import Codes, Table, group_by_subject
from heliosdb.domain.task import Scaling
from heliosdb.domain.vector import Matrix, Vector
from heliosdb.privacy.clipping import fold
from heliosdb.privacy.mechanisms import Integers, Lattice
from heliosdb.privacy.plan import AccuracyNoise

EDGES = np.array([-0.9674, -0.4307, 0.0, 0.4307, 0.9674])
"""Sixths of the standard normal distribution."""

INTERVALS = 12
_WHOLE = 0.95
QUANTILES = tuple(_WHOLE * number / INTERVALS for number in range(1, INTERVALS + 1))
"""Of time, at which intervals end: more of them leave fewer pairs out, and cells with more noise in all."""

SENSITIVITY = 1.0
LARGEST_ERROR = 0.1
"""Of the concordance: beyond it the figure is withheld, and no report is planned."""

_DROWNED = 2.0
"""Standard deviations of its noise: a count of events that is smaller divides nothing."""

_ENDS = (0.02, 0.9)
"""Share of subjects in both cells at the ends, from which the spread of scores is read: noise and scores that
are not normal leave it within these."""

_EVENTS = 0.25
"""Share of subjects with the event with which an error is foreseen."""


def count_cells(intervals: int) -> int:
    """Return how many cells there are: of each hazard two an interval, and who was left at its end."""
    return (EDGES.size + 1) * (2 * intervals + 1)


def concordance_steps(  # noqa: PLR0917
    rows: Table, slopes: Vector, scaling: Scaling, ends: Vector, unit: float, lattice: Lattice
) -> Integers:
    """Return what some subjects, each with all of its rows, add in lattice steps; (cells,).

    slopes: (p,), of scaled inputs. ends: of the intervals, rising, in units of `unit`, (J,).
    """
    edges = EDGES * _unit(slopes)

    def cells_of(some: Table) -> Codes:
        columns = scale_columns(some.features, scaling)[:-1]
        hazards = np.searchsorted(edges, fold(columns * slopes[:, None]))
        with np.errstate(over="ignore"):
            times = np.fmax(some.target / unit, 0.0)
        interval = np.searchsorted(ends, times)
        happened = np.rint(np.fmin(np.fmax(some.roles["event"], 0.0), 1.0)).astype(np.int64)
        inside = 2 * interval + np.where(interval < ends.size, happened, 0)
        cells: Codes = hazards * (2 * ends.size + 1) + inside
        return cells

    cells = np.concatenate(rows.by_rows(cells_of))
    return share_steps(cells, count_cells(ends.size), group_by_subject(rows.subjects), lattice)


def read_concordance(total: Vector, slopes: Vector, deviation: float) -> tuple[float, float]:
    """Return the concordance and its standard error, infinity where noise has drowned the events.

    total: of all nodes, (cells,). deviation: of the noise in each. The error adds up the noise's and the
    held-out subjects' as a sample, both by the figure's derivatives, and what is lost in cells: a calibrated
    model's order within one is better than chance by a twelfth of its width in logarithms of the hazard. A
    cell at an end has the spread of the scores for its width, which the counts themselves tell: of correlated
    inputs most subjects lie in one of the two.
    """
    counts = total.reshape(EDGES.size + 1, -1)
    events = counts[:, 1:-1:2]
    if float(events.sum()) <= max(1.0, _DROWNED * deviation * math.sqrt(events.size)):
        return math.nan, math.inf
    figure, slope, tied = _derive(counts)
    noise = deviation * float(np.linalg.norm(slope))
    sample = math.sqrt(float((np.maximum(counts, 0.0) * np.square(slope)).sum()))
    unit = _unit(slopes)
    spread = unit * _read_spread(counts.sum(axis=1))
    widths = np.concatenate([[spread], unit * np.diff(EDGES), [spread]])
    lost = float(np.maximum(tied, 0.0) @ widths) / 12.0
    error = math.sqrt(noise**2 + sample**2 + lost**2)
    return (min(1.0, max(0.0, figure)), error) if math.isfinite(figure) else (math.nan, math.inf)


@cache
def foreseen() -> AccuracyNoise:
    """Return how noise bears on the concordance of a model that says nothing, of a quarter of events."""
    share = _WHOLE / INTERVALS
    line = [*[(1.0 - _EVENTS) * share, _EVENTS * share] * INTERVALS, 1.0 - _WHOLE]
    counts = np.array([line] * (EDGES.size + 1)) / (EDGES.size + 1)
    _, slope, _ = _derive(counts)
    sampling = math.sqrt(float((counts * np.square(slope)).sum()))
    return AccuracyNoise(SENSITIVITY, float(np.linalg.norm(slope)), sampling, LARGEST_ERROR)


def _derive(counts: Matrix) -> tuple[float, Matrix, Vector]:
    """Return the concordance, its derivatives by the counts, and which share of the pairs each cell of hazard
    has with itself. The noises of an event and of who was left later are independent."""
    events = counts[:, 1:-1:2]
    everybody = np.concatenate([counts[:, :-1:2] + events, counts[:, -1:]], axis=1)
    later = np.cumsum(everybody[:, :0:-1], axis=1)[:, ::-1]
    earlier = np.concatenate([np.zeros((len(counts), 1)), np.cumsum(events, axis=1)], axis=1)
    # Of each event who was left later at a lower hazard, and of whom that is the other way about.
    below = np.cumsum(later, axis=0) - 0.5 * later
    above = np.cumsum(earlier[::-1], axis=0)[::-1] - 0.5 * earlier
    pairs, ordered = float((events * later.sum(axis=0)).sum()), float((events * below).sum())
    with np.errstate(divide="ignore", invalid="ignore"):
        figure = np.float64(ordered) / pairs
        by_event = (below - figure * later.sum(axis=0)) / pairs
        by_time = (above - figure * earlier.sum(axis=0)) / pairs
        tied: Vector = (events * later).sum(axis=1) / pairs
    slope = np.empty(counts.shape)
    slope[:, ::2] = by_time
    slope[:, 1:-1:2] = by_event + by_time[:, :-1]
    return float(figure), slope, tied


def _read_spread(subjects: Vector) -> float:
    """Return the standard deviation of scores, in units of the edges, were they normal about 0.

    subjects: noised, in each cell of hazard.
    """
    share = float(subjects[0] + subjects[-1]) / max(1.0, float(subjects.sum()))
    inside = 1.0 - 0.5 * min(_ENDS[1], max(_ENDS[0], share))
    return float(EDGES[-1]) / NormalDist().inv_cdf(inside)


def _unit(slopes: Vector) -> float:
    """The unit of the edges: the standard deviation of scores, were the inputs independent; 1 where all
    slopes are 0. That of inputs as they are would be a release of its own."""
    unit = math.sqrt(math.fsum(one * one for one in slopes.tolist()))
    return unit if 0.0 < unit < math.inf else 1.0
