"""What people type that is no statement of the language, and what does it.

What always holds: a verb listed in `FOREIGN_VERBS` begins no statement of PostgreSQL's.
"""

from __future__ import annotations

FOREIGN_VERBS = frozenset({"pause", "cancel", "describe", "list", "evaluate", "train"})

_TRAINING = "SELECT * FROM federated_training_status('model');"
_SHOW = "SHOW FEDERATED {0}S shows all of them, SHOW FEDERATED {0}S IN WORKSPACE name those of one workspace."
_SHOWN = ("workspace", "model", "dataset", "node", "run")
_READ = {
    "subscription": "SELECT * FROM federated_subscriptions;",
    "subscriber": "SELECT * FROM federated_subscribers;",
    "experiment": "SELECT * FROM federated_experiments;",
    "training": _TRAINING,
    "privacy": "SELECT * FROM federated_privacy_budget('workspace');",
    "budget": "SELECT * FROM federated_privacy_budget('workspace');",
}
_ANY_READ = (
    "SHOW FEDERATED WORKSPACES | NODES | MODELS | RUNS | DATASETS shows what there is; views and functions"
    " such as federated_training_status('model') show the rest."
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
        return _instead_of_reading(words[0], words[2].removesuffix("s") if len(words) > 2 else "")
    return _INSTEAD.get(words[:3])


def _instead_of_reading(verb: str, noun: str) -> str | None:
    """What shows such things; None where the nearest of what SHOW shows is the better word."""
    if noun in _READ:
        return _READ[noun]
    if verb == "show":
        return None
    return _SHOW.format(noun.upper()) if noun in _SHOWN else _ANY_READ
