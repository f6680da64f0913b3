"""What plain answers may be about: rules as hospitals know them from DataSHIELD, and the row sets that they
keep.

What always holds: whatever is added to and subtracted from plain answers about the same tables is about
groups of rows of at least min_rows subjects: a group are rows that were trained on, held out or left out
together in all answers. Names of rows and subjects are keyed hashes: what is stored tells nobody without the
key who took part.

The rules: smallest cell and largest share of parameters to rows after the DataSHIELD options nfilter.tab and
nfilter.glm (Gaye et al. 2014, "DataSHIELD: taking the analysis to the data, not the data to the analysis").
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heliosdb.algorithms.blockwise import sum_parts
from heliosdb.algorithms.space import AT_ONCE, MEMORY, Space, as_bytes, held, slices
from heliosdb.algorithms.table import Table
from heliosdb.domain import bounds
from heliosdb.domain.disclosure_rules import DEFAULT_RULES
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.state import size_of
from heliosdb.domain.task import Scaling, Task
from heliosdb.domain.vector import Vector
from heliosdb.domain.wording import counted

Hashes = NDArray[np.uint64]
Flags = NDArray[np.bool_]

ABSENT, HELD_OUT = 0, 2
"""Of a row beside a row set; see `RowSet.part_of`."""

ROW_SET_PURPOSE = b"row-set"
"""Of the keyed hashes that name rows and subjects in row sets."""

MOST_ROW_SETS = DEFAULT_RULES.max_row_sets
"""The largest max_row_sets: more would be an attempt to solve for single rows."""

SMALLEST_CELL = DEFAULT_RULES.min_cell
"""Of a feature: how many subjects must differ from its most frequent value, if any does, where the node's DBA
has not said it."""

_GLANCE = 1_000

LARGEST_VALUE = 1e150
"""Of a column: the square of a larger one is infinite."""
LEAST_CELL = 2.0**-30
"""Of a column's range: values closer to each other than this are one, beside a value so far away."""

LARGEST_ROOT_MEAN_SQUARE = math.sqrt(bounds.ROWS.most)
"""Of a scaled column about the scaling's mean; see `check_scaling`."""


def _refused(message: str, hint: str | None = None) -> FederatedError:
    return FederatedError(ErrorCode.NODE_REFUSED, message, hint=hint)


@dataclass(frozen=True, slots=True)
class RowSet:
    """Rows by keyed hash, rising; subjects: whose each is; held_out: whether it is held out. Shapes (n,)."""

    rows: Hashes
    subjects: Hashes
    held_out: Flags

    def to_bytes(self) -> bytes:
        """For the catalog."""
        return bytes(self.written(MEMORY))

    def written(self, space: Space) -> bytes:
        """The same, where there is room for it."""
        arrays = (self.rows.astype("<u8", copy=False), self.subjects.astype("<u8", copy=False))
        parts = (np.array([self.rows.size], dtype="<u8"), *arrays, np.packbits(self.held_out))
        made = space.empty(sum(part.nbytes for part in parts), np.uint8)
        start = 0
        for part in parts:
            made[start : start + part.nbytes] = part.view(np.uint8)
            start += part.nbytes
            space.rest(2 * part.nbytes)
        return as_bytes(made.data)

    @classmethod
    def from_bytes(cls, raw: bytes) -> RowSet:
        """Read what `to_bytes` wrote."""
        (n,) = struct.unpack_from("<Q", raw)
        rows = np.frombuffer(raw, dtype="<u8", count=n, offset=8)
        subjects = np.frombuffer(raw, dtype="<u8", count=n, offset=8 + 8 * n)
        packed = np.frombuffer(raw, dtype=np.uint8, offset=8 + 16 * n)
        return cls(rows, subjects, np.unpackbits(packed, count=n).astype(np.bool_))

    def without_held_out(self) -> RowSet:
        """The same rows, all trained on."""
        return RowSet(self.rows, self.subjects, np.zeros_like(self.held_out))

    def at(self, rows: slice) -> RowSet:
        """Return some of the rows."""
        return RowSet(self.rows[rows], self.subjects[rows], self.held_out[rows])

    def equals(self, other: RowSet) -> bool:
        """Whether both are the same rows, with the same ones held out."""
        return np.array_equal(self.rows, other.rows) and np.array_equal(self.held_out, other.held_out)

    def part_of(self, rows: Hashes) -> NDArray[np.int8]:
        """Say of each row whether it is not here (`ABSENT`), trained on (1) or held out (`HELD_OUT`).

        Rows that rise are found in a tenth of the time.
        """
        parts = np.full(rows.size, ABSENT, dtype=np.int8)
        for block in slices(rows.size if self.rows.size else 0):
            place = np.searchsorted(self.rows, rows[block])
            place[place == self.rows.size] = 0
            parts[block] = np.where(self.rows[place] == rows[block], 1 + self.held_out[place], ABSENT)
        return parts

    def holds(self, other: RowSet) -> bool:
        """Whether the other's rows are all here, with the same ones held out."""
        if self.rows.size < other.rows.size:
            return False
        for block in slices(other.rows.size):
            place = np.searchsorted(self.rows, other.rows[block])
            place[place == self.rows.size] = 0
            same = self.rows[place] == other.rows[block]
            if not bool((same & (self.held_out[place] == other.held_out[block])).all()):
                return False
        return True


def smallest_difference(row_sets: Sequence[RowSet]) -> int:
    """How many subjects the smallest group of rows has that no sum over these row sets and their parts tears
    apart: each sum that can be made of them, by adding and subtracting, is about whole such groups."""
    members: dict[bytes, list[Hashes]] = {}
    for some in _stretches(row_sets):
        rows, place = np.unique(np.concatenate([one.rows for one in some]), return_index=True)
        subjects = np.concatenate([one.subjects for one in some])[place]
        parts = np.stack([one.part_of(rows) for one in some], axis=1)
        kinds, group = _distinct_rows(parts)
        for number, kind in enumerate(kinds):
            members.setdefault(kind, []).append(subjects[group == number])
    sizes = []
    while members:
        sizes.append(_count_distinct(np.concatenate(members.popitem()[1])))
    return min(sizes, default=int(np.iinfo(np.int64).max))


def _stretches(row_sets: Sequence[RowSet]) -> Iterator[list[RowSet]]:
    """Cut row sets where the same hashes lie, so that of each a block at a time is looked at."""
    largest = max(row_sets, key=lambda one: one.rows.size)
    bounds = largest.rows[AT_ONCE::AT_ONCE]
    cuts = [[0, *np.searchsorted(one.rows, bounds).tolist(), one.rows.size] for one in row_sets]
    for place in range(len(bounds) + 1):
        yield [one.at(slice(*cut[place : place + 2])) for one, cut in zip(row_sets, cuts, strict=True)]


def _distinct_rows(parts: NDArray[np.int8]) -> tuple[list[bytes], NDArray[np.int64]]:
    """Return what different rows there are, and which of them each is."""
    numbers = np.zeros(parts.shape[0], dtype=np.int64)
    for column in parts.T:
        numbers = _renumbered(3 * numbers + column)
    some = np.zeros(int(numbers.max(initial=-1)) + 1, dtype=np.int64)
    some[numbers] = np.arange(numbers.size)
    return [parts[place].tobytes() for place in some.tolist()], numbers


def _renumbered(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number from 0 on what is there, in its order; numbers: at most a few times as large as there are."""
    places: NDArray[np.int64] = np.cumsum(np.bincount(numbers) > 0) - 1
    return places[numbers]


def _count_distinct(codes: NDArray[np.int64] | Hashes) -> int:
    """How many different numbers there are; by sorting: a hundredth of the time of numpy.unique."""
    ranked = np.sort(codes)
    return int(np.count_nonzero(ranked[1:] != ranked[:-1])) + min(1, ranked.size)


_FEW = (
    "The two answers together would tell of these few. Rows differ where this target is missing in a few of"
    " them, where validation_split is another one, or where data have changed. Let the dataset's WHERE leave"
    " out what is incomplete before the first answer; or train under a privacy_budget."
)
_FEW_WITHDRAWN = (
    " Where data subjects were erased or withdrew, the node's own DBA may let answers go on without them:"
    " SELECT federated_accept_withdrawals('...'), or the dataset's plain_withdrawals."
)
_FEWER_LEFT = (
    "An answer about the others would be about these few; the node's own DBA may set a lower min_rows for the"
    " dataset."
)


def choose_row_set(
    own: RowSet,
    earlier: Sequence[RowSet],
    min_rows: int,
    dataset: str,
    most: int = DEFAULT_RULES.max_row_sets,
) -> RowSet:
    """The rows that a plain answer is about: the table's, or those of an earlier answer where the table has
    just a few more; FederatedError NODE_REFUSED where neither will do.

    own: the rows that have a target. most: different row sets that there may be.
    """
    subjects = _count_distinct(own.subjects)
    if subjects < min_rows:
        # The number of rows is not named: it would be a release.
        raise _refused(f'dataset "{dataset}" has fewer than min_rows = {min_rows} rows with a target')
    found, held_out = own, _count_distinct(own.subjects[own.held_out])
    if min(held_out, subjects - held_out) < min_rows:
        own = own.without_held_out()
    if any(own.equals(other) for other in earlier):
        return own
    if smallest_difference([own, *earlier]) >= min_rows:
        check_row_sets(len(earlier) + 1, most, dataset)
        return own
    fitting = [other for other in earlier if own.holds(other)]
    if not fitting:
        if any(found.equals(other) for other in earlier):
            raise _refused(
                f'since data subjects of dataset "{dataset}" were withdrawn, fewer than min_rows = '
                f"{min_rows} are left of those held out, or of those trained on",
                _FEWER_LEFT,
            )
        raise _refused(
            f'the rows of dataset "{dataset}" differ by fewer than min_rows = {min_rows} subjects from those '
            "of an earlier answer without noise",
            _FEW + _FEW_WITHDRAWN,
        )
    return max(fitting, key=lambda other: other.rows.size)


def check_row_sets(number: int, most: int, dataset: str) -> None:
    """FederatedError NODE_REFUSED where plain answers were about, or would be, too many different rows."""
    if number > most:
        raise _refused(f'too many different rows of dataset "{dataset}" were asked for without noise')


def check_folds(sizes: NDArray[np.int64], min_rows: int, dataset: str) -> None:
    """FederatedError NODE_REFUSED where some fold has too few subjects: the runs of two folds differ by their
    subjects, and each is measured on those of one. sizes: subjects of each fold, (folds,)."""
    if int(sizes.min()) < min_rows:
        raise _refused(
            f'of dataset "{dataset}" one of {sizes.size} folds has fewer than min_rows = {min_rows} data '
            "subjects",
            "Use fewer folds; or a privacy_budget, under which folds may be small.",
        )


def check_known_by(known_by: tuple[str, ...], earlier: Sequence[tuple[str, ...]], dataset: str) -> None:
    """FederatedError NODE_REFUSED where earlier answers knew the table's rows by other columns: they cannot
    be compared."""
    if any(other != known_by for other in earlier):
        raise _refused(
            f'rows of dataset "{dataset}" cannot be compared with those of earlier answers without noise, '
            "which knew them by other columns",
            "Share the columns of the earlier dataset, of which a model may use a few. Where a table has a "
            "primary key before it is first shared, rows are known whatever is shared of them.",
        )


def check_cells(
    table: Table, columns: Iterable[tuple[str, Vector]], dataset: str, least: int = SMALLEST_CELL
) -> None:
    """FederatedError NODE_REFUSED for a column in which only a few subjects differ from all others: its sums
    and slopes would be about those few. A missing value is a value here; values count as equal where they are
    next to nothing apart beside the range of the column.

    columns: the name and the values of each, a value for each of the table's rows; gone over once. least: how
    many subjects are more than a few.
    """
    cells = Cells(table, least)
    for name, values in columns:
        if cells.few_differ(values):
            raise _refused(
                f'in column "{name}" of dataset "{dataset}" fewer than {least} data subjects '
                "differ from all others",
                "An answer without noise would be about these few. Leave the column out, or their rows "
                "by a view or predicate, or use a privacy_budget.",
            )


class Cells:
    """The rule of `check_cells` for one table. least: how many subjects are more than a few."""

    def __init__(self, table: Table, least: int) -> None:
        self._space, self._least = table.space, least
        # Of held-out rows no sum leaves that is of one feature.
        self._parts = []
        for rows in (None, ~table.held_out):
            subjects = table.subjects if rows is None else table.subjects[rows]
            self._parts.append((rows, subjects, np.unique(subjects[:_GLANCE], return_index=True)[1]))

    def few_differ(self, values: Vector) -> bool:
        """Whether only a few subjects differ from all others in a column, and any does; (n,)."""
        for rows, subjects, glance in self._parts:
            column = held(values, self._space, rows)
            if _differ_at_a_glance(column, column[glance], self._least):
                continue
            others = subjects[_differs(_cells(column))]
            if others.size and _are_few(others, self._least):
                return True
        return False


def _are_few(subjects: NDArray[np.int64], least: int) -> bool:
    """Whether so few differ; of many rows a few say that they do not."""
    glance = np.unique(subjects[:_GLANCE]).size
    return glance < least and np.unique(subjects).size < least


def _differ_at_a_glance(column: Vector, some: Vector, least: int = SMALLEST_CELL) -> bool:
    """Whether some of a column's values, each of another subject, tell already that `least` subjects differ
    from whatever value is the most frequent.

    Of what is farther apart than two cells no two are one value: so no value has as many of `some` as lie
    side by side and reach farther than that. Mostly spares sorting the column.
    """
    ranked = np.sort(some[~np.isnan(some)])
    most = some.size - least
    if most <= 0 or ranked.size < least:
        return False
    with np.errstate(over="ignore", invalid="ignore"):
        width = 2.0 * LEAST_CELL * (np.fmax.reduce(column) - np.fmin.reduce(column))
        return bool((ranked[most:] - ranked[: max(ranked.size - most, 0)] > width).all())


def _differs(cells: Vector) -> Flags:
    """Say of each row whether it has another value than most; a missing one is a value."""
    missing = np.isnan(cells)
    ranked = cells[~missing]
    ranked.sort()
    starts = np.flatnonzero(np.concatenate(([True], ranked[1:] != ranked[:-1]))) if ranked.size else None
    if starts is None:
        return ~missing
    lengths = np.diff(starts, append=ranked.size)
    longest = int(np.argmax(lengths))
    if int(missing.sum()) > lengths[longest]:
        return ~missing
    differs: Flags = cells != ranked[starts[longest]]
    return differs


def check_role_cells(
    table: Table, columns: Mapping[str, str], dataset: str, least: int = SMALLEST_CELL
) -> None:
    """FederatedError as `check_cells` raises it, for weights and offsets, which enter sums as features do, or
    where one subject's weight is more than one in `least` of all.

    The event is a part of the target. columns: the column of each role.
    """
    for role, values in table.roles.items():
        if role != "event":
            check_cells(table, [(columns[role], values)], dataset, least)
        if role == "weights":
            for rows in (table, table.training()):
                _check_share(rows, columns[role], dataset, least)


def _check_share(table: Table, column: str, dataset: str, least: int) -> None:
    whose = np.unique(table.subjects, return_inverse=True)[1]
    with np.errstate(over="ignore", invalid="ignore"):
        shares = np.bincount(whose, weights=np.abs(table.roles["weights"]))
        if shares.size and not least * float(shares.max()) <= float(shares.sum()):
            raise _refused(
                f'one data subject has more than a {least}th of the weights in column "{column}" of '
                f'dataset "{dataset}"',
                "Sums without noise would be about that one. Use other weights, or none.",
            )


def _cells(column: Vector) -> Vector:
    """The values to `LEAST_CELL` of the column's range, from its median on: what lies closer is one value."""
    there = column[np.isfinite(column)]
    if not there.size:
        return column
    least, most = float(there.min()), float(there.max())
    # Huge values are halved, so that no difference of two of them overflows.
    factor = 0.25 if max(-least, most) > 1e307 else 1.0
    there *= factor
    median = float(np.median(there, overwrite_input=True))
    del there
    cells: Vector = column * factor
    cells -= median
    width = LEAST_CELL * max(abs(least * factor - median), abs(most * factor - median))
    if width > 0.0:
        cells /= width
        np.rint(cells, out=cells)
    return cells


def check_plain_answer(
    task: Task, table: Table, max_parameter_share: float, dataset: str, parameters: int | None = None
) -> None:
    """FederatedError NODE_REFUSED where a plain answer over these rows would tell too much of one of them.

    parameters: of what is learned from the answer; None: as many as the task's state has numbers.
    """
    rows = table.training_rows
    parameters = max(task.n_inputs + 1, size_of(task.state) if parameters is None else parameters)
    if parameters > max_parameter_share * rows:
        raise _refused(
            f"the model has {counted(parameters, 'parameter')}, more than {max_parameter_share:.3g} per"
            f' row of dataset "{dataset}"',
            "Use a smaller model, more rows or a privacy_budget; or the node's own DBA raises the dataset's "
            "max_parameter_share.",
        )
    if task.scaling is not None:
        check_scaling(task.scaling, table, task.inputs)


def check_values(table: Table, features: Sequence[str], target: str, dataset: str) -> None:
    """FederatedError UPDATE_REJECTED that names the first column whose values are too large to compute with.

    For a plain answer that is not finite: under a budget nothing is said of what a row holds.
    """
    for name, column in ((target, table.target), *zip(features, table.features.T, strict=True)):
        if bool((np.abs(held(column, table.space)) > LARGEST_VALUE).any()):
            raise FederatedError(
                ErrorCode.UPDATE_REJECTED,
                f'the computation gave values that are not finite: column "{name}" of dataset "{dataset}" '
                f"holds values beyond {LARGEST_VALUE:g}",
                hint="Leave such rows out by the dataset's WHERE, or share the column in another unit.",
            )


def check_scaling(scaling: Scaling, table: Table, features: Sequence[str]) -> None:
    """FederatedError NODE_REFUSED for a scaling that cannot come from statistics these rows were a part of.

    With N rows in all, of which n are here, the pooled variance about the pooled mean is at least n/N of the
    mean square of the rows here about it, which bounds the root mean square of the scaled rows by sqrt(N/n).
    """
    means, scales = np.array(scaling.means), np.array(scaling.scales)

    def squares_of(rows: Table) -> Vector:
        there = np.isfinite(rows.features)
        with np.errstate(over="ignore", invalid="ignore"):
            squares = np.square((rows.features - means) / scales)
            return np.stack([np.where(there, squares, 0.0).sum(axis=0), there.sum(axis=0)])

    with np.errstate(over="ignore", invalid="ignore"):
        sums, counts = sum_parts(table.blocks("all"), squares_of, np.add)
    for name, total, count in zip(features, sums.tolist(), counts.tolist(), strict=True):
        spread = math.sqrt(total / count) if count else 0.0
        if spread > LARGEST_ROOT_MEAN_SQUARE:
            raise _refused(
                f'the scaling of column "{name}" is not that of data of which the node\'s rows are a part',
                "The scaling comes from the coordinator: ask who operates it.",
            )
