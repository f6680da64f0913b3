"""Shamir's shares: any threshold of them open a secret, and fewer fit every secret."""

from __future__ import annotations

import itertools
import random

import pytest

from heliosdb.privacy.sharing import (
    PRIME,
    SECRET_BYTES,
    SHARE_BYTES,
    is_share,
    join,
    split,
    weights_at_zero,
)

SECRET = bytes(range(1, SECRET_BYTES + 1))


@pytest.mark.parametrize("secret", [SECRET, bytes(SECRET_BYTES), b"\xff" * SECRET_BYTES])
def test_any_threshold_of_shares_opens_the_secret(secret: bytes) -> None:
    shares = split(secret, range(1, 6), 3)
    assert all(is_share(share) for share in shares)
    for points in itertools.combinations(range(1, 6), 3):
        assert join({point: shares[point - 1] for point in points}) == secret


def test_sixty_seven_of_a_hundred_open_it() -> None:
    shares = split(SECRET, range(1, 101), 67)
    points = random.Random(3).sample(range(1, 101), 67)
    told = {point: shares[point - 1] for point in points}
    assert join(told) == SECRET
    assert join(told, weights_at_zero(points)) == SECRET


def test_one_share_less_fits_any_secret() -> None:
    """For each secret there is a share of the third node with which two given shares open it."""
    shares = split(SECRET, range(1, 4), 3)
    other = b"\x11" * SECRET_BYTES
    weights = weights_at_zero([1, 2, 3])
    known = sum(
        weight * int.from_bytes(share, "big") for weight, share in zip(weights, shares[:2], strict=False)
    )
    third = (int.from_bytes(other, "big") - known) * pow(weights[2], -1, PRIME) % PRIME
    assert join({1: shares[0], 2: shares[1], 3: third.to_bytes(SHARE_BYTES, "big")}) == other


def test_shares_of_equal_secrets_differ() -> None:
    assert set(split(SECRET, range(1, 4), 2)).isdisjoint(split(SECRET, range(1, 4), 2))


def test_a_changed_share_leads_to_another_secret_or_none() -> None:
    shares = split(SECRET, range(1, 4), 3)
    changed = bytes([shares[0][0] ^ 1]) + shares[0][1:]
    assert join({1: changed, 2: shares[1], 3: shares[2]}) != SECRET


def test_numbers_beyond_the_field_are_no_shares() -> None:
    assert is_share((PRIME - 1).to_bytes(SHARE_BYTES, "big"))
    assert not is_share(PRIME.to_bytes(SHARE_BYTES, "big"))
    assert not is_share(b"\0" * (SHARE_BYTES - 1))


@pytest.mark.parametrize(
    ("secret", "shares", "threshold"), [(b"short", 3, 2), (SECRET, 3, 4), (SECRET, 3, 0)]
)
def test_what_cannot_be_shared_is_an_error(secret: bytes, shares: int, threshold: int) -> None:
    with pytest.raises(ValueError, match="not a secret"):
        split(secret, range(1, shares + 1), threshold)
