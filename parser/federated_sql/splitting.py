"""Where the statements of a text begin and end.

What always holds: a semicolon ends a statement unless it stands in parentheses (CREATE RULE) or in
BEGIN ATOMIC … END, as psql and the server cut it; one pass over the scanner's tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from federated_sql.postgres import RawToken

_COMMENTS = frozenset({"SQL_COMMENT", "C_COMMENT"})
_SEMICOLON, _OPEN, _CLOSE, _DOT = (f"ASCII_{ord(symbol)}" for symbol in ";().")
_ROUTINE = (["FUNCTION"], ["PROCEDURE"])


class Part(NamedTuple):
    """The tokens of one statement that is not empty: raw[first:last], comments within included.

    tokens: how many there are, comments aside. atomic: it is a routine with a SQL body, in which semicolons
    end nothing.
    """

    first: int
    last: int
    tokens: int
    atomic: bool


def split(text: str, raw: Sequence[RawToken]) -> Iterator[Part]:
    """Yield the parts of `text`, whose tokens are `raw`, without semicolons."""
    words = _Words(text, raw)
    first, last, tokens = 0, 0, 0
    depth = body = 0
    atomic = False
    for index, (_, _, name, _) in enumerate(raw):
        if name in _COMMENTS:
            continue
        if name == _SEMICOLON and depth == 0 and body == 0:
            if tokens:
                yield Part(first, last, tokens, atomic)
            tokens, atomic = 0, False
            continue
        if not tokens:
            first = index
        last, tokens = index + 1, tokens + 1
        if name == _OPEN:
            depth += 1
        elif name == _CLOSE:
            depth = max(depth - 1, 0)
        elif name == "ATOMIC" and body == 0 and words.begin_body(first, index):
            body, atomic = 1, True
        elif body:
            body += words.body_step(index)
    if tokens:
        yield Part(first, last, tokens, atomic)


class _Words:
    """What the words of a routine's body mean to its end.

    A word that only looks like a keyword, since letters stand in for what is not ASCII, is none.
    """

    def __init__(self, text: str, raw: Sequence[RawToken]) -> None:
        self._text = text
        self._raw = raw

    def _is(self, index: int, name: str) -> bool:
        token = self._raw[index]
        return token.name == name and self._text[token.start : token.end + 1].isascii()

    def _before(self, index: int) -> int:
        """Return the place of the token before, comments aside, -1 where there is none."""
        index -= 1
        while index >= 0 and self._raw[index].name in _COMMENTS:
            index -= 1
        return index

    def begin_body(self, first: int, index: int) -> bool:
        """Whether the token at `index` is ATOMIC behind BEGIN in a routine that begins with token `first`."""
        before = self._before(index)
        if before < first or not self._is(index, "ATOMIC") or not self._is(before, "BEGIN_P"):
            return False
        names: list[str] = []
        while first < index and len(names) < 4:
            if self._raw[first].name not in _COMMENTS:
                names.append(self._raw[first].name if self._is(first, self._raw[first].name) else "")
            first += 1
        if names[1:3] == ["OR", "REPLACE"]:
            del names[1:3]
        return names[:1] == ["CREATE"] and names[1:2] in _ROUTINE

    def body_step(self, index: int) -> int:
        """Return by how much the token at `index` changes the depth of CASE and BEGIN."""
        if self._is(index, "CASE"):
            return 1
        if not self._is(index, "END_P"):
            return 0
        before = self._before(index)
        return 0 if self._is(before, "AS") or self._raw[before].name == _DOT else -1
