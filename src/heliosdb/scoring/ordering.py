"""How well scores order rows that count by weights: pairs of two classes (AUC), of survivors (Harrell's C).

What always holds: rows are sorted once, and each new weighing of them takes O(n), of survivors O(n log n); a
whole weight counts as so many equal rows, of which those of one row make no pair with each other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
Places = NDArray[np.intp]


class ClassOrder:
    """Rows in ascending order of their scores, ties known."""

    def __init__(self, scores: Vector, is_positive: NDArray[np.bool_]) -> None:
        """scores, is_positive: (n,), the scores ascending."""
        self._is_positive = is_positive.astype(np.float64)
        starts = _runs(scores)
        self._starts = starts if starts.size < scores.size else None

    def share_in_order(self, weights: Vector) -> float:
        """Return the share of pairs of a positive and a negative row whose scores are in order, equal ones
        counting half (Mann and Whitney's U); NaN where there is no pair."""
        positive = weights * self._is_positive
        negative = weights - positive
        pairs = positive.sum() * negative.sum()
        if not pairs > 0.0:
            return float("nan")
        if self._starts is not None:
            positive, negative = (np.add.reduceat(one, self._starts) for one in (positive, negative))
        # Of the group's own negative rows a half; where there are no ties a group is a row, of one class.
        return float(positive @ (np.cumsum(negative) - 0.5 * negative) / pairs)


@dataclass(frozen=True, slots=True)
class _Level:
    """One bit by which rows that leave at different times are told apart.

    order: rows by block and score. later: which of these leave in the later half. asked: the rows that had
    the event in the earlier half; of each, where its block begins in order, and where the run of its block's
    rows with its score does, and ends.
    """

    order: Places
    later: NDArray[np.bool_]
    asked: Places
    start: Places
    first: Places
    past: Places


class SurvivalOrder:
    """Pairs of rows of which it is known who had the event first: those that `algorithms/concordance.py`
    counts of rows that all count once."""

    def __init__(self, times: Vector, events: Vector, scores: Vector) -> None:
        """(n,) each, events 0 or 1, scores larger for whom leaves sooner."""
        _, moments = np.unique(times, return_inverse=True)
        # Who is censored at a time leaves after those who have the event then.
        _, leaving = np.unique(2 * moments + (events == 0.0), return_inverse=True)
        _, ranks = np.unique(scores, return_inverse=True)
        self._by_leaving = np.argsort(leaving, kind="stable")
        self._events = events > 0.0
        self._runs = _runs(leaving[self._by_leaving])
        self._had = self._events[self._by_leaving].astype(np.float64)
        order = np.argsort(ranks, kind="stable")
        self._leaving, self._ranks, self._sorted = leaving[order], ranks[order], order
        self._levels: list[_Level] = []

    def prepare(self) -> Iterator[None]:
        """Sort the rows once for each bit, a bit at a time."""
        for bit in range(int(self._leaving.max(initial=0)).bit_length()):
            self._levels.append(self._level(bit))
            yield

    def _level(self, bit: int) -> _Level:
        block, later = self._leaving >> (bit + 1), (self._leaving >> bit) & 1 > 0
        place = np.argsort(block, kind="stable")
        block, later, ranks = block[place], later[place], self._ranks[place]
        order = self._sorted[place]
        starts, firsts = _runs(block), _runs(block, ranks)
        asked = np.flatnonzero(self._events[order] & ~later)
        run = np.searchsorted(firsts, asked, side="right")
        found = (
            starts[np.searchsorted(starts, asked, side="right") - 1],
            firsts[run - 1],
            np.append(firsts, block.size)[run],
        )
        start, first, past = (one for one in found)
        return _Level(order, later, order[asked], start, first, past)

    def share_in_order(self, weights: Vector) -> float:
        """Return Harrell's C of the rows, each as often as its weight says; NaN where there is no pair."""
        pairs = self._pairs(weights)
        if not pairs > 0.0:
            return float("nan")
        ordered = 0.0
        for level in self._levels:
            before = np.concatenate([[0.0], np.cumsum(weights[level.order] * level.later)])
            halves = before[level.first] + before[level.past] - 2.0 * before[level.start]
            ordered += 0.5 * float(weights[level.asked] @ halves)
        return ordered / pairs

    def _pairs(self, weights: Vector) -> float:
        chosen = weights[self._by_leaving]
        leave = np.add.reduceat(chosen, self._runs)
        had = np.add.reduceat(chosen * self._had, self._runs)
        return float(had @ (leave.sum() - np.cumsum(leave)))


def _runs(*keys: NDArray[np.generic]) -> NDArray[np.intp]:
    """Return where each run of rows that are equal in all keys begins."""
    changes = np.any([key[1:] != key[:-1] for key in keys], axis=0)
    return np.concatenate([[0], np.flatnonzero(changes) + 1])
