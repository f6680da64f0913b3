"""A new process takes over: no connection attempt is lost, and no session that is running."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

import psycopg
import pytest

from heliosdb.proxy.wire import build_message, build_startup, parse_fields
from tests.integration.proxy.proxy_harness import (
    DATABASE,
    DEADLINE_S,
    Wire,
    cancel_when_running,
    eventually,
    query,
)
from tests.integration.proxy.proxy_process import COMMAND, is_running
from tests.support.ports import free_port

START = build_startup({"user": "postgres", "database": DATABASE})


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    """A listening socket that outlives the proxies, as systemd's does."""
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as server:
        yield server


class Visitors:
    """Clients that come one after the other, each with one query, and take note of what goes wrong."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.served = 0
        self.faults: list[str] = []
        self._enough = threading.Event()
        self._threads = [threading.Thread(target=self._come, daemon=True) for _ in range(4)]

    def __enter__(self) -> Visitors:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._enough.set()
        for thread in self._threads:
            thread.join(DEADLINE_S)

    def more_come(self) -> None:
        """Wait until 50 more were served."""
        goal = self.served + 50
        eventually(lambda: self.served >= goal or bool(self.faults), "visitors are served")

    def _come(self) -> None:
        while not self._enough.is_set():
            try:
                self._visit()
                self.served += 1
            except OSError as error:
                self.faults.append(repr(error))

    def _visit(self) -> None:
        with socket.create_connection(("127.0.0.1", self.port), timeout=DEADLINE_S) as sock:
            wire = Wire(sock)
            wire.send(START)
            wire.until(b"Z")
            wire.send(query("SELECT 42"))
            if (b"D", b"\0\1\0\0\0\x0242") not in wire.until(b"Z"):
                self.faults.append(repr(wire.got))
            wire.send(build_message(b"X"))


def open_transaction(proxy):
    connection = proxy.connect()
    connection.execute("BEGIN")
    connection.execute("CREATE TEMP TABLE mine AS SELECT 7 AS seven")
    return connection


def finish(connection) -> None:
    """The transaction that was open all the time ends well, and the session is still there after it."""
    assert connection.execute("SELECT seven FROM mine").fetchone() == (7,)
    assert connection.execute("COMMIT").statusmessage == "COMMIT"
    assert connection.execute("SELECT seven FROM mine").fetchone() == (7,)


def serving(proxy) -> int | None:
    """The process that accepts; None where that one is just stopping to do so."""
    try:
        with proxy.console() as console:
            return console.execute("SHOW STATE").fetchone()[0]
    except psycopg.OperationalError:
        return None


def test_on_sockets_of_the_service_manager_a_second_process_takes_over(launch, listening):
    old = launch.start(sockets=[listening])
    with Visitors(old.port) as visitors:
        visitors.more_come()
        idle, busy = old.connect(), open_transaction(old)
        new = launch.start(sockets=[listening])
        old.signal(signal.SIGUSR1)
        old.manager.hear("STOPPING")
        visitors.more_come()
        with new.connect() as later:
            assert later.execute("SELECT 1").fetchone() == (1,)
        assert old.process.poll() is None
        finish(busy)
        busy.close()
        assert idle.execute("SELECT 1").fetchone() == (1,)
        idle.close()
        assert old.process.wait(DEADLINE_S) == 0
        visitors.more_come()
    assert visitors.faults == []


def test_who_comes_while_nobody_serves_is_served_by_the_next_process(launch, listening):
    old = launch.start(sockets=[listening])
    old.signal(signal.SIGTERM)
    assert old.process.wait(DEADLINE_S) == 0
    waiting = [socket.create_connection(("127.0.0.1", old.port), timeout=DEADLINE_S) for _ in range(20)]
    for each in waiting:
        each.sendall(START)
    launch.start(sockets=[listening])
    for each in waiting:
        assert Wire(each).until(b"Z")[-1] == (b"Z", b"I")
        each.close()


def test_on_its_own_sockets_a_successor_takes_over_again_and_again(launch):
    first = launch.start()
    path = first.directory / f".s.PGSQL.{first.port}"
    inode = path.stat().st_ino
    pid = first.process.pid
    with Visitors(first.port) as visitors:
        for _generation in range(2):
            visitors.more_come()
            with open_transaction(first) as busy:
                os.kill(pid, signal.SIGUSR2)
                successor = int(first.manager.hear("MAINPID"))
                launch.successors.append(successor)
                eventually(lambda pid=successor: serving(first) == pid, "the successor alone accepts")
                visitors.more_come()
                assert is_running(pid)
                finish(busy)
            eventually(lambda pid=pid: not is_running(pid), "the old process has ended")
            assert path.stat().st_ino == inode
            pid = successor
        visitors.more_come()
    assert visitors.faults == []
    os.kill(pid, signal.SIGTERM)
    eventually(lambda: not is_running(pid), "the last one has ended")
    assert not path.exists()


def test_a_cancel_request_reaches_a_session_that_finishes_in_the_old_process(launch, cluster):
    old = launch.start()
    with old.connect() as staying:
        old.signal(signal.SIGUSR2)
        successor = int(old.manager.hear("MAINPID"))
        launch.successors.append(successor)
        eventually(lambda: serving(old) == successor, "the successor alone accepts")
        cancel_when_running(cluster, staying)
        with old.connect() as later:
            cancel_when_running(cluster, later)


def test_a_successor_that_does_not_come_up_changes_nothing(launch):
    proxy = launch.start()
    proxy.settings.write_text("listen_prot = 1")
    with open_transaction(proxy) as busy:
        proxy.signal(signal.SIGUSR2)
        eventually(lambda: proxy.log_has("the successor did not come up"), "it has failed")
        with proxy.connect() as later:
            assert later.execute("SELECT 1").fetchone() == (1,)
        finish(busy)
    launch.write(port=proxy.port)
    proxy.signal(signal.SIGUSR2)
    launch.successors.append(int(proxy.manager.hear("MAINPID")))
    assert proxy.process.wait(DEADLINE_S) == 0


# A proxy whose successors hang while the file "hang" is there.
HANGING = """
import logging, os, pathlib, signal, sys
from heliosdb.proxy import handover, process
logging.basicConfig(level=logging.INFO)
settings = pathlib.Path(sys.argv[1])
if handover.has_predecessor() and settings.with_name("hang").exists():
    signal.pause()
process.TAKEOVER_S = float(os.environ["TAKEOVER_S"])
process.run_process(settings)
"""


@pytest.fixture
def hanging(launch, monkeypatch):
    """Start a proxy whose successors hang for now."""

    def start(takeover_s: float):
        monkeypatch.setenv("TAKEOVER_S", str(takeover_s))
        (launch.directory / "hang").touch()
        return launch.start(base=[sys.executable, "-c", HANGING])

    return start


def successor_of(proxy) -> int:
    """The process that it has started last."""
    said = re.compile(r"process (\d+) is to take over$", re.M)
    eventually(lambda: bool(said.search(proxy.log.read_text())), "a successor was started")
    return int(said.findall(proxy.log.read_text())[-1])


def test_a_successor_that_hangs_is_ended_and_the_next_one_takes_over(launch, hanging):
    proxy = hanging(takeover_s=5)  # in which the next one has to come up
    path = proxy.directory / f".s.PGSQL.{proxy.port}"
    with open_transaction(proxy) as busy:
        proxy.signal(signal.SIGUSR2)
        first = successor_of(proxy)
        eventually(lambda: proxy.log_has("the successor did not come up"), "it was given up")
        assert not is_running(first)
        assert path.is_socket()
        with proxy.connect() as later:
            assert later.execute("SELECT 1").fetchone() == (1,)
        (proxy.directory / "hang").unlink()
        proxy.signal(signal.SIGUSR2)
        launch.successors.append(int(proxy.manager.hear("MAINPID")))
        finish(busy)
    assert proxy.process.wait(DEADLINE_S) == 0


def test_a_signal_that_comes_while_a_successor_starts_is_not_lost_without_a_word(launch, hanging):
    proxy = hanging(takeover_s=DEADLINE_S)
    proxy.signal(signal.SIGUSR2)
    first = successor_of(proxy)
    proxy.signal(signal.SIGUSR2)
    eventually(lambda: proxy.log_has(f"SIGUSR2 is ignored: process {first} is to"), "it is logged")
    proxy.signal(signal.SIGUSR1)
    with proxy.connect() as still:
        assert still.execute("SELECT 1").fetchone() == (1,)
    os.kill(first, signal.SIGKILL)
    assert proxy.process.wait(DEADLINE_S) == 0  # as SIGUSR1 asks for
    assert refuses(proxy.port)


@pytest.mark.parametrize("hangs", [True, False], ids=["that hangs", "that comes up"])
def test_a_process_stopped_while_its_successor_starts_leaves_no_stray(launch, hanging, hangs):
    proxy = hanging(takeover_s=DEADLINE_S)
    if not hangs:
        (proxy.directory / "hang").unlink()
    proxy.signal(signal.SIGUSR2)
    successor = successor_of(proxy)
    proxy.signal(signal.SIGTERM)
    assert proxy.process.wait(DEADLINE_S) == 0
    assert not is_running(successor)
    assert not (proxy.directory / f".s.PGSQL.{proxy.port}").exists()
    assert refuses(proxy.port)


def test_while_its_sessions_finish_a_process_can_still_be_stopped(launch):
    proxy = launch.start("stop_timeout_s = 0.1\n")
    console, idle, busy = proxy.console(), proxy.connect(), open_transaction(proxy)
    proxy.signal(signal.SIGUSR1)
    proxy.manager.hear("STOPPING")
    eventually(lambda: refuses(proxy.port), "nobody is accepted any more")
    eventually(lambda: not answers(console), "the console was told to go")
    assert idle.execute("SELECT 1").fetchone() == (1,)
    proxy.signal(signal.SIGTERM)
    assert proxy.process.wait(DEADLINE_S) == 0
    for each in (console, idle, busy):
        each.close()


def refuses(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S).close()
    except ConnectionError:
        return True
    return False


def answers(console) -> bool:
    try:
        console.execute("SHOW VERSION")
    except psycopg.OperationalError:
        return False
    return True


def test_the_service_manager_hears_of_every_stage(launch):
    proxy = launch.start()
    proxy.signal(signal.SIGHUP)
    assert proxy.manager.hear("RELOADING") == "1"
    assert int(proxy.manager.heard[-1]["MONOTONIC_USEC"]) > 0
    assert proxy.manager.hear("READY") == "1"
    proxy.signal(signal.SIGTERM)
    assert proxy.manager.hear("STOPPING") == "1"
    assert proxy.process.wait(DEADLINE_S) == 0


def test_inherited_sockets_may_be_of_unix_and_their_files_are_not_removed(launch, listening):
    path = launch.directory / "given"
    with socket.socket(socket.AF_UNIX) as local:
        local.bind(str(path))
        local.listen()
        proxy = launch.start(sockets=[listening, local])
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(DEADLINE_S)
            client.connect(str(path))
            wire = Wire(client)
            wire.send(build_startup({"user": "x", "database": "heliosdb_proxy"}), query("SHOW LISTENERS"))
            wire.until(b"Z")
            shown = wire.until(b"Z")
        assert str(path).encode() in shown[2][1]
        proxy.signal(signal.SIGTERM)
        assert proxy.process.wait(DEADLINE_S) == 0
        assert path.is_socket()


def test_what_is_inherited_and_does_not_listen_is_refused(launch):
    settings = launch.write(port=free_port())
    environment = {**os.environ, "LISTEN_FDS": "1"}
    # The shell's own number is that of the process that it becomes.
    script = 'export LISTEN_PID=$$; exec "$@" 3</dev/null'
    result = subprocess.run(
        ["/bin/sh", "-c", script, "sh", *COMMAND, str(settings)],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert result.returncode != 0
    assert "inherited file 3 is not a socket" in result.stderr


def test_variables_meant_for_another_process_are_not_taken(launch, monkeypatch):
    monkeypatch.setenv("LISTEN_FDS", "1")
    monkeypatch.setenv("LISTEN_PID", "1")
    with launch.start().connect() as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_stopping_tells_idle_sessions_and_lets_a_transaction_end(launch):
    proxy = launch.start()
    sock = socket.create_connection(("127.0.0.1", proxy.port), timeout=DEADLINE_S)
    with sock, open_transaction(proxy) as busy:
        idle = Wire(sock)
        idle.send(START)
        idle.until(b"Z")
        proxy.signal(signal.SIGTERM)
        ((kind, body),) = idle.rest()
        assert (kind, dict(parse_fields(body))[b"C"]) == (b"E", b"57P01")
        assert busy.execute("SELECT seven FROM mine").fetchone() == (7,)
        assert busy.execute("COMMIT").statusmessage == "COMMIT"
    assert proxy.process.wait(DEADLINE_S) == 0
