"""The reference beside a federated model: the same kind and size of model, trained on the pooled rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.tables import Problem, Row

Values = NDArray[np.float64]

POOLED_BATCH = 128
"""Rows of a network's step."""


def epochs(problem: Problem) -> int:
    """Return how often a network sees each row: where rows are many, more often is too often."""
    return 60 if len(problem.train) < 10_000 else 16


def predict_pooled(algorithm: str, problem: Problem) -> Values:
    """Return what a pooled model predicts of the rows to be judged by: (n,) or, of more classes, (n, K)."""
    model = _pipeline(algorithm, problem)
    model.fit(_frame(problem, problem.train), _targets(problem, problem.train))
    test = _frame(problem, problem.test)
    if not problem.classes:
        return np.asarray(model.predict(test), dtype=np.float64)
    found: Values = np.asarray(model.predict_proba(test), dtype=np.float64)
    return found[:, 1] if len(problem.classes) == 2 else found


def truth(problem: Problem) -> Values:
    """Return what the rows to be judged by are: numbers, or the numbers of their classes."""
    return _targets(problem, problem.test)


def _targets(problem: Problem, rows: tuple[Row, ...]) -> Values:
    if not problem.classes:
        return np.array([row[-1] for row in rows], dtype=np.float64)
    places = {label: place for place, label in enumerate(problem.classes)}
    return np.array([places[str(row[-1])] for row in rows], dtype=np.float64)


def _frame(problem: Problem, rows: tuple[Row, ...]) -> Any:
    """An object array: None is a level of a text column, and NaN of a number."""
    frame = np.empty((len(rows), len(problem.features)), dtype=object)
    for place, column in enumerate(problem.features):
        for number, row in enumerate(rows):
            value = row[place]
            frame[number, place] = ("NULL" if value is None else value) if column.is_text else _number(value)
    return frame


def _number(value: object) -> float:
    return np.nan if value is None else float(str(value))


def _pipeline(algorithm: str, problem: Problem) -> Any:
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

    texts = [place for place, column in enumerate(problem.features) if column.is_text]
    numbers = [place for place, column in enumerate(problem.features) if not column.is_text]
    if algorithm in ("random_forest", "gradient_boosting"):
        encoder: Any = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
        scaler: Any = make_pipeline(SimpleImputer())
    else:
        encoder = OneHotEncoder(handle_unknown="ignore", drop="first")
        scaler = make_pipeline(SimpleImputer(), StandardScaler())
    if algorithm == "logistic_regression":
        # A penalty is on coefficients of scaled inputs, an indicator being one.
        encoder = make_pipeline(encoder, StandardScaler(with_mean=False))
    columns = ColumnTransformer([("text", encoder, texts), ("number", scaler, numbers)])
    return make_pipeline(columns, _model(algorithm, problem))


def _model(algorithm: str, problem: Problem) -> Any:
    from sklearn import ensemble, linear_model, neural_network
    from sklearn.compose import TransformedTargetRegressor
    from sklearn.preprocessing import StandardScaler

    learns_classes = bool(problem.classes)
    match algorithm:
        case "logistic_regression":
            return linear_model.LogisticRegression(max_iter=5000)
        case "linear_regression":
            return linear_model.LinearRegression()
        case "random_forest":
            kind = ensemble.RandomForestClassifier if learns_classes else ensemble.RandomForestRegressor
            return kind(n_estimators=100, max_depth=8, min_samples_leaf=20, random_state=0, n_jobs=1)
        case "gradient_boosting":
            boosted = (
                ensemble.HistGradientBoostingClassifier
                if learns_classes
                else ensemble.HistGradientBoostingRegressor
            )
            return boosted(
                max_iter=100,
                learning_rate=0.1,
                max_depth=6,
                max_leaf_nodes=None,
                max_bins=64,
                early_stopping=False,
                random_state=0,
            )
        case "neural_network":
            network = neural_network.MLPClassifier if learns_classes else neural_network.MLPRegressor
            found = network(
                hidden_layer_sizes=(64, 32),
                learning_rate_init=0.001,
                max_iter=epochs(problem),
                batch_size=POOLED_BATCH,
                random_state=0,
            )
            # A federated network learns a number in its standard deviations.
            return (
                found if learns_classes else TransformedTargetRegressor(found, transformer=StandardScaler())
            )
        case _:
            raise ValueError(f"there is no pooled {algorithm}")
