"""From `Command` to its canonical text: `parse(render(command)) == command`."""

from __future__ import annotations

import re
from collections.abc import Sequence

from federated_sql.clause_values import (
    Option,
    OptionName,
    OptionValue,
    RoleKeyword,
    RoleSpec,
    SealedSubject,
    Subject,
)
from federated_sql.compliance_statements import AttestCompliance
from federated_sql.errors import invalid_value
from federated_sql.lexer import Kind, scan
from federated_sql.reading_statements import ExplainTraining, ShowObjects
from federated_sql.serving_statements import (
    AlterSubscription,
    ArmShare,
    CreateExperiment,
    CreateSubscription,
    DropExperiment,
    DropSubscription,
    GrantSubscribe,
    RefreshSubscription,
    ResetSubscription,
    RevokeSubscribe,
)
from federated_sql.statements import (
    COMMAND_TAGS,
    AlertCondition,
    AlterDataset,
    AlterModel,
    AlterNode,
    AlterWorkspace,
    ChangeModelOwner,
    ChangeWorkspaceOwner,
    CheckpointTraining,
    Command,
    CreateAggregationFunction,
    CreateAlert,
    CreateDataset,
    CreateModel,
    CreateWorkspace,
    DropAggregationFunction,
    DropAlert,
    DropDataset,
    DropModel,
    DropTag,
    DropVersion,
    DropWorkspace,
    EraseSubjects,
    ExportSubject,
    GrantConsent,
    PromoteModel,
    RegisterNode,
    RenameModel,
    RenameWorkspace,
    ResetDataset,
    ResetModel,
    ResetNode,
    ResetWorkspace,
    ResumeTraining,
    RevokeConsent,
    RollbackModel,
    StartTraining,
    StopTraining,
    TagModel,
    UnregisterNode,
)

_PLAIN = re.compile(r"[a-z_][a-z0-9_]*")


def quote_name(name: str) -> str:
    """Return `name` as an identifier, quoted where it would not be read back as it is."""
    if _PLAIN.fullmatch(name):
        token = scan(name)[0]
        if token.kind is Kind.WORD and not token.reserved and name != "if":
            return name
    return '"' + name.replace('"', '""') + '"'


def quote_string(value: str) -> str:
    """Return `value` as a string literal (read with standard_conforming_strings on)."""
    return "'" + value.replace("'", "''") + "'"


def render(command: Command) -> str:
    """Return the canonical text of `command`, on one line, without a semicolon."""
    head = COMMAND_TAGS[type(command)]
    if isinstance(command, CreateAggregationFunction) and command.or_replace:
        head = head.replace("CREATE", "CREATE OR REPLACE", 1)
    for clauses in (
        _membership_clauses,
        _learning_clauses,
        _serving_clauses,
        _subject_clauses,
        _compliance_clauses,
        _reading_clauses,
    ):
        found = clauses(command)
        if found is not None:
            return " ".join([head, *found])
    raise AssertionError(f"no clauses for {type(command).__name__}")


def _membership_clauses(command: Command) -> list[str] | None:  # noqa: PLR0911 - one return per statement
    match command:
        case CreateWorkspace(name, options, if_not_exists):
            return [*_unless(if_not_exists), quote_name(name), *_with(options)]
        case (
            AlterWorkspace(name, set_, where)
            | AlterModel(name, set_, where)
            | AlterDataset(name, set_, where)
        ):
            return [*_where(where), quote_name(name), "SET", _list(set_)]
        case (
            ResetWorkspace(name, reset, where)
            | ResetModel(name, reset, where)
            | ResetDataset(name, reset, where)
        ):
            return [*_where(where), quote_name(name), "RESET", _names(reset)]
        case RenameWorkspace(name, new_name, if_exists) | RenameModel(name, new_name, if_exists):
            return [*_where(if_exists), quote_name(name), "RENAME TO", quote_name(new_name)]
        case ChangeWorkspaceOwner(name, owner, if_exists) | ChangeModelOwner(name, owner, if_exists):
            return [*_where(if_exists), quote_name(name), "OWNER TO", _role(owner)]
        case DropWorkspace(name, if_exists, cascade) | DropModel(name, if_exists, cascade):
            return [*_where(if_exists), quote_name(name), *_flag("CASCADE", cascade)]
        case RegisterNode(name, workspace, options, if_not_exists):
            return [*_unless(if_not_exists), quote_string(name), *_in(workspace), *_with(options)]
        case AlterNode(name, workspace, options, if_exists):
            return [*_where(if_exists), quote_string(name), *_in(workspace), "SET", _list(options)]
        case ResetNode(name, workspace, reset, where):
            return [*_where(where), quote_string(name), *_in(workspace), "RESET", _names(reset)]
        case UnregisterNode(name, workspace, if_exists):
            return [*_where(if_exists), quote_string(name), *_from(workspace)]
        case CreateDataset():
            return _dataset_clauses(command)
        case DropDataset(name, if_exists) | DropAggregationFunction(name, if_exists):
            return [*_where(if_exists), quote_name(name)]
    return None


def _learning_clauses(command: Command) -> list[str] | None:  # noqa: PLR0911 - one return per statement
    match command:
        case CreateModel(name, workspace, options, if_not_exists):
            place = [] if workspace is None else _in(workspace)
            return [*_unless(if_not_exists), quote_name(name), *place, *_with(options)]
        case StartTraining(model, options):
            return [quote_name(model), *_with(options)]
        case StopTraining(model):
            return [quote_name(model)]
        case CheckpointTraining(model, path):
            return [quote_name(model), "TO", quote_string(path)]
        case ResumeTraining(model, path):
            return [quote_name(model), *_text("FROM", path)]
        case TagModel(model, tag, version, replace):
            number = [] if version is None else ["VERSION", str(version)]
            return [quote_name(model), *number, "AS", quote_string(tag), *_flag("REPLACE", replace)]
        case DropTag(model, tag, if_exists, cascade):
            named = [quote_name(model), "TAG", quote_string(tag)]
            return [*_where(if_exists), *named, *_flag("CASCADE", cascade)]
        case DropVersion(model, version, if_exists, cascade):
            named = [quote_name(model), "VERSION", quote_string(version)]
            return [*_where(if_exists), *named, *_flag("CASCADE", cascade)]
        case PromoteModel(model, version):
            return [quote_name(model), "VERSION", quote_string(version)]
        case RollbackModel(model, version):
            return [quote_name(model), "TO VERSION", quote_string(version)]
        case CreateAggregationFunction(name, body, language):
            return [f"{quote_name(name)}() RETURNS FLOAT AS", _body(body), "LANGUAGE", quote_name(language)]
    return None


def _serving_clauses(command: Command) -> list[str] | None:  # noqa: PLR0911 - one return per statement
    match command:
        case CreateSubscription(name, model, workspace, options, if_not_exists):
            to = ["TO MODEL", quote_name(model), *_in(workspace)]
            return [*_unless(if_not_exists), quote_name(name), *to, *_with(options)]
        case AlterSubscription(name, options, if_exists):
            return [*_where(if_exists), quote_name(name), "SET", _list(options)]
        case ResetSubscription(name, reset, if_exists):
            return [*_where(if_exists), quote_name(name), "RESET", _names(reset)]
        case RefreshSubscription(name, if_exists):
            return [*_where(if_exists), quote_name(name), "REFRESH"]
        case DropSubscription(name, if_exists, cascade):
            return [*_where(if_exists), quote_name(name), *_flag("CASCADE", cascade)]
        case GrantSubscribe(model, node):
            return ["ON MODEL", quote_name(model), "TO", *_nodes(node)]
        case RevokeSubscribe(model, node):
            return ["ON MODEL", quote_name(model), "FROM", *_nodes(node)]
        case CreateExperiment(name, model, arms, options, if_not_exists):
            on = ["ON MODEL", quote_name(model), "VERSIONS", f"({', '.join(map(_arm, arms))})"]
            return [*_unless(if_not_exists), quote_name(name), *on, *_with(options)]
        case DropExperiment(name, if_exists):
            return [*_where(if_exists), quote_name(name)]
    return None


def _arm(arm: ArmShare) -> str:
    return f"{quote_string(arm.version)} => {arm.share!r}"


def _nodes(node: str | None) -> list[str]:
    return ["ALL NODES"] if node is None else ["NODE", quote_string(node)]


def _subject_clauses(command: Command) -> list[str] | None:  # noqa: PLR0911 - one return per statement
    match command:
        case EraseSubjects(model, subjects, options):
            return [quote_name(model), "WHERE data_subject_id", _subjects(subjects), *_with(options)]
        case ExportSubject(subject, workspace, path, form):
            return [*_subject(subject), *_from(workspace), *_text("TO", path), *_text("FORMAT", form)]
        case GrantConsent(subject, workspace, purpose, version):
            return [
                *_subject(subject),
                *_text("PURPOSE", purpose),
                *_in(workspace),
                *_text("VERSION", version),
            ]
        case RevokeConsent(subject, workspace, purpose):
            return [*_subject(subject), *_text("PURPOSE", purpose), *_from(workspace)]
        case CreateAlert():
            return _alert_clauses(command)
        case DropAlert(name, workspace, if_exists):
            place = [] if workspace is None else ["ON WORKSPACE", quote_name(workspace)]
            return [*_where(if_exists), quote_name(name), *place]
    return None


def _compliance_clauses(command: Command) -> list[str] | None:
    match command:
        case AttestCompliance(workspace, requirement, until, text):
            named = [*_text("FOR", requirement), *_text("UNTIL", until), *_text("AS", text)]
            return [quote_name(workspace), *named]
    return None


def _reading_clauses(command: Command) -> list[str] | None:
    match command:
        case ExplainTraining(model, options, form):
            shown = _flag("(FORMAT JSON)", form == "json")
            return [*shown, "START FEDERATED TRAINING", quote_name(model), *_with(options)]
        case ShowObjects(kind, workspace):
            return ["FEDERATED", kind.upper(), *([] if workspace is None else _in(workspace))]
    return None


def _alert_clauses(command: CreateAlert) -> list[str]:
    return [
        *_unless(command.if_not_exists),
        quote_name(command.name),
        "ON WORKSPACE",
        quote_name(command.workspace),
        "WHEN",
        " AND ".join(map(_condition, command.conditions)),
        "NOTIFY",
        quote_string(command.target),
    ]


def _condition(condition: AlertCondition) -> str:
    return f"{quote_name(condition.metric)} {condition.operator} {condition.value!r}"


def _subjects(subjects: Sequence[Subject]) -> str:
    listed = ", ".join(map(_named, subjects))
    return f"= {listed}" if len(subjects) == 1 else f"IN ({listed})"


def _body(text: str) -> str:
    """Return `text` between dollar quotes that it does not contain."""
    tags = ("", *(f"body{number}" for number in range(text.count("$") + 1)))
    tag = next(tag for tag in tags if f"${tag}$" not in text + "$")
    return f"${tag}${text}${tag}$"


def _dataset_clauses(command: CreateDataset) -> list[str]:
    schema, table = command.table
    qualified = quote_name(table) if schema is None else f"{quote_name(schema)}.{quote_name(table)}"
    columns = [f"({', '.join(map(quote_name, command.columns))})"] if command.columns else []
    predicate = [] if command.predicate is None else [f"WHERE ({command.predicate})"]
    return [
        *_unless(command.if_not_exists),
        quote_name(command.name),
        "FOR TABLE",
        qualified,
        *columns,
        *predicate,
        *_in(command.workspace),
        *_with(command.options),
    ]


def _flag(words: str, present: bool) -> list[str]:
    return [words] if present else []


def _where(if_exists: bool) -> list[str]:
    return _flag("IF EXISTS", if_exists)


def _unless(if_not_exists: bool) -> list[str]:
    return _flag("IF NOT EXISTS", if_not_exists)


def _in(workspace: str) -> list[str]:
    return ["IN WORKSPACE", quote_name(workspace)]


def _from(workspace: str) -> list[str]:
    return ["FROM WORKSPACE", quote_name(workspace)]


def _subject(subject: Subject) -> list[str]:
    return ["FOR SUBJECT", _named(subject)]


def _named(subject: Subject) -> str:
    if isinstance(subject, SealedSubject):
        return f"SEALED {quote_string(subject.sealed)}"
    return quote_string(subject)


def _text(words: str, value: str | None) -> list[str]:
    return [] if value is None else [words, quote_string(value)]


def _role(role: RoleSpec) -> str:
    return role.value.upper() if isinstance(role, RoleKeyword) else quote_name(role)


def _with(options: Sequence[Option]) -> list[str]:
    return ["WITH", _list(options)] if options else []


def _list(options: Sequence[Option]) -> str:
    return f"({', '.join(f'{quote_name(option.name)} = {_value(option.value)}' for option in options)})"


def _names(options: Sequence[OptionName]) -> str:
    return f"({', '.join(quote_name(option.name) for option in options)})"


def _value(value: OptionValue) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return quote_string(value)
    if value is None:
        raise invalid_value("an option has no null value")
    return repr(value)
