"""Who cannot take part.

What always holds: it stands apart from the round machine's events: a session of the database needs none of
them.
"""

from __future__ import annotations

from dataclasses import dataclass

from heliosdb.domain.ids import NodeName


@dataclass(frozen=True, slots=True)
class Absence:
    """A node of the workspace that cannot take part now, and why."""

    node: NodeName
    reason: str
