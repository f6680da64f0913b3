"""The scanner is PostgreSQL's, in linear time, with offsets in characters."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pglast import parser as postgresql

from federated_sql.errors import FederatedError
from federated_sql.lexer import Kind, identifier_value, scan, string_value
from federated_sql.postgres import parse_tree, scan_raw

SQL_TEXT = st.lists(
    st.one_of(
        st.sampled_from(
            [
                "'",
                '"',
                "''",
                "$$",
                "$é$",
                "$z$",
                "E'",
                "U&'",
                'U&"',
                "UESCAPE",
                "\\",
                "/*",
                "*/",
                "--",
                "\n",
                " ",
            ]
        ),
        st.sampled_from(
            ["é", "éone", "z", "zone", "select", "1", "1.5e3", "=", "=>", ":=", ";", "(", "€", "𝄞"]
        ),
        st.characters(codec="utf-8", exclude_characters="\0"),
    ),
    max_size=25,
).map("".join)


@pytest.mark.parametrize(
    ("literal", "value"),
    [
        ("'plain'", "plain"),
        ("''", ""),
        ("'it''s'", "it's"),
        ("'back\\slash'", "back\\slash"),
        ("E'a\\tb\\x41\\101\\u00e9\\''", "a\tbAAé'"),
        ("E'\\ud83d\\ude00'", "😀"),
        ("U&'d\\0061t\\+000061'", "data"),
        ("U&'d!0061ta' UESCAPE '!'", "data"),
        ("U&'d!0061ta' /* c */ uescape -- d\n '!'", "data"),
        ("$$it's$$", "it's"),
        ("$é$a $$ b$é$", "a $$ b"),
        ("'a'\n  'b'", "ab"),
        ("'größe'", "größe"),
    ],
)
def test_a_string_in_every_spelling_has_postgresqls_value(literal: str, value: str) -> None:
    (token,) = scan(literal)
    assert token.kind is Kind.STRING
    assert string_value(token) == value


@pytest.mark.parametrize(
    ("spelled", "name"),
    [
        ("Clinics", "clinics"),
        ("GRÖSSE", "grÖsse"),
        ('"Clinics"', "Clinics"),
        ('"a""b"', 'a"b'),
        ('U&"d\\0061ta"', "data"),
        ('U&"d!0061\'""ta" UESCAPE \'!\'', "da'\"ta"),
    ],
)
def test_an_identifier_folds_as_in_postgresql(spelled: str, name: str) -> None:
    (token,) = scan(spelled)
    assert identifier_value(token) == name


def test_offsets_are_characters_of_the_text_as_typed() -> None:
    text = "é 'ü' /* ö */ $ä$x$ä$ zone éone"
    assert [text[token.start : token.end] for token in scan(text)] == ["é", "'ü'", "$ä$x$ä$", "zone", "éone"]
    assert all(token.text == text[token.start : token.end] for token in scan(text))


def test_a_word_that_is_no_keyword_is_none_whatever_stands_for_its_letters() -> None:
    (token,) = scan("currentédate")
    assert (token.word, token.reserved) == ("currentédate", False)
    (join,) = scan("join")
    assert join.reserved


@pytest.mark.parametrize(
    ("text", "message", "position"),
    [
        ("é 'abc", 'unterminated quoted string at or near "\'abc"', 3),
        ("/* /* */ é", 'unterminated /* comment at or near "/* /* */ é"', 1),
        ('x ""', 'zero-length delimited identifier at or near """"', 3),
        ("E'\\xff'", 'invalid byte sequence for encoding "UTF8": 0xff', 8),
    ],
)
def test_a_scanner_error_is_a_syntax_error_at_the_users_character(
    text: str, message: str, position: int
) -> None:
    with pytest.raises(FederatedError) as caught:
        for token in scan(text):
            string_value(token)
    assert (caught.value.sqlstate, caught.value.message, caught.value.position) == (
        "42601",
        message,
        position,
    )


@pytest.mark.parametrize("text", ["E'\\000'", "U&'\\0000'", "U&'\\zz'", "U&'\\d800'", "U&'x' UESCAPE 'é'"])
def test_a_string_that_postgresql_cannot_hold_is_refused_where_it_stands(text: str) -> None:
    with pytest.raises(FederatedError) as caught:
        for token in scan("x " + text):
            if token.kind is Kind.STRING:
                string_value(token)
    assert caught.value.sqlstate == "42601"


@pytest.mark.parametrize("text", ["\ud800", "x 'é\udfff'"])
def test_text_that_is_not_unicode_is_refused(text: str) -> None:
    with pytest.raises(FederatedError, match="not valid Unicode"):
        scan(text)


@pytest.mark.parametrize(
    "text",
    [
        "x" * (1 << 20) + "x",
        "é" * (1 << 19) + "x",
        "TAG\0",
        "+" * 100_000,
        "+-" * 50_000,
        "/*" * 50_000,
        "/**/" * 25_000,
        "$é$ " * 100_000,
    ],
    ids=["long", "long in bytes", "zero byte", "plus", "plus minus", "nested", "comments", "tags"],
)
def test_text_that_would_take_too_long_is_refused(text: str) -> None:
    with pytest.raises(FederatedError) as caught:
        scan(text)
    assert caught.value.sqlstate == "54000"


@pytest.mark.parametrize("text", ["-" * 100_000, "/" + "*" * 10_000 + "/", "select '" + "+-" * 30 + "'"])
def test_banners_of_operator_characters_are_no_reason_to_refuse(text: str) -> None:
    assert scan(text) is not None


def test_a_tree_too_deep_for_the_parser_is_refused_before_it_is_built() -> None:
    with pytest.raises(FederatedError) as caught:
        parse_tree("SELECT 1" + "+1" * 100_000, 200_002)
    assert caught.value.sqlstate == "54000"


@settings(deadline=None)
@given(SQL_TEXT)
@example("$é$ $z$ $é$")
@example("'é'\n'é' éone zone U&\"é\" uescape 'é'")
def test_non_ascii_text_is_cut_where_postgresql_cuts_it(text: str) -> None:
    try:
        expected: object = [(token.start, token.end) for token in postgresql.scan(text)]
    except postgresql.ParseError as error:
        expected = error.args[1] + 1
    try:
        actual: object = [(token.start, token.end) for token in scan_raw(text)]
    except FederatedError as error:
        actual = error.position
    assert actual == expected
