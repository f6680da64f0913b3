"""The first step of round 0 where features are an image or series: arrays are as long as the options say.

What always holds: a node whose images are of another size answers nothing, and says of how many rows that
is so, or that they are few: never how long one is, nor what is in it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from heliosdb.algorithms.levels import LevelsStep
from heliosdb.algorithms.steps import Draws
from heliosdb.algorithms.table import RawColumn, Table, count_subjects
from heliosdb.domain.encoding import ColumnEncoding, ColumnKind
from heliosdb.domain.errors import invalid_value
from heliosdb.domain.state import State
from heliosdb.domain.task import Task
from heliosdb.domain.vector import Contribution
from heliosdb.domain.wording import counted


@dataclass(frozen=True, slots=True)
class ImageLevelsStep(LevelsStep):
    """As the step that it is, once images and series are of their length."""

    def compute(self, table: Table, task: Task, memory: State, draws: Draws) -> Contribution:
        """See `LevelsStep.compute`; FederatedError 22023 for arrays of another length than the task says."""
        raw, start = table.columns, 0
        columns = () if task.encoding is None else task.encoding.columns
        for column, read in zip(columns, raw or (RawColumn(),) * len(columns), strict=True):
            if column.kind.is_several and column.elements > 1:
                _check_lengths(table, start, column)
            start += read.width
        return LevelsStep.compute(self, table, task, memory, draws)


def _check_lengths(table: Table, place: int, column: ColumnEncoding) -> None:
    lengths = np.asarray(table.features[:, place])
    wrong = np.isfinite(lengths) & (lengths != column.elements)
    if not wrong.any():
        return
    whose = table.subjects[wrong]
    subjects = int(count_subjects(np.zeros(whose.size, dtype=np.int64), whose, 1)[0])
    several = subjects >= max(table.min_cell, table.min_category)
    rows = counted(int(wrong.sum()), "row") if several else "a few rows"
    if column.kind is ColumnKind.IMAGE:
        channels, height, width = column.shape
        raise invalid_value(
            f'column "{column.column}" holds what is no image of {counted(channels, "channel")},'
            f" {height} high and {width} wide, in {rows}",
            hint="An image is a PNG, JPEG, TIFF or DICOM file of that size; nothing is resized. docs/data.md"
            " says which are read, and federated_predict of a single one what is wrong with it.",
        )
    raise invalid_value(
        f'column "{column.column}" holds arrays of another length than {column.elements} in {rows}',
        hint="input_shape says it: of an image channels, height and width, of series length and channels."
        " Share arrays of one length, such as a view makes; an element that is NULL is missing.",
    )
