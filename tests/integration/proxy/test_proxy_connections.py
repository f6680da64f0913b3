"""How connections begin and end: TLS, cancel, limits, half-close, servers that die, a proxy that stops."""

from __future__ import annotations

import concurrent.futures
import os
import signal
import socket
import ssl
import struct
from contextlib import closing

import psycopg
import pytest

from heliosdb.proxy.config import Upstream
from heliosdb.proxy.wire import build_message, build_startup, parse_fields
from tests.integration.proxy.proxy_harness import (
    DATABASE,
    DEADLINE_S,
    OneAnswerServer,
    Wire,
    cancel_when_running,
    eventually,
    query,
)
from tests.support.ports import free_port

SSL_REQUEST = struct.pack("!II", 8, 80877103)
GSS_REQUEST = struct.pack("!II", 8, 80877104)
START = build_startup({"user": "postgres", "database": DATABASE})
IDLE = build_message(b"Z", b"I")


def fields(message: tuple[bytes, bytes]) -> dict[bytes, bytes]:
    kind, body = message
    assert kind == b"E"
    return dict(parse_fields(body))


def codes(messages: list[tuple[bytes, bytes]]) -> list[bytes]:
    return [fields(message)[b"C"] for message in messages if message[0] == b"E"]


@pytest.fixture
def tls_proxy(make_proxy, certificate):
    return make_proxy(tls_certificate=certificate[0], tls_key=certificate[1], stop_timeout_s=10 * DEADLINE_S)


# Encryption


@pytest.mark.parametrize(
    ("user", "binding"), [("scram_user", "prefer"), ("scram_user", "disable"), ("md5_user", "prefer")]
)
def test_tls_to_the_proxy_and_passwords_to_a_plain_server(tls_proxy, certificate, user, binding):
    words = {"sslmode": "verify-full", "sslrootcert": str(certificate[0]), "host": "localhost"}
    with tls_proxy.connect(user=user, password="secret", channel_binding=binding, **words) as connection:
        assert connection.pgconn.ssl_in_use
        assert connection.execute(
            "CREATE FEDERATED WORKSPACE w" if user is None else "SELECT 1"
        ).fetchone() == (1,)


def test_required_channel_binding_fails_because_the_server_behind_speaks_no_tls(tls_proxy):
    with pytest.raises(psycopg.OperationalError, match="channel binding"):
        tls_proxy.connect(user="scram_user", password="secret", sslmode="require", channel_binding="require")


def test_a_federated_statement_passes_through_tls(tls_proxy):
    with tls_proxy.connect(sslmode="require") as connection:
        assert (
            connection.execute("CREATE FEDERATED WORKSPACE w").statusmessage == "CREATE FEDERATED WORKSPACE"
        )
        assert len(connection.execute("SELECT repeat('x', 3000000)").fetchone()[0]) == 3_000_000


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_both_tls_versions_are_spoken_and_closing_tls_ends_the_server_connection(tls_proxy, dial, version):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = context.maximum_version = version
    wire = dial(tls_proxy.port)
    wire.send(SSL_REQUEST)
    assert wire.sock.recv(1) == b"S"
    wire.sock = context.wrap_socket(wire.sock)
    wire.send(START)
    assert wire.until(b"Z")[-1] == (b"Z", b"I")
    wire.sock.close()
    eventually(lambda: tls_proxy.proxy.connections == 0, "the relay is gone")


def test_tls_is_declined_without_a_certificate_and_gss_always(proxy, dial):
    wire = dial(proxy.port)
    for request in (GSS_REQUEST, SSL_REQUEST):
        wire.send(request)
        assert wire.sock.recv(1) == b"N"
    wire.send(START)
    assert wire.until(b"Z")[-1] == (b"Z", b"I")


def test_gss_is_declined_before_tls(tls_proxy, dial):
    wire = dial(tls_proxy.port)
    wire.send(GSS_REQUEST)
    assert wire.sock.recv(1) == b"N"
    wire.send(SSL_REQUEST)
    assert wire.sock.recv(1) == b"S"


def test_bytes_stuffed_before_tls_are_refused(tls_proxy, dial):
    wire = dial(tls_proxy.port)
    wire.send(SSL_REQUEST + START)
    assert codes(wire.rest()) == [b"08P01"]


@pytest.mark.parametrize("request_", [SSL_REQUEST, GSS_REQUEST], ids=["SSL", "GSS"])
def test_bytes_stuffed_behind_a_request_that_is_declined_get_the_servers_answer(
    cluster, proxy, dial, request_
):
    """Of the server by its Unix socket, where it declines both, as the proxy does."""
    said = []
    with socket.socket(socket.AF_UNIX) as direct:
        direct.settimeout(DEADLINE_S)
        direct.connect(str(cluster.directory / f".s.PGSQL.{cluster.port}"))
        for wire in (Wire(direct), dial(proxy.port)):
            wire.send(request_ + START)
            assert wire.sock.recv(1) == b"N"
            (answer,) = wire.rest()
            said.append([fields(answer)[name] for name in (b"S", b"C", b"M", b"D")])
    assert said[0] == said[1]


def test_plain_bytes_in_place_of_the_handshake_end_the_connection(tls_proxy, dial):
    wire = dial(tls_proxy.port)
    wire.send(SSL_REQUEST)
    assert wire.sock.recv(1) == b"S"
    wire.send(START)
    assert not any(kind in (b"R", b"Z") for kind, _ in wire.rest())
    eventually(lambda: tls_proxy.proxy.connections == 0, "the relay is gone")


def test_where_tls_is_required_a_plain_session_is_refused(make_proxy, certificate, dial):
    proxy = make_proxy(tls_certificate=certificate[0], tls_key=certificate[1], tls_required=True)
    wire = dial(proxy.port)
    wire.send(START)
    assert codes(wire.rest()) == [b"28000"]
    with proxy.connect(sslmode="require") as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


# Beginnings that are not one


@pytest.mark.parametrize(
    "data", [bytes(4), struct.pack("!I", 7), struct.pack("!I", 10_001), b"\xff" * 8, b"GET / HTTP/1.1\r\n"]
)
def test_a_start_up_length_out_of_bounds_ends_the_connection_without_an_answer(proxy, dial, data):
    wire = dial(proxy.port)
    wire.send(data)
    assert wire.rest() == []
    assert wire.ended


@pytest.mark.parametrize("start", [b"", START[:10], SSL_REQUEST[:5]])
def test_a_client_that_does_not_finish_its_start_is_cut_off(make_proxy, dial, start):
    proxy = make_proxy(startup_timeout_s=0.05)
    wire = dial(proxy.port)
    wire.send(start)
    assert wire.rest() == []


def test_a_client_that_does_not_finish_the_handshake_is_cut_off(make_proxy, certificate, dial):
    proxy = make_proxy(tls_certificate=certificate[0], tls_key=certificate[1], startup_timeout_s=0.05)
    wire = dial(proxy.port)
    wire.send(SSL_REQUEST)
    assert wire.sock.recv(1) == b"S"
    assert wire.sock.recv(1) == b""
    eventually(lambda: proxy.proxy.connections == 0, "the relay is gone")


def test_a_client_past_its_start_is_not_cut_off(make_proxy, dial):
    proxy = make_proxy(startup_timeout_s=0.05)
    wire = dial(proxy.port, user="postgres")
    late = dial(proxy.port)
    assert late.rest() == []  # its deadline, and with it the first one's, has passed
    wire.send(query("SELECT 1"))
    assert wire.until(b"Z")[-1] == (b"Z", b"I")


def test_a_server_that_cannot_be_reached_is_reported(make_proxy, dial):
    wire = dial(make_proxy(default_upstream=Upstream(host="127.0.0.1", port=free_port())).port)
    wire.send(START)
    assert codes(wire.rest()) == [b"57P03"]


@pytest.mark.parametrize("host", ["db..example", "x" * 70, "/" + "a" * 200, "/a\0b"])
def test_a_host_that_cannot_be_encoded_is_a_server_that_cannot_be_reached(make_proxy, dial, host):
    """The settings refuse such a host; here it gets past them."""
    where = Upstream.model_construct(host=host, port=5432, plaintext=True)
    proxy = make_proxy()
    proxy.proxy.config = proxy.proxy.config.model_copy(update={"default_upstream": where})
    wire = dial(proxy.port)
    wire.send(START)
    assert codes(wire.rest()) == [b"57P03"]
    canceller = dial(proxy.port)
    canceller.send(struct.pack("!IIII", 16, 80877102, 1, 1))
    assert canceller.rest() == []


# Limits


def test_one_client_too_many_is_refused_and_a_free_place_is_taken(make_proxy, dial):
    proxy = make_proxy(max_connections=2)
    first, _second = (dial(proxy.port, user="postgres") for _ in range(2))
    assert codes(dial(proxy.port, user="postgres").got) == [b"53300"]
    first.send(build_message(b"X"))
    first.rest()
    eventually(lambda: dial(proxy.port, user="postgres").got[-1][0] == b"Z", "the place is free")


def test_a_cancel_request_passes_when_all_places_are_taken(make_proxy):
    proxy = make_proxy(max_connections=1)
    with proxy.connect() as connection:
        cancel_when_running(proxy.cluster, connection)


def test_a_storm_of_connections_is_served_or_refused_and_leaves_nothing(make_proxy):
    proxy = make_proxy(max_connections=5)

    def visit(_: int) -> str:
        try:
            with closing(proxy.connect(sslmode="disable", gssencmode="disable")) as connection:
                return "served" if connection.execute("SELECT 1").fetchone() == (1,) else "wrong"
        except psycopg.OperationalError as error:
            return "refused" if "too many clients" in str(error) else repr(error)

    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        outcomes = set(pool.map(visit, range(120)))
    assert "served" in outcomes
    assert outcomes <= {"served", "refused"}


# Routes


def test_a_database_goes_to_its_own_server_and_others_to_the_default(make_proxy, cluster):
    closed = {"host": "127.0.0.1", "port": free_port()}
    by_socket = {"host": str(cluster.directory), "port": cluster.port}
    proxy = make_proxy(default_upstream=Upstream(**closed), routes={DATABASE: by_socket})
    with proxy.connect() as connection:
        assert connection.execute("SELECT inet_server_addr()").fetchone() == (None,)
        cancel_when_running(proxy.cluster, connection)
    with pytest.raises(psycopg.OperationalError, match="could not connect"):
        proxy.connect(dbname="postgres")


def test_clients_may_come_by_unix_socket(make_proxy, cluster):
    proxy = make_proxy(unix_socket_directory=cluster.directory)
    with proxy.connect(host=str(cluster.directory)) as connection:
        assert (
            connection.execute("CREATE FEDERATED WORKSPACE w").statusmessage == "CREATE FEDERATED WORKSPACE"
        )
    path = cluster.directory / f".s.PGSQL.{proxy.port}"
    assert path.is_socket()
    proxy.stop()
    assert not path.exists()


# Endings


def test_a_half_closed_client_gets_its_answer(proxy, dial):
    wire = dial(proxy.port, user="postgres")
    wire.send(query("SELECT pg_sleep(0.05); SELECT 'federated'"))
    wire.sock.shutdown(socket.SHUT_WR)
    kinds = [kind for kind, _ in wire.rest()]
    assert kinds == [b"T", b"D", b"C", b"T", b"D", b"C", b"Z"]


def test_a_client_that_leaves_in_the_middle_of_a_message_leaves_nothing(proxy, dial):
    wire = dial(proxy.port, user="postgres")
    wire.send(query("CREATE FEDERATED WORKSPACE w")[:-5])
    wire.sock.close()
    eventually(lambda: proxy.proxy.connections == 0, "the relay is gone")


def test_a_client_that_resets_the_connection_leaves_nothing(proxy, dial):
    wire = dial(proxy.port, user="postgres")
    wire.send(query("SELECT repeat('x', 10000) FROM generate_series(1, 10000)"))
    wire.read()
    wire.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    wire.sock.close()
    eventually(lambda: proxy.proxy.connections == 0, "the relay is gone")


def test_a_terminated_backend_says_so_itself_and_nothing_is_added(proxy, cluster, dial):
    wire = dial(proxy.port, user="postgres")
    wire.send(query("SELECT pg_sleep(60)"))
    with cluster.admin() as admin:
        ends = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
        eventually(lambda: admin.execute(ends).fetchone() == (True,), "the backend is told")
    assert codes(wire.rest()) == [b"57P01"]


def test_a_killed_backend_is_reported_after_what_it_had_sent(proxy, cluster, dial):
    wire = dial(proxy.port, user="postgres")
    wire.send(query("DO $$ BEGIN RAISE NOTICE 'still here'; END $$; SELECT pg_sleep(60)"))
    wire.until(b"N")
    witness = cluster.admin()
    (pid,) = struct.unpack_from("!I", dict(wire.got)[b"K"])
    os.kill(pid, signal.SIGKILL)
    last = wire.rest()[-1]
    assert fields(last)[b"C"] == b"08006"
    assert fields(last)[b"S"] == b"FATAL"
    eventually(lambda: not answers(witness), "the server ends all its sessions")
    witness.close()
    eventually(lambda: is_up(cluster), "the server has recovered")


def answers(connection) -> bool:
    try:
        connection.execute("SELECT 1")
    except psycopg.OperationalError:
        return False
    return True


def is_up(cluster) -> bool:
    try:
        cluster.admin().close()
    except psycopg.OperationalError:
        return False
    return True


@pytest.mark.parametrize(
    ("last_words", "heard"),
    [
        (build_message(b"N", b"SNOTICE\0\0"), [b"N", b"E"]),
        (build_message(b"T", bytes(2)) + build_message(b"D", b"xxxx")[:-2], [b"T"]),
        (build_message(b"E", b"SERROR\0C57P01\0\0"), [b"E"]),
    ],
    ids=["between messages", "inside a message", "after its own error"],
)
def test_a_server_that_goes_away_is_reported_only_where_the_client_can_understand_it(
    make_proxy, dial, last_words, heard
):
    server = OneAnswerServer(b"abcd", last_words)
    server.start()
    proxy = make_proxy(default_upstream=Upstream(host="127.0.0.1", port=server.port))
    wire = dial(proxy.port, user="postgres")
    wire.send(query("SELECT 1"))
    assert [kind for kind, _ in wire.rest()] == heard
    server.join(DEADLINE_S)


# Stopping


def test_stopping_ends_idle_clients_with_a_word_and_waits_for_a_transaction(make_proxy, dial):
    proxy = make_proxy(stop_timeout_s=DEADLINE_S)
    idle, busy = (dial(proxy.port, user="postgres") for _ in range(2))
    busy.send(query("BEGIN"))
    busy.until(b"Z")
    proxy.begin_stop()
    assert codes(idle.rest()) == [b"57P01"]
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", proxy.port), timeout=DEADLINE_S)
    busy.send(query("COMMIT"))
    assert [kind for kind, _ in busy.rest()] == [b"C", b"Z", b"E"]
    proxy.stop()


def test_stopping_cuts_off_who_does_not_end_in_time(make_proxy, dial):
    proxy = make_proxy(stop_timeout_s=0.05)
    busy = dial(proxy.port, user="postgres")
    busy.send(query("BEGIN"))
    busy.until(b"Z")
    starting = dial(proxy.port)
    eventually(lambda: proxy.proxy.connections == 2, "both are connected")
    proxy.stop()
    busy.rest()
    assert busy.ended
    assert codes(starting.rest()) == [b"57P03"]


@pytest.mark.parametrize("stage", ["before the handshake", "in the handshake", "after the handshake"])
def test_stopping_ends_a_client_that_has_not_started_its_session(tls_proxy, dial, stage):
    wire = dial(tls_proxy.port)
    if stage != "before the handshake":
        wire.send(SSL_REQUEST)
        assert wire.sock.recv(1) == b"S"
    if stage == "after the handshake":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.maximum_version = ssl.TLSVersion.TLSv1_2  # there the server's handshake ends first
        wire.sock = context.wrap_socket(wire.sock)
    eventually(lambda: tls_proxy.proxy.connections == 1, "the client is connected")
    tls_proxy.begin_stop()
    assert codes(wire.rest()) == ([] if stage == "in the handshake" else [b"57P03"])
    wire.sock.close()
    tls_proxy.stop()  # long before stop_timeout_s: a client that greets has nothing to lose


def test_stopping_does_not_wait_for_a_server_that_says_nothing(make_proxy, dial):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        upstream = Upstream(host="127.0.0.1", port=silent.getsockname()[1])
        proxy = make_proxy(default_upstream=upstream, stop_timeout_s=10 * DEADLINE_S)
        wire = dial(proxy.port)
        wire.send(START)
        accepted, _ = silent.accept()
        with accepted:
            assert accepted.recv(10_000) == START
            proxy.stop()
            assert codes(wire.rest()) == [b"57P03"]
