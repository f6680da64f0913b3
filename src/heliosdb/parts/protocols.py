"""The sum protocols by name."""

from __future__ import annotations

from heliosdb.parts.registry import Registry

PLAIN = "plain"
"""The one under which the coordinator sees every update; every other is for secure_aggregation."""

PROTOCOLS = Registry("sum protocol", has_settings=False)
PROTOCOLS.register(PLAIN, "heliosdb.aggregation.plain:PLAIN")
