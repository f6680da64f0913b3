"""The codecs that leave every bit as it is and take fewer bytes: zstd and lz4, of the values by planes.

What always holds: nothing is decompressed that does not say beforehand that it is exactly as long as the
values asked for, nor further than that, whatever it says; the same vector at the same level is the same bytes
as long as the library is the same, and decodes to the same bits with any.
"""

from __future__ import annotations

from typing import Any

import lz4.frame
import zstandard

from heliosdb.domain.vector import AnyVector, Dtype
from heliosdb.parts.codecs import ZstdSettings
from heliosdb.transport.planes import from_planes, to_planes


class Zstd:
    """Zstandard (RFC 8878), one frame with its content's size."""

    name = "zstd"

    def encode(self, vector: AnyVector, dtype: Dtype, settings: ZstdSettings) -> bytes:
        """The vector as bytes, at the settings' level."""
        if not vector.size:
            return b""
        compressor = zstandard.ZstdCompressor(level=settings.compression_level)
        return compressor.compress(to_planes(vector, dtype.value))

    def decode(self, raw: bytes, length: int, dtype: Dtype) -> AnyVector:
        """The vector; ValueError where these are not one frame of so many values."""
        size = length * dtype.itemsize
        if not size:
            return _nothing(raw, dtype)
        try:
            if zstandard.get_frame_parameters(raw).content_size != size:
                raise ValueError("not so many values")
            plain = zstandard.ZstdDecompressor().decompress(raw, size, allow_extra_data=False)
        except zstandard.ZstdError as error:
            raise ValueError("not compressed") from error
        return _values(plain, size, dtype)

    def most(self, length: int, dtype: Dtype) -> int:
        """As ZSTD_COMPRESSBOUND has it, and a little."""
        size = length * dtype.itemsize
        return size + (size >> 8) + 128


class Lz4:
    """An LZ4 frame with its content's size: less small than zstd makes it, and faster."""

    name = "lz4"

    def encode(self, vector: AnyVector, dtype: Dtype, settings: Any) -> bytes:
        """The vector as bytes."""
        del settings
        if not vector.size:
            return b""
        packed: bytes = lz4.frame.compress(to_planes(vector, dtype.value), store_size=True)
        return packed

    def decode(self, raw: bytes, length: int, dtype: Dtype) -> AnyVector:
        """The vector; ValueError where these are not one frame of so many values."""
        size = length * dtype.itemsize
        if not size:
            return _nothing(raw, dtype)
        decompressor = lz4.frame.LZ4FrameDecompressor()
        try:
            if lz4.frame.get_frame_info(raw)["content_size"] != size:
                raise ValueError("not so many values")
            # One byte more, so that the end of the frame is read too.
            plain = decompressor.decompress(raw, max_length=size + 1)
        except RuntimeError as error:
            raise ValueError("not compressed") from error
        if not decompressor.eof or decompressor.unused_data:
            raise ValueError("not one frame")
        return _values(plain, size, dtype)

    def most(self, length: int, dtype: Dtype) -> int:
        """As LZ4F_compressFrameBound has it, and a little: what does not shrink is stored as it is."""
        size = length * dtype.itemsize
        return size + (size >> 12) + 64


def _nothing(raw: bytes, dtype: Dtype) -> AnyVector:
    """No values, of which there are no bytes: a library does not read on in an empty frame."""
    if raw:
        raise ValueError("there are no values")
    return from_planes(raw, dtype.value)


def _values(plain: bytes, size: int, dtype: Dtype) -> AnyVector:
    if len(plain) != size:
        raise ValueError("not so many values")
    return from_planes(plain, dtype.value)


ZSTD = Zstd()
LZ4 = Lz4()
