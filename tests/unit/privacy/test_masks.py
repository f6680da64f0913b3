"""Keys that pairs agree on: the same at both ends, for one purpose each, and none with a weak key."""

from __future__ import annotations

import numpy as np
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from heliosdb.privacy.masks import Agreement, Masks, seal, unseal
from heliosdb.privacy.ring import add
from tests.support.secure_sums import mask

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


@pytest.mark.parametrize(
    ("count", "limbs", "times"), [(1, 34, 3), (5, 3, 600), (20_000, 2, 2), (8_192, 1, 2)]
)
def test_masks_are_streams_of_zeros_which_add_up_as_whole_numbers(count: int, limbs: int, times: int) -> None:
    """Carries of more masks than are counted at once among them."""
    masks, expected = Masks(count * limbs, limbs), np.zeros(count * limbs, dtype=np.uint64)
    for number in range(times):
        seed = number.to_bytes(31, "big")
        masks.add(seed)
        add(expected, stream(seed, count * limbs), limbs)
        if number == 1:
            assert (masks.total() == expected).all()
    assert (masks.total() == expected).all()


def stream(seed: bytes, words: int) -> np.ndarray:
    """AES in counter mode, over zeros, under the key that HKDF makes of the seed."""
    key = HKDF(hashes.SHA256(), 32, salt=None, info=b"heliosdb secure sum v1\0mask").derive(seed)
    made = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor().update(bytes(8 * words))
    return np.frombuffer(made, dtype="<u8").astype(np.uint64)


def test_masks_add_up_as_pythons_own_whole_numbers_do() -> None:
    limbs, seeds = 3, [bytes([number]) * 31 for number in range(200)]
    masks = Masks(limbs, limbs)
    for seed in seeds:
        masks.add(seed)
    numbers = (_number(stream(seed, limbs)) for seed in seeds)
    assert _number(masks.total()) == sum(numbers) % 2 ** (64 * limbs)


def test_a_carry_goes_all_the_way_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of words of ones, to which one is added: chance does not make these."""
    masks, words = Masks(5, 5), [2**64 - 1] * 4 + [7]
    for made in (words, [1, 0, 0, 0, 0]):
        chosen = b"".join(word.to_bytes(8, "little") for word in made)
        monkeypatch.setattr("heliosdb.privacy.masks.Cipher", lambda *_, told=chosen: Told(told))
        masks.add(bytes(31))
    assert masks.total().tolist() == [0, 0, 0, 0, 8]


class Told:
    """A stream of bytes that are given."""

    def __init__(self, told: bytes) -> None:
        self._told = told

    def encryptor(self) -> Told:
        return self

    def update_into(self, data: memoryview, buffer: bytearray) -> None:
        buffer[: len(data)], self._told = self._told[: len(data)], self._told[len(data) :]


def _number(words: np.ndarray) -> int:
    return sum(int(word) << (64 * place) for place, word in enumerate(words))
