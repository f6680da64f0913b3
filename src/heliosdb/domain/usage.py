"""What a piece of work took: time, processor time and memory of the process that did it.

What always holds: a `Usage` is finite and not negative, and within bounds whose sums over many nodes are
finite too; it is for figures that people read, nothing is decided by it.
"""

from __future__ import annotations

import resource
import time
from dataclasses import dataclass
from pathlib import Path

MOST_SECONDS = 1e9
MOST_BYTES = 2.0**60


@dataclass(frozen=True, slots=True)
class Usage:
    """seconds: on the wall's clock. cpu_seconds: user and system, all threads.

    memory_bytes: resident, the most in the life of the process so far.
    """

    seconds: float
    cpu_seconds: float
    memory_bytes: float

    def is_plausible(self) -> bool:
        """Whether every value is a number within the bounds."""
        times = (self.seconds, self.cpu_seconds)
        return all(0.0 <= each <= MOST_SECONDS for each in times) and 0.0 <= self.memory_bytes <= MOST_BYTES


@dataclass(frozen=True, slots=True)
class Moment:
    """This process's clocks at one moment, in seconds; only differences mean anything."""

    wall: float
    cpu: float

    @classmethod
    def now(cls) -> Moment:
        """Read both clocks."""
        return cls(time.perf_counter(), time.process_time())


def measure(start: Moment) -> Usage:
    """Return what this process has used since `start`."""
    end = Moment.now()
    return Usage(end.wall - start.wall, end.cpu - start.cpu, peak_memory())


@dataclass(slots=True)
class Meter:
    """Adds up the stretches of one piece of work that is interrupted."""

    _seconds: float = 0.0
    _cpu_seconds: float = 0.0
    _since: Moment | None = None

    def start(self) -> None:
        """A stretch begins."""
        self._since = Moment.now()

    def pause(self) -> None:
        """A stretch ends."""
        read = self.read()
        self._seconds, self._cpu_seconds, self._since = read.seconds, read.cpu_seconds, None

    def read(self) -> Usage:
        """Return what all stretches together took, one that is open up to now."""
        if self._since is None:
            return Usage(self._seconds, self._cpu_seconds, peak_memory())
        last = measure(self._since)
        return Usage(self._seconds + last.seconds, self._cpu_seconds + last.cpu_seconds, last.memory_bytes)


def peak_memory() -> float:
    """Return the most memory that this process ever had resident, in bytes.

    Linux keeps it by program (VmHWM). What getrusage says, the fallback, starts from the parent's at a fork.
    """
    try:
        # Not as text, which takes longer than all that is measured: each task of a node ends here.
        with Path("/proc/self/status").open("rb", buffering=0) as file:
            status = file.read()
    except OSError:
        status = b""
    _, found, rest = status.partition(b"\nVmHWM:")
    if found:
        return float(rest.split(None, 1)[0]) * 1024.0
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * 1024.0
