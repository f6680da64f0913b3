"""What is sealed opens with the key and for its purpose alone, and nothing opens that was changed."""

from __future__ import annotations

import sys

import pytest

from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.sealed_box import UnopenedBoxError, public_key, require_library, seal_box
from heliosdb.transport.sealing import SealingKey

ABOUT = b"order 1"


@pytest.mark.parametrize("plain", [b"", b"p-17", "Weiß".encode(), b"x" * 1024, b"y" * 8192])
def test_what_is_sealed_opens_with_the_key_and_purpose_alone(plain: bytes) -> None:
    key, other = SealingKey.generate(), SealingKey.generate()
    sealed = seal_box(key.public, plain, about=ABOUT)
    assert key.open_box(sealed, about=ABOUT) == plain
    assert plain not in sealed or len(plain) < 5
    assert seal_box(key.public, plain, about=ABOUT) != sealed
    for opener, about in ((other, ABOUT), (key, b"order 2")):
        with pytest.raises(UnopenedBoxError):
            opener.open_box(sealed, about=about)


def test_nothing_that_was_changed_or_cut_opens() -> None:
    key = SealingKey.generate()
    sealed = seal_box(key.public, b"p-17", about=ABOUT)
    for place in range(len(sealed)):
        changed = bytearray(sealed)
        changed[place] ^= 1
        with pytest.raises(UnopenedBoxError):
            key.open_box(bytes(changed), about=ABOUT)
    for length in (0, 31, 64, len(sealed) - 1):
        with pytest.raises(UnopenedBoxError):
            key.open_box(sealed[:length], about=ABOUT)
    with pytest.raises(UnopenedBoxError):
        key.open_box(bytes(32) + sealed[32:], about=ABOUT)


def test_texts_of_like_length_are_sealed_to_the_same_length() -> None:
    key = SealingKey.generate()
    assert {len(seal_box(key.public, b"x" * n, about=ABOUT)) for n in range(61)} == {112}


def test_what_is_no_key_or_too_long_is_an_error() -> None:
    with pytest.raises(FederatedError, match="not a valid key"):
        seal_box(bytes(32), b"p", about=ABOUT)
    with pytest.raises(FederatedError, match="more than 8192 bytes"):
        seal_box(SealingKey.generate().public, bytes(8193), about=ABOUT)


def test_the_public_key_is_the_one_of_the_key_file() -> None:
    key = SealingKey.generate()
    assert public_key(key.private) == key.public


def test_a_process_without_the_library_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives", None)
    with pytest.raises(FederatedError, match="no library of cryptography") as caught:
        require_library()
    assert caught.value.code is ErrorCode.NOT_SUPPORTED
