"""Option lists: `name = value, …`, where a value is a literal and nothing else."""

from __future__ import annotations

import math
import re

from federated_sql.clause_values import Option, OptionName, OptionValue, Scalar
from federated_sql.cursor import Cursor
from federated_sql.errors import ErrorCode, FederatedError, syntax_error
from federated_sql.lexer import Kind, Token, string_value

_LONGEST_NUMBER = 100
_INTEGER = re.compile(r"\d(_?\d)*")
_WORDS: dict[str, bool] = {"true": True, "on": True, "false": False, "off": False}
_LITERAL_HINT = (
    "A value is a literal: a string, a number, true, false, on, off, a word or an array ['a', 'b']."
)


def parse_options(cursor: Cursor) -> tuple[Option, ...]:
    """Consume `(name = value, …)`; a name given twice is an error."""
    cursor.expect_symbol("(")
    options = [_parse_option(cursor)]
    seen = {options[0].name}
    while cursor.accept_symbol(","):
        option = _parse_option(cursor)
        if option.name in seen:
            raise syntax_error(f'option "{option.name}" specified more than once', position=option.position)
        seen.add(option.name)
        options.append(option)
    cursor.expect_symbol(")", "Options are separated by commas. " + _LITERAL_HINT)
    return tuple(options)


def parse_names(cursor: Cursor) -> tuple[OptionName, ...]:
    """Consume `(name, …)`; as in PostgreSQL a name may be given twice."""
    cursor.expect_symbol("(")
    names = [_parse_name(cursor)]
    while cursor.accept_symbol(","):
        names.append(_parse_name(cursor))
    cursor.expect_symbol(")", "RESET takes the names of options, separated by commas, without values.")
    return tuple(names)


def _parse_name(cursor: Cursor) -> OptionName:
    token = cursor.current
    return OptionName(cursor.label("option"), token.position if token else 0)


def _parse_option(cursor: Cursor) -> Option:
    token = cursor.current
    name = cursor.label("option")
    cursor.expect_symbol("=", "An option is written: name = value.")
    return Option(name, _parse_value(cursor), token.position if token else 0)


def _parse_value(cursor: Cursor) -> OptionValue:
    if cursor.accept_words("array") or cursor.at_symbol("["):
        return _parse_array(cursor)
    return _parse_scalar(cursor)


def _parse_array(cursor: Cursor) -> tuple[Scalar, ...]:
    cursor.expect_symbol("[")
    if cursor.accept_symbol("]"):
        return ()
    elements = [_parse_scalar(cursor)]
    while cursor.accept_symbol(","):
        elements.append(_parse_scalar(cursor))
    cursor.expect_symbol("]", "The elements of an array are separated by commas.")
    return tuple(elements)


def _parse_scalar(cursor: Cursor) -> Scalar:
    token = cursor.current
    if token is None:
        raise cursor.error()
    if token.kind is Kind.STRING:
        cursor.index += 1
        return string_value(token)
    if token.kind is Kind.WORD and token.word != "null":
        return _parse_word(cursor, token)
    return parse_number(cursor)


def parse_number(cursor: Cursor) -> int | float:
    """Consume a number with or without a sign."""
    token = cursor.current
    negative = token is not None and token.text == "-"
    if token is not None and token.kind is Kind.SYMBOL and token.text in ("+", "-"):
        cursor.index += 1
        token = cursor.current
    if token is None or token.kind is not Kind.NUMBER:
        quoted = token is not None and token.kind is Kind.QUOTED
        raise cursor.error("A string is written in single quotes." if quoted else _LITERAL_HINT)
    cursor.index += 1
    value = _number(token)
    return -value if negative else value


def _parse_word(cursor: Cursor, token: Token) -> str | bool:
    cursor.index += 1
    if cursor.at_symbol("("):
        raise cursor.error(f"Write it as a string: '{token.word}(…)'.")
    return _WORDS.get(token.word, token.word)


def _number(token: Token) -> int | float:
    """Integers stay integers, whatever their size; anything with a point or an exponent is a float."""
    text = token.text
    if len(text) <= _LONGEST_NUMBER:
        if _INTEGER.fullmatch(text):
            return int(text)
        if text[:2].lower() in ("0x", "0o", "0b"):
            return int(text, 0)
        value = float(text)
        if math.isfinite(value):
            return value
    raise FederatedError(
        ErrorCode.INVALID_VALUE, f'number "{text[:40]}" is out of range', position=token.position
    )
