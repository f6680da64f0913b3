"""What goes over the wire: bodies that are taken, and documents that are answered.

What always holds: a body has no field that is not here; a figure that is not a number is null.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import Path, Query
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictFloat, StrictInt, StrictStr

from federated_sql.clause_values import Option

Name = Annotated[str, Field(min_length=1, max_length=63)]
WorkspaceName = Annotated[str, Path(alias="workspace", min_length=1, max_length=63)]
ModelName = Annotated[str, Path(alias="model", min_length=1, max_length=63)]
NodeName = Annotated[str, Path(alias="node", min_length=1, max_length=255)]
# A version's number or one of its tags.
Version = Annotated[str, Field(min_length=1, max_length=63)]
VersionQuery = Annotated[Version | None, Query(description="Its number or tag; without it the current one.")]
Limit = Annotated[int, Query(ge=1, le=1_000, description="How many at most.")]
Offset = Annotated[int, Query(ge=0, le=1_000_000_000, description="How many to leave out before them.")]

_OPTION = r"^[a-z_][a-z0-9_]{0,62}$"
# More digits than an integer of the language has.
_Integer = Annotated[StrictInt, Field(ge=-(10**30), le=10**30)]
_Finite = Annotated[StrictFloat, Field(allow_inf_nan=False)]
_Scalar = StrictBool | _Integer | _Finite | Annotated[StrictStr, Field(max_length=100_000)]
OptionName = Annotated[str, Field(pattern=_OPTION)]
OptionValue = _Scalar | Annotated[list[_Scalar], Field(max_length=10_000)]
Options = Annotated[
    dict[OptionName, OptionValue],
    Field(max_length=200, description="Options of the language by their names."),
]
Feature = StrictBool | _Integer | _Finite | StrictStr | None | list[_Integer | _Finite | None]
Features = Annotated[
    dict[Annotated[str, Field(min_length=1, max_length=63)], Feature], Field(max_length=1_600)
]


def to_options(options: dict[str, Any]) -> tuple[Option, ...]:
    """Options as a statement of the language has them."""
    return tuple(
        Option(name, tuple(value) if isinstance(value, list) else value) for name, value in options.items()
    )


class Body(BaseModel):
    """A request's body."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class NewWorkspace(Body):
    """A workspace to be created."""

    name: Name
    options: Options = {}


class NewModel(Body):
    """A model to be created."""

    name: Name
    options: Options = {}


class NewNode(Body):
    """A node to be registered."""

    name: Annotated[str, Field(min_length=1, max_length=255)]
    options: Options = {}


class Training(Body):
    """Options for one run, beside the model's own."""

    options: Options = {}


class Prediction(Body):
    """What is to be predicted: one object of features, or several."""

    features: Features | None = None
    instances: list[Features] | None = None
    version: Version | None = Field(
        default=None, description="A version's number or tag; without it the current one."
    )


class Answer(BaseModel):
    """An answer's document."""

    model_config = ConfigDict(frozen=True, ser_json_inf_nan="null")


class Workspace(Answer):
    """A workspace and whether a run could begin in it."""

    name: str
    owner: str
    status: str
    min_nodes_required: int
    registered_nodes: int
    active_nodes: int
    created_at: datetime


class Model(Answer):
    """A model; its current version is null before it is trained."""

    name: str
    workspace: str
    owner: str
    options: dict[str, Any]
    created_at: datetime
    current_version: int | None


class Round(Answer):
    """A round as federated_training_status shows it."""

    round_number: int
    status: str
    global_loss: float | None
    global_accuracy: float | None
    participating_nodes: int | None
    round_duration_seconds: float | None
    started_at: datetime | None
    finished_at: datetime | None
    message: str | None


class VersionAnswer(Answer):
    """A version as federated_model_versions shows it."""

    version: int
    tags: list[str]
    round_number: int
    created_at: datetime
    is_current: bool
    global_loss: float | None
    global_accuracy: float | None
    epsilon: float | None
    parameters_sha256: str
    global_loss_std_error: float | None
    global_accuracy_std_error: float | None
    retired_at: datetime | None
    parent: str | None
    ancestors: list[dict[str, Any]] | None


class Run(Answer):
    """A run as federated_runs shows it."""

    workspace_name: str
    model_name: str
    run: int
    run_id: UUID
    status: str
    started_by: str
    queued_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    rounds: int | None
    version: int | None
    trial: int | None
    fold: int | None
    voting_group: int | None
    group_nodes: list[str] | None
    options: dict[str, Any]
    message: str | None


class StartedRun(Answer):
    """Where to ask after a run."""

    run_id: UUID
    run: str
    events: str


class PredictedValue(Answer):
    """One prediction: a probability of two classes, or a number."""

    model_config = ConfigDict(extra="forbid")

    value: float | None


class PredictedClass(Answer):
    """One prediction of several classes: the likeliest, and the probability of each."""

    model_config = ConfigDict(extra="forbid")

    predicted_class: str | None
    probabilities: dict[str, float | None] | None


class Predictions(Answer):
    """Predictions in the order of what was sent, and the version that made them."""

    model: str
    version: int
    predictions: list[PredictedValue] | list[PredictedClass]


class Evaluation(Answer):
    """How a version did over the held-out rows of all nodes, as federated_evaluate shows it."""

    model: str
    metrics: dict[str, float | None]


class Budget(Answer):
    """What a workspace may spend and has spent, and how far the rest may reach; null without a budget."""

    total_epsilon: float | None
    consumed_epsilon: float | None
    remaining_epsilon: float | None
    delta: float | None
    rounds_completed: int | None
    estimated_remaining_rounds: int | None


class Node(Answer):
    """A node and how the coordinator reaches it."""

    name: str
    status: str
    connection_status: str
    failure_reason: str | None
    endpoint_in_use: str | None
    certificate_expires: datetime | None
    last_seen: datetime | None
    rounds_participated: int
    avg_round_time_seconds: float | None
    dataset_size: int | None
    contribution_score: float | None


class Erasure(Answer):
    """A request for erasure at one node, as federated_erasure_status shows it."""

    request_id: UUID
    model_name: str | None
    requested_at: datetime
    deadline: datetime
    status: str
    node_name: str | None
    node_state: str | None
    answered_at: datetime | None
    completed_at: datetime | None
    method: str
    exactness: str | None
    message: str | None


class Alert(Answer):
    """An alert or a breach, with each time that it fired, as federated_alerts shows it."""

    alert_name: str
    kind: str
    conditions: str | None
    target: str | None
    status: str
    firing_id: UUID | None
    fired_at: datetime | None
    observed: dict[str, Any] | None
    delivered_at: datetime | None
    attempts: int | None
    failure: str | None


class ProblemDocument(BaseModel):
    """An error, as RFC 9457 has it, with the SQLSTATE of the language."""

    type: str
    title: str
    status: int
    detail: str
    sqlstate: str | None = None
    hint: str | None = None
    position: int | None = None
    errors: list[dict[str, str]] | None = None
