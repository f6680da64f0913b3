"""Statements about data subjects and about watching: erasure, export, consent, alerts."""

from __future__ import annotations

import base64
import binascii

from federated_sql.clause_values import SealedSubject, Subject
from federated_sql.clauses import (
    Rule,
    from_workspace,
    if_exists,
    if_not_exists,
    in_workspace,
    path,
    text,
    with_options,
)
from federated_sql.consent_options import MAX_PURPOSE_BYTES
from federated_sql.cursor import Cursor
from federated_sql.errors import ErrorCode, FederatedError, invalid_value
from federated_sql.lexer import Kind, Token
from federated_sql.statements import (
    AlertCondition,
    Command,
    CreateAlert,
    DropAlert,
    EraseSubjects,
    ExportSubject,
    GrantConsent,
    RevokeConsent,
)
from federated_sql.values import parse_number

MAX_SUBJECTS = 1_000
"""Most data subjects that one statement may name."""
MAX_SEALED_CHARACTERS = 8_192
MAX_CONDITIONS = 16

_OPERATORS = {"<": "<", "<=": "<=", ">": ">", ">=": ">=", "=": "=", "<>": "<>", "!=": "<>"}


def _erase_subjects(cursor: Cursor) -> Command:
    model = cursor.name("model")
    cursor.expect_words("where", "data_subject_id")
    if cursor.accept_words("in"):
        subjects = _subject_list(cursor)
    else:
        cursor.expect_symbol("=", "Subjects are named: data_subject_id = 's' or data_subject_id IN ('s', …).")
        subjects = (_subject(cursor),)
    return EraseSubjects(model, subjects, with_options(cursor))


def _subject_list(cursor: Cursor) -> tuple[Subject, ...]:
    """Consume `('s', …)`; a subject named twice is one subject."""
    opening = cursor.current
    cursor.expect_symbol("(")
    subjects = {_subject(cursor): None}
    while cursor.accept_symbol(","):
        subjects[_subject(cursor)] = None
    if len(subjects) > MAX_SUBJECTS:
        raise _too_many(f"a statement may not name more than {MAX_SUBJECTS} data subjects", opening)
    cursor.expect_symbol(")")
    return tuple(subjects)


def _too_many(message: str, at: Token | None) -> FederatedError:
    return FederatedError(ErrorCode.PROGRAM_LIMIT, message, position=at.position if at else None)


def _subject(cursor: Cursor) -> Subject:
    """Consume `'s'`, or `SEALED 'base64'`, which is what the proxy makes of it."""
    if not cursor.accept_words("sealed"):
        return text(cursor, "data subject")
    token = cursor.current
    sealed = text(cursor, "sealed data subject", MAX_SEALED_CHARACTERS)
    try:
        base64.b64decode(sealed, validate=True)
    except (binascii.Error, ValueError):
        error = invalid_value("the sealed data subject is not base64")
        position = token.position if token else None
        raise FederatedError(error.code, error.message, position=position) from None
    return SealedSubject(sealed)


def _for_subject(cursor: Cursor) -> Subject:
    cursor.expect_words("for", "subject")
    return _subject(cursor)


def _purpose(cursor: Cursor) -> str | None:
    return text(cursor, "purpose", MAX_PURPOSE_BYTES) if cursor.accept_words("purpose") else None


def _export_subject(cursor: Cursor) -> Command:
    subject = _for_subject(cursor)
    workspace = from_workspace(cursor)
    cursor.expect_words("to")
    target = path(cursor)
    form = text(cursor, "format").lower() if cursor.accept_words("format") else "json"
    return ExportSubject(subject, workspace, target, form)


def _grant_consent(cursor: Cursor) -> Command:
    subject = _for_subject(cursor)
    purpose = _purpose(cursor)
    workspace = in_workspace(cursor)
    version = text(cursor, "version", MAX_PURPOSE_BYTES) if cursor.accept_words("version") else None
    return GrantConsent(subject, workspace, purpose, version)


def _revoke_consent(cursor: Cursor) -> Command:
    subject = _for_subject(cursor)
    purpose = _purpose(cursor)
    return RevokeConsent(subject, from_workspace(cursor), purpose)


def _create_alert(cursor: Cursor) -> Command:
    unless = if_not_exists(cursor)
    name = cursor.name("alert")
    cursor.expect_words("on", "workspace")
    workspace = cursor.name("workspace")
    cursor.expect_words("when")
    conditions = [_condition(cursor)]
    while cursor.accept_words("and"):
        if len(conditions) == MAX_CONDITIONS:
            raise _too_many(f"an alert may not have more than {MAX_CONDITIONS} conditions", cursor.current)
        conditions.append(_condition(cursor))
    cursor.expect_words("notify")
    return CreateAlert(name, workspace, tuple(conditions), text(cursor, "address"), unless)


def _condition(cursor: Cursor) -> AlertCondition:
    metric = cursor.name("metric")
    token = cursor.current
    operator = _OPERATORS.get(token.text) if token is not None and token.kind is Kind.SYMBOL else None
    if operator is None:
        raise cursor.error("A condition is: metric op number, where op is <, <=, >, >=, = or <>.")
    cursor.index += 1
    return AlertCondition(metric, operator, parse_number(cursor))


def _drop_alert(cursor: Cursor) -> Command:
    where = if_exists(cursor)
    name = cursor.name("alert")
    workspace = None
    if cursor.accept_words("on"):
        cursor.expect_words("workspace")
        workspace = cursor.name("workspace")
    return DropAlert(name, workspace, where)


RULES = (
    Rule(
        "DELETE FROM FEDERATED TRAINING",
        "DELETE FROM FEDERATED TRAINING model WHERE data_subject_id = 's' | data_subject_id IN ('s', …)"
        " [WITH (option = value, …)]",
        _erase_subjects,
    ),
    Rule(
        "EXPORT FEDERATED DATA",
        "EXPORT FEDERATED DATA FOR SUBJECT 's' FROM WORKSPACE name TO 'path' [FORMAT 'json' | 'csv']",
        _export_subject,
    ),
    Rule(
        "GRANT FEDERATED CONSENT",
        "GRANT FEDERATED CONSENT FOR SUBJECT 's' [PURPOSE 'p'] IN WORKSPACE name [VERSION 'v']",
        _grant_consent,
    ),
    Rule(
        "REVOKE FEDERATED CONSENT",
        "REVOKE FEDERATED CONSENT FOR SUBJECT 's' [PURPOSE 'p'] FROM WORKSPACE name",
        _revoke_consent,
    ),
    Rule(
        "CREATE FEDERATED ALERT",
        "CREATE FEDERATED ALERT [IF NOT EXISTS] name ON WORKSPACE name WHEN metric op number [AND …] "
        "NOTIFY 'mail address' | 'https://…' | 'pg:channel'",
        _create_alert,
    ),
    Rule(
        "DROP FEDERATED ALERT",
        "DROP FEDERATED ALERT [IF EXISTS] name [ON WORKSPACE name]",
        _drop_alert,
    ),
)
