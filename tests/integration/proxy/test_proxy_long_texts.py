"""A long text is worked out beside the loop: in order for its own client, unnoticed by the others."""

from __future__ import annotations

import socket
import struct
import threading
import time

import pytest

from heliosdb.proxy.rewriting import LONG_TEXT, Rewriter, federated_rewriter
from heliosdb.proxy.wire import build_message, parse_fields
from tests.integration.proxy.proxy_harness import DEADLINE_S, RunningProxy, Wire, eventually, query

STATEMENT = "CREATE FEDERATED WORKSPACE w"
LONG = STATEMENT + " " * LONG_TEXT


class Gate:
    """A rewriter that works on a long text only once it is let."""

    def __init__(self) -> None:
        self.begun, self.open = threading.Event(), threading.Event()
        self.texts: list[str] = []
        self._real = federated_rewriter()

    def rewrite(self, text: str):
        if len(text) > LONG_TEXT:
            self.texts.append(text)
            self.begun.set()
            assert self.open.wait(DEADLINE_S)
        return self._real.rewrite(text)


@pytest.fixture
def gate(proxy: RunningProxy):
    made = Gate()
    proxy.proxy.rewriter = Rewriter(federated_rewriter().may_concern, made.rewrite)
    yield made
    made.open.set()


def tags(messages: list[tuple[bytes, bytes]]) -> list[bytes]:
    return [body[:-1] for kind, body in messages if kind == b"C"]


def answers(wire: Wire, count: int) -> list[bytes]:
    return [tag for _ in range(count) for tag in tags(wire.until(b"Z"))]


def test_others_are_served_meanwhile_and_its_own_client_stays_in_order(proxy, gate, dial):
    slow, other = dial(proxy.port, user="postgres"), dial(proxy.port, user="postgres")
    slow.send(query("SELECT 1"), query(LONG), query(STATEMENT), query("SELECT 2"))
    assert answers(slow, 1) == [b"SELECT 1"]
    assert gate.begun.wait(DEADLINE_S)
    other.send(query(STATEMENT), query("SELECT 1"))
    assert answers(other, 2) == [b"CREATE FEDERATED WORKSPACE", b"SELECT 1"]
    gate.open.set()
    assert answers(slow, 3) == [b"CREATE FEDERATED WORKSPACE"] * 2 + [b"SELECT 1"]


def test_two_long_texts_of_one_client_and_one_of_another(proxy, gate, dial):
    gate.open.set()
    wires = [dial(proxy.port, user="postgres") for _ in range(2)]
    wires[0].send(query(LONG), query(f"SELECT 1;{LONG}"), query("SELECT 1"))
    wires[1].send(query(LONG), query(LONG))
    ours = b"CREATE FEDERATED WORKSPACE"
    assert answers(wires[0], 3) == [ours, b"SELECT 1", ours, b"SELECT 1"]
    assert answers(wires[1], 2) == [ours, ours]


def given(proxy: RunningProxy) -> list[str]:
    with proxy.cluster.admin() as admin:
        return [text for (text,) in admin.execute("SELECT statement FROM federated.given").fetchall()]


@pytest.fixture
def nothing_given(proxy, dial) -> None:
    wire = dial(proxy.port, user="postgres")
    wire.send(query("TRUNCATE federated.given"))
    wire.until(b"Z")
    wire.sock.close()


def reset(wire: Wire) -> None:
    wire.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    wire.sock.close()


def held(proxy: RunningProxy, gate: Gate, wire: Wire, text: str) -> None:
    """Have a long text of this client in the queue, or at work, while the gate is shut."""
    before = {relay for relay in proxy.proxy.relays if relay.received >= len(text)}
    wire.send(query(text))
    eventually(
        lambda: any(relay.received >= len(text) for relay in {*proxy.proxy.relays} - before),
        "the text has come",
    )
    assert gate.begun.wait(DEADLINE_S)


@pytest.mark.usefixtures("nothing_given")
def test_a_client_that_goes_away_meanwhile_has_its_statement_executed_as_by_the_server(proxy, gate, dial):
    wire = dial(proxy.port, user="postgres")
    held(proxy, gate, wire, LONG)
    wire.sock.close()
    gate.open.set()
    eventually(lambda: given(proxy) == [STATEMENT], "the statement was executed")


def test_a_client_that_closes_one_way_meanwhile_gets_its_answer(proxy, gate, dial):
    wire = dial(proxy.port, user="postgres")
    held(proxy, gate, wire, LONG)
    wire.send(query("SELECT 1"))
    wire.sock.shutdown(socket.SHUT_WR)
    gate.open.set()
    assert tags(wire.rest()) == [b"CREATE FEDERATED WORKSPACE", b"SELECT 1"]


@pytest.mark.usefixtures("nothing_given")
def test_nobody_waits_for_the_text_of_a_client_that_is_gone(proxy, gate, dial):
    first, gone, last = (dial(proxy.port, user="postgres") for _ in range(3))
    held(proxy, gate, first, LONG)
    held(proxy, gate, gone, f"{LONG}; CREATE FEDERATED WORKSPACE gone")
    reset(gone)
    held(proxy, gate, last, f"{LONG} ")
    gate.open.set()
    for wire in (first, last):
        assert answers(wire, 1) == [b"CREATE FEDERATED WORKSPACE"]
    assert gate.texts == [LONG, f"{LONG} "]
    assert given(proxy) == [STATEMENT, STATEMENT]


@pytest.mark.usefixtures("nothing_given")
def test_a_client_found_gone_while_its_text_is_worked_out_holds_nobody_up(proxy, gate, dial):
    wire, other = dial(proxy.port, user="postgres"), dial(proxy.port, user="postgres")
    wire.send(query("LISTEN x"))
    wire.until(b"Z")
    held(proxy, gate, wire, LONG)
    reset(wire)

    def alone() -> bool:
        other.send(query("NOTIFY x"))
        return answers(other, 1) == [b"NOTIFY"] and proxy.proxy.connections == 1

    eventually(alone, "the proxy has found out")
    assert not gate.open.is_set()
    assert given(proxy) == []


def test_many_dear_texts_of_one_client_hold_nobody_up(proxy, dial):
    """Together they are seconds of work; nobody waits for more than a few of them."""
    wire, other = dial(proxy.port, user="postgres"), dial(proxy.port, user="postgres")
    wire.send(*(query(dear(number)) for number in range(40)))
    waited = []
    while len(waited) < 20:
        begun = time.monotonic()
        other.send(query("SELECT 1"))
        assert answers(other, 1) == [b"SELECT 1"]
        waited.append(time.monotonic() - begun)
    assert proxy.proxy.rewriter.misses < 40
    for _ in range(40):
        wire.until(b"Z")
    assert proxy.proxy.rewriter.misses == 40


def dear(number: int) -> str:
    aliases = range(300)
    calls = ", ".join(f"federated_predict('m', age => {number}) p{at}" for at in aliases)
    return f"SELECT {calls} FROM t WHERE {' AND '.join(f'p{at} > 1' for at in aliases)}"


def test_a_client_is_read_no_further_meanwhile(proxy, gate, dial):
    wire = dial(proxy.port, user="postgres")
    wire.send(query(LONG))
    assert gate.begun.wait(DEADLINE_S)
    wire.sock.setblocking(False)
    block, sent = build_message(b"d", bytes(1 << 16)), 0
    with pytest.raises(BlockingIOError):
        while sent < 64 << 20:
            sent += wire.sock.send(block)
    wire.sock.settimeout(DEADLINE_S)
    gate.open.set()
    assert tags(wire.until(b"Z")) == [b"CREATE FEDERATED WORKSPACE"]


@pytest.mark.usefixtures("nothing_given")
def test_a_text_that_was_not_sent_to_the_server_does_not_delay_the_end(proxy, gate, dial):
    wire = dial(proxy.port, user="postgres")
    held(proxy, gate, wire, LONG)
    proxy.begin_stop()
    (message,) = wire.rest()
    assert dict(parse_fields(message[1]))[b"C"] == b"57P01"
    proxy.thread.join(DEADLINE_S)
    assert not proxy.thread.is_alive()
    assert not gate.open.is_set()
    assert given(proxy) == []
