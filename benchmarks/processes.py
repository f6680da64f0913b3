"""Processes of a benchmark: they end with it, however it ends, and what they use is read from the kernel."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

_ROOT = Path(__file__).resolve().parent.parent
_PATIENCE = 60
"""Seconds that a process has to end by itself."""


@dataclass(frozen=True, slots=True)
class Memory:
    """What a process holds, in 10^6 bytes: resident, and its part of that where pages are shared (PSS)."""

    resident: float
    proportional: float


def end_on_signals() -> None:
    """Have SIGTERM and SIGHUP end the benchmark as Ctrl-C does: with all that it has started."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))


def start(
    module: str, *arguments: str, stdout: int | None = None, stderr: IO[bytes] | None = None
) -> subprocess.Popen[bytes]:
    """Run a module as a process, which the kernel ends where this one is killed."""
    command = ["setpriv", "--pdeathsig", "TERM", sys.executable, "-m", module, *arguments]
    # A node's training process begins elsewhere, and loads the benchmarks' own parts.
    where = os.pathsep.join([str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.Popen(command, stdout=stdout, stderr=stderr, env={**os.environ, "PYTHONPATH": where})


@contextlib.contextmanager
def ended(processes: Sequence[subprocess.Popen[Any]]) -> Iterator[None]:
    """End processes, and wait for their ends, however the block is left."""
    try:
        yield
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            try:
                process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def processor_time(pid: int) -> float:
    """What a process has used so far, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_memory(pid: int) -> float:
    """The highest resident memory of a process's life, in 10^6 bytes."""
    return _kibibytes(Path(f"/proc/{pid}/status"), "VmHWM") * 1024 / 1e6


def memory(pid: int) -> Memory:
    """What a process holds now."""
    rollup = Path(f"/proc/{pid}/smaps_rollup")
    return Memory(_kibibytes(rollup, "Rss") * 1024 / 1e6, _kibibytes(rollup, "Pss") * 1024 / 1e6)


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    found = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for path in found for child in path.read_text().split()]


def _kibibytes(path: Path, name: str) -> int:
    (value,) = [line.split()[1] for line in path.read_text().splitlines() if line.startswith(f"{name}:")]
    return int(value)
