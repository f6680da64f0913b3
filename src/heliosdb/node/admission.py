"""Whose rows an answer is about: who was withdrawn from a workspace is left out of what was read.

What always holds: what is left is as if the rows had never been there; nothing here raises for what rows
hold. A subject is known by the keyed hash of its code, under a key that is in no database.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heliosdb.algorithms.table import Codes, Mask, keyed_hashes

_DIGEST = np.dtype(">u8")


@dataclass(frozen=True, slots=True)
class Admission:
    """Digests of 8 bytes each, rising and each once. withdrawn: whose rows are left out. admitted: whose
    alone are not; None: those of everybody who is not withdrawn."""

    withdrawn: bytes = b""
    admitted: bytes | None = None

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


EVERYBODY = Admission()


def subject_hashes(codes: Sequence[int], key: bytes) -> NDArray[np.uint64]:
    """The keyed hash of each subject's code, int8 as the database gives it."""
    return keyed_hashes([code.to_bytes(8, "little", signed=True) for code in codes], key, b"subject")


def subject_digests(codes: Sequence[int], key: bytes) -> list[bytes]:
    """The same as the catalog keeps them: 8 bytes each, the first counting most."""
    return [int(one).to_bytes(8, "big") for one in subject_hashes(codes, key)]


def _read(digests: bytes) -> NDArray[np.uint64]:
    return np.frombuffer(digests, dtype=_DIGEST).astype(np.uint64)
