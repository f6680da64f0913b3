"""The proxy's own database: who gets in, what it shows, and how it speaks."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import subprocess
from pathlib import Path

import psycopg
import pytest

from heliosdb.proxy.admin import COMMANDS
from heliosdb.proxy.config import Upstream
from heliosdb.proxy.server import MAX_GUESTS
from heliosdb.proxy.wire import build_message, build_startup, parse_fields
from tests.integration.proxy.proxy_harness import (
    DATABASE,
    DEADLINE_S,
    Wire,
    as_postgres,
    binary,
    eventually,
    query,
)

ADMIN = "heliosdb_proxy"
SYNC = build_message(b"S")
SHOWS = [text for text in COMMANDS if text != "RELOAD"]


@pytest.fixture
def local_proxy(make_proxy, cluster):
    return make_proxy(unix_socket_directory=cluster.directory)


def console(proxy, **words: object) -> psycopg.Connection:
    directory = str(proxy.proxy.config.unix_socket_directory)
    dsn = proxy.dsn(**{"host": directory, "dbname": ADMIN, "user": "operator", **words})
    return psycopg.connect(dsn, autocommit=True)


def rows_of(connection: psycopg.Connection, text: str, **how: object) -> list[dict[str, object]]:
    cursor = connection.execute(text, **how)
    names = [column.name for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def one(connection: psycopg.Connection, text: str) -> dict[str, object]:
    (row,) = rows_of(connection, text)
    return row


def raw(proxy, **parameters: str) -> Wire:
    """A console that shows every byte, after its first ReadyForQuery."""
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(DEADLINE_S)
    sock.connect(f"{proxy.proxy.config.unix_socket_directory}/.s.PGSQL.{proxy.port}")
    wire = Wire(sock)
    wire.send(build_startup({"user": "operator", "database": ADMIN, **parameters}))
    wire.until(b"Z")
    return wire


def kinds(messages: list[tuple[bytes, bytes]]) -> bytes:
    return b"".join(kind for kind, _ in messages)


def code(messages: list[tuple[bytes, bytes]]) -> bytes:
    (body,) = [body for kind, body in messages if kind == b"E"]
    return dict(parse_fields(body))[b"C"]


# Who gets in


def test_over_tcp_the_name_means_nothing_and_the_server_answers(local_proxy):
    with pytest.raises(psycopg.OperationalError, match=f'database "{ADMIN}" does not exist'):
        local_proxy.connect(dbname=ADMIN)


def test_another_operating_system_user_is_refused(local_proxy, cluster, monkeypatch):
    if os.geteuid() != 0:  # then psql runs as this user too: let the proxy be another
        other = os.geteuid() + 1
        monkeypatch.setattr("heliosdb.proxy.console.os.geteuid", lambda: other)
    dsn = f"host={cluster.directory} port={local_proxy.port} dbname={ADMIN} user=root"
    command = as_postgres(binary("psql"), "-X", "-d", dsn, "-c", "SHOW STATS")
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")
    assert result.returncode == 2
    assert "only for the operating-system user that runs the proxy and for root" in result.stderr
    assert result.stdout == ""


def test_ordinary_databases_are_served_on_the_same_socket(local_proxy, cluster):
    with local_proxy.connect(host=str(cluster.directory)) as connection:
        assert connection.execute("SELECT current_database()").fetchone() == (DATABASE,)


def test_it_can_be_renamed_and_turned_off(make_proxy, cluster):
    renamed = make_proxy(unix_socket_directory=cluster.directory, admin_database="bouncer")
    with console(renamed, dbname="bouncer") as connection:
        assert one(connection, "SHOW VERSION")["version"].startswith("heliosdb proxy ")
    off = make_proxy(unix_socket_directory=cluster.directory, admin_database="")
    for proxy in (renamed, off):
        with pytest.raises(psycopg.OperationalError, match="does not exist"):
            console(proxy, user="postgres")


def test_it_is_reached_where_every_place_is_taken_and_where_tls_is_required(
    make_proxy, cluster, certificate, dial
):
    proxy = make_proxy(
        unix_socket_directory=cluster.directory,
        max_connections=1,
        tls_certificate=certificate[0],
        tls_key=certificate[1],
        tls_required=True,
    )
    proxy.proxy._room = 2
    _idle = [dial(proxy.port) for _ in range(2)]
    eventually(lambda: proxy.proxy.connections == 2, "every place is taken")
    assert [kind for kind, _ in dial(proxy.port).rest()] == [b"E"]
    with console(proxy) as connection:
        assert one(connection, "SHOW STATS")["refused"] == 1


def test_no_more_than_a_few_get_in(local_proxy):
    wires = [raw(local_proxy) for _ in range(MAX_GUESTS)]
    assert code(raw(local_proxy).got) == b"53300"
    for wire in wires:
        wire.sock.close()


def test_it_cannot_be_replicated(local_proxy):
    assert code(raw(local_proxy, replication="database").got) == b"0A000"


# What it shows


def test_clients_are_shown_with_what_they_do_and_nothing_that_they_said(local_proxy):
    secret = "a very secret text"
    with (
        console(local_proxy) as admin,
        local_proxy.connect(application_name="reporting", password=secret) as busy,
    ):
        busy.execute(f"SELECT '{secret}'")
        (pid,) = busy.execute("SELECT pg_backend_pid()").fetchone()
        shown, guest = rows_of(admin, "SHOW CLIENTS")
        expected = {
            "type": "client",
            "user": "postgres",
            "database": DATABASE,
            "application_name": "reporting",
            "addr": "127.0.0.1",
            "port": socket_port(busy),
            "tls": False,
            "state": "idle",
            "server": f"127.0.0.1:{local_proxy.cluster.port}",
            "server_pid": pid,
        }
        assert {name: shown[name] for name in expected} == expected
        assert shown["requests"] == 3  # with the end of the start-up
        assert 0 < shown["bytes_from_client"] < shown["bytes_from_server"]
        assert (guest["type"], guest["user"], guest["database"]) == ("console", "operator", ADMIN)
        states = []
        for text in ("BEGIN", "SELECT 1/0", "ROLLBACK"):
            with contextlib.suppress(psycopg.errors.DivisionByZero):
                busy.execute(text)
            states.append(rows_of(admin, "SHOW CLIENTS")[0]["state"])
        assert states == ["in transaction", "in failed transaction", "idle"]
        everything = [rows_of(admin, text) for text in SHOWS]
    assert secret not in repr(everything)


def socket_port(connection: psycopg.Connection) -> int:
    with socket.socket(fileno=os.dup(connection.pgconn.socket)) as same:
        return int(same.getsockname()[1])


def test_a_client_that_has_not_started_is_shown(local_proxy, dial):
    dial(local_proxy.port)
    with console(local_proxy) as admin:
        eventually(lambda: len(rows_of(admin, "SHOW CLIENTS")) == 2, "it is connected")
        shown = rows_of(admin, "SHOW CLIENTS")[0]
        assert (shown["state"], shown["user"], shown["server"]) == ("starting", None, None)


def test_stats_count_what_happens(local_proxy, dial):
    with console(local_proxy) as admin:
        before = one(admin, "SHOW STATS")
        with local_proxy.connect() as connection:
            connection.execute("SELECT 1")
            for _ in range(3):
                connection.execute("CREATE FEDERATED WORKSPACE w")
            during = one(admin, "SHOW STATS")
        dial(local_proxy.port).send(struct.pack("!IIII", 16, 80877102, 1, 1))
        eventually(lambda: one(admin, "SHOW STATS")["cancels"] > before["cancels"], "the other one came")
        eventually(lambda: one(admin, "SHOW STATS")["clients"] == 0, "both are gone")
        after = one(admin, "SHOW STATS")
    assert (during["clients"], during["sessions"]) == (1, 1)
    grown = {name: after[name] - before[name] for name in after}
    assert grown["total_sessions"] == 1
    assert grown["requests"] == 5
    assert (grown["rewrites"], grown["cache_hits"], grown["cache_misses"]) == (3, 2, 1)
    assert grown["cache_entries"] == 1
    assert grown["cancels"] == 1
    assert grown["bytes_from_clients"] > 100
    assert grown["bytes_from_servers"] > 300
    assert (grown["refused"], grown["unreachable"], grown["sessions"]) == (0, 0, 0)


def test_stats_count_who_was_turned_away(make_proxy, cluster, dial):
    proxy = make_proxy(
        unix_socket_directory=cluster.directory,
        max_connections=1,
        routes={"gone": {"host": str(cluster.directory), "port": 1}},
    )
    with console(proxy) as admin:
        assert code(dial(proxy.port, user="postgres", database="gone").got) == b"57P03"
        eventually(lambda: one(admin, "SHOW STATS")["clients"] == 0, "it is gone")
        dial(proxy.port, user="postgres")
        assert code(dial(proxy.port, user="postgres").got) == b"53300"
        shown = one(admin, "SHOW STATS")
    assert (shown["refused"], shown["unreachable"]) == (1, 1)


def test_routes_and_databases_are_shown_with_their_sessions(make_proxy, cluster):
    route = {"host": str(cluster.directory), "port": cluster.port}
    proxy = make_proxy(unix_socket_directory=cluster.directory, routes={DATABASE: route})
    with console(proxy) as admin, proxy.connect(), proxy.connect(), proxy.connect(dbname="postgres"):
        for text in ("SHOW ROUTES", "show databases;"):
            assert [tuple(row.values()) for row in rows_of(admin, text)] == [
                ("*", "127.0.0.1", cluster.port, False, 1),
                (DATABASE, str(cluster.directory), cluster.port, False, 2),
            ]


def test_config_has_every_setting_and_listeners_where_it_listens(local_proxy, cluster):
    with console(local_proxy) as admin:
        shown = {row["key"]: row for row in rows_of(admin, "SHOW CONFIG")}
        listeners = [tuple(row.values()) for row in rows_of(admin, "SHOW LISTENERS")]
        state = one(admin, "SHOW STATE")
    assert set(shown) == set(type(local_proxy.proxy.config).model_fields)
    assert shown["unix_socket_mode"]["value"] == "0o777"
    assert shown["max_connections"] == {
        "key": "max_connections", "value": "100", "default": "100", "changeable": True,
    }  # fmt: skip
    assert shown["listen_port"]["changeable"] is False
    path = str(Path(cluster.directory) / f".s.PGSQL.{local_proxy.port}")
    assert listeners == [("127.0.0.1", local_proxy.port), (path, None)]
    assert (state["pid"], state["state"], state["config_file"]) == (os.getpid(), "serving", None)
    assert state["compiled"] is (os.environ.get("HELIOSDB_TESTS_COMPILED") == "1")


# How it speaks


@pytest.mark.parametrize("text", SHOWS)
def test_every_command_gives_its_columns_in_each_protocol(local_proxy, text):
    columns = COMMANDS[text].columns
    with console(local_proxy) as admin:
        ways = [
            admin.execute(text),
            admin.execute(text, prepare=True),
            admin.execute(text, binary=True),
            psycopg.ClientCursor(admin).execute(text),
        ]
        for cursor in ways:
            assert [column.name for column in cursor.description] == [column.name for column in columns]
            for row in cursor.fetchall():
                for value, column in zip(row, columns, strict=True):
                    assert value is None or type(value) is column.kind


def test_psql_shows_a_table(local_proxy, cluster):
    dsn = f"host={cluster.directory} port={local_proxy.port} dbname={ADMIN} user=x"
    command = [binary("psql"), "-X", "-d", dsn, "-At", "-c", "SHOW HELP"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert [line.split("|")[0] for line in result.stdout.splitlines()] == list(COMMANDS)


@pytest.mark.parametrize(
    ("text", "sqlstate"),
    [
        ("PAUSE", "0A000"),
        ("PAUSE scratch", "0A000"),
        ("SHUTDOWN", "0A000"),
        ("KILL scratch", "0A000"),
        ("SHOW POOLS", "0A000"),
        ("BEGIN", "0A000"),
        ("SET application_name TO 'x'", "0A000"),
        ("RELOAD", "22023"),  # this proxy was made without a file
        ("RELOADED", "42601"),
        ("SHOW", "42601"),
        ("SELECT 1", "42601"),
        ("CREATE FEDERATED WORKSPACE w", "42601"),
        ("\N{RIGHT-TO-LEFT OVERRIDE}'\"%s;" * 100, "42601"),
    ],
)
def test_what_it_does_not_know_is_refused_with_a_hint_and_the_session_goes_on(local_proxy, text, sqlstate):
    with console(local_proxy) as admin:
        for how in ({}, {"prepare": True}):
            with pytest.raises(psycopg.Error) as caught:
                admin.execute(text, **how)
            assert caught.value.sqlstate == sqlstate
            assert caught.value.diag.message_hint or sqlstate == "22023"
        assert one(admin, "SHOW VERSION")


def test_several_commands_and_none_in_one_query(local_proxy):
    wire = raw(local_proxy)
    for text, answer in {
        "SHOW VERSION; SHOW VERSION;": b"TDCTDCZ",
        "": b"IZ",
        " ; ": b"IZ",
        "SHOW VERSION; PAUSE; SHOW VERSION": b"TDCEZ",
        "  show\n\tversion  ": b"TDCZ",
    }.items():
        wire.send(query(text))
        assert kinds(wire.until(b"Z")) == answer
    wire.sock.close()


def parse(name: str, text: str) -> bytes:
    return build_message(b"P", f"{name}\0{text}\0".encode() + b"\0\0")


BIND, EXECUTE = build_message(b"B", bytes(8)), build_message(b"E", bytes(5))


def test_a_portal_may_be_read_in_parts(local_proxy):
    wire = raw(local_proxy)
    two = build_message(b"E", b"\0" + struct.pack("!I", 2))
    wire.send(parse("", "SHOW HELP"), BIND, build_message(b"D", b"P\0"), two, two, EXECUTE, SYNC)
    rest = b"D" * (len(COMMANDS) - 4)
    assert kinds(wire.until(b"Z")) == b"12T" + b"DDs" + b"DDs" + rest + b"CZ"
    wire.send(parse("", ""), BIND, build_message(b"D", b"P\0"), EXECUTE, build_message(b"C", b"S\0"), SYNC)
    assert kinds(wire.until(b"Z")) == b"12nI3Z"
    wire.sock.close()


@pytest.mark.parametrize(
    ("messages", "sqlstate"),
    [
        ([parse("", "PAUSE")], b"0A000"),
        ([build_message(b"B", b"\0no\0" + bytes(6))], b"26000"),
        ([build_message(b"E", b"no\0" + bytes(4))], b"34000"),
        ([build_message(b"D", b"Sno\0")], b"26000"),
        ([build_message(b"D", b"Pno\0")], b"34000"),
        ([parse("a", "SHOW HELP"), parse("a", "SHOW HELP")], b"42P05"),
        ([parse(str(n), "SHOW HELP") for n in range(101)], b"54000"),
        ([parse("", "SHOW HELP"), build_message(b"B", b"\0\0\0\0\0\1\0\0\0\1x\0\0")], b"0A000"),
        ([parse("", "SHOW HELP"), build_message(b"B", b"\0\0\0")], b"08P01"),
        ([build_message(b"P", b"no end")], b"08P01"),
    ],
)
def test_after_an_error_all_is_skipped_up_to_sync(local_proxy, messages, sqlstate):
    wire = raw(local_proxy)
    wire.send(*messages, parse("", "SHOW HELP"), query("SHOW HELP"), SYNC)
    answer = wire.until(b"Z")
    assert code(answer) == sqlstate
    assert kinds(answer[-2:]) == b"EZ"
    wire.send(query("SHOW VERSION"))
    assert kinds(wire.until(b"Z")) == b"TDCZ"
    wire.sock.close()


@pytest.mark.parametrize(
    "data",
    [build_message(b"!"), b"Q" + struct.pack("!I", 3), b"Q" + struct.pack("!I", 0xFFFFFFFF), b"Q\0\x01\0\0"],
)
def test_what_is_no_message_ends_the_session(local_proxy, data):
    wire = raw(local_proxy)
    wire.send(data)
    assert code(wire.rest()) == b"08P01"


def test_a_newer_protocol_and_unknown_extensions_are_negotiated(local_proxy):
    wire = raw(local_proxy)
    assert b"v" not in kinds(wire.got)
    wire.sock.close()
    newer = raw(local_proxy, **{"_pq_.unknown": "1"})
    assert newer.got[0] == (b"v", struct.pack("!II", 3 << 16, 1) + b"_pq_.unknown\0")
    assert newer.got[-1] == (b"Z", b"I")
    newer.sock.close()


def test_its_key_cancels_nothing(local_proxy):
    with console(local_proxy) as admin:
        admin.cancel_safe()
        assert one(admin, "SHOW STATS")["cancels"] == 1


def test_one_byte_fragments_and_copy_data_out_of_place(local_proxy):
    wire = raw(local_proxy)
    for byte in build_message(b"d", b"x") + build_message(b"c") + build_message(b"H") + query("SHOW VERSION"):
        wire.send(bytes([byte]))
    assert kinds(wire.until(b"Z")) == b"TDCZ"
    wire.send(build_message(b"F", bytes(10)))
    assert kinds(wire.until(b"Z")) == b"EZ"
    wire.sock.close()


def test_a_guest_that_does_not_read_is_not_answered_further(local_proxy):
    wire, count = raw(local_proxy), 30_000
    asked = query("SHOW HELP") * 100
    wire.sock.setblocking(False)
    sent = 0
    with contextlib.suppress(BlockingIOError):
        while sent < len(asked) * count // 100:
            sent += wire.sock.send(asked[sent % len(asked) :])
    (guest,) = local_proxy.proxy.guests
    eventually(lambda: guest._paused, "the console waits for its guest")
    assert guest._transport.get_write_buffer_size() < 1 << 20
    wire.sock.settimeout(DEADLINE_S)
    one = query("SHOW HELP")
    for _ in range(sent // len(one)):
        wire.until(b"Z")
        wire.got.clear()
    # The rest of a message fits only now: while nobody read, the console read no further either.
    if sent % len(one):
        wire.send(one[sent % len(one) :])
        wire.until(b"Z")
    wire.sock.close()


def test_stopping_ends_a_console_with_a_word(local_proxy):
    wire = raw(local_proxy)
    local_proxy.stop()
    assert code(wire.rest()) == b"57P01"


def test_the_database_that_has_the_same_name_elsewhere_is_still_reached_over_tcp(make_proxy, cluster):
    """Only the default server may have one: a route of that name is refused with the settings."""
    proxy = make_proxy(
        unix_socket_directory=cluster.directory,
        admin_database=DATABASE,
        default_upstream=Upstream(host="127.0.0.1", port=cluster.port),
    )
    with proxy.connect() as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    with console(proxy, dbname=DATABASE) as admin:
        assert one(admin, "SHOW VERSION")


def test_no_secret_is_logged_shown_or_in_the_process_title(launch):
    secret = "Zq7secret"
    proxy = launch.start()
    with proxy.console() as admin:
        for user in ("password_user", "scram_user", "md5_user"):
            with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
                proxy.connect(user=user, password=secret)
        with proxy.connect(user="password_user", password="secret") as connection:
            for text in (f"SELECT '{secret}'", f"CREATE FEDERATED WORKSPACE {secret} WITH (fail_here = '"):
                with contextlib.suppress(psycopg.Error):
                    connection.execute(text)
            everything = [rows_of(admin, text) for text in SHOWS]
            told = proxy.log.read_text() + repr(everything)
            for name in ("cmdline", "environ", "comm"):
                told += Path(f"/proc/{proxy.process.pid}/{name}").read_text()
            with pytest.raises(psycopg.Error) as caught:
                admin.execute(f"SHOW {secret}")
    assert "password_user" in told
    assert secret not in told + proxy.log.read_text() + str(caught.value)
