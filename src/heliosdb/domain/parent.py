"""The version that a run begins with.

What always holds: it is named as it was called when the run was queued, whatever became of it since.
"""

from __future__ import annotations

from dataclasses import dataclass

from heliosdb.domain.ids import RunId


@dataclass(frozen=True, slots=True)
class Parent:
    """The version that a run begins with. run: whose version it is."""

    model: str
    version: int
    run: RunId

    @property
    def name(self) -> str:
        """As statements name it."""
        return f"{self.model}@{self.version}"
