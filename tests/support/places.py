"""Where tests keep what they throw away: in memory, where the machine has enough of it.

Every test has databases of its own, so thousands of files are made and removed each minute. A file system on a disk
searches past what was just removed whenever it makes a file: a database's copy takes it twenty times as long.
"""

from __future__ import annotations

import os
import tempfile
from functools import cache
from pathlib import Path

_MEMORY = Path("/dev/shm")
_LEAST_BYTES = 6 << 30


@cache
def scratch() -> Path:
    """The directory for clusters and temporary files: HELIOSDB_TEST_DIRECTORY, /dev/shm where it has room, or /tmp.

    Its path is short, for the names of Unix sockets have at most 107 bytes.
    """
    if chosen := os.environ.get("HELIOSDB_TEST_DIRECTORY"):
        return Path(chosen)
    return _MEMORY if _has_room(_MEMORY) else Path("/tmp")


def use_scratch() -> None:
    """Make it the place of this process's temporary files, and of those that it starts."""
    os.environ["TMPDIR"] = str(scratch())
    tempfile.tempdir = None


def _has_room(place: Path) -> bool:
    """Whether files in it may be many, large and programs; what it has free counts no memory that others use."""
    if not os.access(place, os.W_OK | os.X_OK):
        return False
    system = os.statvfs(place)
    free = min(system.f_bavail * system.f_frsize, _free_memory())
    return not system.f_flag & os.ST_NOEXEC and free >= _LEAST_BYTES


def _free_memory() -> int:
    """Bytes that programs may still take."""
    lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    return int(lines["MemAvailable"].split()[0]) << 10
