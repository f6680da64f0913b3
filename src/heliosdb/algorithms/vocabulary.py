"""Which levels categories have, under a budget: asked first of all in round 0, where no catalog says it.

What always holds: the answer is one clipped sum, to which the door adds noise as to every other; that is all
it costs, and names are read of the noised sum alone. A subject adds, of each column, the shares of its rows
that have a value, each times the value's codeword (codewords.py), and of those without one beside them. A
codeword's norm is 1, and so is that of NULL's coordinate; the shares add up to 1 or less; so the L2 norm is
at most 1 a column, and the root of their number of all. Shares are cut to whole steps of the lattice, never
rounded up, so that however many values a subject has they make it no longer. Which codeword a row's value
has is a function of that value.

How few subjects a level may be of is so decided by the noise, and by min_level_count on top of it; what is
not told counts as `other`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import NormalDist
from typing import ClassVar, Literal

import numpy as np

from heliosdb.algorithms.answers import noised_fault
from heliosdb.algorithms.blockwise import sum_parts
from heliosdb.algorithms.classes import CLASSES
from heliosdb.algorithms.codewords import MOST_BYTES, SIZE, part_of, sum_codewords
from heliosdb.algorithms.decoding import Read, faintest, read_texts
from heliosdb.algorithms.registry import coding_of
from heliosdb.algorithms.statistics import STATISTICS
from heliosdb.algorithms.steps import Asked, Cost, Draws, Taken
from heliosdb.algorithms.table import Codes, RawColumn, Table, group_by_subject, starts_of_runs
from heliosdb.algorithms.value_texts import texts_of
from heliosdb.algorithms.works import demand_no_settings, noise_of_sum, one_noise, privacy_of_sum
from heliosdb.domain.bounds import ROWS
from heliosdb.domain.encoding import ColumnEncoding, ColumnKind, Encoding
from heliosdb.domain.errors import invalid_value
from heliosdb.domain.findings import PrivacyPlan, RunPlan
from heliosdb.domain.ids import StepName
from heliosdb.domain.privacy import Mechanism, Noise
from heliosdb.domain.state import NO_STATE, State
from heliosdb.domain.task import Task, Work
from heliosdb.domain.update import Moved, Total, Update
from heliosdb.domain.vector import ClippedSum, Contribution, Dtype, Vector
from heliosdb.domain.wording import counted
from heliosdb.privacy.mechanisms import Integers, Lattice

VOCABULARY = StepName("vocabulary")

WIDTH = 1 + SIZE
"""Values of one column: the subjects' rows without a value, then a table of the others."""

_NULL = -2
"""The number of no value: see `texts_of`."""

_Steps = list[Counter[str | None]]
"""Of each column the lattice steps of each text's codeword; None: of NULL."""


def costs_of_levels(made: PrivacyPlan) -> list[Cost]:
    """Return what finding the levels costs a node; [] where they are known."""
    return [] if made.levels_noise is None else [Cost(VOCABULARY, Mechanism(made.levels_noise))]


@dataclass(frozen=True, slots=True)
class VocabularyStep:
    """The exchange with which round 0 begins where levels are not declared: under Gaussian noise also where
    the workspace's is another, since a codeword's L1 norm is large."""

    own_noise: ClassVar[Noise] = "gaussian"

    algorithm: str
    name: StepName = VOCABULARY
    required: bool = True
    gathers: Literal["sum"] = "sum"
    reads: Sequence[str] = ()
    moving: Sequence[str] = ()
    reads_columns: bool = True
    streams: bool = True
    adds_blocks: bool = True

    def ask(self, plan: RunPlan, state: State) -> Asked:
        """Ask for the noised sum of what the values of all columns of unknown levels say."""
        del state
        made, encoding = plan.findings.plan, plan.findings.encoding
        assert made is not None
        assert encoding is not None
        size = len(encoding.unnamed) * WIDTH
        return Asked(Work(self.algorithm, size, privacy=privacy_of_sum(made.levels_noise)))

    def fault(self, plan: RunPlan, work: Work, update: Update) -> str | None:
        """Say what no rows can have led to."""
        del plan
        noise = one_noise(work)
        assert noise is not None
        return noised_fault(update.vector, ROWS.most, noise * math.sqrt(work.size / WIDTH))

    def rows(self, plan: RunPlan, update: Update) -> int | None:
        """Return None: the statistics tell them, with less noise."""
        del plan, update
        return None

    def read(self, plan: RunPlan, state: State, gathered: Total | Moved) -> Taken:
        """Make the encoding; FederatedError 22023 names a column of which no level stands out of the
        noise."""
        del state
        assert isinstance(gathered, Total)
        made, encoding = plan.findings.plan, plan.findings.encoding
        assert made is not None
        assert made.levels_noise is not None
        assert encoding is not None
        columns, notes = list(encoding.columns), list[str]()
        deviation = _lattice(len(encoding.unnamed), made.levels_noise).std_of_sum(gathered.noise_variance)
        for number, place in enumerate(encoding.unnamed):
            part = gathered.vector[number * WIDTH : (number + 1) * WIDTH]
            columns[place], note = _with_levels(columns[place], part, deviation, plan)
            notes.append(note)
        found = replace(plan.findings, encoding=replace(encoding, columns=tuple(columns)))
        following = STATISTICS if made.classes_noise is None else CLASSES
        return Taken(NO_STATE, found, following=following, notes=notes)

    def check(self, task: Task) -> None:
        """Refuse what no table could answer."""
        if task.state != NO_STATE or task.scaling is not None:
            raise invalid_value("levels depend on no state and no scaling")
        noise, encoding = one_noise(task.work), task.encoding
        if noise is None:
            raise invalid_value("a vocabulary is noised: without a privacy budget step levels is asked")
        if noise_of_sum(task.work) != "gaussian":
            raise invalid_value("levels are found under Gaussian noise alone")
        demand_no_settings(task.work)
        if encoding is None or len(encoding.columns) != len(task.reading.features):
            raise invalid_value("the task does not say how its columns are read")
        named = [encoding.columns[place].column for place in encoding.unnamed]
        if len(set(named)) < len(named):
            # What the values of one column take in memory would be as many times that as a task likes.
            raise invalid_value("the levels of a column are asked for twice")
        size = len(named) * WIDTH
        if task.work.dtype is not Dtype.FLOAT64 or task.work.size != size or not size:
            raise invalid_value(
                f"the task asks for {counted(task.work.size, 'value')}, not {size} of float64"
            )
        _lattice(len(encoding.unnamed), noise)

    def sensitivity(self, task: Task) -> float:
        """Return the L2 norm of the most that a subject adds."""
        return _sensitivity(task.work.size // WIDTH)

    def least_rows(self, task: Task) -> int | None:
        """Return None: every sum is over all rows."""
        del task
        return None

    def compute(self, table: Table, task: Task, memory: State, draws: Draws) -> Contribution:
        """Return the node's sum."""
        del memory, draws
        noise, encoding = one_noise(task.work), task.encoding
        assert noise is not None
        assert encoding is not None
        lattice = _lattice(len(encoding.unnamed), noise)
        steps_of = partial(column_steps, encoding=encoding, step=lattice.step)
        found = sum_parts(table.subject_blocks(), steps_of, _added)
        total = lattice.total(np.concatenate([_summed(one) for one in found]))
        return Contribution(total, 1.0, ClippedSum(_sensitivity(len(found)), Mechanism(noise)))


def _sensitivity(columns: int) -> float:
    return math.sqrt(columns)


def _lattice(columns: int, noise: float) -> Lattice:
    return Lattice.of(_sensitivity(columns), noise, columns * WIDTH)


# At a node.


def column_steps(table: Table, encoding: Encoding, step: float) -> _Steps:
    """Return the lattice steps that some subjects, each with all of its rows, add to each text."""
    raw = table.columns or (RawColumn(),) * len(encoding.columns)
    starts = np.cumsum([0, *(column.width for column in raw)])
    found = []
    for place in encoding.unnamed:
        values, read = table.features[:, int(starts[place])], raw[place]
        own = read.levels if read.kind is ColumnKind.CATEGORY else None
        codes, texts = texts_of(values, own)
        # Of all values of the dataset some are in these rows.
        there, numbers = np.unique(codes, return_inverse=True)
        names = [texts[code] if code >= 0 else None for code in there.tolist()]
        units = np.array([_unit(name, code) for name, code in zip(names, there.tolist(), strict=True)])
        steps = _steps(numbers.astype(np.int64), table.subjects, units / step)
        pairs = zip(names, steps.tolist(), strict=True)
        found.append(Counter[str | None]({name: count for name, count in pairs if count}))
    return found


def _unit(text: str | None, code: int) -> float:
    """The size of each value of what a row's value adds: of NULL's coordinate, of a text's codeword, 0 for
    what has none. code: as `texts_of` has it."""
    if text is None:
        return float(code == _NULL)
    raw = text.encode(errors="replace")
    return 0.0 if len(raw) > MOST_BYTES or b"\0" in raw else 1.0 / math.sqrt(part_of(raw).values)


def _steps(numbers: Codes, subjects: Codes, units: Vector) -> Integers:
    """Sum the subjects' shares of rows of each number, each cut to whole steps; (n,), (n,), (numbers,) →
    (numbers,)."""
    grouping = group_by_subject(subjects)
    if grouping.order is None:
        return np.bincount(numbers, minlength=units.size) * np.floor(units).astype(np.int64)
    whose = np.repeat(np.arange(grouping.subjects), grouping.sizes)
    pairs = np.sort(whose * units.size + numbers[grouping.order])
    starts = starts_of_runs(pairs)
    counts = np.diff(starts, append=pairs.size)
    subject, number = np.divmod(pairs[starts], units.size)
    shares = np.floor(counts / grouping.sizes[subject] * units[number]).astype(np.int64)
    total = np.zeros(units.size, dtype=np.int64)
    np.add.at(total, number, shares)
    return total


def _added(one: _Steps, other: _Steps) -> _Steps:
    for mine, further in zip(one, other, strict=True):
        mine.update(further)
    return one


def _summed(steps: Counter[str | None]) -> Integers:
    nulls = steps.pop(None, 0)
    texts = [text.encode(errors="replace") for text in steps if text is not None]
    times = np.fromiter(steps.values(), dtype=np.int64, count=len(texts))
    return np.concatenate([np.array([nulls], dtype=np.int64), sum_codewords(texts, times)])


# At the coordinator.


def _with_levels(
    column: ColumnEncoding, part: Vector, deviation: float, plan: RunPlan
) -> tuple[ColumnEncoding, str]:
    given, budget = plan.run.options.encoding_settings(), plan.run.policy.budget
    assert budget is not None
    assert plan.findings.encoding is not None
    # So that of a level that fewer have, one subject's among them, the chance to be told is below delta.
    beyond = -NormalDist().inv_cdf(min(0.5, budget.delta))

    def has_enough(count: float, error: float) -> bool:
        return count >= given.min_level_count + beyond * error

    tables = len(plan.findings.encoding.unnamed)
    read = [one for one in read_texts(part[1:], deviation, tables) if has_enough(one.count, one.error)]
    faint = max(given.min_level_count + beyond * deviation, faintest(deviation, tables))
    if not read:
        raise invalid_value(
            f'no level of feature "{column.column}" stands out of the privacy noise: one of 8 letters'
            f" shows from about {faint:.0f} data subjects on",
            hint="Let each node's own DBA declare the levels, by an enum or a CHECK, which costs nothing;"
            " leave the feature out; or raise the privacy budget.",
        )
    levels = _chosen(read, given.max_levels)
    made = replace(
        column,
        form=coding_of(plan.run.options.algorithm),
        levels=levels,
        null_level=has_enough(float(part[0]), deviation),
        other_level=True,
    )
    return made, (
        f"{counted(len(levels), 'level')} of {column.column} found under the privacy budget; one of 8 letters"
        f" shows from about {faint:.0f} data subjects on"
    )


def _chosen(read: Sequence[Read], most: int) -> tuple[str, ...]:
    return tuple(sorted((one.text for one in read[:most]), key=str.encode))
