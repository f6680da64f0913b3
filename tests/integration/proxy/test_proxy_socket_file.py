"""The Unix socket's file: nobody else's is taken away, and what a dead process left is no obstacle."""

from __future__ import annotations

import asyncio
import socket
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from federated_sql.errors import FederatedError
from heliosdb.proxy.config import ProxyConfig
from heliosdb.proxy.rewriting import federated_rewriter
from heliosdb.proxy.server import Proxy
from tests.support.places import scratch
from tests.support.ports import free_port


@pytest.fixture
def refusal(loop_factory) -> Callable[..., FederatedError]:
    """Start a proxy that cannot listen; return why."""

    def attempt(**settings: object) -> FederatedError:
        async def start() -> None:
            await Proxy(ProxyConfig(**settings), federated_rewriter()).start()

        with asyncio.Runner(loop_factory=loop_factory) as runner, pytest.raises(FederatedError) as caught:
            runner.run(start())
        assert caught.value.message == "the proxy cannot listen"
        return caught.value

    return attempt


def test_the_socket_of_a_running_server_is_not_taken_away(refusal, cluster):
    path = cluster.directory / f".s.PGSQL.{cluster.port}"
    before = path.stat().st_ino
    places = {"listen_address": "127.0.0.2", "listen_port": cluster.port}
    error = refusal(**places, unix_socket_directory=cluster.directory)
    assert "a process listens on this socket" in error.detail
    assert path.stat().st_ino == before
    with psycopg.connect(cluster.dsn(host=str(cluster.directory))) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


@pytest.mark.parametrize("kind", ["file", "directory", "link", "datagram socket"])
def test_what_is_not_a_listening_socket_is_neither_replaced_nor_removed(refusal, kind):
    port = free_port()
    with (
        tempfile.TemporaryDirectory(dir=scratch()) as directory,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagrams,
    ):
        path = Path(directory) / f".s.PGSQL.{port}"
        make = {
            "file": lambda: path.write_text("precious"),
            "directory": path.mkdir,
            "link": lambda: path.symlink_to("/nowhere"),
            "datagram socket": lambda: datagrams.bind(str(path)),
        }
        make[kind]()
        before = path.lstat()
        refusal(listen_port=port, unix_socket_directory=Path(directory))
        assert path.lstat() == before


def test_a_socket_left_behind_by_a_process_that_died_is_replaced(make_proxy):
    port = free_port()
    with tempfile.TemporaryDirectory(dir=scratch()) as directory:
        path = Path(directory) / f".s.PGSQL.{port}"
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(str(path))
            left.listen()
        proxy = make_proxy(listen_port=port, unix_socket_directory=Path(directory), unix_socket_mode=0o700)
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
        with proxy.connect(host=directory) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)


def test_another_servers_socket_that_took_the_name_is_not_removed_at_the_end(make_proxy):
    with tempfile.TemporaryDirectory(dir=scratch()) as directory, socket.socket(socket.AF_UNIX) as other:
        proxy = make_proxy(unix_socket_directory=Path(directory))
        path = Path(directory) / f".s.PGSQL.{proxy.port}"
        path.unlink()
        other.bind(str(path))
        proxy.stop()
        assert path.is_socket()
