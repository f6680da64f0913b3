"""Statements that answer with rows: EXPLAIN START FEDERATED TRAINING, and SHOW FEDERATED."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import get_args

from federated_sql.clauses import Rule, in_workspace, with_options
from federated_sql.cursor import Cursor
from federated_sql.errors import not_supported
from federated_sql.lexer import Token
from federated_sql.reading_statements import ExplainTraining, Format, Shown, ShowObjects
from federated_sql.statements import Command

EXPLAINED = ("explain", "start", "federated", "training")
"""The words of the statement; its options stand behind the first."""

_FORMATS: dict[str, Format] = {"text": "text", "json": "json"}
_OTHER_FORMATS = frozenset({"xml", "yaml"})
_OTHER_OPTIONS = frozenset(
    {"analyze", "analyse", "verbose", "costs", "settings", "generic_plan", "buffers"}
    | {"serialize", "wal", "timing", "summary", "memory"}
)
_NOT_RUN = (
    "A run is not carried out to be explained: leave it out. EXPLAIN (FORMAT TEXT | JSON) is what there is."
)


def explained(tokens: Sequence[Token]) -> int | None:
    """Return where behind EXPLAIN and its options the explained statement begins; None for no EXPLAIN."""
    if not tokens or tokens[0].word != EXPLAINED[0]:
        return None
    at, depth = 1, 0
    if len(tokens) > at and tokens[at].text == "(":
        while at < len(tokens):
            depth += (tokens[at].text == "(") - (tokens[at].text == ")")
            at += 1
            if depth == 0:
                break
        return at
    while at < len(tokens) and tokens[at].word in _OTHER_OPTIONS:
        at += 1
    return at


def _explain(cursor: Cursor) -> Command:
    cursor.index = 1
    form = _format(cursor)
    cursor.expect_words("start", "federated", "training")
    return ExplainTraining(cursor.name("model"), with_options(cursor), form)


def _format(cursor: Cursor) -> Format:
    token = cursor.current
    if token is not None and token.word in _OTHER_OPTIONS:
        raise _unsupported(token, token.word.upper())
    if not cursor.accept_symbol("("):
        return "text"
    token = cursor.current
    if token is not None and token.word in _OTHER_OPTIONS:
        raise _unsupported(token, token.word.upper())
    cursor.expect_words("format")
    form = _named_format(cursor)
    token = cursor.current
    following = cursor.tokens[cursor.index + 1] if cursor.at_symbol(",") and token else None
    if following is not None and following.word in _OTHER_OPTIONS:
        raise _unsupported(following, following.word.upper())
    cursor.expect_symbol(")")
    return form


def _named_format(cursor: Cursor) -> Format:
    token = cursor.current
    name = (token.word or token.text.strip("'").lower()) if token is not None else ""
    if token is not None and name in _OTHER_FORMATS:
        raise _unsupported(token, f"FORMAT {name.upper()}")
    if name not in _FORMATS:
        raise cursor.error("The formats are TEXT and JSON.")
    cursor.index += 1
    return _FORMATS[name]


def _unsupported(token: Token, what: str) -> Exception:
    return not_supported(
        f"EXPLAIN with {what} is not supported for federated training", hint=_NOT_RUN, position=token.position
    )


def _show(kind: Shown) -> Callable[[Cursor], Command]:
    def parse(cursor: Cursor) -> Command:
        return ShowObjects(kind, in_workspace(cursor) if cursor.at_words("in") else None)

    return parse


RULES = (
    Rule(
        "EXPLAIN",
        "EXPLAIN [(FORMAT TEXT | JSON)] START FEDERATED TRAINING model [WITH (option = value, …)]",
        _explain,
        EXPLAINED,
    ),
    *(
        Rule(
            "SHOW",
            "SHOW FEDERATED WORKSPACES | NODES | MODELS | RUNS | DATASETS [IN WORKSPACE name]",
            _show(kind),
            ("show", "federated", kind),
        )
        for kind in get_args(Shown)
    ),
)
