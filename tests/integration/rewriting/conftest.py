"""A proxy in front of the tests' server, a database with the extension and one with stand-ins only."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
import uvloop

from heliosdb.proxy.config import ProxyConfig, Upstream
from heliosdb.proxy.rewriting import federated_rewriter
from heliosdb.proxy.server import Proxy
from tests.support.cluster import Cluster

Connect = Callable[[str], psycopg.Connection]
DEADLINE_S = 120
STAND_INS = (Path(__file__).parent / "stand_ins.sql").read_text()

WORKSPACE = "CREATE FEDERATED WORKSPACE clinics WITH (min_nodes = 2)"
MODELS = {"risk": ("age", "smoker"), "Größe & co": ("Höhe", "b c")}
PUBLISH = (
    "SELECT federated._publish_function((SELECT model_id FROM federated.model WHERE name = %s), 1,"
    ' gen_random_uuid(), %s, %s::boolean[], \'{"intercept": 0.25, "slopes": [0.5, 2], "fills": [40, 0.5],'
    ' "shifts": [0, 0], "link": "identity", "target_mean": 0, "target_scale": 1}\')'
)
VERSION = (
    "INSERT INTO federated.version (model_id, version, run_id, round_number, features, scaling, sealed, sha256,"
    " is_current) SELECT model_id, 1, run_id, 1, %s, '{}', '', '', true FROM federated.run"
    " WHERE model_id = (SELECT model_id FROM federated.model WHERE name = %s)"
)


@pytest.fixture(scope="session")
def proxy_port(cluster: Cluster) -> Iterator[int]:
    """The port of a proxy, in a thread of its own, in front of the tests' server."""
    started = threading.Event()
    running: list[tuple[asyncio.AbstractEventLoop, asyncio.Event, int]] = []
    upstream = Upstream(host=str(cluster.directory), port=cluster.port)

    async def main() -> None:
        proxy, stopping = (
            Proxy(
                ProxyConfig(listen_port=0, default_upstream=upstream, stop_timeout_s=0.1),
                federated_rewriter(),
            ),
            asyncio.Event(),
        )
        running.append((asyncio.get_running_loop(), stopping, await proxy.start()))
        started.set()
        await stopping.wait()
        await proxy.stop()

    def target() -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main())

    thread = threading.Thread(target=target, daemon=True)
    thread.start()
    assert started.wait(DEADLINE_S)
    loop, stopping, port = running[0]
    yield port
    loop.call_soon_threadsafe(stopping.set)
    thread.join(DEADLINE_S)
    assert not thread.is_alive()


@pytest.fixture
def through(proxy_port: int) -> Connect:
    """Connect to a database of the server through the proxy, in autocommit mode."""

    def connect(database: str) -> psycopg.Connection:
        return psycopg.connect(
            host="127.0.0.1", port=proxy_port, user="postgres", dbname=database, autocommit=True
        )

    return connect


@pytest.fixture(scope="session")
def stand_ins(cluster: Cluster) -> str:
    """A database in which a few lines of SQL stand for the extension."""
    name = cluster.create_database()
    with cluster.connect(name) as connection:
        connection.execute(STAND_INS)
    return name


@pytest.fixture
def plain(stand_ins: str, through: Connect) -> Iterator[psycopg.Connection]:
    """Through the proxy to the database with the stand-ins, in a transaction that is rolled back."""
    with through(stand_ins) as connection, connection.transaction(force_rollback=True):
        yield connection


@pytest.fixture(scope="session")
def trained(cluster: Cluster) -> str:
    """A database with the extension and two models that predict.

    Both predict 0.25 + 0.5 × their first feature (or 40) + 2 × their second (or 0.5).
    """
    name = cluster.create_database("federated_template")
    with cluster.connect(name) as connection:
        connection.execute("CALL federated.execute(%s)", [WORKSPACE])
        for model, features in MODELS.items():
            listed = ", ".join(f"'{feature}'" for feature in features)
            for statement in (
                f"CREATE FEDERATED MODEL \"{model}\" IN WORKSPACE clinics WITH (algorithm = 'linear_regression',"
                f" features = [{listed}], target = 'y')",
                f'START FEDERATED TRAINING "{model}"',
            ):
                connection.execute("CALL federated.execute(%s)", [statement])
            with cluster.connect(name, user="heliosdb_daemon") as daemon:
                daemon.execute(PUBLISH, [model, list(features), [False, "smoker" in features]])
            connection.execute(VERSION, [list(features), model])
        connection.execute("CREATE TABLE p (id int PRIMARY KEY, age float8, smoker int)")
        connection.execute("INSERT INTO p VALUES (1, 10, 0), (2, 20, 1), (3, NULL, 0)")
    return name


@pytest.fixture
def session(trained: str, through: Connect) -> Iterator[psycopg.Connection]:
    """Through the proxy to the database with the extension and the models, in a transaction that is rolled back."""
    with through(trained) as connection, connection.transaction(force_rollback=True):
        yield connection
