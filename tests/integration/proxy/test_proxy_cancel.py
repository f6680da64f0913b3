"""Cancel requests reach the server that can tell whose they are, and no other client is kept waiting."""

from __future__ import annotations

import contextlib
import signal
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator

import pytest

from heliosdb.proxy.cancel import MAX_SEEKING
from heliosdb.proxy.config import Upstream
from tests.integration.proxy.proxy_harness import (
    DEADLINE_S,
    OneAnswerServer,
    binary,
    cancel_when_running,
    eventually,
    wait_until_asleep,
)
from tests.support.ports import free_port

UNKNOWN_KEY = struct.pack("!IIII", 16, 80877102, 1, 1)


def test_cancel_reaches_the_right_server(proxy):
    with proxy.connect() as connection:
        cancel_when_running(proxy.cluster, connection)


def test_an_interrupted_psql_cancels_its_query(proxy):
    command = [binary("psql"), "-X", "-d", proxy.dsn(), "-c", "SELECT pg_sleep(60)"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as psql:
        wait_until_asleep(proxy.cluster)
        psql.send_signal(signal.SIGINT)
        _, errors = psql.communicate(timeout=DEADLINE_S)
    assert "canceling statement due to user request" in errors


def test_cancel_inside_tls_reaches_the_right_server(make_proxy, certificate):
    tls_proxy = make_proxy(tls_certificate=certificate[0], tls_key=certificate[1])
    with tls_proxy.connect(sslmode="require") as connection:
        cancel_when_running(tls_proxy.cluster, connection)


def test_cancel_with_an_unknown_key_is_closed_without_an_answer(proxy, dial):
    wire = dial(proxy.port)
    wire.send(struct.pack("!IIII", 16, 80877102, 1, 1))
    assert wire.rest() == []


def test_a_long_secret_of_protocol_3_2_is_routed_whole(make_proxy, dial):
    secret = bytes(range(1, 255)) + b"!!"
    server = OneAnswerServer(secret)
    server.start()
    proxy = make_proxy(routes={"elsewhere": {"host": "127.0.0.1", "port": server.port}})
    wire = dial(proxy.port, user="postgres", database="elsewhere")
    assert wire.got[-1] == (b"Z", b"I")
    request = struct.pack("!III", 12 + len(secret), 80877102, 7) + secret
    canceller = dial(proxy.port)
    canceller.send(request)
    assert canceller.rest() == []
    server.join(DEADLINE_S)
    assert server.cancels == [request]


class CancelServer(threading.Thread):
    """A server that takes what each connection says and closes it; the first ones wait for `until`."""

    def __init__(self, until: threading.Barrier | None = None) -> None:
        super().__init__(daemon=True)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.where = {"host": "127.0.0.1", "port": self.listener.getsockname()[1]}
        self.heard: list[bytes] = []
        self._until = until

    def run(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                client, _ = self.listener.accept()
                with client:
                    self.heard.append(client.recv(10_000))
                    if self._until is not None:
                        self._until.wait(DEADLINE_S)

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.join(DEADLINE_S)


def test_a_request_with_an_unknown_key_goes_to_each_server_once_and_at_the_same_time(make_proxy, dial):
    """None lets its connection go before all have heard it; one more is not even there."""
    barrier = threading.Barrier(3)
    servers = [CancelServer(barrier) for _ in range(3)]
    for each in servers:
        each.start()
    routes = {name: server.where for name, server in zip("abcde", servers + servers[:2], strict=True)}
    proxy = make_proxy(
        routes={**routes, "gone": {"host": "127.0.0.1", "port": free_port()}},
        default_upstream=Upstream(**servers[0].where),
    )
    wire = dial(proxy.port)
    wire.send(UNKNOWN_KEY)
    assert wire.rest() == []
    for each in servers:
        each.close()
    assert [each.heard for each in servers] == [[UNKNOWN_KEY]] * 3


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """A server that accepts and says nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as server:
        server.settimeout(DEADLINE_S)
        yield server


def test_requests_with_unknown_keys_wait_for_their_turn(make_proxy, dial, silent):
    where = Upstream(host="127.0.0.1", port=silent.getsockname()[1])
    proxy = make_proxy(default_upstream=where, connect_timeout_s=DEADLINE_S)
    wires = [dial(proxy.port) for _ in range(MAX_SEEKING + 5)]
    for each in wires:
        each.send(UNKNOWN_KEY)
    accepted = [silent.accept()[0] for _ in range(MAX_SEEKING)]
    eventually(lambda: proxy.proxy.totals.cancels == MAX_SEEKING + 5, "all requests are there")
    silent.setblocking(False)
    with pytest.raises(BlockingIOError):
        silent.accept()
    silent.settimeout(DEADLINE_S)
    for each in accepted:
        each.close()
    for _ in range(5):
        silent.accept()[0].close()
    assert [each.rest() for each in wires] == [[]] * len(wires)


def test_a_server_that_does_not_take_a_cancel_request_holds_the_client_no_longer_than_allowed(
    make_proxy, dial, silent
):
    where = Upstream(host="127.0.0.1", port=silent.getsockname()[1])
    wire = dial(make_proxy(default_upstream=where, connect_timeout_s=0.05).port)
    wire.send(UNKNOWN_KEY)
    assert wire.rest() == []
