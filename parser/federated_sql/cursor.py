"""A place in a token list, and the small steps a recursive descent is made of.

What always holds: a step either consumes what it names or raises 42601 at the token where it stands, in
PostgreSQL's words; nothing recurses.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

from federated_sql.errors import FederatedError, syntax_error
from federated_sql.lexer import Kind, Token, checked_name, string_value

_SHOWN = 60
_PARAMETER = re.compile(r"\$[0-9]+")
_NO_PARAMETERS = "A federated statement has no parameters: write the value itself into it, as a literal."
_CLAUSES = ("with", "in", "set", "where", "cascade", "from")


class Cursor:
    """The tokens of one statement; `shape` is the statement's form, shown as a HINT."""

    def __init__(self, text: str, tokens: Sequence[Token]) -> None:
        self.text = text
        self.tokens = tokens
        self.index = 0
        self.shape: str | None = None

    @property
    def current(self) -> Token | None:
        """The token at hand, None at the end."""
        return self.tokens[self.index] if self.index < len(self.tokens) else None

    def error(self, hint: str | None = None, *, at: Token | None = None) -> FederatedError:
        """Make the syntax error for the token at hand (or `at`)."""
        token = at or self.current
        if token is not None and _PARAMETER.fullmatch(token.text):
            hint = _NO_PARAMETERS
        hint = hint or (f"The statement is: {self.shape}" if self.shape else None)
        if token is None:
            return syntax_error("syntax error at end of input", position=len(self.text) + 1, hint=hint)
        shown = token.text if len(token.text) <= _SHOWN else token.text[:_SHOWN] + "…"
        return syntax_error(f'syntax error at or near "{shown}"', position=token.position, hint=hint)

    def at_words(self, *words: str) -> bool:
        """Whether the next tokens are exactly these unquoted words."""
        ahead = self.tokens[self.index : self.index + len(words)]
        return tuple(token.word for token in ahead) == words

    def accept_words(self, *words: str) -> bool:
        """Consume these words if they all come next."""
        if not self.at_words(*words):
            return False
        self.index += len(words)
        return True

    def expect_words(self, *words: str) -> None:
        """Consume these words, one after the other."""
        for word in words:
            if not self.accept_words(word):
                raise self.error(self._nearest((word,)) or self._misplaced())

    def _misplaced(self) -> str | None:
        return self._nearest(_CLAUSES) if self.current and self.current.word in _CLAUSES else None

    def _nearest(self, words: Sequence[str]) -> str | None:
        """Name the word that the token at hand nearly is; one that it is stands in the wrong place."""
        token = self.current
        if token is None or not token.word:
            return None
        if token.word in words:
            return f"Clauses come in this order: {self.shape}" if self.shape else None
        near = difflib.get_close_matches(token.word, words, 1, 0.7)
        return f"Did you mean {near[0].upper()}?" if near else None

    def at_symbol(self, symbol: str) -> bool:
        """Whether the next token is this symbol."""
        token = self.current
        return token is not None and token.kind is Kind.SYMBOL and token.text == symbol

    def accept_symbol(self, symbol: str) -> bool:
        """Consume this symbol if it comes next."""
        if not self.at_symbol(symbol):
            return False
        self.index += 1
        return True

    def expect_symbol(self, symbol: str, hint: str | None = None) -> None:
        """Consume this symbol."""
        if not self.accept_symbol(symbol):
            raise self.error(hint)

    def name(self, what: str) -> str:
        """Consume an identifier that may name a `what`: a quoted one, or a word that is not reserved."""
        token = self.current
        if token is None or token.kind not in (Kind.WORD, Kind.QUOTED):
            quoted = token is not None and token.kind is Kind.STRING
            raise self.error(f"A {what} name is an identifier, not a string." if quoted else None)
        if token.reserved:
            raise self.error(f'"{token.word}" is a reserved word: as a name it needs double quotes.')
        value = checked_name(token, f"{what} name")
        self.index += 1
        return value

    def label(self, what: str) -> str:
        """Consume an identifier in a place where reserved words need no quotes."""
        token = self.current
        if token is None or token.kind not in (Kind.WORD, Kind.QUOTED):
            raise self.error()
        value = checked_name(token, f"{what} name")
        self.index += 1
        return value

    def string_name(self, what: str) -> str:
        """Consume a string literal that names a `what`."""
        token = self.current
        if token is None or token.kind is not Kind.STRING:
            raise self.error(f"A {what} name is a string, in single quotes." if token else None)
        value = checked_name(token, f"{what} name")
        self.index += 1
        return value

    def string(self) -> str:
        """Consume a string literal and return its value."""
        token = self.current
        if token is None or token.kind is not Kind.STRING:
            raise self.error()
        value = string_value(token)
        self.index += 1
        return value

    def expect_end(self) -> None:
        """Raise unless everything is consumed."""
        if self.current is not None:
            raise self.error(self._nearest(_CLAUSES))
