"""NVFlare: a provisioned server and as many clients, each a process that starts another for the job, over mutual TLS;
`nvflare_app` is what they run.

As it comes, the recipe of federated averaging for NumPy runs a training script by the Client API. What the script and
the executor around it wait for they look for every half second, the server's part looks for results as often, and a
client asks for its next task 2 s after the last. Tuned, the node is an Executor, the two intervals that remain have the
best value found, and the scheme of the links is tcp, which was quicker than http, as it comes, and grpc. The server
looks every 0.2 s whether a task is done, whatever `task_check_period` says.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import numpy as np

from benchmarks.beside.processes import Processes, environment
from benchmarks.beside.work import Heard, Work
from tests.support.ports import free_port

PACKAGE, VERSION = "nvflare", "2.9.0"


@dataclass(frozen=True, slots=True)
class Setting:
    """interval: seconds between two looks of an Executor and of the server; None: the recipe. static: arguments of the
    builder of what is provisioned."""

    interval: float | None = None
    static: Mapping[str, str] = field(default_factory=dict)


SETTINGS: Mapping[str, Setting] = {
    "as it comes": Setting(),
    "an executor, 0.05 s, tcp": Setting(0.05, {"scheme": "tcp"}),
}
_APP = Path(__file__).parent / "nvflare_app"
_ADMINISTRATOR = "admin@example.com"


def install() -> Path:
    """Return where its programs are; Unavailable where it cannot be installed."""
    return environment(PACKAGE, VERSION)


def run(programs: Path, setting: str, work: Work, directory: Path) -> Heard:
    """Start all of it, train, end all of it. RuntimeError says what failed."""
    names = [f"node-{number}" for number in range(work.nodes)]
    project = directory / "project.yml"
    project.write_text(json.dumps(_project(names, free_port(), SETTINGS[setting].static)))
    with Processes(programs, directory, {"HOME": str(directory)}) as processes:
        processes.finish(
            "provision", ["nvflare", "provision", "-p", str(project), "-w", str(directory / "kits")]
        )
        kits = directory / "kits" / "bench" / "prod_00"
        for name in ("localhost", *names):
            processes.start(name, ["bash", str(kits / name / "startup" / "sub_start.sh"), "--once"])
        command = [
            "python", "job.py", "--kit", str(kits / _ADMINISTRATOR), "--nodes", str(work.nodes),
            "--rounds", str(work.rounds), "--parameters", str(work.parameters),
            "--learning-rate", str(work.learning_rate), "--directory", str(work.rows),
        ]  # fmt: skip
        if SETTINGS[setting].interval is not None:
            command += ["--interval", str(SETTINGS[setting].interval)]
        said = json.loads(processes.finish("job", command, _APP).splitlines()[-1])
    left = Path(said["left"]) / "workspace"
    if not (left / "models" / "server.npy").exists():
        raise RuntimeError(f"the job left no model: {said}")
    return Heard(read_starts((left / "log.json").read_text()), np.load(left / "models" / "server.npy"))


def _project(names: Sequence[str], port: int, static: Mapping[str, str]) -> dict[str, object]:
    builders: Mapping[str, Mapping[str, object]] = {
        "workspace.WorkspaceBuilder": {"template_file": ["master_template.yml"]},
        "static_file.StaticFileBuilder": {"config_folder": "config", **static},
        "cert.CertBuilder": {},
        "signature.SignatureBuilder": {},
    }
    return {
        "api_version": 3,
        "name": "bench",
        "description": "bench",
        "participants": [
            {"name": "localhost", "type": "server", "org": "bench", "fed_learn_port": port},
            *({"name": name, "type": "client", "org": "bench"} for name in names),
            {"name": _ADMINISTRATOR, "type": "admin", "org": "bench", "role": "project_admin"},
        ],
        "builders": [
            {"path": f"nvflare.lighter.impl.{name}", "args": given} for name, given in builders.items()
        ],
    }


def read_starts(log: str) -> tuple[float, ...]:
    """Return when the rounds began, in seconds, by the job's log at the server, a JSON object a line."""
    starts = []
    for line in log.splitlines():
        entry = json.loads(line)
        words = entry["message"].strip("-\n ").split()
        if entry["name"] == "FedAvg" and len(words) == 3 and (words[0], words[2]) == ("Round", "started."):
            moment = datetime.strptime(entry["asctime"] + "+0000", "%Y-%m-%d %H:%M:%S,%f%z")
            starts.append(moment.timestamp())
    return tuple(starts)
