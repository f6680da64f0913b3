"""Tokens of the language: PostgreSQL's, seen through the few distinctions the language makes.

What always holds: `text[token.start:token.end] == token.text`; comments are gone; a token's value is decoded
only when somebody asks for it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple

from federated_sql.clause_values import MAX_NAME_BYTES
from federated_sql.errors import ErrorCode, FederatedError, syntax_error
from federated_sql.postgres import RawToken, decode_string, scan_raw

"""PostgreSQL's NAMEDATALEN - 1."""


class Kind(Enum):
    """What a token is to the language."""

    WORD = "word"
    QUOTED = "quoted identifier"
    STRING = "string"
    NUMBER = "number"
    SYMBOL = "symbol"


class Token(NamedTuple):
    """A token with its place (0-based characters, end exclusive) and its text as typed.

    `word` is the folded spelling of an unquoted word, else empty; `reserved` words are no names unless
    quoted.
    """

    kind: Kind
    start: int
    end: int
    text: str
    word: str = ""
    reserved: bool = False

    @property
    def position(self) -> int:
        """The 1-based position that error messages give."""
        return self.start + 1


_KINDS = {
    "SCONST": Kind.STRING,
    "USCONST": Kind.STRING,
    "ICONST": Kind.NUMBER,
    "FCONST": Kind.NUMBER,
    "UIDENT": Kind.QUOTED,
}
_COMMENTS = frozenset({"SQL_COMMENT", "C_COMMENT"})
_RESERVED = frozenset({"RESERVED_KEYWORD", "TYPE_FUNC_NAME_KEYWORD"})
_UNICODE = frozenset({"USCONST", "UIDENT"})
_UNICODE_IDENTIFIER = re.compile(r'(?is)U&"((?:[^"]|"")*)"(.*)')
_UPPER_TO_LOWER = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}


def fold(identifier: str) -> str:
    """Fold as PostgreSQL does in a multi-byte encoding: ASCII letters only."""
    return identifier.lower() if identifier.isascii() else identifier.translate(_UPPER_TO_LOWER)


def scan(text: str, most: int | None = None) -> list[Token]:
    """Return the tokens of `text` without comments; raise 42601 with a position, 54000 if it is too long.

    most: more tokens than this, comments included, are refused (54000).
    """
    raw = scan_raw(text)
    if most is not None and len(raw) > most:
        raise FederatedError(
            ErrorCode.PROGRAM_LIMIT, f"a federated statement may not have more than {most} tokens"
        )
    return tokens_of(text, raw)


def tokens_of(
    text: str, raw: Sequence[RawToken], first: int = 0, last: int | None = None, most: int | None = None
) -> list[Token]:
    """Return the tokens made of raw[first:last], which are those of `text`; at most the first `most`."""
    tokens: list[Token] = []
    symbol, make = Kind.SYMBOL, tuple.__new__  # Token(…) itself takes twice the time
    taken = first
    for index in range(first, len(raw) if last is None else last):
        start, inclusive, name, keyword = raw[index]
        if name in _COMMENTS or index < taken:
            continue
        if most is not None and len(tokens) == most:
            break
        end = inclusive + 1
        if name.startswith("ASCII_"):
            tokens.append(make(Token, (symbol, start, end, text[start:end], "", False)))
        elif name in _UNICODE and (escape_end := _uescape_end(raw, index + 1)):
            taken = escape_end
            end = raw[escape_end - 1].end + 1
            tokens.append(_classify(text[start:end], start, end, name, keyword))
        else:
            tokens.append(_classify(text[start:end], start, end, name, keyword))
    return tokens


def _uescape_end(raw: Sequence[RawToken], index: int) -> int:
    """Return the index behind `UESCAPE '…'` if it begins at `index`, else 0."""
    names: list[str] = []
    while index < len(raw) and len(names) < 2:
        if raw[index].name not in _COMMENTS:
            names.append(raw[index].name)
        index += 1
    return index if names == ["UESCAPE", "SCONST"] else 0


def _classify(spelled: str, start: int, end: int, name: str, keyword: str) -> Token:
    if (kind := _KINDS.get(name)) is not None:
        return Token(kind, start, end, spelled)
    if name == "IDENT" and spelled[0] == '"':
        return Token(Kind.QUOTED, start, end, spelled)
    if name == "IDENT" or keyword != "NO_KEYWORD":
        # A keyword is ASCII: a word that only looks like one through the ASCII stand-in is none.
        return Token(
            Kind.WORD, start, end, spelled, fold(spelled), keyword in _RESERVED and spelled.isascii()
        )
    return Token(Kind.SYMBOL, start, end, spelled)


def string_value(token: Token) -> str:
    """Return the value of a STRING token."""
    try:
        return decode_string(token.text)
    except FederatedError as error:
        raise _moved(error, token) from None


def identifier_value(token: Token) -> str:
    """Return the name that a WORD or QUOTED token spells, not yet checked."""
    if token.kind is Kind.WORD:
        return token.word
    if token.text[0] == '"':
        return token.text[1:-1].replace('""', '"')
    # U&"…" [UESCAPE '…']: the escapes are those of U&'…', which PostgreSQL does not cut to 63 bytes.
    parts = _UNICODE_IDENTIFIER.match(token.text)
    if parts is None:  # the scanner has matched more than this expression asks for
        raise syntax_error(f'syntax error at or near "{token.text}"', position=token.position)
    inside = parts[1].replace('""', '"').replace("'", "''")
    try:
        return decode_string(f"U&'{inside}'{parts[2]}")
    except FederatedError as error:
        raise _moved(error, token) from None


def _moved(error: FederatedError, token: Token) -> FederatedError:
    return FederatedError(ErrorCode.SYNTAX, error.message, position=token.position)


def checked_name(token: Token, what: str) -> str:
    """Return the token's name; raise 42602 if it is empty or longer than 63 bytes (it is never cut)."""
    value = string_value(token) if token.kind is Kind.STRING else identifier_value(token)
    size = len(value.encode())
    if size > MAX_NAME_BYTES:
        raise FederatedError(
            ErrorCode.INVALID_NAME,
            f"{what} is too long",
            detail=f"It has {size} bytes; at most {MAX_NAME_BYTES} are allowed.",
            position=token.position,
        )
    if not value or not value.isprintable():
        raise FederatedError(
            ErrorCode.INVALID_NAME,
            f"{what} may not be empty" if not value else f"{what} may not contain unprintable characters",
            position=token.position,
        )
    return value
