"""Secrets in shares, any `threshold` of which open them and fewer tell nothing (Shamir 1979).

What always holds: a share is a value of the secret's polynomial over the field of P256; its coefficients come
from the operating system's generator; a share says of itself nothing but its value: its point, a
number from 1 on, is known by whose it is.
"""

from __future__ import annotations

import itertools
import math
import secrets
from collections.abc import Mapping, Sequence

PRIME = 2**256 - 2**224 + 2**192 + 2**96 - 1
"""The field of NIST's curve P-256: the largest prime in common use that fits into 32 bytes."""

SECRET_BYTES, SHARE_BYTES = 31, 32
"""A secret is a number below 2**248, which the field holds; a share is any number of the field."""


def split(secret: bytes, points: Sequence[int], threshold: int) -> list[bytes]:
    """The shares at these points, all different and from 1 on, of a secret of SECRET_BYTES; ValueError for
    another one.

    threshold: how many of them open it, from 1 to as many as there are.
    """
    if len(secret) != SECRET_BYTES or not 1 <= threshold <= len(points):
        raise ValueError("not a secret, or more shares needed than there are")
    coefficients = [int.from_bytes(secret, "big")]
    coefficients += [secrets.randbelow(PRIME) for _ in range(threshold - 1)]
    return [_value(coefficients, point).to_bytes(SHARE_BYTES, "big") for point in points]


def weights_at_zero(points: Sequence[int]) -> list[int]:
    """Lagrange's weights of these points, all different: the secret is the sum of weight x share."""
    # Of point i the product of the others, j / (j - i), is that of all divided by i and by that of all j - i.
    whole = math.prod(points) % PRIME
    below = [
        point * math.prod(other - point for other in points if other != point) % PRIME for point in points
    ]
    return [whole * one % PRIME for one in _inverses(below)]


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


def _inverses(numbers: Sequence[int]) -> list[int]:
    """Of numbers of the field, none of them 0; one division for all (Montgomery 1987, section 10.3.1)."""
    before = list(itertools.accumulate(numbers, lambda one, other: one * other % PRIME, initial=1))
    rest, found = pow(before[-1], -1, PRIME), []
    for number, product in zip(reversed(numbers), reversed(before[:-1]), strict=True):
        found.append(rest * product % PRIME)
        rest = rest * number % PRIME
    return found[::-1]


def _value(coefficients: Sequence[int], point: int) -> int:
    value = 0
    for coefficient in reversed(coefficients):
        value = (value * point + coefficient) % PRIME
    return value
