"""The Merkle tree of RFC 6962 over the entries of a log, and the proofs that its heads are about one log.

What always holds: a root, a path and an edge depend on the leaves and their order alone; a verifier never
raises, whatever it is given, and takes a proof only if each hash of it was needed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

HASH_BYTES = 32

Range = tuple[int, int]
"""Leaves from the first number up to, not including, the second."""


def leaf_hash(data: bytes) -> bytes:
    """Return the hash of a leaf's data: SHA-256 of 00 and the data (RFC 6962, section 2.1)."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of a node above two others: SHA-256 of 01 and both."""
    return hashlib.sha256(b"\x01" + left + right).digest()


@dataclass(frozen=True, slots=True)
class Edge:
    """All that is needed of a log's first `size` leaves to go on: the roots of its full subtrees, the largest
    first.

    There is one for each bit that is set in size.
    """

    size: int = 0
    hashes: tuple[bytes, ...] = ()

    @property
    def root(self) -> bytes:
        """The root of the tree over these leaves; SHA-256 of nothing where there is none."""
        return _fold(self.hashes) if self.hashes else hashlib.sha256().digest()

    def extend(self, leaves: Iterable[bytes]) -> Edge:
        """Return the edge after further leaves, given by their data."""
        size, hashes = self.size, list(self.hashes)
        for data in leaves:
            one = leaf_hash(data)
            place = size
            while place & 1:
                one = node_hash(hashes.pop(), one)
                place >>= 1
            hashes.append(one)
            size += 1
        return Edge(size, tuple(hashes))

    def to_bytes(self) -> bytes:
        """Return its hashes in a row; `edge_from_bytes` reads them, given the size."""
        return b"".join(self.hashes)


def edge_from_bytes(size: int, packed: bytes) -> Edge:
    """Read what `Edge.to_bytes` wrote; ValueError where there are not as many hashes as the size has bits."""
    if size < 0 or len(packed) != size.bit_count() * HASH_BYTES:
        raise ValueError("as many hashes belong to an edge as its size has bits that are set")
    return Edge(size, tuple(packed[at : at + HASH_BYTES] for at in range(0, len(packed), HASH_BYTES)))


def root(leaves: Iterable[bytes]) -> bytes:
    """Return the root of the tree over leaves, given by their data."""
    return Edge().extend(leaves).root


def inclusion_path(leaves: Sequence[bytes], index: int, before: Edge | None = None) -> list[bytes]:
    """Return the path that shows the leaf at index, from its sibling up to the root's child.

    leaves: the data of all leaves of the tree; with `before`, of those after that edge. ValueError for an
    index that is not among them.
    """
    start = before or Edge()
    size = start.size + len(leaves)
    if not start.size <= index < size:
        raise ValueError("the index is none of a leaf that is given")
    return _Subtrees(start, leaves).hashes(_inclusion_ranges(index, size))


def consistency_path(leaves: Sequence[bytes], old: int, new: int, before: Edge | None = None) -> list[bytes]:
    """Return the path that shows that the first `new` leaves begin with the first `old` ones.

    leaves: as for `inclusion_path`, where `before` is of at most `old` leaves. ValueError for old < 1, or a
    new that is less than old or more than there are.
    """
    start = before or Edge()
    if not max(1, start.size) <= old <= new <= start.size + len(leaves):
        raise ValueError("sizes must be 1 ≤ old ≤ new ≤ the number of leaves")
    return _Subtrees(start, leaves).hashes(_consistency_ranges(old, new))


def verify_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> bool:
    """Tell whether a path shows that a leaf, by its hash, is at index in the tree of that size and root."""
    if not 0 <= index < size or not _are_hashes((leaf, root, *path)):
        return False
    left = _sides(index, size)
    if len(path) != len(left):
        return False
    hashed = leaf
    for sibling, is_left in zip(path, left, strict=True):
        hashed = node_hash(sibling, hashed) if is_left else node_hash(hashed, sibling)
    return hashed == root


def verify_consistency(
    old_size: int, old_root: bytes, new_size: int, new_root: bytes, path: Sequence[bytes]
) -> bool:
    """Tell whether a path shows that the tree of the new head begins with all leaves of the old one."""
    if not 1 <= old_size <= new_size or not _are_hashes((old_root, new_root, *path)):
        return False
    if old_size == new_size:
        return not path and old_root == new_root
    steps = list(path)
    # A full tree is itself the first hash of the path, and is left out of it.
    if old_size & (old_size - 1) == 0:
        steps.insert(0, old_root)
    place, last = old_size - 1, new_size - 1
    while place & 1:
        place, last = place >> 1, last >> 1
    if not steps:
        return False
    old = new = steps.pop(0)
    for step in steps:
        if last == 0:
            return False
        if place & 1 or place == last:
            old, new = node_hash(step, old), node_hash(step, new)
            while place and not place & 1:
                place, last = place >> 1, last >> 1
        else:
            new = node_hash(new, step)
        place, last = place >> 1, last >> 1
    return last == 0 and old == old_root and new == new_root


def _fold(hashes: Sequence[bytes]) -> bytes:
    folded = hashes[-1]
    for one in reversed(hashes[:-1]):
        folded = node_hash(one, folded)
    return folded


def _are_hashes(values: Iterable[object]) -> bool:
    return all(isinstance(value, bytes) and len(value) == HASH_BYTES for value in values)


def _sides(index: int, size: int) -> list[bool]:
    """Of each hash on a leaf's path whether it stands to the left; without a sibling there is none."""
    sides: list[bool] = []
    last = size - 1
    while last:
        if index & 1 or index != last:
            sides.append(bool(index & 1))
        index, last = index >> 1, last >> 1
    return sides


def _split(size: int) -> int:
    """The largest power of two that is less than size."""
    return 1 << ((size - 1).bit_length() - 1)


def _inclusion_ranges(index: int, size: int) -> list[Range]:
    """What each hash of an inclusion path is over, from the leaf upwards."""
    ranges: list[Range] = []
    low, high = 0, size
    while high - low > 1:
        middle = low + _split(high - low)
        if index < middle:
            ranges.append((middle, high))
            high = middle
        else:
            ranges.append((low, middle))
            low = middle
    return ranges[::-1]


def _consistency_ranges(old: int, new: int) -> list[Range]:
    """What each hash of a consistency path is over (RFC 6962, section 2.1.2)."""
    ranges: list[Range] = []
    low, high = 0, new
    while old != high:
        middle = low + _split(high - low)
        if old <= middle:
            ranges.append((middle, high))
            high = middle
        else:
            ranges.append((low, middle))
            low = middle
    if low:
        ranges.append((low, high))
    return ranges[::-1]


class _Subtrees:
    """Hashes of subtrees over leaves of which the first are known by their edge alone."""

    def __init__(self, before: Edge, leaves: Sequence[bytes]) -> None:
        self._before = before
        self._leaves = leaves
        self._known: dict[Range, bytes] = {}
        low = 0
        for one in before.hashes:
            high = low + (1 << ((before.size - low).bit_length() - 1))
            self._known[low, high] = one
            low = high

    def hashes(self, ranges: Iterable[Range]) -> list[bytes]:
        """The hash of each range; ranges that lie before the edge's end must be made of its subtrees."""
        return [self._hash(*each) for each in ranges]

    def _hash(self, low: int, high: int) -> bytes:
        if low >= self._before.size:
            return root(self._leaves[low - self._before.size : high - self._before.size])
        known = self._known.get((low, high))
        if known is not None:
            return known
        middle = low + _split(high - low)
        return node_hash(self._hash(low, middle), self._hash(middle, high))
