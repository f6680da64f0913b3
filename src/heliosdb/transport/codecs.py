"""How a vector's values are encoded for the wire: what a codec is, and the one that leaves them as they are.

What always holds: what is larger than `most` is refused before it is read; a codec decodes what it encoded
to a vector of the same length and type, bit for bit. What is left out or rounded of an update is so before it
comes to a codec, which is then given the bytes (transport/lossy.py).
"""

from __future__ import annotations

from typing import Any, Protocol, cast

from heliosdb.domain.coding import Coding
from heliosdb.domain.settings import read_settings
from heliosdb.domain.vector import AnyVector, Dtype, vector_from_bytes, vector_to_bytes
from heliosdb.parts.codecs import CODECS


class Codec(Protocol):
    """An encoding of vectors."""

    @property
    def name(self) -> str:
        """The name in tasks."""
        ...

    def encode(self, vector: AnyVector, dtype: Dtype, settings: Any) -> bytes:
        """The vector as bytes. settings: of the class registered with the name; they change no bit of what
        is decoded."""
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

    def encode(self, vector: AnyVector, dtype: Dtype, settings: Any = None) -> bytes:
        """The vector as bytes."""
        del settings
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


def encode(vector: AnyVector, dtype: Dtype, coding: Coding) -> bytes:
    """What a coding's codec makes of a vector; FederatedError as `codec`, INVALID_VALUE for its settings."""
    return codec(coding.codec).encode(vector, dtype, settings_of_codec(coding))


def most_bytes(length: int, dtype: Dtype, coding: Coding) -> int:
    """The most bytes that a vector of `length` values takes under a coding."""
    return codec(coding.codec).most(*coding.travelling(length, dtype))


def check_coding(coding: Coding) -> None:
    """FederatedError where there is no such codec here, or its settings are none."""
    codec(coding.codec)
    settings_of_codec(coding)


def settings_of_codec(coding: Coding) -> Any:
    """The settings of a coding's codec; FederatedError INVALID_VALUE where they are none."""
    kind: type[Any] = CODECS.entry(coding.codec).settings
    return read_settings(kind, coding.settings, exact=True)
