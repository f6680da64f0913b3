"""The scanner in Python against PostgreSQL's own: the same tokens, the same values, the same refusals."""

from __future__ import annotations

from pathlib import Path
from time import perf_counter
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pglast import keywords
from pglast import parser as pglast_parser

from federated_sql import FederatedError, fallback_scanner, parse, postgres
from tests.support.wire_fuzz import fuzz

STATEMENTS = (Path(__file__).parent / "identity.sql").read_text(encoding="utf-8").splitlines()

# Pieces that scanners disagree about, put together at random.
PIECES = st.sampled_from(
    ["a", "select", "SELECT", "e", "E", "n", "N", "b", "x", "u", "U&", "u&", "'", "''", '"', '""', "\\", "$", "$$", "$a$",
     "$1", "$é$", "1", "0", "12", "0x", "0b", "0o", "_", "F", "9", "2147483647", "2147483648", ".", "..", "e5", "e+", "::",
     ":=", ":", "=>", "<=", ">=", "<>", "!=", "=", "<", ">", "+", "-", "--", "/*", "*/", "*", "/", "~", "!", "@", "#", "%",
     "^", "&", "|", "`", "?", "(", ")", "[", "]", ",", ";", "{", "}", " ", "\n", "\t", "\r", "\f", "\v", "é", "ß", "名", "\xa0",
     "\x7f", "\x01", "\\n", "\\x41", "\\101", "\\u0041", "\\U00000041", "\\ud83d", "\\ude00", "\\0041", "\\+000041", "uescape",
     "UESCAPE", "'!'", "!0041", "E'", "U&'", 'U&"', "x'", "b'", "' '", "'\n'", "' -- c\n '", "with", "name", "user"]
)  # fmt: skip
TEXTS = st.one_of(
    st.lists(PIECES, max_size=12).map("".join),
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30),
)
BODIES = st.lists(
    st.one_of(st.sampled_from(["''", "\\\\", "\\'", "\\n", "\\x4", "\\7", "\\u00e9", "\\U0001F600", "\\ud83d\\ude00", "\\0041",
                               "\\+01F600", "\\d83d\\de00", "\\", "\n", "é", "a", " ", '"', "\\q", "\\é"]),
              st.characters(codec="utf-8", exclude_characters="\0'")),
    max_size=8,
).map("".join)  # fmt: skip


def scanned(module: Any, text: str) -> Any:
    """The tokens, or what is wrong and where. Of wrong escapes and bytes only that they are refused."""
    try:
        return [tuple(token) for token in module.scan(text)]
    except (pglast_parser.ParseError, fallback_scanner.ParseError) as error:
        message, place = (*error.args, None)[:2]
        if str(message).startswith("invalid ") and "integer" not in str(message):
            return "refused"
        return (str(message), place)


@fuzz(400)
@given(TEXTS)
@example("0b12 0x_1 0x 1__0 1_ 0o8")
@example("0041e9e+")
@example("0b1e+")
@example("E'\\0")
@example("E'\\xc3'\n'\\xa9'")
@example("E'\\xc3'\n'a'")
@example("E'\\0'\n'a")
@example("+-*/ <- @- =-1 -/**/ +--")
def test_any_text_has_the_same_tokens(text: str) -> None:
    ours = scanned(fallback_scanner, text)
    try:
        assert ours == scanned(pglast_parser, text)
    except UnicodeDecodeError:  # pglast cannot read its own message, cut within a character
        assert not isinstance(ours, list)


@pytest.mark.parametrize(
    ("literal", "value"), [("E'\\xc3'\n'\\xa9'", "é"), ("E'\\1'\n'01'", "\x0101"), ("E'a\\\\'\n'n'", "a\\n")]
)
def test_an_escape_ends_with_its_line_and_a_character_need_not(literal: str, value: str) -> None:
    assert decoded(fallback_scanner, literal) == decoded(pglast_parser, literal) == value


@fuzz(300)
@given(
    st.sampled_from(["'", "E'", "e'", "U&'", "u&'"]),
    BODIES,
    st.sampled_from(["", " UESCAPE '!'", " uescape '\\'"]),
)
def test_every_spelling_of_a_string_has_the_same_value(prefix: str, body: str, suffix: str) -> None:
    literal = f"{prefix}{body}'{suffix if prefix[0] in 'uU' else ''}"
    assert decoded(fallback_scanner, literal) == decoded(pglast_parser, literal)


def decoded(module: Any, literal: str) -> Any:
    """The value that the whole text has as one literal, or that it has none."""
    try:
        names = [token[2] for token in module.scan(literal)]
        if names not in (["SCONST"], ["USCONST"], ["USCONST", "UESCAPE", "SCONST"]):
            return names
        if module is fallback_scanner:
            return fallback_scanner.decode_string(literal)
        return pglast_parser.parse_sql("SELECT " + literal)[0].stmt.targetList[0].val.val.sval
    except (pglast_parser.ParseError, fallback_scanner.ParseError):
        return "refused"


def test_every_keyword_is_the_same() -> None:
    words = (
        keywords.RESERVED_KEYWORDS | keywords.UNRESERVED_KEYWORDS
        | keywords.TYPE_FUNC_NAME_KEYWORDS | keywords.COL_NAME_KEYWORDS
    )  # fmt: skip
    assert len(words) > 400
    for word in words:
        assert scanned(fallback_scanner, word) == scanned(pglast_parser, word)


@pytest.mark.parametrize("statement", STATEMENTS)
def test_every_statement_of_the_language_is_understood_the_same(
    statement: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = parse(statement)
    monkeypatch.setattr(postgres, "_parser", fallback_scanner)
    if " WHERE (" in statement and "DATASET" in statement:
        with pytest.raises(FederatedError) as caught:
            parse(statement)
        assert caught.value.sqlstate == "0A000"
        assert "needs the extension installed as files" in caught.value.message
    else:
        assert parse(statement) == expected


@fuzz(150)
@given(st.sampled_from(STATEMENTS), st.integers(0, 200), st.integers(0, 8), PIECES)
def test_a_broken_statement_gets_the_same_error(statement: str, place: int, length: int, piece: str) -> None:
    broken = statement[:place] + piece + statement[place + length :]
    expected = outcome(broken)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(postgres, "_parser", fallback_scanner)
        found = outcome(broken)
    if "DATASET" in broken.upper() or "invalid" in str(expected) or "invalid" in str(found):
        assert isinstance(expected, tuple) <= isinstance(found, tuple)
    else:
        assert found == expected


def outcome(text: str) -> Any:
    try:
        return parse(text)
    except FederatedError as error:
        return (error.sqlstate, error.message, error.position)


@pytest.mark.parametrize(
    "piece",
    [
        "'aaa",
        "E'\\",
        "/*",
        "1",
        "$",
        "_",
        "'a'\n",
        "$a",
        "(",
        "'",
        '"',
        "0x",
        "1.",
        "- ",
        "U&'",
        "1_",
        "é",
        "$é$",
    ],
)
def test_a_long_text_takes_no_time(piece: str) -> None:
    """Quadratic time would be minutes here."""
    start = perf_counter()
    scanned(fallback_scanner, piece * (300_000 // len(piece)))
    assert perf_counter() - start < 60
