"""The SQL box: one statement of a caller's own, run as the caller's role and no other.

What always holds: the statement, and whatever it sets off, runs inside a function that belongs to the
caller's role and is SECURITY DEFINER, where the server itself refuses to change roles. Nothing of it runs
after that: SQL is rolled back, and of the language's statements those are committed in which no code of a
caller's runs. Its connection is closed afterwards; the answer is bounded in rows and bytes, the statement
in time, and its end does not depend on its consent.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import psycopg
from psycopg import errors, generators
from psycopg.pq import TransactionStatus

from federated_sql.compliance_statements import (
    AttestCompliance,
)
from federated_sql.errors import FederatedError
from federated_sql.grammar import parse
from federated_sql.postgres import scan_raw
from federated_sql.reading_statements import (
    ExplainTraining,
    ShowObjects,
)
from federated_sql.rewrite import Rewrite, rewrite
from federated_sql.serving_statements import (
    CreateExperiment,
    DropExperiment,
    GrantSubscribe,
    RevokeSubscribe,
)
from federated_sql.splitting import split
from federated_sql.statements import (
    AlterModel,
    AlterNode,
    AlterWorkspace,
    ChangeModelOwner,
    ChangeWorkspaceOwner,
    CreateAlert,
    CreateModel,
    CreateWorkspace,
    DropAlert,
    DropModel,
    DropTag,
    DropVersion,
    DropWorkspace,
    EraseSubjects,
    PromoteModel,
    RegisterNode,
    RenameModel,
    RenameWorkspace,
    ResetModel,
    ResetNode,
    ResetWorkspace,
    ResumeTraining,
    RollbackModel,
    StartTraining,
    StopTraining,
    TagModel,
    UnregisterNode,
    command_tag,
)
from heliosdb.api.database import Connection, Database, Identity, Right, run_named
from heliosdb.api.problems import Problem, from_statement

log = logging.getLogger(__name__)

MOST_ROWS = 1_000
MOST_BYTES = 1 << 20
LARGEST_STATEMENT = 100_000
_MOST_NOTICES = 100
_LARGEST_NOTICE = 500
_FILE = "box.sql"
_PORTAL = b"heliosdb_answer"
# Until its own limit has ended it, and the answer has arrived.
_GRACE = 2.0
_POSITION = re.compile(r"position=(\d+)")
# A field of a record as text: in double quotes, where these and backslashes are doubled, or plain.
_FIELD = re.compile(r'(?:"((?:[^"\\]|""|\\.)*)"|([^,]*))(,|$)', re.DOTALL)
_DOUBLED = re.compile(r'""|\\(.)', re.DOTALL)
_READS_AS_SELECT = frozenset({"SELECT", "VALUES", "TABLE", "WITH", "("})


# They change the federation's catalog alone. What is not named here runs code of whoever has written it
# (datasets and their consents, aggregation functions), or writes files of the server.
CHANGES = (
    CreateWorkspace | AlterWorkspace | ResetWorkspace | RenameWorkspace | ChangeWorkspaceOwner | DropWorkspace
    | RegisterNode | AlterNode | ResetNode | UnregisterNode
    | CreateModel | AlterModel | ResetModel | RenameModel | ChangeModelOwner | DropModel
    | StartTraining | StopTraining | ResumeTraining
    | TagModel | DropTag | DropVersion | PromoteModel | RollbackModel
    | EraseSubjects | CreateAlert | DropAlert | GrantSubscribe | RevokeSubscribe | AttestCompliance
    | CreateExperiment | DropExperiment
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Column:
    """A column of an answer, and its type as SQL writes it."""

    name: str
    type: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What a statement answered. Values are texts as the server writes them; command is as psql's tag."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[str | None, ...], ...]
    truncated: bool
    command: str
    notices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Asked:
    """A statement as typed and as it is sent, where something of the language stood in it."""

    typed: str
    sent: str
    tag: str
    changed: Rewrite | None
    changes: bool = False

    def position(self, error: psycopg.Error) -> int | None:
        """Which character of what was typed an error is about, from 1; None where the server does not say."""
        diag = error.diag
        told = _POSITION.fullmatch(diag.column_name or "") if diag.datatype_name == "federated_sql" else None
        if told is not None and self.changed is not None:
            return self.changed.statement_position(0, int(told[1]))
        if diag.internal_query != self.sent or not (diag.internal_position or "").isdigit():
            return None
        place = int(diag.internal_position or 0)
        return place if self.changed is None else self.changed.original_position(place)


class Box:
    """Runs statements. timeout: seconds for each."""

    def __init__(self, database: Database, timeout: float) -> None:
        self._database = database
        self._timeout = timeout
        self._ending: set[asyncio.Task[None]] = set()

    async def run(self, identity: Identity, typed: str, gone: Callable[[], Awaitable[object]]) -> Answer:
        """Run a statement; a Problem says what is wrong with it.

        gone: returns when nobody waits for the answer any more, which ends the statement.
        """
        asked = await asyncio.to_thread(read_statement, typed)
        async with self._database.apart(identity, Right.KNOWN, self._timeout) as connection:
            running = asyncio.create_task(_run(connection, asked))
            leaving = asyncio.ensure_future(gone())
            try:
                done, _ = await asyncio.wait(
                    {running, leaving}, timeout=self._timeout + _GRACE, return_when=asyncio.FIRST_COMPLETED
                )
            finally:
                leaving.cancel()
                # Also where its answer was not understood: the server may go on with it.
                if not running.done() or connection.pgconn.transaction_status == TransactionStatus.ACTIVE:
                    await self._end(connection, running)
            if running not in done:
                raise Problem(504, "The statement took too long.", sqlstate="57014")
            return running.result()

    async def _end(self, connection: Connection, running: asyncio.Task[Answer]) -> None:
        """End what runs: a statement may refuse to be cancelled, but no backend to be terminated."""

        async def end() -> None:
            try:
                await self._database.end_backend(connection.info.backend_pid)
            except Exception as error:  # noqa: BLE001 -- then the database is gone, or the pool is: so is what runs
                log.warning("a statement could not be ended: %s", type(error).__name__)
                running.cancel()
            await asyncio.gather(running, return_exceptions=True)

        ending = asyncio.create_task(end())
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)
        await asyncio.shield(ending)


def read_statement(typed: str) -> Asked:
    """Read one statement; a Problem for none, and for several."""
    if len(typed) > LARGEST_STATEMENT:
        raise Problem(413, f"A statement may have {LARGEST_STATEMENT} characters.", sqlstate="54000")
    try:
        raw = scan_raw(typed)
    except FederatedError:
        # The server says best what is wrong with it.
        return Asked(typed, typed, "", None)
    parts = list(split(typed, raw))
    if len(parts) != 1:
        fault = "There is no statement." if not parts else "One statement at a time is run."
        place = None if not parts else raw[parts[1].first].start + 1
        raise Problem(400, fault, sqlstate="42601", position=place)
    first = raw[parts[0].first]
    changed = rewrite(typed)
    tag = changed.tags[0] if changed is not None else None
    word = typed[first.start : first.end + 1].upper()
    sent = typed if changed is None else changed.text
    return Asked(typed, sent, tag or word, changed, tag is not None and _may_change(typed))


def _may_change(typed: str) -> bool:
    """Whether a statement of the language is committed; a Problem for one that is not run."""
    try:
        command = parse(typed)
    except FederatedError:
        # The server says best what is wrong with it.
        return False
    if isinstance(command, ExplainTraining | ShowObjects):
        return False
    if not isinstance(command, CHANGES):
        raise Problem(
            501,
            f"{command_tag(command)} is not run here.",
            sqlstate="0A000",
            hint="It looks at SQL or files of its own: run it in psql.",
        )
    return True


async def _run(connection: Connection, asked: Asked) -> Answer:
    notices: list[str] = []

    def keep(notice: psycopg.errors.Diagnostic) -> None:
        if len(notices) < _MOST_NOTICES:
            notices.append(f"{notice.severity}:  {notice.message_primary}"[:_LARGEST_NOTICE])

    [found] = await run_named(connection, _FILE, "search_path")
    await _make(connection)
    connection.add_notice_handler(keep)
    try:
        if not asked.changes:
            await run_named(connection, _FILE, "read_only")
        [told] = await run_named(
            connection, _FILE, "run", asked.sent, found["search_path"], MOST_ROWS, MOST_BYTES
        )
        columns = await _describe(connection) if told["reads"] else ()
        # What a caller's SQL has left to be done at COMMIT would be done outside of the box.
        await connection.execute("COMMIT" if asked.changes else "ROLLBACK")
    except errors.ReadOnlySqlTransaction as error:
        if asked.changes:
            raise from_statement(error, None) from None
        raise _read_only(error) from None
    except psycopg.Error as error:
        raise from_statement(error, asked.position(error)) from None
    rows = tuple(read_record(line, len(columns)) for line in told["lines"])
    command = _command(asked, told["reads"], told["changed"])
    return Answer(columns, rows, told["truncated"], command, tuple(notices))


async def _make(connection: Connection) -> None:
    try:
        await run_named(connection, _FILE, "make_box")
    except errors.InsufficientPrivilege:
        raise Problem(
            403,
            "Statements need the right to make temporary objects in this database, and to use PL/pgSQL.",
            sqlstate="42501",
            hint="GRANT TEMPORARY ON DATABASE ... and GRANT USAGE ON LANGUAGE plpgsql TO the role.",
        ) from None


async def _describe(connection: Connection) -> tuple[Column, ...]:
    """The columns of the answer, from the cursor that gave it; nothing of the caller's runs for that."""
    connection.pgconn.send_describe_portal(_PORTAL)
    [result] = await connection.wait(generators.execute(connection.pgconn))
    if result.status != psycopg.pq.ExecStatus.COMMAND_OK:
        raise Problem(400, "The statement closed the cursor of its own answer.", sqlstate="34000")
    places = range(result.nfields)
    await run_named(connection, _FILE, "forget_path")
    oids, modifiers = [result.ftype(at) for at in places], [result.fmod(at) for at in places]
    names = await run_named(connection, _FILE, "type_names", oids, modifiers)
    titles = [(result.fname(at) or b"").decode("utf-8", "replace") for at in places]
    return tuple(Column(title, str(row["name"])) for title, row in zip(titles, names, strict=True))


def _read_only(error: psycopg.Error) -> Problem:
    return Problem(
        409,
        f"SQL is run to read here: {error.diag.message_primary}.",
        sqlstate="25006",
        hint="FEDERATED statements change what they say; run others in psql.",
    )


def read_record(line: str, columns: int) -> tuple[str | None, ...]:
    """The values of a record as the server writes it: `(1,"a b",,"")`."""
    if not columns:
        return ()
    values: list[str | None] = []
    place, text = 0, line[1:-1]
    for _ in range(columns):
        field = _FIELD.match(text, place)
        if field is None:
            raise ValueError("a record was not understood")
        quoted, plain = field[1], field[2]
        values.append(_DOUBLED.sub(_single, quoted) if quoted is not None else plain or None)
        place = field.end()
    return tuple(values)


def _single(match: re.Match[str]) -> str:
    return match[1] or '"'


def _command(asked: Asked, reads: bool, changed: int) -> str:
    tag = "SELECT" if asked.tag in _READS_AS_SELECT else asked.tag
    if reads or tag in ("INSERT", "UPDATE", "DELETE", "MERGE"):
        return f"{tag} {changed}"
    return tag
