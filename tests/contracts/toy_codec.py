"""A toy codec to hold the contract of codecs up to: deflated bytes, inflated no further than was asked for."""

from __future__ import annotations

import zlib
from typing import Any

from heliosdb.domain.vector import AnyVector, Dtype, vector_from_bytes, vector_to_bytes


class ToyDeflated:
    """The values' bytes, deflated."""

    name = "toy_deflated"

    def encode(self, vector: AnyVector, dtype: Dtype, settings: Any = None) -> bytes:
        """The vector as bytes."""
        del settings
        return zlib.compress(vector_to_bytes(vector, dtype))

    def decode(self, raw: bytes, length: int, dtype: Dtype) -> AnyVector:
        """The vector; ValueError where these are not the deflated bytes of so many values."""
        inflater, expected = zlib.decompressobj(), length * dtype.itemsize
        try:
            values = inflater.decompress(raw, expected + 1)
        except zlib.error as error:
            raise ValueError("not deflated") from error
        if len(values) != expected or not inflater.eof or inflater.unused_data:
            raise ValueError("not so many values")
        return vector_from_bytes(values, dtype)

    def most(self, length: int, dtype: Dtype) -> int:
        """As zlib bounds it, and a little."""
        size = length * dtype.itemsize
        return size + (size >> 10) + 64


TOY_DEFLATED = ToyDeflated()
