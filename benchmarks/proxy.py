"""pgbench -S through the proxy, through PgBouncer and direct; the latency added; the cost of a cached rewrite.

The clients come over loopback TCP; PgBouncer (session pooling, so that it does what the proxy does) and the
proxy reach the server over the same Unix socket. Runs are short and interleaved, so that what else the machine
does meets all alike; each figure is the median of its repetitions, a ratio that of runs beside each other. The
CPU time is the process's own; that of a whole transaction is pgbench's and the server's with it, and its inverse
is what the throughput comes to where the processors are busy. What Python and its event loop cost where nothing
is looked at is `forwarder`'s: the least that the proxy could take. The proxy is measured as Python and, where
`make compiled` has made it, compiled.
"""

from __future__ import annotations

import contextlib
import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psycopg

from benchmarks.harness import Figure, publish
from tests.support.cluster import (
    PASSWORD,
    SUPERUSER,
    Cluster,
    as_server_user,
    bin_directory,
    create_cluster,
    remove_cluster,
)
from tests.support.ports import free_port

MODES = ("simple", "extended", "prepared")
CLIENTS = 8
REPETITIONS = 10
SECONDS = 2
LATENCY_REPETITIONS = 5
LATENCY_SECONDS = 3
SCALE = 10
REWRITE_ROUNDS = 15
REWRITE_QUERIES = 400
PREDICTION = "SELECT federated_predict('m', age => %s)"
TYPED = "SELECT federated_model.m(age => %s)"
NO_PGBOUNCER = """there is no pgbouncer here, and the proxy is measured against it. Install it with

    apt-get install -y --no-install-recommends pgbouncer

and stop the service that the package starts (systemctl disable --now pgbouncer): the benchmark starts its own."""

COMPILED = Path(__file__).resolve().parents[1] / "build/compiled"

PROXY = """
import pathlib, sys
from heliosdb.proxy.server import run
run(pathlib.Path(sys.argv[1]), ready=lambda port: print(port, flush=True))
"""
_TPS = re.compile(r"^tps = ([0-9.]+) \(without initial connection time\)", re.MULTILINE)
_TRANSACTIONS = re.compile(r"number of transactions actually processed: ([0-9]+)")


@dataclass(frozen=True, slots=True)
class Door:
    """One way to the server: its TCP port, and the process that keeps it (None: the server itself)."""

    name: str
    port: int
    pid: int | None

    def cpu_seconds(self) -> float:
        """User and system time that the process has used so far."""
        return 0.0 if self.pid is None else _process_seconds(self.pid)


@dataclass(frozen=True, slots=True)
class Run:
    """What one run of pgbench said."""

    tps: float
    cpu_s: float  # of the process between, per transaction
    all_cpu_s: float  # the same with pgbench's and the server's


def main() -> None:
    """Run the benchmark on a cluster of its own."""
    pgbouncer = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if pgbouncer is None:
        sys.exit(NO_PGBOUNCER)
    cluster = create_cluster(free_port())
    busy = Figure("load average at the start", os.getloadavg()[0], "", "< 1 for figures to keep")
    try:
        _fill(cluster)
        with contextlib.ExitStack() as stack:
            doors = (
                Door("direct", cluster.port, None),
                stack.enter_context(start_proxy(cluster)),
                stack.enter_context(_pgbouncer(cluster, pgbouncer)),
            )
            measured = [*doors, stack.enter_context(_forwarder(cluster))]
            if COMPILED.exists():
                measured.append(stack.enter_context(start_proxy(cluster, "compiled proxy", COMPILED)))
            throughput = _throughput(measured, _postmaster(cluster))
            figures = [busy, *throughput, *_latency(doors), *_rewrite(doors[1])]
        publish("proxy", figures)
    finally:
        remove_cluster(cluster)


def _fill(cluster: Cluster) -> None:
    _pgbench(cluster.port, "-i", "-q", "-s", str(SCALE))
    with cluster.connect() as connection:
        connection.execute("VACUUM ANALYZE pgbench_accounts")
        connection.execute("CREATE SCHEMA federated_model")
        connection.execute(
            "CREATE FUNCTION federated_model.m(age float8) RETURNS float8 LANGUAGE sql RETURN age * 2"
        )


@contextlib.contextmanager
def start_proxy(cluster: Cluster, name: str = "proxy", code: Path | None = None) -> Iterator[Door]:
    """Run a proxy of its own before `cluster`, with the code that lies in a directory."""
    environment = os.environ if code is None else {**os.environ, "PYTHONPATH": str(code)}
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as settings:
        settings.write(
            f'listen_port = 0\n[default_upstream]\nhost = "{cluster.directory}"\nport = {cluster.port}\n'
        )
        settings.flush()
        command = [sys.executable, "-c", PROXY, settings.name]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
            assert process.stdout is not None
            try:
                yield Door(name, int(process.stdout.readline()), process.pid)
            finally:
                process.terminate()


@contextlib.contextmanager
def _pgbouncer(cluster: Cluster, program: str) -> Iterator[Door]:
    port = free_port()
    users, settings = cluster.directory / "users.txt", cluster.directory / "pgbouncer.ini"
    users.write_text(f'"{SUPERUSER}" "{PASSWORD}"\n')
    settings.write_text(
        f"[databases]\n* = host={cluster.directory} port={cluster.port}\n[pgbouncer]\n"
        f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = trust\n"
        f"auth_file = {users}\npool_mode = session\nserver_reset_query =\ndefault_pool_size = 50\n"
        "ignore_startup_parameters = extra_float_digits\n"
    )
    command = as_server_user([program, "-q", str(settings)])
    with subprocess.Popen(command, cwd="/", stderr=subprocess.DEVNULL) as process:
        try:
            _await_port(port)
            yield Door("PgBouncer", port, process.pid)
        finally:
            process.terminate()


@contextlib.contextmanager
def _forwarder(cluster: Cluster) -> Iterator[Door]:
    path = cluster.directory / f".s.PGSQL.{cluster.port}"
    command = [sys.executable, "-m", "benchmarks.forwarder", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield Door("a bare forwarder", int(process.stdout.readline()), process.pid)
        finally:
            process.terminate()


def _await_port(port: int) -> None:
    end = time.monotonic() + 10
    while True:
        try:
            connect(port).close()
        except psycopg.OperationalError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)
        else:
            return


def connect(port: int) -> psycopg.Connection:
    """Connect over TCP, in autocommit mode."""
    return psycopg.connect(
        host="127.0.0.1", port=port, user=SUPERUSER, password=PASSWORD, dbname="postgres", autocommit=True
    )


def _pgbench(port: int, *arguments: str) -> str:
    command = [str(bin_directory() / "pgbench"), "-h", "127.0.0.1", "-p", str(port), "-U", SUPERUSER, "-n"]
    environment = {**os.environ, "PGPASSWORD": PASSWORD, "PGSSLMODE": "disable"}
    done = subprocess.run(
        [*command, *arguments, "postgres"], env=environment, check=True, capture_output=True, text=True
    )
    return done.stdout


def _throughput(doors: Sequence[Door], postmaster: int) -> list[Figure]:
    runs: dict[tuple[str, str], list[Run]] = {}
    for _ in range(REPETITIONS):
        for mode in MODES:
            for door in doors:
                runs.setdefault((mode, door.name), []).append(_select(door, mode, postmaster))
    figures = []
    for mode in MODES:
        tps = {door.name: statistics.median(run.tps for run in runs[mode, door.name]) for door in doors}
        figures += [Figure(f"{mode}: {name}", value, "tps") for name, value in tps.items()]
        figures += [
            Figure(f"{mode}: CPU of {name}", statistics.median(r.cpu_s for r in runs[mode, name]) * 1e6, "us")
            for name in tps
            if name != "direct"
        ]
        for name in (name for name in tps if name.endswith("proxy")):
            pairs = list(zip(runs[mode, name], runs[mode, "PgBouncer"], strict=True))
            ratio = statistics.median(ours.tps / theirs.tps for ours, theirs in pairs)
            of_cpu = statistics.median(theirs.all_cpu_s / ours.all_cpu_s for ours, theirs in pairs)
            figures.append(Figure(f"{mode}: {name} / PgBouncer", ratio, "ratio", ">= 0.9"))
            figures.append(Figure(f"{mode}: the same by the CPU of a transaction", of_cpu, "ratio", ">= 0.9"))
    return figures


def _select(door: Door, mode: str, postmaster: int) -> Run:
    before, others = door.cpu_seconds(), _others_seconds(postmaster)
    out = _pgbench(door.port, "-S", "-M", mode, "-c", str(CLIENTS), "-T", str(SECONDS))
    used, others = door.cpu_seconds() - before, _others_seconds(postmaster) - others
    tps, transactions = _TPS.search(out), _TRANSACTIONS.search(out)
    assert tps and transactions, out
    done = int(transactions[1])
    return Run(float(tps[1]), used / done, (used + others) / done)


def _postmaster(cluster: Cluster) -> int:
    with cluster.connect() as connection:
        (place,) = connection.execute("SHOW data_directory").fetchone() or ("",)
    return int(Path(place, "postmaster.pid").read_text().split()[0])


def _others_seconds(postmaster: int) -> float:
    """User and system time of the pgbench runs that have ended, and of the server's processes."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    fields = Path(f"/proc/{postmaster}/stat").read_text().rpartition(")")[2].split()
    ended = (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")
    alive = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
    return usage.ru_utime + usage.ru_stime + ended + sum(map(_process_seconds, alive))


def _process_seconds(pid: int | str) -> float:
    """The time that a process has used so far; 0 for one that is gone."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9
    except (FileNotFoundError, ProcessLookupError):
        return 0.0


def _latency(doors: tuple[Door, ...]) -> list[Figure]:
    """One client, prepared: the latency of each transaction, from pgbench's own log."""
    quantiles: dict[str, list[tuple[float, float]]] = {}
    for _ in range(LATENCY_REPETITIONS):
        for door in doors:
            quantiles.setdefault(door.name, []).append(_latencies(door))
    figures = []
    for index, quantile in enumerate(("p50", "p99")):
        value = {name: statistics.median(q[index] for q in found) for name, found in quantiles.items()}
        figures += [Figure(f"latency {quantile}: {name}", us, "us") for name, us in value.items()]
        figures += [
            Figure(f"latency {quantile}: added by {name}", value[name] - value["direct"], "us")
            for name in ("proxy", "PgBouncer")
        ]
    return figures


def _latencies(door: Door) -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as directory:
        log = ["-l", f"--log-prefix={directory}/log"]
        _pgbench(door.port, "-S", "-M", "prepared", "-c", "1", "-T", str(LATENCY_SECONDS), *log)
        (path,) = Path(directory).iterdir()
        times = [int(line.split()[2]) for line in path.read_text().splitlines()]
    cuts = statistics.quantiles(times, n=100)
    return cuts[49], cuts[98]


def _rewrite(door: Door) -> list[Figure]:
    """A prediction typed in the language against the very query that it becomes."""
    figures = []
    for mode, values, prepare in (
        ("simple", None, False),
        ("extended", [55], False),
        ("prepared", [55], True),
    ):
        argument = "55" if values is None else "%s::float8"
        plain, extra = _extra(door, TYPED % argument, PREDICTION % argument, values, prepare)
        figures += [
            Figure(f"a call in {mode} mode, as the server gets it", plain * 1e6, "us"),
            Figure("the same, rewritten from the cache: extra", extra * 1e6, "us", "<= 30"),
        ]
    return figures


def _extra(
    door: Door, typed: str, prediction: str, values: list[int] | None, prepare: bool
) -> tuple[float, float]:
    """Return the seconds that `typed` takes and how many more `prediction` takes."""
    with connect(door.port) as connection:
        connection.prepare_threshold = None

        def seconds(text: str) -> float:
            began = time.perf_counter()
            for _ in range(REWRITE_QUERIES):
                connection.execute(text, values, prepare=prepare).fetchall()
            return (time.perf_counter() - began) / REWRITE_QUERIES

        for text in (typed, prediction):
            assert connection.execute(text, values, prepare=prepare).fetchall() == [(110.0,)]
        pairs = [(seconds(typed), seconds(prediction)) for _ in range(REWRITE_ROUNDS)]
    return statistics.median(a for a, _ in pairs), statistics.median(b - a for a, b in pairs)


if __name__ == "__main__":
    main()
