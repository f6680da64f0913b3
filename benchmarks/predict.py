"""Predictions over 1,000,000 rows of ten numbers and three categories, on one core, against the bare scan and exporting.

The table is warm in shared buffers, and no query has parallel workers. The bare scan reads the same
columns: it adds up the numbers and counts the texts. What numpy computes (a network of layers 128, 64, 32 over the same inputs; a forest of 100 trees of depth
8) is asked row by row and in batches. The peer exports the columns by COPY and predicts with scikit-learn, one
thread. Part sealed asks one logistic model inline and with prediction = 'sealed'. Times are of processors, of the server's process and the client's together, so that what else runs on the
machine counts little; medians of several repetitions. `make bench NAME=predict ARGS=linear` runs a part, ROWS=… fewer rows.
ARGS=participant runs all of it, ARGS="participant linear" a part, in a database that subscribes to the models instead of
the one in which they were trained.
"""

from __future__ import annotations

import csv
import io
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import psycopg
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier

from benchmarks.harness import Figure, publish
from federated_sql import rewrite
from heliosdb.algorithms.sql import linear_prediction
from heliosdb.domain.encoding import ColumnEncoding, ColumnKind, Encoding
from heliosdb.domain.prediction import Prediction
from heliosdb.domain.task import Scaling
from heliosdb.scoring.rows import encode_rows
from tests.support.cluster import Cluster, create_cluster, remove_cluster
from tests.support.delivery import deliver, register
from tests.support.ports import free_port
from tests.support.publication import publish_prediction

ROWS = int(os.environ.get("ROWS", "1000000"))
REPETITIONS = 3
FEW = ROWS // 10
NUMBERS = tuple(f"x{number}" for number in range(10))
LEVELS = {"site": 4, "ward": 8, "insurer": 12}
FEATURES = (*NUMBERS, *LEVELS)
ENCODING = Encoding(
    tuple(map(ColumnEncoding, NUMBERS))
    + tuple(
        ColumnEncoding(
            name,
            ColumnKind.CATEGORY,
            "indicators",
            levels=tuple(f"{name}{i:02}" for i in range(count)),
            other_level=True,
        )
        for name, count in LEVELS.items()
    )
)
CALL = ", ".join(f"{name} => {name}" for name in FEATURES)
BARE = f"SELECT sum({' + '.join(NUMBERS)}), {', '.join(f'count({name})' for name in LEVELS)} FROM patients"
COLUMNS = ", ".join(f"{name} float8" for name in NUMBERS) + "".join(f", {name} text" for name in LEVELS)
LAYERS = (128, 64, 32)
MODELS = ("risk", "net", "forest")
CATALOG, PARTICIPANT, NODE = "postgres", "participant", "north"


def main() -> None:
    """Run the benchmark on a cluster of its own."""
    cluster = create_cluster(free_port())
    parts = {"linear": _linear, "sealed": _sealed, "network": _network, "forest": _forest}
    if PARTICIPANT in sys.argv[1:]:
        # What is sealed is not delivered.
        del parts["sealed"]
    chosen = [part for part in sys.argv[1:] if part != PARTICIPANT] or list(parts)
    database, name = (
        (PARTICIPANT, "predict_participant") if PARTICIPANT in sys.argv[1:] else (CATALOG, "predict")
    )
    try:
        with cluster.connect() as connection:
            _prepare(connection)
        if database == PARTICIPANT:
            _subscribe(cluster)
        with cluster.connect(database) as connection:
            _fill(connection)
            publish(name, [figure for part in chosen for figure in parts[part](cluster, connection)])
    finally:
        remove_cluster(cluster)


def _subscribe(cluster: Cluster) -> None:
    """Make a database that subscribes to the models."""
    with cluster.connect() as connection:
        connection.execute(f"CREATE DATABASE {PARTICIPANT}".encode())
        register(connection, NODE)
        for model in MODELS:
            statement = f"GRANT FEDERATED SUBSCRIBE ON MODEL {model} TO NODE '{NODE}'"
            connection.execute("CALL federated.execute(%s)", [statement])
    with cluster.connect(PARTICIPANT) as connection:
        connection.execute("CREATE EXTENSION plpython3u")
        connection.execute("CREATE EXTENSION heliosdb_federated_learning")
        for model in MODELS:
            statement = f"CREATE FEDERATED SUBSCRIPTION {model} TO MODEL {model} IN WORKSPACE clinics"
            connection.execute("CALL federated.execute(%s)", [statement])


def _publish(cluster: Cluster, connection: psycopg.Connection, model: str, prediction: Prediction) -> None:
    """Commit a version, and bring it to the database that predicts where that is another one."""
    assert publish_prediction(cluster, CATALOG, model, prediction, ENCODING).obstacle is None
    if connection.info.dbname != CATALOG:
        assert deliver(cluster, CATALOG, connection.info.dbname, NODE) == [None]


def _prepare(connection: psycopg.Connection) -> None:
    for statement in ("CREATE EXTENSION plpython3u", "CREATE EXTENSION heliosdb_federated_learning",
                      "CREATE ROLE heliosdb_daemon LOGIN IN ROLE federated_daemon"):  # fmt: skip
        connection.execute(statement)  # type: ignore[arg-type]
    listed = ", ".join(f"'{name}'" for name in FEATURES)
    connection.execute("CALL federated.execute('CREATE FEDERATED WORKSPACE clinics')")
    for model in MODELS:
        statement = (
            f"CREATE FEDERATED MODEL {model} IN WORKSPACE clinics WITH (algorithm = 'logistic_regression',"
            f" features = [{listed}], target = 'ill')"
        )
        connection.execute("CALL federated.execute(%s)", [statement])


def _fill(connection: psycopg.Connection) -> None:
    drawn = ", ".join(f"{place + 1} * random() AS {name}" for place, name in enumerate(NUMBERS))
    drawn += "".join(
        f", '{name}' || to_char(random() * {count}, 'FM00') AS {name}" for name, count in LEVELS.items()
    )
    connection.execute(
        f"CREATE TABLE patients AS SELECT *, (x0 + x1 + x2 / 3 + random() > 2.2)::integer AS ill"
        f" FROM (SELECT {drawn} FROM generate_series(1, {ROWS})) AS s"  # type: ignore[arg-type]
    )
    connection.execute(f"CREATE TABLE few AS SELECT * FROM patients LIMIT {FEW}")
    connection.execute("VACUUM ANALYZE patients, few")
    connection.execute("SET max_parallel_workers_per_gather = 0")


def _export(
    connection: psycopg.Connection, limit: str = ""
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return (inputs, target) of rows that are copied out as text: what a client has to do before it can predict."""
    buffer = io.BytesIO()
    with connection.cursor().copy(
        f"COPY (SELECT {', '.join(FEATURES)}, ill FROM few {limit}) TO STDOUT"
    ) as copy:  # type: ignore[arg-type]
        for block in copy:
            buffer.write(block)
    buffer.seek(0)
    codes = [
        {level: place for place, level in enumerate(one.levels)} for one in ENCODING.columns[len(NUMBERS) :]
    ]
    rows = list(csv.reader(io.TextIOWrapper(buffer), delimiter="\t"))
    values = np.empty((len(rows), len(FEATURES) + 1))
    for place in range(len(FEATURES) + 1):
        column = [row[place] for row in rows]
        if len(NUMBERS) <= place < len(FEATURES):
            known = codes[place - len(NUMBERS)]
            values[:, place] = [known.get(level, len(known)) for level in column]
        else:
            values[:, place] = np.array(column, dtype=np.float64)
    return encode_rows(values[:, :-1], ENCODING), values[:, -1]


def _seconds(connection: psycopg.Connection, query: str, repetitions: int = REPETITIONS) -> float:
    """Return what a query takes of one core: the median of the processor time of the server's process."""
    return _processor_seconds(connection, lambda: connection.execute(query).fetchall(), repetitions)  # type: ignore[arg-type]


def _processor_seconds(
    connection: psycopg.Connection, action: Callable[[], object], repetitions: int
) -> float:
    """Return the median over repetitions, of which the first is not counted, of this process's and the server
    process's time together."""
    times = []
    for _ in range(repetitions + 1):
        began = _used(connection)
        action()
        times.append(_used(connection) - began)
    return statistics.median(times[1:])


def _used(connection: psycopg.Connection) -> float:
    on_processor = int(Path(f"/proc/{connection.info.backend_pid}/schedstat").read_text().split()[0])
    return time.process_time() + on_processor / 1e9


def _same(connection: psycopg.Connection, query: str, expected: float) -> None:
    """The two ways predict the same."""
    [(total,)] = connection.execute(query.replace("FROM patients", "FROM few")).fetchall()  # type: ignore[arg-type]
    assert abs(total - expected) <= 1e-5 * expected, (query, total, expected)


def _peer(
    connection: psycopg.Connection, name: str, predict: Callable[[NDArray[np.float64]], Any]
) -> tuple[float, float, list[Figure]]:
    """Return how long exporting and predicting take (of a tenth, for all), and what is predicted for that tenth."""
    taken = _processor_seconds(connection, lambda: predict(_export(connection)[0]), 1) * ROWS / FEW
    total = float(predict(_export(connection)[0]).sum())
    return taken, total, [Figure(f"{name}: COPY out and scikit-learn", ROWS / taken, "rows/s")]


def _linear(cluster: Cluster, connection: psycopg.Connection) -> list[Figure]:
    inputs, target = _export(connection, "LIMIT 20000")
    means, scales = inputs.mean(axis=0), inputs.std(axis=0) + 1e-9
    model = LogisticRegression(max_iter=200).fit((inputs - means) / scales, target)
    scaling = Scaling(tuple(means.tolist()), tuple(scales.tolist()))
    prediction = linear_prediction(
        "logistic", scaling, np.append(model.coef_[0], model.intercept_[0])
    ).to_prediction()
    _publish(cluster, connection, "risk", prediction)
    peer, total, figures = _peer(
        connection, "logistic", lambda x: model.predict_proba((x - means) / scales)[:, 1]
    )
    bare = _seconds(connection, BARE)
    rewritten = rewrite("SELECT sum(federated_predict('risk', p)) FROM patients AS p")
    assert rewritten is not None
    figures = [Figure("bare scan", ROWS / bare, "rows/s"), *figures]
    for form, query in {
        "named arguments": f"SELECT sum(federated_model.risk({CALL})) FROM patients",
        "a row, through the proxy": rewritten.text,
        "a row in FROM": "SELECT sum(y) FROM patients AS p, federated_row.risk(p) AS y",
        "a batch": f"SELECT sum(y) FROM federated_predict_batch('risk', 'SELECT {', '.join(FEATURES)} FROM patients')"
        f" AS ({COLUMNS}, y float8)",
    }.items():
        _same(connection, query, total)
        taken = _seconds(connection, query)
        figures.append(Figure(f"logistic: {form}", ROWS / taken, "rows/s"))
        target_of = "<= 2" if form != "a batch" else ""
        figures.append(Figure(f"logistic: {form} / bare scan", taken / bare, "ratio", target_of))
        figures.append(Figure(f"logistic: {form} / COPY out and scikit-learn", taken / peer, "ratio"))
    few = "few AS p"
    for form, call in {"predict with a row": "predict('risk', p)",
                       "federated_predict with JSON": "federated_predict('risk', to_jsonb(p) - 'ill')"}.items():  # fmt: skip
        taken = _seconds(connection, f"SELECT sum({call}) FROM {few}", 3)
        figures.append(Figure(f"logistic: {form}", FEW / taken, "rows/s"))
    return figures


def _sealed(cluster: Cluster, connection: psycopg.Connection) -> list[Figure]:
    """What it costs that the catalog holds cipher text: the same version inline and sealed."""
    width = len(ENCODING.inputs)
    scaling = Scaling((0.0,) * width, (1.0,) * width)
    prediction = linear_prediction("logistic", scaling, np.linspace(-0.5, 0.5, width + 1)).to_prediction()
    figures, taken = [], dict[tuple[str, str], float]()
    queries = {
        "named arguments": (f"SELECT sum(federated_model.risk({CALL})) FROM few", FEW),
        "a batch": (
            f"SELECT sum(y) FROM federated_predict_batch('risk', 'SELECT {', '.join(FEATURES)} FROM patients')"
            f" AS ({COLUMNS}, y float8)",
            ROWS,
        ),
    }
    for way in ("inline", "sealed"):
        connection.execute(
            "CALL federated.execute(%s)", [f"ALTER FEDERATED MODEL risk SET (prediction = '{way}')"]
        )
        _publish(cluster, connection, "risk", prediction)
        for form, (query, rows) in queries.items():
            taken[way, form] = _seconds(connection, query, 3)
            figures.append(Figure(f"{way}: {form}", rows / taken[way, form], "rows/s"))
    for form in queries:
        figures.append(
            Figure(f"sealed / inline: {form}", taken["sealed", form] / taken["inline", form], "ratio")
        )
    with cluster.connect(CATALOG) as fresh:
        began = time.perf_counter()
        fresh.execute("SELECT federated_model.risk()")
        figures.append(Figure("sealed: the first prediction of a session", time.perf_counter() - began, "s"))
    connection.execute("CALL federated.execute('ALTER FEDERATED MODEL risk SET (prediction = ''inline'')')")
    return figures


def _both_ways(
    connection: psycopg.Connection, name: str, model: str, total: float, peer: float, wanted: tuple[str, str]
) -> list[Figure]:
    """By row (a tenth of the rows) and in a batch."""
    by_row = _seconds(
        connection,
        f"SELECT sum(federated_model.{model}({CALL})) FROM few",
        3,
    )
    query = f"SELECT {', '.join(FEATURES)} FROM patients"
    batch = f"SELECT sum(y) FROM federated_predict_batch('{model}', '{query}') AS ({COLUMNS}, y float8)"
    _same(connection, batch, total)
    in_batch = _seconds(connection, batch, 3)
    return [
        Figure(f"{name}: by row", FEW / by_row, "rows/s", wanted[0]),
        Figure(f"{name}: in a batch", ROWS / in_batch, "rows/s", wanted[1]),
        Figure(f"{name}: in a batch / COPY out and scikit-learn", in_batch / peer, "ratio"),
    ]


def _network(cluster: Cluster, connection: psycopg.Connection) -> list[Figure]:
    """A network as scikit-learn trains it, with its numbers as ours stores them."""
    inputs, target = _export(connection, "LIMIT 20000")
    means, scales = inputs.mean(axis=0), inputs.std(axis=0) + 1e-9
    model = MLPClassifier(LAYERS, max_iter=3).fit((inputs - means) / scales, target)
    made = network_prediction(model.coefs_, model.intercepts_, means, scales)
    _publish(cluster, connection, "net", made)
    scale = lambda x: ((x - means) / scales).astype(np.float32)  # noqa: E731
    peer, total, figures = _peer(connection, "network", lambda x: model.predict_proba(scale(x))[:, 1])
    return [*figures, *_both_ways(connection, "network", "net", total, peer, (">= 100000", ">= 800000"))]


def _forest(cluster: Cluster, connection: psycopg.Connection) -> list[Figure]:
    """A forest as scikit-learn grows it over as many bins as ours has, with its numbers as ours stores them."""
    inputs, target = _export(connection, "LIMIT 20000")
    model = grow_over_bins(inputs, target)
    made = forest_prediction(model)
    _publish(cluster, connection, "forest", made)
    peer, total, figures = _peer(connection, "forest", lambda x: model.predict_proba(x)[:, 1])
    return [*figures, *_both_ways(connection, "forest", "forest", total, peer, ("", ">= 200000"))]


def grow_over_bins(inputs: Any, target: Any, bins: int = 64) -> RandomForestClassifier:
    """Return a forest whose every condition is at an edge between bins of about as many rows, as ours."""
    edges = [np.unique(np.quantile(column, np.arange(1, bins) / bins)) for column in inputs.T]
    placed = [np.searchsorted(edge, column) for edge, column in zip(edges, inputs.T, strict=True)]
    model = RandomForestClassifier(100, max_depth=8, random_state=1).fit(np.stack(placed, axis=1), target)
    for one in model.estimators_:
        for node in np.flatnonzero(one.tree_.feature >= 0):
            of = edges[one.tree_.feature[node]]
            one.tree_.threshold[node] = of[int(one.tree_.threshold[node])]
    return model


def network_prediction(weights: Any, biases: Any, means: Any, scales: Any) -> Prediction:
    """Return a network's prediction of a probability, of scikit-learn's weights, each (inputs, units)."""
    arrays = {"means": means, "scales": scales}
    for place, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        arrays[f"weight_{place}"] = weight.T.astype(np.float32)
        arrays[f"bias_{place}"] = bias.astype(np.float32)
    activations = ["relu"] * (len(weights) - 1) + ["sigmoid"]
    content = {"activations": activations, "link": "logistic", "target_mean": 0.0, "target_scale": 1.0}
    return Prediction("network", content, arrays)


def forest_prediction(model: RandomForestClassifier) -> Prediction:
    """Return a forest's prediction of a probability, of scikit-learn's trees; children lie side by side."""
    inputs = model.n_features_in_
    trees = [one.tree_ for one in model.estimators_]
    edges = [
        np.unique(np.concatenate([tree.threshold[tree.feature == place] for tree in trees]))
        for place in range(inputs)
    ]
    nodes: list[tuple[int, int, int, int, float]] = []
    for number, tree in enumerate(trees):
        start, queue = len(nodes), [0]
        for node in queue:
            feature = int(tree.feature[node])
            left = 0
            if feature >= 0:
                left = start + len(queue)
                queue += [tree.children_left[node], tree.children_right[node]]
            split = int(np.searchsorted(edges[feature], tree.threshold[node])) if feature >= 0 else 0
            shares = tree.value[node][0]
            nodes.append((number, max(feature, -1), split, left, float(shares[1] / shares.sum())))
    number_of, feature_of, split_of, left_of, value_of = (np.array(part) for part in zip(*nodes, strict=True))
    arrays = {
        "tree": number_of.astype(np.int32), "feature": feature_of.astype(np.int32), "split": split_of.astype(np.int32),
        "left": left_of.astype(np.int32), "values": value_of[:, None], "missing_left": np.zeros(len(nodes), np.uint8),
        "edges": np.concatenate(edges), "n_edges": np.array([one.size for one in edges], np.int64),
        "levels": np.zeros(inputs, np.int64), "subsets": np.zeros((1, 1), np.uint8),
    }  # fmt: skip
    return Prediction(
        "trees", {"link": "logistic", "boosts": False, "target_mean": 0.0, "target_scale": 1.0}, arrays
    )


if __name__ == "__main__":
    sys.exit(main())
