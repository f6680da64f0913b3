"""What features contribute to the scores of held-out rows, all in all: the means of absolute Shapley values.

What always holds: what leaves is, for each output and feature, a sum over the rows that were explained, and
how many these are; they are those of whole groups of subjects, and so are those by which any two answers
about the same rows differ, whatever share of them is held out, whatever they cost and whoever opted out
between them. A group are neighbours in the order in which the node's key has subjects held out, several
(cells.py) and min_rows at least; a task decides about none. A group in which somebody has opted out leaves as
a whole. The last ones are always left out, so that how many rows are is of several subjects, too.
"""

from __future__ import annotations

import numpy as np

from heliosdb.algorithms.cells import SMALLEST_PART
from heliosdb.algorithms.importance import LARGEST_GROWTH
from heliosdb.algorithms.registry import Supervised
from heliosdb.algorithms.table import Codes, Mask, Table
from heliosdb.domain.encoding import ColumnEncoding, Encoding
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.findings import Findings
from heliosdb.domain.task import Task
from heliosdb.domain.vector import Matrix
from heliosdb.scoring.sampled_shapley import Orders
from heliosdb.scoring.shapley import Explainer, players_of, prepare_explanation

MOST_COST, FEWEST_ROWS, MOST_SAMPLED = 200_000_000, 100, 200
"""Of more rows than so many numbers allow, or the fewest, a part is explained; and of more than so many where
each row's contributions are estimated."""

LARGEST_GROUP = 1_000
"""Rows: of one group so many are explained, whatever that costs."""

_NUMBERS_AT_ONCE = 2**21


def find_explainer(method: Supervised, task: Task, classes: int) -> Explainer | None:
    """Return what explains rows by the task's state; None where nothing does: trees whose covers are not
    known, or that are too large."""
    encoding = task.encoding or Encoding(tuple(map(ColumnEncoding, task.reading.features)))
    findings = Findings(scaling=task.scaling, encoding=task.encoding, number_target=not classes)
    try:
        made = method.predict(task.state, findings)
        explain = prepare_explanation(made.kind, made.content, made.arrays, players_of(encoding))
    except FederatedError as error:
        if error.code in (ErrorCode.WRONG_STATE, ErrorCode.NOT_SUPPORTED, ErrorCode.PROGRAM_LIMIT):
            return None
        raise
    return explain if explain.cost is None or explain.cost <= MOST_COST else None


def add_contributions(
    rows: Table, explain: Explainer, outputs: int, features: int, rng: np.random.Generator
) -> tuple[int, Matrix]:
    """Return how many rows were explained, and the sums of absolute contributions, (outputs, features).

    rows: the held-out ones. rng: of the orders by which contributions are estimated.
    """
    nothing = 0, np.zeros((outputs, features))
    chosen = choose_rows(rows, explain.cost)
    if not chosen.any():
        return nothing
    explained, sums = rows.features[chosen], np.zeros((outputs, features))
    orders = Orders(seed=int(rng.integers(2**31)))
    # What is estimated is at once: how many orders fit depends on how many rows there are.
    at_once = MOST_SAMPLED if explain.cost is None else max(1, _NUMBERS_AT_ONCE // max(1, explain.cost))
    try:
        for start in range(0, len(explained), at_once):
            found = explain(explained[start : start + at_once], orders).contributions
            sizes = np.nan_to_num(np.abs(found), nan=LARGEST_GROWTH)
            sums += np.minimum(sizes, LARGEST_GROWTH).sum(axis=0)
    except FederatedError as error:
        if error.code is ErrorCode.PROGRAM_LIMIT:
            return nothing
        raise
    return len(explained), sums


def choose_rows(rows: Table, cost: int | None) -> Mask:
    """Choose the held-out rows that are explained, (n,): those of the first groups in which nobody has opted
    out."""
    least = _group_size(max(rows.min_rows, rows.min_cell))
    subjects, ranks = np.unique(rows.places, return_inverse=True)
    whole = subjects.size // least - 1
    if whole < 1:
        return np.zeros(rows.rows, dtype=np.bool_)
    groups = np.minimum(ranks // least, whole)
    chosen: Mask = groups < _count_groups(np.cumsum(np.bincount(groups))[:whole], cost)
    if rows.explains is not None:
        chosen &= ~np.isin(groups, groups[~rows.explains])
    return chosen


def _group_size(min_rows: int) -> int:
    """Return how many subjects a group has: of datasets of other min_rows some groups together are one."""
    least = SMALLEST_PART
    while least < min_rows:
        least *= 2
    return least


def _count_groups(sizes: Codes, cost: int | None) -> int:
    """Return how many groups are explained, before anybody opts out: all, or a power of two of them, or none.

    sizes: how many rows the first one has, the first two, …
    """
    most = MOST_SAMPLED if cost is None else max(FEWEST_ROWS, MOST_COST // max(1, cost))
    if sizes[-1] <= most:
        return int(sizes.size)
    fit = int(np.count_nonzero(sizes <= max(most, min(int(sizes[0]), LARGEST_GROUP))))
    return 1 << (fit.bit_length() - 1) if fit else 0
