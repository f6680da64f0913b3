"""The training process: holds tables and computes contributions; started by the daemon, ended with it.

What always holds: it has the reader's access to the database and nothing else that is secret but the key of
the held-out choice; what it computes goes to the daemon, whose release door decides what leaves. Limits are
set before anything is read; it ends when the daemon's end of the pipe closes.
"""

from __future__ import annotations

import logging
import os
import queue
import resource
import signal
import sys
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import BinaryIO

import psycopg

from heliosdb.algorithms.draws import TaskDraws
from heliosdb.algorithms.table import Table
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.state import NO_STATE, State, freeze, state_from_bytes
from heliosdb.domain.task import Task
from heliosdb.domain.usage import Moment, measure
from heliosdb.domain.vector import Contribution, Dtype
from heliosdb.node.datasets import TableRequest, make_plain_table, make_table, read_rows
from heliosdb.node.disclosure import RowSet, check_plain_answer
from heliosdb.node.frames import ComputeAnswer, Computed, ComputeRequest, Parts, read_frame, write_frame
from heliosdb.node.policy import find_step
from heliosdb.parts.loading import load_parts
from heliosdb.transport.messages import task_from_header, with_state

log = logging.getLogger(__name__)

_TABLES_PER_DATABASE = 2

# What rows are known by is hashed as text, which must not change with a role's settings.
_TEXT_FORM = (
    "-c TimeZone=UTC -c DateStyle=ISO,YMD -c IntervalStyle=postgres -c extra_float_digits=1"
    " -c bytea_output=hex"
)
_OPEN_FILES = 256


@dataclass(frozen=True, slots=True)
class ReadTable:
    """A table in memory; row_set: what plain answers from it are about."""

    table: Table
    row_set: bytes | None = None


class Tables:
    """The tables of the runs that are being trained: the last few of each database."""

    def __init__(self) -> None:
        self._tables: dict[str, OrderedDict[TableRequest, ReadTable]] = {}

    def get(self, reader: str, request: TableRequest, row_sets: Sequence[bytes] | None) -> ReadTable | None:
        """The table for `request`, read through the connection string `reader` unless it is there already.

        None for a plain one that is not there where no row sets are given to compare it with.
        """
        kept = self._tables.setdefault(reader, OrderedDict())
        if request not in kept or row_sets is not None:
            if request.plain and row_sets is None:
                return None
            kept[request] = _read(reader, request, row_sets or ())
            if len(kept) > _TABLES_PER_DATABASE:
                kept.popitem(last=False)
        kept.move_to_end(request)
        return kept[request]


def compute(task: Task, table: Table, request: TableRequest, memory: State) -> Contribution:
    """A node's answer to `task`, which passed the node's policy, before the release door.

    memory: what the run's earlier steps kept; none where the answer is private.
    """
    if task.budget is None:
        # Under a budget whether there is an answer must not depend on one subject's values.
        check_plain_answer(task, table, request.max_parameter_share, request.dataset)
    made = find_step(task).compute(table, task, memory, TaskDraws(task, request.key))
    if made.vector.ndim != 1 or made.vector.dtype.name not in set(Dtype):
        raise FederatedError(ErrorCode.INTERNAL, "the computation gave no vector")
    return made if made.stays is None else replace(made, stays=freeze(made.stays))


def answer(request: ComputeRequest, tables: Tables) -> ComputeAnswer:
    """Compute what a request asks for; an error that is not the product's own is logged, not told."""
    try:
        return ComputeAnswer(request.number, _answer(request, tables))
    except FederatedError as error:
        return ComputeAnswer(request.number, error)
    except psycopg.OperationalError:
        log.exception("the database cannot be reached")
        public = FederatedError(ErrorCode.UNREACHABLE, "the node's database cannot be reached")
    except psycopg.Error as error:
        # What the database says may quote a row: only the code is logged.
        log.error("dataset %s cannot be read: SQLSTATE %s", request.table.dataset, error.sqlstate)
        public = FederatedError(ErrorCode.WRONG_STATE, f'dataset "{request.table.dataset}" cannot be read')
    except MemoryError:
        public = FederatedError(ErrorCode.PROGRAM_LIMIT, "the node's memory limit does not allow the task")
    except Exception:
        # The edge of the process: one task's failure must not take the tables of others with it.
        log.exception("internal error")
        public = FederatedError(ErrorCode.INTERNAL, "internal error")
    return ComputeAnswer(request.number, public)


def _answer(request: ComputeRequest, tables: Tables) -> Computed | None:
    start = Moment.now()
    task = with_state(task_from_header(request.header).task, request.state)
    memory = state_from_bytes(request.memory) if request.memory else NO_STATE
    read = tables.get(request.reader, request.table, request.row_sets)
    if read is None:
        return None
    computed = compute(task, read.table, request.table, memory)
    # What is about to be recorded is told with the answer that was compared.
    row_set = None if request.row_sets is None else read.row_set
    return Computed(replace(computed, usage=measure(start)), row_set)


def _read(reader: str, request: TableRequest, row_sets: Sequence[bytes]) -> ReadTable:
    with psycopg.connect(
        reader,
        autocommit=True,
        application_name="heliosdb node reader",
        options="-c search_path=pg_catalog,pg_temp -c default_transaction_read_only=on " + _TEXT_FORM,
    ) as raw:
        values, codes = read_rows(raw, request)
    if not request.plain:
        return ReadTable(make_table(values, codes, request))
    table, row_set = make_plain_table(values, codes, request, list(map(RowSet.from_bytes, row_sets)))
    return ReadTable(table, row_set.to_bytes())


def set_limits(memory_bytes: int | None) -> None:
    """Bound memory and open files, and leave no core behind, which would hold rows."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (_OPEN_FILES, _OPEN_FILES))
    if memory_bytes is not None:
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))


def _feed(stream: BinaryIO, requests: queue.SimpleQueue[Parts]) -> None:
    """Pass frames on; end the process with the stream, at once, whatever is being computed."""
    try:
        while (parts := read_frame(stream)) is not None:
            requests.put(parts)
    finally:
        # Also where the daemon died in the middle of a frame: nobody is left to answer to.
        os._exit(0)


def main(memory_bytes: int | None, parts: Sequence[str]) -> None:
    """Answer frames from stdin on stdout until stdin ends. parts: modules that register further parts."""
    # The daemon decides when to stop; a Ctrl-C in its terminal reaches this process too.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    set_limits(memory_bytes)
    answers = os.fdopen(os.dup(1), "wb")
    # A library that prints must not write into a frame.
    os.dup2(2, 1)
    load_parts(parts)
    requests: queue.SimpleQueue[Parts] = queue.SimpleQueue()
    threading.Thread(target=_feed, args=(sys.stdin.buffer, requests), daemon=True).start()
    tables = Tables()
    while True:
        request = ComputeRequest.from_parts(requests.get())
        write_frame(answers, answer(request, tables).to_parts())


if __name__ == "__main__":
    limit, *modules = sys.argv[1:] or ["0"]
    main(int(limit) or None, modules)
