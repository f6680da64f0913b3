"""Which levels categories have, how long arrays are, and which classes a target has: asked first of all in
round 0, where no catalog says it. Without a budget only: under one vocabulary.py asks.

What always holds: a node names no value that fewer than min_category of its data subjects have, and no
more values than the task asks for; the others are one number, and so are the rows without a value. What is of
fewer subjects counts with the value of most rows, so that no count falls short by these few. The answer is a
vector to be summed (sketch.py), so that the sum tells what is named anywhere, and not who named it. What it
leads to is the encoding that all further steps, and the prediction, read columns by.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from heliosdb.algorithms.classes import CLASSES
from heliosdb.algorithms.registry import check_classes, coding_of, learns_classes
from heliosdb.algorithms.sketch import CELL, HASHES, read_sketch, sketch
from heliosdb.algorithms.statistics import STATISTICS
from heliosdb.algorithms.steps import Asked, Draws, Taken
from heliosdb.algorithms.table import Codes, Mask, RawColumn, Table, count_subjects
from heliosdb.algorithms.value_texts import texts_of
from heliosdb.algorithms.vocabulary import VOCABULARY
from heliosdb.domain import bounds
from heliosdb.domain.bounds import Bounds
from heliosdb.domain.classes import MOST_CLASSES
from heliosdb.domain.contract import order_labels
from heliosdb.domain.encoding import ColumnEncoding, ColumnKind, Encoding
from heliosdb.domain.errors import invalid_value
from heliosdb.domain.findings import RunPlan
from heliosdb.domain.ids import StepName
from heliosdb.domain.settings import read_settings, settings_of, within
from heliosdb.domain.state import NO_STATE, State, make_state
from heliosdb.domain.task import Task, Work
from heliosdb.domain.update import Moved, Total, Update
from heliosdb.domain.vector import Contribution, Dtype, Plain, Vector
from heliosdb.domain.wording import counted

LEVELS = StepName("levels")

LEAST_SUBJECTS = 5
"""The fewest of a level that a task may ask for: as many as make the smallest cell, unless a node's DBA says
else."""

FEWEST_CELLS, MOST_CELLS = 96, 96 * 4**3
"""The first and the largest table of a column; each that cannot be read is followed by one of four times
the size."""

_UNREAD, _REST, _NULLS, _HEAD = range(4)


@dataclass(frozen=True, slots=True)
class LevelsWork:
    """What is asked: a table of so many cells for each column; labels: for the target too."""

    cells: int = within(Bounds(FEWEST_CELLS, MOST_CELLS))
    max_levels: int = within(Bounds(2, 1_000))
    min_level_count: int = within(Bounds(LEAST_SUBJECTS, 1_000_000))
    labels: bool = False

    @classmethod
    def of(cls, work: Work) -> LevelsWork:
        """Read the envelope."""
        found = read_settings(cls, work.settings, exact=True)
        if found.cells % HASHES:
            raise invalid_value("the cells of a table are a multiple of 3")
        return found

    def to_work(self, algorithm: str, columns: int) -> Work:
        """Write the envelope; columns: that are asked about."""
        return Work(algorithm, self.size(columns), settings=settings_of(self))

    @property
    def width(self) -> int:
        """Values of one column's part of an answer."""
        return _HEAD + self.cells * CELL

    def size(self, columns: int) -> int:
        """How many values an answer has."""
        return columns * self.width


@dataclass(frozen=True, slots=True)
class Named:
    """What is known of a column: its named values and their rows, the rows of others, those without one."""

    rows: Mapping[str, int]
    rest: int = 0
    nulls: int = 0


def wants_levels(plan: RunPlan) -> bool:
    """Whether round 0 begins with this step: where rows alone tell of levels, lengths or classes."""
    encoding = plan.findings.encoding
    if encoding is None or plan.run.policy.budget is not None:
        return False
    classless = learns_classes(plan) and not encoding.classes
    return classless or bool(_asked_columns(encoding))


def first_of_columns(plan: RunPlan) -> StepName:
    """Return the step with which round 0 of supervised learning begins, or goes on once bins are known."""
    if wants_levels(plan):
        return LEVELS
    made = plan.findings.plan
    if made is not None and made.levels_noise is not None:
        return VOCABULARY
    return STATISTICS if made is None or made.classes_noise is None else CLASSES


def _asked_columns(encoding: Encoding) -> list[int]:
    """The places of the features that only rows tell of."""
    return [
        place
        for place, column in enumerate(encoding.columns)
        if column.kind is ColumnKind.CATEGORY or column.kind.is_several
    ]


@dataclass(frozen=True, slots=True)
class LevelsStep:
    """The exchange, repeated with a larger table where that could not be read; following: what comes next."""

    algorithm: str
    name: StepName = LEVELS
    required: bool = True
    gathers: Literal["sum"] = "sum"
    reads: Sequence[str] = ()
    moving: Sequence[str] = ()
    reads_columns: bool = True
    following: StepName = STATISTICS
    streams: bool = False
    adds_blocks: bool = False

    def ask(self, plan: RunPlan, state: State) -> Asked:
        """Ask for the values of every column of which they are not known."""
        work = _work(plan, state)
        return Asked(work.to_work(self.algorithm, len(_names(plan.findings.encoding, work, ""))))

    def fault(self, plan: RunPlan, work: Work, update: Update) -> str | None:
        """Say what no rows can have led to."""
        asked = LevelsWork.of(work)
        names = _names(plan.findings.encoding, asked, plan.run.options.target)
        if not (bounds.ROWS.hold(update.weight) and update.weight.is_integer()):
            return f"its weight {update.weight:g} is no number of rows"
        for place, name in enumerate(names):
            part = update.vector[place * asked.width : (place + 1) * asked.width]
            fault = _part_fault(part, asked, place, update.weight)
            if fault is not None:
                return f"{fault} in column {name}"
        return None

    def rows(self, plan: RunPlan, update: Update) -> int | None:
        """Return the node's rows, as its answer states them."""
        del plan
        return max(0, round(update.weight))

    def read(self, plan: RunPlan, state: State, gathered: Total | Moved) -> Taken:
        """Make the encoding, or ask again with a larger table; FederatedError 22023 names the column of which
        nothing can be made."""
        assert isinstance(gathered, Total)
        work, encoding = _work(plan, state), plan.findings.encoding
        assert encoding is not None
        target = plan.run.options.target
        names = _names(encoding, work, target)
        found = []
        for place, name in enumerate(names):
            named = _read_part(gathered.vector[place * work.width : (place + 1) * work.width], work, place)
            if named is None:
                return _again(work, name, self.name)
            found.append(named)
        made = _encoded(encoding, found, work, self.algorithm)
        if work.labels:
            made = replace(made, classes=_find_classes(found[-1], target))
            check_classes(self.algorithm, made.classes)
        findings = replace(plan.findings, encoding=made)
        return Taken(NO_STATE, findings, following=self.following, notes=_notes(made))

    def check(self, task: Task) -> None:
        """Refuse what no table could answer."""
        work, encoding = LevelsWork.of(task.work), task.encoding
        if task.state != NO_STATE or task.scaling is not None:
            raise invalid_value("levels depend on no state and no scaling")
        if task.work.privacy is not None or task.budget is not None:
            raise invalid_value("levels are not asked for under a privacy budget: step vocabulary is")
        if encoding is None or len(encoding.columns) != len(task.reading.features):
            raise invalid_value("the task does not say how its columns are read")
        size = work.size(len(_names(encoding, work, task.reading.target)))
        if task.work.dtype is not Dtype.FLOAT64 or task.work.size != size or not size:
            raise invalid_value(
                f"the task asks for {counted(task.work.size, 'value')}, not {size} of float64"
            )

    def least_rows(self, task: Task) -> int | None:
        """Return None: every count is over all rows."""
        del task
        return None

    def compute(self, table: Table, task: Task, memory: State, draws: Draws) -> Contribution:
        """Return the node's values; FederatedError 22023 for arrays of differing lengths."""
        del memory, draws
        work, encoding = LevelsWork.of(task.work), task.encoding
        assert encoding is not None
        named = [*_of_features(table, encoding, work)]
        if work.labels:
            whole = replace(work, max_levels=MOST_CLASSES, min_level_count=LEAST_SUBJECTS)
            named.append(_count(texts_of(table.target, table.labels), table, whole))
        parts = [_write_part(one, work, place) for place, one in enumerate(named)]
        return Contribution(np.concatenate(parts), max(1.0, float(table.rows)), Plain())


def _work(plan: RunPlan, state: State) -> LevelsWork:
    given = plan.run.options.encoding_settings()
    encoding = plan.findings.encoding
    assert encoding is not None
    return LevelsWork(
        cells=int(state["cells"][0]) if state else FEWEST_CELLS,
        max_levels=given.max_levels,
        min_level_count=given.min_level_count,
        labels=learns_classes(plan) and not encoding.classes,
    )


def _names(encoding: Encoding | None, work: LevelsWork, target: str) -> list[str]:
    """The columns that are asked about, in order."""
    assert encoding is not None
    features = [encoding.columns[place].column for place in _asked_columns(encoding)]
    return [*features, *([target] if work.labels else [])]


# At a node.


def _of_features(table: Table, encoding: Encoding, work: LevelsWork) -> Iterator[Named]:
    raw = table.columns or (RawColumn(),) * len(encoding.columns)
    starts = np.cumsum([0, *(column.width for column in raw)])
    for place in _asked_columns(encoding):
        values, read = table.features[:, int(starts[place])], raw[place]
        if encoding.columns[place].kind.is_several:
            yield _one_length(values, encoding.columns[place].column, table, work)
        else:
            own = read.levels if read.kind is ColumnKind.CATEGORY else None
            yield _count(texts_of(values, own), table, work)


def _one_length(lengths: Vector, column: str, table: Table, work: LevelsWork) -> Named:
    there = np.unique(lengths[np.isfinite(lengths)])
    if there.size > 1 or bool((there < 1).any()):
        raise invalid_value(
            f'column "{column}" holds arrays of differing lengths, of none or of several dimensions',
            hint="An array is so many features: share one of a fixed length, such as a view makes.",
        )
    return _count(texts_of(lengths, None), table, work)


def _count(texts: tuple[Codes, list[str]], table: Table, work: LevelsWork) -> Named:
    """Name the values that enough subjects have, those of most rows first."""
    (codes, names), subjects = texts, table.subjects
    rows = np.bincount(codes + 2, minlength=len(names) + 2)
    having = count_subjects(codes + 2, subjects, len(names) + 2)[2:]
    # Others and those without a value are counts, and a level is both a count and a category.
    few = max(table.min_cell, table.min_category)
    least = max(work.min_level_count, few)
    enough = [place for place in range(len(names)) if having[place] >= least]
    enough.sort(key=lambda place: (-int(rows[place + 2]), names[place].encode()))
    chosen = enough[: work.max_levels]
    named = {names[place]: int(rows[place + 2]) for place in chosen}
    is_rest, is_null = (codes >= -1) & ~np.isin(codes, chosen), codes == -2
    rest, nulls = _if_enough(is_rest, subjects, few), _if_enough(is_null, subjects, few)
    untold = int((is_rest | is_null).sum()) - rest - nulls
    # The answer's weight is all rows: what is left of it by subtraction would be about these few.
    if chosen:
        named[names[chosen[0]]] += untold
    else:
        rest, nulls = rest + untold * bool(rest), nulls + untold * bool(nulls and not rest)
    return Named(named, rest, nulls)


def _if_enough(chosen: Mask, subjects: Codes, least: int) -> int:
    """How many rows these are, 0 where they are of too few subjects."""
    whose = subjects[chosen]
    # Of many rows a few say so.
    glance = np.unique(whose[: 100 * least]).size
    return int(whose.size) if glance >= least or np.unique(whose).size >= least else 0


def _write_part(named: Named, work: LevelsWork, salt: int) -> Vector:
    """One column's values; where its own table could not be read it is empty, and says so."""
    cells = sketch(named.rows, work.cells, salt)
    if read_sketch(cells, work.cells, salt) is None:
        return np.concatenate([[1.0, 0.0, 0.0], np.zeros(work.cells * CELL)])
    return np.concatenate([[0.0, float(named.rest), float(named.nulls)], cells])


# At the coordinator.


def _read_part(values: Vector, work: LevelsWork, salt: int) -> Named | None:
    rows = None if values[_UNREAD] else read_sketch(values[_HEAD:], work.cells, salt)
    return None if rows is None else Named(rows, int(values[_REST]), int(values[_NULLS]))


def _part_fault(values: Vector, work: LevelsWork, salt: int, rows: float) -> str | None:
    head = values[:_HEAD]
    counts = bool(np.all((head >= 0) & (head <= rows) & (head == np.rint(head))))
    if not counts or head[_UNREAD] > 1:
        return "a count of its rows is none"
    return _unread_fault(values, work) if head[_UNREAD] else _table_fault(values, work, salt, rows)


def _unread_fault(values: Vector, work: LevelsWork) -> str | None:
    if work.cells >= MOST_CELLS:
        # It has room for several times as many values as a node may name.
        return "it says that it cannot tell its values in the largest table"
    return "it tells of values that it says it cannot tell" if values[1:].any() else None


def _table_fault(values: Vector, work: LevelsWork, salt: int, rows: float) -> str | None:
    named = _read_part(values, work, salt)
    if named is None or len(named.rows) > max(work.max_levels, MOST_CLASSES if work.labels else 0):
        return "its table of values cannot be read"
    if not np.array_equal(sketch(named.rows, work.cells, salt), values[_HEAD:]):
        # Such as a value that is there a million times: the sum of all nodes' could not be read.
        return "its table of values is not what one node writes"
    if sum(named.rows.values()) + named.rest + named.nulls > rows:
        return f"it counts more than the {counted(rows, 'row')} that it states"
    return None


def _again(work: LevelsWork, column: str, name: StepName) -> Taken:
    if 4 * work.cells > MOST_CELLS:
        raise invalid_value(
            f'column "{column}" has too many different values at all nodes together',
            hint="Lower max_levels, raise min_level_count, or leave the column out.",
        )
    return Taken(make_state(cells=np.array([4 * work.cells], dtype=np.int64)), following=name)


def _encoded(encoding: Encoding, found: Sequence[Named], work: LevelsWork, algorithm: str) -> Encoding:
    columns = list(encoding.columns)
    for place, named in zip(_asked_columns(encoding), found, strict=False):
        if columns[place].kind.is_several:
            columns[place] = _with_length(columns[place], named)
        else:
            columns[place] = _with_levels(columns[place], named, work, algorithm)
    made = replace(encoding, columns=tuple(columns))
    if not made.inputs:
        raise invalid_value("every feature has the same value in every row of every node")
    return made


def _notes(encoding: Encoding) -> tuple[str, ...]:
    return tuple(
        f"{column.column} has the same value everywhere" for column in encoding.columns if not column.inputs
    )


def _with_length(column: ColumnEncoding, named: Named) -> ColumnEncoding:
    lengths = sorted(map(int, named.rows))
    if len(lengths) != 1 or named.rest:
        shown = ", ".join(map(str, lengths)) or "no one length"
        raise invalid_value(
            f'column "{column.column}" holds arrays of differing lengths at different nodes: {shown}'
        )
    return replace(column, elements=lengths[0])


def _with_levels(column: ColumnEncoding, named: Named, work: LevelsWork, algorithm: str) -> ColumnEncoding:
    ranked = sorted(named.rows, key=lambda level: (-named.rows[level], level.encode()))
    levels = tuple(sorted(ranked[: work.max_levels], key=str.encode))
    if not levels:
        sharers = counted(work.min_level_count, "data subject")
        raise invalid_value(
            f'feature "{column.column}" has no value that {sharers} of a node share',
            hint="Leave it out, or lower min_level_count where that is more than 5.",
        )
    return replace(
        column,
        form=coding_of(algorithm),
        levels=levels,
        null_level=named.nulls > 0,
        other_level=named.rest > 0 or len(ranked) > work.max_levels,
    )


def _find_classes(named: Named, target: str) -> tuple[str, ...]:
    if named.rest:
        raise invalid_value(
            f'the target "{target}" has more than {MOST_CLASSES:,} values, or some that too few data subjects'
            " of a node share",
            hint="target_classes names its classes; rows of others are left out by the dataset's WHERE.",
        )
    if not named.rows:
        raise invalid_value(f'the target "{target}" is NULL in every row of every node')
    if len(named.rows) == 1:
        raise invalid_value(
            "The target has the same value in every row of every node: there is nothing to learn."
        )
    return order_labels(named.rows)
