"""Models of every algorithm over columns of every kind, published without training, and rows for them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import psycopg

from heliosdb.domain.encoding import ColumnEncoding, ColumnKind, Encoding
from heliosdb.domain.prediction import RESERVED, Prediction
from heliosdb.exchange.portable import Portable
from tests.integration.coordinator.support import World
from tests.support import portable
from tests.support.encoded_model import COLUMNS, EPOCH, rows
from tests.support.publication import publish_prediction

WORKSPACE = "served"


@dataclass(frozen=True, slots=True)
class Model:
    """How one is made. options: of CREATE beside algorithm, features and target."""

    algorithm: str
    make: Callable[[], Portable]
    options: str = ""


LAYERS = ", layers = [5, 4, 3], output_activation = 'softmax'"
CLASSES = ", target_classes = ['a', 'b', 'c']"
SORTS = ", target_classes = ['no', 'it''s', 'per\"haps']"
MODELS = {
    "logistic": Model("logistic_regression", lambda: portable.linear_model("logistic", COLUMNS)),
    "sorting": Model("logistic_regression", lambda: portable.softmax_linear(COLUMNS), SORTS),
    "linear": Model("linear_regression", lambda: portable.linear_model("identity", COLUMNS)),
    "poisson": Model("poisson_regression", lambda: portable.linear_model("exp", COLUMNS)),
    "cox": Model(
        "cox_regression",
        lambda: portable.linear_model("exp", COLUMNS),
        ", event = 'died', optimizer = 'newton'",
    ),
    "net": Model("neural_network", lambda: portable.network("identity", COLUMNS)),
    "net_of_two": Model("neural_network", lambda: portable.network("logistic", COLUMNS)),
    "net_of_three": Model("neural_network", lambda: portable.network("softmax", COLUMNS), CLASSES + LAYERS),
    "forest": Model("random_forest", lambda: portable.trees("identity", boosts=False)),
    "forest_of_two": Model("random_forest", lambda: portable.trees("logistic", boosts=False)),
    "forest_of_three": Model("random_forest", lambda: portable.trees("softmax", boosts=False), CLASSES),
    "boosting": Model("gradient_boosting", lambda: portable.trees("identity", boosts=True)),
    "boosting_of_two": Model("gradient_boosting", lambda: portable.trees("logistic", boosts=True)),
    "boosting_of_three": Model("gradient_boosting", lambda: portable.trees("softmax", boosts=True), CLASSES),
}


def make_models(world: World) -> dict[str, Portable]:
    """Make and publish all of them."""
    world.execute(f"CREATE FEDERATED WORKSPACE {WORKSPACE}")
    made: dict[str, Portable] = {}
    for name, model in MODELS.items():
        made[name] = model.make()
        listed = ", ".join(f"'{one.column}'" for one in made[name].encoding.columns)
        world.execute(
            f"CREATE FEDERATED MODEL {name} IN WORKSPACE {WORKSPACE} WITH (algorithm = '{model.algorithm}',"
            f" features = [{listed}], target = 'outcome'{model.options})"
        )
        publish(world, name, made[name])
    return made


def publish(world: World, name: str, made: Portable) -> None:
    """Publish one more version of a model."""
    content = {key: value for key, value in made.content.items() if key not in RESERVED}
    prediction = Prediction(made.kind, content, made.arrays)
    assert publish_prediction(world.cluster, world.database, name, prediction, made.encoding).obstacle is None


def given(encoding: Encoding) -> list[dict[str, Any]]:
    """Rows with what these columns may hold; each is missing somewhere."""
    return [{one.column: row[one.column] for one in encoding.columns} for row in rows()]


def as_json(row: Mapping[str, Any]) -> str:
    """A row as federated_predict takes it."""

    def plain(value: Any) -> Any:
        return (
            value.isoformat()
            if isinstance(value, datetime)
            else f"{value / timedelta(seconds=1)} s"
            if isinstance(value, timedelta)
            else value
        )

    return json.dumps({name: plain(value) for name, value in row.items()})


def tensors(columns: Sequence[ColumnEncoding], batch: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows as inputs of the protocol in JSON, one tensor for each column."""
    return [_tensor(column, [row[column.column] for row in batch]) for column in columns]


def _tensor(column: ColumnEncoding, values: Sequence[Any]) -> dict[str, Any]:
    name, count = column.column, len(values)
    match column.kind:
        case ColumnKind.CATEGORY:
            return {"name": name, "datatype": "BYTES", "shape": [count], "data": list(values)}
        case ColumnKind.BOOLEAN:
            return {"name": name, "datatype": "BOOL", "shape": [count, 1], "data": list(values)}
        case ColumnKind.ARRAY:
            width = column.elements
            data = [(list(value or []) + [None] * width)[:width] for value in values]
            return {"name": name, "datatype": "FP64", "shape": [count, width], "data": data}
        case ColumnKind.TIME:
            values = [None if one is None else (one - EPOCH) / timedelta(days=1) for one in values]
        case ColumnKind.INTERVAL:
            values = [None if one is None else one / timedelta(days=1) for one in values]
    return {"name": name, "datatype": "FP64", "shape": [count], "data": list(values)}


def by_sql(
    analyst: psycopg.Connection[Any], model: str, made: Portable, batch: Sequence[Mapping[str, Any]]
) -> list[Any]:
    """What SQL predicts for each row: a number, or the probability of each class."""
    function = "federated_predict_proba" if made.has_many_classes else "federated_predict"
    found = analyst.execute(
        f"SELECT {function}(%s, e.row) FROM jsonb_array_elements(%s::jsonb) WITH ORDINALITY AS e (row, place)"
        " ORDER BY e.place",  # type: ignore[arg-type]
        [model, "[" + ",".join(map(as_json, batch)) + "]"],
    ).fetchall()
    values = [one for (one,) in found]
    return [[one[label] for label in made.classes] for one in values] if made.has_many_classes else values


def is_missing(value: Any) -> bool:
    """Whether a value is none of JSON's numbers."""
    return value is None or (isinstance(value, float) and math.isnan(value))
