"""What the proxy asks of the kernel for its TCP connections, as PostgreSQL's settings of the same names."""

from __future__ import annotations

import socket

import pytest

OPTIONS = {
    "tcp_keepalives_idle": socket.TCP_KEEPIDLE,
    "tcp_keepalives_interval": socket.TCP_KEEPINTVL,
    "tcp_keepalives_count": socket.TCP_KEEPCNT,
    "tcp_user_timeout": socket.TCP_USER_TIMEOUT,
}
GIVEN = {
    "tcp_keepalives_idle": 71,
    "tcp_keepalives_interval": 13,
    "tcp_keepalives_count": 5,
    "tcp_user_timeout": 21_000,
}


def in_force(sock: socket.socket) -> dict[str, int]:
    return {name: sock.getsockopt(socket.IPPROTO_TCP, option) for name, option in OPTIONS.items()}


def both_legs(proxy) -> list[socket.socket]:
    (relay,) = proxy.proxy.relays
    return [each.transport.get_extra_info("socket") for each in (relay, relay._server)]


@pytest.fixture
def system() -> dict[str, int]:
    with socket.socket() as fresh:
        return in_force(fresh)


def test_the_settings_are_in_force_to_the_client_and_to_the_server(make_proxy, dial, system):
    assert system != GIVEN
    proxy = make_proxy(**GIVEN)
    dial(proxy.port, user="postgres")
    for leg in both_legs(proxy):
        assert leg.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert in_force(leg) == GIVEN


def test_without_settings_the_systems_are_in_force(proxy, dial, system):
    dial(proxy.port, user="postgres")
    for leg in both_legs(proxy):
        assert leg.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert in_force(leg) == system


def test_unix_sockets_have_none_and_work(make_proxy, cluster):
    where = {"host": str(cluster.directory), "port": cluster.port}
    proxy = make_proxy(unix_socket_directory=cluster.directory, default_upstream=where, **GIVEN)
    with proxy.connect(host=str(cluster.directory)) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
