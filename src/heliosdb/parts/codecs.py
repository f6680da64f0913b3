"""The codecs by name."""

from __future__ import annotations

from heliosdb.parts.registry import Registry

CODECS = Registry("codec", has_settings=False)
CODECS.register("none", "heliosdb.transport.codecs:UNCODED")
