"""Environments of the peers, and their processes, which end with the benchmark."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType

from benchmarks.beside.work import Unavailable

ENVIRONMENTS = Path(__file__).resolve().parent.parent.parent / "build" / "peers"
DEADLINE = 1_800.0
"""Of a peer's run; only a hang reaches it."""
_GRACE = 10.0
_MARK = "HELIOSDB_BENCH_PEER"


def environment(package: str, version: str) -> Path:
    """Return the programs' directory of an environment with that package, made where it is missing.

    Unavailable says why it cannot be made.
    """
    directory = ENVIRONMENTS / package
    programs = directory / "bin"
    if _installed(programs, package) != version:
        print(f"installing {package} {version} into {directory}", flush=True)
        for command in (
            [sys.executable, "-m", "venv", "--clear", str(directory)],
            [str(programs / "pip"), "install", "--quiet", f"{package}=={version}"],
        ):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise Unavailable(
                    f"{package} {version} could not be installed: {_last_line(done.stderr or done.stdout)}"
                )
    return programs


def _installed(programs: Path, package: str) -> str:
    asked = f"import importlib.metadata; print(importlib.metadata.version({package!r}))"
    try:
        done = subprocess.run(
            [str(programs / "python"), "-c", asked], capture_output=True, text=True, check=False
        )
    except OSError:
        return ""
    return done.stdout.strip()


def _last_line(text: str) -> str:
    return (text.strip() or "no reason was given").splitlines()[-1]


class Processes:
    """Processes of one peer, and all that these start, however they do it: what has the mark in its environment.

    programs: goes before PATH. log: where each one's output goes, a file a name.
    """

    def __init__(self, programs: Path, log: Path, settings: Mapping[str, str]) -> None:
        self._mark = uuid.uuid4().hex
        self._log = log
        own = {
            name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL"))
        }
        path = f"{programs}{os.pathsep}{os.environ['PATH']}"
        self._environment = {**own, **settings, "PATH": path, _MARK: self._mark}
        self._started: list[tuple[str, subprocess.Popen[bytes]]] = []

    def __enter__(self) -> Processes:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        end = time.monotonic() + _GRACE
        self._signal(signal.SIGTERM)
        while time.monotonic() < end and any(self._marked()):
            self._reap()
            time.sleep(0.1)
        while any(self._marked()):
            self._signal(signal.SIGKILL)
            self._reap()
            time.sleep(0.1)
        self._reap()

    def start(self, name: str, command: Sequence[str], folder: Path | None = None) -> subprocess.Popen[bytes]:
        """Start one in a session of its own, so that what interrupts the benchmark reaches it only from here."""
        with self._path(name).open("wb") as log:
            process = subprocess.Popen(
                list(command), cwd=folder or self._log, env=self._environment, stdin=subprocess.DEVNULL,
                stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        self._started.append((name, process))
        return process

    def finish(self, name: str, command: Sequence[str], folder: Path | None = None) -> str:
        """Run one to its end and return its output; RuntimeError with the end of it where it, or before it one that
        should serve, fails."""
        process = self.start(name, command, folder)
        end = time.monotonic() + DEADLINE
        while process.poll() is None:
            self.check(process)
            if time.monotonic() > end:
                raise RuntimeError(f"{name} did not end: {self.output(name)[-2000:]}")
            time.sleep(0.1)
        if process.returncode != 0:
            raise RuntimeError(f"{name} failed: {self.output(name)[-2000:]}")
        self._started = [one for one in self._started if one[1] is not process]
        return self.output(name)

    def listening(self, port: int) -> None:
        """Wait until something listens on a port of this machine."""
        end = time.monotonic() + DEADLINE
        while True:
            self.check()
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            if time.monotonic() > end:
                raise RuntimeError(f"nothing listens on port {port}")
            time.sleep(0.1)

    def check(self, but: subprocess.Popen[bytes] | None = None) -> None:
        """RuntimeError where one has ended that should serve."""
        for name, process in self._started:
            if process is not but and process.poll() is not None:
                raise RuntimeError(f"{name} ended: {self.output(name)[-2000:]}")

    def output(self, name: str) -> str:
        """What one has printed so far."""
        return self._path(name).read_text(errors="replace")

    def _path(self, name: str) -> Path:
        return self._log / f"{name}.log"

    def _reap(self) -> None:
        for _, process in self._started:
            process.poll()

    def _signal(self, number: signal.Signals) -> None:
        for process in self._marked():
            try:
                os.kill(process, number)
            except ProcessLookupError:
                continue

    def _marked(self) -> Iterator[int]:
        wanted = f"{_MARK}={self._mark}".encode()
        for directory in Path("/proc").glob("[0-9]*"):
            try:
                if wanted in (directory / "environ").read_bytes().split(b"\0"):
                    yield int(directory.name)
            except OSError:
                continue
