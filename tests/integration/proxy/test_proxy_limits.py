"""Hostile and unlucky peers on real sockets: storms, slow starts, floods, servers that say nonsense."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import select
import socket
import ssl
import struct
import threading
from collections import Counter
from collections.abc import Iterator

import pytest

from heliosdb.proxy.config import Upstream
from heliosdb.proxy.wire import build_message, build_startup, parse_fields
from tests.integration.proxy.proxy_harness import DATABASE, DEADLINE_S, Wire, eventually, query

SSL_REQUEST = struct.pack("!II", 8, 80877103)
START = build_startup({"user": "postgres", "database": DATABASE})
READY = build_message(b"Z", b"I")
WELCOME = (
    build_message(b"R", bytes(4))
    + build_message(b"S", b"client_encoding\0UTF8\0")
    + build_message(b"S", b"standard_conforming_strings\0on\0")
    + build_message(b"K", struct.pack("!II", 1, 1))
    + READY
)
STORM, PLACES = 5_000, 500


class SmallServer:
    """A server in a thread that welcomes everybody, and says `answer` to whatever comes then."""

    def __init__(self, answer: bytes = READY) -> None:
        self.answer = answer
        self.accepted = 0
        self.open = 0
        self.most = 0
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)

    def __enter__(self) -> SmallServer:
        self._thread.start()
        assert self._started.wait(DEADLINE_S)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(DEADLINE_S)

    def upstream(self) -> Upstream:
        return Upstream(host="127.0.0.1", port=self.port)

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._talk, "127.0.0.1", 0, backlog=1024)
        self.port = server.sockets[0].getsockname()[1]
        self._started.set()
        await self._stop.wait()
        server.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        self.open += 1
        self.most = max(self.most, self.open)
        try:
            await reader.read(10_000)
            writer.write(WELCOME)
            while data := await reader.read(10_000):
                if data[:1] == b"X":
                    break
                writer.write(self.answer)
        except ConnectionError:
            pass
        finally:
            self.open -= 1
            writer.close()


@pytest.fixture
def small_server() -> Iterator[SmallServer]:
    with SmallServer() as server:
        yield server


@pytest.fixture
def many_files() -> Iterator[None]:
    """Room for a storm in this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = STORM + 3_000
    assert hard == resource.RLIM_INFINITY or hard >= wanted, f"ulimit -Hn is below {wanted}"
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# A storm


async def visit(port: int, arrived: asyncio.Event, counted: Counter[str]) -> None:
    """Connect, wait until everybody has had an answer, leave."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    outcome = "silence"
    try:
        with contextlib.suppress(ConnectionError):
            writer.write(START)
            await writer.drain()
        data = b""
        with contextlib.suppress(ConnectionError):
            while not data.endswith(READY) and (more := await reader.read(4096)):
                data += more
        if data.endswith(READY):
            outcome = "served"
        elif data[:1] == b"E":
            outcome = dict(parse_fields(data[5:]))[b"C"].decode()
        counted[outcome] += 1
        if counted.total() == STORM:
            arrived.set()
        await arrived.wait()
    finally:
        writer.close()


async def storm(port: int) -> Counter[str]:
    arrived, counted = asyncio.Event(), Counter[str]()
    async with asyncio.timeout(DEADLINE_S):
        await asyncio.gather(*(visit(port, arrived, counted) for _ in range(STORM)))
    return counted


def test_a_storm_of_five_thousand_fills_every_place_and_the_rest_is_refused(launch, small_server, many_files):
    route = f'[routes.{DATABASE}]\nhost = "127.0.0.1"\nport = {small_server.port}\n'
    proxy = launch.start(f"max_connections = {PLACES}\nreserved_connections = 0\n{route}")
    files, before = proxy.open_files(), proxy.peak_kib()
    counted = asyncio.run(storm(proxy.port))
    assert counted == {"served": PLACES, "53300": STORM - PLACES}
    assert small_server.most == PLACES
    assert proxy.peak_kib() - before < 64 * 1024
    eventually(lambda: proxy.open_files() <= files, "every socket is closed")
    eventually(lambda: small_server.open == 0, "every server connection is closed")
    with proxy.console() as console:
        shown = console.execute("SHOW STATS").fetchone()
        assert shown[:4] == (0, 0, PLACES, STORM - PLACES)
    assert asyncio.run(storm(proxy.port)) == counted, "a second storm finds every place free again"


def test_connections_that_say_nothing_do_not_keep_a_client_out_for_longer_than_the_deadline(
    launch, small_server
):
    route = f'[routes.{DATABASE}]\nhost = "127.0.0.1"\nport = {small_server.port}\n'
    proxy = launch.start(f"max_connections = 5\nstartup_timeout_s = 1\n{route}")
    with contextlib.ExitStack() as stack:
        for _ in range(1_200):
            stack.enter_context(socket.create_connection(("127.0.0.1", proxy.port), timeout=DEADLINE_S))

        def gets_in() -> bool:
            with socket.create_connection(("127.0.0.1", proxy.port), timeout=DEADLINE_S) as sock:
                wire = Wire(sock)
                with contextlib.suppress(ConnectionError):
                    wire.send(START)
                return wire.until(b"Z")[-1][0] == b"Z"

        eventually(gets_in, "there is room again")


# Slow starts


def drip(sock: socket.socket, data: bytes) -> bytes | None:
    """Send a byte at a time until the other side ends; what it said, or None if all was taken."""
    for byte in data:
        try:
            sock.send(bytes([byte]))
        except ConnectionError:
            return b""
        if select.select([sock], [], [], 0.02)[0]:
            try:
                return sock.recv(4096)
            except ConnectionError:
                return b""
    return None


def test_a_start_up_message_in_drops_does_not_extend_the_deadline(make_proxy, dial):
    proxy = make_proxy(startup_timeout_s=0.2)
    long_start = build_startup({"user": "postgres", "database": DATABASE, "options": " " * 2_000})
    assert drip(dial(proxy.port).sock, long_start) == b""
    eventually(lambda: proxy.proxy.connections == 0, "the relay is gone")


def hello() -> bytes:
    """The first flight of a TLS client, long enough to be sent in drops."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname="localhost").do_handshake()
    return outgoing.read()


def test_a_handshake_in_drops_does_not_extend_the_deadline(make_proxy, certificate, dial):
    proxy = make_proxy(tls_certificate=certificate[0], tls_key=certificate[1], startup_timeout_s=0.2)
    wire = dial(proxy.port)
    wire.send(SSL_REQUEST)
    assert wire.sock.recv(1) == b"S"
    assert drip(wire.sock, hello()) == b""
    eventually(lambda: proxy.proxy.connections == 0, "the relay is gone")


def test_a_start_up_message_in_drops_inside_tls_does_not_extend_the_deadline(make_proxy, certificate, dial):
    proxy = make_proxy(tls_certificate=certificate[0], tls_key=certificate[1], startup_timeout_s=0.3)
    wire = dial(proxy.port)
    wire.send(SSL_REQUEST)
    assert wire.sock.recv(1) == b"S"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # no session tickets: nothing comes but the end
    with context.wrap_socket(wire.sock) as inside:
        long_start = build_startup({"user": "postgres", "options": " " * 2_000})
        with contextlib.suppress(ssl.SSLEOFError):
            assert drip(inside, long_start) == b""
    eventually(lambda: proxy.proxy.connections == 0, "the relay is gone")


@pytest.mark.parametrize("length", [0, 7, 10_001, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF])
def test_a_length_that_overflows_at_the_start_is_refused_inside_tls_too(
    make_proxy, certificate, dial, length
):
    proxy = make_proxy(tls_certificate=certificate[0], tls_key=certificate[1])
    wire = dial(proxy.port)
    wire.send(SSL_REQUEST)
    assert wire.sock.recv(1) == b"S"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    wire.sock = context.wrap_socket(wire.sock, suppress_ragged_eofs=True)
    wire.send(struct.pack("!I", length) + b"\0\3\0\0")
    assert wire.rest() == []
    wire.sock.close()


# Lengths


@pytest.mark.parametrize("length", [0, 3, 0x3FFF_FFFF + 1, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF])
@pytest.mark.parametrize("kind", [b"Q", b"P", b"B", b"d", b"p"])
def test_a_length_that_overflows_gets_the_servers_verdict(cluster, proxy, dial, kind, length):
    answers = []
    for port in (cluster.port, proxy.port):
        wire = dial(port, user="postgres")
        wire.got.clear()
        wire.send(kind + struct.pack("!I", length) + b"SELECT 1\0")
        answers.append(wire.rest())
        assert wire.ended
    assert answers[0] == answers[1]


@pytest.mark.parametrize("length", [3, 0x8000_0000, 0xFFFF_FFFF])
def test_a_server_with_a_length_that_overflows_is_passed_on_and_nothing_is_held(make_proxy, dial, length):
    nonsense = b"D" + struct.pack("!I", length) + b"x" * 100
    with SmallServer(nonsense) as server:
        proxy = make_proxy(default_upstream=server.upstream())
        wire = dial(proxy.port, user="postgres")
        wire.send(query("SELECT 1"))
        received = b""
        while len(received) < len(nonsense):
            received += wire.sock.recv(4096)
        assert received == nonsense
        wire.sock.close()
        eventually(lambda: proxy.proxy.connections == 0, "the relay is gone")


# Servers that say what no server says


def error(*fields: bytes) -> bytes:
    return build_message(b"E", b"".join(field + b"\0" for field in fields) + b"\0")


@pytest.mark.parametrize(
    "answer",
    [
        error(b"SERROR", b"Mno sqlstate"),
        error(b"SERROR", b"Mfederated execute", b"dfederated_sql"),
        error(b"SERROR", b"C3F000", b'Mschema "federated" does not exist')[:-1] + b"\0",
        error(b"C"),
        error(),
        build_message(b"E"),
        build_message(b"E", b"SERROR\0Cno end"),
        build_message(b"E", b"P"),
    ],
    ids=[
        "no SQLSTATE",
        "ours without one",
        "with a hint",
        "empty",
        "no field",
        "no body",
        "cut",
        "one letter",
    ],
)
def test_an_error_without_the_usual_fields_reaches_the_client(make_proxy, dial, answer):
    with SmallServer(answer + READY) as server:
        proxy = make_proxy(default_upstream=server.upstream())
        for text in ("SELECT 1", "CREATE FEDERATED WORKSPACE w"):
            wire = dial(proxy.port, user="postgres")
            wire.send(query(text))
            heard = wire.until(b"Z")
            assert [kind for kind, _ in heard] == [b"E", b"Z"]
            if text == "SELECT 1":
                assert build_message(*heard[0]) == answer
            wire.send(build_message(b"X"))
        eventually(lambda: proxy.proxy.connections == 0, "the relays are gone")


# Floods, both ways, in bounded memory


SIZE = int(os.environ.get("HELIOSDB_MESSAGE_BYTES", "64000000"))
BOUND_KIB = 32 * 1024


def send_filled(wire: Wire, size: int) -> None:
    block = memoryview(b"x" * (1 << 20))
    for at in range(0, size, len(block)):
        wire.sock.sendall(block[: min(len(block), size - at)])


def receive_filled(wire: Wire, size: int) -> int:
    """Read `size` bytes and count those that are x."""
    counted, pending = 0, wire.buffer
    wire.buffer = b""
    left = size - len(pending)
    counted += pending.count(b"x")
    while left:
        data = wire.sock.recv(min(1 << 20, left))
        assert data, "the stream ended early"
        counted, left = counted + data.count(b"x"), left - len(data)
    return counted


def test_one_message_to_the_server_as_large_as_it_takes(launch, dial):
    proxy = launch.start()
    wire = dial(proxy.port, user="postgres")
    before = proxy.peak_kib()
    wire.sock.settimeout(300)
    wire.send(build_message(b"P", b"\0SELECT length($1::bytea)\0\0\0"))
    arguments = b"\0\0" + struct.pack("!HHHI", 1, 1, 1, SIZE)
    wire.send(b"B" + struct.pack("!I", 4 + len(arguments) + SIZE + 2), arguments)
    send_filled(wire, SIZE)
    wire.send(b"\0\0", build_message(b"E", bytes(5)), build_message(b"S"))
    answer = str(SIZE).encode()
    assert (b"D", struct.pack("!HI", 1, len(answer)) + answer) in wire.until(b"Z")
    assert proxy.peak_kib() - before < BOUND_KIB


def test_one_message_of_the_server_as_large_as_it_makes(launch, dial):
    proxy = launch.start()
    wire = dial(proxy.port, user="postgres")
    before = proxy.peak_kib()
    wire.sock.settimeout(300)
    wire.send(query(f"SELECT repeat('x', {SIZE})"))
    wire.until(b"T")
    while len(wire.buffer) < 11:
        wire.buffer += wire.sock.recv(4096)
    head, wire.buffer = wire.buffer[:11], wire.buffer[11:]
    assert head == b"D" + struct.pack("!IHI", 4 + 6 + SIZE, 1, SIZE)
    assert receive_filled(wire, SIZE) == SIZE
    assert [kind for kind, _ in wire.until(b"Z")] == [b"C", b"Z"]
    assert proxy.peak_kib() - before < BOUND_KIB


def test_both_ways_at_once_and_neither_side_reads_for_a_while(launch, dial):
    """A client that sends queries and reads no answer: first its own queue stops, then it all goes on."""
    proxy = launch.start("close_timeout_s = 1\n")  # much is left undone at the end
    wire = dial(proxy.port, user="postgres")
    before = proxy.peak_kib()
    each = 1_000_000
    asked = query(f"SELECT repeat('x', {each}) AS {'y' * 50}")
    wire.sock.setblocking(False)
    sent = 0
    while select.select([], [wire.sock], [], 0.5)[1] and sent < 1 << 26:
        sent += wire.sock.send((asked * 1000)[sent % len(asked) :])
    assert sent < 1 << 26, "the client is held up"
    assert proxy.peak_kib() - before < BOUND_KIB
    wire.sock.settimeout(DEADLINE_S)
    for _ in range(20):
        received = sum(len(body) for kind, body in wire.until(b"Z") if kind == b"D")
        assert received == each + 6
        wire.got.clear()
    wire.sock.close()
    assert proxy.peak_kib() - before < BOUND_KIB
