"""Telling a process of ours from a stranger that got its number later, and ending it with its children.

What always holds: nothing is signalled unless number and moment of start both fit what was recorded.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from heliosdb.cli.embedded.files import write_atomically


@dataclass(frozen=True, slots=True)
class ProcessMark:
    """A process for good: its number and when it started, in the system's own words."""

    pid: int
    started: str


def mark_of(pid: int) -> ProcessMark | None:
    """The mark of the process that has the number `pid` now; None for no process or a dead, unreaped one."""
    if not Path("/proc/self/stat").exists():
        return _mark_from_ps(pid)
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The second field is the command in brackets and may hold anything; what follows is fixed.
    fields = text.rpartition(")")[2].split()
    if fields[0] in {"Z", "X"}:
        return None
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return ProcessMark(pid, f"{boot} {fields[19]}")


def _mark_from_ps(pid: int) -> ProcessMark | None:
    answer = subprocess.run(
        ["/bin/ps", "-o", "state=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    state, _, started = answer.stdout.strip().partition(" ")
    return None if not state or state.startswith("Z") else ProcessMark(pid, started.strip())


def is_alive(mark: ProcessMark) -> bool:
    """Whether that very process still runs."""
    return mark_of(mark.pid) == mark


def end_group(mark: ProcessMark, grace: float = 10.0) -> None:
    """End the process group that `mark` leads: SIGTERM, and SIGKILL after `grace` seconds."""
    if not is_alive(mark):
        return
    for number, patience in ((signal.SIGTERM, grace), (signal.SIGKILL, 5.0)):
        if not is_alive(mark):
            break
        with contextlib.suppress(ProcessLookupError):
            os.killpg(mark.pid, number)
        deadline = time.monotonic() + patience
        while is_alive(mark) and time.monotonic() < deadline:
            time.sleep(0.02)
    end_rest_of_group(mark.pid)


def end_rest_of_group(pid: int) -> None:
    """Kill what a leader that has just ended left of its group, whose number stays taken that long."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def read_marks(path: Path) -> dict[str, ProcessMark]:
    """The processes recorded at `path` by name; none where the file is absent or not whole."""
    try:
        document = json.loads(path.read_bytes())
        return {
            str(name): ProcessMark(int(entry["pid"]), str(entry["started"]))
            for name, entry in document.items()
        }
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def write_marks(path: Path, marks: dict[str, ProcessMark]) -> None:
    """Record `marks` at `path`."""
    document = {name: {"pid": mark.pid, "started": mark.started} for name, mark in marks.items()}
    write_atomically(path, (json.dumps(document) + "\n").encode())
