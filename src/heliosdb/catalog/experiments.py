"""Experiments as rows: what statements write of them.

What always holds: an arm names a version by its number; who served whom and with what outcome is written by
the database's own functions (sql/experiments.sql).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from heliosdb.catalog.commands import Model
from heliosdb.catalog.connection import Connection, Statements

_SQL = Statements("experiments.sql")


@dataclass(frozen=True, slots=True)
class Arm:
    """A version under the label that it was given at CREATE. share: of the keys, in (0, 1)."""

    label: str
    version: int
    share: float


@dataclass(frozen=True, slots=True)
class Experiment:
    """An experiment as DROP finds it. owned: whether the caller owns its model, or that one's workspace."""

    experiment_id: str
    owned: bool


def check_arm(connection: Connection, model: Model, version: int) -> None:
    """Raise 55000 where a version has no function or was withdrawn, 0A000 where it predicts no number."""
    _SQL.query(connection, "check_arm", model.name, version)


def insert_experiment(
    connection: Connection, model: Model, name: str, arms: Sequence[Arm], keep_days: int
) -> bool:
    """Make an experiment with its arms, in their order; False where there is one of that name."""
    rows = _SQL.query(connection, "insert_experiment", model.model_id, name, keep_days)
    if not rows:
        return False
    columns = ([arm.label for arm in arms], [arm.version for arm in arms], [arm.share for arm in arms])
    _SQL.query(connection, "insert_arms", rows[0]["experiment_id"], model.model_id, *columns)
    return True


def find_experiment(connection: Connection, name: str) -> Experiment | None:
    """Return the experiment of that name."""
    rows = _SQL.query(connection, "find_experiment", name)
    return Experiment(rows[0]["experiment_id"], rows[0]["owned"]) if rows else None


def delete_experiment(connection: Connection, experiment: Experiment) -> bool:
    """Drop an experiment with its calls and outcomes; False where somebody else has dropped it."""
    return bool(_SQL.query(connection, "delete_experiment", experiment.experiment_id))
