"""`heliosdb health` and the service manager's watchdog, on real daemons and a real server."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from heliosdb.cli.embedded.pki import ensure_authority, ensure_identity
from tests.support.cluster import Cluster, create_cluster, remove_cluster
from tests.support.ports import free_port

COMMAND = [sys.executable, "-m", "heliosdb.cli.main"]
DEADLINE = 120.0
# As a service manager names the process that it watches.
AS_WATCHED = ["/bin/sh", "-c", 'export WATCHDOG_PID=$$; exec "$@"', "sh"]
KINDS = ["coordinator", "node", "proxy"]


@pytest.fixture(scope="module")
def server() -> Iterator[Cluster]:
    """A server of this module's own, for it is stopped."""
    running = create_cluster(free_port())
    with running.connect() as connection:
        connection.execute("CREATE ROLE federated_daemon NOLOGIN")
        connection.execute("CREATE ROLE heliosdb_daemon LOGIN IN ROLE federated_daemon")
        connection.execute("CREATE ROLE heliosdb_reader LOGIN")
    yield running
    remove_cluster(running)


@dataclass
class Site:
    """The three daemons' settings, over one server."""

    directory: Path
    server: Cluster

    def write(self, kind: str, **changes: object) -> Path:
        """The settings file of a daemon."""
        ensure_identity(ensure_authority(self.directory / "ca"), self.directory, kind)
        config = self.directory / f"{kind}.toml"
        settings = self._settings(kind) | changes
        config.write_text("".join(f"{name} = {_toml(value)}\n" for name, value in settings.items()))
        return config

    def _settings(self, kind: str) -> dict[str, object]:
        upstream = {"host": "127.0.0.1", "port": self.server.port}
        if kind == "proxy":
            return {"listen_port": free_port(), "default_upstream": upstream}
        common: dict[str, object] = {
            "database": self.server.dsn(user="heliosdb_daemon"),
            "certificate": str(self.directory / f"{kind}.pem"),
            "private_key": str(self.directory / f"{kind}.key"),
            "state_directory": str(self.directory / f"{kind}-state"),
            "health_socket": str(self.directory / f"{kind}.health"),
        }
        if kind == "coordinator":
            return common
        ensure_identity(ensure_authority(self.directory / "ca"), self.directory, "coordinator")
        return common | {
            "reader": self.server.dsn(user="heliosdb_reader"),
            "listen_host": "0.0.0.0",
            "listen_port": free_port(),
            "coordinator_certificate": str(self.directory / "coordinator.pem"),
        }

    @contextlib.contextmanager
    def running(self, kind: str) -> Iterator[Running]:
        """A daemon as a service manager runs it, from its readiness to its end."""
        config = self.directory / f"{kind}.toml"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(str(self.directory / f"{kind}.notify"))
            manager.settimeout(DEADLINE)
            log = (self.directory / f"{kind}.log").open("wb")
            process = subprocess.Popen(
                [*AS_WATCHED, *COMMAND, kind, "--config", str(config)],
                stdout=log,
                stderr=log,
                env={
                    **os.environ,
                    "NOTIFY_SOCKET": str(self.directory / f"{kind}.notify"),
                    "WATCHDOG_USEC": "200000",
                },
            )
            try:
                running = Running(process, manager)
                running.hear("READY=1")
                yield running
            finally:
                process.send_signal(signal.SIGCONT)
                process.terminate()
                process.wait(DEADLINE)
                log.close()


@dataclass
class Running:
    """A daemon, and what its service manager hears."""

    process: subprocess.Popen[bytes]
    manager: socket.socket

    def hear(self, word: str) -> None:
        """Wait until the daemon says this."""
        while word not in self.manager.recv(4096).decode().splitlines():
            pass

    def hear_number(self, name: str) -> int:
        """Wait until the daemon names a number."""
        while True:
            said = dict(line.split("=", 1) for line in self.manager.recv(4096).decode().splitlines())
            if name in said:
                return int(said[name])


def _toml(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name} = {_toml(each)}" for name, each in value.items()) + "}"
    return str(value) if isinstance(value, int) else f'"{value}"'


@pytest.fixture
def site(server: Cluster, tmp_path: Path) -> Site:
    return Site(tmp_path, server)


def health(kind: str, config: Path, timeout: float = 60.0) -> tuple[int, str]:
    """The exit status, and the one line."""
    ended = subprocess.run(
        [*COMMAND, "health", kind, "--config", str(config), "--timeout", str(timeout)],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert ended.stderr == ""
    [line] = ended.stdout.splitlines()
    assert line.startswith(f"{kind}: ")
    return ended.returncode, line


def eventually(condition: Callable[[], bool]) -> None:
    for _ in range(100):
        if condition():
            return
    raise AssertionError("the condition did not come true")


@pytest.mark.parametrize("kind", KINDS)
def test_a_daemon_that_serves_is_well_and_feeds_its_watchdog_until_it_stops(site: Site, kind: str) -> None:
    config = site.write(kind)
    with site.running(kind) as daemon:
        assert health(kind, config)[0] == 0
        daemon.hear("WATCHDOG=1")
        daemon.hear("WATCHDOG=1")
        daemon.process.terminate()
        daemon.hear("STOPPING=1")
        assert daemon.process.wait(DEADLINE) == 0
    status, line = health(kind, config)
    assert status == 1
    assert "No such file" in line or "refused" in line


@pytest.mark.parametrize("kind", KINDS)
def test_a_daemon_that_stands_still_is_not_well(site: Site, kind: str) -> None:
    config = site.write(kind)
    with site.running(kind) as daemon:
        daemon.process.send_signal(signal.SIGSTOP)
        status, line = health(kind, config, timeout=0.5)
    assert status == 1
    assert line.endswith("no answer within 0.5 s")


@pytest.mark.parametrize("kind", KINDS)
def test_a_daemon_without_its_database_is_not_well_until_it_is_back(site: Site, kind: str) -> None:
    config = site.write(kind)
    with site.running(kind):
        site.server.stop()
        try:
            eventually(lambda: health(kind, config)[0] == 1)
        finally:
            site.server.start()
        eventually(lambda: health(kind, config)[0] == 0)


def test_the_line_says_what_was_asked(site: Site) -> None:
    port = site.server.port
    said = {}
    for kind in KINDS:
        config = site.write(kind)
        with site.running(kind):
            said[kind] = health(kind, config)[1]
    assert said["coordinator"] == (
        "coordinator: waiting for CREATE EXTENSION heliosdb_federated_learning; its database answers"
    )
    node_port = said["node"].split("port ")[1].split(" ")[0]
    assert said["node"] == (
        f"node: waiting for CREATE EXTENSION heliosdb_federated_learning; port {node_port} answers; "
        "its database answers; "
        "its database, as the reader answers"
    )
    assert said["proxy"].endswith(f"answers; server 127.0.0.1:{port} answers")


def test_a_node_whose_reader_cannot_log_in_is_not_well(site: Site) -> None:
    config = site.write("node", reader=site.server.dsn(user="nobody_at_all"))
    with site.running("node"):
        status, line = health("node", config)
    assert status == 1
    assert 'role "nobody_at_all" does not exist' in line


@pytest.mark.parametrize(
    "conninfo", ["host=/nowhere user=u password=s3cret", "user=u password='s3cret", "passwort=s3cret"]
)
def test_no_secret_of_the_settings_is_shown(site: Site, conninfo: str) -> None:
    config = site.write("coordinator")
    with site.running("coordinator"):
        site.write("coordinator", database=conninfo)
        status, line = health("coordinator", config)
    assert status == 1
    assert "s3cret" not in line


@pytest.mark.parametrize("kind", KINDS)
def test_settings_that_cannot_be_read_are_one_line_too(tmp_path: Path, kind: str) -> None:
    assert health(kind, tmp_path / "absent.toml")[0] == 1
    (tmp_path / "wrong.toml").write_text("wrong = 'word'\n")
    status, line = health(kind, tmp_path / "wrong.toml")
    assert status == 1
    assert "word" not in line


def test_a_daemon_that_was_given_no_health_socket_says_which_setting_is_missing(site: Site) -> None:
    config = site.write("coordinator")
    kept = [line for line in config.read_text().splitlines() if "health_socket" not in line]
    config.write_text("\n".join(kept))
    assert 'the setting "health_socket" is missing' in health("coordinator", config)[1]


def test_a_server_that_takes_connections_and_is_silent_ends_the_waiting(site: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        upstream = {"host": "127.0.0.1", "port": silent.getsockname()[1]}
        config = site.write("proxy", default_upstream=upstream)
        with site.running("proxy"):
            status, line = health("proxy", config, timeout=0.5)
    assert status == 1
    assert line == f"proxy: server 127.0.0.1:{upstream['port']}: no answer within 0.5 s"


def test_a_server_that_is_starting_up_is_not_there_yet(site: Site) -> None:
    fields = b"SFATAL\0VFATAL\0C57P03\0Mthe database system is starting up\0\0"
    with socket.create_server(("127.0.0.1", 0)) as starting:

        def refuse() -> None:
            client, _ = starting.accept()
            with client:
                client.recv(4096)
                client.sendall(b"E" + (len(fields) + 4).to_bytes(4, "big") + fields)

        answering = threading.Thread(target=refuse)
        answering.start()
        config = site.write(
            "proxy", default_upstream={"host": "127.0.0.1", "port": starting.getsockname()[1]}
        )
        with site.running("proxy"):
            status, line = health("proxy", config)
        answering.join()
    assert status == 1
    assert line.endswith("the database system is starting up")


def test_asking_leaves_nothing_in_the_logs(site: Site) -> None:
    before = (site.server.directory / "log").read_bytes()
    for kind in KINDS:
        check_that_asking_leaves_nothing(site, kind)
    assert (site.server.directory / "log").read_bytes() == before


def check_that_asking_leaves_nothing(site: Site, kind: str) -> None:
    """What the daemon itself has to say at its start comes first."""
    config, log = site.write(kind), site.directory / f"{kind}.log"
    said = b"" if kind == "proxy" else b"CREATE EXTENSION"
    with site.running(kind):
        eventually(lambda: health(kind, config)[0] == 0 and said in log.read_bytes())
        quiet = log.read_bytes()
        assert health(kind, config)[0] == 0
        assert log.read_bytes() == quiet


def test_the_process_that_takes_over_feeds_the_watchdog_that_watched_the_one_before(site: Site) -> None:
    site.write("proxy")
    with site.running("proxy") as proxy:
        proxy.process.send_signal(signal.SIGUSR2)
        successor = proxy.hear_number("MAINPID")
        try:
            assert proxy.process.wait(DEADLINE) == 0
            # More than wait in the socket from the time before.
            for _ in range(int(Path("/proc/sys/net/unix/max_dgram_qlen").read_text()) + 2):
                proxy.hear("WATCHDOG=1")
        finally:
            os.kill(successor, signal.SIGTERM)
            proxy.hear("STOPPING=1")
