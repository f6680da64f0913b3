"""Tables in and out: lists of dicts, pandas, polars and pyarrow, each through what it offers itself.

What always holds: a library of tables is imported only when a table of its was given; what goes out is of
the kind that came in, with a row for each row in the same order. Values of Python's are made of one part of a
table at a time, so that what a large one takes beside itself and its answer is that of a part.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from heliosdb.sdk.errors import FederatedLearningError, invalid

PREDICTION = "prediction"
"""How the one column of predictions is called in a table."""

_SHAPE = (
    "Give a dict of features, a list of such dicts, a DataFrame of pandas or polars, or a table of pyarrow."
)


@dataclass(frozen=True, slots=True)
class Answer:
    """Predictions in row order: one list of numbers, or of several classes one for each, by its label."""

    columns: Mapping[str, Sequence[float | None]]
    of_classes: bool


class Table(Protocol):
    """Rows that features are taken from."""

    length: int

    def given(self, features: Sequence[str], model: str) -> Sequence[str]:
        """Return which features the rows have; 42703 where that is none."""
        ...

    def values(self, feature: str, start: int, end: int) -> Sequence[Any]:
        """Return a feature's values of some rows, None where one is missing."""
        ...

    def give_back(self, answer: Answer) -> Any:
        """Return predictions of some rows as the kind of table that the rows came in."""
        ...

    def join(self, parts: Sequence[Any]) -> Any:
        """Return what was given back of all rows, part by part, as one; one part at least."""
        ...


def read_table(rows: Any) -> Table:
    """Return rows as a table; 22023 for what is none."""
    library = type(rows).__module__.partition(".")[0]
    if library in _FRAMES and hasattr(rows, "columns"):
        return _FRAMES[library](rows)
    if isinstance(rows, str | bytes) or not isinstance(rows, Iterable):
        raise invalid(f"rows cannot be a {type(rows).__name__}", hint=_SHAPE)
    listed = list(rows)
    for place, row in enumerate(listed):
        if not isinstance(row, Mapping):
            raise invalid(f"row {place} is a {type(row).__name__}, no dict of features", hint=_SHAPE)
    return _Dicts(listed)


class _Dicts:
    """A list of dicts: a feature that a row has not is missing, one that the model has not is an error."""

    def __init__(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self._rows = rows
        self.length = len(rows)

    def given(self, features: Sequence[str], model: str) -> Sequence[str]:
        named = {str(name) for row in self._rows for name in row}
        unknown = sorted(named.difference(features))
        if unknown:
            raise FederatedLearningError(
                "42703",
                f'federated model "{model}" has no feature "{unknown[0]}"',
                None,
                f"Its features are {', '.join(features)}.",
            )
        # Of rows without any feature nothing is known, which is no mistake: as much is known of one that is
        # missing.
        return [feature for feature in features if feature in named] or list(features[:1])

    def values(self, feature: str, start: int, end: int) -> Sequence[Any]:
        return [row.get(feature) for row in self._rows[start:end]]

    def give_back(self, answer: Answer) -> Any:
        if not answer.of_classes:
            return list(next(iter(answer.columns.values())))
        by_row = zip(*answer.columns.values(), strict=True)
        return [
            None if None in shares else dict(zip(answer.columns, shares, strict=True)) for shares in by_row
        ]

    def join(self, parts: Sequence[Any]) -> Any:
        return [prediction for part in parts for prediction in part]


class _Frame(ABC):
    """A table with named columns: those that are no features are ignored, as in a row of SQL's."""

    def __init__(self, frame: Any) -> None:
        self._frame = frame
        self.length = len(frame)

    def given(self, features: Sequence[str], model: str) -> Sequence[str]:
        names = self._names()
        given = [feature for feature in features if feature in names]
        if not given:
            raise FederatedLearningError(
                "42703",
                f'the table has no column that is a feature of federated model "{model}"',
                None,
                f"Its features are {', '.join(features)}.",
            )
        twice = [feature for feature in given if names.count(feature) > 1]
        if twice:
            raise invalid(f'the table has several columns "{twice[0]}"')
        return given

    def _names(self) -> list[str]:
        return list(self._frame.columns)

    @abstractmethod
    def values(self, feature: str, start: int, end: int) -> Sequence[Any]:
        """Return a column's values of some rows, None where one is missing."""


class _Pandas(_Frame):
    def values(self, feature: str, start: int, end: int) -> Sequence[Any]:
        # NaN, NaT and NA are how pandas says that a value is missing.
        column = self._frame[feature].iloc[start:end]
        missing = column.isna().tolist()
        values = column.astype(object).tolist()
        return [None if absent else value for value, absent in zip(values, missing, strict=True)]

    def give_back(self, answer: Answer) -> Any:
        pandas = importlib.import_module("pandas")
        columns = {name: list(values) for name, values in answer.columns.items()}
        return pandas.DataFrame(columns, dtype="float64")

    def join(self, parts: Sequence[Any]) -> Any:
        pandas = importlib.import_module("pandas")
        joined = pandas.concat(parts, ignore_index=True)
        joined.index = self._frame.index
        return joined


class _Polars(_Frame):
    def values(self, feature: str, start: int, end: int) -> Sequence[Any]:
        values: Sequence[Any] = self._frame[feature].slice(start, end - start).to_list()
        return values

    def give_back(self, answer: Answer) -> Any:
        polars = importlib.import_module("polars")
        columns = {name: list(values) for name, values in answer.columns.items()}
        return polars.DataFrame(columns, schema=dict.fromkeys(columns, polars.Float64))

    def join(self, parts: Sequence[Any]) -> Any:
        return importlib.import_module("polars").concat(parts)


class _Arrow(_Frame):
    def _names(self) -> list[str]:
        return list(self._frame.schema.names)

    def values(self, feature: str, start: int, end: int) -> Sequence[Any]:
        values: Sequence[Any] = self._frame.column(feature).slice(start, end - start).to_pylist()
        return values

    def give_back(self, answer: Answer) -> Any:
        arrow = importlib.import_module("pyarrow")
        arrays = [arrow.array(list(values), type=arrow.float64()) for values in answer.columns.values()]
        return arrow.Table.from_arrays(arrays, names=list(answer.columns))

    def join(self, parts: Sequence[Any]) -> Any:
        arrow = importlib.import_module("pyarrow")
        joined = arrow.concat_tables(parts)
        arrays = [column.combine_chunks() for column in joined.columns]
        return type(self._frame).from_arrays(arrays, names=joined.column_names)


_FRAMES: dict[str, Callable[[Any], Table]] = {"pandas": _Pandas, "polars": _Polars, "pyarrow": _Arrow}
