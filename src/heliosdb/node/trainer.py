"""The daemon's hold on its training process: starts it, asks it, starts it again when it dies.

What always holds: one computation runs at a time; a process that died or overran its time answers with an
error for what it was doing and is a new process for what comes next; it inherits no secret of the daemon.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.limits import NO_LIMITS, Limits
from heliosdb.node.allowance import Allowance
from heliosdb.node.confinement import CONFINEMENT, SCRATCH, Confinement, ConfinementWish
from heliosdb.node.dask_place import DaskPlace
from heliosdb.node.datasets import TableRequest
from heliosdb.node.frames import ComputeAnswer, Computed, ComputeRequest, frame_pieces, read_frame_async
from heliosdb.node.reader_calls import READERS, name_of_reader

log = logging.getLogger(__name__)

# What the training process needs to find its code, its libraries and its GPU.
_INHERITED = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TZ", "CUDA_VISIBLE_DEVICES")

_INHERITED_BY_WORKERS = ("HOME", "TMPDIR")
"""What a library that starts processes looks for."""

_LARGEST_ON_HEAP = 1 << 20


class RowSetsWantedError(Exception):
    """A plain table has to be read again, and so compared again with the row sets of earlier answers."""


class Trainer:
    """Serves one or more nodes of this process.

    max_memory_gb: what the training process holds; None: no limit. max_cpu_cores: on so many it runs, and so
    many threads its numerical libraries have (sums depend on how many there are, so this belongs to what
    makes a run repeatable; what a workspace asks for lowers the cores alone). scratch: the directory for rows
    that do not fit into memory. parts: names of the modules in which further parts are registered.
    log_format: of what it logs. engine: the workers with which rows lie; None: the training process itself.
    confinement: whether the training process is confined as far as the machine can (`available`), computes
    nothing where that is not whole (`required`), or is not confined (`off`). readers: the connection strings
    by which the process that reads for it may connect; by no other.
    """

    def __init__(
        self,
        *,
        max_memory_gb: float | None = None,
        max_cpu_cores: int = 1,
        task_limit_seconds: float = 3600.0,
        scratch: Path | None = None,
        parts: Sequence[str] = (),
        log_format: Literal["text", "json"] = "text",
        engine: DaskPlace | None = None,
        confinement: ConfinementWish = "available",
        readers: Sequence[str] = (),
    ) -> None:
        self._log_format = log_format
        self._engine = engine
        self._parts = tuple(parts)
        self._limits = Limits(max_memory_gb, max_cpu_cores)
        self._scratch = None if scratch is None else str(scratch)
        self._limit = task_limit_seconds
        self._confinement: ConfinementWish = confinement
        self._readers = ",".join(map(name_of_reader, readers))
        self._in_force: Confinement | None = None
        self._process: Process | None = None
        self._turn = asyncio.Lock()
        self._numbers = itertools.count(1)

    @property
    def pid(self) -> int | None:
        """The process id of the training process; None where none runs."""
        return None if self._process is None else self._process.pid

    async def compute(
        self,
        reader: str,
        table: TableRequest,
        header: bytes,
        state: bytes,
        *,
        memory: bytes = b"",
        row_sets: Sequence[bytes] | None = None,
        limits: Limits = NO_LIMITS,
    ) -> Computed:
        """Have a contribution computed; FederatedError from the training process, or about its death.

        memory: what the step kept of the run, a state's bytes; empty: nothing.
        row_sets: those that a plain table is to be compared with; None: it was before. RowSetsWantedError
        where the training process has forgotten that table. limits: what the workspace asks of the machine,
        which holds where it is lower.
        """
        number, allowance = next(self._numbers), self._allowance(limits)
        request = ComputeRequest(number, reader, table, header, state, memory, row_sets, allowance)
        async with self._turn:
            process = await self._running()
            try:
                # Not wait_for: before Python 3.12 it drops a cancellation that comes with the answer.
                async with asyncio.timeout(self._limit):
                    await self._hear_what_is_in_force(process)
                    answer = await _ask(process, request)
            except (asyncio.IncompleteReadError, ConnectionError, ValueError) as error:
                await self._end()
                log.error("the training process died: %r", error)
                raise FederatedError(ErrorCode.INTERNAL, "the node's training process died") from error
            except TimeoutError as error:
                await self._end()
                raise FederatedError(
                    ErrorCode.PROGRAM_LIMIT, "the task took longer than the node allows"
                ) from error
            except BaseException:
                # Cancelled between question and answer: what the pipe holds belongs to nobody.
                await asyncio.shield(self._end())
                raise
        if answer.outcome is None:
            raise RowSetsWantedError
        if isinstance(answer.outcome, FederatedError):
            raise answer.outcome
        return answer.outcome

    def _allowance(self, asked: Limits) -> Allowance:
        held = self._limits.within(asked)
        return Allowance(_bytes_of(held.max_memory_gb), held.max_cpu_cores, self._scratch)

    async def close(self) -> None:
        """End the training process."""
        await self._end()

    async def _running(self) -> Process:
        if self._process is None or self._process.returncode is not None:
            await self._end()
            self._make_scratch()
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                # What lies in the directory in which the daemon was started is none of its code.
                "-P",
                "-m",
                "heliosdb.node.training_process",
                str(_bytes_of(self._limits.max_memory_gb) or 0),
                *self._parts,
                stdin=PIPE,
                stdout=PIPE,
                env=self._environment(),
            )
        return self._process

    def _make_scratch(self) -> None:
        if self._scratch is not None:
            # Where that cannot be made, what needs it says so.
            with suppress(OSError):
                Path(self._scratch).mkdir(mode=0o700, exist_ok=True)

    def _environment(self) -> dict[str, str]:
        made = _environment(self._limits.max_cpu_cores or 1, self._log_format)
        # PyTorch asks for a place for temporary files where it is imported, and fails without one.
        made |= {} if self._scratch is None else {SCRATCH: self._scratch, "TMPDIR": self._scratch}
        made |= {READERS: self._readers} if self._readers else {}
        made |= {CONFINEMENT: "off"} if self._confinement == "off" else {}
        if self._engine is None:
            return made
        home = {name: os.environ[name] for name in _INHERITED_BY_WORKERS if name in os.environ}
        # What is killed leaves semaphores, of which Python's own tracker warns when it removes them.
        quiet = {"PYTHONWARNINGS": "ignore:resource_tracker:UserWarning"}
        return {**made, **home, **quiet, "HELIOSDB_ENGINE": self._engine.to_json()}

    async def _hear_what_is_in_force(self, process: Process) -> None:
        """Take the first frame of a new process; FederatedError WRONG_STATE where that is not enough."""
        if self._in_force is not None:
            return
        assert process.stdout is not None
        (told,) = await read_frame_async(process.stdout)
        in_force = Confinement.from_json(told)
        if self._confinement == "required" and not in_force.is_whole:
            await self._end()
            log.error("the training process is not confined as required: %s", in_force)
            raise FederatedError(
                ErrorCode.WRONG_STATE,
                "the node computes nothing: its training process cannot be confined as its settings require",
                hint="The node's own log says what the machine lacks.",
            )
        self._in_force = in_force
        level = logging.INFO if in_force.is_whole else logging.WARNING
        log.log(level, "the training process is left %s", in_force)

    async def _end(self) -> None:
        self._in_force = None
        process, self._process = self._process, None
        if process is None:
            return
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def _bytes_of(gigabytes: float | None) -> int | None:
    return None if gigabytes is None else int(gigabytes * 2**30)


async def _ask(process: Process, request: ComputeRequest) -> ComputeAnswer:
    assert process.stdin is not None
    assert process.stdout is not None
    for piece in frame_pieces(request.to_parts()):
        process.stdin.write(piece)
    await process.stdin.drain()
    answer = ComputeAnswer.from_parts(await read_frame_async(process.stdout))
    if answer.number != request.number:
        raise ValueError("an answer to another question")
    return answer


def _environment(cores: int, log_format: str) -> dict[str, str]:
    kept = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(cores))
    # What glibc takes from its heap counts against the limit long after it was freed; larger arrays do not.
    heap = {"MALLOC_MMAP_THRESHOLD_": str(_LARGEST_ON_HEAP)}
    return {**kept, **threads, **heap, "PYTHONUNBUFFERED": "1", "HELIOSDB_LOG_FORMAT": log_format}
