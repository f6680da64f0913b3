"""Whatever a client says to the proxy's process: it ends in bounded time, as it does at the server directly.

Each conversation has a connection of its own, and ends by a half-close: what comes back up to the end of the
stream is all there is. `make fuzz SESSIONS=100000` is the long run.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from hypothesis import given

from federated_sql.rewrite import rewrite
from heliosdb.proxy.wire import build_message, build_startup, parse_fields
from tests.integration.proxy.proxy_harness import (
    DATABASE,
    DEADLINE_S,
    Cluster,
    ProxyProcess,
    eventually,
    proxy_process,
    query,
)
from tests.support.wire_fuzz import FEDERATED, ORDINARY, Said, damaged, fuzz, said

STARTUP = build_startup({"user": "postgres", "database": DATABASE})
READY = build_message(b"Z", b"I")
BOUND_KIB = 8 * 1024
Messages = list[tuple[bytes, bytes]]


@pytest.fixture(scope="module")
def process(cluster, tmp_path_factory) -> Iterator[ProxyProcess]:
    """The proxy of all conversations; in the end it serves as in the beginning and has not grown."""
    with cluster.admin() as connection:
        connection.execute(f"ALTER DATABASE {DATABASE} SET client_min_messages TO notice")
    with psycopg.connect(cluster.dsn(), autocommit=True) as connection:
        connection.execute("CREATE PROCEDURE p() LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE 'called'; END $$")
    with proxy_process(cluster, tmp_path_factory.mktemp("fuzz")) as started:
        for _ in range(50):
            serves(started)
        before = started.resident_kib()
        yield started
        serves(started)
        assert started.resident_kib() - before < BOUND_KIB
    eventually(lambda: cluster.backends() == [], "every server connection is closed")


def serves(process: ProxyProcess) -> None:
    answers = talk(process.directory, process.port, [query("SELECT 'here'")])
    assert (b"C", b"SELECT 1\0") in framed(answers)


def talk(directory: Path, port: int, pieces: list[bytes], *, begin: bool = True) -> bytes:
    """Begin a session, say all pieces, half-close, return all that comes; a hang is a failure (TimeoutError)."""
    got = b""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(DEADLINE_S)
        sock.connect(f"{directory}/.s.PGSQL.{port}")
        if begin:
            sock.sendall(STARTUP)
            while not got.endswith(READY):
                got += sock.recv(1 << 16)
        with contextlib.suppress(BrokenPipeError):  # the other end has heard enough
            for piece in pieces:
                sock.sendall(piece)
            sock.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionResetError):
            while data := sock.recv(1 << 16):
                got += data
    return got


def framed(data: bytes) -> Messages:
    """Return the messages, without the key that cancels."""
    found, at = [], 0
    while at < len(data):
        end = at + 1 + int.from_bytes(data[at + 1 : at + 5], "big")
        found.append((data[at : at + 1], data[at + 5 : end]))
        at = end
    return [message for message in found if message[0] != b"K"]


def called(message: bytes) -> bytes:
    """Return a client's message as somebody writes it who has no proxy."""
    name, text = b"", message[5:]
    if message[:1] == b"P":
        name, text, rest = message[5:].split(b"\0", 2)
        changed = rewrite(text.decode())
        return (
            build_message(b"P", name + b"\0" + changed.text.encode() + b"\0" + rest) if changed else message
        )
    changed = rewrite(text[:-1].decode()) if message[:1] == b"Q" else None
    return query(changed.text) if changed else message


def without_tags(messages: Messages) -> Messages:
    """What a federated statement and its call answer alike: no tags, of errors the code and the message."""
    out = []
    for kind, body in messages:
        if kind == b"C" and (body == b"CALL\0" or body.startswith(b"CREATE FEDERATED")):
            out.append((kind, b"CALL\0"))
        elif kind == b"E":
            out.append((kind, b" ".join(text for code, text in parse_fields(body) if code in b"SCM")))
        else:
            out.append((kind, body))
    return out


def both(cluster: Cluster, process: ProxyProcess, pieces: list[bytes], direct: list[bytes]) -> list[Messages]:
    answers = talk(cluster.directory, cluster.port, direct)
    return [framed(answers), framed(talk(process.directory, process.port, pieces))]


@fuzz(60, 0.05)
@given(said(ORDINARY, longest=6))
def test_ordinary_conversations_get_the_servers_very_answers(cluster, process, conversation: Said):
    expected, got = both(cluster, process, conversation.pieces(), [conversation.data])
    assert got == expected


@fuzz(60, 0.05)
@given(said(ORDINARY + FEDERATED, longest=6))
def test_federated_conversations_get_the_answers_of_the_call(cluster, process, conversation: Said):
    direct = b"".join(called(message) for message in conversation.messages)
    expected, got = both(cluster, process, conversation.pieces(), [direct])
    assert without_tags(got) == without_tags(expected)


@fuzz(60, 0.05)
@given(damaged(ORDINARY + FEDERATED))
def test_damaged_conversations_end(cluster, process, given_bytes: tuple[Said, bytes]):
    conversation, data = given_bytes
    talk(process.directory, process.port, conversation.pieces(data))


@fuzz(30, 0.05)
@given(damaged(ORDINARY))
def test_a_damaged_beginning_ends(process, given_bytes: tuple[Said, bytes]):
    conversation, data = given_bytes
    at = len(data) % len(STARTUP)
    talk(process.directory, process.port, [STARTUP[:at], *conversation.pieces(data)], begin=False)


def test_found_a_database_name_that_is_not_utf8_of_a_server_that_is_not_there_gets_an_answer(process):
    name = b"scratc\xc7"
    startup = STARTUP.replace(DATABASE.encode(), name)
    (answer,) = framed(talk(process.directory, process.port, [startup], begin=False))
    assert dict(parse_fields(answer[1]))[b"C"] == b"57P03"
    assert name in answer[1]
