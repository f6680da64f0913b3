"""What calls give back: rows of the product's views and functions, as objects with their columns' names.

What always holds: a column that is NULL is None, and docs/reference.md says what each column means.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from typing import Any, Generic, TypeVar, overload
from uuid import UUID

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class WorkspaceStatus:
    """A row of `federated_workspace_status`."""

    workspace_name: str
    min_nodes_required: int
    registered_nodes: int
    active_nodes: int
    status: str


@dataclass(frozen=True, slots=True)
class Node:
    """A node, as the coordinator last saw it: `federated_node_status` and `federated_node_diagnostics`."""

    workspace: str
    node_name: str
    status: str
    last_seen: datetime | None
    rounds_participated: int
    avg_round_time_seconds: float | None
    dataset_size: int | None
    contribution_score: float | None
    connection_status: str
    failure_reason: str | None
    endpoint_in_use: str | None
    certificate_expires: datetime | None


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A model as it was created; `options` are those that statements have set."""

    model_name: str
    workspace_name: str
    owner: str
    options: dict[str, Any]
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Run:
    """A row of `federated_runs`: one training, its number, how it stands, and the version that it left."""

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


@dataclass(frozen=True, slots=True)
class Round:
    """A row of `federated_training_metrics`; round 0 gathers feature statistics."""

    round_number: int
    timestamp: datetime
    global_loss: float | None
    global_accuracy: float | None
    participating_nodes: int
    dropped_nodes: int
    round_duration_seconds: float | None
    communication_mb: float | None
    privacy_consumed_epsilon: float | None
    global_loss_std_error: float | None
    global_accuracy_std_error: float | None


@dataclass(frozen=True, slots=True)
class Version:
    """A row of `federated_model_versions`."""

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


@dataclass(frozen=True, slots=True)
class Coefficient:
    """A row of `federated_coefficients`, in the columns' own units."""

    term: str
    estimate: float | None
    std_error: float | None
    statistic: float | None
    p_value: float | None
    conf_low: float | None
    conf_high: float | None


@dataclass(frozen=True, slots=True)
class Budget:
    """What a workspace may spend and has spent, in ε; None without a budget."""

    total_epsilon: float | None
    consumed_epsilon: float | None
    remaining_epsilon: float | None


class Records(Sequence[R], Generic[R]):
    """Rows in order, one object each; a table of pandas on request."""

    def __init__(self, kind: type[R], rows: Sequence[R]) -> None:
        self._kind = kind
        self.rows: tuple[R, ...] = tuple(rows)

    @overload
    def __getitem__(self, index: int) -> R: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[R, ...]: ...
    def __getitem__(self, index: int | slice) -> R | tuple[R, ...]:
        return self.rows[index]

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({list(self.rows)!r})"

    def to_pandas(self) -> Any:
        """Return a DataFrame with a row for each; needs pandas."""
        columns = [column.name for column in fields(self._kind)]  # type: ignore[arg-type]
        table = [asdict(row) for row in self.rows]  # type: ignore[call-overload]
        return _required("pandas", "dataframes").DataFrame(table, columns=columns)


class History(Records[Round]):
    """The rounds of one run."""

    def __init__(self, rows: Sequence[Round]) -> None:
        super().__init__(Round, rows)

    def plot(self, axes: Any = None) -> Any:
        """Draw loss and accuracy over the rounds, with bands of one standard error; needs matplotlib.

        axes: two of matplotlib's Axes to draw on; without it a figure is made. Returns the array of both.
        """
        if axes is None:
            pyplot = _required("matplotlib.pyplot", "plot")
            _figure, axes = pyplot.subplots(2, 1, sharex=True)
        for one, figure in zip(axes, ("global_loss", "global_accuracy"), strict=True):
            self._draw(one, figure)
        axes[-1].set_xlabel("round")
        return axes

    def _draw(self, axes: Any, figure: str) -> None:
        known = [row for row in self.rows if getattr(row, figure) is not None]
        rounds = [row.round_number for row in known]
        values = [getattr(row, figure) for row in known]
        errors = [getattr(row, figure + "_std_error") or 0.0 for row in known]
        axes.plot(rounds, values, marker=".")
        low = [value - error for value, error in zip(values, errors, strict=True)]
        high = [value + error for value, error in zip(values, errors, strict=True)]
        axes.fill_between(rounds, low, high, alpha=0.2)
        axes.set_ylabel(figure.removeprefix("global_"))


def _required(module: str, extra: str) -> Any:
    """Import what an extra brings; ImportError says which."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ImportError(
            f"this needs {module.partition('.')[0]}: pip install 'heliosdb-federated-learning[{extra}]'"
        ) from error
