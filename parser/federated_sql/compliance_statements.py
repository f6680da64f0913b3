"""Statements about compliance: what a person attests where no program can know.

What always holds: as in `statements`, a command carries what the user typed and nothing more.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AttestCompliance:
    """ATTEST FEDERATED COMPLIANCE: `until` is the last day, in whatever form it was typed."""

    workspace: str
    requirement: str
    until: str
    text: str
