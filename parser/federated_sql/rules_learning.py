"""Statements about what is learned: models, their training, their versions, aggregation functions."""

from __future__ import annotations

from federated_sql.clauses import (
    Rule,
    cascade,
    if_exists,
    if_not_exists,
    in_workspace,
    path,
    reset_options,
    role,
    set_options,
    text,
    with_options,
)
from federated_sql.cursor import Cursor
from federated_sql.errors import ErrorCode, FederatedError
from federated_sql.lexer import Kind
from federated_sql.statements import (
    AlterModel,
    ChangeModelOwner,
    CheckpointTraining,
    Command,
    CreateAggregationFunction,
    CreateModel,
    DropAggregationFunction,
    DropModel,
    DropTag,
    DropVersion,
    PromoteModel,
    RenameModel,
    ResetModel,
    ResumeTraining,
    RollbackModel,
    StartTraining,
    StopTraining,
    TagModel,
)

MAX_VERSION = 2**31 - 1
"""Versions are counted in PostgreSQL's integer."""
MAX_BODY_BYTES = 262_144
"""Longest body of an aggregation function."""


def _create_model(cursor: Cursor) -> Command:
    unless = if_not_exists(cursor)
    name = cursor.name("model")
    workspace = in_workspace(cursor) if cursor.at_words("in") else None
    return CreateModel(name, workspace, with_options(cursor), unless)


def _alter_model(cursor: Cursor) -> Command:
    where = if_exists(cursor)
    name = cursor.name("model")
    if cursor.accept_words("rename", "to"):
        return RenameModel(name, cursor.name("model"), where)
    if cursor.accept_words("owner", "to"):
        return ChangeModelOwner(name, role(cursor), where)
    if reset := reset_options(cursor):
        return ResetModel(name, reset, where)
    return AlterModel(name, set_options(cursor), where)


def _drop_model(cursor: Cursor) -> Command:
    where = if_exists(cursor)
    model = cursor.name("model")
    if cursor.accept_words("version"):
        return DropVersion(model, _version_or_tag(cursor), where, cascade(cursor))
    if cursor.accept_words("tag"):
        return DropTag(model, cursor.string_name("tag"), where, cascade(cursor))
    return DropModel(model, where, cascade(cursor))


def _start_training(cursor: Cursor) -> Command:
    return StartTraining(cursor.name("model"), with_options(cursor))


def _stop_training(cursor: Cursor) -> Command:
    return StopTraining(cursor.name("model"))


def _checkpoint_training(cursor: Cursor) -> Command:
    model = cursor.name("model")
    cursor.expect_words("to")
    return CheckpointTraining(model, path(cursor))


def _resume_training(cursor: Cursor) -> Command:
    model = cursor.name("model")
    return ResumeTraining(model, path(cursor) if cursor.accept_words("from") else None)


def _tag_model(cursor: Cursor) -> Command:
    model = cursor.name("model")
    version = _version(cursor) if cursor.accept_words("version") else None
    cursor.expect_words("as")
    return TagModel(model, cursor.string_name("tag"), version, cursor.accept_words("replace"))


def _version(cursor: Cursor) -> int:
    token = cursor.current
    if token is None or token.kind is not Kind.NUMBER or not token.text.isdigit():
        raise cursor.error("A version is a whole number; a tag stands in single quotes.")
    if len(token.text) > 10 or not 1 <= int(token.text) <= MAX_VERSION:
        raise FederatedError(
            ErrorCode.INVALID_VALUE,
            f"version {token.text[:40]} is out of range",
            detail=f"Versions are numbered from 1 to {MAX_VERSION}.",
            position=token.position,
        )
    cursor.index += 1
    return int(token.text)


def _rollback_model(cursor: Cursor) -> Command:
    model = cursor.name("model")
    cursor.expect_words("to", "version")
    return RollbackModel(model, _version_or_tag(cursor))


def _promote_model(cursor: Cursor) -> Command:
    model = cursor.name("model")
    cursor.expect_words("version")
    return PromoteModel(model, _version_or_tag(cursor))


def _version_or_tag(cursor: Cursor) -> str:
    token = cursor.current
    if token is not None and token.kind is Kind.NUMBER:
        return str(_version(cursor))
    return cursor.string_name("version")


def _create_function(cursor: Cursor) -> Command:
    return _function(cursor, or_replace=False)


def _create_or_replace_function(cursor: Cursor) -> Command:
    return _function(cursor, or_replace=True)


def _function(cursor: Cursor, *, or_replace: bool) -> Command:
    name = cursor.name("aggregation function")
    cursor.expect_symbol("(")
    cursor.expect_symbol(")", "An aggregation function has no declared arguments.")
    cursor.expect_words("returns")
    _float_type(cursor)
    language = _language(cursor)
    cursor.expect_words("as")
    body = text(cursor, "function body", MAX_BODY_BYTES)
    return CreateAggregationFunction(name, body, language or _required_language(cursor), or_replace)


def _float_type(cursor: Cursor) -> None:
    if not (
        cursor.accept_words("float")
        or cursor.accept_words("float8")
        or cursor.accept_words("double", "precision")
    ):
        raise cursor.error("An aggregation function RETURNS FLOAT.")


def _language(cursor: Cursor) -> str | None:
    """Consume `LANGUAGE name` if it comes next; as in PostgreSQL the name may be a string."""
    if not cursor.accept_words("language"):
        return None
    token = cursor.current
    quoted = token is not None and token.kind is Kind.STRING
    return cursor.string_name("language") if quoted else cursor.name("language")


def _required_language(cursor: Cursor) -> str:
    language = _language(cursor)
    if language is None:
        raise cursor.error()
    return language


def _drop_function(cursor: Cursor) -> Command:
    where = if_exists(cursor)
    name = cursor.name("aggregation function")
    if cursor.accept_symbol("("):
        cursor.expect_symbol(")")
    return DropAggregationFunction(name, where)


_FUNCTION_SHAPE = (
    "CREATE [OR REPLACE] FEDERATED AGGREGATION FUNCTION name() RETURNS FLOAT AS $$…$$ LANGUAGE language"
)

RULES = (
    Rule(
        "CREATE FEDERATED MODEL",
        "CREATE FEDERATED MODEL [IF NOT EXISTS] name [IN WORKSPACE name] [WITH (option = value, …)]",
        _create_model,
    ),
    Rule(
        "ALTER FEDERATED MODEL",
        "ALTER FEDERATED MODEL [IF EXISTS] name SET (option = value, …) | RESET (option, …) | RENAME TO name "
        "| OWNER TO role",
        _alter_model,
    ),
    Rule(
        "DROP FEDERATED MODEL",
        "DROP FEDERATED MODEL [IF EXISTS] name [VERSION n | 'tag' | TAG 'tag'] [CASCADE]",
        _drop_model,
    ),
    Rule(
        "START FEDERATED TRAINING",
        "START FEDERATED TRAINING model [WITH (option = value, …)]",
        _start_training,
    ),
    Rule("STOP FEDERATED TRAINING", "STOP FEDERATED TRAINING model", _stop_training),
    Rule(
        "CHECKPOINT FEDERATED TRAINING",
        "CHECKPOINT FEDERATED TRAINING model TO 'path'",
        _checkpoint_training,
    ),
    Rule("RESUME FEDERATED TRAINING", "RESUME FEDERATED TRAINING model [FROM 'path']", _resume_training),
    Rule("TAG FEDERATED MODEL", "TAG FEDERATED MODEL model [VERSION n] AS 'tag' [REPLACE]", _tag_model),
    Rule("PROMOTE FEDERATED MODEL", "PROMOTE FEDERATED MODEL model VERSION n | 'tag'", _promote_model),
    Rule(
        "ROLLBACK FEDERATED MODEL",
        "ROLLBACK FEDERATED MODEL model TO VERSION 'tag or n'",
        _rollback_model,
    ),
    Rule("CREATE FEDERATED AGGREGATION FUNCTION", _FUNCTION_SHAPE, _create_function),
    Rule(
        "CREATE FEDERATED AGGREGATION FUNCTION",
        _FUNCTION_SHAPE,
        _create_or_replace_function,
        ("create", "or", "replace", "federated", "aggregation", "function"),
    ),
    Rule(
        "DROP FEDERATED AGGREGATION FUNCTION",
        "DROP FEDERATED AGGREGATION FUNCTION [IF EXISTS] name",
        _drop_function,
    ),
)
