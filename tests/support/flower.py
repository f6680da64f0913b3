"""A Flower federation on this machine, from an environment of its own: SuperLink, SuperNodes, and our app in it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.support.federation import until
from tests.support.ports import free_port

ROOT = Path(__file__).parents[2]
PROGRAMS = ROOT / "build" / "flower-venv" / "bin"
APP = ROOT / "flower"


@dataclass
class FlowerFederation:
    """Its processes, each with those that it starts, and their logs in `directory`."""

    directory: Path
    port: int = field(default_factory=free_port)
    _groups: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start_link(self) -> None:
        """Start the SuperLink, without TLS: what crosses it is sealed."""
        (self.directory / "home").mkdir()
        connection = f'[superlink]\ndefault = "here"\n[superlink.here]\naddress = "127.0.0.1:{self.port}"\n'
        (self.directory / "home" / "config.toml").write_text(connection + "insecure = true\n")
        own = ("--disable-runtime-dependency-installation", *self._listens(self.port))
        self._start("superlink", "flower-superlink", "--insecure", *own)

    def start_node(self, name: str, socket: Path) -> None:
        """Start a SuperNode beside the node that is at `socket`."""
        at = f'heliosdb-socket="{socket}"'
        link = ("--insecure", "--superlink", f"127.0.0.1:{self.port}", "--node-config", at)
        self._start(name, "flower-supernode", *link, *self._listens(free_port()))

    async def run_app(self, socket: Path) -> None:
        """Have the app run, with the coordinator at `socket`, once the SuperLink listens."""
        await until(lambda: "Uvicorn running" in self.log("superlink"))
        setting = f'coordinator-socket="{socket}"'
        command = [str(PROGRAMS / "flwr"), "run", str(APP), "here", "--run-config", setting]
        done = await asyncio.to_thread(
            subprocess.run, command, env=self._environment(), capture_output=True, text=True, check=False
        )
        assert "Successfully started run" in done.stdout, done.stdout + done.stderr

    def kill(self, name: str) -> None:
        """End a process and all that it has started, as a power cut would."""
        process = self._groups.pop(name)
        # Some of them have sessions of their own.
        started = psutil.Process(process.pid).children(recursive=True)
        os.killpg(process.pid, signal.SIGKILL)
        for one in started:
            with suppress(psutil.NoSuchProcess):
                one.kill()
        process.wait()

    def log(self, name: str) -> str:
        """What it has said so far."""
        return (self.directory / f"{name}.log").read_text()

    def close(self) -> None:
        """End all of it; the SuperLink starts the ServerApp in a session of its own."""
        for name in list(self._groups):
            self.kill(name)
        own = f"FLWR_HOME={self.directory / 'home'}".encode()
        for environment in Path("/proc").glob("[0-9]*/environ"):
            with suppress(OSError):
                if own in environment.read_bytes().split(b"\0"):
                    os.kill(int(environment.parent.name), signal.SIGKILL)

    def _start(self, name: str, program: str, *arguments: str) -> None:
        with (self.directory / f"{name}.log").open("ab") as log:
            self._groups[name] = subprocess.Popen(
                [str(PROGRAMS / program), *arguments],
                env=self._environment(),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _environment(self) -> dict[str, str]:
        path = f"{PROGRAMS}:{os.environ['PATH']}"
        own = {"FLWR_HOME": str(self.directory / "home"), "FLWR_TELEMETRY_ENABLED": "0", "PATH": path}
        return {**os.environ, **own}

    @staticmethod
    def _listens(port: int) -> Sequence[str]:
        return ("--host", "127.0.0.1", "--port", str(port))


@contextmanager
def flower_federation(directory: Path) -> Iterator[FlowerFederation]:
    """A federation that ends its processes."""
    assert (PROGRAMS / "flower-superlink").exists(), "make flower makes the environment and runs these tests"
    federation = FlowerFederation(directory)
    try:
        yield federation
    finally:
        federation.close()
