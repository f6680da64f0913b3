"""Of which workers an engine is, as a node's settings say it.

What always holds: nothing in it is secret, and reading settings imports no engine and no numerical library.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class DaskPlace:
    """Of which workers an engine is. workers: so many processes of this machine; 0: those of a scheduler.

    scheduler: `tls://host:port`; ca, certificate, private_key: files, for it. reader: conninfo by which
    workers reach the database, without a password.
    """

    workers: int = 0
    scheduler: str = ""
    ca: str = ""
    certificate: str = ""
    private_key: str = ""
    reader: str = ""

    def to_json(self) -> str:
        """Write it; nothing in it is secret."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, raw: str) -> DaskPlace:
        """Read what `to_json` wrote."""
        return cls(**json.loads(raw))
