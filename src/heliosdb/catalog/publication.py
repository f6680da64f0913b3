"""A run's result becomes a version, and the current version a SQL function that the planner inlines.

What always holds: version row and function change in one transaction of the caller's; the daemon hands over
numbers and names, and the database writes the function (sql/publication.sql); users' objects that depend on
another signature are never dropped.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from heliosdb.algorithms.sql import LinearPrediction
from heliosdb.catalog.connection import Row, load_statements
from heliosdb.catalog.psycopg_connection import PsycopgConnection
from heliosdb.domain.ids import RoundNumber
from heliosdb.domain.run import Run


@dataclass(frozen=True, slots=True)
class NewVersion:
    """What a version is made of.

    booleans: which features are boolean, of length features; () where none is.
    """

    round: RoundNumber
    scaling: Mapping[str, Any]
    epsilon: float | None
    prediction: LinearPrediction
    booleans: tuple[bool, ...] = ()


@dataclass(frozen=True, slots=True)
class Published:
    """The version's number; obstacle: why it is not the current one, None where it is."""

    version: int
    obstacle: str | None


def publish(connection: PsycopgConnection, run: Run, new: NewVersion) -> Published:
    """Store the version of a closed round whose parameters are kept, and make it current if possible."""
    version: int = _run(connection, "next_version", run.model_id)[0]["version"]
    obstacle = _replace_function(connection, run, new, version)
    if obstacle is None:
        _run(connection, "retire_current", run.model_id)
    _run(
        connection,
        "insert_version",
        run.model_id,
        version,
        str(run.id),
        new.round,
        list(run.options.features),
        json.dumps(new.scaling),
        new.epsilon,
        obstacle is None,
        json.dumps(_numbers(run, new)),
    )
    return Published(version, obstacle)


def _replace_function(connection: PsycopgConnection, run: Run, new: NewVersion, version: int) -> str | None:
    """Make the function compute the new version; where dependents forbid it, say so and change nothing."""
    features, prediction = run.options.features, new.prediction
    obstacle = _run(
        connection,
        "publish_function",
        run.model_id,
        version,
        str(run.id),
        list(features),
        list(new.booleans or (False,) * len(features)),
        prediction.intercept,
        list(prediction.slopes),
        list(prediction.fills),
        list(prediction.shifts),
        prediction.link,
        prediction.target_mean,
        prediction.target_scale,
    )[0]["obstacle"]
    if obstacle is None:
        return None
    return (
        f"version {version} is stored but not current: its features differ from those of "
        f"federated_model.{run.model}, on which other objects depend ({obstacle})"
    )


def _numbers(run: Run, new: NewVersion) -> Mapping[str, Any]:
    """Return what the version's own functions are made of, now and when it is made current again."""
    booleans = new.booleans or (False,) * len(run.options.features)
    return {"booleans": booleans, **asdict(new.prediction)}


def _run(connection: PsycopgConnection, name: str, *values: object) -> Sequence[Row]:
    return connection.query(load_statements("publication.sql")[name], *values)
