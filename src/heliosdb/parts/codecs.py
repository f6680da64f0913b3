"""The codecs by name, and their settings."""

from __future__ import annotations

from dataclasses import dataclass

from heliosdb.domain.bounds import Bounds
from heliosdb.domain.settings import within
from heliosdb.parts.registry import Registry


@dataclass(frozen=True, slots=True)
class ZstdSettings:
    """Of zstd. compression_level: its effort."""

    compression_level: int = within(Bounds(1, 22), default=3)


CODECS = Registry("codec")
CODECS.register("none", "heliosdb.transport.codecs:UNCODED")
CODECS.register("zstd", "heliosdb.transport.compressors:ZSTD", settings=ZstdSettings)
CODECS.register("lz4", "heliosdb.transport.compressors:LZ4")
