"""Experiments: versions of a model compared on keys that stay with their arm."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from psycopg.types.json import Jsonb

from federated_sql.serving_statements import ArmShare, CreateExperiment, DropExperiment
from heliosdb.api.database import Caller, Right
from heliosdb.api.guard import CallerHere, GuardedRoute, needs
from heliosdb.api.problems import missing
from heliosdb.api.routers.found import find_workspace
from heliosdb.api.schemas import Limit, Offset, to_options
from heliosdb.api.schemas_changes import ExperimentCall, ExperimentName, NewExperiment, Outcome
from heliosdb.api.schemas_figures import Arm, Experiment, Served

router = APIRouter(route_class=GuardedRoute, tags=["experiments"])


@router.get("/experiments", response_model=list[Experiment])
@needs(Right.READ)
async def list_experiments(
    caller: CallerHere,
    workspace: Annotated[
        str | None, Query(min_length=1, max_length=63, description="Only those of this workspace.")
    ] = None,
    limit: Limit = 100,
    offset: Offset = 0,
) -> Any:
    """List experiments by name: federated_experiments."""
    if workspace is not None:
        await find_workspace(caller, workspace)
    return await caller.rows("experiments", workspace, limit, offset)


@router.post("/experiments", response_model=Experiment, status_code=201)
@needs(Right.OPERATE)
async def create_experiment(caller: CallerHere, body: NewExperiment) -> Any:
    """Create an experiment: CREATE FEDERATED EXPERIMENT."""
    arms = tuple(ArmShare(arm.version, arm.share) for arm in body.arms)
    options = {} if body.keep_days is None else {"keep_days": body.keep_days}
    await caller.execute(CreateExperiment(body.name, body.model, arms, to_options(options)))
    return await _find_experiment(caller, body.name)


@router.get("/experiments/{experiment}", response_model=list[Arm])
@needs(Right.READ)
async def list_arms(caller: CallerHere, experiment: ExperimentName) -> Any:
    """Show how an experiment stands, arm by arm: federated_experiment."""
    await _find_experiment(caller, experiment)
    return await caller.rows("experiment_arms", experiment)


@router.delete("/experiments/{experiment}", status_code=204)
@needs(Right.OPERATE)
async def drop_experiment(caller: CallerHere, experiment: ExperimentName) -> None:
    """Drop an experiment, its calls and outcomes with it: DROP FEDERATED EXPERIMENT."""
    await caller.execute(DropExperiment(experiment))


@router.post("/experiments/{experiment}/predict", response_model=Served)
@needs(Right.PREDICT)
async def predict_by_experiment(caller: CallerHere, experiment: ExperimentName, body: ExperimentCall) -> Any:
    """Predict by the version that serves the key, and count the call: federated_predict_experiment."""
    await _find_experiment(caller, experiment)
    return await caller.row("predict_experiment", experiment, body.key, Jsonb(body.features))


@router.post("/experiments/{experiment}/outcomes", status_code=204)
@needs(Right.PREDICT)
async def report_outcome(caller: CallerHere, experiment: ExperimentName, body: Outcome) -> None:
    """Report what came of a key that was served: federated_report_outcome. The last report counts."""
    await _find_experiment(caller, experiment)
    await caller.rows("report_outcome", experiment, body.key, body.outcome)


async def _find_experiment(caller: Caller, experiment: str) -> dict[str, Any]:
    if (row := await caller.row("experiment", experiment)) is None:
        raise missing("experiment", experiment)
    return row
