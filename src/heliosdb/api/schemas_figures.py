"""What is answered of figures: rounds and who took part, how a version did, what was spent, what was changed.

What always holds: a field is named as the column of the SQL function or view that it is from; a figure that
is not a number, or infinite, is null.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import Query

from heliosdb.api.schemas import Answer

ManyRows = Annotated[int, Query(ge=1, le=10_000, description="How many at most.")]


class RoundFigures(Answer):
    """A round of a run: what the catalog keeps of it."""

    round_number: int
    status: str
    started_at: datetime | None
    finished_at: datetime | None
    round_duration_seconds: float | None
    global_loss: float | None
    global_loss_std_error: float | None
    global_accuracy: float | None
    global_accuracy_std_error: float | None
    base_loss: float | None
    global_precision: float | None
    global_recall: float | None
    global_f1_score: float | None
    global_rmse: float | None
    node_variance: float | None
    participating_nodes: int | None
    dropped_nodes: int | None
    communication_mb: float | None
    privacy_consumed_epsilon: float | None
    message: str | None


class Part(Answer):
    """What a node did in a round: of several exchanges the worst outcome, and its reason."""

    round_number: int
    node_name: str
    outcome: str
    reason: str | None
    took_part: bool
    duration_seconds: float | None
    bytes_sent: int | None
    bytes_received: int | None


class Coefficient(Answer):
    """A coefficient, as federated_coefficients shows it."""

    term: str
    estimate: float | None
    std_error: float | None
    statistic: float | None
    p_value: float | None
    conf_low: float | None
    conf_high: float | None


class RocPoint(Answer):
    """A point of the ROC curve, as federated_roc_curve shows it; of the first, infinite threshold null."""

    threshold: float | None
    fpr: float | None
    tpr: float | None
    fpr_std_error: float | None
    tpr_std_error: float | None


class CalibrationBin(Answer):
    """A tenth of probability, as federated_calibration shows it."""

    bin: int
    predicted: float | None
    observed: float | None
    count: int
    observed_std_error: float | None
    count_std_error: float | None


class ConfusionCell(Answer):
    """How many rows of a class are predicted to be of which, as federated_confusion_matrix shows it."""

    predicted: str
    actual: str
    count: int
    std_error: float | None


class Importance(Answer):
    """What a feature is worth, as federated_feature_importance shows it."""

    feature: str
    importance: float | None
    std_error: float | None


class DataQuality(Answer):
    """What round 0 found, as federated_data_quality_check shows it; node_name is null of all together."""

    model_name: str
    node_name: str | None
    feature_statistics: dict[str, Any] | None
    missing_values: dict[str, int | None] | None
    outliers: dict[str, int | None] | None
    missing_values_std_error: dict[str, float | None] | None
    outliers_std_error: dict[str, float | None] | None


class Charge(Answer):
    """What a round cost of the budget, as federated_privacy_history shows it."""

    timestamp: datetime
    model_name: str
    round_number: int
    cumulative_epsilon: float | None
    epsilon_per_round: float | None
    noise_multiplier: float | None
    clipping_threshold: float | None
    noise_mechanism: str | None
    trust_model: str | None


class AuditEntry(Answer):
    """An entry of the audit log, as federated_audit_log shows it."""

    workspace: str
    chain_position: int | None
    recorded_at: datetime
    session_role: str
    acting_role: str
    action: str
    object_kind: str
    object_name: str
    details: dict[str, Any]
    transaction_id: str | None
    origin: UUID | None
    previous_hash: str | None
    hash: str | None


class Experiment(Answer):
    """An experiment, as federated_experiments shows it."""

    experiment_name: str
    workspace_name: str
    model_name: str
    arms: list[dict[str, Any]]
    created_by: str
    created_at: datetime
    keep_days: int


class Arm(Answer):
    """How an arm of an experiment stands, as federated_experiment shows it."""

    arm: str
    version: int
    share: float
    calls: int
    keys: int
    outcomes: int
    mean_outcome: float | None
    std_error: float | None
    difference: float | None
    conf_low: float | None
    conf_high: float | None
    brier_score: float | None


class Served(Answer):
    """A prediction by an experiment: its score, and the arm that serves the key."""

    score: float | None
    arm: str
    version: int
