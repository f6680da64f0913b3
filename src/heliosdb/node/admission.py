"""Whose rows an answer is about: who was withdrawn from a workspace is left out of what was read.

What always holds: what is left is as if the rows had never been there; nothing here raises for what rows
hold. A subject is known by the keyed hash of its code, under a key that is in no database.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from heliosdb.algorithms.table import Codes, Mask, keyed_hashes
from heliosdb.catalog.node_orders import SubjectDigests
from heliosdb.node.disclosure import ROW_SET_PURPOSE, RowSet

_DIGEST = np.dtype(">u8")
_PURPOSE = b"subject"


@dataclass(frozen=True, slots=True)
class Admission:
    """Digests of 8 bytes each, rising and each once. withdrawn: whose rows are left out. admitted: whose
    alone are not; None: those of everybody who is not withdrawn. unexplained: whose rows are there and are
    not explained; None: the task explains none. It decides nothing about which rows are read, so admissions
    that differ in it alone are equal."""

    withdrawn: bytes = b""
    admitted: bytes | None = None
    unexplained: bytes | None = field(default=None, compare=False)

    @property
    def digest(self) -> bytes:
        """Tells one from another; b"" where nobody is left out."""
        if not self.leaves_out:
            return b""
        admitted = b"-" if self.admitted is None else b"+" + self.admitted
        return hashlib.sha256(len(self.withdrawn).to_bytes(8, "little") + self.withdrawn + admitted).digest()

    @property
    def withdrawn_digest(self) -> bytes:
        """Tells those who are withdrawn from others; b"" where nobody is."""
        return hashlib.sha256(self.withdrawn).digest() if self.withdrawn else b""

    @property
    def leaves_out(self) -> bool:
        """Whether there may be somebody to leave out."""
        return bool(self.withdrawn) or self.admitted is not None

    def admits(self, codes: Codes, key: bytes) -> Mask:
        """Say of each row, by its subject's code, whether answers may be about it; (n,)."""
        distinct, inverse = np.unique(codes, return_inverse=True)
        digests = subject_hashes(distinct.tolist(), key)
        admitted = ~np.isin(digests, _read(self.withdrawn))
        if self.admitted is not None:
            admitted &= np.isin(digests, _read(self.admitted))
        found: Mask = admitted[inverse]
        return found

    def explains(self, codes: Codes, key: bytes) -> Mask | None:
        """Say of each row, by its subject's code, whether it may be explained; (n,), None: each may."""
        if not self.unexplained or not codes.size:
            return None
        return Admission(self.unexplained).admits(codes, key)


EVERYBODY = Admission()


def subject_hashes(codes: Sequence[int], key: bytes) -> NDArray[np.uint64]:
    """The keyed hash of each subject's code."""
    return keyed_hashes([_name(code) for code in codes], key, _PURPOSE)


def subject_digests(codes: Sequence[int], key: bytes) -> list[SubjectDigests]:
    """The same as the catalog keeps it, the first byte counting most, beside the name in row sets."""
    names = [_name(code) for code in codes]
    both = (keyed_hashes(names, key, purpose) for purpose in (_PURPOSE, ROW_SET_PURPOSE))
    return [
        SubjectDigests(*(int(one).to_bytes(8, "big") for one in pair)) for pair in zip(*both, strict=True)
    ]


def admit_alone(codes: Codes, key: bytes) -> bytes:
    """The digests of these subjects, as an admission has them."""
    return np.unique(subject_hashes(codes.tolist(), key)).astype(_DIGEST).tobytes()


def of_subjects_alone(rows: RowSet, codes: Codes, key: bytes) -> RowSet:
    """What a recorded row set has of these subjects' rows."""
    names = keyed_hashes([_name(code) for code in codes.tolist()], key, ROW_SET_PURPOSE)
    stays = np.isin(rows.subjects, names)
    return RowSet(rows.rows[stays], rows.subjects[stays], rows.held_out[stays])


def without_subjects(content: bytes, row_set_digests: bytes) -> bytes:
    """A recorded row set without the rows of some subjects."""
    rows = RowSet.from_bytes(content)
    stays = ~np.isin(rows.subjects, _read(row_set_digests))
    return RowSet(rows.rows[stays], rows.subjects[stays], rows.held_out[stays]).to_bytes()


def _name(code: int) -> bytes:
    """A subject's code, int8 as the database gives it, as it is hashed."""
    return code.to_bytes(8, "little", signed=True)


def _read(digests: bytes) -> NDArray[np.uint64]:
    return np.frombuffer(digests, dtype=_DIGEST).astype(np.uint64)
