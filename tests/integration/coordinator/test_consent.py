"""Consent between real processes: withdrawn while a run is under way, it is honoured from the next round on."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg.rows import dict_row

from tests.integration.coordinator.orders_support import ended, keyed, share_by_patient
from tests.integration.coordinator.support import WORKSPACE, Site, World, create_model, create_workspace


def query(world: World, site: Site, statement: str) -> list[dict[str, Any]]:
    with psycopg.connect(
        world.cluster.dsn(site.database), autocommit=True, row_factory=dict_row
    ) as connection:
        return connection.execute(statement.encode()).fetchall()


def last_round(world: World, site: Site) -> int:
    [row] = query(world, site, "SELECT max(round_number) AS n FROM federated.release")
    return int(row["n"])


async def test_a_run_goes_on_without_who_withdraws_and_every_node_has_it_on_record(world: World) -> None:
    create_workspace(world, min_nodes=2)
    sites = []
    for number, (name, options) in enumerate(
        (
            ("east", ""),
            ("west", ", consent_query = 'SELECT patient_id FROM public.patient WHERE patient_id <= 150'"),
        )
    ):
        site = await world.add_site(name, seed=0.1 * (number + 1), shares=False)
        share_by_patient(world, site, options=f", purpose = 'research', plain_withdrawals = true{options}")
        world.register(site)
        sites.append(site)
    create_model(world, rounds=10_000, early_stopping_rounds=1000, convergence_threshold=0)
    world.start_coordinator()
    await keyed(world)
    world.execute("START FEDERATED TRAINING risk")
    await world.reached("SELECT max(round_number) >= 2 FROM federated.round")

    world.execute(f"REVOKE FEDERATED CONSENT FOR SUBJECT '42' PURPOSE 'research' FROM WORKSPACE {WORKSPACE}")
    await ended(world)

    after = max(last_round(world, site) for site in sites)
    await world.reached(
        "SELECT max(round_number) > %s FROM federated.round WHERE finished_at IS NOT NULL", after + 1
    )
    world.execute("STOP FEDERATED TRAINING risk")
    assert (await world.finished())["status"] == "stopped"
    [shown] = world.query("SELECT purpose, status, recorded_by, nodes, subject_hash FROM federated_consent")
    assert (shown["purpose"], shown["status"], shown["recorded_by"]) == ("research", "revoked", "coordinator")
    assert shown["nodes"] == ["east", "west"]
    for site in sites:
        [own] = query(world, site, "SELECT purpose, status, recorded_by, subject_hash FROM federated_consent")
        assert (own["purpose"], own["status"], own["recorded_by"]) == ("research", "revoked", "node")
        assert own["subject_hash"] != shown["subject_hash"]
        # Who was left out changed once, when the order was on record, and with the first answer after it.
        left_out = query(
            world,
            site,
            "SELECT r.admission, min(r.released_at) > max(c.recorded_at) AS is_after FROM federated.release AS r"
            " CROSS JOIN federated.consent AS c WHERE r.released_at <> c.recorded_at"
            " GROUP BY r.admission, r.released_at > c.recorded_at ORDER BY 2",
        )
        assert [row["is_after"] for row in left_out] == [False, True]
        assert left_out[0]["admission"] != left_out[1]["admission"]
        assert query(world, site, "SELECT message FROM federated_node_refusals") == []
