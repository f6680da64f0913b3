"""Numbers by planes: the first byte of each, then the second of each, and so on.

What always holds: `from_planes` gives back what `to_planes` was given, bit for bit. Signs and exponents of an
update are alike, and are found by a compressor where they stand side by side.
"""

from __future__ import annotations

import numpy as np

from heliosdb.domain.vector import AnyVector


def to_planes(values: AnyVector, dtype: str) -> bytes:
    """Return the values' little-endian bytes, by place in the value. dtype: of what is written, by
    numpy's name."""
    kind = np.dtype(dtype).newbyteorder("<")
    raw = np.ascontiguousarray(values, dtype=kind).view(np.uint8)
    return raw.reshape(-1, kind.itemsize).T.tobytes()


def from_planes(raw: bytes, dtype: str) -> AnyVector:
    """Return the values of such bytes, of which there is a whole number of values."""
    kind = np.dtype(dtype).newbyteorder("<")
    planes = np.frombuffer(raw, dtype=np.uint8).reshape(kind.itemsize, -1)
    return np.ascontiguousarray(planes.T).reshape(-1).view(kind)
