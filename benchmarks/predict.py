"""Predictions over 1,000,000 rows: the generated SQL function against the bare scan and against exporting.

The table is warm in shared buffers. The bare scan adds two columns of every row. The peer exports the features
by COPY and predicts with scikit-learn's LogisticRegression. Medians of several repetitions in one run.
"""

from __future__ import annotations

import io
import json

import numpy as np
import psycopg
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from benchmarks.harness import Figure, median_seconds, publish
from heliosdb.algorithms.sql import linear_prediction
from heliosdb.domain.task import Scaling
from tests.support.cluster import create_cluster, remove_cluster
from tests.support.ports import free_port

ROWS = 1_000_000
REPETITIONS = 7
FEATURES = ("age", "blood_pressure", "cholesterol", "bmi")
CALL = ", ".join(f"{name} => {name}" for name in FEATURES)
BARE = "SELECT sum(age + bmi) FROM patients"
PREDICT = f"SELECT sum(federated_model.risk({CALL})) FROM patients"
FORMS = {
    "named arguments": f"federated_model.risk({CALL})",
    "an array": f"predict('risk', ARRAY[{', '.join(FEATURES)}])",
    "a row": "predict('risk', p)",
    "JSON": "federated_predict('risk', to_jsonb(p) - '{patient_id,ill}'::text[])",
}
FORM_ROWS = 100_000


def main() -> None:
    """Run the benchmark on a cluster of its own."""
    cluster = create_cluster(free_port())
    try:
        with cluster.connect() as connection:
            _fill(connection)
            model = _train(connection)
            _publish_model(connection, model)
            _check(connection, model)
            publish("predict", [*_measure(connection, model), *_measure_forms(connection)])
    finally:
        remove_cluster(cluster)


def _fill(connection: psycopg.Connection) -> None:
    columns = ", ".join(f"{name} double precision" for name in FEATURES)
    connection.execute(f"CREATE TABLE patients (patient_id integer, {columns}, ill integer)")
    connection.execute(
        "INSERT INTO patients SELECT i, age, bp, chol, bmi, (age + bp / 2 + bmi + 30 * random() > 150)::integer"
        " FROM (SELECT i, 19 + 60 * random() AS age, 62 + 71 * random() AS bp, 97 + 200 * random() AS chol,"
        f" 18 + 24 * random() AS bmi FROM generate_series(1, {ROWS}) AS i) AS s"
    )
    connection.execute("VACUUM ANALYZE patients")


def _export(connection: psycopg.Connection, limit: str = "") -> NDArray[np.float64]:
    buffer = io.BytesIO()
    query = f"COPY (SELECT {', '.join(FEATURES)}, ill FROM patients {limit}) TO STDOUT"
    with connection.cursor().copy(query) as copy:
        for block in copy:
            buffer.write(block)
    values = np.fromstring(buffer.getvalue().decode("ascii"), dtype=np.float64, sep=" ")
    return values.reshape(-1, len(FEATURES) + 1)


def _train(connection: psycopg.Connection) -> LogisticRegression:
    sample = _export(connection, "LIMIT 20000")
    return LogisticRegression(max_iter=1000).fit(sample[:, :-1], sample[:, -1])


def _publish_model(connection: psycopg.Connection, model: LogisticRegression) -> None:
    identity = Scaling((0.0,) * len(FEATURES), (1.0,) * len(FEATURES))
    parameters = np.append(model.coef_[0], model.intercept_[0])
    prediction = linear_prediction("logistic", identity, parameters).to_prediction()
    for statement in ("CREATE EXTENSION plpython3u", "CREATE EXTENSION heliosdb_federated_learning"):
        connection.execute(statement)
    for statement in ("CREATE FEDERATED WORKSPACE clinics", "CREATE FEDERATED MODEL risk"):
        connection.execute("CALL federated.execute(%s)", [statement])
    connection.execute(
        "SELECT federated._publish_function((SELECT model_id FROM federated.model), 1, gen_random_uuid(), %s, %s,"
        " %s)",
        [
            list(FEATURES),
            [False] * len(FEATURES),
            json.dumps({"kind": prediction.kind, **prediction.content}),
        ],
    )


def _check(connection: psycopg.Connection, model: LogisticRegression) -> None:
    """The two ways predict the same."""
    [(total,)] = connection.execute(PREDICT).fetchall()
    expected = model.predict_proba(_export(connection)[:, :-1])[:, 1].sum()
    assert abs(total - expected) <= 1e-9 * expected, (total, expected)


def _measure(connection: psycopg.Connection, model: LogisticRegression) -> list[Figure]:
    figures = []
    for label, workers in (("", 2), (" (no parallel workers)", 0)):
        connection.execute(f"SET max_parallel_workers_per_gather = {workers}")
        bare = median_seconds(lambda: connection.execute(BARE).fetchall(), REPETITIONS)
        predict = median_seconds(lambda: connection.execute(PREDICT).fetchall(), REPETITIONS)
        figures += [
            Figure(f"bare scan{label}", bare, "s"),
            Figure(f"predict{label}", predict, "s"),
            Figure(f"predict / bare scan{label}", predict / bare, "ratio", "<= 2"),
        ]
        if not workers:
            peer = median_seconds(lambda: model.predict_proba(_export(connection)[:, :-1]).sum(), 3)
            figures += [
                Figure("COPY out and scikit-learn", peer, "s"),
                Figure(f"predict{label} / COPY out and scikit-learn", predict / peer, "ratio", "<= 0.2"),
            ]
    return figures


def _measure_forms(connection: psycopg.Connection) -> list[Figure]:
    """What a call in each form takes, the scan included, without parallel workers."""
    figures = []
    rows = f"(SELECT * FROM patients LIMIT {FORM_ROWS}) AS p"
    for form, call in FORMS.items():
        seconds = median_seconds(lambda call=call: connection.execute(f"SELECT sum({call}) FROM {rows}"), 3)  # type: ignore[misc, arg-type]
        figures.append(Figure(f"a prediction with {form}", seconds / FORM_ROWS * 1e6, "us"))
    return figures


if __name__ == "__main__":
    main()
