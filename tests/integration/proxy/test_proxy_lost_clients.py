"""A client that is lost while its server is busy: the server hears of it as it would without a proxy."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import struct
from collections.abc import Iterator

import pytest

from heliosdb.proxy.config import Upstream
from heliosdb.proxy.relay import MAX_OUTSTANDING
from heliosdb.proxy.wire import build_startup
from tests.integration.proxy.proxy_harness import (
    DATABASE,
    DEADLINE_S,
    Cluster,
    RunningProxy,
    Wire,
    eventually,
    query,
    wait_until_asleep,
)
from tests.integration.proxy.proxy_messages import SYNC, close

SSL_REQUEST = struct.pack("!II", 8, 80877103)
SLEEP = query("SELECT pg_sleep(600)")
ALL_BUFFERS = 200_000_000  # bytes, more than the kernel keeps for two connections
FOREVER_S = 20 * DEADLINE_S


@pytest.fixture(params=["TCP", "Unix socket"])
def busy_proxy(request, make_proxy, cluster, certificate) -> RunningProxy:
    """A proxy that takes its time to give anybody up, by each way to the server."""
    by_socket = Upstream(host=str(cluster.directory), port=cluster.port)
    upstream = cluster.upstream() if request.param == "TCP" else by_socket
    return make_proxy(
        default_upstream=upstream,
        close_timeout_s=FOREVER_S,
        stop_timeout_s=FOREVER_S,
        tls_certificate=certificate[0],
        tls_key=certificate[1],
        unix_socket_directory=cluster.directory,
    )


def plain(proxy: RunningProxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=DEADLINE_S)


def local(proxy: RunningProxy) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(DEADLINE_S)
    sock.connect(f"{proxy.proxy.config.unix_socket_directory}/.s.PGSQL.{proxy.port}")
    return sock


def encrypted(proxy: RunningProxy) -> socket.socket:
    sock = plain(proxy)
    sock.sendall(SSL_REQUEST)
    assert sock.recv(1) == b"S"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context.wrap_socket(sock)


def begin(sock: socket.socket, cluster: Cluster, check_ms: int = 100) -> Wire:
    """A session whose server is busy for longer than any test; at such intervals it looks for its client."""
    wire = Wire(sock)
    options = f"-c client_connection_check_interval={check_ms}"
    wire.send(build_startup({"user": "postgres", "database": DATABASE, "options": options}))
    assert wire.until(b"Z")[-1] == (b"Z", b"I")
    wire.send(SLEEP)
    wait_until_asleep(cluster)
    return wire


def pipeline(wire: Wire, cluster: Cluster) -> None:
    """Send more and more until it is taken no further; the server still does what it did."""
    block = query(f"SELECT length('{'x' * 100_000}')")
    wire.sock.setblocking(False)
    sent = 0
    while sent < ALL_BUFFERS and select.select([], [wire.sock], [], 0.5)[1]:
        with contextlib.suppress(ssl.SSLWantWriteError):
            sent += wire.sock.send(block[sent % len(block) :])
    assert sent < ALL_BUFFERS, "the client is held up"
    assert len(cluster.backends()) == 1


def reset(sock: socket.socket) -> None:
    if sock.family != socket.AF_UNIX:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def ends(cluster: Cluster) -> None:
    eventually(lambda: cluster.backends() == [], "the server has given the query up")


@pytest.fixture(params=[plain, local, encrypted])
def wire(request, busy_proxy, cluster) -> Iterator[Wire]:
    with begin(request.param(busy_proxy), cluster).sock as sock:
        yield Wire(sock)


def test_a_reset_behind_much_that_is_pipelined_ends_the_query(wire, cluster):
    pipeline(wire, cluster)
    reset(wire.sock)
    ends(cluster)


def test_a_reset_with_nothing_pipelined_ends_the_query(wire, cluster):
    reset(wire.sock)
    ends(cluster)


def test_a_reset_behind_what_the_kernel_holds_ends_the_query(busy_proxy, cluster):
    """The proxy has read and sent it all; an end would wait in the kernel behind what the server does not read."""
    wire = begin(plain(busy_proxy), cluster)
    wire.send(query(f"SELECT length('{'x' * 400_000}')"))
    reset(wire.sock)
    ends(cluster)


def say_too_much(proxy: RunningProxy, wire: Wire) -> None:
    """Small messages, more than are read ahead, and so few bytes that the server's own queue would take them."""
    small = close("S")
    (relay,) = proxy.proxy.relays
    wire.send(small * (MAX_OUTSTANDING + 1))
    eventually(lambda: relay._session.outstanding > MAX_OUTSTANDING, "it is read no further")
    wire.send(small * 100, SYNC)


def test_an_end_behind_many_small_messages_ends_the_query(busy_proxy, cluster):
    wire = begin(plain(busy_proxy), cluster)
    say_too_much(busy_proxy, wire)
    wire.sock.close()
    ends(cluster)


def test_a_half_close_behind_many_small_messages_waits_for_their_answers(busy_proxy, cluster):
    with begin(plain(busy_proxy), cluster, check_ms=0).sock as sock, cluster.admin() as admin:
        wire = Wire(sock)
        say_too_much(busy_proxy, wire)
        wire.sock.shutdown(socket.SHUT_WR)
        (relay,) = busy_proxy.proxy.relays
        eventually(lambda: relay._session.outstanding > MAX_OUTSTANDING + 100, "the rest is read")
        assert admin.execute("SELECT pg_cancel_backend(%s)", [relay.server_pid]).fetchone() == (True,)
        kinds = [kind for kind, _ in wire.rest()]
    assert kinds.count(b"3") == MAX_OUTSTANDING + 101
    assert kinds[-1] == b"Z"
