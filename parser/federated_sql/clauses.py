"""Clauses that several statements share, and the `Rule` that ties a statement's words to its parser."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from federated_sql.clause_values import Option, OptionName, RoleKeyword, RoleSpec
from federated_sql.cursor import Cursor
from federated_sql.errors import FederatedError, invalid_value
from federated_sql.statements import (
    Command,
)
from federated_sql.values import parse_names, parse_options

MAX_TEXT_BYTES = 1_024
"""Longest free text of a clause: a data subject, a purpose, a tag, an address."""
MAX_PATH_BYTES = 4_095
"""Linux's PATH_MAX - 1."""

_ROLE_KEYWORDS = {keyword.value: keyword for keyword in RoleKeyword}


@dataclass(frozen=True, slots=True)
class Rule:
    """One statement: its command tag, its form for hints, and its parser.

    `words` are the unquoted words that it begins with, where they are others than the tag's. The parser is
    called behind them.
    """

    tag: str
    shape: str
    parse: Callable[[Cursor], Command]
    words: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[str, ...]:
        """The folded words that the statement begins with."""
        return self.words or tuple(self.tag.lower().split())


def with_options(cursor: Cursor) -> tuple[Option, ...]:
    """Consume `WITH (…)` if it comes next."""
    return parse_options(cursor) if cursor.accept_words("with") else ()


def set_options(cursor: Cursor) -> tuple[Option, ...]:
    """Consume `SET (…)`."""
    cursor.expect_words("set")
    return parse_options(cursor)


def reset_options(cursor: Cursor) -> tuple[OptionName, ...]:
    """Consume `RESET (…)` if it comes next; it names something, so that () says that it does not."""
    return parse_names(cursor) if cursor.accept_words("reset") else ()


def in_workspace(cursor: Cursor) -> str:
    """Consume `IN WORKSPACE name`."""
    cursor.expect_words("in", "workspace")
    return cursor.name("workspace")


def from_workspace(cursor: Cursor) -> str:
    """Consume `FROM WORKSPACE name`."""
    cursor.expect_words("from", "workspace")
    return cursor.name("workspace")


def if_exists(cursor: Cursor) -> bool:
    """Consume `IF EXISTS` if it comes next."""
    return cursor.accept_words("if", "exists")


def if_not_exists(cursor: Cursor) -> bool:
    """Consume `IF NOT EXISTS` if it comes next."""
    return cursor.accept_words("if", "not", "exists")


def cascade(cursor: Cursor) -> bool:
    """Consume `CASCADE`, or `RESTRICT`, which is what happens anyway."""
    return cursor.accept_words("cascade") or (cursor.accept_words("restrict") and False)


def role(cursor: Cursor) -> RoleSpec:
    """Consume a role's name, or CURRENT_USER, CURRENT_ROLE or SESSION_USER."""
    token = cursor.current
    keyword = _ROLE_KEYWORDS.get(token.word) if token is not None else None
    if keyword is None:
        return cursor.name("role")
    cursor.index += 1
    return keyword


def text(cursor: Cursor, what: str, most: int = MAX_TEXT_BYTES) -> str:
    """Consume a string that says `what`; raise 22023 where it is empty or longer than `most` bytes."""
    token = cursor.current
    value = cursor.string()
    size = len(value.encode())
    if value.strip() and size <= most:
        return value
    error = invalid_value(
        f"a {what} may not be empty" if size <= most else f"the {what} is too long",
        detail=None if size <= most else f"It has {size} bytes; at most {most} are allowed.",
    )
    raise FederatedError(
        error.code, error.message, detail=error.detail, position=token.position if token else None
    )


def path(cursor: Cursor) -> str:
    """Consume a string that is a path on the database server; whether it may be used is the server's word."""
    return text(cursor, "path", MAX_PATH_BYTES)
