"""Limits of a node's machine on the wire: what is asked beside a task, and what a node says of itself.

What always holds: each is within the bounds that the option table and the node's settings have; 0 stands for
one of which nothing is said.
"""

from __future__ import annotations

from heliosdb.domain.bounds import Bounds
from heliosdb.domain.limits import LEAST_MEMORY_GB, LIMIT_NAMES, NO_LIMITS, Limits
from heliosdb.transport import federation_pb2 as pb
from heliosdb.transport.checks import read_within

_WITHIN = {
    "max_memory_gb": Bounds(LEAST_MEMORY_GB, 1e5),
    "max_cpu_cores": Bounds(1, 10_000),
    "max_bandwidth_mbps": Bounds(1e-3, 1e6),
    "task_limit_seconds": Bounds(1e-3, 1e9),
}


def limits_to_proto(limits: Limits) -> pb.Limits | None:
    """Limits for the wire; None where there are none."""
    return None if limits == NO_LIMITS else pb.Limits(**limits.to_json())  # type: ignore[arg-type]


def limits_from_proto(message: pb.Limits) -> Limits:
    """Limits from the wire; FederatedError INVALID_VALUE for one outside its bounds."""
    told = {name: getattr(message, name) for name in LIMIT_NAMES}
    return Limits(**{name: read_within(name, value, _WITHIN[name]) for name, value in told.items() if value})  # type: ignore[arg-type]
