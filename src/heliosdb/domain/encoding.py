"""How a dataset's columns become the inputs of a model, and which classes its target has.

What always holds: an encoding is made of catalogs and of what was released, never of a row that was not; by
it a row's inputs are a function of that row alone, at a node, in Python and in SQL alike. An input that has
no value for a row is missing there (NaN, NULL).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Literal

from heliosdb.domain.bounds import Bounds
from heliosdb.domain.settings import within


class ColumnKind(StrEnum):
    """How the values of a column are read."""

    NUMBER = "number"
    BOOLEAN = "boolean"
    TIME = "time"
    """Days since 1970-01-01, in UTC where a zone is known."""

    INTERVAL = "interval"
    """Days."""

    CATEGORY = "category"
    ARRAY = "array"
    TEXT = "text"
    """What is written in a text, not which text it is: numbers that are made of it, `elements` of them."""
    IMAGE = "image"
    """Bytes that hold an image, of which pixels become numbers: see scoring/images.py."""

    @property
    def is_several(self) -> bool:
        """Whether a value is several numbers, as many for every row."""
        return self in (ColumnKind.ARRAY, ColumnKind.IMAGE)


Form = Literal["value", "log1p", "bins", "indicators", "index", "hashed"]
"""What is made of the values: themselves; their log1p; an indicator for each bin but the first; an indicator
for each level but the first; the level's index (for trees); of a text its hashed words (scoring/words.py)."""


@dataclass(frozen=True, slots=True)
class EncodingSettings:
    """The options of a model that say how columns become inputs."""

    feature_transforms: tuple[str, ...] | None = None
    max_levels: int = within(Bounds(2, 1_000), default=100)
    min_level_count: int = within(Bounds(5, 1_000_000), default=5)


@dataclass(frozen=True, slots=True)
class ColumnEncoding:
    """How one column becomes inputs.

    levels: of a category, in the order of their bytes. null_level: whether NULL is one more of them, behind
    these; other_level: whether all further values are one, the last. A value without a level is missing.
    edges: of bins, ascending; an input for each says whether the value is above it. elements: of an array, or
    pixels of an image in all its channels, and how many numbers are made of a text. shape: of an image, which
    is of kind IMAGE or an ARRAY, (channels, height, width); () of all else.
    missing_indicator: whether one more input, the last, says that the value is missing. scaled: whether
    values are scaled like others.
    """

    column: str
    kind: ColumnKind = ColumnKind.NUMBER
    form: Form = "value"
    levels: tuple[str, ...] = ()
    null_level: bool = False
    other_level: bool = False
    edges: tuple[float, ...] = ()
    elements: int = 1
    missing_indicator: bool = False
    scaled: bool = True
    shape: tuple[int, ...] = ()

    @property
    def level_names(self) -> tuple[str, ...]:
        """All levels as they are shown: those of values, NULL, and what is left."""
        return (
            *self.levels,
            *(("NULL",) if self.null_level else ()),
            *(("other",) if self.other_level else ()),
        )

    @property
    def has_spread(self) -> bool:
        """Whether its values are numbers in units of their own spread."""
        flags = (ColumnKind.BOOLEAN, ColumnKind.CATEGORY, ColumnKind.TEXT)
        return self.scaled and self.form in {"value", "log1p"} and self.kind not in flags

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of its inputs, as reports show them."""
        missing = (f"{self.column} is missing",) if self.missing_indicator else ()
        return (*self._values(), *missing)

    def _values(self) -> tuple[str, ...]:
        match self.form:
            case "log1p":
                return (f"log1p({self.column})",)
            case "bins":
                return tuple(f"{self.column} > {edge:g}" for edge in self.edges)
            case "indicators":
                return tuple(f"{self.column}={name}" for name in self.level_names[1:])
            case "hashed":
                return tuple(f"hashed({self.column})[{place}]" for place in range(1, self.elements + 1))
            case _ if self.kind.is_several:
                return tuple(f"{self.column}[{place}]" for place in range(1, self.elements + 1))
            case _:
                return (self.column,)


@dataclass(frozen=True, slots=True)
class Encoding:
    """One entry of `columns` for each feature, in their order.

    classes: the labels of the target, in the order of their classes' indices; () where it is a number.
    """

    columns: tuple[ColumnEncoding, ...]
    classes: tuple[str, ...] = ()

    @property
    def measured(self) -> tuple[bool, ...]:
        """Of each input, whether its mean and spread have to be found where finding them costs: those of an
        indicator of a level are told well enough by how many levels there are."""
        return tuple(
            column.kind is not ColumnKind.TEXT
            and (
                column.form != "indicators" or (column.missing_indicator and place == len(column.inputs) - 1)
            )
            for column in self.columns
            for place in range(len(column.inputs))
        )

    @property
    def described(self) -> tuple[bool, ...]:
        """Of each input, whether it has a mean and a spread to be found: numbers of a text lie within bounds
        that are known, and all are alike."""
        return tuple(column.kind is not ColumnKind.TEXT for column in self.columns for _ in column.inputs)

    @property
    def unnamed(self) -> tuple[int, ...]:
        """The places of the categories whose levels are not known yet."""
        return tuple(
            place
            for place, column in enumerate(self.columns)
            if column.kind is ColumnKind.CATEGORY and column.form == "value"
        )

    @property
    def spread(self) -> tuple[bool, ...]:
        """Of each input, whether it is a number in units of its own spread: no flag, level or index, whose
        rare values are not far out, and nothing that is left unscaled."""
        return tuple(
            column.has_spread and not (column.missing_indicator and place == len(column.inputs) - 1)
            for column in self.columns
            for place in range(len(column.inputs))
        )

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of all inputs, in order."""
        return tuple(name for column in self.columns for name in column.inputs)

    def to_json(self) -> dict[str, Any]:
        """Return it for the catalog."""
        told = asdict(self)
        for column in told["columns"]:
            # Releases that know of no images know of no such entry.
            if not column["shape"]:
                del column["shape"]
        return told

    @classmethod
    def from_json(cls, encoding: Mapping[str, Any]) -> Encoding:
        """Read what `to_json` wrote."""
        return cls(tuple(map(_column_from_json, encoding["columns"])), tuple(encoding["classes"]))


def _column_from_json(column: Mapping[str, Any]) -> ColumnEncoding:
    given = dict(column)
    given["kind"] = ColumnKind(given["kind"])
    given["levels"], given["edges"] = tuple(given["levels"]), tuple(given["edges"])
    given["shape"] = tuple(given.get("shape", ()))
    return ColumnEncoding(**given)
