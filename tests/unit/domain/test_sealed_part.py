"""A node's part of an export opens for its requester, as that node's answer to that order, and otherwise not."""

from __future__ import annotations

from uuid import UUID

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from heliosdb.domain.errors import FederatedError
from heliosdb.domain.sealed_box import UnopenedBoxError
from heliosdb.domain.sealed_part import derive_private_key, open_part, public_key, seal_part
from heliosdb.domain.subject_export import MOST_BYTES

ORDER = UUID(int=7)
PRIVATE = derive_private_key(b"s" * 32, b"salt")
PLAIN = b"what is held" * 100


def test_it_opens_with_the_requesters_key() -> None:
    sealed = seal_part(public_key(PRIVATE), PLAIN, ORDER, "east")
    assert PLAIN not in sealed
    assert open_part(PRIVATE, sealed, ORDER, "east") == PLAIN


def test_keys_are_those_of_x25519() -> None:
    assert public_key(PRIVATE) == X25519PrivateKey.from_private_bytes(PRIVATE).public_key().public_bytes_raw()


def test_each_export_has_a_key_of_its_own() -> None:
    assert derive_private_key(b"s" * 32, b"other") != PRIVATE != derive_private_key(b"t" * 32, b"salt")


def test_two_seals_of_the_same_have_nothing_in_common() -> None:
    first, second = (seal_part(public_key(PRIVATE), PLAIN, ORDER, "east") for _ in range(2))
    assert sum(x == y for x, y in zip(first, second, strict=True)) < len(first) / 50


@pytest.mark.parametrize("place", [0, 40, 100, 200, -1])
def test_a_changed_byte_is_noticed(place: int) -> None:
    sealed = bytearray(seal_part(public_key(PRIVATE), PLAIN, ORDER, "east"))
    sealed[place] ^= 1
    with pytest.raises(UnopenedBoxError):
        open_part(PRIVATE, bytes(sealed), ORDER, "east")


def test_it_opens_for_nothing_else() -> None:
    sealed = seal_part(public_key(PRIVATE), PLAIN, ORDER, "east")
    other = derive_private_key(b"s" * 32, b"other")
    for private, raw, order, node in (
        (other, sealed, ORDER, "east"),
        (PRIVATE, sealed, UUID(int=8), "east"),
        (PRIVATE, sealed, ORDER, "west"),
        (PRIVATE, sealed[:-1], ORDER, "east"),
        (PRIVATE, b"", ORDER, "east"),
        (PRIVATE, bytes(200), ORDER, "east"),
    ):
        with pytest.raises(UnopenedBoxError):
            open_part(private, raw, order, node)


def test_the_largest_part_opens() -> None:
    plain = b"x" * MOST_BYTES
    assert open_part(PRIVATE, seal_part(public_key(PRIVATE), plain, ORDER, "n"), ORDER, "n") == plain


def test_what_is_no_public_key_is_refused() -> None:
    with pytest.raises(FederatedError):
        seal_part(bytes(32), PLAIN, ORDER, "east")
