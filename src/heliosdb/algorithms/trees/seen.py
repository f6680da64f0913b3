"""Rows as trees see them, held from one exchange to the next.

What always holds: what is held is found by a digest of everything that it depends on, so that a computation
is the same with it and without it; it is in the training process alone, and bounded.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heliosdb.algorithms.space import MEMORY, Space, rows_at_once, slices
from heliosdb.algorithms.table import Table
from heliosdb.algorithms.trees.bins import codes_of
from heliosdb.algorithms.trees.drawing import Hashes, row_hashes
from heliosdb.algorithms.trees.grown import Trees
from heliosdb.algorithms.trees.leaves import BoostingLearner
from heliosdb.algorithms.trees.work import AnyLearner, Model
from heliosdb.domain.vector import Matrix

_MOST_HELD = 4
_LARGEST = 256 * 2**20
"""Bytes of bins: those of larger tables are made anew."""


class Seen:
    """The bins of a table's rows, and what follows from rows alone. codes: (inputs, n), in `space`."""

    def __init__(self, rows: Table, model: Model, space: Space = MEMORY) -> None:
        self._rows = rows
        widest = np.uint16 if model.edges.widths.max(initial=0) < 2**16 else np.int64
        width = rows.features.shape[1]
        self.codes: NDArray[Any] = space.empty((width, rows.rows), widest)
        for block in slices(rows.rows, rows_at_once(width)):
            self.codes[:, block] = codes_of(rows.features[block], model.edges)
            space.rest(self.codes[:, block].nbytes)
        self._hashes: Hashes | None = None
        self._scored: tuple[int, bytes, Matrix] | None = None

    def hashes(self) -> Hashes:
        """Return the hashes by which rows are drawn."""
        if self._hashes is None:
            self._hashes = row_hashes(self._rows.features, self._rows.target)
        return self._hashes

    def scores(self, model: Model, finished: int, learner: AnyLearner) -> Matrix:
        """Return the scores of boosting's first trees, (n, scores); of a forest nothing, (n, 0).

        One tree is added after the other: a row's score is the same sum, in the same order, wherever it is
        taken.
        """
        if not isinstance(learner, BoostingLearner):
            return np.empty((self.codes.shape[1], 0))
        done, scores = self._known(model, finished)
        scores = scores.copy()
        more = model.trees.part(done, finished)
        ways = more.ways(model.edges.widths, model.categories)
        for place, root in enumerate(more.roots()):
            scores[:, (done + place) % learner.scores] += more.values[ways.follow(self.codes, root), 0]
        self._scored = finished, _digest(model.trees, finished, model.base), scores
        return scores

    def _known(self, model: Model, finished: int) -> tuple[int, Matrix]:
        """Return how many of these very trees have been added up already, and to what."""
        if self._scored is not None:
            done, digest, scores = self._scored
            if done <= finished and digest == _digest(model.trees, done, model.base):
                return done, scores
        return 0, np.repeat(model.base[None], self.codes.shape[1], axis=0)


def _digest(trees: Trees, count: int, base: NDArray[Any]) -> bytes:
    found = hashlib.sha256(base.tobytes())
    for array in trees.part(0, count).to_arrays().values():
        found.update(np.ascontiguousarray(array).data)
    return found.digest()


_held: OrderedDict[bytes, Seen] = OrderedDict()


def see(rows: Table, model: Model) -> Seen:
    """Return the rows as the model's trees see them."""
    found = hashlib.blake2b(digest_size=32)
    for array in (rows.features, rows.target, model.edges.values, model.edges.counts):
        found.update(np.ascontiguousarray(array).data)
    name = found.digest()
    if name in _held:
        _held.move_to_end(name)
        return _held[name]
    seen = Seen(rows, model)
    if seen.codes.nbytes <= _LARGEST:
        _held[name] = seen
        while len(_held) > _MOST_HELD:
            _held.popitem(last=False)
    return seen
