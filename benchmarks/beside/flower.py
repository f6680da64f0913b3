"""Flower: a SuperLink and as many SuperNodes, each a process, over HTTP without TLS; `flower_app` is what they run.

Without TLS is to its favour, and so is that no run installs what its app depends on: the environment has it. A
SuperNode asks for messages every 3 s, starts a process for each one it has, and looks for the answer every half second;
the server's part looks for answers every 3 s: in 1.42 none of these has an option (`--isolation process` starts the same
process from elsewhere). What has one is how often a SuperNode's executor looks for something to start. Its simulation
has no network, needs ray, and is left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from benchmarks.beside.processes import Processes, environment
from benchmarks.beside.work import Heard, Work
from tests.support.ports import free_port

PACKAGE, VERSION = "flwr", "1.42.0"
SETTINGS: Mapping[str, Mapping[str, str]] = {
    "as it comes": {},
    "tasks looked for every 0.1 s": {"FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.1"},
}
_APP = Path(__file__).parent / "flower_app"
_ROUND = re.compile(r"^(\d+\.\d+) \[ROUND \d+/\d+\]$", re.MULTILINE)


def install() -> Path:
    """Return where its programs are; Unavailable where it cannot be installed."""
    return environment(PACKAGE, VERSION)


def run(programs: Path, setting: str, work: Work, directory: Path) -> Heard:
    """Start all of it, train, end all of it. RuntimeError says what failed."""
    home, port = directory / "home", free_port()
    home.mkdir()
    (home / "config.toml").write_text(
        f'[superlink]\ndefault = "bench"\n\n[superlink.bench]\naddress = "127.0.0.1:{port}"\ninsecure = true\n'
    )
    settings = {
        "FLWR_HOME": str(home),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        **SETTINGS[setting],
    }
    log, result = directory / "rounds.log", directory / "result.npy"
    config = {
        "nodes": work.nodes,
        "rounds": work.rounds,
        "parameters": work.parameters,
        "learning-rate": work.learning_rate,
        "log": f'"{log}"',
        "result": f'"{result}"',
    }
    given = " ".join(f"{name}={value}" for name, value in config.items())
    with Processes(programs, directory, settings) as processes:
        installs = "--disable-runtime-dependency-installation"
        processes.start("superlink", ["flower-superlink", "--insecure", "--port", str(port), installs])
        processes.listening(port)
        for number in range(work.nodes):
            rows = f'rows="{work.rows / f"node-{number}.npz"}"'
            processes.start(
                f"supernode-{number}",
                ["flower-supernode", "--insecure", "--superlink", f"127.0.0.1:{port}", "--port", str(free_port()),
                 "--node-config", rows],
            )  # fmt: skip
        said = processes.finish("run", ["flwr", "run", str(_APP), "bench", "--stream", "--run-config", given])
    if not result.exists():
        raise RuntimeError(f"the run left no model: {said[-2000:]}")
    return Heard(read_starts(log.read_text()), np.load(result))


def read_starts(log: str) -> tuple[float, ...]:
    """Return when the rounds began, in seconds, by the log that the server's part writes with times before lines."""
    return tuple(float(found) for found in _ROUND.findall(log))
