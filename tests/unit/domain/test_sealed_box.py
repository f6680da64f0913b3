"""Sealing without a library: RFC 7748's vectors, a library on the other side, and nothing opens that was changed."""

from __future__ import annotations

import secrets

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from heliosdb.domain.errors import FederatedError
from heliosdb.domain.sealed_box import Sealer, UnopenedBoxError, multiply
from heliosdb.transport.sealing import SealingKey

ABOUT = b"order 1"


def seal_box(public: bytes, plain: bytes, *, about: bytes) -> bytes:
    return Sealer(public).seal(plain, about=about)


BASE_POINT = b"\x09" + bytes(31)


@pytest.mark.parametrize(
    ("scalar", "point", "product"),
    [
        ("a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
         "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c",
         "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552"),
        ("4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d",
         "e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493",
         "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957"),
    ],
)  # fmt: skip
def test_the_curve_is_that_of_rfc_7748(scalar: str, point: str, product: str) -> None:
    assert multiply(bytes.fromhex(scalar), bytes.fromhex(point)).hex() == product


def test_the_iterated_vector_of_rfc_7748() -> None:
    k = u = BASE_POINT
    for _ in range(1000):
        k, u = multiply(k, u), k
    assert k.hex() == "684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51"


def test_public_keys_are_those_of_the_library() -> None:
    for _ in range(20):
        private = secrets.token_bytes(32)
        public = X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()
        assert multiply(private, BASE_POINT) == public


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


def test_a_sealer_gives_each_purpose_a_key_of_its_own_and_once() -> None:
    key = SealingKey.generate()
    sealer = Sealer(key.public)
    one, two = (sealer.seal(b"p-17", about=about) for about in (b"1", b"2"))
    assert one[:32] == two[:32]
    assert one[32:] != two[32:]
    assert key.open_box(two, about=b"2") == key.open_box(one, about=b"1") == b"p-17"
    with pytest.raises(UnopenedBoxError):
        key.open_box(one, about=b"2")
    with pytest.raises(ValueError, match="one thing"):
        sealer.seal(b"p-18", about=b"1")


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
    assert {len(seal_box(key.public, b"x" * n, about=ABOUT)) for n in range(61)} == {128}


def test_what_is_no_key_or_too_long_is_an_error() -> None:
    with pytest.raises(FederatedError, match="not a valid key"):
        seal_box(bytes(32), b"p", about=ABOUT)
    with pytest.raises(FederatedError, match="more than 8192 bytes"):
        seal_box(SealingKey.generate().public, bytes(8193), about=ABOUT)
