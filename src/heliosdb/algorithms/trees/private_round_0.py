"""Round 0 of trees under a privacy budget: the exchanges of the linear models, and a word on how deep trees
will be.

What always holds: as of `StatisticsStep` and `RefineStep`; what is added is said of released numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from heliosdb.algorithms.refinement import RefineStep
from heliosdb.algorithms.steps import Taken
from heliosdb.algorithms.trees.private_work import depth_of, rows_to_noise, settings_of_trees
from heliosdb.domain.findings import RunPlan
from heliosdb.domain.state import State
from heliosdb.domain.update import Moved, Total
from heliosdb.domain.wording import counted

_FEW = 4.0
"""Subjects for one of the noise's deviation with which trees are of little use."""


@dataclass(frozen=True, slots=True)
class TreeRefineStep(RefineStep):
    """One closer look."""

    def read(self, plan: RunPlan, state: State, gathered: Total | Moved) -> Taken:
        """As `RefineStep.read`."""
        assert isinstance(gathered, Total)
        return with_depth(plan, RefineStep.read(self, plan, state, gathered), gathered.nodes)


def with_depth(plan: RunPlan, taken: Taken, nodes: int) -> Taken:
    """Return what round 0 ends with, and what noise makes of the trees' depth; what goes on as it is."""
    if taken.following is not None or taken.findings is None:
        return taken
    planned = replace(plan, findings=taken.findings)
    depth, asked = depth_of(planned, nodes), settings_of_trees(plan).max_depth
    held = rows_to_noise(planned, nodes)
    notes = list(taken.notes)
    if depth < asked:
        notes.append(
            f"trees are {counted(depth, 'level')} deep, not {asked}: deeper leaves would hold too few data"
            " subjects beside their noise"
        )
    if held < _FEW:
        notes.append(
            f"all data subjects are {held:.2g} times a leaf's noise: fewer trees, fewer rounds or a larger"
            " privacy_budget would leave more of a model"
        )
    return replace(taken, notes=tuple(notes))
