"""What a version takes and gives: features become slots of rows, scores become output tensors.

What always holds: a row's slots are what SQL makes of the same values (scoring/rows.py); what a request names
that the version has not, or gives twice, is an error, and nothing of it is left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heliosdb.api.problems import Problem
from heliosdb.api.serving.tensors import TEXT, Numbers, Tensor, TensorMetadata, misfit
from heliosdb.domain.encoding import ColumnEncoding, ColumnKind, Encoding
from heliosdb.domain.wording import counted
from heliosdb.scoring.rows import width_of
from heliosdb.scoring.words import hash_text

TOGETHER = "features"
"""The input that has all numeric features side by side, where no feature is called so."""

SCORE, PROBABILITIES, CLASS = "score", "probabilities", "class"


@dataclass(frozen=True, slots=True)
class Feature:
    """One feature: its slots are [first, last). levels, absent, other: of a text, of none, of any other."""

    name: str
    kind: ColumnKind
    first: int
    last: int
    levels: Mapping[str, float]
    absent: float
    other: float

    @property
    def is_text(self) -> bool:
        """Whether it comes as BYTES."""
        return self.kind in (ColumnKind.CATEGORY, ColumnKind.TEXT)

    @property
    def metadata(self) -> TensorMetadata:
        """What its tensor is."""
        match self.kind:
            case ColumnKind.CATEGORY | ColumnKind.TEXT:
                return TensorMetadata(self.name, TEXT, (-1,))
            case ColumnKind.BOOLEAN:
                return TensorMetadata(self.name, "BOOL", (-1,))
            case ColumnKind.ARRAY | ColumnKind.IMAGE:
                return TensorMetadata(self.name, "FP64", (-1, self.last - self.first))
            case _:
                return TensorMetadata(self.name, "FP64", (-1,))


@dataclass(frozen=True, slots=True)
class Signature:
    """The features in order, and the labels of the classes; () where a number is predicted.

    width: slots of a row. has_score: whether there is one number, of two classes the second's probability.
    """

    features: tuple[Feature, ...]
    classes: tuple[str, ...]
    width: int
    has_score: bool

    @property
    def inputs(self) -> tuple[TensorMetadata, ...]:
        """One tensor for each feature."""
        return tuple(one.metadata for one in self.features)

    @property
    def outputs(self) -> tuple[TensorMetadata, ...]:
        """All that is predicted."""
        score = (TensorMetadata(SCORE, "FP64", (-1,)),) if self.has_score else ()
        if not self.classes:
            return score
        of_classes = (
            TensorMetadata(PROBABILITIES, "FP64", (-1, len(self.classes))),
            TensorMetadata(CLASS, TEXT, (-1,)),
        )
        return (*score, *of_classes)

    def slots(self, inputs: Sequence[Tensor], most: int) -> Numbers:
        """Rows, (n, slots); a Problem 422 where the inputs do not fit, 413 for more than `most` rows."""
        count = _count_rows(inputs, most)
        rows = np.full((count, self.width), np.nan)
        given: set[str] = set()
        named = {one.name: one for one in self.features}
        for feature in self.features:
            if feature.is_text and not math.isnan(feature.absent):
                rows[:, feature.first : feature.last] = feature.absent
        for tensor in inputs:
            if tensor.name == TOGETHER and TOGETHER not in named:
                names = self._put_together(tensor, rows)
            elif (one := named.get(tensor.name)) is not None:
                rows[:, one.first : one.last] = _slots_of(one, tensor, count)
                names = [one.name]
            else:
                raise misfit(f'The model has no feature "{tensor.name}".')
            if given.intersection(names):
                raise misfit(f'A feature is given twice, the second time by input "{tensor.name}".')
            given.update(names)
        return rows

    def _put_together(self, tensor: Tensor, rows: Numbers) -> list[str]:
        """Put the one tensor of all numeric features; their names."""
        numeric = [one for one in self.features if not one.is_text]
        places = [slot for one in numeric for slot in range(one.first, one.last)]
        if not isinstance(tensor.values, np.ndarray):
            raise misfit(f'Input "{TOGETHER}" has numbers; features that are text have inputs of their own.')
        if tensor.shape != (len(rows), len(places)):
            raise misfit(
                f'The shape of input "{TOGETHER}" is to be [{len(rows)}, {len(places)}]: '
                "the numeric features in the order of the model's metadata."
            )
        rows[:, places] = tensor.values.reshape(tensor.shape)
        for one in numeric:
            if one.kind is ColumnKind.BOOLEAN:
                _check_boolean(one.name, rows[:, one.first])
        return [one.name for one in numeric]

    def wanted(self, names: Sequence[str]) -> list[str]:
        """The names of the outputs, all where none is named; a Problem 422 for one that there is not."""
        known = [one.name for one in self.outputs]
        for name in names:
            if name not in known:
                raise misfit(f'The model has no output "{name}".')
        if len(set(names)) != len(names):
            raise misfit("An output is named twice.")
        return list(names) or known

    def answer(self, scores: Numbers, wanted: Sequence[str]) -> tuple[Tensor, ...]:
        """The output tensors of these names; scores: (n,) or (n, classes)."""
        return tuple(self._output(name, scores) for name in wanted)

    def _output(self, name: str, scores: Numbers) -> Tensor:
        if name == SCORE:
            return Tensor(SCORE, "FP64", scores.shape, scores)
        shares = np.column_stack([1.0 - scores, scores]) if scores.ndim == 1 else scores
        if name == PROBABILITIES:
            return Tensor(PROBABILITIES, "FP64", shares.shape, shares.ravel())
        # Of equally likely ones the first, as in SQL.
        labels = [self.classes[place] for place in shares.argmax(axis=1).tolist()]
        return Tensor(CLASS, TEXT, (len(labels),), labels)


def make_signature(
    features: Sequence[str], encoding: Encoding, classes: Sequence[str], *, has_score: bool
) -> Signature:
    """The signature of a version: its features in order, how their columns are read, its classes."""
    found: list[Feature] = []
    first = 0
    for name, column in zip(features, encoding.columns, strict=True):
        last = first + width_of(column)
        found.append(_feature(name, column, first, last))
        first = last
    return Signature(tuple(found), tuple(classes), first, has_score)


def _feature(name: str, column: ColumnEncoding, first: int, last: int) -> Feature:
    levels = {level: float(place) for place, level in enumerate(column.levels)}
    absent = float(len(levels)) if column.null_level else math.nan
    if column.kind is ColumnKind.TEXT:
        # A text without words.
        absent = 0.0
    other = float(len(column.level_names) - 1) if column.other_level else math.nan
    return Feature(name, column.kind, first, last, levels, absent, other)


def _count_rows(inputs: Sequence[Tensor], most: int) -> int:
    if not inputs:
        raise misfit("A request has at least one input.")
    counts = {tensor.shape[0] for tensor in inputs}
    if len(counts) > 1:
        raise misfit("The first sizes of the inputs' shapes differ: each is the number of rows.")
    [count] = counts
    if count == 0:
        raise misfit("The batch is empty.")
    if count > most:
        raise Problem(413, f"A batch may have {counted(most, 'row')}.", sqlstate="54000")
    return count


def _slots_of(feature: Feature, tensor: Tensor, count: int) -> NDArray[np.float64]:
    """What a tensor is for its feature; (n, slots)."""
    of_words = feature.kind is ColumnKind.TEXT
    width = 1 if of_words else feature.last - feature.first
    if tensor.shape != (count, width) and not (width == 1 and tensor.shape == (count,)):
        shape = f"[{count}, {width}]" if width > 1 else f"[{count}] or [{count}, 1]"
        raise misfit(f'The shape of input "{feature.name}" is to be {shape}.')
    if isinstance(tensor.values, np.ndarray) == feature.is_text:
        raise misfit(f'The datatype of input "{feature.name}" is to be {feature.metadata.datatype}.')
    if isinstance(tensor.values, np.ndarray):
        if feature.kind is ColumnKind.BOOLEAN:
            _check_boolean(feature.name, tensor.values)
        return tensor.values.reshape(count, width)
    if of_words:
        size = feature.last - feature.first
        return np.array([hash_text(text, size) for text in tensor.values])
    known, other, absent = feature.levels, feature.other, feature.absent
    return np.array([[absent if text is None else known.get(text, other)] for text in tensor.values])


def _check_boolean(name: str, values: Numbers) -> None:
    if not (np.isnan(values) | (values == 0.0) | (values == 1.0)).all():
        raise misfit(f'The values of boolean feature "{name}" are to be true, false, 1 or 0.')
