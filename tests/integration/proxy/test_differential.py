"""Ordinary SQL gets byte-identical answers through the proxy and directly, in both protocols and at every stage."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable

import psycopg
import pytest
import uvloop

from heliosdb.proxy.layouts import Known
from heliosdb.proxy.wire import build_message
from tests.integration.proxy.differential_corpus import ORDINARY, SCHEMA, SEVERAL
from tests.integration.proxy.proxy_harness import Cluster, query
from tests.integration.proxy.proxy_messages import (
    COPY_DONE,
    FLUSH,
    SYNC,
    Z,
    bind,
    call_function,
    close,
    data,
    describe,
    execute,
    parse,
    play,
    step,
)

Conversation = list[tuple[bytes, bytes]]
_LO_OPEN, _LO_CLOSE, _LOREAD, _LOWRITE, _LO_CREATE, _LO_UNLINK = 952, 953, 954, 955, 715, 964
_INT4, _TEXT = 23, 25
_BINARY_HEAD = b"PGCOPY\n\xff\r\n\0" + bytes(8)
COPY_ITEM = "COPY diff.part (item, note) FROM STDIN"


def raw(kind: str, body: bytes = b"") -> bytes:
    return build_message(kind.encode(), body)


def extended(text: str) -> tuple[bytes, bytes]:
    """A statement as drivers send it that prepare under no name."""
    return step(Z, parse("", text), bind("", ""), describe("P"), execute(), SYNC)


def binary_tuple(*fields: bytes) -> bytes:
    parts = b"".join(struct.pack("!I", len(field)) + field for field in fields)
    return struct.pack("!H", len(fields)) + parts


PROTOCOL: dict[str, Conversation] = {
    "described before it is bound": [
        step(Z, parse("federated", "SELECT $1::int, $2 || 'federated'"), describe("S", "federated"), SYNC),
        step(
            Z,
            bind("federated", "federated", "1", "x"),
            describe("P", "federated"),
            execute("federated"),
            SYNC,
        ),
        step(Z, describe("S", "federated"), close("S", "federated"), describe("S", "federated"), SYNC),
    ],
    "types that are given": [
        step(
            Z,
            parse("", "SELECT $1, $2", _INT4, _TEXT),
            describe("S"),
            bind("", "", "1", "x"),
            execute(),
            SYNC,
        ),
        step(Z, parse("", "SELECT $1", 999_999), SYNC),
        step(Z, parse("", "SELECT $1 + $1", 0, _INT4), describe("S"), SYNC),
    ],
    "binary parameters and results": [
        step(
            Z,
            parse("", "SELECT $1::int4, $2::text, $3::float8"),
            bind("", "", b"\0\0\0\7", "federated", struct.pack("!d", 0.5), formats=(1, 0, 1), results=(1,)),
            describe("P"),
            execute(),
            SYNC,
        ),
        step(Z, parse("", "SELECT $1::int4"), bind("", "", b"\0", formats=(1,)), execute(), SYNC),
        step(Z, parse("", "SELECT 1, 2"), bind("", "", results=(1, 0, 1)), execute(), SYNC),
        step(Z, parse("", "SELECT $1::int4"), bind("", "", "1", formats=(7,)), execute(), SYNC),
    ],
    "a parameter that is NULL": [
        step(Z, parse("", "SELECT $1::text IS NULL"), bind("", "", None), execute(), SYNC)
    ],
    "a parameter of a megabyte": [
        step(
            Z, parse("", "SELECT length($1::text), $1"), bind("", "", "federated " * 100_000), execute(), SYNC
        )
    ],
    "too few and too many parameters": [
        step(Z, parse("s", "SELECT $1::int"), SYNC),
        step(Z, bind("", "s"), execute(), SYNC),
        step(Z, bind("", "s", "1", "2"), execute(), SYNC),
        step(Z, bind("", "s", "federated"), execute(), SYNC),
    ],
    "names that are taken and names that are not there": [
        step(Z, parse("s", "SELECT 1"), parse("s", "SELECT 2"), SYNC),
        step(Z, bind("", "federated"), SYNC),
        step(Z, describe("P", "federated"), SYNC),
        step(Z, execute("federated"), SYNC),
        step(Z, close("S", "federated"), close("P", "federated"), SYNC),
        step(Z, query("BEGIN")),
        step(Z, bind("p", "s"), bind("p", "s"), SYNC),
        step(Z, query("ROLLBACK")),
    ],
    "unnamed ones are replaced": [
        step(Z, parse("", "SELECT 1"), parse("", "SELECT 2"), bind("", ""), bind("", ""), execute(), SYNC),
        step(Z, query("SELECT 'federated'")),
        step(Z, bind("", ""), execute(), SYNC),
    ],
    "several statements are not prepared": [step(Z, parse("", "SELECT 1; SELECT 'federated'"), SYNC)],
    "a plan whose result changes": [
        step(Z, query("CREATE TEMP TABLE x (a int)"), parse("s", "SELECT * FROM x"), SYNC),
        step(Z, bind("", "s"), execute(), SYNC),
        step(Z, query("ALTER TABLE x ADD COLUMN federated int")),
        step(Z, bind("", "s"), execute(), SYNC),
    ],
    "portals with row limits": [
        step(Z, query("BEGIN")),
        step(Z, parse("s", "SELECT id FROM diff.item WHERE id > $1 ORDER BY id"), SYNC),
        step(Z, bind("a", "s", "0"), bind("b", "s", "20"), execute("a", 2), execute("b", 3), SYNC),
        step(Z, execute("a", 1), execute("b", 0), execute("b", 0), execute("a", 100), SYNC),
        step(Z, close("P", "a"), execute("a", 1), SYNC),
        step(Z, query("ROLLBACK")),
    ],
    "a portal ends with its transaction": [
        step(Z, parse("", "SELECT generate_series(1, 5)"), bind("p", ""), execute("p", 2), SYNC),
        step(Z, execute("p", 2), SYNC),
    ],
    "a portal of a change, with a limit": [
        step(Z, query("BEGIN")),
        step(
            Z,
            parse("", "UPDATE diff.item SET amount = amount + 0 WHERE id < 6 RETURNING id"),
            bind("p", ""),
            execute("p", 2),
            execute("p", 2),
            execute("p", 2),
            SYNC,
        ),
        step(Z, query("ROLLBACK")),
    ],
    "a cursor is a portal": [
        step(Z, query("BEGIN; DECLARE federated CURSOR FOR SELECT id FROM diff.item ORDER BY id")),
        step(Z, describe("P", "federated"), execute("federated", 2), SYNC),
        step(Z, query("FETCH 1 FROM federated; COMMIT")),
    ],
    "a pipeline is one transaction until its Sync": [
        step(
            Z,
            parse("i", "INSERT INTO diff.part VALUES ($1, 'federated')"),
            bind("", "i", "1"),
            execute(),
            bind("", "i", "2"),
            execute(),
            bind("", "i", "999"),
            execute(),
            bind("", "i", "3"),
            execute(),
            SYNC,
        ),
        step(Z, query("SELECT count(*) FROM diff.part")),
    ],
    "everything is skipped up to the Sync": [
        step(
            Z,
            parse("", "SELEC"),
            describe("S", "x"),
            close("S", "x"),
            FLUSH,
            execute("y"),
            query("SELECT 'federated'"),
            call_function(1397, 7),
            data("x"),
            SYNC,
        ),
        step(Z, query("SELECT 1")),
    ],
    "a Sync for each statement, all sent at once": [
        step(
            Z,
            *(
                part
                for number in range(20)
                for part in (parse("", f"SELECT {number}"), bind("", ""), execute())
            ),
            SYNC,
        ),
        step(Z, SYNC),
    ],
    "Flush after every message": [
        step("1", parse("s", "SELECT $1::text"), FLUSH),
        step("t", describe("S", "s"), FLUSH),
        step("2", bind("", "s", "federated"), FLUSH),
        step("T", describe("P"), FLUSH),
        step("C", execute(), FLUSH),
        step("3", close("S", "s"), FLUSH),
        step("E", parse("", "SELEC"), FLUSH),
        step(Z, SYNC),
    ],
    "a simple query amid an extended one": [
        step(Z, parse("s", "SELECT $1::int"), query("SELECT 'federated'")),
        step(Z, bind("", "s", "1"), query("SELECT 2")),
        step(Z, execute(), SYNC),
    ],
    "transactions by either protocol": [
        extended("BEGIN"),
        step(Z, query("SELECT 1 / 0")),
        extended("SELECT 'federated'"),
        step(Z, parse("", "ROLLBACK"), bind("", ""), execute(), SYNC),
    ],
    "copy in, both ways of ending": [
        step(Z, query("BEGIN")),
        step("G", query(COPY_ITEM)),
        step(Z, data("1\tCREATE FEDERATED WORKSPACE w\n2\t\\N\n"), data("3\tx"), data("\n"), COPY_DONE),
        step("G", query(COPY_ITEM)),
        step(Z, data("1\tx\n"), raw("f", b"federated\0")),
        step(Z, query("ROLLBACK")),
    ],
    "copy in, bad rows": [
        step("G", query(COPY_ITEM)),
        step(Z, data("999\tno such item\n"), COPY_DONE),
        step("G", query(COPY_ITEM)),
        step(Z, data("1\n"), COPY_DONE),
        step("G", query(COPY_ITEM)),
        step(Z, raw("d", b"1\t\xff federated\n"), COPY_DONE),
        step("G", query(COPY_ITEM)),
        step(Z, data("\\.\n1\tbehind the end\n"), COPY_DONE),
    ],
    "copy in, CSV with the language in it": [
        step("G", query("BEGIN; COPY diff.part FROM STDIN (FORMAT csv, HEADER)")),
        step(Z, data('item,note\n1,"DROP FEDERATED MODEL m;\nline ""two"""\n'), COPY_DONE),
        step(Z, query("SELECT note FROM diff.part; ROLLBACK")),
    ],
    "copy in, binary": [
        step("G", query("BEGIN; COPY diff.part FROM STDIN (FORMAT binary)")),
        step(
            Z,
            raw("d", _BINARY_HEAD + binary_tuple(b"\0\0\0\1", b"federated")),
            raw("d", binary_tuple(b"\0\0\0\2", b"x") + b"\xff\xff"),
            COPY_DONE,
        ),
        step(Z, query("SELECT note FROM diff.part; ROLLBACK")),
        step("G", query("COPY diff.part FROM STDIN (FORMAT binary)")),
        step(Z, raw("d", b"not binary at all"), COPY_DONE),
    ],
    "copy in, several of one query": [
        step("G", query(f"BEGIN; {COPY_ITEM}; SELECT 'federated'; {COPY_ITEM}; ROLLBACK")),
        step("G", data("1\ta\n"), COPY_DONE),
        step(Z, data("2\tb\n"), COPY_DONE),
    ],
    "copy in, interrupted by what does not belong": [
        step("G", query(COPY_ITEM)),
        step("", data("1\tx\n"), query("SELECT 'federated'")),
    ],
    "copy in, extended": [
        step(Z, query("BEGIN")),
        step("G", parse("", COPY_ITEM), bind("", ""), execute(), SYNC),
        step(Z, data("1\tfederated\n"), FLUSH, SYNC, data("2\tx\n"), COPY_DONE, SYNC),
        step("G", parse("", COPY_ITEM), bind("", ""), describe("P"), execute(), FLUSH),
        step(Z, raw("f", b"no more\0"), SYNC),
        step(Z, query("ROLLBACK")),
    ],
    "copy out, extended and with a limit": [
        step(Z, parse("", "COPY diff.federated TO STDOUT"), bind("", ""), describe("P"), execute(), SYNC),
        step(Z, parse("", "COPY diff.federated TO STDOUT"), bind("", ""), execute("", 2), SYNC),
        step(Z, parse("", "COPY (SELECT 1 / 0) TO STDOUT"), bind("", ""), execute(), SYNC),
    ],
    "large objects by function calls": [
        step(Z, query("BEGIN")),
        step(Z, call_function(_LO_CREATE, 535353)),
        step(Z, call_function(_LO_OPEN, 535353, 0x60000)),
        step(Z, call_function(_LOWRITE, 0, b"CREATE FEDERATED WORKSPACE w")),
        step(Z, call_function(_LO_CLOSE, 0)),
        step(Z, call_function(_LO_OPEN, 535353, 0x40000)),
        step(Z, call_function(_LOREAD, 0, 1000)),
        step(Z, call_function(_LO_UNLINK, 535353)),
        step(Z, call_function(_LO_OPEN, 535353, 0x40000)),
        step(Z, call_function(_LO_CLOSE, 9)),
        step(Z, query("ROLLBACK")),
    ],
    "function calls that go wrong": [
        step(Z, call_function(1397)),
        step(Z, call_function(1397, None)),
        step(Z, call_function(1397, b"\0")),
        step(Z, call_function(0, 1)),
        step(Z, query("BEGIN; SELECT 1 / 0")),
        step(Z, call_function(1397, 7)),
        step(Z, query("ROLLBACK")),
    ],
    "notices and notifications amid a pipeline": [
        step(Z, query("LISTEN federated")),
        step(
            Z,
            *(parse("", "SELECT diff.loud('x')"), bind("", ""), execute()),
            *(parse("", "NOTIFY federated, 'CREATE FEDERATED MODEL m'"), bind("", ""), execute()),
            SYNC,
        ),
        step(Z, SYNC),
    ],
    "parameters change amid a pipeline": [
        step(
            Z,
            *(parse("", "SET datestyle TO 'SQL, DMY'"), bind("", ""), execute()),
            *(parse("", "SELECT DATE '2024-02-01'"), bind("", ""), execute()),
            *(parse("", "SET client_encoding TO 'LATIN1'"), bind("", ""), execute()),
            *(parse("", "SELECT chr(252), 'federated'"), bind("", ""), execute()),
            SYNC,
        ),
        step(Z, raw("Q", b"SELECT 'f\xfcderated CREATE FEDERATED WORKSPACE w'\0")),
        step(Z, raw("Q", b"CREATE FEDERATED WORKSPACE f\xfc\0")),
    ],
    "the session ends itself": [
        step("", query("SELECT 'federated'; SELECT pg_terminate_backend(pg_backend_pid())"))
    ],
    "nothing but Sync and Flush": [step(Z, FLUSH, FLUSH, SYNC), step(Z, SYNC, FLUSH)],
    "empty texts, prepared": [
        extended(""),
        extended("-- federated"),
        extended("/* CREATE FEDERATED WORKSPACE w */ ;"),
        step(Z, parse("s", ""), describe("S", "s"), bind("", "s"), execute("", 5), SYNC),
    ],
    "a text with a zero byte": [
        step(Z, raw("Q", b"SELECT 'federated\0 CREATE FEDERATED WORKSPACE w'\0")),
        step(Z, query("SELECT 1")),
    ],
    "a text that is not UTF-8, prepared": [
        step(Z, raw("P", b"\0SELECT 'federated \xff'\0\0\0"), SYNC),
        step(Z, raw("P", b"\xff federated\0SELECT 1\0\0\0"), SYNC),
        step(Z, parse("", "SELECT $1::text"), bind("", "", b"\xc3\x28 federated"), execute(), SYNC),
    ],
    "messages cut short": [
        step(Z, raw("P", b"federated"), SYNC),
        step(Z, raw("P", b"s\0SELECT 'federated'\0"), SYNC),
        step(Z, raw("P", b"s\0SELECT 'federated'\0\0\5"), SYNC),
        step(Z, raw("B", b"\0\0\0\1"), SYNC),
        step(Z, raw("E", b"p\0\0"), SYNC),
        step(Z, raw("D", b"S"), SYNC),
        step(Z, raw("C", b""), SYNC),
        step(Z, raw("F", b"\0\0"), SYNC),
    ],
    "messages with something behind": [
        step(Z, parse("", "SELECT 1")[:1] + raw("P", b"\0SELECT 'federated'\0\0\0more")[1:], SYNC),
        step(Z, raw("S", b"federated")),
        step(Z, raw("E", b"\0\0\0\0\0more"), SYNC),
    ],
    "kinds that describe and close do not know": [
        step(Z, raw("D", b"Xfederated\0"), SYNC),
        step(Z, raw("C", b"Xfederated\0"), SYNC),
    ],
    "a password out of place": [step("", raw("p", b"federated\0"))],
    "a start-up packet out of place": [step("", struct.pack("!II", 8, 80877103))],
    "a copy's end in an extended pipeline": [
        step(Z, parse("", "SELECT 'federated'"), COPY_DONE, bind("", ""), data("x"), execute(), SYNC)
    ],
    "it ends amid a transaction": [step("", query("BEGIN; SELECT 'federated'"), raw("X"))],
}
"""By name, conversations that only the wire can hold."""

CORPUS: dict[str, Conversation] = {
    **{f"{name}, simple": [step(Z, query(text)) for text in texts] for name, texts in ORDINARY.items()},
    **{f"{name}, extended": [extended(text) for text in texts] for name, texts in ORDINARY.items()},
    **{f"several: {name}": [step(Z, query(text)) for text in texts] for name, texts in SEVERAL.items()},
    **PROTOCOL,
}


@pytest.fixture
def loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """The loop that the product runs on; test_proxy_passthrough runs on both."""
    return uvloop.new_event_loop


@pytest.fixture(scope="module", autouse=True)
def schema(cluster: Cluster) -> None:
    """What the conversations read."""
    with psycopg.connect(cluster.dsn(), autocommit=True) as connection:
        connection.execute(SCHEMA)


@pytest.mark.parametrize("name", CORPUS)
def test_the_answers_are_those_of_the_server_byte_for_byte(cluster, proxy, dial, name):
    user = {"user": "postgres", "application_name": "differential"}
    direct = play(dial(cluster.port, **user), CORPUS[name])
    proxy.proxy.known = Known(one_in=1)  # what is walked the first time may be known the second
    for _ in range(2):
        assert play(dial(proxy.port, **user), CORPUS[name]) == direct
    ends = sum(kind == b"Z" for kind, _ in direct)
    assert ends > sum(until == b"Z" for _, until in CORPUS[name])


def test_the_corpus_holds_an_error_a_notice_and_every_kind_of_message(cluster, dial):
    """So that no conversation passes because it says nothing."""
    kinds, states = set(), set()
    for conversation in CORPUS.values():
        wire = dial(cluster.port, user="postgres")
        answers = play(wire, conversation)
        wire.sock.close()
        kinds |= {kind for kind, _ in answers}
        states |= {
            field[1:]
            for kind, body in answers
            if kind == b"E"
            for field in body.split(b"\0")
            if field[:1] == b"C"
        }
    assert kinds >= {bytes([kind]) for kind in b"12345tnTDCIsEZNAGHcdVSRK"} - {b"4", b"5"}
    assert len(states) > 40, sorted(states)


def test_the_corpus_is_as_large_as_it_should_be():
    assert len(CORPUS) >= 140
