"""The proxy as a process of its own, started from a settings file as an operator starts it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from tests.integration.proxy.proxy_harness import DATABASE, DEADLINE_S, Cluster, eventually
from tests.support.ports import free_port

COMMAND = [sys.executable, "-m", "heliosdb.cli.main", "proxy", "--config"]
# Makes the inherited sockets 3, 4, … and names itself as their receiver, as systemd does.
ACTIVATE = """
import fcntl, os, sys
count = int(sys.argv[1])
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(count))
fds = [int(n) for n in sys.argv[2:2 + count]]
high = [fcntl.fcntl(n, fcntl.F_DUPFD_CLOEXEC, 64) for n in fds]
for at, n in enumerate(high):
    os.dup2(n, 3 + at, inheritable=True)
os.execv(sys.argv[2 + count], sys.argv[2 + count:])
"""


class Manager:
    """What a service manager hears: the datagrams sent to its notification socket."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "notify"
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(self.path))
        self.socket.settimeout(DEADLINE_S)
        self.heard: list[dict[str, str]] = []

    def hear(self, name: str) -> str:
        """Wait for a message that has this field; return its value."""
        while True:
            message = self.socket.recv(4096).decode()
            self.heard.append(dict(line.split("=", 1) for line in message.splitlines()))
            if name in self.heard[-1]:
                return self.heard[-1][name]


@dataclass
class ProxyProcess:
    process: subprocess.Popen[str]
    settings: Path
    log: Path
    manager: Manager
    port: int
    directory: Path  # of the Unix socket

    def peak_kib(self) -> int:
        """The most memory that the process has ever held."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        (line,) = [line for line in status.splitlines() if line.startswith("VmHWM:")]
        return int(line.split()[1])

    def open_files(self) -> int:
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    def connect(self, **words: object) -> psycopg.Connection:
        base = {"host": "127.0.0.1", "port": self.port, "user": "postgres", "dbname": DATABASE}
        conninfo = psycopg.conninfo.make_conninfo("", **{**base, **words})
        return psycopg.connect(conninfo, autocommit=True)

    def console(self) -> psycopg.Connection:
        return self.connect(host=str(self.directory), dbname="heliosdb_proxy", user="operator")

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def log_has(self, text: str) -> bool:
        return text in self.log.read_text()


@dataclass
class Launcher:
    """Starts proxies and sees to it that each ends with exit code 0."""

    cluster: Cluster
    directory: Path
    manager: Manager
    running: list[ProxyProcess] = field(default_factory=list)
    successors: list[int] = field(default_factory=list)

    def write(self, text: str = "", *, port: int | None = None) -> Path:
        """A settings file with the scratch database's route, and `text` after the listeners."""
        settings = self.directory / "proxy.toml"
        listen = f'listen_port = {port or free_port()}\nunix_socket_directory = "{self.directory}"\n'
        route = f'[routes.{DATABASE}]\nhost = "{self.cluster.directory}"\nport = {self.cluster.port}\n'
        settings.write_text(listen + text + ("" if "[routes" in text else route))
        return settings

    def start(
        self,
        text: str = "",
        *,
        sockets: Sequence[socket.socket] = (),
        base: Sequence[str] = COMMAND,
    ) -> ProxyProcess:
        """Start a proxy and wait until it says that it serves."""
        port = sockets[0].getsockname()[1] if sockets else free_port()
        settings = self.write(text, port=port)
        log = self.directory / f"log-{len(self.running)}"
        numbers = [str(each.fileno()) for each in sockets]
        command = [*base, str(settings)]
        if sockets:
            command = [sys.executable, "-c", ACTIVATE, str(len(numbers)), *numbers, *command]
        environment = {**os.environ, "NOTIFY_SOCKET": str(self.manager.path)}
        with log.open("w") as output:
            process = subprocess.Popen(
                command,
                stderr=output,
                text=True,
                env=environment,
                pass_fds=[each.fileno() for each in sockets],
            )
        started = ProxyProcess(process, settings, log, self.manager, port, self.directory)
        self.running.append(started)
        self.manager.hear("READY")
        return started

    def stop(self) -> None:
        for each in self.running:
            if each.process.poll() is None:
                each.signal(signal.SIGTERM)
        for each in self.running:
            assert each.process.wait(DEADLINE_S) == 0, each.log.read_text()
            assert "Traceback" not in each.log.read_text()
        for pid in self.successors:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
            eventually(lambda pid=pid: not is_running(pid), "the successor has ended")


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def launcher(cluster: Cluster, directory: Path) -> Iterator[Launcher]:
    manager = Manager(directory)
    made = Launcher(cluster, directory, manager)
    try:
        yield made
    finally:
        made.stop()
        manager.socket.close()
    eventually(lambda: cluster.backends() == [], "every server connection is closed")
