"""Versions with which runs begin: what a START may name, and what the coordinator reads of one.

What always holds: which version that is, and whether a run may begin with it, the catalog says
(sql/lineage.sql).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from heliosdb.catalog.connection import Connection, Statements
from heliosdb.catalog.run_options import parse_options
from heliosdb.domain.ids import RoundNumber
from heliosdb.domain.parent import Parent
from heliosdb.domain.run import TrainingOptions

_SQL = Statements("origins.sql")


@dataclass(frozen=True, slots=True)
class Named:
    """A version that a START names. options: of its run. epsilon: what it cost; None where its workspace had
    no budget. is_owned: whether the caller owns its model."""

    model: str
    version: int
    workspace: str
    options: TrainingOptions
    epsilon: float | None
    is_owned: bool

    @property
    def name(self) -> str:
        """As statements name it."""
        return f"{self.model}@{self.version}"


@dataclass(frozen=True, slots=True)
class StoredVersion:
    """A version as it is kept. sealed: its state; sha256: of that before. scaling: what its round 0 found,
    as JSON. options: of its run."""

    round: RoundNumber
    sealed: bytes
    sha256: bytes
    scaling: Mapping[str, Any]
    options: TrainingOptions
    is_retired: bool


def read_parent(
    connection: Connection, reference: str, options: Mapping[str, Any], policy: Mapping[str, Any]
) -> Named:
    """Return the version that model[@tag] names; fails with 42704, 55000, 0A000 or 22023 where a run of such
    options and policy may not begin with it."""
    row = _SQL.query(connection, "read_parent", reference, json.dumps(options), json.dumps(policy))[0]
    found = parse_options(json.loads(row["options"]), policy=json.loads(row["policy"]))
    return Named(
        row["model"], row["version"], row["workspace"], found, row["epsilon"], is_owned=row["is_owned"]
    )


def find_version(connection: Connection, parent: Parent) -> StoredVersion | None:
    """Return a version as it is kept; None where it was dropped."""
    rows = _SQL.query(connection, "find_version", str(parent.run), parent.version)
    if not rows:
        return None
    row = rows[0]
    return StoredVersion(
        RoundNumber(row["round_number"]),
        bytes(row["sealed"]),
        bytes(row["sha256"]),
        json.loads(row["scaling"]),
        parse_options(json.loads(row["options"]), policy=json.loads(row["policy"])),
        row["is_retired"],
    )
