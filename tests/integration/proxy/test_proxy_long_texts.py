"""A long text is worked out beside the loop: in order for its own client, unnoticed by the others."""

from __future__ import annotations

import threading

import pytest
from proxy_harness import DEADLINE_S, RunningProxy, Wire, eventually, query

from heliosdb.proxy.rewriting import LONG_TEXT, Rewriter, federated_rewriter
from heliosdb.proxy.wire import build_message

STATEMENT = "CREATE FEDERATED WORKSPACE w"
LONG = STATEMENT + " " * LONG_TEXT


class Gate:
    """A rewriter that works on a long text only once it is let."""

    def __init__(self) -> None:
        self.begun, self.open = threading.Event(), threading.Event()
        self._real = federated_rewriter()

    def rewrite(self, text: str):
        if len(text) > LONG_TEXT:
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


def test_a_client_that_goes_away_meanwhile_has_its_statement_executed_as_by_the_server(proxy, gate, dial):
    wire = dial(proxy.port, user="postgres")
    wire.send(query("TRUNCATE federated.given"))
    wire.until(b"Z")
    wire.send(query(LONG))
    assert gate.begun.wait(DEADLINE_S)
    gate.open.set()
    wire.sock.close()

    def given() -> bool:
        with proxy.cluster.admin() as admin:
            return admin.execute("SELECT count(*) FROM federated.given").fetchone() == (1,)

    eventually(given, "the statement was executed")


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


def test_the_proxy_stops_in_good_order_meanwhile(proxy, gate, dial):
    wire = dial(proxy.port, user="postgres")
    wire.send(query(LONG))
    assert gate.begun.wait(DEADLINE_S)
    proxy.begin_stop()
    gate.open.set()
    assert wire.rest()[-1][0] in (b"E", b"Z")
