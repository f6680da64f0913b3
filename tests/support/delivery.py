"""Versions on their way from one database to another without daemons: what these would ask, in their order."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import psycopg

from tests.support.cluster import Cluster

TAKE = (
    "SELECT federated._take_version(%(name)s, %(version)s, %(version_key)s, %(features)s::text[], %(contract)s, %(prediction)s,"
    " %(prediction_arrays)s::bytea, %(sha256)s::bytea, 'header', 'signature', sha256('certificate'))"
)
HEAR = (
    "SELECT federated._hear_offer(%(name)s, %(workspace)s, %(model_name)s, %(wanted)s, %(outcome)s, %(version)s,"
    " %(version_key)s, %(reason)s)"
)

WITHDRAW = (
    "SELECT federated._withdraw_version(%(name)s, %(workspace)s, %(model_name)s, %(wanted)s, %(version_key)s)"
)


def register(session: psycopg.Connection, node: str, workspace: str = "clinics") -> None:
    """Register a node that nobody will meet."""
    session.execute(
        "INSERT INTO federated.node (workspace_id, name, options) SELECT workspace_id, %s, '{}'"
        " FROM federated.workspace WHERE name = %s",
        [node, workspace],
    )


def report(coordinator: psycopg.Connection, participant: psycopg.Connection, node: str) -> None:
    """Have the coordinator's database know what the participant's says of its subscriptions."""
    coordinator.execute(
        "DELETE FROM federated.subscriber AS s USING federated.node AS n WHERE s.node_id = n.node_id AND n.name = %s",
        [node],
    )
    said = participant.execute("SELECT * FROM federated._list_subscriptions('clinics')").fetchall()
    for row in said:
        coordinator.execute(
            "INSERT INTO federated.subscriber (node_id, name, model_name, wanted, takes, held_key, held_version,"
            " heard_outcome, heard_key, refused_key, kept_keys)"
            " SELECT node_id, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s FROM federated.node WHERE name = %s",
            [*row, node],
        )


def offers(coordinator: psycopg.Connection, node: str) -> list[dict[str, Any]]:
    """Return what is due to a node."""
    found = coordinator.execute("SELECT * FROM federated._pending_deliveries() WHERE node_name = %s", [node])
    assert found.description is not None
    return [dict(zip((one.name for one in found.description), row, strict=True)) for row in found.fetchall()]


def content(coordinator: psycopg.Connection, key: Any) -> dict[str, Any]:
    """Return what travels of a version."""
    [(version, features, contract, prediction, arrays)] = coordinator.execute(
        "SELECT * FROM federated._offered_version(%s)", [key]
    ).fetchall()
    return {
        "version": version, "features": features, "contract": json.dumps(contract), "prediction": prediction,
        "prediction_arrays": arrays, "sha256": hashlib.sha256(prediction.encode() + bytes(arrays or b"")).digest(),
    }  # fmt: skip


def deliver(
    cluster: Cluster, coordinator: str, participant: str, node: str = "north", **changed: Any
) -> list[str | None]:
    """Bring a participant's database all that is due to it; return the obstacle of each version, None where
    it was taken. changed: what of a version is another on its way.
    """
    obstacles = []
    with (
        cluster.connect(coordinator, user="heliosdb_daemon") as there,
        cluster.connect(participant, user="heliosdb_daemon") as here,
    ):
        report(there, here, node)
        for offer in offers(there, node):
            if offer["outcome"] == "retired":
                here.execute(WITHDRAW, offer)
                continue
            with here.transaction():
                [(takes,)] = here.execute(HEAR, offer).fetchall()
                assert not takes or offer["carries"]
                if takes:
                    found = content(there, offer["version_key"])
                    obstacles.append(take(here, {**offer, **found, **changed}))
        report(there, here, node)
    return obstacles


def take(here: psycopg.Connection, values: Mapping[str, Any]) -> str | None:
    """Hand a version over as a node's daemon does."""
    [(obstacle,)] = here.execute(TAKE, values).fetchall()
    return None if obstacle is None else str(obstacle)
