"""The Merkle tree against RFC 6962: its own vectors, and its definitions, which recur as the RFC writes them."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliosdb.domain.merkle import (
    Edge,
    consistency_path,
    edge_from_bytes,
    inclusion_path,
    leaf_hash,
    node_hash,
    root,
    verify_consistency,
    verify_inclusion,
)

VECTOR = [
    bytes.fromhex(data)
    for data in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = {
    0: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    1: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    3: "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    8: "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
}
SIZE = 64
LEAVES = [hashlib.sha256(bytes([number])).digest() for number in range(SIZE)]


def split(size: int) -> int:
    power = 1
    while power * 2 < size:
        power *= 2
    return power


def defined_root(leaves: list[bytes]) -> bytes:
    """MTH of section 2.1."""
    if not leaves:
        return hashlib.sha256().digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    k = split(len(leaves))
    return hashlib.sha256(b"\x01" + defined_root(leaves[:k]) + defined_root(leaves[k:])).digest()


def defined_path(index: int, leaves: list[bytes]) -> list[bytes]:
    """PATH of section 2.1.1."""
    if len(leaves) == 1:
        return []
    k = split(len(leaves))
    if index < k:
        return [*defined_path(index, leaves[:k]), defined_root(leaves[k:])]
    return [*defined_path(index - k, leaves[k:]), defined_root(leaves[:k])]


def defined_proof(old: int, leaves: list[bytes], *, whole: bool = True) -> list[bytes]:
    """SUBPROOF of section 2.1.2."""
    if old == len(leaves):
        return [] if whole else [defined_root(leaves)]
    k = split(len(leaves))
    if old <= k:
        return [*defined_proof(old, leaves[:k], whole=whole), defined_root(leaves[k:])]
    return [*defined_proof(old - k, leaves[k:], whole=False), defined_root(leaves[:k])]


@pytest.mark.parametrize("size", ROOTS)
def test_roots_are_those_of_the_vectors(size: int) -> None:
    assert root(VECTOR[:size]).hex() == ROOTS[size]


def test_leaves_and_nodes_are_hashed_apart() -> None:
    assert leaf_hash(b"") == hashlib.sha256(b"\x00").digest()
    assert node_hash(b"a" * 32, b"b" * 32) == hashlib.sha256(b"\x01" + b"a" * 32 + b"b" * 32).digest()
    assert leaf_hash(b"a" * 32 + b"b" * 32) != node_hash(b"a" * 32, b"b" * 32)


@pytest.mark.parametrize("size", range(1, SIZE + 1))
def test_every_inclusion_path_is_the_one_defined_and_verifies(size: int) -> None:
    leaves = LEAVES[:size]
    whole = root(leaves)
    assert whole == defined_root(leaves)
    for index in range(size):
        path = inclusion_path(leaves, index)
        assert path == defined_path(index, leaves)
        assert verify_inclusion(leaf_hash(leaves[index]), index, size, path, whole)


@pytest.mark.parametrize("new", range(1, SIZE + 1))
def test_every_consistency_path_is_the_one_defined_and_verifies(new: int) -> None:
    for old in range(1, new + 1):
        path = consistency_path(LEAVES, old, new)
        assert path == defined_proof(old, LEAVES[:new])
        assert verify_consistency(old, root(LEAVES[:old]), new, root(LEAVES[:new]), path)


@st.composite
def sizes(draw: st.DrawFn) -> tuple[int, int, int]:
    """Leaves of an edge, of an old tree and of a new one, in this order."""
    new = draw(st.integers(1, SIZE))
    old = draw(st.integers(1, new))
    return draw(st.integers(0, old)), old, new


@given(sizes())
def test_an_edge_stands_for_the_leaves_before_it(drawn: tuple[int, int, int]) -> None:
    start, old, new = drawn
    edge = Edge().extend(LEAVES[:start])
    assert edge_from_bytes(start, edge.to_bytes()) == edge
    assert edge.extend(LEAVES[start:new]) == Edge().extend(LEAVES[:new])
    assert consistency_path(LEAVES[start:new], old, new, edge) == consistency_path(LEAVES, old, new)
    for index in range(start, new):
        assert inclusion_path(LEAVES[start:new], index, edge) == inclusion_path(LEAVES[:new], index)


@given(sizes(), st.data())
def test_a_proof_with_one_thing_changed_is_not_taken(
    drawn: tuple[int, int, int], data: st.DataObject
) -> None:
    _, old, new = drawn
    path = consistency_path(LEAVES, old, new)
    whole, before = root(LEAVES[:new]), root(LEAVES[:old])
    assert not verify_consistency(old, before, new, root([b"another", *LEAVES[1:new]]), path)
    assert not verify_consistency(old, root([b"another", *LEAVES[1:old]]), new, whole, path)
    assert not verify_consistency(old, before, new, whole, [*path, whole])
    if path:
        place = data.draw(st.integers(0, len(path) - 1))
        assert not verify_consistency(old, before, new, whole, [*path[:place], bytes(32), *path[place + 1 :]])
        assert not verify_consistency(old, before, new, whole, path[:-1])


@given(st.integers(1, SIZE), st.data())
def test_a_leaf_is_shown_at_its_own_place_alone(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    other = data.draw(st.integers(0, size - 1))
    leaves = LEAVES[:size]
    path, whole = inclusion_path(leaves, index), root(leaves)
    assert verify_inclusion(leaf_hash(leaves[index]), other, size, path, whole) == (other == index)
    assert verify_inclusion(leaf_hash(leaves[other]), index, size, path, whole) == (other == index)
    assert not verify_inclusion(leaf_hash(leaves[index]), index, size, [*path, whole], whole)


@given(
    st.integers(-3, 70),
    st.integers(-3, 70),
    st.lists(st.binary(max_size=40) | st.binary(min_size=32, max_size=32), max_size=9),
    st.binary(min_size=32, max_size=32),
)
def test_verifiers_never_raise(first: int, second: int, path: list[bytes], hashed: bytes) -> None:
    assert not verify_inclusion(hashed, first, second, path, bytes(32))
    assert not verify_consistency(first, hashed, second, bytes(32), path) or hashed == bytes(32)


@pytest.mark.parametrize(("old", "new"), [(0, 3), (4, 3), (2, 9), (-1, 2)])
def test_sizes_that_no_log_has_are_refused(old: int, new: int) -> None:
    with pytest.raises(ValueError, match="sizes"):
        consistency_path(VECTOR, old, new)


@pytest.mark.parametrize("index", [-1, 8])
def test_an_index_that_no_leaf_has_is_refused(index: int) -> None:
    with pytest.raises(ValueError, match="index"):
        inclusion_path(VECTOR, index)


def test_an_edge_of_another_size_is_not_read() -> None:
    with pytest.raises(ValueError, match="bits"):
        edge_from_bytes(3, bytes(32))
