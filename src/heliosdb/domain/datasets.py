"""Which of the datasets that a node shares a run reads, and how the types of its columns are read: the one
rule, for coordinator and node alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from heliosdb.domain.encoding import ColumnKind
from heliosdb.domain.handshake import DatasetDescription

NUMERIC_TYPES = frozenset({"smallint", "integer", "bigint", "numeric", "real", "double precision", "boolean"})
"""What a run can read as numbers; true and false are 1 and 0."""

INTEGER_TYPES = frozenset({"smallint", "integer", "bigint"})

ENUM = "enum"
"""Stands for every enum in what a node says of its columns."""

_KINDS = {
    ColumnKind.NUMBER: (*(NUMERIC_TYPES - {"boolean"}), "money"),
    ColumnKind.BOOLEAN: ("boolean",),
    ColumnKind.TIME: ("date", "timestamp without time zone", "timestamp with time zone"),
    ColumnKind.INTERVAL: ("interval",),
    ColumnKind.CATEGORY: ("text", "character varying", "character", "name", "uuid", ENUM),
    ColumnKind.ARRAY: tuple(
        f"{kind}[]"
        for kind in ("double precision", "real", "smallint", "integer", "bigint", "numeric", "boolean")
    ),
    ColumnKind.IMAGE: ("bytea",),
}
_KIND_OF = {name: kind for kind, names in _KINDS.items() for name in names}


def kind_of(type_name: str) -> ColumnKind | None:
    """How values of a type are read, by the name under which nodes know it; None where they cannot be."""
    return _KIND_OF.get(type_name)


@dataclass(frozen=True, slots=True)
class DatasetChoice:
    """considered: those that may be read, the named one or all. whole: those of them with all columns."""

    considered: tuple[DatasetDescription, ...]
    whole: tuple[DatasetDescription, ...]

    @property
    def chosen(self) -> DatasetDescription | None:
        """The one that is read: the only one with all columns; None for none and for several."""
        return self.whole[0] if len(self.whole) == 1 else None


def choose_dataset(
    shared: Iterable[DatasetDescription], columns: Sequence[str], named: str | None
) -> DatasetChoice:
    """Look among what a node shares for what has all columns; named: the only one that may be read."""
    considered = tuple(one for one in shared if named is None or one.name == named)
    return DatasetChoice(considered, tuple(one for one in considered if not lacking(one, columns)))


def lacking(dataset: DatasetDescription, columns: Sequence[str]) -> list[str]:
    """Which of the columns a dataset has not, in order."""
    return [column for column in columns if column not in dataset.columns]
