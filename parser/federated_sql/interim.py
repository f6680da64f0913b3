"""Minimal rules for statements whose full grammar is being written: to be replaced by those of `grammar`."""

from __future__ import annotations

from collections.abc import Callable

from federated_sql.cursor import Cursor
from federated_sql.lexer import Kind
from federated_sql.statements import (
    AlertCondition,
    AlterModel,
    AlterNode,
    AlterWorkspace,
    ChangeModelOwner,
    ChangeWorkspaceOwner,
    CheckpointTraining,
    Command,
    CreateAggregationFunction,
    CreateAlert,
    DropAggregationFunction,
    DropAlert,
    EraseSubjects,
    ExportSubject,
    GrantConsent,
    RegisterNode,
    RenameModel,
    RenameWorkspace,
    ResumeTraining,
    RevokeConsent,
    RollbackModel,
    TagModel,
)
from federated_sql.values import parse_options


def _exists(cursor: Cursor) -> bool:
    return cursor.accept_words("if", "exists")


def _alter_workspace(cursor: Cursor) -> Command:
    if_exists, name = _exists(cursor), cursor.name("workspace")
    if cursor.accept_words("rename", "to"):
        return RenameWorkspace(name, cursor.name("workspace"), if_exists)
    if cursor.accept_words("owner", "to"):
        return ChangeWorkspaceOwner(name, cursor.name("role"), if_exists)
    cursor.expect_words("set")
    return AlterWorkspace(name, parse_options(cursor), if_exists)


def _alter_model(cursor: Cursor) -> Command:
    if_exists, name = _exists(cursor), cursor.name("model")
    if cursor.accept_words("rename", "to"):
        return RenameModel(name, cursor.name("model"), if_exists)
    if cursor.accept_words("owner", "to"):
        return ChangeModelOwner(name, cursor.name("role"), if_exists)
    cursor.expect_words("set")
    return AlterModel(name, parse_options(cursor), if_exists)


def _register(cursor: Cursor) -> Command:
    missing = cursor.accept_words("if", "not", "exists")
    name = cursor.string_name("node")
    cursor.expect_words("in", "workspace")
    workspace = cursor.name("workspace")
    options = parse_options(cursor) if cursor.accept_words("with") else ()
    return RegisterNode(name, workspace, options, missing)


def _alter_node(cursor: Cursor) -> Command:
    if_exists, name = _exists(cursor), cursor.string_name("node")
    cursor.expect_words("in", "workspace")
    workspace = cursor.name("workspace")
    cursor.expect_words("set")
    return AlterNode(name, workspace, parse_options(cursor), if_exists)


def _checkpoint(cursor: Cursor) -> Command:
    model = cursor.name("model")
    cursor.expect_words("to")
    return CheckpointTraining(model, cursor.string())


def _resume(cursor: Cursor) -> Command:
    model = cursor.name("model")
    return ResumeTraining(model, cursor.string() if cursor.accept_words("from") else None)


def _integer(cursor: Cursor) -> int:
    token = cursor.current
    if token is None or token.kind is not Kind.NUMBER or not token.text.isdigit():
        raise cursor.error()
    cursor.index += 1
    return int(token.text)


def _tag(cursor: Cursor) -> Command:
    model = cursor.name("model")
    version = _integer(cursor) if cursor.accept_words("version") else None
    cursor.expect_words("as")
    return TagModel(model, cursor.string(), version)


def _rollback(cursor: Cursor) -> Command:
    model = cursor.name("model")
    cursor.expect_words("to", "version")
    token = cursor.current
    number = token is not None and token.kind is Kind.NUMBER
    return RollbackModel(model, str(_integer(cursor)) if number else cursor.string())


def _aggregation(cursor: Cursor) -> Command:
    or_replace = cursor.tokens[1].word == "or"
    name = cursor.name("function")
    cursor.expect_symbol("(")
    cursor.expect_symbol(")")
    cursor.expect_words("returns", "float", "as")
    body = cursor.string()
    cursor.expect_words("language")
    return CreateAggregationFunction(name, body, cursor.label("language"), or_replace)


def _drop_aggregation(cursor: Cursor) -> Command:
    if_exists = _exists(cursor)
    return DropAggregationFunction(cursor.name("function"), if_exists)


def _erase(cursor: Cursor) -> Command:
    model = cursor.name("model")
    cursor.expect_words("where", "data_subject_id")
    if cursor.accept_symbol("="):
        return EraseSubjects(model, (cursor.string(),))
    cursor.expect_words("in")
    cursor.expect_symbol("(")
    subjects = [cursor.string()]
    while cursor.accept_symbol(","):
        subjects.append(cursor.string())
    cursor.expect_symbol(")")
    return EraseSubjects(model, tuple(subjects))


def _export(cursor: Cursor) -> Command:
    cursor.expect_words("for", "subject")
    subject = cursor.string()
    cursor.expect_words("from", "workspace")
    workspace = cursor.name("workspace")
    cursor.expect_words("to")
    path = cursor.string()
    return ExportSubject(
        subject, workspace, path, cursor.string() if cursor.accept_words("format") else "json"
    )


def _grant(cursor: Cursor) -> Command:
    cursor.expect_words("for", "subject")
    subject = cursor.string()
    purpose = cursor.string() if cursor.accept_words("purpose") else None
    cursor.expect_words("in", "workspace")
    workspace = cursor.name("workspace")
    return GrantConsent(
        subject, workspace, purpose, cursor.string() if cursor.accept_words("version") else None
    )


def _revoke(cursor: Cursor) -> Command:
    cursor.expect_words("for", "subject")
    subject = cursor.string()
    purpose = cursor.string() if cursor.accept_words("purpose") else None
    cursor.expect_words("from", "workspace")
    return RevokeConsent(subject, cursor.name("workspace"), purpose)


def _condition(cursor: Cursor) -> AlertCondition:
    metric = cursor.name("metric")
    operator = ""
    while cursor.current is not None and cursor.current.kind is Kind.SYMBOL:
        operator += cursor.current.text
        cursor.index += 1
    token = cursor.current
    if token is None or token.kind is not Kind.NUMBER:
        raise cursor.error()
    cursor.index += 1
    return AlertCondition(metric, operator, float(token.text))


def _alert(cursor: Cursor) -> Command:
    missing = cursor.accept_words("if", "not", "exists")
    name = cursor.name("alert")
    cursor.expect_words("on", "workspace")
    workspace = cursor.name("workspace")
    cursor.expect_words("when")
    conditions = [_condition(cursor)]
    while cursor.accept_words("and"):
        conditions.append(_condition(cursor))
    cursor.expect_words("notify")
    return CreateAlert(name, workspace, tuple(conditions), cursor.string(), missing)


def _drop_alert(cursor: Cursor) -> Command:
    if_exists = _exists(cursor)
    name = cursor.name("alert")
    workspace = cursor.name("workspace") if cursor.accept_words("on", "workspace") else None
    return DropAlert(name, workspace, if_exists)


RULES: dict[str, Callable[[Cursor], Command]] = {
    "ALTER FEDERATED WORKSPACE": _alter_workspace,
    "ALTER FEDERATED MODEL": _alter_model,
    "REGISTER FEDERATED NODE": _register,
    "ALTER FEDERATED NODE": _alter_node,
    "CHECKPOINT FEDERATED TRAINING": _checkpoint,
    "RESUME FEDERATED TRAINING": _resume,
    "TAG FEDERATED MODEL": _tag,
    "ROLLBACK FEDERATED MODEL": _rollback,
    "CREATE FEDERATED AGGREGATION FUNCTION": _aggregation,
    "DROP FEDERATED AGGREGATION FUNCTION": _drop_aggregation,
    "DELETE FROM FEDERATED TRAINING": _erase,
    "EXPORT FEDERATED DATA": _export,
    "GRANT FEDERATED CONSENT": _grant,
    "REVOKE FEDERATED CONSENT": _revoke,
    "CREATE FEDERATED ALERT": _alert,
    "DROP FEDERATED ALERT": _drop_alert,
}
