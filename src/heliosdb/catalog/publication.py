"""A run's result becomes a version, and the current version a SQL function that the planner inlines.

What always holds: version row and function change in one transaction of the caller's; the daemon hands over
what the prediction consists of, and the database writes the function (sql/publication.sql), now and when the
version is made current again; users' objects that depend on another signature are never dropped.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from federated_sql.render import quote_name
from heliosdb.catalog.connection import Statements
from heliosdb.catalog.psycopg_connection import PsycopgConnection
from heliosdb.domain.encoding import Encoding
from heliosdb.domain.ids import RoundNumber
from heliosdb.domain.prediction import RESERVED, Prediction
from heliosdb.domain.run import Run
from heliosdb.domain.sealed_prediction import seal_numbers, split_content
from heliosdb.domain.state import freeze, state_to_bytes

_SQL = Statements("publication.sql")


@dataclass(frozen=True, slots=True)
class NewVersion:
    """What a version is made of.

    booleans: which features are boolean, of length features; () where none is. encoding: how columns become
    inputs; None where every feature is one. is_measured: whether the round's figures are of this model;
    else report is what was measured of it, as JSON, None where nothing was.
    """

    round: RoundNumber
    scaling: Mapping[str, Any]
    epsilon: float | None
    prediction: Prediction
    booleans: tuple[bool, ...] = ()
    encoding: Encoding | None = None
    is_measured: bool = True
    report: str | None = None


@dataclass(frozen=True, slots=True)
class Published:
    """The version's number; obstacle: why it is not the current one, None where it is."""

    version: int
    obstacle: str | None


def publish(connection: PsycopgConnection, run: Run, new: NewVersion) -> Published:
    """Store the version of a closed round whose parameters are kept, and make it current if possible."""
    version: int = _SQL.query(connection, "next_version", run.model_id)[0]["version"]
    stored, arrays = _kept(connection, run, new, version)
    obstacle = (
        _replace_function(connection, run, new, version, stored)
        if run.options.promote
        else _unpromoted(run, version)
    )
    if obstacle is None:
        _SQL.query(connection, "retire_current", run.model_id)
    _SQL.query(
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
        stored,
        arrays,
        new.is_measured,
        new.report,
    )
    return Published(version, obstacle)


def _replace_function(
    connection: PsycopgConnection, run: Run, new: NewVersion, version: int, stored: str
) -> str | None:
    """Make the function compute the new version; where dependents forbid it, say so and change nothing."""
    obstacle = _SQL.query(
        connection,
        "publish_function",
        run.model_id,
        version,
        str(run.id),
        list(run.options.features),
        list(_booleans(run, new)),
        stored,
    )[0]["obstacle"]
    if obstacle is None:
        return None
    return (
        f"version {version} is stored but not current: its features differ from those of "
        f"federated_model.{run.model}, on which other objects depend ({obstacle})"
    )


def _unpromoted(run: Run, version: int) -> str:
    return (
        f"version {version} is stored but not current, since promote is false: "
        f"PROMOTE FEDERATED MODEL {quote_name(run.model)} VERSION {version}"
    )


def _booleans(run: Run, new: NewVersion) -> tuple[bool, ...]:
    return new.booleans or (False,) * len(run.options.features)


def _kept(connection: PsycopgConnection, run: Run, new: NewVersion, version: int) -> tuple[str, bytes | None]:
    """The JSON of which the version's functions are made, now and when it is made current again, and its
    arrays; of a run whose prediction is sealed the numbers are sealed to the database's server."""
    stored = _stored(run, new)
    arrays = state_to_bytes(freeze(new.prediction.arrays)) if new.prediction.arrays else None
    if run.seals_prediction:
        found = _SQL.query(connection, "sealing", str(run.id), version)[0]
        stored, hidden = split_content(stored)
        arrays = seal_numbers(bytes(found["public"]), hidden, arrays, found["key"])
    return json.dumps(stored, allow_nan=False), arrays


def _stored(run: Run, new: NewVersion) -> dict[str, Any]:
    taken: dict[str, Any] = {"kind": new.prediction.kind, "booleans": _booleans(run, new)}
    classes = run.options.target_classes or (new.encoding.classes if new.encoding is not None else ())
    if classes:
        taken["classes"] = classes
    if new.encoding is not None:
        taken["encoding"] = new.encoding.to_json()
    if RESERVED & new.prediction.content.keys():
        raise ValueError("a prediction's content has a key of its own for what the catalog adds")
    return taken | dict(new.prediction.content)
