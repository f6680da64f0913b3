"""Secrets in shares, any `threshold` of which open them and fewer tell nothing (Shamir 1979).

What always holds: a share is a value of the secret's polynomial over the field of P256; its coefficients come
from the operating system's generator; who shares is told by nothing but the point, 1, 2, 3 and so on.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence

PRIME = 2**256 - 2**224 + 2**192 + 2**96 - 1
"""The field of NIST's curve P-256: the largest prime in common use that fits into 32 bytes."""

SECRET_BYTES, SHARE_BYTES = 31, 32
"""A secret is a number below 2**248, which the field holds; a share is any number of the field."""


def split(secret: bytes, shares: int, threshold: int) -> list[bytes]:
    """The shares at the points 1 … `shares` of a secret of SECRET_BYTES; ValueError for another one.

    threshold: how many of them open it, from 1 to `shares`.
    """
    if len(secret) != SECRET_BYTES or not 1 <= threshold <= shares:
        raise ValueError("not a secret, or more shares needed than there are")
    coefficients = [int.from_bytes(secret, "big")]
    coefficients += [secrets.randbelow(PRIME) for _ in range(threshold - 1)]
    return [_value(coefficients, point).to_bytes(SHARE_BYTES, "big") for point in range(1, shares + 1)]


def weights_at_zero(points: Sequence[int]) -> list[int]:
    """Lagrange's weights of these points, all different: the secret is the sum of weight x share."""
    found = []
    for point in points:
        above = below = 1
        for other in points:
            if other != point:
                above = above * other % PRIME
                below = below * (other - point) % PRIME
        found.append(above * pow(below, -1, PRIME) % PRIME)
    return found


def is_share(raw: bytes) -> bool:
    """Whether bytes are a number of the field."""
    return len(raw) == SHARE_BYTES and int.from_bytes(raw, "big") < PRIME


def join(shares: Mapping[int, bytes], weights: Sequence[int] | None = None) -> bytes | None:
    """The secret that shares by point lead to; None where they lead to none of SECRET_BYTES.

    Exactly as many as the threshold are to be given: more do not check each other here. weights: of
    `weights_at_zero`, in the order of `shares`, where they are known.
    """
    weights = weights_at_zero(list(shares)) if weights is None else weights
    total = 0
    for weight, share in zip(weights, shares.values(), strict=True):
        total += weight * int.from_bytes(share, "big")
    secret = total % PRIME
    return secret.to_bytes(SECRET_BYTES, "big") if secret < 1 << (8 * SECRET_BYTES) else None


def _value(coefficients: Sequence[int], point: int) -> int:
    value = 0
    for coefficient in reversed(coefficients):
        value = (value * point + coefficient) % PRIME
    return value
