"""Training: a run is started, stopped, taken up again, and looked at."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Header, Query, Request, Response

from federated_sql.statements import ResumeTraining, StartTraining, StopTraining
from heliosdb.api.database import Caller, Right
from heliosdb.api.guard import CallerHere, GuardedRoute, needs
from heliosdb.api.problems import Problem
from heliosdb.api.routers.found import find_model
from heliosdb.api.schemas import (
    ModelName,
    Round,
    Run,
    StartedRun,
    Training,
    WorkspaceName,
    to_options,
)

router = APIRouter(route_class=GuardedRoute, tags=["training"])

_MODEL = "/workspaces/{workspace}/models/{model}"
IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=255,
        pattern=r"^[\x21-\x7e]+$",
        description="The same request, sent again with it within a day, is answered with the same run.",
    ),
]


@router.post(_MODEL + "/train", response_model=StartedRun, status_code=202)
@needs(Right.OPERATE)
async def train(
    *,
    request: Request,
    response: Response,
    caller: CallerHere,
    workspace: WorkspaceName,
    model: ModelName,
    body: Training | None = None,
    idempotency_key: IdempotencyKey = None,
) -> Any:
    """Start training: START FEDERATED TRAINING. The run is queued; Location is where to ask after it."""
    await find_model(caller, workspace, model)
    options = body.options if body else {}
    command = StartTraining(model, to_options(options))
    if idempotency_key is None:
        run_id = await caller.start(command)
    else:
        asked = json.dumps([workspace, model, options], sort_keys=True).encode()
        run_id = await _start_once(caller, command, idempotency_key, hashlib.sha256(asked).digest())
    return _started(request, response, run_id)


def _started(request: Request, response: Response, run_id: UUID) -> dict[str, Any]:
    place = str(request.app.url_path_for("show_run", run_id=str(run_id)))
    response.headers["Location"] = place
    return {"run_id": run_id, "run": place, "events": f"{place}/events"}


async def _start_once(caller: Caller, command: StartTraining, key: str, digest: bytes) -> UUID:
    """Start, or return the run that the same request with the same key started: one transaction with it."""
    async with caller.as_api():
        await caller.rows("forget_requests")
        is_new = await caller.rows("keep_request", caller.role, key, digest)
        kept = await caller.row("kept_request", caller.role, key)
    if not is_new and kept is not None:
        if kept["request_sha256"] != digest:
            raise Problem(
                422,
                "The Idempotency-Key was used for another request.",
                hint="A new request has a new key.",
            )
        return UUID(str(kept["run_id"]))
    run_id = await caller.start(command)
    async with caller.as_api():
        await caller.rows("answer_request", caller.role, key, run_id)
    return run_id


@router.get(_MODEL + "/status", response_model=list[Round])
@needs(Right.READ)
async def show_status(
    caller: CallerHere,
    workspace: WorkspaceName,
    model: ModelName,
    run: Annotated[
        int | None, Query(ge=1, le=2**31 - 1, description="Its number; without it the latest.")
    ] = None,
) -> Any:
    """Show a run of the model round by round: federated_training_status."""
    await find_model(caller, workspace, model)
    return await caller.rows("training_status", model, run)


@router.post(_MODEL + "/stop", response_model=Run, status_code=202)
@needs(Right.OPERATE)
async def stop(caller: CallerHere, workspace: WorkspaceName, model: ModelName) -> Any:
    """Stop training: STOP FEDERATED TRAINING. The run ends soon; its last closed round becomes a version."""
    await find_model(caller, workspace, model)
    active = await caller.row("active_run", workspace, model)
    await caller.execute(StopTraining(model))
    found = None if active is None else await caller.row("run", active["run_id"])
    # It began between the two looks.
    return found or await caller.row("active_run", workspace, model)


@router.post(_MODEL + "/resume", response_model=StartedRun, status_code=202)
@needs(Right.OPERATE)
async def resume(
    request: Request, response: Response, caller: CallerHere, workspace: WorkspaceName, model: ModelName
) -> Any:
    """Go on with the latest run from its last closed round: RESUME FEDERATED TRAINING."""
    await find_model(caller, workspace, model)
    return _started(request, response, await caller.start(ResumeTraining(model)))
