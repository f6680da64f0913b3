"""Trees under a privacy budget: a round asks once, for what the leaves of its trees add up to.

What always holds: splits are drawn before rows are read (structure.py), so that a round is one release, over
which a subject is bounded whole, and its cost is known before the run; which trees a round asks for follows
from the run, the round and the state alone; what a leaf says is made of released sums.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from heliosdb.algorithms.blockwise import sum_parts
from heliosdb.algorithms.evaluation import EVALUATE
from heliosdb.algorithms.registry import classes_of
from heliosdb.algorithms.schedule import evaluates
from heliosdb.algorithms.steps import Asked, Draws, Taken
from heliosdb.algorithms.table import Table
from heliosdb.algorithms.trees.grown import COVER
from heliosdb.algorithms.trees.leaf_values import read_leaves, with_cover
from heliosdb.algorithms.trees.private_answer import LeafAnswer
from heliosdb.algorithms.trees.private_learner import PrivateLearner
from heliosdb.algorithms.trees.private_work import (
    LeavesWork,
    depth_of,
    privacy_of,
    settings_of_trees,
    trees_of_round,
)
from heliosdb.algorithms.trees.structure import Drawing
from heliosdb.algorithms.trees.work import LARGEST_BASE, Model, levels_of, make_learner
from heliosdb.domain.bounds import ROWS
from heliosdb.domain.findings import RunPlan
from heliosdb.domain.ids import StepName
from heliosdb.domain.state import State
from heliosdb.domain.task import Task, Work
from heliosdb.domain.update import Moved, Total, Update
from heliosdb.domain.vector import ClippedSum, Contribution
from heliosdb.domain.wording import counted
from heliosdb.parts.algorithms import BoostingSettings
from heliosdb.privacy.mechanisms import Lattice

LEAVES = StepName("leaves")

_DEVIATIONS = 40.0
"""Noise beyond so many standard deviations is never met."""


@dataclass(frozen=True, slots=True)
class LeavesStep:
    """Sums over the leaves of a round's new trees. boosts: see `growing.GrowStep`."""

    algorithm: str
    boosts: bool
    name: StepName = LEAVES
    required: bool = True
    gathers: Literal["sum"] = "sum"
    reads: Sequence[str] = ()
    moving: Sequence[str] = ()
    streams: bool = True

    def ask(self, plan: RunPlan, state: State) -> Asked:
        """Draw the round's trees, and ask for what their leaves add up to."""
        work = self._work(plan, state)
        return Asked(work.to_work(boosts=self.boosts), plan.findings.scaling, work.model.to_state())

    def fault(self, plan: RunPlan, work: Work, update: Update) -> str | None:
        """Say where sums are larger than subjects and noise can make them."""
        assert work.privacy is not None
        norm = plan.run.policy.clipping_threshold
        noise = Lattice.of(norm, work.privacy.mechanism.noise_multiplier, work.size).std
        largest = float(np.abs(update.vector).max(initial=0.0))
        if not largest <= norm * ROWS.most + _DEVIATIONS * noise:
            most = counted(ROWS.most, "subject")
            return f"its value {largest:g} is more than {most} and the noise can add up to"
        return None

    def rows(self, plan: RunPlan, update: Update) -> int | None:
        """Return None: round 0 has told them."""
        del plan, update
        return None

    def read(self, plan: RunPlan, state: State, gathered: Total | Moved) -> Taken:
        """Let the new leaves speak; evaluate where the round does."""
        assert isinstance(gathered, Total)
        work = self._work(plan, state)
        learner = PrivateLearner(work.classes, self.boosts)
        norm, noise = work.clipping_norm, work.privacy.mechanism.noise_multiplier
        several = math.sqrt(work.trees)
        lattice = Lattice.of(norm, noise, gathered.vector.size)
        deviation = several * math.sqrt(gathered.noise_count) * lattice.std
        sums = several * gathered.vector.reshape(learner.channels, work.trees, -1)
        settings = settings_of_trees(plan)
        rate = settings.learning_rate if isinstance(settings, BoostingSettings) else 1.0
        least = settings.min_rows_per_leaf * work.privacy.mechanism.sampling_rate
        read = read_leaves(learner, sums, deviation, least=least, rate=rate, begins=work.finished == 0)
        trees, leaves = work.model.trees, work.leaves
        trees = with_cover(trees.with_values(leaves, read.values), leaves, read.cover)
        # Sums that a hostile node has made large enough would else end the run at the next task.
        base = np.clip(work.model.base + read.shift, -LARGEST_BASE, LARGEST_BASE)
        model = replace(work.model, trees=trees, base=base)
        following = EVALUATE if evaluates(plan) else None
        return Taken(model.to_state(**{COVER: trees.cover}), following=following)

    def check(self, task: Task) -> None:
        """Refuse what no table could answer."""
        LeavesWork.of(task, boosts=self.boosts).check(task, boosts=self.boosts)

    def sensitivity(self, task: Task) -> float:
        """Return the clipping norm."""
        return LeavesWork.of(task, boosts=self.boosts).clipping_norm

    def least_rows(self, task: Task) -> int | None:
        """Return None: there is no plain answer."""
        del task
        return None

    def compute(self, table: Table, task: Task, memory: State, draws: Draws) -> Contribution:
        """Return the sums over the subjects that are not held out."""
        del memory
        work, scaling = LeavesWork.of(task, boosts=self.boosts), task.scaling
        assert scaling is not None
        rows, secret = table.training(), draws.secret()
        adding = LeafAnswer(work, scaling, rows.space, boosts=self.boosts)
        # Rows in memory are seen whole, so that their scores are held from one round to the next.
        # Others come here, for sampling is nobody else's: blocks that lie with workers are fetched.
        parts = [rows] if rows.space.is_memory else iter(rows.subject_blocks())
        steps = sum_parts(parts, lambda part: adding.steps(part, secret), np.add)
        guard = ClippedSum(work.clipping_norm, work.privacy.mechanism)
        return Contribution(adding.lattice.total(steps), work.privacy.weight, guard)

    def _work(self, plan: RunPlan, state: State) -> LeavesWork:
        made = plan.findings.plan
        assert made is not None
        classes, levels = len(classes_of(plan)), levels_of(plan.findings.encoding, len(plan.inputs))
        model = Model.of(state, levels, make_learner(classes, 0, boosts=self.boosts))
        nodes = max(1, len(plan.stated))
        drawing = Drawing(model.edges, levels, depth_of(plan, nodes), plan.run.seed)
        trees = drawing.added(model.trees, trees_of_round(plan))
        return LeavesWork(
            self.algorithm,
            classes,
            model.trees.count,
            plan.run.policy.clipping_threshold,
            privacy_of(made),
            replace(model, trees=trees),
        )
