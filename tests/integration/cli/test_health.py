"""`heliosdb health` and the service manager's watchdog, on real daemons and a real server."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from heliosdb.cli.embedded.pki import ensure_authority, ensure_identity
from heliosdb.cli.health import examine
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


@dataclass
class Served:
    """A daemon that several tests ask, one after the other."""

    kind: str
    site: Site
    config: Path
    daemon: Running


@pytest.fixture(scope="module", params=KINDS)
def served(
    request: pytest.FixtureRequest, server: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """Of each kind one."""
    site = Site(tmp_path_factory.mktemp(request.param), server)
    config = site.write(request.param)
    with site.running(request.param) as daemon:
        yield Served(request.param, site, config, daemon)


def health(kind: str, config: Path) -> tuple[int, str]:
    """What the command says: the exit status, and the one line."""
    ended = subprocess.run(
        [*COMMAND, "health", kind, "--config", str(config), "--timeout", "60"],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert ended.stderr == ""
    [line] = ended.stdout.splitlines()
    assert line.startswith(f"{kind}: ")
    return ended.returncode, line


def is_well(kind: str, config: Path) -> bool:
    """What the command finds out, without a process for it."""
    well, line = examine(kind, config, 60.0)
    assert line.startswith(f"{kind}: ")
    return well


def eventually(condition: Callable[[], bool]) -> None:
    """Ask until it is so: with each answer the daemon had time for the next try."""
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, "the condition did not come true"
        time.sleep(0.02)


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


def test_asking_leaves_nothing_in_the_logs(served: Served) -> None:
    log = served.site.directory / f"{served.kind}.log"
    # What the daemon itself has to say at its start comes first.
    said = b"" if served.kind == "proxy" else b"CREATE EXTENSION"
    eventually(lambda: is_well(served.kind, served.config) and said in log.read_bytes())
    quiet, servers = log.read_bytes(), served.site.server.directory / "log"
    before = servers.read_bytes()
    assert is_well(served.kind, served.config)
    assert log.read_bytes() == quiet
    assert servers.read_bytes() == before


def test_the_line_says_what_was_asked(served: Served) -> None:
    _, said = examine(served.kind, served.config, 60.0)
    waits = "waiting for CREATE EXTENSION heliosdb_federated_learning"
    match served.kind:
        case "coordinator":
            assert said == f"coordinator: {waits}; its database answers"
        case "node":
            port = said.split("port ")[1].split(" ")[0]
            assert said == (
                f"node: {waits}; port {port} answers; its database answers; "
                "its database, as the reader answers"
            )
        case _:
            assert said.endswith(f"answers; server 127.0.0.1:{served.site.server.port} answers")


def test_a_daemon_that_stands_still_is_not_well(served: Served) -> None:
    served.daemon.process.send_signal(signal.SIGSTOP)
    try:
        well, line = examine(served.kind, served.config, 0.5)
        assert not well
        assert line.endswith("no answer within 0.5 s")
    finally:
        served.daemon.process.send_signal(signal.SIGCONT)
    eventually(lambda: is_well(served.kind, served.config))


def test_a_daemon_without_its_database_is_not_well_until_it_is_back(served: Served) -> None:
    served.site.server.stop()
    try:
        eventually(lambda: not is_well(served.kind, served.config))
    finally:
        served.site.server.start()
    eventually(lambda: is_well(served.kind, served.config))


def test_a_node_whose_reader_cannot_log_in_is_not_well(site: Site) -> None:
    config = site.write("node", reader=site.server.dsn(user="nobody_at_all"))
    with site.running("node"):
        well, line = examine("node", config, 60.0)
    assert not well
    assert 'role "nobody_at_all" does not exist' in line


def test_no_secret_of_the_settings_is_shown(site: Site) -> None:
    config = site.write("coordinator")
    with site.running("coordinator"):
        for conninfo in (
            "host=/nowhere user=u password=s3cret",
            "user=u password='s3cret",
            "passwort=s3cret",
        ):
            site.write("coordinator", database=conninfo)
            well, line = examine("coordinator", config, 60.0)
            assert not well
            assert "s3cret" not in line


@pytest.mark.parametrize("kind", KINDS)
def test_settings_that_cannot_be_read_are_one_line_too(tmp_path: Path, kind: str) -> None:
    assert not is_well(kind, tmp_path / "absent.toml")
    (tmp_path / "wrong.toml").write_text("wrong = 'word'\n")
    well, line = examine(kind, tmp_path / "wrong.toml", 60.0)
    assert not well
    assert "word" not in line


def test_a_daemon_that_was_given_no_health_socket_says_which_setting_is_missing(site: Site) -> None:
    config = site.write("coordinator")
    kept = [line for line in config.read_text().splitlines() if "health_socket" not in line]
    config.write_text("\n".join(kept))
    assert 'the setting "health_socket" is missing' in examine("coordinator", config, 60.0)[1]


def test_a_server_that_takes_connections_and_is_silent_ends_the_waiting(site: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        upstream = {"host": "127.0.0.1", "port": silent.getsockname()[1]}
        config = site.write("proxy", default_upstream=upstream)
        with site.running("proxy"):
            well, line = examine("proxy", config, 0.5)
    assert not well
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
            well, line = examine("proxy", config, 60.0)
        answering.join()
    assert not well
    assert line.endswith("the database system is starting up")


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
