"""A server that accepts every statement, the rows that it answers with, and how a statement is tried on it."""

from __future__ import annotations

import json
from typing import Any

from heliosdb.extension import door
from heliosdb.extension.version import CATALOG_VERSION
from tests.unit.extension.fake_plpy import Answer, FakePlpy

WORKSPACE = {"workspace_id": 1, "name": "w", "options": "{}", "owned": True}
MODEL_OPTIONS = {"algorithm": "logistic_regression", "features": ["age"], "target": "ill"}
MODEL = {
    "model_id": 7,
    "name": "m",
    "options": json.dumps(MODEL_OPTIONS),
    "workspace_id": 1,
    "workspace": "w",
    "policy": "{}",
    "workspace_owned": True,
    "owned": True,
}
NODE = {
    "name": "n",
    "status": "active",
    "options": '{"endpoint": "https://n:1"}',
    "datasets": None,
    "extras": None,
}
DATASET = {"dataset_id": 3, "name": "d", "options": "{}", "owned": True}
SUBSCRIPTION = {"subscription_id": 5, "name": "s", "model_name": "m", "owned": True}
ACCEPTED: dict[str, Answer] = {
    "may_act_as": [{"allowed": True}],
    "database_encoding": [{"encoding": "UTF8"}],
    "count_known_rows": [{"rows": None}],
    "role_names": [{"current_role_name": "ann", "session_role_name": "bob"}],
    "find_workspace": [WORKSPACE],
    "lock_workspace": [WORKSPACE],
    "lock_model": [MODEL],
    "lock_dataset": [DATASET],
    "dataset_ceiling": [{"ceiling": None}],
    "lock_subscription": [SUBSCRIPTION],
    "insert_subscription": [{}],
    "revoke_subscribe": [{}],
    "list_workspace_names": [{"name": "w"}],
    "session_workspace": [{"name": None}],
    "list_nodes": [NODE, {**NODE, "name": "o"}],
    "workspace_has_plain_runs": [{"has_plain_runs": False}],
    "consumed_epsilon": [{"consumed": 0.0}],
    "has_aggregation_function": [{"is_there": False}],
    "is_served": [{"is_served": True}],
    "is_participant": [{"is_participant": False}],
    "insert_workspace": [{}],
    "insert_model": [{}],
    "insert_run": [{}],
    "request_stop": [{}],
    "delete_node": [{}],
}


def server(**changed: Answer) -> FakePlpy:
    """A server that accepts everything but what is changed."""
    return FakePlpy({**ACCEPTED, **changed})


def run(plpy: FakePlpy, statement: str, version: str = CATALOG_VERSION) -> dict[str, Any] | None:
    """Execute a statement; return the error as federated._raise gets it."""
    error = door.execute(plpy, statement, ("public",), version)
    return None if error is None else json.loads(error)


def refused(plpy: FakePlpy, statement: str) -> dict[str, Any]:
    """Execute a statement that is refused: nothing may be written."""
    error = run(plpy, statement)
    assert error is not None
    assert plpy.written == []
    assert "Traceback" not in json.dumps(error)
    return error
