"""How a vector's values are encoded for the wire: what a codec is, and the one that leaves them as they are.

What always holds: what is larger than `most` is refused before it is read; a codec decodes what it encoded
to a vector of the same length and type.
"""

from __future__ import annotations

from typing import Protocol, cast

from heliosdb.domain.vector import AnyVector, Dtype, vector_from_bytes, vector_to_bytes
from heliosdb.parts.codecs import CODECS


class Codec(Protocol):
    """An encoding of vectors."""

    @property
    def name(self) -> str:
        """The name in tasks."""
        ...

    def encode(self, vector: AnyVector, dtype: Dtype) -> bytes:
        """The vector as bytes."""
        ...

    def decode(self, raw: bytes, length: int, dtype: Dtype) -> AnyVector:
        """The vector of `length` values; ValueError for bytes that are none."""
        ...

    def most(self, length: int, dtype: Dtype) -> int:
        """The most bytes that `length` values take."""
        ...


class Uncoded:
    """Values as they are, little-endian."""

    name = "none"

    def encode(self, vector: AnyVector, dtype: Dtype) -> bytes:
        """The vector as bytes."""
        return vector_to_bytes(vector, dtype)

    def decode(self, raw: bytes, length: int, dtype: Dtype) -> AnyVector:
        """The vector; ValueError where the length is another."""
        if len(raw) != length * dtype.itemsize:
            raise ValueError("not so many values")
        return vector_from_bytes(raw, dtype)

    def most(self, length: int, dtype: Dtype) -> int:
        """Exactly so many bytes."""
        return length * dtype.itemsize


UNCODED = Uncoded()


def codec(name: str) -> Codec:
    """The codec of that name; FederatedError NOT_SUPPORTED where there is none."""
    return cast(Codec, CODECS.get(name))
