"""Versions as the coordinator publishes them: a row with its numbers, and the model's function."""

from __future__ import annotations

import json
from typing import Any

import psycopg

PUBLISH = (
    "SELECT federated._publish_function(%(model)s, %(version)s, %(run)s, %(features)s, %(booleans)s::boolean[],"
    " %(numbers)s)"
)
INSERT = (
    "INSERT INTO federated.version (model_id, version, run_id, round_number, features, scaling, sealed, sha256,"
    " global_loss, global_accuracy, epsilon, is_current, prediction)"
    " VALUES (%(model)s, %(version)s, %(run)s, 3, %(features)s, '{}', '', '\\xabcd', %(loss)s, 0.75, 0.25,"
    " %(current)s, %(prediction)s)"
)
NUMBERS = ("booleans", "intercept", "slopes", "fills", "shifts", "link", "target_mean", "target_scale")


def finish_run(
    catalog: psycopg.Connection, daemon: psycopg.Connection, model: str = "risk", **changed: Any
) -> int:
    """Make the next version of a model, as a run's end does, and return its number.

    It predicts intercept + 0.5 age, and 2 more for a smoker, unless something of it is changed.
    """
    catalog.execute("CALL federated.execute(%s)", [f'START FEDERATED TRAINING "{model}"'])
    [(run, model_id, version)] = catalog.execute(
        "SELECT r.run_id, r.model_id, 1 + greatest(m.dropped_version, (SELECT max(v.version) FROM federated.version AS v"
        " WHERE v.model_id = r.model_id))"
        " FROM federated.run AS r JOIN federated.model AS m USING (model_id)"
        " WHERE m.name = %s AND r.status = 'queued'",
        [model],
    ).fetchall()
    parts: dict[str, Any] = {
        "model": model_id, "version": version, "run": run, "features": ["age", "smoker"], "booleans": [False, True],
        "intercept": 0.25, "slopes": [0.5, 2.0], "fills": [40.0, 0.5], "shifts": [0.0, 0.0], "link": "identity",
        "target_mean": 0.0, "target_scale": 1.0, "loss": 1.0 / version,
    } | changed  # fmt: skip
    with daemon.transaction():
        numbers = json.dumps({name: parts[name] for name in NUMBERS})
        obstacle = "promote is false"
        if parts.get("promoted", True):
            [(obstacle,)] = daemon.execute(PUBLISH, parts | {"numbers": numbers}).fetchall()
        if obstacle is None:
            daemon.execute(
                "UPDATE federated.version SET is_current = false WHERE model_id = %s AND is_current",
                [model_id],
            )
        prediction = numbers if parts.get("kept", True) else None
        daemon.execute(INSERT, parts | {"prediction": prediction, "current": obstacle is None})
        daemon.execute("UPDATE federated.run SET status = 'completed' WHERE run_id = %s", [run])
    return int(version)


def execute(session: psycopg.Connection, *statements: str) -> None:
    """Execute statements of the language."""
    for statement in statements:
        session.execute("CALL federated.execute(%s)", [statement])


def value(session: psycopg.Connection, expression: str) -> Any:
    """Evaluate an expression."""
    [(result,)] = session.execute(f"SELECT {expression}").fetchall()  # type: ignore[arg-type]
    return result


def functions(session: psycopg.Connection) -> list[str]:
    """Return the names of all functions of models."""
    found = session.execute(
        "SELECT proname FROM pg_proc WHERE pronamespace = 'federated_model'::regnamespace ORDER BY proname"
    )
    return [name for (name,) in found.fetchall()]


def notices_of(session: psycopg.Connection) -> list[str]:
    """Return a list to which the session's later notices are added."""
    heard: list[str] = []
    session.add_notice_handler(lambda diagnostic: heard.append(diagnostic.message_primary or ""))
    return heard
