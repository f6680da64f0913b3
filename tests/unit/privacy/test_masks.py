"""Keys that pairs agree on: the same at both ends, for one purpose each, and none with a weak key."""

from __future__ import annotations

import numpy as np
import pytest

from heliosdb.privacy.masks import Agreement, mask, seal, unseal

ONE, OTHER = (Agreement.of(bytes([number]) * 31, b"tests") for number in (1, 2))

SMALL_ORDER = [
    bytes(32),
    (1).to_bytes(32, "little"),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
    (2**255 - 20).to_bytes(32, "little"),
    (2**255 - 19).to_bytes(32, "little"),
    (2**255 - 18).to_bytes(32, "little"),
]
"""The points of small order of Curve25519 (RFC 7748, section 6.1: their shared secret is all zeros)."""


def test_both_ends_agree_and_on_another_key_for_another_purpose() -> None:
    assert ONE.agree(OTHER.public, b"mask") == OTHER.agree(ONE.public, b"mask")
    assert ONE.agree(OTHER.public, b"mask") != ONE.agree(OTHER.public, b"shares")


def test_a_seed_leads_to_one_key_pair_for_each_purpose() -> None:
    assert Agreement.of(b"\1" * 31, b"tests").public == ONE.public
    assert Agreement.of(b"\1" * 31, b"others").public != ONE.public


@pytest.mark.parametrize("public", [*SMALL_ORDER, b"short"])
def test_nobody_agrees_with_a_weak_key(public: bytes) -> None:
    assert ONE.agree(public, b"mask") is None


def test_what_is_sealed_opens_with_its_key_alone() -> None:
    key = ONE.agree(OTHER.public, b"shares") or b""
    sealed = seal(key, b"two shares")
    assert unseal(key, sealed) == b"two shares"
    assert unseal(key, bytes([sealed[0] ^ 1]) + sealed[1:]) is None
    assert unseal(ONE.agree(OTHER.public, b"others") or b"", sealed) is None


def test_a_mask_is_of_its_seed_and_even() -> None:
    words = mask(b"\3" * 32, 100_000)
    assert (words == mask(b"\3" * 32, 100_000)).all()
    assert (words != mask(b"\4" * 32, 100_000)).all()
    bits = np.unpackbits(words.view(np.uint8)).reshape(-1, 64).mean(axis=0)
    # 100,000 fair coins: six standard deviations.
    assert np.abs(bits - 0.5).max() < 6 * 0.5 / np.sqrt(100_000)
