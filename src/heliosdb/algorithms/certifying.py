"""How much of a vote's accuracy is certified: once, over all nodes' held-out rows, how many hostile nodes
cannot have changed which prediction (Cao, Zhang, Jia and Gong 2022, "FLCert", section 3).

What always holds: nothing is trained. A node tells how many of its held-out rows are predicted right, and
wrong, by what is certified of them; a figure that is not of min_cell data subjects counts as a lower one, so
that what it tells is never more than what is so. The votes are computed from numbers that
were looked at as those of another organisation are (scoring/soundness.py).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NoReturn

import numpy as np
from numpy.typing import NDArray

from heliosdb.algorithms.measures import first_rows
from heliosdb.algorithms.steps import Algorithm, Asked, Cost, Draws, Step, Taken
from heliosdb.algorithms.table import Table
from heliosdb.domain.encoding import Encoding
from heliosdb.domain.errors import ErrorCode, FederatedError, invalid_value, not_supported
from heliosdb.domain.events import Ended
from heliosdb.domain.findings import Findings, RunPlan
from heliosdb.domain.ids import StepName
from heliosdb.domain.state import NO_STATE, State, freeze
from heliosdb.domain.task import Task, Work
from heliosdb.domain.update import Moved, Total, Update
from heliosdb.domain.vector import Contribution, Dtype, Plain, Vector
from heliosdb.domain.wording import counted
from heliosdb.scoring import votes
from heliosdb.scoring.ballot import Ballot
from heliosdb.scoring.soundness import check_version, find_fault

CERTIFY = StepName("certify")

CERTIFIED = "certified"
"""Under this name the counts stand in a report: `wrong` and `right`, each from 0 hostile nodes on."""

_CONTENT = "content"
"""The array of the state that is the vote's content, as JSON; all others are the models' numbers."""

MOST_CONTENT = 1 << 26
"""Bytes."""


@dataclass(frozen=True, slots=True)
class CertifyStep:
    """The one step of a run that measures a vote. ballot: of the run, where it is asked for."""

    ballot: Ballot | None = None
    name: StepName = CERTIFY
    required: bool = True
    gathers: Literal["sum"] = "sum"
    reads: Sequence[str] = ()
    moving: Sequence[str] = ()

    def ask(self, plan: RunPlan, state: State) -> Asked:
        """Ask for the counts."""
        del state
        ballot = _there(self.ballot)
        text = json.dumps(dict(ballot.prediction.content), allow_nan=False).encode()
        arrays = {**ballot.prediction.arrays, _CONTENT: np.frombuffer(text, dtype=np.uint8)}
        work = Work(plan.run.options.algorithm, self._size, settings={"classes": len(ballot.labels)})
        return Asked(work, state=freeze(arrays))

    @property
    def _size(self) -> int:
        return size_of_answer(len(_there(self.ballot).voting))

    def fault(self, plan: RunPlan, work: Work, update: Update) -> str | None:
        """Say what no rows can have led to."""
        del plan, work
        counts = update.vector.astype(np.float64)
        if bool(np.any((counts < 0.0) | (counts != np.rint(counts)))):
            return "its counts are no numbers of rows"
        if update.weight != max(1.0, float(counts.sum())):
            return f"its weight {update.weight:g} is not that of the rows that it counts"
        return None

    def rows(self, plan: RunPlan, update: Update) -> int | None:
        """Return None: these are the held-out ones only."""
        del plan, update
        return None

    def describe(self, plan: RunPlan, update: Update) -> Mapping[str, Any] | None:
        """Return the counts of one node, where rows of it are held out."""
        del plan
        counts = update.vector.astype(np.float64)
        return {CERTIFIED: _shown(counts)} if counts.any() else None

    def read(self, plan: RunPlan, state: State, gathered: Total | Moved) -> Taken:
        """Return the counts over all nodes: with them the run has done what it is for."""
        assert isinstance(gathered, Total)
        counts = np.rint(gathered.vector.astype(np.float64))
        rows = int(counts.sum())
        of = counted(gathered.nodes, "node")
        said = f"the votes were counted over {counted(rows, 'held-out row')} of {of}"
        findings = replace(plan.findings, ended=Ended(said, converged=False))
        return Taken(state, findings, report={CERTIFIED: _shown(counts)} if rows else {})

    def check(self, task: Task) -> None:
        """Refuse what no table could answer."""
        work = task.work
        if work.privacy is not None or task.budget is not None:
            raise not_supported("counting what is certified is not supported under a privacy_budget yet")
        content, arrays = read_vote(task)
        encoding = task.encoding
        if encoding is None:
            raise invalid_value("the task does not say how its rows are encoded")
        given = {**content, "kind": "votes", "classes": list(encoding.classes)}
        fault = find_fault(lambda: check_version(given, arrays, encoding))
        if fault is not None:
            raise invalid_value(f"the vote cannot be counted: {fault}")
        if set(work.settings) != {"classes"}:
            raise invalid_value("the task has other settings than the number of its classes")
        size = size_of_answer(len(content["voters"]))
        if work.dtype is not Dtype.FLOAT64 or work.size != size:
            raise invalid_value(f"the answer of so many models has {counted(size, 'value')} of float64")

    def least_rows(self, task: Task) -> int | None:
        """Return None: a part of the rows is told where it is of enough, see `lowered`."""
        del task
        return None

    def parameters(self, task: Task) -> int:
        """Return how many numbers an answer tells: what the state holds is of other rows."""
        return task.work.size

    def compute(self, table: Table, task: Task, memory: State, draws: Draws) -> Contribution:
        """Return the counts."""
        del memory, draws
        content, arrays = read_vote(task)
        rows, count = table.validation(), votes.prepare_counts(content, arrays)

        def measured(block: Table) -> NDArray[np.int64]:
            given = count(block.features)
            return np.stack([votes.certified(given, content["margin"]), votes.winners(given)])

        radii, named = np.concatenate(rows.by_rows(measured, _widest(content)), axis=1)
        vector = tell(rows, radii, named == rows.target, task.work.size // 2)
        return Contribution(vector, max(1.0, float(vector.sum())), Plain())


CERTIFY_STEP = CertifyStep()
"""As a node knows it."""


def size_of_answer(voters: int) -> int:
    """Return how many counts an answer has: of rows predicted wrong, then of those predicted right, for each
    number of hostile nodes up to half of the voters."""
    return 2 * (voters // 2 + 1)


def read_vote(task: Task) -> tuple[Mapping[str, Any], State]:
    """Return content and arrays of the vote that a task's state holds; FederatedError INVALID_VALUE."""
    written = task.state.get(_CONTENT)
    if written is None or written.dtype != np.uint8 or written.ndim != 1 or written.size > MOST_CONTENT:
        raise invalid_value("the task holds no vote")
    try:
        content = json.loads(written.tobytes())
    except (ValueError, RecursionError) as error:
        raise invalid_value("the task holds no vote") from error
    if not isinstance(content, dict) or not isinstance(content.get("voters"), list):
        raise invalid_value("the task holds no vote")
    return content, {name: array for name, array in task.state.items() if name != _CONTENT}


def _widest(content: Mapping[str, Any]) -> int:
    """How many numbers a row is at most, to one of the models or as a count of votes."""
    widths = [len(Encoding.from_json(voter["encoding"]).inputs) for voter in content["voters"]]
    return max(int(content["labels"]), *widths)


def tell(rows: Table, radii: NDArray[np.int64], right: NDArray[np.bool_], sizes: int) -> Vector:
    """Return the counts of rows that may leave; (2 * sizes,). radii: of each row how many hostile nodes are
    withstood, below sizes.

    Rows predicted right and rows predicted wrong are told apart: nothing else is known of both together. How
    many of either there are is told in any case, as an evaluation tells it.
    """
    firsts, told = first_rows(rows), np.zeros((2, sizes))
    # Of a subject that has several rows one counts, so that a figure is of no fewer subjects than it seems.
    for place, one in enumerate((~right, right)):
        counts = np.bincount(radii[one], minlength=sizes)
        subjects = np.bincount(radii[one & firsts], minlength=sizes)
        told[place] = lowered(counts.tolist(), subjects.tolist(), rows.min_cell)
    return told.ravel()


def lowered(counts: Sequence[int], subjects: Sequence[int], least: int) -> list[int]:
    """Return counts with the same sum, of which none is of anybody and of fewer than `least` subjects, but
    where all are so few: what is of too few counts as the figure below.

    Where that leaves too few at 0, it is said that they are `least`, and as many fewer above: which of the
    numbers from 1 to `least` it is does not show. Where that cannot be, all of the next figure count as 0.
    """
    told, held, having = [0] * len(counts), 0, 0
    for place in reversed(range(len(counts))):
        held, having = held + counts[place], having + subjects[place]
        if having >= least:
            told[place], held, having = held, 0, 0
    above = next((place for place, count in enumerate(told) if count), None)
    if not held or above is None:
        told[0] += held
        return told
    moved = least - held if held < least <= told[above] - (least - held) else told[above]
    told[above] -= moved
    told[0] = held + moved
    return told


def _shown(counts: Vector) -> dict[str, list[int]]:
    wrong, right = counts.reshape(2, -1).astype(np.int64).tolist()
    return {"wrong": wrong, "right": right}


def _there(ballot: Ballot | None) -> Ballot:
    if ballot is None:
        raise FederatedError(ErrorCode.INTERNAL, "a vote is asked about that nobody has held")
    return ballot


@dataclass(frozen=True, slots=True)
class Certifying:
    """What a run that measures a vote does in the place of its algorithm: one step in round 0."""

    learned: Algorithm
    step: CertifyStep = CERTIFY_STEP

    @property
    def name(self) -> str:
        """Of the algorithm that the groups train."""
        return self.learned.name

    @property
    def steps(self) -> Mapping[StepName, Step]:
        """The one."""
        return {CERTIFY: self.step}

    def prepare(self, plan: RunPlan) -> Findings:
        """Return how rows come to the models."""
        ballot = _there(self.step.ballot)
        return replace(plan.findings, encoding=replace(ballot.encoding, classes=ballot.labels))

    def begin(self, plan: RunPlan) -> State:
        """Return nothing: no round follows."""
        del plan
        return NO_STATE

    def first(self, plan: RunPlan) -> StepName:
        """Return the one step's name."""
        del plan
        return CERTIFY

    def releases(self, plan: RunPlan) -> Sequence[Cost]:
        """Return nothing: there are no such runs under a budget."""
        del plan
        return ()

    def predict(self, state: State, findings: Findings) -> NoReturn:
        """Raise: it leaves no model."""
        raise FederatedError(ErrorCode.INTERNAL, "a run that measures a vote leaves no model")
