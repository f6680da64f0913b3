"""Models of several groups become one prediction by vote: which columns and classes they are asked about.

What always holds: what is common to the models (columns' kinds, labels of classes and their order) follows
from a majority of them or from all levels and labels that any of them knows, in the order of their bytes; a
model whose columns are of other kinds than most models' does not vote. So a minority of the models changes
no vote but their own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from heliosdb.domain.encoding import ColumnEncoding, ColumnKind, Encoding, Form
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.prediction import Prediction
from heliosdb.domain.state import join_parts
from heliosdb.scoring.kinds import COMPUTING

FEWEST = 3
"""Votes: of two no majority withstands anybody."""

_BINARY = ("0", "1")
"""The labels of two classes that nobody names."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A group's model. encoding: one entry for each feature, of plain numbers and flags too; labels: of its
    classes, in their order."""

    group: int
    prediction: Prediction
    encoding: Encoding
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ballot:
    """How a version predicts by vote. encoding: how rows come, as slots. voting: the groups whose models
    vote, ascending."""

    prediction: Prediction
    encoding: Encoding
    voting: tuple[int, ...]

    @property
    def labels(self) -> tuple[str, ...]:
        """Of the classes, in the order in which equal votes win."""
        return self.encoding.classes or _BINARY


def labels_of(prediction: Prediction, classes: Sequence[str]) -> tuple[str, ...]:
    """Return the labels of a model's classes; FederatedError WRONG_STATE for one that predicts a number."""
    if prediction.content.get("link") not in ("logistic", "softmax"):
        raise FederatedError(ErrorCode.WRONG_STATE, "a model of a group predicts a number, and no class")
    return tuple(classes) or _BINARY


def hold_ballot(candidates: Sequence[Candidate], declared: Sequence[str] = ()) -> Ballot:
    """Return how so many models predict together. declared: the labels of the target, where it has some.

    FederatedError WRONG_STATE where fewer than three can vote, or no majority has columns of one kind.
    """
    shapes = Counter(_shape(one.encoding) for one in candidates)
    most = max(shapes, key=lambda shape: shapes[shape], default=())
    voters = [one for one in candidates if _shape(one.encoding) == most]
    if len(voters) < FEWEST or 2 * len(voters) <= len(candidates):
        raise FederatedError(
            ErrorCode.WRONG_STATE,
            f"{len(voters)} of the groups have a model of the same columns, and {FEWEST} and more than half"
            " of those with a model are needed for a vote",
        )
    columns = tuple(
        _asked([one.encoding.columns[place] for one in voters])
        for place in range(len(voters[0].encoding.columns))
    )
    labels = tuple(declared) or tuple(
        sorted({label for one in voters for label in one.labels}, key=str.encode)
    )
    content = {
        "link": "logistic" if len(labels) == 2 else "softmax",
        "labels": len(labels),
        "votes": len(voters),
        "margin": _margin(shapes, len(voters), are_declared=bool(declared)),
        "voters": [_voter(one, columns, labels) for one in voters],
    }
    arrays = join_parts(**{str(place): one.prediction.arrays for place, one in enumerate(voters)})
    classes = () if labels == _BINARY and not declared else labels
    return Ballot(
        Prediction("votes", content, arrays),
        Encoding(columns, classes),
        tuple(one.group for one in voters),
    )


_Shape = tuple[tuple[str, int, tuple[int, ...]], ...]
"""Of the columns: their kinds, how many numbers each is, and of images their shapes."""


def _shape(encoding: Encoding) -> _Shape:
    """Of which kinds the columns are; a flag is a number as any other to whoever asks."""
    return tuple(
        (ColumnKind.NUMBER if one.kind is ColumnKind.BOOLEAN else one.kind, one.elements, one.shape)
        for one in encoding.columns
    )


def _margin(shapes: Counter[_Shape], voters: int, *, are_declared: bool) -> int:
    """Return how many groups, whatever they had trained, could neither have had models of other columns vote
    nor have won with a class that no other model knows.

    Those vote that are more than half, and a model is theirs at the cost of one group. A class that comes
    first in ties wins with half of the votes, unless the classes are declared.
    """
    others = sum(count for _, count in shapes.most_common(2)[1:])
    of_columns = shapes.total() // 2 - others
    return of_columns if are_declared else min(of_columns, (voters - 1) // 2)


def _asked(columns: Sequence[ColumnEncoding]) -> ColumnEncoding:
    """How a column's values come as slots: as they are, of a category the index among all levels."""
    first = columns[0]
    if first.kind is not ColumnKind.CATEGORY:
        is_flag = all(one.kind is ColumnKind.BOOLEAN for one in columns)
        plain = ColumnKind.NUMBER if first.kind is ColumnKind.BOOLEAN else first.kind
        kind = ColumnKind.BOOLEAN if is_flag else plain
        # Which numbers a text becomes is the same for all who read it into as many.
        form: Form = "hashed" if kind is ColumnKind.TEXT else "value"
        return ColumnEncoding(first.column, kind, form, elements=first.elements, shape=first.shape)
    return ColumnEncoding(
        first.column,
        ColumnKind.CATEGORY,
        "index",
        tuple(sorted({level for one in columns for level in one.levels}, key=str.encode)),
        any(one.null_level for one in columns),
        any(one.other_level for one in columns),
    )


def _voter(one: Candidate, asked: Sequence[ColumnEncoding], labels: Sequence[str]) -> Mapping[str, Any]:
    slots: list[list[int | None] | None] = []
    for column, own in zip(asked, one.encoding.columns, strict=True):
        is_category = column.kind is ColumnKind.CATEGORY
        slots += [_renumbered(column, own)] if is_category else [None] * column.elements
    computing = COMPUTING[one.prediction.kind]
    return {
        **{name: value for name, value in one.prediction.content.items() if name in computing},
        "kind": one.prediction.kind,
        "encoding": one.encoding.to_json(),
        "levels": slots,
        "places": [labels.index(label) for label in one.labels],
    }


def _renumbered(asked: ColumnEncoding, own: ColumnEncoding) -> list[int | None]:
    """Of each level that is asked about its place among a model's own: what that does not know is to it what
    any other text is."""
    places = {level: place for place, level in enumerate(own.levels)}
    null = len(own.levels) if own.null_level else None
    other = len(own.level_names) - 1 if own.other_level else None
    return [
        *(places.get(level, other) for level in asked.levels),
        *([null] if asked.null_level else []),
        *([other] if asked.other_level else []),
    ]
