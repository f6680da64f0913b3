"""The aggregation strategies by name."""

from __future__ import annotations

from heliosdb.parts.registry import Registry

STRATEGIES = Registry("aggregation")
STRATEGIES.register("fedavg", "heliosdb.aggregation.fedavg:FEDAVG")
