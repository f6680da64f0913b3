"""What a run leaves in the catalog, and the same run again: what tests of kills compare."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from tests.integration.coordinator.support import MODEL, World

RUN = UUID("00000000-0000-4000-8000-00000000f00d")

WHOLE = os.environ.get("HELIOSDB_ALL_FAULTS") == "1"
"""Whether every fault is tried, and for as long as is promised; else a part that represents them (`make faults`)."""


@dataclass(frozen=True)
class Result:
    """What a run left in the catalog, without times and sealed bytes."""

    status: str
    versions: list[dict[str, Any]]
    rounds: list[dict[str, Any]]
    alignments: list[dict[str, Any]]
    phases: list[dict[str, Any]]
    tasks: list[dict[str, Any]]
    ledger: list[dict[str, Any]]


def read_result(world: World) -> Result:
    """Read it."""
    return Result(
        world.runs()[-1]["status"],
        world.query(
            "SELECT version, run_id, round_number, encode(sha256, 'hex') AS sha256, is_current FROM federated.version"
        ),
        world.query(
            "SELECT round_number, status::text, global_loss, global_accuracy, node_variance FROM federated.round "
            "ORDER BY 1"
        ),
        world.query(
            "SELECT c.round_number, n.name, c.alignment FROM federated.contribution AS c "
            "JOIN federated.node AS n USING (node_id) ORDER BY 1, 2"
        ),
        world.query("SELECT round_number, phase FROM federated.phase ORDER BY 1, 2"),
        world.query(
            "SELECT p.round_number, p.step, n.name, p.outcome::text, p.weight FROM federated.participation AS p "
            "JOIN federated.node AS n USING (node_id) ORDER BY 1, 2, 3"
        ),
        world.query(
            "SELECT round_number, step, node_name, state::text, epsilon_basic, epsilon_tight "
            "FROM federated.ledger ORDER BY ledger_id"
        ),
    )


def start_run(world: World) -> None:
    """START with the one run id, after forgetting the run before it everywhere."""
    for site in world.sites:
        with world.cluster.connect(site.database) as connection:
            connection.execute(
                "TRUNCATE federated.release, federated.spending, federated.noise_share, federated.node_memory"
            )
    connection = world.session()
    with connection.transaction():
        connection.execute("DELETE FROM federated.run")
        connection.execute("UPDATE federated.model SET dropped_version = 0")
        # As a superuser can, past the trigger that keeps what was charged.
        connection.execute("SET LOCAL session_replication_role = replica")
        connection.execute("DELETE FROM federated.ledger")
        connection.execute("SET LOCAL session_replication_role = origin")
        connection.execute("CALL federated.execute(%s)", [f"START FEDERATED TRAINING {MODEL}"])
        connection.execute("UPDATE federated.run SET run_id = %s", [RUN])
