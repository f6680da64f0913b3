"""Fixtures of the proxy's tests: a cluster for all of them, proxies and raw connections for each."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
import uvloop

from heliosdb.proxy.config import ProxyConfig
from heliosdb.proxy.wire import build_startup
from tests.integration.proxy.proxy_harness import (
    DATABASE,
    DEADLINE_S,
    HBA,
    SCHEMA,
    Cluster,
    RunningProxy,
    Wire,
    eventually,
    start_proxy,
)
from tests.integration.proxy.proxy_process import Launcher, launcher
from tests.support.cluster import server_directory
from tests.support.places import scratch
from tests.support.ports import free_port
from tests.support.server import Server


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    directory, port = server_directory(), free_port()
    server = Server(directory, port)
    server.init_directory()
    (directory / "data" / "pg_hba.conf").write_text(HBA)
    with (directory / "data" / "postgresql.conf").open("a") as configuration:
        configuration.write(
            f"port = {port}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = '{directory}'\n"
            "fsync = off\nmax_connections = 60\nmax_prepared_transactions = 4\n"
        )
    server.start()
    made = Cluster(directory, port)
    try:
        with psycopg.connect(made.dsn(dbname="postgres"), autocommit=True) as connection:
            connection.execute("CREATE DATABASE scratch")
        with psycopg.connect(made.dsn(), autocommit=True) as connection:
            connection.execute(SCHEMA)
        yield made
    finally:
        server.control("stop", "-m", "immediate")
        shutil.rmtree(directory)


@pytest.fixture(params=["uvloop", "asyncio"])
def loop_factory(request: pytest.FixtureRequest) -> Callable[[], asyncio.AbstractEventLoop]:
    return uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop


@pytest.fixture
def make_proxy(cluster, loop_factory) -> Iterator[Callable[..., RunningProxy]]:
    """Start proxies; at the end no connection may be left, neither to them nor from them."""
    running: list[RunningProxy] = []

    def make(**settings: object) -> RunningProxy:
        given = {"listen_port": 0, "default_upstream": cluster.upstream(), "stop_timeout_s": 0.1}
        given["reserved_connections"] = 0  # the tests' user is one of those for whom they are kept
        running.append(start_proxy(cluster, ProxyConfig(**{**given, **settings}), loop_factory))
        return running[-1]

    yield make
    for each in running:
        eventually(lambda each=each: each.proxy.connections == 0, "every relay is gone")
        assert each.proxy.routes == {}
        each.stop()
    eventually(lambda: cluster.backends() == [], "every server connection is closed")


@pytest.fixture
def proxy(make_proxy) -> RunningProxy:
    return make_proxy()


@pytest.fixture
def launch(cluster) -> Iterator[Launcher]:
    """Start proxies as processes; in a short path, for a Unix socket's name is at most 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="hp-", dir=scratch()) as directory:
        yield from launcher(cluster, Path(directory))


@pytest.fixture
def dial() -> Iterator[Callable[..., Wire]]:
    """Open raw connections; with `user` given, up to the first ReadyForQuery."""
    with contextlib.ExitStack() as stack:

        def open_(port: int, **parameters: str) -> Wire:
            sock = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S))
            wire = Wire(sock)
            if parameters:
                wire.send(build_startup({"database": DATABASE, **parameters}))
                wire.until(b"Z")
            return wire

        yield open_


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A self-signed certificate for localhost and its key."""
    directory = tmp_path_factory.mktemp("tls")
    certificate, key = directory / "server.crt", directory / "server.key"
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    files = ["-keyout", str(key), "-out", str(certificate)]
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    subprocess.run(["openssl", "req", "-x509", *kind, *names, *files], check=True, capture_output=True)
    return certificate, key
