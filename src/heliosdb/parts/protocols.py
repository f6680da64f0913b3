"""The sum protocols by name."""

from __future__ import annotations

from heliosdb.parts.registry import Registry

PROTOCOLS = Registry("sum protocol")
PROTOCOLS.register("plain", "heliosdb.aggregation.plain:PLAIN")
