"""What people type that is no statement of the language, and what does it.

What always holds: a verb listed in `FOREIGN_VERBS` begins no statement of PostgreSQL's.
"""

from __future__ import annotations

FOREIGN_VERBS = frozenset({"pause", "cancel", "describe", "list", "evaluate", "train"})

_OPTIONS = "SELECT name, options FROM federated.{0};"
_TRAINING = "SELECT * FROM federated_training_status('model');"
_READ = {
    "workspace": _OPTIONS.format("workspace"),
    "model": _OPTIONS.format("model"),
    "dataset": "On the participant's database: SELECT name, columns, options FROM federated.dataset;",
    "node": "SELECT * FROM federated_node_status;",
    "subscription": "SELECT * FROM federated_subscriptions;",
    "subscriber": "SELECT * FROM federated_subscribers;",
    "training": _TRAINING,
    "privacy": "SELECT * FROM federated_privacy_budget('workspace');",
    "budget": "SELECT * FROM federated_privacy_budget('workspace');",
}
_ANY_READ = (
    "Views and functions show what there is: federated_node_status, federated_training_status('model')."
)
_STOP = "STOP FEDERATED TRAINING model ends a run; START FEDERATED TRAINING begins another."
_INSTEAD: dict[tuple[str, ...], str] = {
    ("drop", "federated", "node"): "UNREGISTER FEDERATED NODE 'name' FROM WORKSPACE name",
    ("create", "federated", "node"): "REGISTER FEDERATED NODE 'name' IN WORKSPACE name WITH (…)",
    ("create", "or", "replace", "federated"): (
        "Only an AGGREGATION FUNCTION is replaced; ALTER FEDERATED … SET changes other objects."
    ),
    ("create", "federated", "training"): "START FEDERATED TRAINING model [WITH (…)]",
    ("drop", "federated", "training"): "STOP FEDERATED TRAINING model",
}
_BY_VERB = {
    "pause": _STOP,
    "cancel": _STOP,
    "evaluate": f"Every round is evaluated on rows that are held out: {_TRAINING}",
    "train": "START FEDERATED TRAINING model [WITH (…)]",
}


def instead_of(words: tuple[str, ...]) -> str | None:
    """Return the HINT for a statement that begins with these folded words, None where there is none."""
    if words[:4] in _INSTEAD:
        return _INSTEAD[words[:4]]
    if words[1:2] != ("federated",):
        return None
    if words[0] in _BY_VERB:
        return _BY_VERB[words[0]]
    if words[0] in ("show", "describe", "list"):
        return _READ.get(words[2].removesuffix("s"), _ANY_READ) if len(words) > 2 else _ANY_READ
    return _INSTEAD.get(words[:3])
