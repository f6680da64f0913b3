"""What clients make of the errors with which the proxy itself turns them away: they go on to another server."""

from __future__ import annotations

import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg

from heliosdb.proxy.config import Upstream
from heliosdb.proxy.wire import parse_fields
from tests.integration.proxy.proxy_harness import (
    DATABASE,
    DEADLINE_S,
    Cluster,
    RunningProxy,
    binary,
    eventually,
    query,
    wait_until_asleep,
)
from tests.support.ports import free_port

ACCEPTS, REJECTS = 0, 1  # exit codes of pg_isready


def is_ready(*where: object) -> int:
    command = [binary("pg_isready"), "-q", "-t", "20", "-h", "127.0.0.1", "-U", "postgres", *where]
    return subprocess.run([str(word) for word in command], check=False, timeout=DEADLINE_S).returncode


def first_or_second(first: RunningProxy, second: Cluster) -> subprocess.Popen[str]:
    """A psql that is told of two servers."""
    where = f"host=127.0.0.1,127.0.0.1 port={first.port},{second.port} user=postgres dbname={DATABASE}"
    return subprocess.Popen(
        [str(binary("psql")), "-X", "-A", "-t", "-d", where, "-c", "SHOW port"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def goes_on(psql: subprocess.Popen[str], to: Cluster) -> None:
    said, faults = psql.communicate(timeout=DEADLINE_S)
    assert (said.strip(), faults, psql.returncode) == (str(to.port), "", 0)


@contextmanager
def server_that_hangs_up() -> Iterator[int]:
    """A port whose connections are closed as soon as they are made."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def hang_up() -> None:
            while True:
                try:
                    client, _ = server.accept()
                except OSError:
                    return
                with client:
                    client.recv(10_000)

        threading.Thread(target=hang_up, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


def test_a_proxy_whose_server_is_well_accepts(proxy):
    assert is_ready("-p", proxy.port, "-d", DATABASE) == ACCEPTS


def test_a_proxy_whose_server_cannot_be_reached_rejects_and_another_is_tried(make_proxy, cluster):
    proxy = make_proxy(default_upstream=Upstream(host="127.0.0.1", port=free_port()))
    assert is_ready("-p", proxy.port) == REJECTS
    goes_on(first_or_second(proxy, cluster), cluster)


async def test_asyncpg_tries_another_too(make_proxy, cluster):
    proxy = make_proxy(default_upstream=Upstream(host="127.0.0.1", port=free_port()))
    ports = [proxy.port, cluster.port]
    where = {"host": ["127.0.0.1"] * 2, "port": ports, "user": "postgres", "database": DATABASE}
    connection = await asyncpg.connect(**where, ssl=False, timeout=DEADLINE_S)
    try:
        assert await connection.fetchval("SHOW port") == str(cluster.port)
    finally:
        await connection.close()


def test_a_proxy_whose_server_hangs_up_at_once_rejects_and_another_is_tried(make_proxy, cluster):
    with server_that_hangs_up() as port:
        proxy = make_proxy(default_upstream=Upstream(host="127.0.0.1", port=port))
        assert is_ready("-p", proxy.port) == REJECTS
        goes_on(first_or_second(proxy, cluster), cluster)


def test_a_client_that_is_starting_as_the_proxy_stops_tries_another(make_proxy, cluster):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        upstream = Upstream(host="127.0.0.1", port=silent.getsockname()[1])
        proxy = make_proxy(default_upstream=upstream, stop_timeout_s=10 * DEADLINE_S)
        psql = first_or_second(proxy, cluster)
        accepted, _ = silent.accept()
        with accepted:
            assert accepted.recv(10_000)
            proxy.begin_stop()
            goes_on(psql, cluster)


def test_a_stop_does_not_wait_for_a_connection_that_is_being_made(make_proxy, cluster):
    """The server's queue of connections is full: whoever comes now waits for an answer of the kernel."""
    with socket.socket() as full, socket.socket() as waiting:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting.setblocking(False)
        waiting.connect_ex(full.getsockname())
        upstream = Upstream(host="127.0.0.1", port=full.getsockname()[1])
        proxy = make_proxy(
            default_upstream=upstream, connect_timeout_s=10 * DEADLINE_S, stop_timeout_s=10 * DEADLINE_S
        )
        psql = first_or_second(proxy, cluster)
        eventually(lambda: [each.upstream for each in proxy.proxy.relays] == [upstream], "it connects")
        proxy.begin_stop()
        goes_on(psql, cluster)
        proxy.stop()


def test_who_is_one_too_many_hears_what_the_server_would_say(make_proxy, cluster, dial):
    """As PostgreSQL: it is well and has no place; libpq takes 53300 for an answer and not for a reason to go on."""
    proxy = make_proxy(max_connections=1)
    with proxy.connect():
        assert is_ready("-p", proxy.port, "-d", DATABASE) == ACCEPTS
        (error,) = dial(proxy.port, user="postgres").got
        assert dict(parse_fields(error[1]))[b"C"] == b"53300"


def test_after_the_servers_last_word_the_proxy_adds_none(proxy, cluster, dial):
    idle, busy = ([dial(port, user="postgres") for port in (cluster.port, proxy.port)] for _ in range(2))
    for wire in busy:
        wire.send(query("DO $$ BEGIN RAISE NOTICE 'busy'; PERFORM pg_sleep(600); END $$"))
        wire.until(b"N")
    wait_until_asleep(cluster, sessions=2)
    for wire in (*idle, *busy):
        wire.got.clear()
    cluster.immediate_restart()
    heard = [wire.rest() for wire in (*idle, *busy)]
    assert heard == [heard[0]] * 4
    ((kind, body),) = heard[0]
    assert (kind, dict(parse_fields(body))[b"C"]) == (b"N", b"57P01")
