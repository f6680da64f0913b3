"""The round trip of a FEDERATED statement: through the proxy, and by CALL federated.execute without it.

Warm: statements one after another in a session that has executed some. First: the first one of a new session,
whose backend has to start PL/Python and import the language; opening the connection is not counted.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import psycopg

from benchmarks.harness import Figure, publish
from benchmarks.proxy import connect, start_proxy
from tests.support.cluster import Cluster, create_cluster, remove_cluster
from tests.support.ports import free_port

Sender = Callable[[psycopg.Connection, str], None]

SESSIONS = 21
ROUNDS = 60
STATEMENTS = (
    "CREATE FEDERATED WORKSPACE bench",
    "ALTER FEDERATED WORKSPACE bench SET (min_nodes_per_round = 3)",
    "CREATE FEDERATED MODEL risk IN WORKSPACE bench WITH (algorithm = 'linear_regression')",
    "DROP FEDERATED MODEL risk",
    "DROP FEDERATED WORKSPACE bench",
)


def main() -> None:
    """Run the benchmark on a cluster of its own."""
    cluster = create_cluster(free_port())
    try:
        with cluster.connect() as connection:
            for statement in ("CREATE EXTENSION plpython3u", "CREATE EXTENSION heliosdb_federated_learning"):
                connection.execute(statement)
        with start_proxy(cluster) as door:
            publish("language", _warm(cluster, door.port) + _first(cluster, door.port))
    finally:
        remove_cluster(cluster)


def _typed(connection: psycopg.Connection, statement: str) -> None:
    """As a user types it, to the proxy."""
    assert connection.execute(statement.encode()).statusmessage == " ".join(statement.split()[:3])


def _called(connection: psycopg.Connection, statement: str) -> None:
    """As the proxy would write it, to the server."""
    connection.execute(f"CALL federated.execute($federated${statement}$federated$)".encode())


def _ways(cluster: Cluster, port: int) -> tuple[tuple[str, int, Sender], ...]:
    return ("proxy", port, _typed), ("CALL, direct", cluster.port, _called)


def _timed(send: Sender, connection: psycopg.Connection, statement: str) -> float:
    began = time.perf_counter()
    send(connection, statement)
    return (time.perf_counter() - began) * 1e3


def _warm(cluster: Cluster, port: int) -> list[Figure]:
    figures = []
    for name, way, send in _ways(cluster, port):
        with connect(way) as connection:
            for statement in STATEMENTS:
                send(connection, statement)
            times = [_timed(send, connection, statement) for _ in range(ROUNDS) for statement in STATEMENTS]
        cuts = statistics.quantiles(times, n=100)
        figures += [
            Figure(f"warm, {name}: p50", cuts[49], "ms", "<= 30" if name == "proxy" else ""),
            Figure(f"warm, {name}: p99", cuts[98], "ms"),
        ]
    return figures


def _first(cluster: Cluster, port: int) -> list[Figure]:
    times: dict[str, list[float]] = {}
    for _ in range(SESSIONS):
        for name, way, send in _ways(cluster, port):
            with connect(way) as connection:
                times.setdefault(name, []).append(_timed(send, connection, STATEMENTS[0]))
                send(connection, STATEMENTS[-1])
    figures = []
    for name, found in times.items():
        target = "<= 300" if name == "proxy" else ""
        figures += [
            Figure(f"first in a session, {name}: p50", statistics.median(found), "ms", target),
            Figure(f"first in a session, {name}: slowest", max(found), "ms"),
        ]
    return figures


if __name__ == "__main__":
    main()
