"""From text to `Command`: one rule per statement, found by its leading keywords.

What always holds: `parse` takes exactly one statement and returns one command or raises a `FederatedError`;
the same table of leading keywords tells the proxy which statements are ours.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from federated_sql import interim
from federated_sql.cursor import Cursor
from federated_sql.errors import FederatedError, not_supported
from federated_sql.instead import FOREIGN_VERBS, instead_of
from federated_sql.lexer import Kind, Token, scan
from federated_sql.predicate import parse_predicate
from federated_sql.statements import (
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
    RegisterNode,
    StartTraining,
    StopTraining,
    Unbuilt,
    UnregisterNode,
)
from federated_sql.values import parse_options

MAX_STATEMENT_TOKENS = 20_000
"""Most tokens of one statement: some thousand options and features."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One statement: its command tag, its form for hints, and its parser (None: recognised, not built)."""

    tag: str
    shape: str
    parse: Callable[[Cursor], Command] | None = None


def parse(text: str) -> Command:
    """Return the command that `text`, one statement with or without a trailing semicolon, asks for.

    Raises FederatedError: 42601 with a position for what the language does not know, 42602 for a name that
    cannot be one, 54000 for a text over 1 MiB.
    """
    cursor = Cursor(text, _single_statement(text))
    rule = leading_rule(cursor.tokens)
    if rule is None:
        raise _unknown_statement(cursor)
    cursor.shape = rule.shape
    if rule.tag in interim.RULES:
        cursor.index = len(rule.tag.split()) + 2 * cursor.at_words("create", "or", "replace")
        command = interim.RULES[rule.tag](cursor)
        cursor.expect_end()
        return command
    if rule.parse is None:
        return _unbuilt(cursor, rule.tag)
    cursor.index = len(rule.tag.split())
    command = rule.parse(cursor)
    if not isinstance(command, Unbuilt):
        cursor.expect_end()
    return command


def _single_statement(text: str) -> Sequence[Token]:
    tokens = scan(text, MAX_STATEMENT_TOKENS)
    while tokens and tokens[-1].text == ";":
        tokens.pop()
    for token in tokens:
        if token.text == ";":
            raise Cursor(text, tokens).error("One statement at a time.", at=token)
    return tokens


def leading_words(tokens: Sequence[Token]) -> tuple[str, ...]:
    """Return the unquoted words that begin a statement, as many as a rule may have."""
    words: list[str] = []
    for token in tokens[:_LONGEST_KEY]:
        if not token.word:
            break
        words.append(token.word)
    return tuple(words)


def leading_rule(tokens: Sequence[Token]) -> Rule | None:
    """Return the rule whose keywords begin these tokens.

    DELETE needs the model's name too: `DELETE FROM federated training WHERE …` is a table with an alias.
    """
    words = leading_words(tokens)
    for length in range(len(words), 1, -1):
        rule = RULES.get(words[:length])
        if rule is not None:
            named = rule is not _DELETE or (len(tokens) > length and _may_be_name(tokens[length]))
            return rule if named else None
    return None


def leading_tag(tokens: Sequence[Token]) -> str | None:
    """Return the tag of the statement of ours that these tokens begin, None for any other statement.

    A misspelt one (`CREATE FEDERATED WORKSPAC w`) is ours too as far as PostgreSQL cannot mean it.
    """
    rule = leading_rule(tokens)
    if rule is not None:
        return rule.tag
    words = leading_words(tokens)
    for lead in ((words[0], "federated"), ("create", "or", "replace", "federated")) if words else ():
        if words[: len(lead)] == lead and words[0] in _CERTAIN_VERBS and len(tokens) > len(lead):
            return " ".join(lead).upper()
    if (
        words[:2] == ("show", "federated") and len(words) > 2
    ):  # `SHOW federated` and `SHOW federated.x` are not
        return "SHOW FEDERATED"
    return None


def _may_be_name(token: Token) -> bool:
    return token.kind is Kind.QUOTED or (token.kind is Kind.WORD and not token.reserved)


def _unknown_statement(cursor: Cursor) -> FederatedError:
    words = leading_words(cursor.tokens)
    instead = instead_of(words)
    best, best_length = None, 0
    for key in RULES:
        length = sum(1 for ours, theirs in zip(key, words, strict=False) if ours == theirs)
        if length > best_length and key[0] == words[0]:
            best, best_length = key, length
    cursor.index = _common_prefix(best, words) if best else 0
    verbs = sorted({key[0] for key in RULES})
    if instead is not None:
        return cursor.error(instead)
    if best is None:
        near = difflib.get_close_matches(words[0], verbs, 1, 0.7) if words else []
        return cursor.error(f"Did you mean {near[0].upper()}?" if near else None)
    if cursor.index == len(best):
        return cursor.error(f"The statement is: {RULES[best].shape}")
    candidates = [key for key in RULES if key[: cursor.index] == words[: cursor.index]]
    following = sorted({key[cursor.index].upper() for key in candidates if len(key) > cursor.index})
    typed = words[cursor.index].upper() if cursor.index < len(words) else ""
    near = difflib.get_close_matches(typed, following, 1, 0.7)
    if near:
        return cursor.error(f"Did you mean {near[0]}?")
    return cursor.error(f"Expected {' or '.join(following)}." if following else None)


def _common_prefix(key: Sequence[str], words: Sequence[str]) -> int:
    for index, (ours, theirs) in enumerate(zip(key, words, strict=False)):
        if ours != theirs:
            return index
    return min(len(key), len(words))


def _unbuilt(cursor: Cursor, tag: str) -> Unbuilt:
    """Take the statement as typed; that its parts were scanned is all that is known of them."""
    cursor.index = len(cursor.tokens)
    return Unbuilt(tag, cursor.text[cursor.tokens[0].start : cursor.tokens[-1].end])


def _with_options(cursor: Cursor) -> tuple[Option, ...]:
    return parse_options(cursor) if cursor.accept_words("with") else ()


def _set_options(cursor: Cursor) -> tuple[Option, ...]:
    cursor.expect_words("set")
    return parse_options(cursor)


def _in_workspace(cursor: Cursor) -> str:
    cursor.expect_words("in", "workspace")
    return cursor.name("workspace")


def _cascade(cursor: Cursor) -> bool:
    return cursor.accept_words("cascade") or (cursor.accept_words("restrict") and False)


def _refuse_if(cursor: Cursor, *words: str) -> None:
    """Refuse an IF [NOT] EXISTS that PostgreSQL users may try and that is not built here."""
    token = cursor.current
    if token is not None and cursor.at_words(*words):
        raise not_supported(f"{' '.join(words).upper()} is not supported here", position=token.position)


def _create_workspace(cursor: Cursor) -> Command:
    if_not_exists = cursor.accept_words("if", "not", "exists")
    name = cursor.name("workspace")
    return CreateWorkspace(name, _with_options(cursor), if_not_exists)


def _alter_workspace(cursor: Cursor) -> Command:
    _refuse_if(cursor, "if", "exists")
    name = cursor.name("workspace")
    if _renames(cursor):
        return _unbuilt(cursor, "ALTER FEDERATED WORKSPACE")
    return AlterWorkspace(name, _set_options(cursor))


def _renames(cursor: Cursor) -> bool:
    return cursor.at_words("rename", "to") or cursor.at_words("owner", "to")


def _drop_workspace(cursor: Cursor) -> Command:
    if_exists = cursor.accept_words("if", "exists")
    return DropWorkspace(cursor.name("workspace"), if_exists, _cascade(cursor))


def _register_node(cursor: Cursor) -> Command:
    _refuse_if(cursor, "if", "not", "exists")
    name = cursor.string_name("node")
    workspace = _in_workspace(cursor)
    return RegisterNode(name, workspace, _with_options(cursor))


def _alter_node(cursor: Cursor) -> Command:
    _refuse_if(cursor, "if", "exists")
    name = cursor.string_name("node")
    workspace = _in_workspace(cursor)
    return AlterNode(name, workspace, _set_options(cursor))


def _unregister_node(cursor: Cursor) -> Command:
    if_exists = cursor.accept_words("if", "exists")
    name = cursor.string_name("node")
    cursor.expect_words("from", "workspace")
    return UnregisterNode(name, cursor.name("workspace"), if_exists)


def _create_dataset(cursor: Cursor) -> Command:
    if_not_exists = cursor.accept_words("if", "not", "exists")
    name = cursor.name("dataset")
    cursor.expect_words("for", "table")
    table: tuple[str | None, str] = (None, cursor.name("table"))
    if cursor.accept_symbol("."):
        table = (table[1], cursor.label("table"))
    columns = _columns(cursor)
    predicate = parse_predicate(cursor) if cursor.accept_words("where") else None
    workspace = _in_workspace(cursor)
    return CreateDataset(name, table, workspace, columns, predicate, _with_options(cursor), if_not_exists)


def _columns(cursor: Cursor) -> tuple[str, ...]:
    if not cursor.accept_symbol("("):
        return ()
    columns: list[str] = []
    while True:
        token = cursor.current
        columns.append(cursor.name("column"))
        if columns[-1] in columns[:-1]:
            raise cursor.error(f'The column "{columns[-1]}" is listed twice.', at=token)
        if not cursor.accept_symbol(","):
            break
    cursor.expect_symbol(")")
    return tuple(columns)


def _drop_dataset(cursor: Cursor) -> Command:
    if_exists = cursor.accept_words("if", "exists")
    return DropDataset(cursor.name("dataset"), if_exists)


def _create_model(cursor: Cursor) -> Command:
    if_not_exists = cursor.accept_words("if", "not", "exists")
    name = cursor.name("model")
    workspace = _in_workspace(cursor) if cursor.at_words("in") else None
    return CreateModel(name, workspace, _with_options(cursor), if_not_exists)


def _alter_model(cursor: Cursor) -> Command:
    _refuse_if(cursor, "if", "exists")
    name = cursor.name("model")
    if _renames(cursor):
        return _unbuilt(cursor, "ALTER FEDERATED MODEL")
    return AlterModel(name, _set_options(cursor))


def _drop_model(cursor: Cursor) -> Command:
    if_exists = cursor.accept_words("if", "exists")
    return DropModel(cursor.name("model"), if_exists, _cascade(cursor))


def _start_training(cursor: Cursor) -> Command:
    return StartTraining(cursor.name("model"), _with_options(cursor))


def _stop_training(cursor: Cursor) -> Command:
    return StopTraining(cursor.name("model"))


_RULES = (
    Rule(
        "CREATE FEDERATED WORKSPACE",
        "CREATE FEDERATED WORKSPACE [IF NOT EXISTS] name [WITH (option = value, …)]",
        _create_workspace,
    ),
    Rule(
        "ALTER FEDERATED WORKSPACE",
        "ALTER FEDERATED WORKSPACE name SET (option = value, …) | RENAME TO name | OWNER TO role",
        _alter_workspace,
    ),
    Rule("DROP FEDERATED WORKSPACE", "DROP FEDERATED WORKSPACE [IF EXISTS] name [CASCADE]", _drop_workspace),
    Rule(
        "REGISTER FEDERATED NODE",
        "REGISTER FEDERATED NODE 'name' IN WORKSPACE name [WITH (option = value, …)]",
        _register_node,
    ),
    Rule(
        "ALTER FEDERATED NODE",
        "ALTER FEDERATED NODE 'name' IN WORKSPACE name SET (option = value, …)",
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
    Rule("DROP FEDERATED DATASET", "DROP FEDERATED DATASET [IF EXISTS] name", _drop_dataset),
    Rule(
        "CREATE FEDERATED MODEL",
        "CREATE FEDERATED MODEL [IF NOT EXISTS] name [IN WORKSPACE name] [WITH (option = value, …)]",
        _create_model,
    ),
    Rule(
        "ALTER FEDERATED MODEL",
        "ALTER FEDERATED MODEL name SET (option = value, …) | RENAME TO name | OWNER TO role",
        _alter_model,
    ),
    Rule("DROP FEDERATED MODEL", "DROP FEDERATED MODEL [IF EXISTS] name [CASCADE]", _drop_model),
    Rule(
        "START FEDERATED TRAINING",
        "START FEDERATED TRAINING model [WITH (option = value, …)]",
        _start_training,
    ),
    Rule("STOP FEDERATED TRAINING", "STOP FEDERATED TRAINING model", _stop_training),
    Rule("CHECKPOINT FEDERATED TRAINING", "CHECKPOINT FEDERATED TRAINING model TO 'path'"),
    Rule("RESUME FEDERATED TRAINING", "RESUME FEDERATED TRAINING model [FROM 'path']"),
    Rule("TAG FEDERATED MODEL", "TAG FEDERATED MODEL model [VERSION n] AS 'tag'"),
    Rule("ROLLBACK FEDERATED MODEL", "ROLLBACK FEDERATED MODEL model TO VERSION 'tag or n'"),
    Rule(
        "CREATE FEDERATED AGGREGATION FUNCTION",
        "CREATE [OR REPLACE] FEDERATED AGGREGATION FUNCTION name() RETURNS FLOAT AS $$…$$ LANGUAGE language",
    ),
    Rule("DROP FEDERATED AGGREGATION FUNCTION", "DROP FEDERATED AGGREGATION FUNCTION name"),
    Rule("EXPORT FEDERATED DATA", "EXPORT FEDERATED DATA FOR SUBJECT 's' FROM WORKSPACE name TO 'path'"),
    Rule("GRANT FEDERATED CONSENT", "GRANT FEDERATED CONSENT FOR SUBJECT 's' IN WORKSPACE name"),
    Rule("REVOKE FEDERATED CONSENT", "REVOKE FEDERATED CONSENT FOR SUBJECT 's' FROM WORKSPACE name"),
    Rule(
        "CREATE FEDERATED ALERT",
        "CREATE FEDERATED ALERT name ON WORKSPACE name WHEN metric op number NOTIFY 'address'",
    ),
    Rule("DROP FEDERATED ALERT", "DROP FEDERATED ALERT name [ON WORKSPACE name]"),
)
_DELETE = Rule(
    "DELETE FROM FEDERATED TRAINING", "DELETE FROM FEDERATED TRAINING model WHERE data_subject_id = 's'"
)

RULES: dict[tuple[str, ...], Rule] = {tuple(rule.tag.lower().split()): rule for rule in (*_RULES, _DELETE)}
RULES["create", "or", "replace", "federated", "aggregation", "function"] = RULES[
    "create", "federated", "aggregation", "function"
]
_LONGEST_KEY = max(map(len, RULES))

# In stock PostgreSQL `GRANT federated TO …` is about a role and `DELETE FROM federated …` about a table;
# behind any other verb of ours the word FEDERATED is a syntax error.
_CERTAIN_VERBS = frozenset(key[0] for key in RULES) - {"grant", "revoke", "delete"} | FOREIGN_VERBS
