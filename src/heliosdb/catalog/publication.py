"""A run's result becomes a version, and the current version a SQL function that the planner inlines.

What always holds: version row and function change in one transaction of the caller's, under the role
federated_daemon; the function carries no SET clause (it would not be inlined) and a body bound at creation,
so that nobody's search_path matters; users' objects that depend on another signature are never dropped.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from heliosdb.catalog.connection import Row, load_statements
from heliosdb.catalog.psycopg_connection import PsycopgConnection
from heliosdb.domain.ids import RoundNumber
from heliosdb.domain.run import Run

_FUNCTION_SCHEMA = "federated_model"


@dataclass(frozen=True, slots=True)
class NewVersion:
    """What a version is made of; expression: its prediction as SQL over parameters named as the features."""

    round: RoundNumber
    scaling: Mapping[str, Any]
    epsilon: float | None
    expression: str


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
    )
    return Published(version, obstacle)


def _replace_function(connection: PsycopgConnection, run: Run, new: NewVersion, version: int) -> str | None:
    """Make the function compute the new version; where dependents forbid it, say so and change nothing."""
    present = [list(row["names"] or ()) for row in _run(connection, "function_arguments", run.model)]
    try:
        with connection.transaction():
            if present and present != [list(run.options.features)]:
                _run(connection, "drop_function", run.model)
            for statement in _function_statements(run, new.expression, version):
                connection.raw.execute(statement)
    except psycopg.errors.DependentObjectsStillExist as error:
        return (
            f"version {version} is stored but not current: its features differ from those of "
            f"{_FUNCTION_SCHEMA}.{run.model}, on which other objects depend ({error.diag.message_detail})"
        )
    return None


def _function_statements(run: Run, expression: str, version: int) -> list[sql.Composed]:
    name = sql.Identifier(_FUNCTION_SCHEMA, run.model)
    features = run.options.features
    signature = sql.SQL("{}({})").format(
        name, sql.SQL(", ").join([sql.SQL("pg_catalog.float8")] * len(features))
    )
    arguments = sql.SQL(", ").join(
        sql.SQL("{} pg_catalog.float8 DEFAULT NULL").format(sql.Identifier(feature)) for feature in features
    )
    comment = f"Version {version} of federated model {run.model}, from run {run.id}"
    return [
        sql.SQL(
            "CREATE OR REPLACE FUNCTION {}({}) RETURNS pg_catalog.float8 "
            "LANGUAGE sql STABLE PARALLEL SAFE RETURN {}"
        ).format(name, arguments, _composed(expression)),
        sql.SQL("REVOKE ALL ON FUNCTION {} FROM PUBLIC").format(signature),
        sql.SQL("GRANT EXECUTE ON FUNCTION {} TO federated_analyst").format(signature),
        sql.SQL("COMMENT ON FUNCTION {} IS {}").format(signature, sql.Literal(comment)),
    ]


def _composed(expression: str) -> sql.SQL:
    # Rendered from numbers and quoted names by heliosdb.algorithms.sql, never by a user.
    return sql.SQL(expression)


def _run(connection: PsycopgConnection, name: str, *values: object) -> Sequence[Row]:
    return connection.query(load_statements("publication.sql")[name], *values)
