"""What statements read and change of a model's versions and tags.

What always holds: a version's numbers come from a run; functions follow by triggers (sql/versions.sql), in
the caller's transaction.
"""

from __future__ import annotations

from heliosdb.catalog.commands import Model, drop_behavior
from heliosdb.catalog.connection import Connection, Statements

_SQL = Statements("versions.sql")


def current_version(connection: Connection, model: Model) -> int | None:
    """Return the number of a model's current version."""
    rows = _SQL.query(connection, "current_version", model.model_id)
    return int(rows[0]["version"]) if rows else None


def version_number(connection: Connection, model: Model, label: str) -> int:
    """Return the version that a tag or number names, or fail with 42704."""
    return int(_SQL.query(connection, "version_number", model.name, label)[0]["version"])


def has_version(connection: Connection, model: Model, label: str) -> bool:
    """Tell whether a tag or number names a version of the model."""
    return bool(_SQL.query(connection, "has_version", model.model_id, label)[0]["has_version"])


def tagged_version(connection: Connection, model: Model, tag: str) -> int | None:
    """Return the number of the version that has the tag."""
    rows = _SQL.query(connection, "tagged_version", model.model_id, tag)
    return int(rows[0]["version"]) if rows else None


def insert_tag(connection: Connection, model: Model, tag: str, version: int) -> bool:
    """Tag a version; False where the model has that tag."""
    return bool(_SQL.query(connection, "insert_tag", model.model_id, tag, version))


def move_tag(connection: Connection, model: Model, tag: str, version: int) -> None:
    """Give a tag of the model to another version; a trigger remakes its function."""
    _SQL.query(connection, "move_tag", model.model_id, tag, version)


def delete_tag(connection: Connection, model: Model, tag: str, *, cascade: bool) -> bool:
    """Delete a tag and its function; False where the model has no such tag."""
    with drop_behavior(connection, cascade=cascade):
        return bool(_SQL.query(connection, "delete_tag", model.model_id, tag))


def delete_version(connection: Connection, model: Model, version: int, *, cascade: bool) -> None:
    """Delete a version, its tags and their functions; triggers refuse the current one, and what is needed."""
    with drop_behavior(connection, cascade=cascade):
        _SQL.query(connection, "delete_version", model.model_id, version)


def has_numbers(connection: Connection, model: Model, version: int) -> bool:
    """Tell whether the numbers of a version were kept, so that it can have functions of its own."""
    return bool(_SQL.query(connection, "has_numbers", model.model_id, version)[0]["has_numbers"])


def make_current(connection: Connection, model: Model, version: int) -> None:
    """Make a version current; triggers retire the other one and remake the model's function."""
    _SQL.query(connection, "make_current", model.model_id, version)


def will_promote(connection: Connection, model: Model) -> bool:
    """Tell whether the model has a run that is queued or running and whose version is to be current."""
    return bool(_SQL.query(connection, "will_promote", model.model_id)[0]["will_promote"])
