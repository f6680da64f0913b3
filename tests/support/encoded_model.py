"""A model of a column of every kind: its encoding, a table for it, rows, and what numpy predicts of these."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import numpy as np
import psycopg

from heliosdb.algorithms.sql import LinearPrediction
from heliosdb.domain.encoding import ColumnEncoding, ColumnKind, Encoding
from heliosdb.domain.prediction import Prediction
from heliosdb.scoring.session import make_version

COLUMNS = (
    ColumnEncoding("age"),
    ColumnEncoding("income", form="log1p", missing_indicator=True),
    ColumnEncoding("bmi", form="bins", edges=(18.5, 25.0, 30.0), missing_indicator=True),
    ColumnEncoding("smoker", ColumnKind.BOOLEAN),
    ColumnEncoding(
        "site", ColumnKind.CATEGORY, "indicators", levels=("", "Nord's", "north", "Ω"),
        null_level=True, other_level=True,
    ),
    ColumnEncoding("Ward", ColumnKind.CATEGORY, "indicators", levels=("a", "b"), missing_indicator=True),
    ColumnEncoding("seen", ColumnKind.TIME),
    ColumnEncoding("stay", ColumnKind.INTERVAL, missing_indicator=True),
    ColumnEncoding("v", ColumnKind.ARRAY, elements=3, missing_indicator=True),
)  # fmt: skip
FEATURES = tuple(column.column for column in COLUMNS)
ENCODING = Encoding(COLUMNS)
INPUTS = len(ENCODING.inputs)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TABLE = (
    "CREATE TABLE patients (id integer, age numeric, income float8, bmi real, smoker boolean, site text,"
    ' "Ward" char(4), seen timestamptz, stay interval, v float8[], other text)'
)
CALL = ", ".join(
    f'"{name}" => p."{name}"' + (" AT TIME ZONE 'UTC'" if name == "seen" else "") for name in FEATURES
)


def numbers(seed: int, count: int) -> list[float]:
    return np.random.default_rng(seed).normal(size=count).tolist()


def linear(link: str, encoding: Encoding = ENCODING) -> Prediction:
    """A prediction with another slope, fill and shift for each input."""
    count = len(encoding.inputs)
    slopes, fills, shifts = (tuple(numbers(seed, count)) for seed in (1, 2, 3))
    slopes = tuple(
        slope / (1000.0 if name == "seen" else 3.0)
        for slope, name in zip(slopes, encoding.inputs, strict=True)
    )
    return LinearPrediction(0.25, slopes, fills, shifts, link, 10.0, 2.0).to_prediction()  # type: ignore[arg-type]


def softmax(classes: int) -> Prediction:
    slopes = np.array(numbers(4, classes * INPUTS)).reshape(classes, INPUTS) / 5.0
    slopes[:, ENCODING.inputs.index("seen")] /= 1000.0
    content = {
        "intercepts": numbers(5, classes), "slopes": slopes.tolist(), "fills": numbers(2, INPUTS),
        "shifts": numbers(3, INPUTS), "link": "softmax",
    }  # fmt: skip
    return Prediction("softmax_linear", content)


def rows() -> list[dict[str, Any]]:
    """Rows with everything that a column may hold, and each column missing somewhere."""
    source = random.Random(5)
    choices: dict[str, Callable[[], Any]] = {
        "age": lambda: source.choice([0, 1, 47.5, -3]),
        "income": lambda: source.choice([0.0, 1e-9, 25_000.0, -1.0, -7.0]),
        "bmi": lambda: source.choice([17.0, 18.5, 18.75, 25.0, 29.5, 31.0]),
        "smoker": lambda: source.random() < 0.5,
        "site": lambda: source.choice(["", "Nord's", "north", "NORTH", "Ω", "south", "other", "NULL"]),
        "Ward": lambda: source.choice(["a", "b", "c"]),
        "seen": lambda: datetime(2024, 2, 29, 13, 30, tzinfo=timezone(timedelta(hours=source.randrange(-8, 9)))),
        "stay": lambda: timedelta(days=source.randrange(9), hours=source.randrange(24)),
        "v": lambda: source.choice([[1.0, 2.0, 3.0], [1.0, None, 3.0], [0.5], [1.0, 2.0, 3.0, 4.0], []]),
    }  # fmt: skip
    made: list[dict[str, Any]] = [dict.fromkeys(FEATURES)]
    for _ in range(60):
        made.append({name: None if source.random() < 0.15 else pick() for name, pick in choices.items()})
    return made


def slots(row: Mapping[str, Any], columns: Sequence[ColumnEncoding] = COLUMNS) -> list[float]:
    """A row as numpy gets it, made in another way than SQL does."""
    made: list[float] = []
    for column in columns:
        value = row[column.column]
        if column.kind is ColumnKind.ARRAY:
            given = [math.nan if one is None else one for one in value or []]
            made += (given + [math.nan] * column.elements)[: column.elements]
        elif column.kind is ColumnKind.CATEGORY:
            known = {level: float(place) for place, level in enumerate(column.levels)}
            absent = float(len(column.levels)) if column.null_level else math.nan
            other = float(len(column.level_names) - 1) if column.other_level else math.nan
            made.append(absent if value is None else known.get(value, other))
        elif value is None:
            made.append(math.nan)
        elif column.kind is ColumnKind.TIME:
            made.append((value - EPOCH) / timedelta(days=1))
        elif column.kind is ColumnKind.INTERVAL:
            made.append(value / timedelta(days=1))
        else:
            made.append(float(value))
    return made


def reference(prediction: Prediction, given: list[dict[str, Any]]) -> np.ndarray:
    """What each row's prediction is, by numpy."""
    stored = {"kind": prediction.kind, **prediction.content}
    version = make_version(stored, prediction.arrays, ENCODING)
    return version.predict(np.array([slots(row) for row in given]))


def make_patients(catalog: psycopg.Connection) -> None:
    """Make the table with these rows, and the model, in the workspace clinics."""
    names = ", ".join(f"'{name}'" for name in FEATURES)
    catalog.execute(
        "CALL federated.execute(%s)",
        [f"CREATE FEDERATED MODEL stay IN WORKSPACE clinics WITH (algorithm = 'logistic_regression',"
         f" features = [{names}], target = 'outcome')"],
    )  # fmt: skip
    make_table(catalog)
    catalog.execute("GRANT SELECT ON patients TO federated_analyst")


def make_table(session: psycopg.Connection) -> None:
    """Make the table with these rows."""
    session.execute(TABLE)  # type: ignore[arg-type]
    quoted = ", ".join(f'"{name}"' for name in FEATURES)
    for number, row in enumerate(rows()):
        session.execute(
            f"INSERT INTO patients (id, {quoted}, other) VALUES (%s, {', '.join(['%s'] * len(FEATURES))}, 'x')",  # type: ignore[arg-type]
            [number, *(row[name] for name in FEATURES)],
        )
