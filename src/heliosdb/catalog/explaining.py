"""What EXPLAIN reads of the catalog: a model without a lock, who could take part, what earlier rounds took.

What always holds: nothing here writes or locks; every function is one statement under the caller's rights.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from heliosdb.catalog.commands import Model, Options, Workspace, model_of
from heliosdb.catalog.connection import Connection, Statements
from heliosdb.domain.ids import NodeName

_SQL = Statements("explaining.sql")


@dataclass(frozen=True, slots=True)
class Standing:
    """How a registered node stands, as the coordinator last saw it. rows: as it released them in a run,
    else as its dataset_size declares; None where neither is known."""

    name: NodeName
    status: str
    failure_reason: str | None
    is_expired: bool
    rows: int | None


@dataclass(frozen=True, slots=True)
class Measured:
    """What closed rounds have taken. seconds: the median of a training round, of `rounds` of them;
    preparation: of a round 0; None where there was none. of_model: whether all are of the model itself."""

    rounds: int
    of_model: bool
    seconds: float | None
    preparation: float | None


@dataclass(frozen=True, slots=True)
class Traffic:
    """Of the model's training rounds so far, medians of what one node and round took: exchanges, and bytes
    as they were sent; None where there was none."""

    exchanges: float
    bytes_down: float
    bytes_up: float


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error that the catalog would raise."""

    sqlstate: str
    message: str
    detail: str | None
    hint: str | None


def read_model(connection: Connection, name: str) -> Model | None:
    """Return the model of that name with its workspace, as it stands."""
    rows = _SQL.query(connection, "read_model", name)
    return model_of(rows[0]) if rows else None


def list_standings(connection: Connection, workspace: Workspace) -> Mapping[NodeName, Standing]:
    """Return how the nodes of a workspace stand, in the order of their names."""
    return {
        NodeName(row["name"]): Standing(
            NodeName(row["name"]),
            row["status"],
            row["failure_reason"],
            row["is_expired"],
            row["dataset_size"],
        )
        for row in _SQL.query(connection, "list_participants", workspace.workspace_id)
    }


def why_not_plain(connection: Connection, workspace: Workspace, policy: Options) -> Refusal | None:
    """Return why the workspace's compliance mode lets no run in without a budget; None where it does."""
    found = _SQL.query(
        connection, "why_not_plain", workspace.workspace_id, json.dumps(policy, ensure_ascii=False)
    )[0]["failure"]
    return None if found is None else Refusal(**json.loads(found))


def measure_rounds(connection: Connection, model: Model) -> Measured:
    """Return what rounds of the model took, where there was none those of its workspace's models."""
    row = _SQL.query(connection, "measure_rounds", model.workspace.workspace_id, model.model_id)[0]
    own = row["own"] > 0
    seconds = row["own_seconds"] if own else row["seconds"]
    preparation = row["own_preparation"] if row["own_preparation"] is not None else row["preparation"]
    return Measured(row["own"] if own else row["all_of_workspace"], own, seconds, preparation)


def measure_traffic(connection: Connection, model: Model) -> Traffic | None:
    """Return what a round of the model took of the network, None where there was none."""
    row = _SQL.query(connection, "measure_bytes", model.model_id)[0]
    if row["exchanges"] is None:
        return None
    return Traffic(row["exchanges"], row["bytes_down"] or 0.0, row["bytes_up"] or 0.0)
