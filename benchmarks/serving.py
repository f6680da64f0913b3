"""Predictions a second by `heliosdb api`, one at a time and in batches, beside MLServer and beside SQL.

One logistic model of ten numbers, fitted by scikit-learn: here its coefficients are a version, at MLServer the fitted
object is served by its own scikit-learn runtime (one process, as here; with its default of a worker process besides, where
`--workers 1` says so). Both are asked for the same probability, with the same bytes but for names, over plain connections that stay
open; who asks is a process of its own that does nothing else. A round asks all of them in turn; medians of the rounds. All
of it shares the machine: servers, who asks, and the database.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression

from benchmarks.harness import DIRECTORY, Figure, publish
from benchmarks.serving_load import Load
from heliosdb.algorithms.sql import LinearPrediction
from heliosdb.domain.encoding import ColumnEncoding, Encoding
from heliosdb.transport import inference_pb2 as pb
from tests.integration.api.stack import drop_roles, make_roles, running_api
from tests.integration.coordinator.support import World, make_world
from tests.support.cluster import Cluster, create_cluster, remove_cluster
from tests.support.ports import free_port
from tests.support.publication import publish_prediction

PEER = ("mlserver==1.7.1", "mlserver-sklearn==1.7.1")
ENVIRONMENT = DIRECTORY / "peer-mlserver"
FEATURES = tuple(f"x{place}" for place in range(10))
ENCODING = Encoding(tuple(map(ColumnEncoding, FEATURES)))
CLIENTS = (1, 8, 64)
BATCH = 1_000
DEADLINE = 300.0
WORKSPACE = "serving"


@dataclass(frozen=True, slots=True)
class Measured:
    """rate: predictions a second. p99: milliseconds that 99 of 100 calls take at most. processor:
    microseconds of a call that the servers, the database's among them, were busy."""

    rate: float
    p99: float
    processor: float


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        prog="benchmarks.serving", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each figure of a round")
    parser.add_argument("--workers", type=int, default=0, help="worker processes of MLServer")
    parser.add_argument("--without-peer", action="store_true")
    parser.add_argument("--only", default="", help="loads whose names have this")
    given = parser.parse_args()
    cluster = create_cluster(free_port(), fsync=True, max_connections=100)
    try:
        _prepare(cluster)
        _measure(cluster, given)
    finally:
        remove_cluster(cluster)


def _prepare(cluster: Cluster) -> None:
    with cluster.connect("template1") as connection:
        connection.execute("CREATE EXTENSION plpython3u")
        connection.execute("CREATE EXTENSION heliosdb_federated_learning")
        connection.execute("CREATE ROLE heliosdb_daemon LOGIN IN ROLE federated_daemon")


def _fit() -> tuple[LogisticRegression, np.ndarray]:
    rng = np.random.default_rng(5)
    rows = rng.normal(size=(20_000, len(FEATURES)))
    chance = 1.0 / (1.0 + np.exp(-(rows @ rng.normal(size=len(FEATURES)))))
    return LogisticRegression().fit(rows, rng.random(len(rows)) < chance), rows


def _measure(cluster: Cluster, given: argparse.Namespace) -> None:
    fitted, rows = _fit()
    with (
        tempfile.TemporaryDirectory() as directory,
        make_world(cluster, Path(directory), cluster.create_database()) as world,
        contextlib.ExitStack() as held,
    ):
        tokens = make_roles(world)
        held.callback(drop_roles, world)
        _publish(world, fitted)
        grpc_port = free_port()
        open_rate = {"per_second": 1_000_000, "burst": 1_000_000}
        api = held.enter_context(
            running_api(
                world, "bench", tokens, grpc_port=grpc_port, identity_rate=open_rate, address_rate=open_rate,
                bodies=1_000, connections=8,
            )
        )  # fmt: skip
        loads = list(
            _loads(int(api.url.rpartition(":")[2]), grpc_port, tokens["rest_analyst"], rows, given.seconds)
        )
        peers: list[int] = []
        if not given.without_peer:
            http, grpc, process = held.enter_context(_peer(Path(directory), fitted, given.workers))
            peers.append(process)
            loads += _peer_loads(http, grpc, rows, given.seconds)
        loads = [one for one in loads if given.only in one.name]
        database = int((cluster.directory / "data" / "postmaster.pid").read_text().split()[0])
        servers = {True: (api.process.pid, database), False: tuple(peers)}
        found: dict[Load, list[Measured]] = {one: [] for one in loads}
        for _ in range(given.rounds):
            for load in loads:
                found[load].append(_measured(load, servers[bool(load.token)]))
        figures = [figure for load in loads for figure in _figures(load, found[load])]
        publish("serving", [*figures, *_by_sql(world, rows, given)])


def _publish(world: World, fitted: LogisticRegression) -> None:
    world.execute(f"CREATE FEDERATED WORKSPACE {WORKSPACE}")
    listed = ", ".join(f"'{name}'" for name in FEATURES)
    world.execute(
        f"CREATE FEDERATED MODEL risk IN WORKSPACE {WORKSPACE} WITH (algorithm = 'logistic_regression',"
        f" features = [{listed}], target = 'y')"
    )
    zeros = (0.0,) * len(FEATURES)
    prediction = LinearPrediction(
        float(fitted.intercept_[0]), tuple(fitted.coef_[0].tolist()), zeros, zeros, "logistic"
    )
    publish_prediction(world.cluster, world.database, "risk", prediction.to_prediction(), ENCODING)


def _loads(port: int, grpc_port: int, token: str, rows: np.ndarray, seconds: float) -> Iterator[Load]:
    own = f"/api/v1/federated/workspaces/{WORKSPACE}/models/risk/predict"
    one = json.dumps({"features": dict(zip(FEATURES, rows[0].tolist(), strict=True))}).encode()
    for clients in CLIENTS:
        yield Load("REST predict, single", "rest", port, own, one.hex(), token, 1, clients, seconds)
    for clients in CLIENTS:
        body = _body("features", "score", rows[:1])
        yield Load(
            "REST /v2, single", "rest", port, "/v2/models/risk/infer", body, token, 1, clients, seconds
        )
    for clients in (1, 8):
        body = _body("features", "score", rows[:BATCH])
        yield Load(
            f"REST /v2, {BATCH}", "rest", port, "/v2/models/risk/infer", body, token, BATCH, clients, seconds
        )
    for clients in (1, 8):
        body = _message("features", "score", rows[:BATCH])
        yield Load(f"gRPC, {BATCH}", "grpc", grpc_port, "ModelInfer", body, token, BATCH, clients, seconds)


def _peer_loads(port: int, grpc_port: int, rows: np.ndarray, seconds: float) -> Iterator[Load]:
    path = "/v2/models/risk/infer"
    for clients in CLIENTS:
        body = _body("predict", "predict_proba", rows[:1])
        yield Load("MLServer REST, single", "rest", port, path, body, "", 1, clients, seconds)
    for clients in (1, 8):
        body = _body("predict", "predict_proba", rows[:BATCH])
        yield Load(f"MLServer REST, {BATCH}", "rest", port, path, body, "", BATCH, clients, seconds)
    for clients in (1, 8):
        body = _message("predict", "predict_proba", rows[:BATCH])
        yield Load(
            f"MLServer gRPC, {BATCH}", "grpc", grpc_port, "ModelInfer", body, "", BATCH, clients, seconds
        )


def _body(name: str, output: str, rows: np.ndarray) -> str:
    tensor = {"name": name, "shape": list(rows.shape), "datatype": "FP64", "data": rows.ravel().tolist()}
    return json.dumps({"inputs": [tensor], "outputs": [{"name": output}]}).encode().hex()


def _message(name: str, output: str, rows: np.ndarray) -> str:
    message = pb.ModelInferRequest(model_name="risk", raw_input_contents=[rows.tobytes()])
    message.inputs.add(name=name, datatype="FP64", shape=rows.shape)
    message.outputs.add(name=output)
    return message.SerializeToString().hex()


@contextlib.contextmanager
def _peer(directory: Path, fitted: LogisticRegression, workers: int) -> Iterator[tuple[int, int, int]]:
    """MLServer over the fitted model; its ports for REST and gRPC, and its process."""
    import joblib

    if not (ENVIRONMENT / "bin" / "mlserver").exists():
        subprocess.run([sys.executable, "-m", "venv", str(ENVIRONMENT)], check=True)
        subprocess.run([str(ENVIRONMENT / "bin" / "pip"), "install", "--quiet", *PEER], check=True)
    served = directory / "peer"
    served.mkdir()
    http, grpc = free_port(), free_port()
    settings = {"host": "127.0.0.1", "http_port": http, "grpc_port": grpc, "metrics_port": free_port(),
                "parallel_workers": workers, "debug": False}  # fmt: skip
    (served / "settings.json").write_text(json.dumps(settings))
    joblib.dump(fitted, served / "model.joblib")
    model = {
        "name": "risk",
        "implementation": "mlserver_sklearn.SKLearnModel",
        "parameters": {"uri": "./model.joblib"},
    }
    (served / "model-settings.json").write_text(json.dumps(model))
    with (directory / "peer.log").open("wb") as log:
        process = subprocess.Popen(
            [str(ENVIRONMENT / "bin" / "mlserver"), "start", "."], cwd=served, stdout=log, stderr=log
        )
    try:
        end = time.monotonic() + DEADLINE
        while not _answers(f"http://127.0.0.1:{http}/v2/models/risk/ready"):
            assert process.poll() is None, (directory / "peer.log").read_text()
            assert time.monotonic() < end, (directory / "peer.log").read_text()
            time.sleep(0.1)
        yield http, grpc, process.pid
    finally:
        process.terminate()
        process.wait(DEADLINE)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _measured(load: Load, servers: Sequence[int]) -> Measured:
    """Asked by a process of its own."""
    before = _spent(servers)
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.serving_load"], input=json.dumps(asdict(load)), text=True,
        stdout=subprocess.PIPE, check=True, timeout=DEADLINE,
    )  # fmt: skip
    calls, rate, p99 = json.loads(done.stdout)
    processor = (_spent(servers) - before) / calls * 1e6
    print(
        f"{load.name}, {load.clients} clients: {rate:.0f} rows/s, p99 {p99:.2f} ms,"
        f" {processor:.0f} us of processor a call (load {os.getloadavg()[0]:.1f})"
    )
    return Measured(rate, p99, processor)


def _spent(roots: Sequence[int]) -> float:
    """Seconds of processor that these processes and their children have used."""
    used: dict[int, tuple[int, float]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            ticks = sum(map(int, fields[11:15]))
            used[int(path.parent.name)] = (int(fields[1]), ticks / os.sysconf("SC_CLK_TCK"))

    def belongs(process: int) -> bool:
        return process in roots or (process in used and belongs(used[process][0]))

    return sum(seconds for process, (_, seconds) in used.items() if belongs(process))


def _figures(load: Load, found: Sequence[Measured]) -> list[Figure]:
    name = f"{load.name}, {load.clients} clients"
    target = "300000" if load.name.startswith("gRPC") else ""
    return [
        Figure(f"{name}: predictions", statistics.median(one.rate for one in found), "1/s", target),
        Figure(f"{name}: p99", statistics.median(one.p99 for one in found), "ms"),
        Figure(f"{name}: processor a call", statistics.median(one.processor for one in found), "us"),
    ]


def _by_sql(world: World, rows: np.ndarray, given: argparse.Namespace) -> list[Figure]:
    """The same model in SQL, over one connection: a row at a time, and the rows of a table."""
    one = json.dumps(dict(zip(FEATURES, rows[0].tolist(), strict=True)))
    with world.cluster.connect(world.database) as connection:
        count, began = 0, time.perf_counter()
        while time.perf_counter() - began < given.seconds:
            connection.execute("SELECT federated_predict('risk', %s::jsonb)", [one]).fetchone()
            count += 1
        single = count / (time.perf_counter() - began)
        named = ", ".join(f"{name} float8" for name in FEATURES)
        connection.execute(f"CREATE TABLE rows ({named})")  # type: ignore[arg-type]
        with connection.cursor().copy("COPY rows FROM STDIN") as copy:
            for row in rows.tolist():
                copy.write_row(row)
        query = f"SELECT sum(federated_model.risk({', '.join(FEATURES)})) FROM rows"
        times = []
        for _ in range(given.rounds):
            began = time.perf_counter()
            connection.execute(query)  # type: ignore[arg-type]
            times.append(time.perf_counter() - began)
    return [
        Figure("SQL, single, 1 connection: predictions", single, "1/s"),
        Figure(f"SQL, {len(rows)} rows of a table: predictions", len(rows) / statistics.median(times), "1/s"),
    ]


if __name__ == "__main__":
    main()
