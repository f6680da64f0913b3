"""The predicate of a shared dataset: the user's own SQL expression, taken as text.

What always holds: a predicate that passes is one expression of PostgreSQL's grammar; it closes no
parenthesis, ends no statement and adds no clause, so that `WHERE (<predicate>)` means what it seems to mean.
"""

from __future__ import annotations

from typing import Any

from federated_sql.cursor import Cursor
from federated_sql.errors import ErrorCode, FederatedError, syntax_error
from federated_sql.lexer import Token
from federated_sql.postgres import parse_tree

MAX_PREDICATE_TOKENS = 2_000
_OPEN = {"(": ")", "[": "]"}
_HEAD = "SELECT 1 WHERE (\n"
_ELSEWHERE = (
    "fromClause",
    "groupClause",
    "havingClause",
    "windowClause",
    "valuesLists",
    "sortClause",
    "limitOffset",
    "limitCount",
    "lockingClause",
    "withClause",
    "intoClause",
    "distinctClause",
    "larg",
)


def parse_predicate(cursor: Cursor) -> str:
    """Consume `(predicate)` and return the text between the parentheses, checked by PostgreSQL's grammar."""
    opening = cursor.current
    cursor.expect_symbol("(", "The predicate stands in parentheses: WHERE (…).")
    inside = _balanced(cursor)
    if not inside or opening is None:
        raise cursor.error("The predicate is empty.")
    if len(inside) > MAX_PREDICATE_TOKENS:
        raise FederatedError(
            ErrorCode.PROGRAM_LIMIT,
            f"a predicate may not have more than {MAX_PREDICATE_TOKENS} tokens",
            position=opening.position,
        )
    for token in inside:
        if token.text[0] == "$" and token.text[1:].isdigit():
            raise syntax_error("a predicate may not contain parameters", position=token.position)
    start = inside[0].start
    predicate = cursor.text[start : inside[-1].end]
    where = _check(predicate, start, len(inside))
    if _is_scalar_query(where) and inside[0].text != "(":
        raise cursor.error("A sub-select needs parentheses of its own.", at=inside[0])
    cursor.expect_symbol(")")
    return predicate


def _balanced(cursor: Cursor) -> list[Token]:
    """Consume up to the parenthesis that closes the one just consumed."""
    first = cursor.index
    closers = [")"]
    while (token := cursor.current) is not None:
        if token.text in _OPEN:
            closers.append(_OPEN[token.text])
        elif token.text in (")", "]"):
            if token.text != closers.pop():
                raise cursor.error()
            if not closers:
                return list(cursor.tokens[first : cursor.index])
        cursor.index += 1
    raise cursor.error()


def _check(predicate: str, start: int, tokens: int) -> Any:
    """Return the syntax tree of the expression."""
    try:
        tree = parse_tree(f"{_HEAD}{predicate}\n)", tokens + 8)
    except FederatedError as error:
        moved = None if error.position is None else error.position - len(_HEAD) + start
        raise FederatedError(error.code, error.message, position=moved) from None
    if len(tree) != 1 or not _is_bare_where(tree[0].stmt):
        raise syntax_error("the predicate is not a single expression", position=start + 1)
    return tree[0].stmt.whereClause


def _is_scalar_query(expression: Any) -> bool:
    return type(expression).__name__ == "SubLink" and expression.subLinkType.name == "EXPR_SUBLINK"


def _is_bare_where(statement: Any) -> bool:
    if type(statement).__name__ != "SelectStmt" or statement.whereClause is None:
        return False
    return not any(getattr(statement, part, None) for part in _ELSEWHERE)
