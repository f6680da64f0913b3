"""What the encoding of a database does to messages."""

from __future__ import annotations

import pytest

from heliosdb.extension.encodings import in_encoding


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [
        ("UTF8", "WITH (…) größer Ω 漢"),
        ("SQL_ASCII", "WITH (…) größer Ω 漢"),
        ("LATIN1", "WITH (...) größer ? ?"),
        ("WIN1252", "WITH (...) größer ? ?"),
        ("EUC_JP", "WITH (...) größer Ω 漢"),
        ("KOI8R", "WITH (...) gr??er ? ?"),
        ("MULE_INTERNAL", "WITH (...) gr??er ? ?"),
    ],
)
def test_what_an_encoding_cannot_hold_is_written_otherwise(encoding: str, expected: str) -> None:
    assert in_encoding("WITH (…) größer Ω 漢", lambda: encoding) == expected


def test_the_encoding_of_a_message_in_ascii_is_not_asked_for() -> None:
    def ask() -> str:
        raise AssertionError("asked")

    assert in_encoding("WITH (...)", ask) == "WITH (...)"
