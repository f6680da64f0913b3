"""The Python SDK: workspaces, nodes, models, training and predictions over a plain database connection.

What always holds: it needs psycopg and the standard library; rich, pandas, polars, pyarrow and matplotlib
are imported only where they are asked for or given. Every call is a statement of the language or a query on
views and functions that the caller's database role may use: nothing is decided here.
"""

from heliosdb.sdk.aio import AsyncFederatedLearning, AsyncModel, AsyncWorkspace
from heliosdb.sdk.client import FederatedLearning, Model, Workspace
from heliosdb.sdk.errors import FederatedLearningError, FederatedLearningWarning, TrainingError
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

__all__ = [
    "AsyncFederatedLearning",
    "AsyncModel",
    "AsyncWorkspace",
    "Budget",
    "Coefficient",
    "FederatedLearning",
    "FederatedLearningError",
    "FederatedLearningWarning",
    "History",
    "Model",
    "ModelInfo",
    "Node",
    "Records",
    "Round",
    "Run",
    "TrainingError",
    "Version",
    "Workspace",
    "WorkspaceStatus",
]
