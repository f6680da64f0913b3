"""What holds no federated statement is byte-identical to a direct connection, message by message."""

from __future__ import annotations

import struct
import subprocess

import psycopg
import pytest

from heliosdb.proxy.wire import build_message
from tests.integration.proxy.proxy_harness import DATABASE, binary, eventually, query
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

CONVERSATIONS = {
    "select": [step(Z, query("SELECT 1, 'a', NULL, ARRAY[1,2]"))],
    "empty query": [step(Z, query(""))],
    "comment only": [step(Z, query("-- federated"))],
    "semicolons only": [step(Z, query(" ; ;; "))],
    "several statements": [
        step(Z, query("SELECT 1; CREATE TEMP TABLE x (a int); INSERT INTO x VALUES (1); SELECT 2"))
    ],
    "error with position": [step(Z, query("SELECT 1, 'federated', nowhere")), step(Z, query("SELECT 1"))],
    "error in the middle": [
        step(Z, query("BEGIN; SELECT 1; SELECT 1/0; SELECT 2")),
        step(Z, query("ROLLBACK")),
    ],
    "error without sqlstate fields": [
        step(Z, query("DO $$ BEGIN RAISE EXCEPTION '' USING COLUMN = 'c'; END $$"))
    ],
    "federated error fields, not ours": [
        step(
            Z, query("DO $$ BEGIN RAISE 'x' USING DATATYPE = 'federated_sql', COLUMN = 'position=3'; END $$")
        )
    ],
    "notices": [step(Z, query("DO $$ BEGIN RAISE NOTICE 'a'; RAISE WARNING 'b'; END $$"))],
    "notification": [step(Z, query("LISTEN c")), step(Z, query("NOTIFY c, 'federated'"))],
    "parameter changes": [
        step(Z, query("SET client_encoding TO latin1")),
        step(Z, query("SET TimeZone TO 'Europe/Rome'; SET application_name TO 'federated'")),
        step(Z, query("SET standard_conforming_strings TO off")),
        step(Z, query("CREATE FEDERATED WORKSPACE w")),
    ],
    "words of the language elsewhere": [
        step(Z, query("SELECT 'CREATE FEDERATED WORKSPACE w' AS \"START FEDERATED TRAINING m\"")),
        step(Z, query("DO $$ BEGIN /* ; DROP FEDERATED MODEL m; */ END $$")),
        step(
            Z,
            query("CREATE TEMP TABLE federated (a int); DELETE FROM federated training WHERE training.a = 1"),
        ),
    ],
    "unterminated string": [step(Z, query("SELECT 'federated"))],
    "transaction states": [step(Z, query(text)) for text in ("BEGIN", "SELECT 1/0", "SELECT 1", "COMMIT")],
    "many rows": [step(Z, query("SELECT g, repeat('x', 200) FROM generate_series(1, 20000) g"))],
    "prepared": [
        step(Z, parse("s", "SELECT $1::int + 1"), describe("S", "s"), SYNC),
        step(Z, bind("", "s", "41"), describe("P"), execute(), SYNC),
        step(Z, close("S", "s"), bind("", "s", "1"), execute(), SYNC),
    ],
    "unnamed, one round trip": [
        step(Z, parse("", "SELECT $1::text"), bind("", "", "federated"), describe("P"), execute(), SYNC)
    ],
    "portal with row limit": [
        step(Z, query("BEGIN")),
        step(Z, parse("", "SELECT generate_series(1, 5)"), bind("p", ""), execute("p", 2), SYNC),
        step(Z, execute("p", 2), execute("p", 2), close("P", "p"), SYNC),
        step(Z, query("COMMIT")),
    ],
    "flush without sync": [
        step("1", parse("", "SELECT 1"), FLUSH),
        step("2", bind("", ""), FLUSH),
        step("C", execute(), FLUSH),
        step(Z, SYNC),
    ],
    "empty statement, extended": [step(Z, parse("", ""), bind("", ""), describe("P"), execute(), SYNC)],
    "pipeline with error": [
        step(
            Z, parse("", "SELECT 1"), bind("", ""), execute(), parse("", "bad"), bind("", ""), execute(), SYNC
        ),
        step(Z, parse("", "SELECT 2"), bind("", ""), execute(), SYNC),
    ],
    "query discarded before sync": [
        step(Z, parse("", "bad"), query("SELECT 1"), query("SELECT 'federated'"), SYNC),
        step(Z, query("SELECT 2")),
    ],
    "copy out": [step(Z, query("COPY (SELECT generate_series(1, 1000)) TO STDOUT"))],
    "copy in": [
        step("G", query("CREATE TEMP TABLE x (a int); COPY x FROM STDIN; SELECT count(*) FROM x")),
        step(Z, data("1\n2\n"), data("3\n"), COPY_DONE),
    ],
    "copy in fails": [
        step("G", query("CREATE TEMP TABLE x (a int); COPY x FROM STDIN")),
        step(Z, data("1\n"), build_message(b"f", b"federated\0")),
        step("G", query("CREATE TEMP TABLE y (a int); COPY y FROM STDIN")),
        step(Z, data("one\n"), COPY_DONE),
        step(Z, query("SELECT 1")),
    ],
    "copy in, extended, sync inside": [
        step(Z, query("CREATE TEMP TABLE x (a int)")),
        step("G", parse("", "COPY x FROM STDIN"), bind("", ""), execute(), SYNC),
        step(Z, data("1\n"), SYNC, FLUSH, data("2\n"), COPY_DONE, SYNC),
        step(Z, parse("", "SELECT count(*) FROM x"), bind("", ""), execute(), SYNC),
    ],
    "copy in, extended, fails": [
        step(Z, query("CREATE TEMP TABLE x (a int)")),
        step("G", parse("", "COPY x FROM STDIN"), bind("", ""), execute(), SYNC),
        step(Z, data("one\n"), COPY_DONE, SYNC),
        step(Z, query("SELECT 1")),
    ],
    "function call": [step(Z, call_function(1397, 7)), step(Z, call_function(999_999_999, 7))],
    "copy ends out of place": [step(Z, COPY_DONE, data("x"), build_message(b"f", b"\0"), query("SELECT 1"))],
    "terminate": [step("", query("SELECT 1"), build_message(b"X"))],
    "unknown message type": [step("", build_message(b"!", b"x"))],
    "length below four": [step("", b"Q" + struct.pack("!I", 3) + b"SELECT 1\0")],
    "length beyond all bounds": [step("", b"Q" + struct.pack("!I", 0xFFFFFFFF) + b"SELECT 1\0")],
    "query without its terminator": [step(Z, build_message(b"Q", b"SELECT 'federated'"))],
    "text that is not UTF-8": [step(Z, build_message(b"Q", b"SELECT 'federated \xff'\0"))],
}


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_the_servers_answers_are_those_of_a_direct_connection(cluster, proxy, dial, name):
    conversation = CONVERSATIONS[name]
    user = {"user": "postgres", "application_name": "passthrough"}
    direct = play(dial(cluster.port, **user), conversation)
    through = play(dial(proxy.port, **user), conversation)
    assert through == direct
    assert direct[-1][0] in (b"Z", b"E", b"C")


@pytest.mark.parametrize("name", ["prepared", "copy in", "pipeline with error", "error with position"])
def test_one_byte_fragments_get_the_same_answers(cluster, proxy, dial, name):
    conversation = CONVERSATIONS[name]
    direct = play(dial(cluster.port, user="postgres"), conversation)
    wire = dial(proxy.port, user="postgres")
    for sent, until in conversation:
        for byte in sent:
            wire.send(bytes([byte]))
        wire.until(until)
    assert play(wire, []) == direct


def test_a_federated_statement_in_one_byte_fragments_is_rewritten(proxy, dial):
    wire = dial(proxy.port, user="postgres")
    for byte in query("CREATE FEDERATED WORKSPACE w"):
        wire.send(bytes([byte]))
    assert (b"C", b"CREATE FEDERATED WORKSPACE\0") in wire.until(b"Z")


@pytest.mark.parametrize(
    "parameters",
    [
        {"user": "nobody_here"},
        {"user": "postgres", "database": "nowhere"},
        {"user": "postgres", "search_path": "federated, public", "options": "-c geqo=off"},
        {"user": "postgres", "no_such_setting": "1"},
        {"user": "postgres", "_pq_.unknown": "1"},
        {"user": "postgres", "replication": "database"},
        {"user": ""},
    ],
    ids=lambda p: " ".join(f"{k}={v}" for k, v in p.items()),
)
def test_starting_a_session_gets_the_servers_own_answer(cluster, proxy, dial, parameters):
    assert play(dial(proxy.port, **parameters), []) == play(dial(cluster.port, **parameters), [])


def test_a_replication_session_is_passed_through(proxy, dial):
    wire = dial(proxy.port, user="postgres", replication="database")
    wire.send(query("IDENTIFY_SYSTEM"))
    assert [kind for kind, _ in wire.until(b"Z")] == [b"T", b"D", b"C", b"Z"]


def test_both_ways_of_a_replication_stream_pass(proxy, dial):
    """CopyBoth: the server streams, the client ends it."""
    wire = dial(proxy.port, user="postgres", replication="true")
    wire.send(query("CREATE_REPLICATION_SLOT s TEMPORARY PHYSICAL RESERVE_WAL"))
    wire.until(b"Z")
    wire.send(query("START_REPLICATION SLOT s PHYSICAL 0/1000000"))
    assert wire.until(b"W")[-1][0] == b"W"
    wire.send(COPY_DONE)
    assert b"c" in [kind for kind, _ in wire.until(b"Z")]
    wire.send(query("IDENTIFY_SYSTEM"))
    assert wire.until(b"Z")[-1][0] == b"Z"


@pytest.mark.parametrize("user", ["md5_user", "password_user", "scram_user"])
def test_every_password_exchange_is_relayed(proxy, user):
    with proxy.connect(user=user, password="secret") as connection:
        assert connection.execute("SELECT current_user").fetchone() == (user,)
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        proxy.connect(user=user, password="wrong")


def test_a_newer_protocol_version_is_negotiated_by_the_server(proxy):
    with proxy.connect(max_protocol_version="3.2") as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


@pytest.mark.parametrize("mode", ["simple", "extended", "prepared"])
def test_pgbench_runs_in_every_mode(cluster, proxy, mode):
    where = ["-h", "127.0.0.1", "-p", str(proxy.port), "-U", "postgres"]
    script = cluster.directory / f"{mode}.sql"
    script.write_text("\\set x random(1, 9)\nSELECT :x;\n")
    run = [binary("pgbench"), *where, "-n", "-M", mode, "-c", "4", "-t", "50", "-f", script, DATABASE]
    result = subprocess.run(run, capture_output=True, text=True, check=True)
    assert "number of transactions actually processed: 200/200" in result.stdout


def test_pgbench_makes_its_tables_and_runs_its_own_scripts(cluster, proxy):
    where = ["-h", "127.0.0.1", "-p", str(proxy.port), "-U", "postgres"]
    pgbench = binary("pgbench")
    with cluster.admin() as connection:
        connection.execute("CREATE DATABASE benched")
    subprocess.run([pgbench, *where, "-i", "-q", "benched"], capture_output=True, check=True)
    for mode in ("simple", "extended", "prepared"):
        for script in ("tpcb-like", "simple-update", "select-only"):
            run = [pgbench, *where, "-n", "-M", mode, "-c", "2", "-t", "20", "-b", script, "benched"]
            result = subprocess.run(run, capture_output=True, text=True, check=True)
            assert "number of transactions actually processed: 40/40" in result.stdout
            assert "number of failed transactions: 0" in result.stdout
    with cluster.admin() as connection:
        eventually(lambda: cluster.backends() == [], "pgbench is gone")
        connection.execute("DROP DATABASE benched")


def test_a_dump_in_the_custom_format_is_restored_through_the_proxy(cluster, proxy, tmp_path):
    archive = tmp_path / "archive"
    with cluster.admin() as connection:
        connection.execute("CREATE DATABASE restored")
    dump = [binary("pg_dump"), "-Fc", "-n", "federated", "-f", archive, "-d", proxy.dsn()]
    subprocess.run(dump, capture_output=True, check=True)
    restore = [binary("pg_restore"), "--exit-on-error", "-d", proxy.dsn(dbname="restored"), archive]
    subprocess.run(restore, capture_output=True, check=True)
    with psycopg.connect(proxy.dsn(dbname="restored")) as connection:
        connection.execute("CALL federated.execute('x')")
    with cluster.admin() as connection:
        eventually(lambda: cluster.backends() == [], "every session is gone")
        connection.execute("DROP DATABASE restored")


def test_psql_shows_the_tag_and_the_position(cluster, proxy):
    psql = [binary("psql"), "-X", "-d", proxy.dsn(), "-c"]
    good = subprocess.run([*psql, "CREATE FEDERATED WORKSPACE w"], capture_output=True, text=True, check=True)
    assert good.stdout == "CREATE FEDERATED WORKSPACE\n"
    bad = subprocess.run(
        [*psql, "CREATE FEDERATED WORKSPACE w WITH (fail_here = 1)"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert bad.stderr.splitlines() == [
        "ERROR:  this cannot be",
        "LINE 1: CREATE FEDERATED WORKSPACE w WITH (fail_here = 1)",
        "                                           ^",
        "HINT:  Try again.",
    ]


def test_pg_dump_gives_the_same_dump(cluster, proxy):
    def dump(dsn: str) -> list[str]:
        run = [binary("pg_dump"), "--no-comments", "-d", dsn]
        lines = subprocess.run(run, capture_output=True, text=True, check=True).stdout.splitlines()
        return [line for line in lines if "restrict" not in line]  # those carry a random key

    assert dump(proxy.dsn()) == dump(cluster.dsn())
