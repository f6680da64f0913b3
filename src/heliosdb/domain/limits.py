"""What a node's computations may take: memory, processors, its line, and time.

What always holds: a node's own limits are the word of its DBA; what a workspace's registration asks for can
only lower them. Where nothing is said, nothing is limited.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

LEAST_MEMORY_GB = 0.25
"""A training process takes about a third of that before it reads a row."""


@dataclass(frozen=True, slots=True)
class Limits:
    """max_memory_gb: in GiB, what the training process holds for itself. max_cpu_cores: on so many it runs.

    max_bandwidth_mbps: in 10^6 bits a second, what one end sends to the other. task_limit_seconds: for one
    computation; a node alone says it. None: no limit is known.
    """

    max_memory_gb: float | None = None
    max_cpu_cores: int | None = None
    max_bandwidth_mbps: float | None = None
    task_limit_seconds: float | None = None

    def within(self, other: Limits) -> Limits:
        """Return the lower limit of each kind."""
        return Limits(**{name: _lower(getattr(self, name), getattr(other, name)) for name in LIMIT_NAMES})  # type: ignore[arg-type]

    def to_json(self) -> dict[str, float]:
        """Return those that are there, for a catalog."""
        named = ((name, getattr(self, name)) for name in LIMIT_NAMES)
        return {name: value for name, value in named if value is not None}


LIMIT_NAMES = tuple(field.name for field in fields(Limits))

NO_LIMITS = Limits()


def asked_limits(options: Mapping[str, object]) -> Limits:
    """Return what a registration's options ask a node to keep to."""
    return Limits(**{name: options[name] for name in LIMIT_NAMES if name in options})  # type: ignore[arg-type]


def _lower(one: float | None, other: float | None) -> float | None:
    there = [value for value in (one, other) if value is not None]
    return min(there) if there else None
