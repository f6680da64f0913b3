"""Predictions by a version of a model, of one object or a batch."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from psycopg.types.json import Jsonb

from heliosdb.api.database import Right
from heliosdb.api.guard import CallerHere, GuardedRoute, needs, services
from heliosdb.api.problems import Problem, missing
from heliosdb.api.routers.found import find_model, reference_to
from heliosdb.api.schemas import ModelName, Prediction, Predictions, WorkspaceName

router = APIRouter(route_class=GuardedRoute, tags=["prediction"])


@router.post("/workspaces/{workspace}/models/{model}/predict", response_model=Predictions)
@needs(Right.PREDICT)
async def predict(
    request: Request, caller: CallerHere, workspace: WorkspaceName, model: ModelName, body: Prediction
) -> Any:
    """Predict by the current version or the one that is named: federated_predict. What is missing is null."""
    await find_model(caller, workspace, model)
    rows = Jsonb(_instances(body, services(request).config.largest_batch))
    found = await caller.row("named_version", model, body.version)
    reference = reference_to(model, body.version)
    if found is None and body.version is not None:
        raise missing("version", reference)
    [kind] = await caller.rows("has_many_classes", reference)
    if kind["has"]:
        answers = await caller.rows("predict_classes", reference, rows)
        predictions = [
            {"predicted_class": one["class"], "probabilities": one["probabilities"]} for one in answers
        ]
    else:
        predictions = await caller.rows("predict", reference, rows)
    return {
        "model": model,
        "version": None if found is None else found["version"],
        "predictions": predictions,
    }


def _instances(body: Prediction, most: int) -> list[Any]:
    if (body.features is None) == (body.instances is None):
        raise Problem(422, "Either features or instances is to be given.", sqlstate="22023")
    if body.instances is None:
        return [body.features]
    if not body.instances:
        raise Problem(422, "The batch is empty.", sqlstate="22023")
    if len(body.instances) > most:
        raise Problem(413, f"A batch may have {most} instances.", sqlstate="54000")
    return list(body.instances)
