"""Tokens are recognised by their form and checksum."""

from __future__ import annotations

import hashlib

import pytest

from heliosdb.api.tokens import digest_of, looks_like_token

BODY = "hfl_" + "0123456789abcdef" * 4
TOKEN = BODY + hashlib.sha256(BODY.encode()).hexdigest()[:8]


def test_a_token_is_known_by_its_hash() -> None:
    assert looks_like_token(TOKEN)
    assert digest_of(TOKEN) == hashlib.sha256(TOKEN.encode()).digest()


@pytest.mark.parametrize("place", range(len(TOKEN)))
def test_one_changed_character_is_noticed(place: int) -> None:
    other = "1" if TOKEN[place] != "1" else "2"
    assert digest_of(TOKEN[:place] + other + TOKEN[place + 1 :]) is None


@pytest.mark.parametrize("text", ["", TOKEN[:-1], TOKEN + "0", TOKEN.upper(), TOKEN + "\n", "a.b.c"])
def test_other_texts_are_no_tokens(text: str) -> None:
    assert not looks_like_token(text)
    assert digest_of(text) is None
