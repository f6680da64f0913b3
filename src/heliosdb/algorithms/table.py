"""The rows a node computes on: numbers, grouped by data subject, part of them held out.

A table as it was read has a dataset's columns (`columns`, `labels`); encoded (encoding.py), a model's inputs.

What always holds: a row has a target; a subject is held out as a whole; which subjects are held out depends
on a secret of the node and the subject alone, so it is the same in every task, and nobody without it can
tell. Values that are NULL or not finite count as missing (NaN).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from heliosdb.algorithms.parted import Parted, Rows
from heliosdb.algorithms.space import MEMORY, Space, gather, keep, rows_at_once, slices
from heliosdb.domain.disclosure_rules import DEFAULT_RULES
from heliosdb.domain.encoding import ColumnKind
from heliosdb.domain.vector import Matrix, Vector
from heliosdb.scoring.words import Bags

Codes = NDArray[np.int64]
Hashes = NDArray[np.uint64]
Mask = NDArray[np.bool_]
T = TypeVar("T")

HELD_OUT_PURPOSE = b"held-out"
"""Of the keyed hashes by which held-out subjects are chosen."""

BLOCK = 1 << 14
"""Rows of which a sum is a part of a larger one: parts are added in their order. Of every table the same,
wherever it lies, so that its sums are."""


def _no_codes() -> Codes:
    return np.empty(0, dtype=np.int64)


def _no_hashes() -> Hashes:
    return np.empty(0, dtype=np.uint64)


@dataclass(frozen=True, slots=True)
class RawColumn:
    """How one column of a dataset stands among the numbers of a table as it was read.

    width: how many numbers a row has of it: 1, and of an array its length, then so many elements (NaN where
    there is none). levels: of a category, in the order of their bytes; its number is the place of the value
    here, -1 for a value that is not, NaN for NULL. bags: of a text; its number is the place of the text
    there, NaN for NULL.
    """

    kind: ColumnKind = ColumnKind.NUMBER
    width: int = 1
    levels: tuple[str, ...] = ()
    bags: Bags | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """n rows of d features. Make one with `from_rows`, which leaves out the rows without a target.

    features: (n, d) float64, NaN = missing. target: (n,) float64, finite. subjects: (n,) codes ≥ 0, equal
    for the rows of one subject (the row's number where the dataset names no subject). held_out: (n,) bool.
    others: (m,) the subjects of further rows, one code a row, which have a target that is none of its
    classes; nothing else is known of them, and no part of the table has them. columns: how the dataset's
    columns stand in `features`, in order; () where each is one number. labels: where the target is a
    category, as `RawColumn.levels`. min_rows: of the node's dataset: no number of a plain answer that
    partitions rows is about fewer data subjects. min_cell, min_category: of how many a count of a part of the
    rows, and a level of a category, is at least, where an answer has no noise. roles: by role the values of a
    further column, (n,) finite float64, such as weights. codes: of each row its subject's code as the
    database gives it, (n,), or () where the dataset names no subject. explains: whose rows may be explained,
    (n,); None: everybody's. places: of each row where its subject stands in the order in which subjects are
    held out (`places_of`), (n,), or () where nobody is. space: where the rows lie, and what is made of them
    belongs.
    """

    features: Matrix
    target: Vector
    subjects: Codes
    held_out: Mask
    others: Codes = field(default_factory=_no_codes)
    min_rows: int = 1
    min_cell: int = DEFAULT_RULES.min_cell
    min_category: int = DEFAULT_RULES.min_category
    columns: tuple[RawColumn, ...] = ()
    labels: tuple[str, ...] | None = None
    roles: Mapping[str, Vector] = field(default_factory=dict)
    codes: Codes = field(default_factory=_no_codes)
    explains: Mask | None = None
    places: Hashes = field(default_factory=_no_hashes)
    space: Space = field(default=MEMORY, compare=False)

    @classmethod
    def from_rows(
        cls, features: Matrix, target: Vector, subjects: Codes, held_out: Mask, others: Codes | None = None
    ) -> Table:
        """Make a table of the rows whose target is there."""
        there = np.isfinite(target)
        table = cls(features, target, subjects, held_out)
        table = table if bool(there.all()) else table.where(there)
        return table if others is None else replace(table, others=others)

    @property
    def rows(self) -> int:
        """Number of rows."""
        return int(self.target.size)

    @property
    def training_rows(self) -> int:
        """Number of rows that are not held out."""
        return self.rows - int(np.count_nonzero(self.held_out))

    def training(self) -> Table:
        """Return the rows of the subjects that are not held out."""
        return self.where(~self.held_out) if self.held_out.any() else self

    def validation(self) -> Table:
        """Return the rows of the held-out subjects."""
        return self.where(self.held_out)

    def where(self, mask: Mask) -> Table:
        """Return the rows of a mask, (n,), without `others`; all of them are not copied."""
        if mask.all():
            return replace(self, others=_no_codes())
        return self._each(lambda array: keep(array, mask, self.space))

    def at(self, rows: slice | Codes) -> Table:
        """Return some rows, without `others`, in memory: of a slice what is there already."""
        if isinstance(rows, slice):
            return replace(self._each(lambda array: array[rows]), space=MEMORY)
        return replace(self._each(lambda array: gather(array, rows, self.space)), space=MEMORY)

    def _each(self, chosen: Callable[[NDArray[Any]], NDArray[Any]]) -> Table:
        return replace(
            self,
            features=chosen(self.features),
            target=chosen(self.target),
            subjects=chosen(self.subjects),
            held_out=chosen(self.held_out),
            others=_no_codes(),
            roles={role: chosen(column) for role, column in self.roles.items()},
            codes=chosen(self.codes) if self.codes.size else self.codes,
            explains=None if self.explains is None else chosen(self.explains),
            places=chosen(self.places) if self.places.size else self.places,
        )

    def training_blocks(self, size: int = BLOCK) -> Iterable[Table]:
        """Return the rows that are not held out in blocks of so many, but for the last; one for no rows."""
        return self.blocks("training", size)

    def validation_blocks(self, size: int = BLOCK) -> Iterable[Table]:
        """Return the rows that are held out, in the same way."""
        return self.blocks("validation", size)

    def blocks(self, rows: Rows, size: int = BLOCK) -> Iterable[Table]:
        """Return some of the rows, in the same way."""
        return PartedBlocks(self, rows, size) if self.is_parted else self._cut(rows, size)

    def _cut(self, rows: Rows, size: int) -> Iterator[Table]:
        places = self.where_are(rows)
        count = self.rows if places is None else places.size
        for block in slices(max(1, count), size):
            found = self.at(block if places is None else places[block])
            yield found
            self.space.rest(found.features.nbytes + 3 * found.target.nbytes)

    def where_are(self, rows: Rows) -> Codes | None:
        """Say where some of the rows are; None where they are all."""
        if rows == "all":
            return None
        mask = self.held_out if rows == "validation" else ~self.held_out
        return None if bool(mask.all()) else np.flatnonzero(mask)

    def subject_blocks(self, size: int | None = None) -> Iterable[Table]:
        """Return the rows in blocks of whole subjects, of at least so many rows but the last; one for none.

        size: None for as many as take about the same memory, however many inputs a row has. The rows of a
        subject are adjacent, as in every table that a node reads; of one whose are not all come as one block.
        A block has no bound, for one subject's rows have none: what is made of it in a row's width is made
        block by block again (`by_rows`).
        """
        rows = rows_at_once(self.features.shape[1]) if size is None else size
        return PartedBlocks(self, None, rows) if self.is_parted else self._cut_subjects(rows)

    def by_rows(self, of: Callable[[Table], T], width: int = 0) -> list[T]:
        """Return what some rows at a time give, in their order, once for no rows.

        width: how many numbers a row takes meanwhile, where these are more than its inputs.
        """
        size = rows_at_once(max(width, self.features.shape[1]))
        return [of(self.at(block)) for block in slices(max(1, self.rows), size)]

    def _cut_subjects(self, size: int) -> Iterator[Table]:
        start = 0
        rising = bool(np.all(self.subjects[1:] >= self.subjects[:-1]))
        while start < self.rows and rising:
            stop = min(start + size, self.rows)
            stop = int(np.searchsorted(self.subjects, self.subjects[stop - 1], side="right"))
            yield self.at(slice(start, stop))
            self.space.rest((stop - start) * (self.features.shape[1] + 3) * 8)
            start = stop
        if not self.rows or not rising:
            yield self

    @property
    def is_parted(self) -> bool:
        """Whether its features lie with the workers of an engine."""
        return isinstance(self.features, Parted)


@dataclass(frozen=True, slots=True)
class PartedBlocks:
    """Blocks of a table whose features lie with workers: of some of its rows, or of whole subjects (None)."""

    table: Table
    rows: Rows | None
    size: int

    def __iter__(self) -> Iterator[Table]:
        """Yield the blocks, fetched."""
        return self.map(_itself)

    def map(self, of: Callable[[Table], T]) -> Iterator[T]:
        """Yield what each block gives, computed where its rows are; in their order."""
        features = self.table.features
        assert isinstance(features, Parted)
        if self.rows is None:
            return features.map_subjects(self.table, self.size, of)
        return features.map_blocks(self.table, self.rows, self.size, of)


def _itself(table: Table) -> Table:
    return table


@dataclass(frozen=True, slots=True)
class Grouping:
    """Rows by subject: `order` sorts the rows so that a subject's are adjacent, subject i's begin at
    `starts[i]`.

    order: (n,), None where each row is a subject of its own. starts, sizes: (s,).
    """

    order: Codes | None
    starts: Codes
    sizes: Codes

    @property
    def subjects(self) -> int:
        """Number of subjects that have rows."""
        return int(self.starts.size)

    def means(self, values: Matrix, bound: float) -> Matrix:
        """Return each subject's means of the rows' values, cut to ±bound, a power of two; (v, n) → (v, s).

        A subject's sum is exact (to 2^-33 of the bound a row, for up to 2^29 rows), so that it depends
        neither on the rows' order nor on anybody else's. Nor does it tell whether others have one row each.
        """
        quantum = bound * 2.0**-33
        units = np.maximum(values, -bound)
        np.minimum(units, bound, out=units)
        units *= 1.0 / quantum
        np.rint(units, out=units)
        if self.order is None:
            units *= quantum
            return units
        ranked = units.take(self.order, axis=1).astype(np.int64)
        return sums_of_runs(ranked, self.starts + self.sizes - 1) * quantum / self.sizes


def sums_of_runs(values: NDArray[np.int64], ends: Codes) -> NDArray[np.int64]:
    """Sum runs of adjacent columns, the i-th of which ends with column ends[i]; (k, n), (s,) → (k, s).

    Exact wherever a run's own sum fits into 64 bits: what wraps around in the running sum does so in both
    ends of a difference.
    """
    sums: NDArray[np.int64] = np.add.accumulate(values, axis=1).take(ends, axis=1)
    sums[:, 1:] -= sums[:, :-1].copy()
    return sums


def starts_of_runs(ranked: Codes) -> Codes:
    """Return where each run of equal numbers begins."""
    changes = np.empty(ranked.size, dtype=np.bool_)
    changes[:1] = True
    np.not_equal(ranked[1:], ranked[:-1], out=changes[1:])
    return np.flatnonzero(changes)


def count_subjects(groups: Codes, subjects: Codes, most: int) -> Codes:
    """Return how many subjects have rows in each group; (most,). groups: a number in [0, most) a row."""
    if subjects.size and bool(np.all(subjects[1:] > subjects[:-1])):
        return np.bincount(groups, minlength=most)
    width = int(subjects.max(initial=0)) + 1
    pairs = np.unique(groups * width + subjects)
    return np.bincount(pairs // width, minlength=most)


def group_by_subject(subjects: Codes) -> Grouping:
    """Group rows by subject; codes that already rise with every row are recognised without sorting."""
    if subjects.size == 0 or bool(np.all(subjects[1:] > subjects[:-1])):
        every = np.arange(subjects.size, dtype=np.int64)
        return Grouping(None, every, np.ones_like(every))
    order = np.argsort(subjects, kind="stable").astype(np.int64)
    ranked = subjects[order]
    starts = starts_of_runs(ranked)
    sizes = np.diff(starts, append=subjects.size)
    return Grouping(order, starts, sizes)


def held_out(subject_keys: Sequence[bytes], fraction: float, secret: bytes) -> Mask:
    """Choose the held-out subjects by a keyed hash (BLAKE2b) of each subject's key; shape (subjects,).

    fraction: in [0, 1), the share held out on average. secret: 1 to 64 bytes, the node's. The choice of one
    subject does not depend on which others there are.
    """
    return first_part(places_of(subject_keys, secret), fraction)


def places_of(subject_keys: Sequence[bytes], secret: bytes) -> Hashes:
    """Return where each subject stands in the order in which they are held out, in [0, 2**64); (subjects,).

    Whatever the share, the first ones in it are held out.
    """
    return keyed_hashes(subject_keys, secret, HELD_OUT_PURPOSE)


def first_part(places: Hashes, fraction: float) -> Mask:
    """Say who is held out where a share of all is, which lies in [0, 1)."""
    if not 0 <= fraction < 1:
        raise ValueError("fraction must lie in [0, 1)")
    chosen: Mask = places < np.uint64(int(fraction * 2.0**64))
    return chosen


def folds_of(places: Hashes, folds: int) -> Codes:
    """Return the fold of each place, 0 … folds - 1; shape (subjects,).

    Fold 0 of K are the subjects whom `held_out` chooses for the fraction 1/K.
    """
    limits = [np.uint64(-(-(number << 64) // folds)) for number in range(1, folds)]
    return np.searchsorted(np.array(limits), places, side="right").astype(np.int64)


def keyed_hashes(names: Sequence[bytes], secret: bytes, purpose: bytes) -> Hashes:
    """Return the keyed hash (BLAKE2b) of each name, in [0, 2**64); (names,).

    secret: 1 to 64 bytes. purpose: at most 16 bytes; hashes for one tell nothing of those for another.
    """
    fresh = hashlib.blake2b(key=secret, digest_size=8, person=purpose).copy
    digests = []
    for name in names:
        keyed = fresh()
        keyed.update(name)
        digests.append(keyed.digest())
    return np.frombuffer(b"".join(digests), dtype=">u8").astype(np.uint64)
