"""What statements read and change: workspaces, nodes, datasets, models and runs, as rows made objects.

What always holds: nothing here decides anything; every function is one statement in the caller's transaction,
under the caller's own privileges.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from heliosdb.catalog.connection import Connection, Row, Statements
from heliosdb.domain.handshake import Introduction, introduction_from_json
from heliosdb.domain.ids import DatasetName, ModelName, NodeName, WorkspaceName

_SQL = Statements("commands.sql")

Options = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Workspace:
    """A workspace as its row stands; options hold only what a statement set."""

    workspace_id: int
    name: WorkspaceName
    options: Options
    owned: bool
    """Whether the caller is a member of the owner role."""


@dataclass(frozen=True, slots=True)
class Node:
    """A registered node of a workspace. introduction: what it last said that it shares; None before it was
    met."""

    name: NodeName
    status: str
    options: Options
    introduction: Introduction | None


@dataclass(frozen=True, slots=True)
class Model:
    """A model and the workspace it belongs to."""

    model_id: int
    name: ModelName
    options: Options
    workspace: Workspace
    owned: bool
    """Whether the caller is a member of the owner role, or of the workspace's."""


@dataclass(frozen=True, slots=True)
class NewRun:
    """A run to be queued. trial: from 1, and fold: from 0, of the series that it belongs to; or group: from
    1, for whose nodes alone it trains a model that votes.

    Without any: a run by itself, or the one with which a series ends.
    """

    overrides: Options
    trial: int | None = None
    fold: int | None = None
    group: int | None = None
    group_nodes: tuple[NodeName, ...] = ()

    @property
    def begins_series(self) -> bool:
        """Whether, being the first of a START, it is one of several."""
        return self.trial is not None or self.group is not None


@dataclass(frozen=True, slots=True)
class Dataset:
    """A dataset as ALTER sees it; `owned` as for a workspace."""

    dataset_id: int
    name: DatasetName
    options: Options
    owned: bool


@dataclass(frozen=True, slots=True)
class Relation:
    """A table, view or the like that a dataset may be made of."""

    schema: str
    name: str
    oid: int
    readable: bool


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a relation and its PostgreSQL type, without modifier."""

    name: str
    type: str


@dataclass(frozen=True, slots=True)
class NewDataset:
    """A dataset about to be shared: the view gets `view_columns`, the workspace learns from `columns`.

    row_key: the table's primary key, () where it has none.
    """

    name: DatasetName
    workspace: WorkspaceName
    relation: Relation
    columns: tuple[Column, ...]
    view_columns: tuple[str, ...]
    row_key: tuple[str, ...]
    predicate: str | None
    options: Options


def _json(options: Options) -> str:
    """Return the options as JSON without escapes, which not every server encoding can take."""
    return json.dumps(options, ensure_ascii=False)


def _workspace(row: Row) -> Workspace:
    return Workspace(
        row["workspace_id"], WorkspaceName(row["name"]), json.loads(row["options"]), row["owned"]
    )


def may_act_as(connection: Connection, role: str) -> bool:
    """Tell whether the caller has the privileges of `role`."""
    return bool(_SQL.query(connection, "may_act_as", role)[0]["allowed"])


def database_encoding(connection: Connection) -> str:
    """Return the name of the encoding in which the server keeps text."""
    return str(_SQL.query(connection, "database_encoding")[0]["encoding"])


def role_names(connection: Connection) -> tuple[str, str]:
    """Return the names of the current and of the session's role."""
    row = _SQL.query(connection, "role_names")[0]
    return str(row["current_role_name"]), str(row["session_role_name"])


def insert_workspace(connection: Connection, name: str, options: Options) -> bool:
    """Make a workspace; False where the name is taken."""
    return bool(_SQL.query(connection, "insert_workspace", name, _json(options)))


def find_workspace(connection: Connection, name: str) -> Workspace | None:
    """Return the workspace of that name."""
    rows = _SQL.query(connection, "find_workspace", name)
    return _workspace(rows[0]) if rows else None


def lock_workspace(connection: Connection, name: str) -> Workspace | None:
    """Return the workspace of that name, locked against other changes until the transaction ends."""
    rows = _SQL.query(connection, "lock_workspace", name)
    return _workspace(rows[0]) if rows else None


def list_workspace_names(connection: Connection) -> list[str]:
    """Return the names of the first two workspaces: enough to know whether there is only one."""
    return [row["name"] for row in _SQL.query(connection, "list_workspace_names")]


def session_workspace(connection: Connection) -> str | None:
    """Return the session's setting heliosdb.workspace."""
    name = _SQL.query(connection, "session_workspace")[0]["name"]
    return str(name) if name is not None else None


def update_workspace(connection: Connection, workspace: Workspace, options: Options) -> None:
    """Replace the options of a workspace."""
    _SQL.query(connection, "update_workspace", workspace.workspace_id, _json(options))


def rename_workspace(connection: Connection, workspace: Workspace, new_name: str) -> None:
    """Rename a workspace that nobody knows by its name yet; triggers refuse what else is asked."""
    _SQL.query(connection, "rename", "workspace", workspace.workspace_id, new_name)


def change_workspace_owner(connection: Connection, workspace: Workspace, owner: str) -> None:
    """Give a workspace to another role; a trigger checks that it exists and that the caller is a member."""
    _SQL.query(connection, "change_workspace_owner", workspace.workspace_id, owner)


def is_workspace_known(connection: Connection, name: str) -> bool:
    """Tell whether there is a workspace of that name here, or a dataset shared with one."""
    return bool(_SQL.query(connection, "is_workspace_known", name)[0]["is_known"])


def delete_workspace(connection: Connection, workspace: Workspace) -> None:
    """Delete a workspace with its nodes; models must be gone, the ledger stays."""
    _SQL.query(connection, "delete_workspace", workspace.workspace_id)


def list_workspace_models(connection: Connection, workspace: Workspace) -> list[str]:
    """Return the names of a workspace's models."""
    return [row["name"] for row in _SQL.query(connection, "list_workspace_models", workspace.workspace_id)]


def workspace_has_plain_runs(connection: Connection, workspace: Workspace) -> bool:
    """Tell whether any run of the workspace released vectors without noise."""
    return bool(
        _SQL.query(connection, "workspace_has_plain_runs", workspace.workspace_id)[0]["has_plain_runs"]
    )


def has_ledger(connection: Connection, name: str) -> bool:
    """Tell whether the ledger has a line of a workspace of this name, one that was dropped too."""
    return bool(_SQL.query(connection, "has_ledger", name)[0]["has_ledger"])


def may_have_spent(connection: Connection, workspace: Workspace) -> bool:
    """Tell whether the workspace's ledger has a line, or a run with a budget is queued or running."""
    rows = _SQL.query(connection, "may_have_spent", workspace.workspace_id, workspace.name)
    return bool(rows[0]["may_have_spent"])


def list_nodes(connection: Connection, workspace: Workspace) -> list[Node]:
    """Return the nodes of a workspace by name."""
    return [
        Node(
            NodeName(row["name"]),
            row["status"],
            json.loads(row["options"]),
            None
            if row["datasets"] is None
            else introduction_from_json(json.loads(row["datasets"]), row["extras"] or ()),
        )
        for row in _SQL.query(connection, "list_nodes", workspace.workspace_id)
    ]


def insert_node(connection: Connection, workspace: Workspace, name: str, options: Options) -> bool:
    """Register a node as pending; False where the workspace has one of that name."""
    return bool(_SQL.query(connection, "insert_node", workspace.workspace_id, name, _json(options)))


def update_node(connection: Connection, workspace: Workspace, name: str, options: Options) -> None:
    """Replace a node's options; a trigger makes it pending again, and its certificate is pinned anew."""
    _SQL.query(connection, "update_node", workspace.workspace_id, name, _json(options))


def find_model_using_node(connection: Connection, workspace: Workspace, name: str) -> str | None:
    """Return a model whose active run the node takes part in."""
    rows = _SQL.query(connection, "node_in_training", workspace.workspace_id, name)
    return str(rows[0]["model"]) if rows else None


def delete_node(connection: Connection, workspace: Workspace, name: str) -> bool:
    """Unregister a node; False where there is none of that name."""
    return bool(_SQL.query(connection, "delete_node", workspace.workspace_id, name))


def find_relation(
    connection: Connection, schemas: Sequence[str], table: tuple[str | None, str]
) -> Relation | None:
    """Look a table up as the caller would: in the schema named, else along `schemas`."""
    schema, name = table
    rows = (
        _SQL.query(connection, "find_relation", list(schemas), name)
        if schema is None
        else _SQL.query(connection, "find_qualified_relation", schema, name)
    )
    if not rows:
        return None
    row = rows[0]
    return Relation(row["schema_name"], row["relation_name"], row["relation_oid"], row["readable"])


def list_columns(connection: Connection, relation: Relation) -> list[Column]:
    """Return a relation's columns in order."""
    return [Column(row["name"], row["type"]) for row in _SQL.query(connection, "list_columns", relation.oid)]


def list_primary_key(connection: Connection, relation: Relation) -> tuple[str, ...]:
    """Return the columns of a relation's primary key, () where it has none."""
    return tuple(row["name"] for row in _SQL.query(connection, "list_primary_key", relation.oid))


def insert_dataset(connection: Connection, dataset: NewDataset) -> bool:
    """Record a dataset; False where the name is taken. The view is made by `create_dataset_view`."""
    rows = _SQL.query(
        connection,
        "insert_dataset",
        dataset.name,
        dataset.workspace,
        dataset.relation.schema,
        dataset.relation.name,
        [column.name for column in dataset.columns],
        [column.type for column in dataset.columns],
        dataset.predicate,
        _json(dataset.options),
        list(dataset.row_key) or None,
    )
    return bool(rows)


def create_dataset_view(connection: Connection, dataset: NewDataset, schemas: Sequence[str]) -> None:
    """Make the view that federated_reader may select from."""
    _SQL.query(
        connection,
        "create_dataset_view",
        dataset.name,
        dataset.relation.schema,
        dataset.relation.name,
        list(dataset.view_columns),
        dataset.predicate,
        list(schemas),
    )


@dataclass(frozen=True, slots=True)
class Probe:
    """How the reader fares with a dataset.

    code: the SQLSTATE of what failed; None: nothing did.
    message, place: the server's own words, for the dataset's owner alone. is_hidden: the reader sees no row
    where the owner sees some. was_tried: False where the reader may read what the owner may not.
    """

    code: str | None
    message: str
    place: tuple[str, ...]
    is_hidden: bool
    was_tried: bool


def probe_dataset(connection: Connection, name: str, schemas: Sequence[str]) -> Probe:
    """Read one row of the caller's dataset with the rights and settings of the node's reader."""
    row = _SQL.query(connection, "probe_dataset", name, list(schemas))[0]
    # Up to the probe's own statement: what called what in it.
    place = tuple((row["place"] or "").split("\n"))
    own = next((i for i, line in enumerate(place) if "federated_dataset." in line), len(place))
    hidden = row["has_rows"] is False and bool(row["has_own_rows"])
    tried = row["code"] is not None or row["has_rows"] is not None
    return Probe(row["code"], row["message"] or "", place[:own], hidden, tried)


def delete_dataset(connection: Connection, name: str) -> bool:
    """Drop a dataset and its view; False where there is none of that name."""
    if not _SQL.query(connection, "delete_dataset", name):
        return False
    _SQL.query(connection, "drop_dataset_view", name)
    return True


def lock_dataset(connection: Connection, name: str) -> Dataset | None:
    """Return the dataset of that name, locked against answers from it and against other changes."""
    rows = _SQL.query(connection, "lock_dataset", name)
    if not rows:
        return None
    row = rows[0]
    return Dataset(row["dataset_id"], DatasetName(row["name"]), json.loads(row["options"]), row["owned"])


def update_dataset(connection: Connection, dataset: Dataset, options: Options) -> None:
    """Replace the options of a dataset; triggers keep its subject and hold its tables to its max_epsilon."""
    _SQL.query(connection, "update_dataset", dataset.dataset_id, _json(options))


def dataset_ceiling(connection: Connection, dataset: Dataset) -> float | None:
    """Return the smallest max_epsilon that the tables behind a dataset were ever held to."""
    ceiling: float | None = _SQL.query(connection, "dataset_ceiling", dataset.dataset_id)[0]["ceiling"]
    return ceiling


def insert_model(connection: Connection, workspace: Workspace, name: str, options: Options) -> bool:
    """Make a model; False where the name is taken."""
    return bool(_SQL.query(connection, "insert_model", workspace.workspace_id, name, _json(options)))


def lock_model(connection: Connection, name: str) -> Model | None:
    """Return the model of that name with its workspace, locked against START, ALTER and DROP by others."""
    rows = _SQL.query(connection, "lock_model", name)
    return model_of(rows[0]) if rows else None


def model_of(row: Row) -> Model:
    """Return the model that a row tells of, with its workspace."""
    workspace = Workspace(
        row["workspace_id"],
        WorkspaceName(row["workspace"]),
        json.loads(row["policy"]),
        row["workspace_owned"],
    )
    return Model(row["model_id"], ModelName(row["name"]), json.loads(row["options"]), workspace, row["owned"])


def hold_workspace(connection: Connection, model_name: str) -> None:
    """Keep a model's workspace from being renamed or dropped; to be taken before the model's own lock."""
    _SQL.query(connection, "hold_workspace", model_name)


def rename_model(connection: Connection, model: Model, new_name: str) -> None:
    """Rename a model and its functions; triggers refuse what cannot be."""
    _SQL.query(connection, "rename", "model", model.model_id, new_name)


def change_model_owner(connection: Connection, model: Model, owner: str) -> None:
    """Give a model to another role; a trigger checks that it exists and that the caller is a member."""
    _SQL.query(connection, "change_model_owner", model.model_id, owner)


def update_model(connection: Connection, model: Model, options: Options) -> None:
    """Replace the options of a model."""
    _SQL.query(connection, "update_model", model.model_id, _json(options))


def is_in_training(connection: Connection, model: Model) -> bool:
    """Tell whether the model has a run that is queued or running."""
    return bool(_SQL.query(connection, "active_run", model.model_id))


def delete_model(connection: Connection, model: Model, *, cascade: bool) -> None:
    """Delete a model, its runs, versions and function; dependents refuse unless `cascade`."""
    with drop_behavior(connection, cascade=cascade):
        _SQL.query(connection, "delete_model", model.model_id)


@contextmanager
def drop_behavior(connection: Connection, *, cascade: bool) -> Iterator[None]:
    """What triggers do with what depends on a function that they drop. An error ends the transaction, and
    with it the setting."""
    _SQL.query(connection, "set_drop_behavior", "cascade" if cascade else "restrict")
    yield
    _SQL.query(connection, "set_drop_behavior", "restrict")


def insert_runs(connection: Connection, model: Model, runs: Sequence[NewRun], series: UUID) -> bool:
    """Queue the runs of one START, of which each but the first waits for the one before it; False where the
    model has an active run, which a START still open is waited for. series: what they are called together,
    where they are several.

    The catalog itself takes the options and the policy from the rows of model and workspace.
    """
    named = str(series) if runs[0].begins_series else None
    for place, run in enumerate(runs):
        nodes = list(run.group_nodes) or None
        values = (_json(run.overrides), named, run.trial, run.fold, place > 0, run.group, nodes)
        if not _SQL.query(connection, "insert_run", model.model_id, *values):
            return False
    return True


def request_stop(connection: Connection, model: Model) -> bool:
    """Ask the model's active run to stop, which ends a queued one at once; False where there is none."""
    return bool(_SQL.query(connection, "request_stop", model.model_id))


def count_known_rows(connection: Connection, workspace: Workspace) -> int:
    """Return how many rows the nodes of a workspace have together, as they have told or as their dataset_size
    declares; 0 where neither is known."""
    return _SQL.query(connection, "count_known_rows", workspace.workspace_id)[0]["rows"] or 0


def consumed_epsilon(connection: Connection, workspace: Workspace) -> float:
    """Return the ε (tight) that the workspace's most charged node has spent."""
    return float(_SQL.query(connection, "consumed_epsilon", workspace.name)[0]["consumed"])


def list_private_nodes(connection: Connection, workspace: Workspace) -> list[str]:
    """Return the nodes of a workspace that have answered under a budget, in any workspace known here."""
    rows = _SQL.query(connection, "list_private_nodes", workspace.workspace_id, workspace.name)
    return [row["name"] for row in rows]


def is_served(connection: Connection) -> bool:
    """Tell whether a coordinator has ever led in this database."""
    return bool(_SQL.query(connection, "is_served")[0]["is_served"])


def is_participant(connection: Connection) -> bool:
    """Tell whether datasets are shared from this database, and no coordinator has ever led in it."""
    return bool(_SQL.query(connection, "is_participant")[0]["is_participant"])


def notify_coordinator(connection: Connection) -> None:
    """Hint, at COMMIT, that there is something to do."""
    _SQL.query(connection, "notify_coordinator")
