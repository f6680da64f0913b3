"""From text to `Command`: one rule per statement, found by its leading keywords.

What always holds: `parse` takes exactly one statement and returns one command or raises a `FederatedError`;
the same table of leading keywords tells the proxy which statements are ours.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from federated_sql import (
    rules_compliance,
    rules_learning,
    rules_membership,
    rules_reading,
    rules_serving,
    rules_subjects,
)
from federated_sql.clauses import Rule
from federated_sql.cursor import Cursor
from federated_sql.errors import FederatedError
from federated_sql.instead import FOREIGN_VERBS, instead_of
from federated_sql.lexer import Kind, Token, scan
from federated_sql.statements import Command

MAX_STATEMENT_TOKENS = 20_000
"""Most tokens of one statement: some thousand options and features."""

RULES: dict[tuple[str, ...], Rule] = {
    rule.key: rule
    for rule in (
        *rules_membership.RULES,
        *rules_learning.RULES,
        *rules_serving.RULES,
        *rules_subjects.RULES,
        *rules_compliance.RULES,
        *rules_reading.RULES,
    )
}
_DELETE = RULES["delete", "from", "federated", "training"]
_EXPLAIN = RULES[rules_reading.EXPLAINED]
_LONGEST_KEY = max(map(len, RULES))

# In stock PostgreSQL `GRANT federated TO …` is about a role, `DELETE FROM federated …` about a table and
# `SHOW federated.x` about a setting; behind any other verb of ours the word FEDERATED is a syntax error.
_CERTAIN_VERBS = frozenset(key[0] for key in RULES) - {"grant", "revoke", "delete", "show"} | FOREIGN_VERBS


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
    cursor.index = len(rule.key)
    command = rule.parse(cursor)
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
    EXPLAIN is ours before START FEDERATED, which PostgreSQL cannot explain.
    """
    at = rules_reading.explained(tokens)
    if at is not None:
        return _EXPLAIN if leading_words(tokens[at : at + 2]) == ("start", "federated") else None
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
