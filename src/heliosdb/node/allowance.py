"""What one computation of the training process may take, and how the process is held to it.

What always holds: a limit is the kernel's, not a promise of ours: memory is the data segment (RLIMIT_DATA:
the heap and private mappings, where a mapped scratch file is no part of it), cores are an affinity of every
thread. The limit that the process was started under is never exceeded, whatever a request says.
"""

from __future__ import annotations

import logging
import os
import resource
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from heliosdb.algorithms.space import rows_within
from heliosdb.algorithms.table import BLOCK
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.node.datasets import TableRequest

log = logging.getLogger(__name__)

_TIMES_A_BLOCK = 3
"""What is held at once for a block: as it was sent, its numbers, and what is made of these.

It is as many rows as a sum is taken over at a time, or as are copied where these are more.
"""

_MORE_MEMORY = (
    "The node's own DBA may raise max_memory_gb, or who registered the node its option; or fewer features are"
    " used."
)


@dataclass(frozen=True, slots=True)
class Allowance:
    """memory_bytes: of the process; cores: on which it runs; None: no limit. scratch: the directory for rows
    that do not fit into memory; None: there is none."""

    memory_bytes: int | None = None
    cores: int | None = None
    scratch: str | None = None


class Holder:
    """Holds this process to one allowance after the other. cores: on which it may run; None: all it has."""

    def __init__(self, cores: Sequence[int] | None = None) -> None:
        self._cores = sorted(os.sched_getaffinity(0) if cores is None else cores)
        self._held: Allowance | None = None

    def hold(self, allowance: Allowance) -> None:
        """Keep to an allowance from here on."""
        if allowance == self._held:
            return
        _bound_memory(allowance.memory_bytes)
        _bind_threads(self._chosen(allowance.cores))
        self._held = allowance

    def _chosen(self, count: int | None) -> list[int]:
        """So many of the cores, which processes begin to take at different ones."""
        if count is None or count >= len(self._cores):
            return self._cores
        first = os.getpid() % len(self._cores)
        return [self._cores[(first + place) % len(self._cores)] for place in range(count)]


def _bound_memory(memory_bytes: int | None) -> None:
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    wanted = resource.RLIM_INFINITY if memory_bytes is None else memory_bytes
    unlimited = hard == resource.RLIM_INFINITY
    soft = wanted if unlimited else hard if wanted == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _bind_threads(cores: list[int]) -> None:
    """Of all threads: those of numerical libraries were started when these were imported."""
    for task in Path("/proc/self/task").iterdir():
        try:
            os.sched_setaffinity(int(task.name), cores)
        except ProcessLookupError:
            continue
        except OSError as error:
            # A container may forbid it: what it lets the process have is then the limit.
            log.warning("the cores of the training process cannot be chosen: %s", error.strerror)
            return


def held_memory() -> int:
    """Return what of the limited memory this process has now, in bytes."""
    for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith("VmData:"):
            return int(line.split()[1]) * 1024
    return 0


def check_one_block(request: TableRequest, allowance: Allowance, taken: int) -> None:
    """FederatedError PROGRAM_LIMIT where what is left of the memory does not hold a block of rows and what is
    made of it; before a row is read. taken: by the process, without tables."""
    if allowance.memory_bytes is None:
        return
    numbers = request.width
    rows = max(BLOCK, rows_within(8 * numbers))
    needed = _TIMES_A_BLOCK * rows * 8 * numbers
    if taken + needed > allowance.memory_bytes:
        raise FederatedError(
            ErrorCode.PROGRAM_LIMIT,
            f"the node's memory limit is too small to hold one block of {rows} rows of dataset"
            f' "{request.dataset}": {numbers} numbers a row need about {needed / 2**30:.2g} GB beside what'
            f" the process takes, and max_memory_gb is {allowance.memory_bytes / 2**30:.3g}",
            hint=_MORE_MEMORY,
        )


def out_of_memory(allowance: Allowance) -> FederatedError:
    """The error where a computation met the limit."""
    limit = allowance.memory_bytes
    return FederatedError(
        ErrorCode.PROGRAM_LIMIT,
        "the node's memory limit does not allow the task",
        detail=None if limit is None else f"max_memory_gb is {limit / 2**30:.3g}",
        hint=_MORE_MEMORY,
    )
