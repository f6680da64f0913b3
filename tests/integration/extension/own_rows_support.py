"""Models of every kind that are judged on rows of the caller's own, and the figures that scikit-learn has for them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import psycopg
import statsmodels.api as sm
from psycopg import sql
from sklearn import metrics

from heliosdb.algorithms.sql import LinearPrediction
from heliosdb.domain.encoding import ColumnEncoding, Encoding
from heliosdb.domain.prediction import Prediction
from tests.integration.extension.versions_support import execute, notices_of
from tests.support.cluster import Cluster
from tests.support.publication import publish_prediction

ENCODING = Encoding((ColumnEncoding("a"), ColumnEncoding("b")))
ROWS = 400
Figures = dict[str, tuple[float | None, ...]]


def linear(link: str) -> Prediction:
    return LinearPrediction(0.25, (1.0, -0.5), (0.5, 0.0), (0.0, 0.0), link).to_prediction()  # type: ignore[arg-type]


def softmax() -> Prediction:
    content = {
        "intercepts": [0.0, 0.3, -0.2], "slopes": [[0.0, 0.0], [1.0, 0.5], [-1.0, 1.0]], "fills": [0.5, 0.0],
        "shifts": [0.0, 0.0], "link": "softmax",
    }  # fmt: skip
    return Prediction("softmax_linear", content)


def network() -> Prediction:
    arrays = {
        "means": np.array([0.5, 0.0]), "scales": np.ones(2), "weight_0": np.array([[1.0, 0.0], [0.5, -1.0]], np.float32),
        "bias_0": np.zeros(2, np.float32), "weight_1": np.array([[1.5, -0.5]], np.float32), "bias_1": np.zeros(1, np.float32),
    }  # fmt: skip
    content = {
        "activations": ["tanh", "sigmoid"],
        "link": "logistic",
        "target_mean": 0.0,
        "target_scale": 1.0,
    }
    return Prediction("network", content, arrays)


def forest(leaves: Sequence[Sequence[float]], link: str) -> Prediction:
    """One tree that splits by a at 0 and at 1."""
    arrays = {
        "tree": np.zeros(5, np.int32), "feature": np.array([0, -1, 0, -1, -1], np.int32),
        "split": np.array([0, 0, 1, 0, 0], np.int32), "left": np.array([1, 0, 3, 0, 0], np.int32),
        "values": np.array([leaves[0], leaves[0], leaves[0], leaves[1], leaves[2]], float),
        "missing_left": np.ones(5, np.uint8), "edges": np.array([0.0, 1.0]), "n_edges": np.array([2, 0], np.int32),
        "levels": np.zeros(2, np.int32), "subsets": np.zeros((1, 1), np.uint8),
    }  # fmt: skip
    content = {"link": link, "boosts": False, "target_mean": 0.0, "target_scale": 1.0}
    return Prediction("trees", content, arrays)


class World:
    """A coordinator's database with a table `own` of the caller's, and models as they are wanted."""

    def __init__(self, cluster: Cluster, session: psycopg.Connection) -> None:
        self.cluster, self.session = cluster, session
        self.notices = notices_of(session)
        self.details: list[str] = []
        session.add_notice_handler(lambda said: self.details.append(said.message_detail or ""))
        rng = np.random.default_rng(5)
        self.a, self.b = np.round(rng.normal(size=ROWS), 1), np.round(rng.normal(size=ROWS), 1)
        noise = rng.normal(size=ROWS)
        self.columns: dict[str, Any] = {
            "id": np.arange(ROWS), "a": self.a, "b": self.b,
            "ill": (self.a + noise > 0.3), "cost": np.round(self.a - self.b + noise, 1),
            "visits": rng.poisson(np.exp(0.25 + self.a - 0.5 * self.b)), "kind": np.array(["x", "y", "z"])[rng.integers(0, 3, ROWS)],
            "months": np.ceil(5 * rng.exponential(np.exp(-self.a))), "died": rng.random(ROWS) < 0.6,
            "share": rng.integers(1, 4, ROWS), "exposure": np.round(rng.normal(size=ROWS) / 3, 2), "who": rng.integers(0, 80, ROWS),
        }  # fmt: skip
        session.execute(
            "CREATE TABLE own (id integer, a float8, b float8, ill boolean, cost float8, visits integer, kind text,"
            " months float8, died boolean, share integer, exposure float8, who integer);"
            "GRANT SELECT ON own TO federated_analyst"
        )
        with session.cursor().copy("COPY own FROM STDIN") as copy:
            for row in zip(*(column.tolist() for column in self.columns.values()), strict=True):
                copy.write_row(row)

    def publish(
        self, name: str, algorithm: str, target: str, prediction: Prediction, options: str = ""
    ) -> None:
        execute(
            self.session,
            f"CREATE FEDERATED MODEL {name} IN WORKSPACE open WITH (algorithm = '{algorithm}',"
            f" features = ['a', 'b'], target = '{target}'{options})",
        )
        published = publish_prediction(
            self.cluster, self.session.info.dbname, name, prediction, encoding=ENCODING
        )
        assert published.obstacle is None

    def evaluate(
        self, reference: str, query: str = "SELECT * FROM own ORDER BY id", **options: object
    ) -> Figures:
        return evaluate(self.session, reference, query, **options)


def evaluate(session: psycopg.Connection, reference: str, query: str, **options: object) -> Figures:
    named = [
        sql.SQL(", {} => {}").format(sql.Identifier(name), sql.Literal(value))
        for name, value in options.items()
    ]
    found = session.execute(
        sql.SQL("SELECT * FROM federated_evaluate({}, {}{})").format(reference, query, sql.Composed(named))
    )
    return {name: tuple(rest) for name, *rest in found.fetchall()}


def values(found: Figures) -> dict[str, float | None]:
    return {name: figures[0] for name, figures in found.items()}


def predicted(world: World, model: str) -> np.ndarray:
    query = f"SELECT federated_model.{model}(a => a, b => b) FROM own ORDER BY id"
    return np.array([one for (one,) in world.session.execute(query)])  # type: ignore[arg-type]


def of_two_classes(y: np.ndarray, p: np.ndarray, w: np.ndarray | None = None) -> dict[str, float]:
    guess, weight = p > 0.5, {"sample_weight": w}
    odds = sm.add_constant(np.log(p / (1 - p)))
    recalibrated = sm.GLM(
        y.astype(float), odds, family=sm.families.Binomial(), freq_weights=w
    ).fit(tol=1e-14)  # fmt: skip
    rate = float(np.average(y, weights=w))
    return {
        "loss": metrics.log_loss(y, p, **weight),
        "base_loss": -rate * math.log(rate) - (1 - rate) * math.log(1 - rate),
        "accuracy": metrics.accuracy_score(y, guess, **weight),
        "precision": metrics.precision_score(y, guess, **weight),
        "recall": metrics.recall_score(y, guess, **weight),
        "f1_score": metrics.f1_score(y, guess, **weight),
        "auc": metrics.roc_auc_score(y, p, **weight),
        "brier": metrics.brier_score_loss(y, p, **weight),
        "calibration_intercept": recalibrated.params[0],
        "calibration_slope": recalibrated.params[1],
    }
