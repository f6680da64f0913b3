"""Statements that answer with rows and change nothing: what a START would do, and what there is.

What always holds: as in `statements`, a command carries what the user typed and nothing more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from federated_sql.clause_values import Option

Format = Literal["text", "json"]
Shown = Literal["workspaces", "nodes", "models", "runs", "datasets"]


@dataclass(frozen=True, slots=True)
class ExplainTraining:
    """EXPLAIN START FEDERATED TRAINING: `options` are those of the START."""

    model: str
    options: tuple[Option, ...] = ()
    format: Format = "text"


@dataclass(frozen=True, slots=True)
class ShowObjects:
    """SHOW FEDERATED: `workspace` None is all of them."""

    kind: Shown
    workspace: str | None = None
