"""A node's own parts of models, in its own database: sealed until it predicts with them.

What always holds: a part is written with the release of what was told of it, or neither is; no statement of
anybody's reads what is sealed in it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from heliosdb.catalog.connection import Connection, Statements
from heliosdb.domain.ids import ModelName, WorkspaceName
from heliosdb.domain.subscription import Offer
from heliosdb.domain.task import TaskKey

_SQL = Statements("personal.sql")


@dataclass(frozen=True, slots=True)
class NewPersonal:
    """What a node keeps of a run for good. way: as of the option personalization. figures: of the version and
    of its own model, over the rows that it holds out."""

    way: str
    figures: Mapping[str, Any]
    sealed: bytes


@dataclass(frozen=True, slots=True)
class StoredPersonal:
    """A part as it is kept. round_number: in which it was made."""

    run: UUID
    round_number: int
    sealed: bytes


def put_personal(connection: Connection, key: TaskKey, model: ModelName, new: NewPersonal) -> None:
    """Keep a part, in the place of an earlier one of the run; those of runs long ago of the model go."""
    figures = json.dumps(dict(new.figures), allow_nan=False)
    named = (key.workspace, key.run, key.node, model)
    _SQL.execute(connection, "put_personal", *named, key.round, new.way, figures, new.sealed)


def find_personal(connection: Connection, offer: Offer) -> StoredPersonal | None:
    """Return the node's own part of the version that is offered; None where it has none."""
    found = _SQL.query(connection, "find_personal", offer.workspace, offer.node, offer.version, offer.key)
    if not found:
        return None
    row = found[0]
    return StoredPersonal(row["run_id"], row["round_number"], bytes(row["sealed"]))


def destroy_personal(connection: Connection, workspace: WorkspaceName) -> int:
    """Destroy the node's own parts of a workspace's models, and what predicts with them; how many."""
    return int(_SQL.query(connection, "destroy_personal", workspace)[0]["destroyed"])
