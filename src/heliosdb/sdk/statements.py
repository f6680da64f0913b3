"""Statements of the language, from names and options: text for `federated.execute`.

What always holds: what a caller gives stands in them as a quoted name or a literal, never as it is.
"""

from __future__ import annotations

from collections.abc import Mapping

from heliosdb.sdk.errors import invalid
from heliosdb.sdk.literals import name, options, string

Options = Mapping[str, object]
_WORKSPACE, _MODEL, _NODE = "the name of a workspace", "the name of a model", "the name of a node"
_VERSION, _TAG = "a version", "a tag"


def create_workspace(workspace: str, given: Options, *, if_not_exists: bool) -> str:
    """CREATE FEDERATED WORKSPACE."""
    return _join(
        "CREATE FEDERATED WORKSPACE", _unless(if_not_exists), name(workspace, _WORKSPACE), _with(given)
    )


def alter_workspace(workspace: str, given: Options) -> str:
    """ALTER FEDERATED WORKSPACE … SET."""
    return _join("ALTER FEDERATED WORKSPACE", name(workspace, _WORKSPACE), "SET", options(given))


def drop_workspace(workspace: str, *, cascade: bool) -> str:
    """DROP FEDERATED WORKSPACE."""
    return _join("DROP FEDERATED WORKSPACE", name(workspace, _WORKSPACE), _cascade(cascade))


def register_node(node: str, workspace: str, given: Options) -> str:
    """REGISTER FEDERATED NODE."""
    return _join("REGISTER FEDERATED NODE", string(node, _NODE), _in(workspace), _with(given))


def unregister_node(node: str, workspace: str) -> str:
    """UNREGISTER FEDERATED NODE."""
    return _join(
        "UNREGISTER FEDERATED NODE", string(node, _NODE), "FROM WORKSPACE", name(workspace, _WORKSPACE)
    )


def create_model(model: str, workspace: str | None, given: Options, *, if_not_exists: bool) -> str:
    """CREATE FEDERATED MODEL."""
    place = "" if workspace is None else _in(workspace)
    return _join("CREATE FEDERATED MODEL", _unless(if_not_exists), name(model, _MODEL), place, _with(given))


def alter_model(model: str, given: Options) -> str:
    """ALTER FEDERATED MODEL … SET."""
    return _join("ALTER FEDERATED MODEL", name(model, _MODEL), "SET", options(given))


def drop_model(model: str, *, cascade: bool) -> str:
    """DROP FEDERATED MODEL."""
    return _join("DROP FEDERATED MODEL", name(model, _MODEL), _cascade(cascade))


def start_training(model: str, given: Options) -> str:
    """START FEDERATED TRAINING."""
    return _join("START FEDERATED TRAINING", name(model, _MODEL), _with(given))


def stop_training(model: str) -> str:
    """STOP FEDERATED TRAINING."""
    return _join("STOP FEDERATED TRAINING", name(model, _MODEL))


def tag_model(model: str, tag: str, version: int | None, *, replace: bool) -> str:
    """TAG FEDERATED MODEL."""
    if isinstance(version, bool) or not isinstance(version, int | None):
        raise invalid("a version is tagged by its number", hint="versions() shows them.")
    number = "" if version is None else "VERSION " + int.__repr__(version)
    named = (name(model, _MODEL), number, "AS", string(tag, _TAG))
    return _join("TAG FEDERATED MODEL", *named, "REPLACE" if replace else "")


def promote_model(model: str, version: str | int) -> str:
    """PROMOTE FEDERATED MODEL."""
    return _join("PROMOTE FEDERATED MODEL", name(model, _MODEL), "VERSION", string(str(version), _VERSION))


def _join(*parts: str) -> str:
    return " ".join(part for part in parts if part)


def _unless(if_not_exists: bool) -> str:
    return "IF NOT EXISTS" if if_not_exists else ""


def _cascade(cascade: bool) -> str:
    return "CASCADE" if cascade else ""


def _in(workspace: str) -> str:
    return "IN WORKSPACE " + name(workspace, _WORKSPACE)


def _with(given: Options) -> str:
    return "WITH " + options(given) if given else ""
