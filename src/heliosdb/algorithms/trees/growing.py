"""The exchanges in which trees grow: sums over open tree nodes are asked, and become splits.

What always holds: which trees a round grows, which of their nodes are asked and by which inputs each may be
split follow from the run, the round and the state alone, so that an exchange that is asked again asks the
same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from heliosdb.algorithms.evaluation import EVALUATE
from heliosdb.algorithms.registry import classes_of
from heliosdb.algorithms.schedule import evaluates
from heliosdb.algorithms.stated import weight_fault
from heliosdb.algorithms.steps import Asked, Draws, Taken
from heliosdb.algorithms.table import Table
from heliosdb.algorithms.trees.grown import COVER, Trees
from heliosdb.algorithms.trees.histograms import histograms
from heliosdb.algorithms.trees.leaves import BoostingLearner, resolution
from heliosdb.algorithms.trees.remembered import added_up
from heliosdb.algorithms.trees.splits import Ends, best_splits
from heliosdb.algorithms.trees.sums import ROWS
from heliosdb.algorithms.trees.work import (
    MOST_PADDED,
    MOST_VALUES,
    AnyLearner,
    GrowingWork,
    Model,
    check_scaling,
    check_shape,
    levels_of,
    make_learner,
    refuse_budget,
    scaled_target,
)
from heliosdb.domain.errors import invalid_value
from heliosdb.domain.findings import RunPlan
from heliosdb.domain.ids import StepName
from heliosdb.domain.state import State
from heliosdb.domain.task import Task, Work
from heliosdb.domain.update import Moved, Total, Update
from heliosdb.domain.vector import Contribution, Plain, Vector
from heliosdb.domain.wording import counted
from heliosdb.parts.algorithms import ALGORITHMS, BoostingSettings, TreeSettings

GROW = StepName("histograms")

Numbers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class GrowStep:
    """Sums over the rows of open tree nodes, and the splits that they lead to.

    boosts: whether trees are steps of boosting, each after those before it, or of a forest, all by
    themselves.
    """

    algorithm: str
    boosts: bool
    name: StepName = GROW
    required: bool = True
    gathers: Literal["sum"] = "sum"
    reads: Sequence[str] = ()
    moving: Sequence[str] = ()

    def ask(self, plan: RunPlan, state: State) -> Asked:
        """Ask for the sums of the first open nodes, as many as an exchange has room for."""
        work = self._work(plan, state)
        return Asked(work.to_work(boosts=self.boosts), plan.findings.scaling, work.to_state())

    def fault(self, plan: RunPlan, work: Work, update: Update) -> str | None:
        """Say what no rows can have led to, as far as it shows without the layout."""
        vector = update.vector
        if np.any(vector != np.rint(vector)) or np.any(np.abs(vector) >= 2.0**53):
            return "its sums are no whole numbers"
        learner = self._learner(plan)
        sums = vector.reshape(learner.channels, -1)
        if np.any(sums[ROWS] < 0.0) or np.any(sums[ROWS] > update.weight):
            return f"its counts are not of {counted(update.weight, 'row')}"
        if learner.fault(sums):
            return "no rows have its sums"
        return weight_fault(plan.stated, update)

    def rows(self, plan: RunPlan, update: Update) -> int | None:
        """Return None: held-out rows are not among them."""
        del plan, update
        return None

    def read(self, plan: RunPlan, state: State, gathered: Total | Moved) -> Taken:
        """Split what was asked; go on while nodes are open or the round has trees to grow."""
        assert isinstance(gathered, Total)
        work = self._work(plan, state)
        trees = self._split(plan, work, gathered.vector)
        model = replace(work.model, trees=trees)
        goes_on = trees.open_nodes().size > 0 or trees.count < self._due(plan)
        following = GROW if goes_on else (EVALUATE if evaluates(plan) else None)
        return Taken(model.to_state(**{COVER: trees.cover}), following=following)

    def check(self, task: Task) -> None:
        """Refuse what no table could answer."""
        refuse_budget(task)
        work = GrowingWork.of(task, boosts=self.boosts)
        check_scaling(task)
        layout = work.layout(boosts=self.boosts)
        check_shape(task.work, layout.size)
        if layout.padded_size > MOST_PADDED:
            raise invalid_value("the task asks for more sums than an exchange has")

    def least_rows(self, task: Task) -> int | None:
        """Return None: the answer itself holds to the node's min_rows."""
        del task
        return None

    def parameters(self, task: Task) -> int:
        """Return the leaves of the largest tree: each tree is learned from sums of its own."""
        return GrowingWork.of(task, boosts=self.boosts).model.trees.leaves_of_largest()

    def compute(self, table: Table, task: Task, memory: State, draws: Draws) -> Contribution:
        """Return the node's sums; of tree nodes that it may not answer, zeros."""
        del draws
        work, rows = GrowingWork.of(task, boosts=self.boosts), table.training()
        target = scaled_target(rows, task, work.classes)
        stays = added_up(memory, work.model.edges, work.subsample)
        sums = histograms(rows, target, work, task.reading.seed, boosts=self.boosts)
        return Contribution(sums, max(1.0, float(rows.rows)), Plain(), stays=stays)

    def _learner(self, plan: RunPlan) -> AnyLearner:
        classes = len(classes_of(plan))
        # What nodes stated is not known of each in a secure sum; what they stated together is.
        rows = max(plan.findings.rows or 0.0, sum(plan.stated.values()))
        bits = resolution(rows, classes, boosts=self.boosts)
        rate = plan.run.options.settings(BoostingSettings).learning_rate if self.boosts else 1.0
        return make_learner(classes, bits, boosts=self.boosts, learning_rate=rate)

    def _settings(self, plan: RunPlan) -> TreeSettings:
        kind: type[TreeSettings] = ALGORITHMS.entry(self.algorithm).settings
        return plan.run.options.settings(kind)

    def _due(self, plan: RunPlan) -> int:
        """Return how many trees there are to be when the plan's round closes."""
        learner = self._learner(plan)
        each = learner.scores if isinstance(learner, BoostingLearner) else 1
        return each * self._settings(plan).grown(plan.round, plan.run.options.rounds)

    def _work(self, plan: RunPlan, state: State) -> GrowingWork:
        learner, settings = self._learner(plan), self._settings(plan)
        levels = levels_of(plan.findings.encoding, len(plan.inputs))
        model = Model.of(state, levels, learner)
        trees = model.trees
        if not trees.open_nodes().size:
            missing = max(1, self._due(plan) - trees.count)
            trees = trees.with_roots(learner.scores if isinstance(learner, BoostingLearner) else missing)
        model = replace(model, trees=trees)
        opened = trees.open_nodes()
        candidates = self._candidates(plan, trees, opened, len(levels))
        cells = model.edges.widths[candidates].sum(axis=1) * learner.channels
        padded = learner.channels * candidates.shape[1] * int(model.edges.widths.max(initial=2))
        fitting = int(np.searchsorted(np.cumsum(cells), MOST_VALUES, side="right"))
        asked = max(1, min(fitting, MOST_PADDED // padded))
        return GrowingWork(
            self.algorithm,
            learner.classes,
            int(trees.tree[opened].min()) if self.boosts else 0,
            learner.bits,
            settings.subsample,
            model,
            opened[:asked],
            candidates[:asked],
        )

    def _candidates(self, plan: RunPlan, trees: Trees, nodes: Numbers, inputs: int) -> Numbers:
        """Return by which inputs each node may be split, (nodes, m): all of them, or for a forest a few
        (Breiman 2001), which seed and node decide."""
        if self.boosts:
            return np.tile(np.arange(inputs), (nodes.size, 1))
        few = int(np.ceil(np.sqrt(inputs))) if classes_of(plan) else max(1, inputs // 3)
        draws = (np.random.default_rng((plan.run.seed, int(node))) for node in nodes)
        return np.array([np.sort(rng.permutation(inputs)[:few]) for rng in draws], dtype=np.int64)

    def _split(self, plan: RunPlan, work: GrowingWork, total: Vector) -> Trees:
        learner, settings = self._learner(plan), self._settings(plan)
        trees, asked = work.model.trees, work.asked
        depths = trees.depths()[asked]
        ends = Ends(settings.min_rows_per_leaf, settings.max_depth, depths)
        found = best_splits(total, work.layout(boosts=self.boosts), work.model.categories, learner, ends)
        # What a root says is known with its own sums; of others it was with those of the node above.
        at_root = depths == 0
        trees = trees.with_values(asked[at_root], learner.values(found.totals[:, at_root]))
        return trees.closed(asked).grown(asked[found.splits_at], found.splits)
