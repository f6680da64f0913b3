"""docs/operations.md, run as it stands: two clusters, roles, certificates and settings of the page, to a prediction.

What is put in the place of the page's words: directories, ports, host names and the daemons' system user, nothing else.
"""

from __future__ import annotations

import json
import os
import pwd
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from heliosdb.cli.health import examine
from heliosdb.transport.identity import Identity, pinned_bundle
from tests.support.cluster import Cluster, bin_directory, create_cluster, remove_cluster
from tests.support.places import scratch
from tests.support.ports import free_port
from tests.support.programs import run_program

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
DEADLINE = 120.0
DAEMONS = {"coordinator": "coordinator", "proxy": "coordinator", "api": "coordinator", "node": "participant"}


def block(label: str) -> str:
    """The page's only block of a label, as `toml node`."""
    [text] = re.findall(rf"^```{label}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    return str(text)


@dataclass
class Site:
    """The two machines of the page in one directory."""

    directory: Path
    clusters: dict[str, Cluster]
    ports: dict[str, int] = field(
        default_factory=lambda: {name: free_port() for name in ("6432", "8443", "8480")}
    )
    user: str = field(default_factory=lambda: pwd.getpwuid(os.geteuid()).pw_name)

    def place(self, text: str, machine: str) -> str:
        """The page's words with the directories, ports, names and the user that are here."""
        cluster = self.clusters[machine]
        words = {
            "/etc/heliosdb": str(self.directory / "etc"),
            "/root/authority": str(self.directory / "authority"),
            "/var/lib/heliosdb": str(self.directory / "lib"),
            "/run/heliosdb": str(self.directory / "run"),
            "/var/run/postgresql": f"{cluster.directory} port={cluster.port}",
            "coordinator.example.org": "localhost",
            "north.example.org": "localhost",
            "-o heliosdb ": f"-o {self.user} ",
            "heliosdb  heliosdb     ": f"heliosdb  {self.user}     ",
            "5432": str(cluster.port),
        } | {name: str(port) for name, port in self.ports.items()}
        return re.sub("|".join(map(re.escape, words)), lambda found: words[found[0]], text)

    def shell(self, label: str, machine: str) -> str:
        """Run a block of the page; returns what it prints."""
        paths = (str(Path(sys.executable).parent), str(bin_directory()), os.environ["PATH"])
        done = subprocess.run(
            ["bash", "-eu", "-c", self.place(block(label), machine)],
            cwd=self.directory, env={**os.environ, "PATH": ":".join(paths)},
            capture_output=True, text=True, check=False, timeout=DEADLINE * 3,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def command(self, kind: str) -> list[str]:
        """What the daemon's unit runs."""
        unit = (ROOT / f"packaging/heliosdb-{kind}.service").read_text()
        [line] = re.findall(r"^ExecStart=/usr/bin/heliosdb (.*)$", unit, re.MULTILINE)
        return [sys.executable, "-m", "heliosdb.cli.main", *shlex.split(self.place(line, DAEMONS[kind]))]

    def log(self, kind: str) -> Path:
        """Where a daemon's words are."""
        return self.directory / f"{kind}.log"


def prepare(site: Site) -> None:
    """What the page does up to the daemons' start."""
    for name in ("etc", "lib-coordinator", "lib-node", "run-coordinator", "run-node", "run-api"):
        (site.directory / name).mkdir(mode=0o700)
    for machine, cluster in site.clusters.items():
        data = cluster.directory / "data"
        for file in ("pg_hba", "pg_ident") if machine == "coordinator" else ("pg_hba",):
            path = data / f"{file}.conf"
            path.write_text(site.place(block(f"conf {file} {machine}"), machine) + path.read_text())
        script = site.directory / f"{machine}.sql"
        script.write_text(block(f"sql {machine}"))
        run_program("psql", "-X", "-q", "--set", "ON_ERROR_STOP=1", "-f", str(script), "-d", cluster.dsn())
        cluster.control("reload")
        site.shell(f"sh certificates {machine}", machine)
    for kind, machine in DAEMONS.items():
        (site.directory / f"etc/{kind}.toml").write_text(site.place(block(f"toml {kind}"), machine))
    passwords = site.directory / "etc/pgpass"
    passwords.write_text(site.place(block("conf pgpass participant"), "participant"))
    passwords.chmod(0o600)


@contextmanager
def running(site: Site, kind: str) -> Iterator[subprocess.Popen[bytes]]:
    """A daemon as its unit runs it."""
    with site.log(kind).open("wb") as log:
        process = subprocess.Popen(site.command(kind), stderr=log, stdout=log)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(DEADLINE)


def wait_until_well(site: Site, kind: str, process: subprocess.Popen[bytes]) -> None:
    """Ask as `heliosdb health` does until it is."""
    end = time.monotonic() + DEADLINE
    while not examine(kind, site.directory / f"etc/{kind}.toml", DEADLINE)[0]:
        assert process.poll() is None, site.log(kind).read_text()
        assert time.monotonic() < end, site.log(kind).read_text()
        time.sleep(0.05)


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hfl-", dir=scratch())))
        clusters = {}
        for machine in ("coordinator", "participant"):
            clusters[machine] = create_cluster(free_port())
            stack.callback(remove_cluster, clusters[machine])
        made = Site(directory, clusters)
        prepare(made)
        processes = {kind: stack.enter_context(running(made, kind)) for kind in DAEMONS}
        for kind, process in processes.items():
            wait_until_well(made, kind, process)
        yield made


def test_the_page_leads_to_a_prediction_that_every_door_gives(site: Site) -> None:
    (site.directory / "ca.pem").write_bytes((site.directory / "etc/ca.pem").read_bytes())
    said = site.shell("sh ann", "coordinator").splitlines()
    [by_http] = json.loads(said[-1])["predictions"]
    by_sql = float(said[-4].strip())
    assert 0.5 < by_sql < 1
    assert by_http["value"] == by_sql
    with site.clusters["coordinator"].connect("federation") as connection:
        row = connection.execute("SELECT status::text FROM federated.run").fetchone()
    assert row in [("completed",), ("converged",)]


def test_nobody_comes_through_the_proxy_as_a_daemon(site: Site) -> None:
    asked = f"host=localhost port={site.ports['6432']} dbname=federation user=heliosdb_daemon sslmode=require"
    done = subprocess.run(
        [str(bin_directory() / "psql"), "-X", "-w", "-d", asked, "-c", "SELECT"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "pg_hba.conf rejects connection" in done.stderr


def test_what_openssl_issues_by_an_authority_is_an_identity_too(site: Site) -> None:
    place = site.directory / "house"
    place.mkdir()
    subprocess.run(
        ["bash", "-eu", "-c", block("sh certificates authority")], cwd=place, check=True, capture_output=True
    )
    assert Identity.load(place / "south.pem", place / "south.key")
    assert pinned_bundle([(place / "south.pem").read_bytes()])
    checked = [
        "openssl",
        "verify",
        "-CAfile",
        "ca.pem",
        "-purpose",
        "sslserver",
        "-verify_hostname",
        "south.example.org",
    ]
    subprocess.run([*checked, "south.pem"], cwd=place, check=True, capture_output=True)


@pytest.mark.parametrize("kind", DAEMONS)
def test_the_settings_of_the_page_are_those_that_are_packaged(kind: str) -> None:
    assert block(f"toml {kind}") == (ROOT / f"packaging/settings/{kind}.toml").read_text()


@pytest.mark.parametrize("machine", ["coordinator", "participant"])
def test_the_units_that_the_page_enables_are_those_of_the_machines_daemons(machine: str) -> None:
    named = re.findall(r"heliosdb-(\w+)", block(f"sh units {machine}"))
    assert named == [kind for kind, where in DAEMONS.items() if where == machine]
