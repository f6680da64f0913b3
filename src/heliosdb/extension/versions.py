"""Statements about a model's versions: they choose among what runs have left, and write no numbers.

What always holds: functions follow by triggers on the rows (sql/versions.sql), in the caller's transaction.
"""

from __future__ import annotations

from federated_sql.errors import ErrorCode, FederatedError
from federated_sql.statements import DropTag, DropVersion, PromoteModel, RollbackModel, TagModel
from heliosdb.catalog import versions
from heliosdb.catalog.commands import Model
from heliosdb.extension.models import find_model, find_or_skip
from heliosdb.extension.session import Session


def tag_model(session: Session, command: TagModel) -> None:
    """TAG FEDERATED MODEL: a name for one version, the current one unless another is given."""
    session.require("federated_operator", "tag a federated model")
    model = find_model(session, command.model)
    if not command.tag.isprintable():
        raise FederatedError(ErrorCode.INVALID_NAME, "a tag must not contain unprintable characters")
    version = (
        _current(session, model)
        if command.version is None
        else versions.version_number(session.connection, model, str(command.version))
    )
    if not versions.insert_tag(session.connection, model, command.tag, version):
        _tag_again(session, model, command, version)
    elif not versions.has_numbers(session.connection, model, version):
        session.warning(
            f"version {version} was made by a release that kept no numbers: the tag predicts nothing"
        )


def drop_tag(session: Session, command: DropTag) -> None:
    """DROP FEDERATED MODEL … TAG: its function goes, the version stays."""
    session.require("federated_operator", "drop a tag of a federated model")
    model = find_or_skip(session, command.model, if_exists=command.if_exists)
    if model is None or versions.delete_tag(session.connection, model, command.tag, cascade=command.cascade):
        return
    missing = f'federated model "{model.name}" has no tag "{command.tag}"'
    if not command.if_exists:
        raise FederatedError(ErrorCode.UNDEFINED_OBJECT, missing)
    session.notice(f"{missing}, skipping")


def drop_version(session: Session, command: DropVersion) -> None:
    """DROP FEDERATED MODEL … VERSION: with its numbers and its function; never the current one."""
    session.require("federated_operator", "drop a version of a federated model")
    model = find_or_skip(session, command.model, if_exists=command.if_exists)
    if model is None:
        return
    if command.if_exists and not versions.has_version(session.connection, model, command.version):
        session.notice(f'federated model "{model.name}" has no version "{command.version}", skipping')
        return
    version = versions.version_number(session.connection, model, command.version)
    versions.delete_version(session.connection, model, version, cascade=command.cascade)


def promote_model(session: Session, command: PromoteModel) -> None:
    """PROMOTE FEDERATED MODEL: a version becomes what the model predicts."""
    session.require("federated_operator", "promote a version of a federated model")
    _make_current(session, find_model(session, command.model), command.version)


def rollback_model(session: Session, command: RollbackModel) -> None:
    """ROLLBACK FEDERATED MODEL: as PROMOTE; said of an earlier version."""
    session.require("federated_operator", "roll a federated model back")
    _make_current(session, find_model(session, command.model), command.version)


def _make_current(session: Session, model: Model, label: str) -> None:
    version = versions.version_number(session.connection, model, label)
    former = versions.current_version(session.connection, model)
    if version == former:
        session.notice(f'version {version} of federated model "{model.name}" is the current one already')
        return
    versions.make_current(session.connection, model, version)
    if former is not None and not versions.has_numbers(session.connection, model, former):
        session.warning(
            f"version {former} was made by a release that kept no numbers: there is no way back to it"
        )
    if versions.will_promote(session.connection, model):
        session.notice(
            f'federated model "{model.name}" is in training: the version of its run will be the current one'
        )


def _current(session: Session, model: Model) -> int:
    version = versions.current_version(session.connection, model)
    if version is None:
        raise FederatedError(
            ErrorCode.WRONG_STATE,
            f'federated model "{model.name}" has no trained version',
            hint="START FEDERATED TRAINING makes one.",
        )
    return version


def _tag_again(session: Session, model: Model, command: TagModel, version: int) -> None:
    """A tag that the version has already is no error; one that another version has is, but for REPLACE."""
    tagged = versions.tagged_version(session.connection, model, command.tag)
    if tagged == version:
        session.notice(
            f'version {version} of federated model "{model.name}" has the tag "{command.tag}" already'
        )
        return
    if command.replace:
        versions.move_tag(session.connection, model, command.tag, version)
        return
    raise FederatedError(
        ErrorCode.DUPLICATE_OBJECT,
        f'federated model "{model.name}" has the tag "{command.tag}" already',
        detail=f"It is version {tagged}.",
        hint="TAG … REPLACE moves it to another version.",
    )
