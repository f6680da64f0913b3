"""From `Command` to its canonical text: `parse(render(command)) == command`."""

from __future__ import annotations

import re
from collections.abc import Sequence

from federated_sql.errors import invalid_value
from federated_sql.lexer import Kind, scan
from federated_sql.statements import (
    COMMAND_TAGS,
    AlterModel,
    AlterNode,
    AlterWorkspace,
    Command,
    CreateDataset,
    CreateModel,
    CreateWorkspace,
    DropDataset,
    DropModel,
    DropWorkspace,
    Option,
    OptionValue,
    RegisterNode,
    StartTraining,
    StopTraining,
    Unbuilt,
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
    if isinstance(command, Unbuilt):
        return command.text
    return " ".join([COMMAND_TAGS[type(command)], *_clauses(command)])


def _clauses(command: Command) -> list[str]:  # noqa: PLR0911, PLR0912 - one return per statement
    match command:
        case CreateWorkspace(name, options, if_not_exists):
            return [*_flag("IF NOT EXISTS", if_not_exists), quote_name(name), *_with(options)]
        case AlterWorkspace(name, options) | AlterModel(name, options):
            return [quote_name(name), "SET", _list(options)]
        case DropWorkspace(name, if_exists, cascade) | DropModel(name, if_exists, cascade):
            return [*_flag("IF EXISTS", if_exists), quote_name(name), *_flag("CASCADE", cascade)]
        case RegisterNode(name, workspace, options):
            return [quote_string(name), "IN WORKSPACE", quote_name(workspace), *_with(options)]
        case AlterNode(name, workspace, options):
            return [quote_string(name), "IN WORKSPACE", quote_name(workspace), "SET", _list(options)]
        case UnregisterNode(name, workspace, if_exists):
            return [
                *_flag("IF EXISTS", if_exists),
                quote_string(name),
                "FROM WORKSPACE",
                quote_name(workspace),
            ]
        case CreateDataset():
            return _dataset_clauses(command)
        case DropDataset(name, if_exists):
            return [*_flag("IF EXISTS", if_exists), quote_name(name)]
        case CreateModel(name, workspace, options, if_not_exists):
            place = [] if workspace is None else ["IN WORKSPACE", quote_name(workspace)]
            return [*_flag("IF NOT EXISTS", if_not_exists), quote_name(name), *place, *_with(options)]
        case StartTraining(model, options):
            return [quote_name(model), *_with(options)]
        case StopTraining(model):
            return [quote_name(model)]
        case Unbuilt(_, text):
            return [text]
        case _:
            raise NotImplementedError


def _dataset_clauses(command: CreateDataset) -> list[str]:
    schema, table = command.table
    qualified = quote_name(table) if schema is None else f"{quote_name(schema)}.{quote_name(table)}"
    columns = [f"({', '.join(map(quote_name, command.columns))})"] if command.columns else []
    predicate = [] if command.predicate is None else [f"WHERE ({command.predicate})"]
    return [
        *_flag("IF NOT EXISTS", command.if_not_exists),
        quote_name(command.name),
        "FOR TABLE",
        qualified,
        *columns,
        *predicate,
        "IN WORKSPACE",
        quote_name(command.workspace),
        *_with(command.options),
    ]


def _flag(words: str, present: bool) -> list[str]:
    return [words] if present else []


def _with(options: Sequence[Option]) -> list[str]:
    return ["WITH", _list(options)] if options else []


def _list(options: Sequence[Option]) -> str:
    return f"({', '.join(f'{quote_name(option.name)} = {_value(option.value)}' for option in options)})"


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
