"""Tables that benchmarks train on: what scikit-learn ships, and two files that --data names a folder of.

What always holds: a problem is split into rows to train on and rows to be judged by once, at random but the
same every time; how rows are dealt to sites depends on the training rows alone.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

Row = tuple[object, ...]

HELD_OUT = 0.25


@dataclass(frozen=True, slots=True)
class Column:
    """name, and type as CREATE TABLE has it."""

    name: str
    type: str

    @property
    def is_text(self) -> bool:
        """Whether it is a category."""
        return self.type == "text"


@dataclass(frozen=True, slots=True)
class Problem:
    """Rows of (features…, target). site: the column by whose values rows go to sites where they are not dealt
    at random; grouped: which site a value goes to."""

    name: str
    features: tuple[Column, ...]
    target: Column
    train: tuple[Row, ...]
    test: tuple[Row, ...]
    nodes: int
    site: str | None = None
    grouped: Callable[[object], int] | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        """The target's labels in order; () where it is a number."""
        if self.target.type == "double precision":
            return ()
        labels = {row[-1] for row in self.train}
        return tuple(str(label) for label in sorted(labels, key=lambda one: (str(type(one)), one)))

    def deal(self, how: str) -> list[list[Row]]:
        """Rows by site: `iid`, at random; `by site`, by the problem's own column."""
        if how == "iid":
            order = np.random.default_rng(11).permutation(len(self.train))
            return [[self.train[i] for i in part] for part in np.array_split(order, self.nodes)]
        assert self.grouped is not None
        assert self.site is not None
        places = [column.name for column in (*self.features, self.target)]
        place = places.index(self.site)
        sites: dict[int, list[Row]] = {}
        for row in self.train:
            sites.setdefault(self.grouped(row[place]), []).append(row)
        return [sites[number] for number in sorted(sites)]


def load(names: Sequence[str], data: Path | None) -> Iterator[Problem]:
    """Load the problems of these names; those that need files are left out where no folder is given."""
    makers: Mapping[str, Callable[[], Problem]] = {
        "breast_cancer": _breast_cancer,
        "digits": _digits,
        "diabetes": _diabetes,
        **({} if data is None else {"adult": lambda: _adult(data), "telco": lambda: _telco(data)}),
    }
    for name in names or makers:
        if name in makers:
            yield makers[name]()


def _split(rows: Sequence[Row]) -> tuple[tuple[Row, ...], tuple[Row, ...]]:
    out = np.random.default_rng(7).random(len(rows)) < HELD_OUT
    train = tuple(row for row, held in zip(rows, out, strict=True) if not held)
    return train, tuple(row for row, held in zip(rows, out, strict=True) if held)


def _numbers(count: int) -> tuple[Column, ...]:
    return tuple(Column(f"x{number}", "double precision") for number in range(1, count + 1))


def _breast_cancer() -> Problem:
    from sklearn.datasets import load_breast_cancer

    data = load_breast_cancer()
    rows = [(*map(float, x), bool(y)) for x, y in zip(data.data, data.target, strict=True)]
    train, test = _split(rows)
    return Problem("breast_cancer", _numbers(30), Column("benign", "boolean"), train, test, 5)


def _digits() -> Problem:
    """As 24 principal components: single pixels are mostly 0, and at a node of one class the same."""
    from sklearn.datasets import load_digits
    from sklearn.decomposition import PCA

    data = load_digits()
    components = PCA(24, random_state=0).fit_transform(data.data)
    rows = [(*map(float, x), str(y)) for x, y in zip(components, data.target, strict=True)]
    train, test = _split(rows)
    target = Column("digit", "text")
    return Problem("digits", _numbers(24), target, train, test, 10, "digit", lambda digit: int(str(digit)))


def _diabetes() -> Problem:
    from sklearn.datasets import load_diabetes

    data = load_diabetes(scaled=False)
    rows = [(*map(float, x), float(y)) for x, y in zip(data.data, data.target, strict=True)]
    train, test = _split(rows)
    columns = tuple(Column(name, "double precision") for name in data.feature_names)
    return Problem("diabetes", columns, Column("progression", "double precision"), train, test, 5)


_ADULT = {"age", "fnlwgt", "education-num", "capital-gain", "capital-loss", "hours-per-week"}


def _adult(data: Path) -> Problem:
    """education-num says the same as education, by whose groups rows go to sites."""
    with (data / "adult.csv").open() as file:
        records = list(csv.DictReader(file, skipinitialspace=True))
    named = [name for name in records[0] if name not in ("income", "fnlwgt")]
    columns = tuple(Column(name.replace("-", "_"), "integer" if name in _ADULT else "text") for name in named)
    rows = [
        (*(_value(record[name], number=name in _ADULT) for name in named), record["income"].startswith(">"))
        for record in records
    ]
    train, test = _split(rows)
    return Problem(
        "adult",
        columns,
        Column("rich", "boolean"),
        train,
        test,
        5,
        "education_num",
        lambda years: int(np.searchsorted([8.5, 9.5, 11.5, 12.5], float(str(years)))),
    )


def _telco(data: Path) -> Problem:
    with (data / "telco_churn.csv").open() as file:
        records = list(csv.DictReader(file))
    numbers = {"SeniorCitizen", "tenure", "MonthlyCharges", "TotalCharges"}
    named = [name for name in records[0] if name not in ("customerID", "Churn")]
    columns = tuple(Column(name.lower(), "numeric" if name in numbers else "text") for name in named)
    rows = [
        (*(_value(record[name], number=name in numbers) for name in named), record["Churn"] == "Yes")
        for record in records
    ]
    train, test = _split(rows)
    contracts = ["Month-to-month", "One year", "Two year"]
    target = Column("churn", "boolean")
    return Problem(
        "telco", columns, target, train, test, 3, "contract", lambda one: contracts.index(str(one))
    )


def _value(text: str, *, number: bool) -> object:
    stripped = text.strip()
    if stripped in ("", "?"):
        return None
    if not number:
        return stripped
    return int(stripped) if stripped.isdecimal() else float(stripped)
