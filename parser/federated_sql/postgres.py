"""PostgreSQL's own scanner and grammar, through pglast: the only module that imports it.

Where pglast cannot be, `fallback_scanner` stands in for its scanner.

What always holds: offsets are 0-based characters of the text that was passed; time is linear in the text; a
text too deep for the C parser's stack is refused before it gets there; nothing but `FederatedError` is
raised.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any, NamedTuple

from federated_sql.errors import ErrorCode, FederatedError, syntax_error

MAX_TEXT_BYTES = 1 << 20
"""Longest text that is looked at; a longer one is refused (54000)."""

MAX_PARSE_TOKENS = 5_000
"""Most tokens that go into the full grammar.

The C parser walks its tree recursively and one token can add one level (`a + a + …`); it overflows an 8 MiB
stack, and takes the process with it, somewhere above 10,000 levels.
"""

_DOLLAR_TAG = re.compile(r"(?=\$([A-Za-z_\x80-\U0010ffff][A-Za-z0-9_\x80-\U0010ffff]*)\$)")
_LONG_OPERATOR = re.compile(r"[~!@#^&|`?+\-*/%<>=]{64,}")
_OPERATOR_WORK = 4_000_000
_EXACT_WORK = 10_000_000
_LONG_TEXT = 16 * 1024


def _load_parser() -> ModuleType:
    # Inside a PostgreSQL backend the server exports functions of the same names (palloc, errstart, …);
    # without DEEPBIND the library would call the server's instead of its own, of another version, and crash
    # it.
    flags = sys.getdlopenflags()
    sys.setdlopenflags(flags | getattr(os, "RTLD_DEEPBIND", 0))
    try:
        return importlib.import_module("pglast.parser")
    except ModuleNotFoundError:
        # A server on whose disk nothing can be put has no library in C.
        return importlib.import_module("federated_sql.fallback_scanner")
    finally:
        sys.setdlopenflags(flags)


_parser = _load_parser()


class RawToken(NamedTuple):
    """A token as the scanner names it; `end` is inclusive, as pglast gives it."""

    start: int
    end: int
    name: str
    kind: str


def scan_raw(text: str) -> Sequence[RawToken]:
    """Return all tokens of `text`, comments too; raise 42601 with a position, 54000 if it is too long."""
    check_size(text)
    _check_operators(text)
    if text.isascii():
        return _scan(text, text)
    stand_in = ascii_stand_in(text)
    return _scan(text if stand_in is None else stand_in, text)


def check_size(text: str) -> None:
    """Refuse (54000) a text that is too long or holds a zero byte; refuse (42601) one that is not Unicode."""
    if len(text) > MAX_TEXT_BYTES or (not text.isascii() and _utf8_length(text) > MAX_TEXT_BYTES):
        raise FederatedError(
            ErrorCode.PROGRAM_LIMIT, f"a federated statement may not be longer than {MAX_TEXT_BYTES} bytes"
        )
    zero = text.find("\0")
    if zero >= 0:
        raise FederatedError(
            ErrorCode.PROGRAM_LIMIT, "a statement may not contain a zero byte", position=zero + 1
        )


def _check_operators(text: str) -> None:
    """Refuse (54000) long runs of operator characters, on which PostgreSQL's scanner takes quadratic time.

    It matches the longest run, gives back all but what may be an operator or comes before a comment, and
    begins again: seconds for 20 kB of plus signs.
    """
    work = 0
    for match in _LONG_OPERATOR.finditer(text):
        run = match[0]
        head = run.partition("--")[0]
        work += len(run) * run.count("/*") + len(head) * (head.count("+") + head.count("-"))
        if work > _OPERATOR_WORK:
            raise FederatedError(
                ErrorCode.PROGRAM_LIMIT, "operator or comment too long", position=match.start() + 1
            )


def _utf8_length(text: str) -> int:
    try:
        return len(text.encode())
    except UnicodeEncodeError as error:
        raise syntax_error("the statement is not valid Unicode text", position=error.start + 1) from None


def ascii_stand_in(text: str) -> str | None:
    """Return a text of the same length and the same token boundaries, in ASCII only.

    pglast turns byte offsets into characters in time proportional to the number of non-ASCII characters, for
    each token; a minute for 100 kB of them. To the scanner every non-ASCII character is a letter, so another
    letter does. Only a dollar quote's tag is compared with another: None if one is not ASCII and the text is
    short enough to be scanned as it is; a longer one is refused (54000).
    """
    if any(not tag.isascii() for tag in _DOLLAR_TAG.findall(text)):
        if (_utf8_length(text) - len(text)) * len(text) > _EXACT_WORK:
            raise FederatedError(
                ErrorCode.PROGRAM_LIMIT, "the statement is too long for dollar quotes with non-ASCII tags"
            )
        return None
    # A question mark stands for each non-ASCII character on the way; one that was typed is to the scanner the
    # same as a vertical bar: a character of operators that begins nothing else.
    masked = text.replace("?", "|").encode("ascii", "replace")
    return masked.replace(b"?", b"z").decode()


@contextmanager
def _collector_paused(text: str) -> Iterator[None]:
    """Keep the garbage collector from walking over a long text's tokens while they are made.

    It would look at all of them again and again, for more time than it takes to make them, and free nothing.
    """
    if len(text) < _LONG_TEXT or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _scan(text: str, original: str) -> Sequence[RawToken]:
    try:
        with _collector_paused(text):
            tokens: Sequence[RawToken] = _parser.scan(text)
    except (_parser.ParseError, UnicodeError) as error:
        raise _refusal(error, original) from None
    return tokens


def parse_tree(text: str, tokens: int) -> tuple[Any, ...]:
    """Return pglast's syntax tree of `text`, of `tokens` tokens; raise 54000 if they are too many."""
    if tokens > MAX_PARSE_TOKENS:
        raise FederatedError(
            ErrorCode.PROGRAM_LIMIT, f"an expression may not have more than {MAX_PARSE_TOKENS} tokens"
        )
    check_size(text)
    try:
        tree: tuple[Any, ...] = _parser.parse_sql(text)
    except (_parser.ParseError, UnicodeError, RecursionError) as error:
        raise _refusal(error, text) from None
    return tree


def parse_json(text: str, tokens: int) -> list[dict[str, Any]]:
    """Return the statements of `text`, of `tokens` tokens, as libpg_query writes them in JSON.

    A location is an offset in bytes of UTF-8; what has its type's zero is left out. This takes a tenth of the
    time of `parse_tree`. Raises 54000 for too many tokens, 42601 for a wrong text and a tree deeper than JSON
    may be.
    """
    if tokens > MAX_PARSE_TOKENS:
        raise FederatedError(
            ErrorCode.PROGRAM_LIMIT, f"an expression may not have more than {MAX_PARSE_TOKENS} tokens"
        )
    check_size(text)
    try:
        statements: list[dict[str, Any]] = json.loads(_parser.parse_sql_json(text)).get("stmts", [])
    except (_parser.ParseError, UnicodeError, RecursionError) as error:
        raise _refusal(error, text) from None
    return statements


def check_syntax(text: str) -> None:
    """Raise 42601 unless PostgreSQL's grammar knows `text`, which must not be deeper than what was parsed."""
    check_size(text)
    try:
        _parser.parse_sql_json(text)
    except (_parser.ParseError, UnicodeError) as error:
        raise _refusal(error, text) from None


def _refusal(error: Exception, text: str) -> FederatedError:
    """Say what PostgreSQL says, with the user's own text behind `at or near`."""
    if not isinstance(error, _parser.ParseError):
        return syntax_error("the statement is not valid Unicode text")
    message, index = (*error.args, None)[:2]
    head, near, rest = str(message).partition(" at or near ")
    if not isinstance(index, int) or not 0 <= index < len(text):
        return syntax_error(head if near else str(message), position=len(text) + 1)
    if near:
        shown = max(len(rest) - 2, 1)
        head = f'{head} at or near "{text[index : index + min(shown, 60)]}"'
    return syntax_error(head, position=index + 1)


def decode_string(literal: str) -> str:
    """Return the value of a string literal in any of PostgreSQL's spellings."""
    if literal[0] == "'" and "\n" not in literal and "\r" not in literal:
        return literal[1:-1].replace("''", "'")
    strings = importlib.import_module("federated_sql.fallback_scanner")
    try:
        return str(strings.decode_string(literal))
    except strings.ParseError as error:
        if _parser is strings:
            raise _refusal(error, literal) from None
    # What is wrong is said in PostgreSQL's own words.
    tree = parse_tree("SELECT " + literal, 4)
    return str(tree[0].stmt.targetList[0].val.val.sval)
