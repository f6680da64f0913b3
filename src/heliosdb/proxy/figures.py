"""What the proxy counts, for its administration.

What always holds: a figure only grows while the process lives, and none of them holds anything that a client
said.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Totals:
    """Sums over the life of the process; the last three are of the connections that have ended."""

    sessions: int = 0  # admitted
    refused: int = 0  # turned away because of a limit
    unreachable: int = 0  # admitted, but their server could not be reached
    cancels: int = 0  # cancel requests received
    requests: int = 0
    received: int = 0
    sent: int = 0
