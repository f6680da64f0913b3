"""What the training process does: holds tables and computes contributions; ended with the daemon.

What always holds: it has the reader's access to the database and nothing else that is secret but the key of
the held-out choice; what it computes goes to the daemon, whose release door decides what leaves. Limits are
set before anything is read; it ends when the daemon's end of the pipe closes.
"""

from __future__ import annotations

import hashlib
import logging
import os
import select
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import BinaryIO

import numpy as np
import psycopg

from heliosdb.algorithms.draws import TaskDraws
from heliosdb.algorithms.encoding import task_classes
from heliosdb.algorithms.parted import Parted
from heliosdb.algorithms.space import MEMORY
from heliosdb.algorithms.steps import (
    Step,
    adds_blocks,
    check_streams,
    count_parameters,
    fits,
    reads_columns,
)
from heliosdb.algorithms.table import Table
from heliosdb.catalog.failures import condition, is_connection_lost
from heliosdb.domain.encoding import Encoding
from heliosdb.domain.errors import ErrorCode, FederatedError, place_of
from heliosdb.domain.state import NO_STATE, State, freeze, state_from_bytes
from heliosdb.domain.task import Task
from heliosdb.domain.usage import Moment, measure
from heliosdb.domain.vector import Contribution, Dtype
from heliosdb.node.admission import admit_alone, of_subjects_alone
from heliosdb.node.allowance import (
    Allowance,
    Holder,
    check_one_block,
    held_memory,
    out_of_memory,
)
from heliosdb.node.arranging import content_hash, described, settle
from heliosdb.node.confinement import SCRATCH, Confinement
from heliosdb.node.dask_place import DaskPlace
from heliosdb.node.database import unreachable, unreadable
from heliosdb.node.datasets import TableRequest, read_consenting
from heliosdb.node.disclosure import RowSet, check_plain_answer, check_values
from heliosdb.node.encoding import encode_plainly, encode_privately
from heliosdb.node.engine import (
    Engine,
    OneProcess,
    PartsLostError,
    make_engine,
    query_of,
    space_of,
)
from heliosdb.node.frames import (
    ComputeAnswer,
    Computed,
    ComputeRequest,
    Parts,
    check_part,
    read_frame,
    write_frame,
)
from heliosdb.node.identifiers import look_at_values
from heliosdb.node.policy import find_step
from heliosdb.node.reader import OpensRows, rows_of
from heliosdb.node.scratch import ScratchFullError
from heliosdb.observing.logs import use_format
from heliosdb.parts.loading import load_parts
from heliosdb.phi.kinds import Finding
from heliosdb.transport.messages import task_from_header, with_state

log = logging.getLogger(__name__)

LOG_FORMAT = "HELIOSDB_LOG_FORMAT"
"""Of the environment: how its log is written, as the daemon's."""

ENGINE = "HELIOSDB_ENGINE"
"""Of the environment: a `DaskPlace`, as JSON; empty for the process itself."""

_KEPT_SHARE = 4
"""Tables may take one part in so many of the process's memory: reading one and training need the rest."""
_UNLIMITED = 2 * 2**30

_MOST_STORED = 4
"""Tables in scratch files, or with workers."""

_ATTEMPTS = 3
"""How often a table is read for one answer where workers are lost."""

Encoded = dict[tuple[bool, Encoding | None, tuple[str, ...], tuple[float, ...]], Table]
"""By whether answers are plain, which decides what becomes of small cells; encoding; the target's classes;
the rules of plain answers."""


@dataclass(frozen=True, slots=True)
class ReadTable:
    """A table in memory; rows_read: keyed hash of it; row_set: what plain answers from it are about.

    findings: what its values look like. encoded: what an encoding made of it last. fetched: the same table in
    this process, where its rows lie with workers and a step has needed them.
    """

    table: Table
    rows_read: bytes
    row_set: bytes | None = None
    findings: tuple[Finding, ...] = ()
    encoded: Encoded = field(default_factory=dict, compare=False)
    fetched: list[ReadTable] = field(default_factory=list, compare=False)

    @property
    def nbytes(self) -> int:
        """What it takes."""
        tables = (self.table, *self.encoded.values())
        arrays = {
            id(array): array.nbytes
            for table in tables
            for array in (
                table.features,
                table.target,
                table.subjects,
                table.held_out,
                table.others,
                table.codes,
                table.places,
                *table.roles.values(),
            )
        }
        return sum(arrays.values()) + len(self.row_set or b"")

    @property
    def held_bytes(self) -> int:
        """What it takes of this process's memory: of rows that lie elsewhere, what was fetched."""
        return self.nbytes if self.is_in_memory else sum(one.nbytes for one in self.fetched)

    @property
    def is_in_memory(self) -> bool:
        """Whether it lies there, and not in scratch files or with workers."""
        return self.table.space.is_memory

    @property
    def lies(self) -> tuple[bool, ...]:
        """Whether it lies in memory, and of a table that lies with workers each part of it in theirs."""
        features = self.table.features
        return (self.is_in_memory, *(features.are_in_memory if isinstance(features, Parted) else ()))

    def for_step(self, step: Step, request: TableRequest, allowance: Allowance) -> ReadTable:
        """Return the table on which a step computes: where rows lie with workers a sum over blocks goes to
        them, and what else fits into this process is fetched. Under a budget what is made of it is put where
        it would be had this process read it."""
        if not self.table.is_parted or adds_blocks(step) or not fits(self.table, allowance.memory_bytes):
            return self
        if not self.fetched:
            features = np.asarray(self.table.features)
            space = MEMORY if request.plain else space_of(allowance, request, features.nbytes)
            table = replace(self.table, features=features, space=space)
            self.fetched.append(replace(self, table=table, encoded={}))
        return self.fetched[0]


ReadsTables = Callable[[str, TableRequest, Sequence[bytes]], ReadTable]


class Tables:
    """The tables of the runs that are being trained, those that were asked for last.

    most_bytes: of all that are kept; the one that was asked for last is, however large. read: reads one.
    """

    def __init__(self, most_bytes: int, read: ReadsTables) -> None:
        self._most = most_bytes
        self._read = read
        self._kept: OrderedDict[tuple[str, TableRequest], ReadTable] = OrderedDict()
        # The bytes of each table for which room was made, by its identity; of none once one is read anew.
        self._fitted: dict[int, int] = {}

    @property
    def nbytes(self) -> int:
        """What is kept takes of memory; runs that read the same rows share them."""
        return sum({id(one.table): one.held_bytes for one in self._kept.values()}.values())

    def keep_to(self, most_bytes: int) -> None:
        """Keep no more than so many bytes from here on."""
        # Of all tables only the last can have grown since: by what was made of it.
        last = next(reversed(self._kept.values()), None)
        size = 0 if last is None else last.held_bytes
        if most_bytes != self._most or self._fitted.get(id(last)) != size:
            self._most = most_bytes
            self._make_room()
            self._fitted[id(last)] = size

    def get(self, reader: str, request: TableRequest, row_sets: Sequence[bytes] | None) -> ReadTable | None:
        """The table for `request`, read through the connection string `reader` unless it is there already.

        None for a plain one that is not there where no row sets are given to compare it with.
        """
        name = (reader, request)
        found = self._kept.get(name)
        if found is None or row_sets is not None:
            if request.plain and row_sets is None:
                return None
            self._kept.pop(name, None)
            self._drop_outdated(reader, request)
            found = self._kept[name] = self._shared(self._read_with_room(reader, request, row_sets or ()))
            self._fitted.clear()
            self._make_room()
        self._kept.move_to_end(name)
        return found

    def forget(self, reader: str, request: TableRequest) -> None:
        """Drop a table, whose rows are not there any more, and who shares them."""
        self._fitted.clear()
        lost = self._kept.pop((reader, request), None)
        if lost is not None:
            for name, one in list(self._kept.items()):
                if one.table is lost.table:
                    del self._kept[name]

    def _make_room(self) -> None:
        while len(self._kept) > 1 and self.nbytes > self._most:
            self._kept.popitem(last=False)
        stored = [name for name, one in self._kept.items() if not one.is_in_memory]
        for name in stored[:-_MOST_STORED]:
            del self._kept[name]

    def keep_only(self, reader: str, request: TableRequest) -> None:
        """Make all the room that there is for what is computed from one table."""
        name = (reader, request)
        self._fitted.clear()
        self._kept = OrderedDict({name: self._kept[name]})
        self._kept[name].encoded.clear()

    def _drop_outdated(self, reader: str, request: TableRequest) -> None:
        """Drop what was read of the dataset when other subjects were left out: nobody asks for it again."""
        about = (reader, request.dataset_id)
        for name in list(self._kept):
            if (name[0], name[1].dataset_id) == about and name[1].admission != request.admission:
                del self._kept[name]

    def _read_with_room(self, reader: str, request: TableRequest, row_sets: Sequence[bytes]) -> ReadTable:
        try:
            return self._read(reader, request, row_sets)
        except (MemoryError, ScratchFullError):
            if not self._kept:
                raise
            self._kept.clear()
        return self._read(reader, request, row_sets)

    def _shared(self, read: ReadTable) -> ReadTable:
        """The same with the arrays of another run's table where that holds the same rows."""
        for other in self._kept.values():
            # One that lies in memory would not have room there for the other's inputs.
            # The same columns may have other roles.
            same = other.rows_read == read.rows_read and list(other.table.roles) == list(read.table.roles)
            if same and other.lies == read.lies:
                # What was fetched may lie where there is no room for what this run makes of it.
                fetched = [] if read.row_set is None else other.fetched
                return replace(read, table=other.table, encoded=other.encoded, fetched=fetched)
        return read


def compute(
    task: Task, table: Table, request: TableRequest, memory: State, made: Encoded | None = None
) -> Contribution:
    """A node's answer to `task`, which passed the node's policy, before the release door.

    memory: what the run's earlier steps kept; none where the answer is private. made: what encodings made of
    the table before.
    """
    step = find_step(task)
    check_streams(step, task, table)
    encoded = table if reads_columns(step) else encode_for(task, table, request, {} if made is None else made)
    if task.budget is None:
        # Under a budget whether there is an answer must not depend on one subject's values.
        parameters = count_parameters(step, task)
        check_plain_answer(task, encoded, request.max_parameter_share, request.dataset, parameters)
        explains = request.admission.explains(encoded.codes, request.key)
        encoded = replace(
            encoded,
            min_rows=request.min_rows,
            min_cell=request.min_cell,
            min_category=request.min_category,
            explains=explains,
        )
    contribution = step.compute(encoded, task, memory, TaskDraws(task, request.key))
    if task.budget is None and not np.isfinite(contribution.vector).all():
        check_values(encoded, task.inputs, request.target, request.dataset)
    if contribution.vector.ndim != 1 or contribution.vector.dtype.name not in set(Dtype):
        raise FederatedError(ErrorCode.INTERNAL, "the computation gave no vector")
    stays, personal = contribution.stays, contribution.personal
    if stays is None and personal is None:
        return contribution
    return replace(
        contribution,
        stays=None if stays is None else freeze(stays),
        personal=None if personal is None else freeze(personal),
    )


def encode_for(task: Task, table: Table, request: TableRequest, made: Encoded) -> Table:
    """The inputs that the task's encoding makes of a table, and under no budget the indices of its classes;
    the last one is kept."""
    encoding, classes = task.encoding, task_classes(task)
    # Runs with a budget and without one share tables that hold the same rows, and not what is made of them.
    # Nor do those whose DBA has changed a rule in between: what is made is what a rule let pass.
    asked = (request.plain, encoding, classes, request.rules if request.plain else ())
    for known, kept in made.items():
        if known == asked:
            return kept
    made.clear()
    if request.plain:
        made[asked] = encode_plainly(table, encoding, classes, request)
    else:
        made[asked] = encode_privately(table, encoding)
    return made[asked]


def answer(request: ComputeRequest, tables: Tables, open_rows: OpensRows = rows_of) -> ComputeAnswer:
    """Compute what a request asks for; an error that is not the product's own is logged, not told."""
    try:
        return ComputeAnswer(request.number, _answer(request, tables, open_rows))
    except FederatedError as error:
        return ComputeAnswer(request.number, error)
    except psycopg.Error as error:
        public = unreadable(error, request.table.dataset)
    except MemoryError:
        public = out_of_memory(request.allowance)
    except Exception as error:  # noqa: BLE001 -- logged without its text, which may quote a row
        # The edge of the process: one task's failure must not take the tables of others with it.
        log.error("internal error: %s", place_of(error))
        public = FederatedError(ErrorCode.INTERNAL, "internal error")
    return ComputeAnswer(request.number, public)


def _answer(request: ComputeRequest, tables: Tables, open_rows: OpensRows) -> Computed | None:
    start = Moment.now()
    task = with_state(task_from_header(request.header).task, request.state)
    memory = state_from_bytes(request.memory) if request.memory else NO_STATE
    table, row_sets = request.table, request.row_sets
    consenting = b""
    if table.has_consent_query:
        table, row_sets = with_consenting(request.reader, table, row_sets, open_rows)
        consenting = hashlib.sha256(table.admission.admitted or b"").digest()
    for _ in range(_ATTEMPTS):
        try:
            read = tables.get(request.reader, table, row_sets)
            if read is None:
                return None
            chosen = read.for_step(find_step(task), table, request.allowance)
            try:
                computed = compute(task, chosen.table, table, memory, chosen.encoded)
            except MemoryError:
                tables.keep_only(request.reader, table)
                chosen.encoded.clear()
                computed = compute(task, chosen.table, table, memory, chosen.encoded)
            break
        except PartsLostError:
            log.warning("dataset %s: workers were lost, and its rows with them", table.dataset)
            tables.forget(request.reader, table)
    else:
        raise FederatedError(
            ErrorCode.UNREACHABLE, "the workers of the node's engine are lost again and again"
        )
    # What is about to be recorded is told with the answer that was compared.
    row_set = None if row_sets is None else read.row_set
    return Computed(
        replace(computed, usage=measure(start)), row_set, read.rows_read, consenting, read.findings
    )


def with_consenting(
    reader: str, request: TableRequest, row_sets: Sequence[bytes] | None, open_rows: OpensRows
) -> tuple[TableRequest, Sequence[bytes] | None]:
    """A request with who is in the dataset's consent_query now, and its row sets: where its DBA lets plain
    answers go on without who is not in it any more, without these.

    FederatedError WRONG_STATE where the query fails: of its error nothing is told, nor logged but its name.
    """
    try:
        with open_rows(reader) as rows:
            codes = read_consenting(rows, request)
    except psycopg.Error as error:
        raise _unreadable_consent(error, request.dataset) from None
    if row_sets is not None and request.lets_withdraw:
        kept = (of_subjects_alone(RowSet.from_bytes(one), codes, request.key) for one in row_sets)
        row_sets = [one.to_bytes() for one in kept]
    admission = replace(request.admission, admitted=admit_alone(codes, request.key))
    return replace(request, admission=admission), row_sets


def _unreadable_consent(error: psycopg.Error, dataset: str) -> FederatedError:
    log.error("the consent_query of dataset %s cannot be read: %s", dataset, condition(error.sqlstate))
    if is_connection_lost(error):
        return unreachable()
    return FederatedError(
        ErrorCode.WRONG_STATE,
        f'who has consented to dataset "{dataset}" cannot be read',
        hint="The node's own log says why.",
    )


@dataclass(slots=True)
class TableReader:
    """Reads tables within an allowance, which a request may change. taken: of the memory, without tables.

    engine: where rows are read, and lie. open_rows: by whom the database is asked.
    """

    allowance: Allowance = field(default_factory=Allowance)
    taken: int = field(default_factory=held_memory)
    engine: Engine = field(default_factory=OneProcess)
    open_rows: OpensRows = rows_of

    @property
    def most_kept(self) -> int:
        """How many bytes of tables may stay in memory."""
        return (self.allowance.memory_bytes or _KEPT_SHARE * _UNLIMITED) // _KEPT_SHARE

    def read(self, reader: str, request: TableRequest, row_sets: Sequence[bytes]) -> ReadTable:
        """Read a table through the reader's connection; psycopg's errors, and those of plain answers'
        rules."""
        with self.open_rows(reader) as rows:
            check_one_block(request, self.allowance, self.taken)
            arranged, read = self.engine.read(rows, reader, request, self.allowance)
            findings: tuple[Finding, ...] = ()
            if request.phi_check:
                findings = look_at_values(rows, query_of(request))
        if not request.plain:
            table = described(arranged.table, read)
            return ReadTable(table, content_hash(table, request.key), findings=findings)
        earlier = list(map(RowSet.from_bytes, row_sets))
        table, row_set = settle(arranged, request, earlier, read)
        content, written = content_hash(table, request.key), row_set.written(table.space)
        check_part(written, f'the names of the rows of dataset "{request.dataset}"')
        return ReadTable(table, content, written, findings)


def _end_with(stream: BinaryIO) -> None:
    """End the process with the stream's other end, at once, whatever is being computed.

    It is not read here: whoever computes reads the next frame too, and no thread has to wake for it.
    """
    watched = select.poll()
    watched.register(stream, 0)
    watched.poll()
    os._exit(0)


def _next_frame(stream: BinaryIO) -> Parts:
    """The next frame; the process ends where there is none."""
    parts = None
    try:
        parts = read_frame(stream)
    finally:
        if parts is None:
            # Also where the daemon died in the middle of a frame: nobody is left to answer to.
            os._exit(0)
    return parts


def run(memory_bytes: int | None, parts: Sequence[str], in_force: Confinement, open_rows: OpensRows) -> None:
    """Say what is in force, and answer frames from stdin on stdout until stdin ends.

    parts: modules that register further parts. open_rows: by whom the database is asked.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    use_format("json" if os.environ.get(LOG_FORMAT) == "json" else "text")
    answers = os.fdopen(os.dup(1), "wb")
    # A library that prints must not write into a frame.
    os.dup2(2, 1)
    load_parts(parts)
    stream = sys.stdin.buffer
    threading.Thread(target=_end_with, args=(stream,), daemon=True).start()
    own = Allowance(memory_bytes, scratch=os.environ.get(SCRATCH))
    engine = make_engine(_place(), own)
    holder, reader = Holder(), TableReader(own, engine=engine, open_rows=open_rows)
    tables = Tables(reader.most_kept, reader.read)
    write_frame(answers, [in_force.to_json()])
    while True:
        request = ComputeRequest.from_parts(_next_frame(stream))
        reader.allowance = request.allowance
        tables.keep_to(reader.most_kept)
        holder.hold(request.allowance)
        write_frame(answers, answer(request, tables, open_rows).to_parts())


def _place() -> DaskPlace | None:
    told = os.environ.get(ENGINE)
    return DaskPlace.from_json(told) if told else None
