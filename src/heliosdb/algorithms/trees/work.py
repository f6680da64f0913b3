"""What the steps of trees read of a task: settings and states, as the coordinator writes them and a node
checks them.

What always holds: what `of` returns is within its bounds, fits the task's inputs, and would be computed by
any table; anything else raises FederatedError INVALID_VALUE.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heliosdb.algorithms.table import Table
from heliosdb.algorithms.trees.bins import MOST_CELLS, Ragged
from heliosdb.algorithms.trees.grown import OPEN, Trees
from heliosdb.algorithms.trees.leaves import BoostingLearner, ForestLearner
from heliosdb.algorithms.trees.sums import Layout
from heliosdb.domain import bounds
from heliosdb.domain.encoding import Encoding
from heliosdb.domain.errors import invalid_value, not_supported
from heliosdb.domain.settings import read_settings, settings_of, within
from heliosdb.domain.state import State, make_state
from heliosdb.domain.task import Task, Work
from heliosdb.domain.vector import Dtype, Vector
from heliosdb.domain.wording import counted
from heliosdb.scoring.ways import are_between_levels

MOST_PADDED = 2**27
"""Numbers that a node holds of an answer while it adds up: one for each bin of the widest candidate, also of
those that have fewer."""

MOST_VALUES = 2_000_000
"""Of an answer about tree nodes, where there is more than one: the others are asked for in the next
exchange."""

Numbers = NDArray[np.int64]
Flags = NDArray[np.bool_]
AnyLearner = ForestLearner | BoostingLearner


def refuse_budget(task: Task) -> None:
    """Raise FederatedError NOT_SUPPORTED where an answer would have to be private."""
    if task.budget is not None or task.work.privacy is not None:
        raise not_supported("sums without noise over rows are not asked for under a privacy_budget")


def levels_of(encoding: Encoding | None, inputs: int) -> tuple[int, ...]:
    """Return of each input how many levels its category has, 0 where it is a number."""
    if encoding is None:
        return (0,) * inputs
    found: list[int] = []
    for column in encoding.columns:
        count = len(column.inputs)
        levels = max(1, len(column.level_names)) if column.form == "index" else 0
        # One more input may say that the value is missing.
        found += [levels] * bool(levels) + [0] * (count - bool(levels))
    return tuple(found)


def check_shape(work: Work, size: int) -> None:
    """Raise FederatedError INVALID_VALUE for an answer of another size or type."""
    if work.dtype is not Dtype.FLOAT64 or work.size != size:
        raise invalid_value(
            f"the task asks for {counted(work.size, 'value')} of type {work.dtype}, not {size} of float64"
        )


def check_scaling(task: Task) -> None:
    """Raise FederatedError INVALID_VALUE for a scaling that the task's inputs do not have."""
    scaling = task.scaling
    if scaling is None or not len(scaling.means) == len(scaling.scales) == task.n_inputs:
        raise invalid_value("the task's scaling does not fit its inputs")
    locations, scales = (*scaling.means, scaling.target_mean), (*scaling.scales, scaling.target_scale)
    if not (all(map(bounds.LOCATION.hold, locations)) and all(map(bounds.SCALE.hold, scales))):
        raise invalid_value("the task's scaling is outside its bounds")


def scaled_target(rows: Table, task: Task, classes: int) -> Vector:
    """Return the index of each row's class, or its number as the task scales it; FederatedError
    INVALID_VALUE, naming no value, for a class that there is not."""
    if classes:
        if not np.isin(rows.target, np.arange(classes)).all():
            raise invalid_value(f"the target is none of its {classes} classes in some row")
        return rows.target
    assert task.scaling is not None
    with np.errstate(over="ignore"):
        scaled: Vector = (rows.target - task.scaling.target_mean) / task.scaling.target_scale
    return scaled


def read_ragged(state: State, values: str, counts: str, inputs: int) -> Ragged:
    """Read ascending numbers of each input."""
    numbers, sizes = state.get(values), state.get(counts)
    if numbers is None or sizes is None or numbers.dtype != np.float64 or sizes.dtype != np.int64:
        raise _misfit()
    within = sizes.shape == (inputs,) and bool(np.all((sizes >= 0) & (sizes <= MOST_CELLS * 2)))
    if not within or numbers.shape != (int(sizes.sum()),):
        raise _misfit()
    found = Ragged(numbers, sizes)
    if not found.are_ascending():
        raise _misfit()
    return found


def _misfit() -> Exception:
    return invalid_value("the task's bins do not fit its inputs")


@dataclass(frozen=True, slots=True)
class Model:
    """What is grown so far. edges: of the inputs' bins. levels: see `levels_of`. base: the scores with which
    boosting begins, (scores,); of a forest ()."""

    edges: Ragged
    levels: tuple[int, ...]
    base: Vector
    trees: Trees

    @classmethod
    def of(cls, state: State, levels: Sequence[int], learner: AnyLearner) -> Model:
        """Read a state; FederatedError INVALID_VALUE where it is none of this model's."""
        edges = read_ragged(state, "edges", "n_edges", len(levels))
        categories = np.array(levels) > 0
        most = edges.counts[~categories].max(initial=0)
        if not are_between_levels(edges.values, edges.counts, np.array(levels)) or most >= bounds.BINS.most:
            raise _misfit()
        trees = Trees.read(state, learner.outputs, edges.widths, categories)
        return cls(edges, tuple(levels), _base(state, learner), trees)

    @property
    def categories(self) -> Flags:
        """Which inputs are indices of levels."""
        flags: Flags = np.array(self.levels) > 0
        return flags

    def to_state(self, **more: NDArray[np.int32] | NDArray[np.float64]) -> State:
        """Return the state from which `of` reads it. more: further arrays."""
        base = {"base": self.base} if self.base.size else {}
        bins = {"edges": self.edges.values, "n_edges": self.edges.counts}
        return make_state(**bins, **base, **self.trees.to_arrays(), **more)

    def names(self) -> set[str]:
        """Return the names of the arrays of which nodes are told."""
        return set(self.to_state())


LARGEST_BASE = 1e3
"""Of scores that boosting begins with: no honest sums lead as far."""


def _base(state: State, learner: AnyLearner) -> Vector:
    size = learner.scores if isinstance(learner, BoostingLearner) else 0
    if not size:
        return np.empty(0)
    base = state.get("base")
    if base is None or base.dtype != np.float64 or base.shape != (size,) or np.abs(base).max() > LARGEST_BASE:
        raise invalid_value("the task's model has no scores to begin with")
    return base


@dataclass(frozen=True, slots=True)
class _GrowingSettings:
    classes: int = within(bounds.CLASSES)
    finished: int = within(bounds.Bounds(0, 2**31 - 1))
    bits: int = within(bounds.Bounds(0, 52))
    subsample: float = within(bounds.SUBSAMPLE)


@dataclass(frozen=True, slots=True)
class GrowingWork:
    """Sums over the rows of open tree nodes.

    finished: how many trees are; they have scores, and all open nodes are of later ones. asked: open nodes,
    (asked,), ascending. candidates: by which inputs each may be split, (asked, m), ascending.
    """

    algorithm: str
    classes: int
    finished: int
    bits: int
    subsample: float
    model: Model
    asked: Numbers
    candidates: Numbers

    @classmethod
    def of(cls, task: Task, *, boosts: bool) -> GrowingWork:
        """Read a task."""
        given = read_settings(_GrowingSettings, task.work.settings, exact=True)
        learner = make_learner(given.classes, given.bits, boosts=boosts)
        model = Model.of(task.state, levels_of(task.encoding, task.n_inputs), learner)
        asked, candidates = (task.state.get(name) for name in ("asked", "candidates"))
        if set(task.state) != model.names() | {"asked", "candidates"}:
            raise invalid_value("the task's state holds something else")
        _check_asked(asked, candidates, model, given.finished)
        assert asked is not None
        assert candidates is not None
        asked, candidates = asked.astype(np.int64), candidates.astype(np.int64)
        return cls(
            task.work.algorithm,
            given.classes,
            given.finished,
            given.bits,
            given.subsample,
            model,
            asked,
            candidates,
        )

    def learner(self, *, boosts: bool) -> AnyLearner:
        """Return how its sums are reckoned."""
        return make_learner(self.classes, self.bits, boosts=boosts)

    def layout(self, *, boosts: bool) -> Layout:
        """Return how its answer is laid out."""
        return self.layout_of(self.learner(boosts=boosts))

    def layout_of(self, learner: AnyLearner) -> Layout:
        """Return the same for a learner."""
        return Layout(self.candidates, self.model.edges.widths, learner.channels)

    def to_work(self, *, boosts: bool) -> Work:
        """Write the envelope."""
        given = _GrowingSettings(self.classes, self.finished, self.bits, self.subsample)
        return Work(self.algorithm, self.layout(boosts=boosts).size, settings=settings_of(given))

    def to_state(self) -> State:
        """Write the state."""
        return self.model.to_state(
            asked=self.asked.astype(np.int32), candidates=self.candidates.astype(np.int32)
        )


def make_learner(classes: int, bits: int, *, boosts: bool, learning_rate: float = 1.0) -> AnyLearner:
    """Return how sums and leaves are reckoned; FederatedError INVALID_VALUE for a single class."""
    if classes == 1:
        raise invalid_value("a target has at least two classes")
    return BoostingLearner(classes, bits, learning_rate) if boosts else ForestLearner(classes, bits)


def _check_asked(
    asked: NDArray[np.int32] | None, candidates: NDArray[np.int32] | None, model: Model, finished: int
) -> None:
    wrong = invalid_value("the task does not ask for open nodes of its trees")
    if asked is None or candidates is None or asked.dtype != np.int32 or candidates.dtype != np.int32:
        raise wrong
    if asked.ndim != 1 or not asked.size or candidates.ndim != 2 or len(candidates) != asked.size:
        raise wrong
    inputs = len(model.levels)
    rises = bool(np.all(np.diff(asked) > 0)) and bool(np.all(np.diff(candidates, axis=1) > 0))
    if not rises or not 0 < candidates.shape[1] <= inputs or asked[0] < 0 or asked[-1] >= model.trees.size:
        raise wrong
    if np.any((candidates < 0) | (candidates >= inputs)) or np.any(model.trees.feature[asked] != OPEN):
        raise wrong
    if finished > model.trees.count or np.any(model.trees.tree[model.trees.open_nodes()] < finished):
        raise wrong
