"""Statements about who takes part and with what: workspaces, nodes, datasets."""

from __future__ import annotations

from federated_sql.clauses import (
    Rule,
    cascade,
    from_workspace,
    if_exists,
    if_not_exists,
    in_workspace,
    reset_options,
    role,
    set_options,
    with_options,
)
from federated_sql.cursor import Cursor
from federated_sql.predicate import parse_predicate
from federated_sql.statements import (
    AlterDataset,
    AlterNode,
    AlterWorkspace,
    ChangeWorkspaceOwner,
    Command,
    CreateDataset,
    CreateWorkspace,
    DropDataset,
    DropWorkspace,
    RegisterNode,
    RenameWorkspace,
    ResetDataset,
    ResetNode,
    ResetWorkspace,
    UnregisterNode,
)


def _create_workspace(cursor: Cursor) -> Command:
    unless = if_not_exists(cursor)
    name = cursor.name("workspace")
    return CreateWorkspace(name, with_options(cursor), unless)


def _alter_workspace(cursor: Cursor) -> Command:
    where = if_exists(cursor)
    name = cursor.name("workspace")
    if cursor.accept_words("rename", "to"):
        return RenameWorkspace(name, cursor.name("workspace"), where)
    if cursor.accept_words("owner", "to"):
        return ChangeWorkspaceOwner(name, role(cursor), where)
    if reset := reset_options(cursor):
        return ResetWorkspace(name, reset, where)
    return AlterWorkspace(name, set_options(cursor), where)


def _drop_workspace(cursor: Cursor) -> Command:
    where = if_exists(cursor)
    return DropWorkspace(cursor.name("workspace"), where, cascade(cursor))


def _register_node(cursor: Cursor) -> Command:
    unless = if_not_exists(cursor)
    name = cursor.string_name("node")
    workspace = in_workspace(cursor)
    return RegisterNode(name, workspace, with_options(cursor), unless)


def _alter_node(cursor: Cursor) -> Command:
    where = if_exists(cursor)
    name = cursor.string_name("node")
    workspace = in_workspace(cursor)
    if reset := reset_options(cursor):
        return ResetNode(name, workspace, reset, where)
    return AlterNode(name, workspace, set_options(cursor), where)


def _unregister_node(cursor: Cursor) -> Command:
    where = if_exists(cursor)
    name = cursor.string_name("node")
    return UnregisterNode(name, from_workspace(cursor), where)


def _create_dataset(cursor: Cursor) -> Command:
    unless = if_not_exists(cursor)
    name = cursor.name("dataset")
    cursor.expect_words("for", "table")
    table: tuple[str | None, str] = (None, cursor.name("table"))
    if cursor.accept_symbol("."):
        table = (table[1], cursor.label("table"))
    columns = _columns(cursor)
    predicate = parse_predicate(cursor) if cursor.accept_words("where") else None
    workspace = in_workspace(cursor)
    return CreateDataset(name, table, workspace, columns, predicate, with_options(cursor), unless)


def _columns(cursor: Cursor) -> tuple[str, ...]:
    if not cursor.accept_symbol("("):
        return ()
    columns: dict[str, None] = {}
    while True:
        token = cursor.current
        column = cursor.name("column")
        if column in columns:
            raise cursor.error(f'The column "{column}" is listed twice.', at=token)
        columns[column] = None
        if not cursor.accept_symbol(","):
            break
    cursor.expect_symbol(")")
    return tuple(columns)


def _alter_dataset(cursor: Cursor) -> Command:
    where = if_exists(cursor)
    name = cursor.name("dataset")
    if reset := reset_options(cursor):
        return ResetDataset(name, reset, where)
    return AlterDataset(name, set_options(cursor), where)


def _drop_dataset(cursor: Cursor) -> Command:
    where = if_exists(cursor)
    return DropDataset(cursor.name("dataset"), where)


RULES = (
    Rule(
        "CREATE FEDERATED WORKSPACE",
        "CREATE FEDERATED WORKSPACE [IF NOT EXISTS] name [WITH (option = value, …)]",
        _create_workspace,
    ),
    Rule(
        "ALTER FEDERATED WORKSPACE",
        "ALTER FEDERATED WORKSPACE [IF EXISTS] name SET (option = value, …) | RESET (option, …) "
        "| RENAME TO name | OWNER TO role",
        _alter_workspace,
    ),
    Rule("DROP FEDERATED WORKSPACE", "DROP FEDERATED WORKSPACE [IF EXISTS] name [CASCADE]", _drop_workspace),
    Rule(
        "REGISTER FEDERATED NODE",
        "REGISTER FEDERATED NODE [IF NOT EXISTS] 'name' IN WORKSPACE name [WITH (option = value, …)]",
        _register_node,
    ),
    Rule(
        "ALTER FEDERATED NODE",
        "ALTER FEDERATED NODE [IF EXISTS] 'name' IN WORKSPACE name SET (option = value, …) "
        "| RESET (option, …)",
        _alter_node,
    ),
    Rule(
        "UNREGISTER FEDERATED NODE",
        "UNREGISTER FEDERATED NODE [IF EXISTS] 'name' FROM WORKSPACE name",
        _unregister_node,
    ),
    Rule(
        "CREATE FEDERATED DATASET",
        "CREATE FEDERATED DATASET [IF NOT EXISTS] name FOR TABLE table [(column, …)] [WHERE (predicate)] "
        "IN WORKSPACE name [WITH (option = value, …)]",
        _create_dataset,
    ),
    Rule(
        "ALTER FEDERATED DATASET",
        "ALTER FEDERATED DATASET [IF EXISTS] name SET (option = value, …) | RESET (option, …)",
        _alter_dataset,
    ),
    Rule("DROP FEDERATED DATASET", "DROP FEDERATED DATASET [IF EXISTS] name", _drop_dataset),
)
