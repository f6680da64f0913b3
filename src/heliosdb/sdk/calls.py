"""One operation for each call of the clients, and what both clients make of their arguments.

What always holds: `client` and `aio` differ in how they drive these, and in nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from heliosdb.sdk import statements
from heliosdb.sdk.catalog import (
    budget,
    budget_of_model,
    coefficients,
    evaluation,
    history,
    latest_run,
    model_info,
    models,
    nodes,
    runs,
    versions,
    workspace_status,
    workspaces,
)
from heliosdb.sdk.errors import FederatedLearningError, invalid
from heliosdb.sdk.prediction import predict
from heliosdb.sdk.records import Node
from heliosdb.sdk.requests import Operation, perform
from heliosdb.sdk.training import train, wait

__all__ = [
    "alter_model",
    "alter_workspace",
    "budget",
    "budget_of_model",
    "coefficients",
    "create_model",
    "create_workspace",
    "drop_model",
    "drop_workspace",
    "evaluation",
    "history",
    "latest_run",
    "model_info",
    "models",
    "named",
    "nodes",
    "perform",
    "predict",
    "promote_model",
    "reference",
    "register_node",
    "runs",
    "stop_training",
    "tag_model",
    "train",
    "training_options",
    "unregister_node",
    "versions",
    "wait",
    "workspace_status",
    "workspaces",
]

Options = Mapping[str, object]
_LARGEST_CERTIFICATE = 65_536


def named(given: str | None, own: str | None) -> str:
    """Return which workspace a call is about."""
    workspace = given or own
    if workspace is None:
        raise invalid(
            "no workspace is named",
            hint='FederatedLearning(dsn, workspace="…"), or workspace="…" in the call.',
        )
    return workspace


def reference(model: str, version: str | int | None) -> str:
    """Return how functions name a version: the model, model@tag or model@number."""
    return model if version is None else f"{model}@{version}"


def training_options(
    rounds: int | None, local_epochs: int | None, batch_size: int | None, options: Options
) -> Options:
    """Return the options of a START; of the three that have a place, None is not given."""
    placed = {"rounds": rounds, "local_epochs": local_epochs, "batch_size": batch_size}
    return {name: value for name, value in placed.items() if value is not None} | dict(options)


def create_workspace(name: str, options: Options, if_not_exists: bool) -> Operation[None]:
    """CREATE FEDERATED WORKSPACE."""
    return perform(statements.create_workspace(name, options, if_not_exists=if_not_exists))


def alter_workspace(name: str, options: Options) -> Operation[None]:
    """ALTER FEDERATED WORKSPACE … SET."""
    return perform(statements.alter_workspace(name, _some(options)))


def drop_workspace(name: str, cascade: bool) -> Operation[None]:
    """DROP FEDERATED WORKSPACE."""
    return perform(statements.drop_workspace(name, cascade=cascade))


def register_node(
    workspace: str, name: str, endpoint: str | None, certificate: str | Path, options: Options
) -> Operation[Node]:
    """REGISTER FEDERATED NODE; returns the node as it is then."""
    pem = _read(certificate) if isinstance(certificate, Path) else certificate
    where = {} if endpoint is None else {"endpoint": endpoint}
    given = {**where, "certificate": pem, **options}
    yield from perform(statements.register_node(name, workspace, given))
    found = yield from nodes(workspace)
    return next(node for node in found if node.node_name == name)


def unregister_node(workspace: str, name: str) -> Operation[None]:
    """UNREGISTER FEDERATED NODE."""
    return perform(statements.unregister_node(name, workspace))


def create_model(name: str, workspace: str | None, options: Options, if_not_exists: bool) -> Operation[None]:
    """CREATE FEDERATED MODEL."""
    return perform(statements.create_model(name, workspace, options, if_not_exists=if_not_exists))


def alter_model(name: str, options: Options) -> Operation[None]:
    """ALTER FEDERATED MODEL … SET."""
    return perform(statements.alter_model(name, _some(options)))


def drop_model(name: str, cascade: bool) -> Operation[None]:
    """DROP FEDERATED MODEL."""
    return perform(statements.drop_model(name, cascade=cascade))


def stop_training(name: str) -> Operation[None]:
    """STOP FEDERATED TRAINING."""
    return perform(statements.stop_training(name))


def tag_model(name: str, tag: str, version: int | None, replace: bool) -> Operation[None]:
    """TAG FEDERATED MODEL."""
    return perform(statements.tag_model(name, tag, version, replace=replace))


def promote_model(name: str, version: str | int) -> Operation[None]:
    """PROMOTE FEDERATED MODEL."""
    return perform(statements.promote_model(name, version))


def _some(options: Options) -> Options:
    if not options:
        raise invalid("no option is named", hint="set(rounds=20)")
    return options


def _read(certificate: Path) -> str:
    try:
        with certificate.open(encoding="ascii") as file:
            return file.read(_LARGEST_CERTIFICATE + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise FederatedLearningError(
            "58030", "the certificate cannot be read", f"{certificate}: {error}"
        ) from error
