"""After a real run under a budget the views and functions for analysts and auditors show what happened."""

from __future__ import annotations

import pytest

from heliosdb.cli.verify_spending import verify_spending
from heliosdb.transport.identity import fingerprint
from tests.integration.coordinator.support import World, create_model, create_workspace

pytestmark = pytest.mark.xdist_group("coordinator_reports")


async def test_views_and_functions_show_what_a_private_run_did(world: World) -> None:
    create_workspace(world, min_nodes=2, privacy_budget=4.0)
    for number, name in enumerate(("north", "south")):
        world.register(await world.add_site(name, rows=400, seed=0.1 * (number + 1)))
    create_model(world, rounds=3)
    world.execute("START FEDERATED TRAINING risk")
    world.start_coordinator()

    run = await world.finished()

    assert run["status"] == "completed", run
    [budget] = world.query("SELECT * FROM federated_privacy_budget_status")
    [version] = world.query("SELECT epsilon, global_loss, global_accuracy FROM federated.version")
    assert budget["rounds_completed"] == 3
    assert budget["consumed_epsilon"] == version["epsilon"]
    assert budget["remaining_epsilon"] == pytest.approx(4.0 - version["epsilon"])
    # All of the budget was planned into the three rounds.
    assert budget["estimated_remaining_rounds"] == 0

    history = world.query('SELECT * FROM federated_privacy_history ORDER BY "timestamp"')
    assert [row["round_number"] for row in history] == [0, 1, 2, 3]
    cumulative = [row["cumulative_epsilon"] for row in history]
    assert cumulative == sorted(cumulative)
    assert cumulative[-1] == version["epsilon"]
    assert [row["clipping_threshold"] for row in history] == [None, 1.0, 1.0, 1.0]
    plan = world.query("SELECT plan FROM federated.run")[0]["plan"]
    noise = [plan["statistics_noise"]] + [plan["training_noise"]] * 3
    assert [row["noise_multiplier"] for row in history] == noise

    evaluation = {
        row["metric"]: row["value"] for row in world.query("SELECT * FROM federated_evaluate('risk')")
    }
    assert evaluation["global_loss"] == version["global_loss"]
    assert evaluation["global_accuracy"] == version["global_accuracy"]
    [quality] = world.query("SELECT * FROM federated_data_quality_check('risk')")
    assert set(quality["feature_statistics"]) == set(
        world.query("SELECT features FROM federated.version")[0]["features"]
    )
    assert all(found["scale"] > 0 for found in quality["feature_statistics"].values())

    workspace = world.query("SELECT name FROM federated.workspace")[0]["name"]
    [status] = world.query("SELECT active_nodes, status FROM federated_workspace_status")
    assert status == {"active_nodes": 2, "status": "budget_exhausted"}
    [log] = world.query("SELECT is_intact, reason FROM federated_audit_verify(%s)", workspace)
    assert log == {"is_intact": True, "reason": None}
    found = {
        row["requirement"]: row["status"]
        for row in world.query(
            "SELECT requirement, status FROM federated_compliance_check(%s, 'GDPR')", workspace
        )
    }
    for requirement in ("Accountability", "Data protection by design", "Authentication of nodes",
                        "Encryption between coordinator and nodes", "Ledger agrees with the nodes"):  # fmt: skip
        assert found[requirement] == "PASS", requirement
    # Privately trained, and of rows at both nodes.
    [card] = [row["card"] for row in world.query("SELECT federated_model_card('risk') AS card")]
    assert card["version"]["privacy"]["epsilon"] == version["epsilon"]
    assert card["version"]["metrics"]["loss"] == version["global_loss"]
    sites = {one["node"]: (one["rounds"], one["rows"]) for one in card["version"]["data"]["sites"]}
    weights = {
        row["name"]: row["weight"]
        for row in world.query(
            "SELECT n.name, p.weight FROM federated.participation AS p JOIN federated.node AS n USING (node_id)"
            " WHERE p.round_number = %s AND p.step = 'train'",
            card["version"]["round_number"],
        )
    }
    assert sites == {name: (card["version"]["round_number"], weights[name]) for name in ("north", "south")}
    [record] = [
        row["record"] for row in world.query("SELECT federated_processing_record(%s) AS record", workspace)
    ]
    assert [one["node"] for one in record["categories_of_data"]] == ["north", "south"]


def verify(world: World) -> tuple[bool, str]:
    """What an auditor sees."""
    lines: list[str] = []
    conninfo = world.cluster.dsn(world.database, user="an_auditor")
    return verify_spending(conninfo, None, lines.append), "\n".join(lines)


async def test_an_auditor_verifies_what_nodes_signed_outside_the_database(world: World) -> None:
    create_workspace(world, min_nodes=2, privacy_budget=4.0)
    for number, name in enumerate(("north", "south")):
        world.register(await world.add_site(name, rows=400, seed=0.1 * (number + 1)))
    create_model(world, rounds=2)
    world.execute("START FEDERATED TRAINING risk")
    world.start_coordinator()
    assert verify(world) == (False, "no node has signed what it spent: nothing was verified")

    assert (await world.finished())["status"] == "completed"

    charged = world.query("SELECT run_id, round_number, step, node_name, epsilon_tight FROM federated.ledger")
    signed = world.query(
        "SELECT run_id, round_number, step, node_name, epsilon_tight FROM federated.node_spending"
    )
    order = ("node_name", "round_number", "step")
    keyed = [sorted(rows, key=lambda row: [str(row[key]) for key in order]) for rows in (charged, signed)]
    assert [row.pop("epsilon_tight") for row in keyed[1]] == pytest.approx(
        [row.pop("epsilon_tight") for row in keyed[0]]
    )
    assert keyed[0] == keyed[1] != []
    intact, shown = verify(world)
    assert intact, shown
    assert [line.split(":")[0].split(" ")[1] for line in shown.splitlines()] == ["north", "south"]
    with world.catalog() as connection:
        [(certificate,)] = [
            tuple(row.values())
            for row in connection.execute("SELECT certificate FROM federated.node WHERE name = 'north'")
        ]
    assert fingerprint(certificate.encode()) in shown

    for falsified, said in (
        ("UPDATE federated.ledger SET epsilon_tight = epsilon_tight / 2", "the ledger shows"),
        ("UPDATE federated.node_spending SET epsilon_tight = 0.1", "does not say what was signed"),
        ("UPDATE federated.node_spending SET node_name = 'other' WHERE node_name = 'south'", "does not say"),
        (
            "UPDATE federated.node_spending SET signature = set_byte(signature, 20, get_byte(signature, 20) # 1)",
            "the signature is not",
        ),
        ("UPDATE federated.node_spending SET header = '\\x08'", "cannot be read"),
    ):
        with world.catalog() as connection:
            connection.execute("CREATE TABLE kept AS SELECT * FROM federated.node_spending")
            connection.execute("CREATE TABLE lines AS SELECT * FROM federated.ledger")
            connection.execute("SET session_replication_role = replica")  # as the server's owner can
            connection.execute(falsified)  # type: ignore[arg-type]
            intact, shown = verify(world)
            assert not intact, falsified
            assert said in shown, falsified
            for table, copy in (("node_spending", "kept"), ("ledger", "lines")):
                connection.execute(f"DELETE FROM federated.{table}")  # type: ignore[arg-type]
                connection.execute(f"INSERT INTO federated.{table} SELECT * FROM {copy}")  # type: ignore[arg-type]
                connection.execute(f"DROP TABLE {copy}")  # type: ignore[arg-type]
    assert verify(world)[0]
