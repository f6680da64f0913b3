"""A secure sum's own messages, opened with whole numbers and fractions alone, as the paper's figure 4 says."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from heliosdb.aggregation.secure_keys import Group
from heliosdb.privacy.ring import MOST_WIDE, ring_for
from tests.support.secure_sums import Play, vectors

P256 = 0xFFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFF


def derived(secret: bytes, about: bytes) -> bytes:
    return HKDF(hashes.SHA256(), 32, salt=None, info=b"heliosdb secure sum v1\0" + about).derive(secret)


def opened(shares: dict[int, int]) -> bytes:
    """Lagrange at zero over the field."""
    total = 0
    for point, share in shares.items():
        weight = 1
        for other in shares:
            if other != point:
                weight = weight * other * pow(other - point, -1, P256) % P256
        total += weight * share
    return (total % P256).to_bytes(31, "big")


def numbers(words: np.ndarray, limbs: int) -> list[int]:
    """Each number's words put together."""
    return [
        sum(int(word) << 64 * place for place, word in enumerate(one)) for one in words.reshape(limbs, -1).T
    ]


def mask(seed: bytes, words: int) -> np.ndarray:
    stream = Cipher(algorithms.AES(derived(seed, b"mask")), modes.CTR(bytes(16))).encryptor()
    return np.frombuffer(stream.update(bytes(8 * words)), dtype="<u8")


@pytest.mark.parametrize(("nodes", "lost", "size"), [(3, 0, 7), (7, 2, 7), (7, 1, MOST_WIDE + 1)])
def test_the_messages_lead_to_the_exact_sum(nodes: int, lost: int, size: int) -> None:
    sent = vectors(nodes, size, seed=nodes)
    left = sorted(sent)[lost:]
    play = Play(sent).until("shares")
    play.stage("masked", left)
    play.stage("consistency", left)
    group = Group.read(play.heard["keys"], int(play.heard["threshold"][0]))
    told = {play.place(node): play.answer("unmask", node).reshape(-1, 32) for node in left}
    ring, limbs = ring_for(size), ring_for(size).limbs
    total = [
        sum(column)
        for column in zip(*(numbers(play.said["masked"][node], limbs) for node in left), strict=True)
    ]
    tellers = sorted(told)[: group.threshold]
    for place, keys in enumerate(group.keys):
        secret = opened({at + 1: int.from_bytes(told[at][place].tobytes(), "big") for at in tellers})
        if place in told:
            moved = [(-1, secret)]
        else:
            private = X25519PrivateKey.from_private_bytes(derived(secret, b"key pair\0masks"))
            moved = []
            for other in told:
                theirs = X25519PublicKey.from_public_bytes(group.keys[other].mask_key)
                low, high = sorted((keys.fingerprint, group.keys[other].fingerprint))
                seed = derived(private.exchange(theirs), b"mask\0" + group.digest + low + high)
                moved.append((-1 if other < place else 1, seed))
        for sign, seed in moved:
            masks = numbers(mask(seed, size * limbs), limbs)
            total = [value + sign * one for value, one in zip(total, masks, strict=True)]
    whole = 1 << 64 * limbs
    found = [Fraction((value + whole // 2) % whole - whole // 2, 1 << ring.fraction) for value in total]
    exact = [sum(map(Fraction, column)) for column in zip(*(sent[node] for node in left), strict=True)]
    unit = 0 if size <= MOST_WIDE else Fraction(len(left), 2 << ring.fraction)
    assert max(abs(one - other) for one, other in zip(found, exact, strict=True)) <= unit
