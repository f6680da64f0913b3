"""Operations that read the catalog, through the views and functions that everybody uses.

What always holds: what a caller's role may not see, these do not show.
"""

from __future__ import annotations

from typing import Any

from heliosdb.sdk.errors import FederatedLearningError
from heliosdb.sdk.records import (
    Budget,
    Coefficient,
    History,
    ModelInfo,
    Node,
    Records,
    Round,
    Run,
    Version,
    WorkspaceStatus,
)
from heliosdb.sdk.requests import Operation, fetch, query


def workspaces(workspace: str | None) -> Operation[Records[WorkspaceStatus]]:
    """Every workspace, or the one of a name."""
    return (yield from _listed(WorkspaceStatus, "list_workspaces", workspace))


def workspace_status(workspace: str) -> Operation[WorkspaceStatus]:
    """One workspace; 42704 where there is none of the name."""
    found = yield from workspaces(workspace)
    if not found:
        raise FederatedLearningError("42704", f'federated workspace "{workspace}" does not exist')
    return found[0]


def nodes(workspace: str | None) -> Operation[Records[Node]]:
    """Every node, or those of a workspace."""
    return (yield from _listed(Node, "list_nodes", workspace))


def models(workspace: str | None) -> Operation[Records[ModelInfo]]:
    """Every model, or those of a workspace."""
    return (yield from _listed(ModelInfo, "list_models", workspace, None))


def model_info(model: str) -> Operation[ModelInfo]:
    """One model; 42704 where there is none of the name."""
    found = yield from fetch(ModelInfo, "list_models", None, model)
    if not found:
        raise FederatedLearningError("42704", f'federated model "{model}" does not exist')
    return found[0]


def runs(workspace: str | None, model: str | None) -> Operation[Records[Run]]:
    """Every run, or those of a workspace or a model, in the order in which they were started."""
    return (yield from _listed(Run, "list_runs", workspace, model))


def latest_run(model: str) -> Operation[Run | None]:
    """The latest run that has had its turn, or None; 42704 where there is no such model."""
    yield from model_info(model)
    found = yield from runs(None, model)
    begun = [run for run in found if run.status != "waiting"]
    return begun[-1] if begun else None


def history(model: str, run: int | None) -> Operation[History]:
    """The rounds of a run by its number, or of the latest."""
    return History((yield from fetch(Round, "list_rounds", model, run)))


def versions(model: str) -> Operation[Records[Version]]:
    """The versions of a model."""
    return (yield from _listed(Version, "list_versions", model))


def coefficients(reference: str) -> Operation[Records[Coefficient]]:
    """The coefficients of a linear model."""
    return (yield from _listed(Coefficient, "list_coefficients", reference))


def budget(workspace: str) -> Operation[Budget]:
    """What a workspace may spend and has spent."""
    [found] = yield from fetch(Budget, "read_budget", workspace)
    return found


def budget_of_model(model: str) -> Operation[Budget]:
    """What the workspace of a model may spend and has spent."""
    known = yield from model_info(model)
    return (yield from budget(known.workspace_name))


def evaluation(reference: str) -> Operation[dict[str, float | None]]:
    """How a version did over the held-out rows of all nodes, by metric."""
    rows = yield query("read_evaluation", reference)
    return {row["metric"]: row["value"] for row in rows}


def _listed(kind: type[Any], name: str, *values: object) -> Operation[Records[Any]]:
    return Records(kind, (yield from fetch(kind, name, *values)))
