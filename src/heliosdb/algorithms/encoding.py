"""Columns become inputs: what every step but those that ask for the encoding itself computes on.

What always holds: without a smallest cell a row's inputs depend on that row and the encoding alone; a value
that has none is NaN, but for a text, whose NULL has no words. Where there is a smallest cell (answers without
noise), no input tells apart fewer subjects of a node than that by their level: values that so few have count
as one, whatever levels are asked; of a text, words that so few have do not count.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import cast

import numpy as np

from heliosdb.algorithms.neighbours import gather
from heliosdb.algorithms.parted import Parted
from heliosdb.algorithms.space import Space, rows_at_once, slices
from heliosdb.algorithms.table import Codes, Mask, RawColumn, Table, count_subjects
from heliosdb.domain.classes import BINARY_LABELS, class_number
from heliosdb.domain.encoding import ColumnEncoding, ColumnKind, Encoding
from heliosdb.domain.task import Task
from heliosdb.domain.vector import Matrix, Vector
from heliosdb.parts.algorithms import has_classes
from heliosdb.scoring.words import Bags


def task_classes(task: Task) -> tuple[str, ...]:
    """Return the labels of the target's classes that a task is about; () where it is about none."""
    if task.encoding is not None:
        return task.encoding.classes
    return task.reading.classes or (BINARY_LABELS if learns_classes(task) else ())


def learns_classes(task: Task) -> bool:
    """Whether what a task asks for is of a target that has classes, known ones or not."""
    work = task.work
    return has_classes(work.algorithm, work.settings) and work.settings.get("classes") != 0


def number_classes(
    target: Vector, classes: Sequence[str], otherwise: float, labels: Sequence[str] | None = None
) -> Vector:
    """Return the index of each row's class, `otherwise` for a value that is none, NaN for no value; (n,).

    labels: where the target is a category, see `Table`.
    """
    numbered = np.where(np.isnan(target), np.nan, otherwise)
    if labels is not None:
        places = {label: place for place, label in enumerate(labels)}
        for index, label in enumerate(classes):
            if label in places:
                numbered[target == places[label]] = index
        return numbered
    taken = np.zeros(target.shape, dtype=np.bool_)
    for values in (_as_double, _as_real):
        for index, label in enumerate(classes):
            number = values(label)
            if number is not None:
                found = (target == number) & ~taken
                numbered[found], taken = index, taken | found
    return numbered


def _as_double(label: str) -> float | None:
    return class_number(label)


def _as_real(label: str) -> float | None:
    """What a column of type real holds for a number that is not whole: the nearest one."""
    number = class_number(label)
    if number is None or number.is_integer() or abs(number) > 1e38:
        return None
    return float(struct.unpack("f", struct.pack("f", number))[0])


def encode(
    table: Table, encoding: Encoding, *, smallest_cell: int = 0, smallest_category: int | None = None
) -> Table:
    """Return the table with its columns' inputs as features, (n, inputs).

    smallest_cell: of how many subjects a group of neighbouring values, or a missing value that has an
    indicator, is at least; smallest_category: a level of a category, None: as many; 0: it does not matter.
    The target stays as it is: see `number_classes`.
    """
    raw = table.columns or (RawColumn(),) * len(encoding.columns)
    if all(_is_itself(column) for column in encoding.columns):
        return replace(table, columns=())
    cells = _Cells(table, smallest_cell, smallest_cell if smallest_category is None else smallest_category)
    if isinstance(table.features, Parted):
        if not smallest_cell:
            # Where rows lie: what is made of one may be thousands of numbers, which a task decides.
            made_there = table.features.map_rows(
                len(encoding.inputs), partial(_encode_rows, encoding=encoding, raw=raw)
            )
            return replace(table, features=cast(Matrix, made_there), columns=())
        return replace(
            table, features=_encode_parted(table, table.features, encoding, raw, cells), columns=()
        )
    made, start, place = table.space.empty((table.rows, len(encoding.inputs))), 0, 0
    for column, read in zip(encoding.columns, raw, strict=True):
        inputs = made[:, place : place + len(column.inputs)]
        _fill(inputs, table.features[:, start : start + read.width], read, column, cells)
        start, place = start + read.width, place + len(column.inputs)
    return replace(table, features=made, columns=())


def _encode_rows(features: Matrix, space: Space, *, encoding: Encoding, raw: Sequence[RawColumn]) -> Matrix:
    """The inputs of some rows, each by itself."""
    rows = len(features)
    subjects, nobody = np.zeros(rows, dtype=np.int64), np.zeros(rows, dtype=np.bool_)
    table = Table(features, np.zeros(rows), subjects, nobody, columns=tuple(raw), space=space)
    return encode(table, encoding).features


def _encode_parted(
    table: Table, features: Parted, encoding: Encoding, raw: Sequence[RawColumn], cells: _Cells
) -> Matrix:
    """Of rows that lie with workers: which levels may be told apart all rows decide, so the inputs of such a
    column are made here, and numbers stay where they are."""
    made, start = list[int | Matrix](), 0
    for column, read in zip(encoding.columns, raw, strict=True):
        if _is_itself(column):
            made.append(start)
        else:
            inputs = table.space.empty((table.rows, len(column.inputs)))
            _fill(inputs, features[:, start : start + read.width], read, column, cells)
            made.append(inputs)
        start += read.width
    return cast(Matrix, features.derive(made))


def _is_itself(column: ColumnEncoding) -> bool:
    is_number = column.kind is not ColumnKind.CATEGORY and not column.kind.is_several
    return column.form == "value" and is_number and not column.missing_indicator


class _Cells:
    """Which groups of rows are too small to be told apart, of all rows and of those trained on."""

    def __init__(self, table: Table, smallest: int, category: int) -> None:
        self._smallest, self._category, self._table = smallest, category, table
        self._parts: list[tuple[Mask | slice, Codes]] = [(slice(None), table.subjects)]
        if max(smallest, category) and table.held_out.any():
            trained = ~table.held_out
            self._parts.append((trained, table.subjects[trained]))

    def merged(self, groups: Codes) -> Codes:
        """Return the groups, numbers from 0 on, those that are too small as part of the largest."""
        few = self._in_few(groups, self._smallest)
        return np.where(few, int(np.argmax(np.bincount(groups))), groups) if few.any() else groups

    def told(self, values: Vector, places: Codes, column: ColumnEncoding) -> Codes:
        """Return the places of rows' levels, with those of values that too few have as one: further values
        where these are a level and there are enough of them, else what most rows are.

        Which values these are does not depend on the task: whatever levels it names, and whatever is
        subtracted of answers about others, is about values of enough subjects or about all the rest.
        """
        if not self._category or not values.size:
            return places
        own = np.unique(np.where(np.isfinite(values), values, np.nan), return_inverse=True)[1].astype(
            np.int64
        )
        few = self._in_few(own, self._category)
        if not few.any():
            return places
        are_several = column.other_level and not self._in_few(few.astype(np.int64), self._category)[few].any()
        if are_several or few.all():
            instead = len(column.level_names) - 1 if column.other_level else -1
        else:
            counts = np.bincount(own[~few])
            instead = int(places[int(np.argmax(own == np.argmax(counts)))])
        return np.where(few, instead, places)

    def gathered(self, values: Matrix) -> Matrix:
        """Return what the groups go by in which the values of one column may be told apart; (n, 1)."""
        if not self._smallest:
            return values
        return gather(values[:, 0], self._table, self._smallest)[:, np.newaxis]

    def hash_texts(self, inputs: Matrix, values: Vector, read: RawColumn) -> None:
        """Write texts' numbers, some rows at a time, without words that too few subjects have; NULL is a text
        without words."""
        assert read.bags is not None
        texts = np.where(np.isnan(values), -1, values).astype(np.int64)
        rare = self._rare_words(texts, read.bags) if self._category else None
        for block in slices(texts.size, rows_at_once(inputs.shape[1])):
            inputs[block] = read.bags.hashed(texts[block], inputs.shape[1], rare)
            self._table.space.rest(2 * inputs[block].nbytes)

    def _rare_words(self, texts: Codes, bags: Bags) -> Mask:
        """Say of each word whether too few subjects have it: a name, or what somebody could be found by.

        It does not depend on the task: into however many numbers words are hashed, and whatever is subtracted
        of answers about others, each is of words of enough subjects.
        """
        rare = np.zeros(len(bags.words), dtype=np.bool_)
        for rows, subjects in self._parts:
            own, whose = texts[rows], subjects
            there = np.flatnonzero(own >= 0)
            entries, owners = bags.entries_of(own[there])
            having = count_subjects(bags.places[entries].astype(np.int64), whose[there][owners], rare.size)
            rare |= having < self._category
        return rare

    def _in_few(self, groups: Codes, least: int) -> Mask:
        """Say of each row whether its group has fewer subjects than it has to have, and any."""
        counts = np.bincount(groups)
        small = np.zeros(counts.size, dtype=np.bool_)
        for rows, subjects in self._parts if least else []:
            having = count_subjects(groups[rows], subjects, counts.size)
            small |= (having > 0) & (having < least)
        few: Mask = small[groups]
        return few


def _fill(inputs: Matrix, values: Matrix, read: RawColumn, column: ColumnEncoding, cells: _Cells) -> None:
    """Write a column's inputs where they belong."""
    own = inputs[:, :-1] if column.missing_indicator else inputs
    if column.kind is ColumnKind.TEXT:
        cells.hash_texts(inputs, values[:, 0], read)
        return
    if column.kind is ColumnKind.CATEGORY:
        places = cells.told(values[:, 0], level_places(values[:, 0], read, column), column)
        _fill_levels(own, places, column)
        missing = places < 0
    else:
        if column.form == "bins":
            values = cells.gathered(values)
        _fill_numbers(own, values, column)
        # As scoring/rows.py says it: also where there is a value, and nothing that can be made of it.
        missing = _all_missing(own if own.shape[1] else values)
    if column.missing_indicator:
        inputs[:, -1] = cells.merged(missing.astype(np.int64))


def _fill_numbers(inputs: Matrix, values: Matrix, column: ColumnEncoding) -> None:
    if not column.kind.is_several:
        inputs[:] = _of_number(values, column)
        return
    # A row may be thousands of numbers, and there may be more rows than fit into memory.
    for block in slices(len(values), rows_at_once(column.elements)):
        inputs[block] = _of_elements(values[block], column.elements)


def _all_missing(values: Matrix) -> Mask:
    made = np.empty(len(values), dtype=np.bool_)
    for block in slices(len(values), rows_at_once(values.shape[1])):
        made[block] = np.all(~np.isfinite(values[block]), axis=1)
    return made


def _of_number(values: Matrix, column: ColumnEncoding) -> Matrix:
    there = np.where(np.isfinite(values), values, np.nan)
    if column.form == "log1p":
        # Of what is -1 or less there is no logarithm.
        return np.log1p(np.where(there > -1.0, there, np.nan))
    if column.form == "bins":
        above = (there > np.array(column.edges)).astype(np.float64)
        return np.where(np.isnan(there), np.nan, above)
    return values


def _of_elements(values: Matrix, elements: int) -> Matrix:
    """Return the elements of the arrays that have so many; of others none."""
    found = np.full((len(values), elements), np.nan)
    width = min(elements, values.shape[1] - 1)
    fits = values[:, 0] == elements
    found[fits, :width] = values[fits, 1 : 1 + width]
    return found


def _fill_levels(inputs: Matrix, places: Codes, column: ColumnEncoding) -> None:
    if column.form == "index":
        inputs[:, 0] = np.where(places < 0, np.nan, places)
        return
    inputs[:] = 0.0
    rows = np.flatnonzero(places > 0)
    inputs[rows, places[rows] - 1] = 1.0
    inputs[places < 0] = np.nan


def level_places(values: Vector, read: RawColumn, column: ColumnEncoding) -> Codes:
    """Return the place of each row's level among `level_names`, -1 where it has none; (n,).

    values: as `RawColumn.levels` says; of a number read as a category, the number itself.
    """
    count = len(column.levels)
    null = count if column.null_level else -1
    other = count + column.null_level if column.other_level else -1
    places = {level: place for place, level in enumerate(column.levels)}
    found = np.full(values.size, other, dtype=np.int64)
    if read.kind is ColumnKind.CATEGORY:
        # What has no place among the column's own values (-1) takes the last entry.
        own = np.array([*(places.get(level, other) for level in read.levels), other], dtype=np.int64)
        there = ~np.isnan(values)
        found[there] = own[values[there].astype(np.int64)]
        found[~there] = null
        return found
    there = np.isfinite(values)
    numbers = number_classes(values, column.levels, -1.0)
    named = there & (np.where(there, numbers, -1.0) >= 0)
    found[named] = numbers[named].astype(np.int64)
    found[~there] = null
    return found
