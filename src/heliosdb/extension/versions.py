"""Statements about a model's versions: they choose among what runs have left, and write no numbers.

What always holds: functions follow by triggers on the rows (sql/versions.sql), in the caller's transaction.
"""

from __future__ import annotations

from federated_sql.errors import ErrorCode, FederatedError
from federated_sql.statements import RollbackModel, TagModel
from heliosdb.catalog import commands as catalog
from heliosdb.extension.models import find_model
from heliosdb.extension.session import Session


def tag_model(session: Session, command: TagModel) -> None:
    """TAG FEDERATED MODEL: a name for one version, the current one unless another is given, for good."""
    session.require("federated_operator", "tag a federated model")
    model = find_model(session, command.model)
    if not command.tag.isprintable():
        raise FederatedError(ErrorCode.INVALID_NAME, "a tag must not contain unprintable characters")
    version = (
        _current(session, model)
        if command.version is None
        else catalog.version_number(session.connection, model, str(command.version))
    )
    if not catalog.insert_tag(session.connection, model, command.tag, version):
        _accept_same(session, model, command.tag, version)
    elif not catalog.has_numbers(session.connection, model, version):
        session.warning(
            f"version {version} was made by a release that kept no numbers: the tag predicts nothing"
        )


def rollback_model(session: Session, command: RollbackModel) -> None:
    """ROLLBACK FEDERATED MODEL: an earlier version, or a later one, becomes what the model predicts."""
    session.require("federated_operator", "roll a federated model back")
    model = find_model(session, command.model)
    version = catalog.version_number(session.connection, model, command.version)
    if version == catalog.current_version(session.connection, model):
        session.notice(f'version {version} of federated model "{model.name}" is the current one already')
        return
    former = catalog.current_version(session.connection, model)
    catalog.make_current(session.connection, model, version)
    if former is not None and not catalog.has_numbers(session.connection, model, former):
        session.warning(
            f"version {former} was made by a release that kept no numbers: there is no way back to it"
        )
    if catalog.is_in_training(session.connection, model):
        session.notice(
            f'federated model "{model.name}" is in training: the version of its run will be the current one'
        )


def _current(session: Session, model: catalog.Model) -> int:
    version = catalog.current_version(session.connection, model)
    if version is None:
        raise FederatedError(
            ErrorCode.WRONG_STATE,
            f'federated model "{model.name}" has no trained version',
            hint="START FEDERATED TRAINING makes one.",
        )
    return version


def _accept_same(session: Session, model: catalog.Model, tag: str, version: int) -> None:
    """A tag that the version has already is no error; one that another version has is."""
    tagged = catalog.tagged_version(session.connection, model, tag)
    if tagged == version:
        session.notice(f'version {version} of federated model "{model.name}" has the tag "{tag}" already')
        return
    raise FederatedError(
        ErrorCode.DUPLICATE_OBJECT,
        f'federated model "{model.name}" has the tag "{tag}" already',
        detail=f"It is version {tagged}.",
        hint="A tag stays with its version: choose another one.",
    )
