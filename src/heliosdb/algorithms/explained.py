"""What features contribute to the scores of held-out rows, all in all: the means of absolute Shapley values.

What always holds: what leaves is, for each output and feature, a sum over the rows that were explained, and
how many these are; they are of five subjects at least, and so are those that were left out, or nobody was.
Whoever has opted out of explanations is among those.
"""

from __future__ import annotations

import numpy as np

from heliosdb.algorithms.cells import SMALLEST_PART
from heliosdb.algorithms.importance import LARGEST_GROWTH
from heliosdb.algorithms.registry import Supervised
from heliosdb.algorithms.table import Mask, Table
from heliosdb.domain.encoding import ColumnEncoding, Encoding
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.findings import Findings
from heliosdb.domain.task import Task
from heliosdb.domain.vector import Matrix
from heliosdb.scoring.sampled_shapley import Orders
from heliosdb.scoring.shapley import Explainer, players_of, prepare_explanation

MOST_COST, FEWEST_ROWS, MOST_SAMPLED = 200_000_000, 100, 200
"""Of more rows than so many numbers allow, these are drawn at random, or the fewest; and so many where each
row's contributions are estimated from orders of its own."""

_NUMBERS_AT_ONCE = 2**21


def find_explainer(method: Supervised, task: Task, classes: int) -> Explainer | None:
    """Return what explains rows by the task's state; None where nothing does: trees whose covers are not
    known, networks that are too large."""
    encoding = task.encoding or Encoding(tuple(map(ColumnEncoding, task.reading.features)))
    findings = Findings(scaling=task.scaling, encoding=task.encoding, number_target=not classes)
    try:
        made = method.predict(task.state, findings)
        return prepare_explanation(made.kind, made.content, made.arrays, players_of(encoding))
    except FederatedError as error:
        if error.code in (ErrorCode.WRONG_STATE, ErrorCode.NOT_SUPPORTED):
            return None
        raise


def add_contributions(
    rows: Table, explain: Explainer, outputs: int, features: int, rng: np.random.Generator
) -> tuple[int, Matrix]:
    """Return how many rows were explained, and the sums of absolute contributions, (outputs, features).

    rows: the held-out ones. rng: of who is drawn.
    """
    nothing = 0, np.zeros((outputs, features))
    chosen = choose_rows(rows, explain.cost, rng)
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


def choose_rows(rows: Table, cost: int | None, rng: np.random.Generator) -> Mask:
    """Choose the rows that are explained, (n,): of those who have not opted out, all or a part."""
    chosen = np.ones(rows.rows, dtype=np.bool_) if rows.explains is None else rows.explains.copy()
    silent = np.unique(rows.subjects[~chosen])
    if 0 < silent.size < SMALLEST_PART:
        # A count of those who have opted out would be of few: others are left out with them.
        others = np.setdiff1d(rows.subjects, silent)
        lacking = min(SMALLEST_PART - silent.size, others.size)
        chosen &= ~np.isin(rows.subjects, rng.choice(others, lacking, replace=False))
    most = MOST_SAMPLED if cost is None else max(FEWEST_ROWS, MOST_COST // max(1, cost))
    there = np.flatnonzero(chosen)
    if there.size > most:
        chosen[:] = False
        chosen[rng.choice(there, most, replace=False)] = True
    if np.unique(rows.subjects[chosen]).size < SMALLEST_PART:
        chosen[:] = False
    return chosen
