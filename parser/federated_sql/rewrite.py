"""What the proxy changes in a query: FEDERATED statements become calls, predictions call the model's
function.

What always holds: all text outside the changed places is kept character by character; nothing inside strings,
comments, dollar quotes and function bodies is looked at; on any doubt the text is left as it is; the number
and the order of statements stay.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from federated_sql.errors import FederatedError
from federated_sql.grammar import leading_tag
from federated_sql.lexer import Token, scan
from federated_sql.postgres import MAX_PARSE_TOKENS
from federated_sql.predict_calls import Edit, grammar_tree, mentions_prediction, predict_edits

_DOLLAR_NUMBER = re.compile(r"\$federated(\d*)")
_MARK = b"federated"
_OURS = re.compile(r"(?i)federated(?:_predict|(?![\w$]))")


@dataclass(frozen=True, slots=True)
class Rewrite:
    """A changed query: its new text, one tag per statement (None: not ours), and the way back for positions.

    starts: 0-based offset of each statement in the original. edits: in original coordinates, ascending,
    disjoint.
    """

    text: str
    tags: tuple[str | None, ...]
    original: str
    starts: tuple[int, ...]
    edits: tuple[Edit, ...]

    def original_position(self, position: int) -> int:
        """Map a 1-based position in the new text to the user's text; inside a change: to its start."""
        shift = 0
        for edit in self.edits:
            begin = edit.start + shift
            if position <= begin:
                break
            if position <= begin + len(edit.replacement):
                return min(edit.start, max(len(self.original) - 1, 0)) + 1
            shift += len(edit.replacement) - (edit.end - edit.start)
        return min(position - shift, len(self.original) + 1)

    def predicts(self, index: int) -> bool:
        """Whether statement `index` (0-based) is not ours but calls a model's function that was put there."""
        if index >= len(self.tags) or self.tags[index] is not None:
            return False
        end = self.starts[index + 1] if index + 1 < len(self.starts) else len(self.original)
        return any(self.starts[index] <= edit.start < end for edit in self.edits)

    def statement_position(self, index: int, position: int) -> int:
        """Map a 1-based position in the text passed to `federated.execute` by statement `index` (0-based)."""
        return self.starts[index] + position


def may_concern(raw: bytes) -> bool:
    """Whether `raw` is worth a `rewrite`: the cheap gate for every query."""
    return _MARK in raw or _MARK in raw.lower()


def rewrite(text: str) -> Rewrite | None:
    """Return the changed query, None where nothing is ours or anything is in doubt."""
    if _OURS.search(text) is None:
        return None
    try:
        tokens = scan(text)
    except FederatedError:
        return None
    edits: list[Edit] = []
    tags: list[str | None] = []
    starts: list[int] = []
    call = _Quoter(text)
    statements = list(split(tokens))
    predicting = _predicting(statements)
    for number, statement in enumerate(statements):
        tag = leading_tag(statement)
        tags.append(tag)
        starts.append(statement[0].start)
        if tag is not None:
            edits.append(call.edit(statement[0].start, statement[-1].end))
        elif not _is_whole(text, statement):
            return None
        elif number in predicting:
            edits.extend(predict_edits(text, statement))
    if not edits:
        return None
    return Rewrite(apply_edits(text, edits), tuple(tags), text, tuple(starts), tuple(edits))


def _predicting(statements: Sequence[Sequence[Token]]) -> frozenset[int]:
    """Which statements the grammar looks at for predictions: none where all together are too much work.

    The proxy serves all its clients from one loop, which a text of thousands of predictions would hold up.
    """
    found = [number for number, statement in enumerate(statements) if mentions_prediction(statement)]
    work = sum(len(statements[number]) for number in found)
    return frozenset(found) if work <= MAX_PARSE_TOKENS else frozenset()


class _Quoter:
    """Wraps statements of one text into CALL, with a dollar quote that the text does not contain."""

    def __init__(self, text: str) -> None:
        self._text = text
        used = set(_DOLLAR_NUMBER.findall(text))
        number = next(number for number in ("", *map(str, range(len(used) + 1))) if number not in used)
        self._quote = f"$federated{number}$"

    def edit(self, start: int, end: int) -> Edit:
        quoted = f"{self._quote}{self._text[start:end]}{self._quote}"
        return Edit(start, end, f"CALL federated.execute({quoted})")


def apply_edits(text: str, edits: Sequence[Edit]) -> str:
    """Return `text` with ascending, disjoint edits made."""
    parts: list[str] = []
    done = 0
    for edit in edits:
        parts += (text[done : edit.start], edit.replacement)
        done = edit.end
    return "".join([*parts, text[done:]])


def split(tokens: Sequence[Token]) -> Iterator[list[Token]]:
    """Yield the tokens of each statement that is not empty, without semicolons.

    A semicolon ends a statement unless it stands in parentheses (CREATE RULE) or in BEGIN ATOMIC … END.
    """
    statement: list[Token] = []
    depth = body = 0
    for index, token in enumerate(tokens):
        if token.text == ";" and depth == 0 and body == 0:
            if statement:
                yield statement
            statement = []
            continue
        statement.append(token)
        if token.text == "(":
            depth += 1
        elif token.text == ")":
            depth = max(depth - 1, 0)
        elif token.word:
            body = _body_depth(tokens, index, body, statement)
    if statement:
        yield statement


def _body_depth(tokens: Sequence[Token], index: int, body: int, statement: Sequence[Token]) -> int:
    """Follow BEGIN ATOMIC, CASE and END within a function's SQL body."""
    word = tokens[index].word
    if body == 0:
        begins = word == "begin" and index + 1 < len(tokens) and tokens[index + 1].word == "atomic"
        return 1 if begins and _creates_routine(statement) else 0
    if word == "case":
        return body + 1
    label = index > 0 and (tokens[index - 1].word == "as" or tokens[index - 1].text == ".")
    return body - 1 if word == "end" and not label else body


def _creates_routine(statement: Sequence[Token]) -> bool:
    words = [token.word for token in statement[:4]]
    if words[1:3] == ["or", "replace"]:
        del words[1:3]
    return words[:1] == ["create"] and words[1:2] in (["function"], ["procedure"])


def _is_whole(text: str, statement: Sequence[Token]) -> bool:
    """Whether a routine with a SQL body was cut where PostgreSQL's grammar would cut it too."""
    if not _creates_routine(statement) or not any(token.word == "atomic" for token in statement):
        return True
    try:
        return len(grammar_tree(text, statement)) == 1
    except FederatedError:
        return False
