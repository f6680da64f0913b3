"""What a node's two processes hold: idle, after a plain run and after a private one.

Three nodes, each `heliosdb node` as a process of its own, as at a site: the daemon, and its training process, which
begins with the first task. A logistic model of nine features, 200 rows a node, five rounds, without a budget and then
under one. Resident memory and, where pages are shared, the process's part of it (PSS), of the largest of the three.

    make bench NAME=memory
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from benchmarks import processes
from benchmarks.harness import Figure, publish
from benchmarks.round_cases import Case, Measure, Model
from benchmarks.round_federation import (
    Node,
    coordinated,
    database_of,
    make_nodes,
    prepare,
    settings_of,
    train,
)
from heliosdb.node.config import NodeConfig
from tests.support.cluster import create_cluster, remove_cluster
from tests.support.federation import Federation
from tests.support.ports import free_port

NODES = 3
_DEADLINE = 120.0


def main() -> None:
    """Measure."""
    processes.end_on_signals()
    measures = {"after a plain run": Measure.PLAIN, "after a private run": Measure.PRIVATE}
    cases = {said: Case(NODES, Model.logistic(), measure, rounds=5) for said, measure in measures.items()}
    cluster = create_cluster(free_port())
    with ExitStack() as stack:
        stack.callback(remove_cluster, cluster)
        prepare(cluster)
        federation = Federation(Path(stack.enter_context(tempfile.TemporaryDirectory())))
        nodes, daemons = [], list[subprocess.Popen[bytes]]()
        for name, config in make_nodes(cluster, federation, list(cases.values())):
            port = free_port()
            daemons.append(_start(federation, name, config, port))
            nodes.append(Node(name, federation.directory / f"{name}.pem", port, database_of(config)))
        stack.enter_context(processes.ended(daemons))
        for node in nodes:
            _wait_for(federation.directory / f"{node.name}.ready")
        figures = list(_figures(daemons, "idle"))
        for said, case in cases.items():
            with coordinated(cluster, federation, nodes, case, case.workspaces[0]) as there:
                train(there, case)
            figures += _figures(daemons, said)
        publish("memory", figures)


def _start(federation: Federation, name: str, config: NodeConfig, port: int) -> subprocess.Popen[bytes]:
    ready = str(federation.directory / f"{name}.ready")
    settings = settings_of(config) | {"listen_port": port, "ready_file": ready}
    path = federation.directory / f"{name}.toml"
    path.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in settings.items()))
    with (federation.directory / f"{name}.log").open("wb") as log:
        return processes.start("heliosdb.cli.main", "node", "--config", str(path), stderr=log)


def _wait_for(path: Path) -> None:
    """Wait for a file, or raise TimeoutError."""
    until = time.monotonic() + _DEADLINE
    while not path.exists():
        if time.monotonic() > until:
            raise TimeoutError(f"{path.name} is not there")
        time.sleep(0.1)


def _figures(daemons: Sequence[subprocess.Popen[bytes]], said: str) -> Iterator[Figure]:
    groups = {
        "daemon": [daemon.pid for daemon in daemons],
        "training process": [child for daemon in daemons for child in processes.children(daemon.pid)],
    }
    for name, group in groups.items():
        found = [processes.memory(pid) for pid in group]
        if found:
            target = "<= 80" if said == "idle" else ""
            yield Figure(f"{name}, {said}", max(one.resident for one in found), "MB", target)
            yield Figure(f"{name}, {said}, its part", max(one.proportional for one in found), "MB")


if __name__ == "__main__":
    main()
