"""However much flows, and however slowly it is taken, the proxy's memory stays small.

The proxy runs as a process of its own here, started from a settings file as an operator starts it.
"""

from __future__ import annotations

import select
import struct
import subprocess
from collections.abc import Iterator

import pytest

from heliosdb.proxy.relay import MAX_OUTSTANDING
from heliosdb.proxy.wire import build_message
from tests.integration.proxy.proxy_harness import (
    DATABASE,
    DEADLINE_S,
    ProxyProcess,
    binary,
    eventually,
    proxy_process,
    query,
)
from tests.integration.proxy.proxy_messages import SYNC, close

SIZE = 100_000_000
BOUND_KIB = 32 * 1024
ONE_READ = 256 * 1024  # bytes, the most that either event loop reads at once


@pytest.fixture
def process(cluster, tmp_path) -> Iterator[ProxyProcess]:
    with proxy_process(cluster, tmp_path) as started:
        yield started
    eventually(lambda: cluster.backends() == [], "every server connection is closed")


def send_slices(wire, head: bytes, size: int) -> None:
    wire.send(head)
    block = b"x" * (1 << 20)
    for at in range(0, size, len(block)):
        wire.send(block[: min(len(block), size - at)])


def test_a_large_message_of_the_client_streams_through(process, dial):
    wire = dial(process.port, user="postgres")
    before = process.peak_kib()
    wire.send(build_message(b"P", b"\0SELECT length($1::bytea)\0\0\0"))
    arguments = b"\0\0" + struct.pack("!HHHI", 1, 1, 1, SIZE)
    wire.send(b"B" + struct.pack("!I", 4 + len(arguments) + SIZE + 2))
    send_slices(wire, arguments, SIZE)
    wire.send(b"\0\0", build_message(b"E", bytes(5)), build_message(b"S"))
    assert (b"D", struct.pack("!HI", 1, 9) + str(SIZE).encode()) in wire.until(b"Z")
    assert process.peak_kib() - before < BOUND_KIB


def test_a_large_query_streams_through(process, dial):
    wire = dial(process.port, user="postgres")
    before = process.peak_kib()
    head, tail = b"SELECT length('federated", b"')\0"
    wire.send(b"Q" + struct.pack("!I", 4 + len(head) + SIZE + len(tail)))
    send_slices(wire, head, SIZE)
    wire.send(tail)
    assert (b"D", struct.pack("!HI", 1, 9) + str(SIZE + 9).encode()) in wire.until(b"Z")
    assert process.peak_kib() - before < BOUND_KIB


def test_a_client_that_does_not_read_holds_the_server_up(process, cluster, dial):
    wire = dial(process.port, user="postgres")
    before = process.peak_kib()
    wire.send(query("COPY (SELECT repeat('x', 1000) FROM generate_series(1, 100000)) TO STDOUT"))
    waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'ClientWrite'"
    seen: list[bool] = []
    with cluster.admin() as admin:

        def stuck() -> bool:
            seen.append(admin.execute(waits).fetchone() == (1,))
            return len(seen) > 100 and all(seen[-100:])

        eventually(stuck, "the server waits for the client, again and again")
    received = 0
    while (message := wire.read()) is not None and message[0] != b"Z":
        received += len(message[1])
        wire.got.clear()
    assert received > SIZE
    assert process.peak_kib() - before < BOUND_KIB


def test_a_server_that_does_not_read_holds_the_client_up(process, cluster, dial):
    """The backend is stopped by signal, so it takes nothing, as one busy elsewhere."""
    wire = dial(process.port, user="postgres")
    before = process.peak_kib()
    wire.send(query("CREATE TEMP TABLE x (word text); COPY x FROM STDIN"))
    wire.until(b"G")
    (pid,) = struct.unpack_from("!I", dict(wire.got)[b"K"])
    stopped = subprocess.run(["kill", "-STOP", str(pid)], check=False)
    assert stopped.returncode == 0
    wire.sock.setblocking(False)
    row = build_message(b"d", b"x" * 9_999 + b"\n")
    sent, pending = 0, b""
    try:
        while sent < SIZE and select.select([], [wire.sock], [], 1)[1]:
            pending = pending or row * 100
            done = wire.sock.send(pending)
            pending, sent = pending[done:], sent + done
    finally:
        subprocess.run(["kill", "-CONT", str(pid)], check=True)
    assert sent < SIZE
    wire.sock.settimeout(DEADLINE_S)
    wire.send(pending, build_message(b"c"))
    assert wire.until(b"Z")[-1] == (b"Z", b"I")
    assert process.peak_kib() - before < BOUND_KIB


def test_small_messages_that_a_busy_server_does_not_answer_are_held_up(proxy, dial):
    """Each is remembered until it is answered, which takes many times its own bytes."""
    wire = dial(proxy.port, user="postgres")
    (pid,) = struct.unpack_from("!I", dict(wire.got)[b"K"])
    (relay,) = proxy.proxy.relays
    subprocess.run(["kill", "-STOP", str(pid)], check=True)
    wire.sock.setblocking(False)
    block = close("S", "") * 20_000
    sent = most = 0
    try:
        while sent < SIZE and select.select([], [wire.sock], [], 1)[1]:
            sent += wire.sock.send(block[sent % len(block) :])
            most = max(most, relay._session.outstanding)
    finally:
        subprocess.run(["kill", "-CONT", str(pid)], check=True)
    assert MAX_OUTSTANDING < most < MAX_OUTSTANDING + ONE_READ // len(close("S", ""))
    wire.sock.settimeout(DEADLINE_S)
    wire.send(block[sent % len(block) :], SYNC)
    assert wire.until(b"Z")[-1] == (b"Z", b"I")
    assert relay._session.outstanding == 0


def test_psql_and_the_settings_file_work_together(process):
    command = [
        binary("psql"),
        "-X",
        "-h",
        "127.0.0.1",
        "-p",
        str(process.port),
        "-U",
        "postgres",
        "-d",
        DATABASE,
    ]
    result = subprocess.run(
        [*command, "-c", "CREATE FEDERATED WORKSPACE w"], capture_output=True, text=True, check=True
    )
    assert result.stdout == "CREATE FEDERATED WORKSPACE\n"
