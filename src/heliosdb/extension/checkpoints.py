"""CHECKPOINT and RESUME FEDERATED TRAINING: files of what a coordinator has sealed, and runs that go on.

What always holds: a file's bytes come from the catalog, and go back to it, as they were sealed; the database
has no key. What is wrong with a file as such is said at once; whether it was sealed by this coordinator, that
one says when it takes the run up, before anything of the file is believed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime

from federated_sql.errors import ErrorCode, FederatedError, invalid_value, not_supported
from federated_sql.render import quote_name
from federated_sql.statements import CheckpointTraining, ResumeTraining
from heliosdb import faults
from heliosdb.catalog import checkpoints
from heliosdb.catalog import commands as catalog
from heliosdb.catalog.checkpoints import ClosedRound
from heliosdb.domain.checkpoint import (
    MANIFEST,
    MOST_NAME_CHARACTERS,
    PIECE_BYTES,
    Header,
    read_header,
    read_pieces,
    write_checkpoint,
)
from heliosdb.domain.ids import WorkspaceName
from heliosdb.domain.sealed_format import SealedDigest
from heliosdb.extension import server_files
from heliosdb.extension.models import find_model, in_training
from heliosdb.extension.session import Session


def checkpoint_training(session: Session, command: CheckpointTraining) -> None:
    """CHECKPOINT FEDERATED TRAINING: the last closed round of the last run that has one, in a new file.

    The file is there when the statement has ended, whatever becomes of its transaction, as with COPY.
    """
    session.require("federated_operator", "checkpoint federated training")
    session.require("pg_write_server_files", "write a file on the server")
    model = find_model(session, command.model)
    own_directory = server_files.data_directory()
    server_files.check_writable(command.path, own_directory)
    closed = _closed_round(session, model)
    header = _header(model, closed)
    digest = hashlib.sha256()
    with server_files.new_file(command.path, own_directory) as file:
        for some in write_checkpoint(header, _sealed(session, model, closed)):
            digest.update(some)
            file.write(some)
        file.sync()
        faults.reach("extension.checkpoint.synced")
        checkpoints.insert_checkpoint(
            session.connection, model, closed, command.path, header.size, digest.digest()
        )
        # Last, so that what fails before leaves no file.
        file.publish()
        faults.reach("extension.checkpoint.published")


def resume_training(session: Session, command: ResumeTraining) -> None:
    """RESUME FEDERATED TRAINING: the last run goes on; from a file, where it is not of that run as it stands,
    another run does."""
    session.require("federated_operator", "resume federated training")
    if command.path is not None:
        session.require("pg_read_server_files", "read a file on the server")
    catalog.hold_workspace(session.connection, command.model)
    model = find_model(session, command.model)
    if command.path is not None:
        _resume_from(session, model, command.path)
    else:
        _refuse_active(session, model)
        _resume_latest(session, model)
    catalog.notify_coordinator(session.connection)
    if not catalog.is_served(session.connection):
        session.warning("no coordinator serves this database yet; the run waits for one")


def _closed_round(session: Session, model: catalog.Model) -> ClosedRound:
    closed = checkpoints.hold_checkpoint(session.connection, model)
    if closed is None:
        raise FederatedError(
            ErrorCode.WRONG_STATE,
            f'federated model "{model.name}" has nothing to checkpoint',
            detail="None of its runs has closed a round.",
        )
    if closed.is_of_series:
        raise not_supported(
            "checkpoints of folds and searches are not supported yet",
            hint="A series goes on with its next run, whatever became of the one before.",
        )
    if not any(part.name == MANIFEST for part in closed.parts):
        raise FederatedError(
            ErrorCode.WRONG_STATE,
            f'round {closed.round} of federated model "{model.name}" cannot be checkpointed',
            detail="It was closed by a release that kept less of a round.",
            hint="The next round that is closed can be.",
        )
    return closed


def _header(model: catalog.Model, closed: ClosedRound) -> Header:
    return Header(
        workspace=model.workspace.name[:MOST_NAME_CHARACTERS],
        model=model.name[:MOST_NAME_CHARACTERS],
        run=closed.run,
        round=closed.round,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        parts=closed.parts,
    )


def _sealed(session: Session, model: catalog.Model, closed: ClosedRound) -> Iterator[bytes]:
    for part in closed.parts:
        for start in range(0, part.size, PIECE_BYTES):
            yield checkpoints.read_piece(session.connection, model, closed, part, start)


def _refuse_active(session: Session, model: catalog.Model) -> None:
    if catalog.is_in_training(session.connection, model):
        raise in_training(model)


def _resume_latest(session: Session, model: catalog.Model) -> None:
    latest = checkpoints.find_latest_run(session.connection, model)
    if latest is None:
        raise FederatedError(
            ErrorCode.WRONG_STATE,
            f'federated model "{model.name}" has no run to resume',
            detail="None of its runs has closed a round.",
            hint=f"START FEDERATED TRAINING {quote_name(model.name)} begins one.",
        )
    # A trigger refuses what cannot go on, whichever way it is asked to.
    checkpoints.resume_run(session.connection, latest.run)


def _resume_from(session: Session, model: catalog.Model, path: str) -> None:
    """Read the file once to the end before anything is made of it, and again only where it goes back to the
    catalog."""
    own_directory = server_files.data_directory()
    with server_files.existing_file(path, own_directory) as (file, size):
        header = read_header(file.read, size)
        _check_same(session, model, header)
        _refuse_erased(session, header)
        manifest = SealedDigest()
        for piece in read_pieces(file.read, header):
            if piece.part == MANIFEST:
                manifest.update(piece.content)
        _refuse_active(session, model)
        if _is_latest(session, model, header, manifest.digest()):
            checkpoints.resume_run(session.connection, header.run)
            return
        run = checkpoints.insert_resumed_run(session.connection, model, header.run, header.round)
        file.seek(len(header.to_bytes()))
        for piece in read_pieces(file.read, header):
            checkpoints.insert_piece(session.connection, run, piece)
    session.notice(
        "the checkpoint is not of the last run as it stands:"
        f" another run goes on from its round {header.round}"
    )


def _check_same(session: Session, model: catalog.Model, header: Header) -> None:
    if header.workspace != model.workspace.name:
        raise invalid_value(
            f'the checkpoint is of federated workspace "{header.workspace}", not "{model.workspace.name}"'
        )
    if header.model != model.name and not checkpoints.has_run(session.connection, model, header.run):
        raise invalid_value(f'the checkpoint is of federated model "{header.model}", not "{model.name}"')


def _refuse_erased(session: Session, header: Header) -> None:
    if checkpoints.is_erased(session.connection, header.run):
        raise FederatedError(
            ErrorCode.WRONG_STATE,
            f"the checkpoint is of run {header.run}, from which nothing goes on any more",
            detail="Data subjects were erased whose rows it had read.",
            hint="Destroy the file. START FEDERATED TRAINING trains without them.",
        )
    workspace, created_at = WorkspaceName(header.workspace), _time(header)
    if checkpoints.is_lost_before_erasure(session.connection, header.run, workspace, created_at):
        raise FederatedError(
            ErrorCode.WRONG_STATE,
            f"the checkpoint is of run {header.run}, which is not known here any more",
            detail="Data subjects were erased since it was written, and whether the run had read their rows"
            " cannot be told.",
            hint="START FEDERATED TRAINING trains without them.",
        )


def _time(header: Header) -> datetime:
    """When the file says that it was written; where it says nothing of use, before everything."""
    try:
        found = datetime.fromisoformat(header.created_at)
    except ValueError:
        return datetime.min.replace(tzinfo=UTC)
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def _is_latest(session: Session, model: catalog.Model, header: Header, manifest: bytes) -> bool:
    """Whether the file is of the last run's last closed round, and that run may go on."""
    latest = checkpoints.find_latest_run(session.connection, model)
    if latest is None or (latest.run, latest.round) != (header.run, header.round):
        return False
    if not checkpoints.is_manifest(session.connection, header.run, header.round, manifest):
        raise invalid_value(
            "the checkpoint is damaged or was changed",
            detail=f"Round {header.round} of run {header.run} is in the catalog, and is another.",
        )
    return latest.obstacle is None
