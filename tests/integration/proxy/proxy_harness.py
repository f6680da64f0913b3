"""A real PostgreSQL cluster, proxies in threads, and a client that sees every byte."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest

from heliosdb.proxy.config import ProxyConfig, Upstream
from heliosdb.proxy.rewriting import federated_rewriter
from heliosdb.proxy.server import Proxy
from heliosdb.proxy.wire import build_message
from tests.support.server import Server, as_server_user, bin_directory

DEADLINE_S = 120.0
DATABASE = "scratch"

HBA = """
local all +scram_users scram-sha-256
local all md5_user md5
local all password_user password
local all all trust
host all +scram_users 127.0.0.1/32 scram-sha-256
host all md5_user 127.0.0.1/32 md5
host all password_user 127.0.0.1/32 password
host all all 127.0.0.1/32 trust
host replication all 127.0.0.1/32 trust
"""

# What stands for the extension: it remembers what it was given and fails as the extension fails.
SCHEMA = """
CREATE SCHEMA federated;
CREATE TABLE federated.given (id int GENERATED ALWAYS AS IDENTITY, statement text);
CREATE PROCEDURE federated.execute(statement text) LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO federated.given (statement) VALUES ($1);
    IF $1 LIKE '%notice_me%' THEN
        RAISE NOTICE 'noticed';
    END IF;
    IF $1 LIKE '%fail_here%' THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'this cannot be', HINT = 'Try again.',
            COLUMN = 'position=' || strpos($1, 'fail_here'), DATATYPE = 'federated_sql';
    END IF;
END $$;
SET password_encryption = 'md5';
CREATE ROLE md5_user LOGIN PASSWORD 'secret';
SET password_encryption = 'scram-sha-256';
CREATE ROLE scram_users;
CREATE ROLE scram_user LOGIN PASSWORD 'secret' IN ROLE scram_users;
CREATE ROLE password_user LOGIN PASSWORD 'secret';
CREATE TABLE t (id int, word text);
CREATE SCHEMA federated_model;
CREATE FUNCTION federated_model.m(age float8) RETURNS float8 LANGUAGE sql RETURN age * 2;
"""


def eventually(condition: Callable[[], bool], what: str) -> None:
    """Wait until `condition` holds; fail after the deadline."""
    end = time.monotonic() + DEADLINE_S
    while not condition():
        if time.monotonic() > end:
            pytest.fail(f"not within {DEADLINE_S} s: {what}")
        time.sleep(0.01)


@dataclass(frozen=True)
class Cluster:
    directory: Path
    port: int

    def dsn(self, **words: object) -> str:
        base = {"host": "127.0.0.1", "port": self.port, "user": "postgres", "dbname": DATABASE}
        return psycopg.conninfo.make_conninfo("", **{**base, **words})

    def admin(self) -> psycopg.Connection:
        dsn = self.dsn(host=str(self.directory), application_name="admin")
        return psycopg.connect(dsn, autocommit=True)

    def backends(self) -> list[int]:
        """The backends that serve clients other than `admin`."""
        with self.admin() as connection:
            rows = connection.execute(
                "SELECT pid FROM pg_stat_activity WHERE backend_type IN ('client backend', 'walsender') "
                "AND application_name <> 'admin'"
            ).fetchall()
        return [pid for (pid,) in rows]

    def upstream(self) -> Upstream:
        return Upstream(host="127.0.0.1", port=self.port)

    def immediate_restart(self) -> None:
        """Stop the server as `pg_ctl -m immediate` does, and start it again."""
        Server(self.directory, self.port).control("restart", "-m", "immediate")


def as_postgres(*command: str | Path) -> list[str]:
    """PostgreSQL refuses to run as root."""
    return as_server_user([str(word) for word in command])


def binary(name: str) -> Path:
    return bin_directory() / name


@dataclass
class RunningProxy:
    """A proxy in a thread of its own."""

    cluster: Cluster
    port: int
    proxy: Proxy
    loop: asyncio.AbstractEventLoop
    stopping: asyncio.Event
    thread: threading.Thread
    faults: list[BaseException] = field(default_factory=list)

    def dsn(self, **words: object) -> str:
        return self.cluster.dsn(**{"port": self.port, **words})

    def connect(self, **words: object) -> psycopg.Connection:
        return psycopg.connect(self.dsn(**words), autocommit=True)

    def begin_stop(self) -> None:
        self.loop.call_soon_threadsafe(self.stopping.set)

    def stop(self) -> None:
        if self.thread.is_alive():
            self.begin_stop()
        self.thread.join(DEADLINE_S)
        assert not self.thread.is_alive()
        assert self.faults == []


def start_proxy(
    cluster: Cluster, config: ProxyConfig, loop_factory: Callable[[], asyncio.AbstractEventLoop]
) -> RunningProxy:
    started = threading.Event()
    box: list[RunningProxy] = []
    faults: list[BaseException] = []

    async def main() -> None:
        proxy, stopping = Proxy(config, federated_rewriter()), asyncio.Event()
        port = await proxy.start()
        loop = asyncio.get_running_loop()
        box.append(RunningProxy(cluster, port, proxy, loop, stopping, threading.current_thread(), faults))
        started.set()
        await stopping.wait()
        await proxy.stop()

    def fail(_loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        """What an event loop would only log."""
        faults.append(RuntimeError(context))

    def target() -> None:
        try:
            with asyncio.Runner(loop_factory=loop_factory) as runner:
                runner.get_loop().set_exception_handler(fail)
                runner.run(main())
        except BaseException as error:
            faults.append(error)
            started.set()
            raise

    threading.Thread(target=target, daemon=True).start()
    assert started.wait(DEADLINE_S)
    if faults:
        raise faults[0]
    return box[0]


@dataclass
class Wire:
    """A client that speaks bytes and keeps every message that it got, as (kind, body)."""

    sock: socket.socket
    got: list[tuple[bytes, bytes]] = field(default_factory=list)
    buffer: bytes = b""
    ended: bool = False

    def send(self, *messages: bytes) -> None:
        self.sock.sendall(b"".join(messages))

    def read(self) -> tuple[bytes, bytes] | None:
        """The next message, or None at the end of the stream."""
        while (size := self._size()) is None or len(self.buffer) < size:
            data = self._receive()
            if not data:
                self.ended = True
                return None
            self.buffer += data
        message = self.buffer[:1], self.buffer[5:size]
        self.buffer = self.buffer[size:]
        self.got.append(message)
        return message

    def until(self, kind: bytes) -> list[tuple[bytes, bytes]]:
        """Read up to and with a message of this kind, or to the end of the stream; return what came."""
        first = len(self.got)
        while (message := self.read()) is not None and message[0] != kind:
            pass
        return self.got[first:]

    def rest(self) -> list[tuple[bytes, bytes]]:
        """Read to the end of the stream."""
        return self.until(b"")

    def _receive(self) -> bytes:
        try:
            return self.sock.recv(1 << 16)
        except ConnectionResetError:
            return b""

    def _size(self) -> int | None:
        return 1 + struct.unpack_from("!I", self.buffer, 1)[0] if len(self.buffer) >= 5 else None


class OneAnswerServer(threading.Thread):
    """A server that greets with a backend key, remembers a cancel request, and closes as told."""

    def __init__(self, secret: bytes, last_words: bytes = b"") -> None:
        super().__init__(daemon=True)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.cancels: list[bytes] = []
        self._greeting = (
            build_message(b"R", bytes(4))
            + build_message(b"K", struct.pack("!I", 7) + secret)
            + build_message(b"Z", b"I")
        )
        self._last_words = last_words

    def run(self) -> None:
        with self.listener:
            client, _ = self.listener.accept()
            with client:
                client.recv(10_000)
                client.sendall(self._greeting)
                if self._last_words:
                    client.recv(10_000)
                    client.sendall(self._last_words)
                    return
                other, _ = self.listener.accept()
                with other:
                    self.cancels.append(other.recv(10_000))


def wait_until_asleep(cluster: Cluster, sessions: int = 1) -> None:
    with cluster.admin() as admin:
        text = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
        eventually(lambda: admin.execute(text).fetchone() == (sessions,), "the query runs")


def cancel_when_running(cluster: Cluster, connection: psycopg.Connection) -> None:
    """The session's query is cancelled by a request of its own client, and the session goes on."""

    def cancel_it() -> None:
        wait_until_asleep(cluster)
        connection.cancel_safe()

    helper = threading.Thread(target=cancel_it)
    helper.start()
    with pytest.raises(psycopg.errors.QueryCanceled):
        connection.execute("SELECT pg_sleep(60)")
    helper.join(DEADLINE_S)
    assert connection.execute("SELECT 1").fetchone() == (1,)


def query(text: str) -> bytes:
    return build_message(b"Q", text.encode() + b"\0")


PROGRAM = """
import pathlib, sys
from heliosdb.proxy.server import run
run(pathlib.Path(sys.argv[1]), ready=lambda port: print(port, flush=True))
"""


@dataclass
class ProxyProcess:
    """A proxy in a process of its own; it listens on a Unix socket in `directory` too."""

    process: subprocess.Popen[str]
    port: int
    directory: Path

    def peak_kib(self) -> int:
        """The most memory that the process has ever held."""
        return self._status("VmHWM:")

    def resident_kib(self) -> int:
        """The memory that the process holds."""
        return self._status("VmRSS:")

    def _status(self, name: str) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        (line,) = [line for line in status.splitlines() if line.startswith(name)]
        return int(line.split()[1])


@contextlib.contextmanager
def proxy_process(cluster: Cluster, directory: Path) -> Iterator[ProxyProcess]:
    """Start a proxy from a settings file, as an operator does; it must end well when asked to."""
    settings = directory / "proxy.toml"
    settings.write_text(
        f'listen_port = 0\nunix_socket_directory = "{directory}"\n'
        f'[default_upstream]\nhost = "127.0.0.1"\nport = 1\n'
        f'[routes.{DATABASE}]\nhost = "{cluster.directory}"\nport = {cluster.port}\n'
    )
    command = [sys.executable, "-c", PROGRAM, str(settings)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as started:
        try:
            assert started.stdout is not None
            yield ProxyProcess(started, int(started.stdout.readline()), directory)
        finally:
            started.send_signal(signal.SIGTERM)
            assert started.wait(DEADLINE_S) == 0
