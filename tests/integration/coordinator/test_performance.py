"""The figures of a real federation: each column filled, and checked against what can be known otherwise."""

from __future__ import annotations

import signal
from typing import Any

import pytest
from psycopg import errors

from heliosdb.transport import federation_pb2 as pb
from heliosdb.transport.limits import CHUNK_BYTES
from tests.integration.coordinator.support import Site, World, create_model, create_workspace


async def trained(
    world: World, *, names: str = "abc", policy: dict[str, object] | None = None, **model: object
) -> list[Site]:
    """Nodes, a model and a finished run."""
    create_workspace(world, **({"min_nodes": len(names)} | (policy or {})))
    sites = [await world.add_site(name, rows=400, seed=0.1 * number) for number, name in enumerate(names, 1)]
    for site in sites:
        world.register(site)
    create_model(world, **model)
    await train(world)
    return sites


async def train(world: World, *, count: int = 1) -> None:
    world.execute("START FEDERATED TRAINING risk")
    if not world.coordinators:
        world.start_coordinator()
    run = await world.finished(count=count)
    assert run["status"] == "completed", run


def metrics(world: World) -> list[dict[str, Any]]:
    return world.query("SELECT * FROM federated_performance_metrics")


def message_bytes(world: World, site: Site, number: int, step: str) -> int:
    """How long the messages were in which the node sent this release, from its own records."""
    with world.cluster.connect(site.database) as connection:
        found = connection.execute(
            "SELECT header, payload FROM federated.release WHERE round_number = %s AND step = %s",
            [number, step],
        ).fetchone()
    assert found is not None
    signed = pb.SignedHeader.FromString(found[0])
    assert len(found[1]) <= CHUNK_BYTES
    signed.chunk = found[1]
    return pb.UpdateMessage(head=signed).ByteSize()


async def test_every_phase_of_every_round_has_its_figures(world: World) -> None:
    sites = await trained(world, rounds=2)

    found = metrics(world)

    phases = ["distribution", "local_training", "aggregation"]
    assert [(one["model_name"], one["round_number"], one["phase"]) for one in found] == [
        ("risk", number, phase) for number in range(3) for phase in phases
    ]
    lengths = {
        one["round_number"]: one["seconds"]
        for one in world.query(
            "SELECT round_number, extract(epoch FROM finished_at - started_at)::float8 AS seconds FROM federated.round"
        )
    }
    for one in found:
        assert 0 < one["duration_seconds"] < lengths[one["round_number"]] + 0.1
        assert 0 <= one["cpu_usage_percent"] < 400
        assert 0.02 < one["memory_usage_gb"] < 4
        assert (one["network_sent_mb"] > 0) is (one["phase"] == "distribution")
        assert (one["network_received_mb"] > 0) is (one["phase"] == "local_training")
    for number, whole in lengths.items():
        # Two clocks: the round's is the database's.
        assert sum(one["duration_seconds"] for one in found if one["round_number"] == number) < whole + 0.1
    # Nodes train with one core, and do little else while they do.
    training = [one["cpu_usage_percent"] for one in found if one["phase"] == "local_training"]
    assert all(0 < percent <= 110 for percent in training)

    last = {one["phase"]: one for one in found if one["round_number"] == 2}
    told = sum(message_bytes(world, site, 2, "train") for site in sites)
    assert round(last["local_training"]["network_received_mb"] * 1e6) == told
    recorded = world.query(
        "SELECT sum(bytes_sent)::float8 AS sent, sum(bytes_received)::float8 AS received "
        "FROM federated.participation WHERE round_number = 2 AND step = 'train'"
    )
    assert recorded == [{"sent": last["distribution"]["network_sent_mb"] * 1e6, "received": told}]
    others = ("evaluate", "report")
    total = told + sum(message_bytes(world, site, 2, step) for site in sites for step in others)
    (communication,) = world.query(
        "SELECT communication_mb AS mb, (SELECT sum(bytes_sent) FROM federated.participation "
        "WHERE round_number = 2) AS sent FROM federated_training_metrics('risk') WHERE round_number = 2"
    )
    assert communication["mb"] == pytest.approx((total + float(communication["sent"])) / 1e6)


async def test_the_latest_run_is_shown_and_all_rounds_count_for_a_node(world: World) -> None:
    await trained(world, names="ab", rounds=2)
    await train(world, count=2)

    assert len(metrics(world)) == 9
    for one in world.query("SELECT * FROM federated_node_status ORDER BY node_name"):
        assert (one["status"], one["rounds_participated"]) == ("active", 4)
        assert 0 < one["avg_round_time_seconds"] < 30
        assert one["last_seen"] is not None
        (mean,) = world.query(
            "SELECT avg(alignment) AS score, count(*) AS n FROM federated.contribution JOIN federated.node "
            "USING (node_id) WHERE name = %s",
            one["node_name"],
        )
        assert mean == {"score": one["contribution_score"], "n": 4}


async def test_a_node_that_learns_the_opposite_scores_below_nought_and_the_others_above(world: World) -> None:
    create_workspace(world, min_nodes=4)
    for number, name in enumerate("abcd", 1):
        site = await world.add_site(name, rows=400, seed=0.1 * number)
        world.register(site)
    with world.cluster.connect(site.database) as connection:
        connection.execute("UPDATE patient SET outcome = 1 - outcome")
    create_model(world, rounds=2)

    await train(world)

    scores = {
        one["node_name"]: one["contribution_score"]
        for one in world.query("SELECT node_name, contribution_score FROM federated_node_status")
    }
    assert -1 <= scores["d"] < -0.5
    assert all(0 < scores[name] <= 1 for name in "abc")
    rounds = world.query("SELECT * FROM federated_convergence_diagnostics('risk')")
    assert [one["round_number"] for one in rounds] == [1, 2]
    assert all(one["node_variance"] > 0 for one in rounds)
    assert {one["learning_rate"] for one in rounds} == {0.1}


async def test_nodes_with_the_same_rows_have_no_variance_and_agree_wholly(world: World) -> None:
    create_workspace(world, min_nodes=2)
    for name in "ab":
        # All rows in one batch and none held out: then the order that each node chooses makes no difference.
        world.register(await world.add_site(name, rows=100, seed=0.3))
    create_model(world, rounds=2, batch_size=100, validation_split=0.0, learning_rate=None)

    await train(world)

    rounds = world.query("SELECT * FROM federated_convergence_diagnostics('risk')")
    assert [one["node_variance"] for one in rounds] == pytest.approx([0.0, 0.0], abs=1e-20)
    assert {one["learning_rate"] for one in rounds} == {0.01}, "not the default that was in force"
    assert {(one["global_loss"], one["loss_delta"]) for one in rounds} == {(None, None)}
    scores = world.query("SELECT contribution_score FROM federated_node_status")
    assert [one["contribution_score"] for one in scores] == pytest.approx([1.0, 1.0])
    assert {one["phase"] for one in metrics(world) if one["duration_seconds"] is None} == set()


async def test_loss_changes_are_against_the_evaluated_round_before(world: World) -> None:
    await trained(world, names="ab", rounds=5, validation_frequency=2)

    rounds = world.query("SELECT * FROM federated_convergence_diagnostics('risk')")

    losses = {one["round_number"]: one["global_loss"] for one in rounds}
    assert [number for number, loss in losses.items() if loss is not None] == [2, 4, 5]
    assert [one["loss_delta"] for one in rounds] == [
        None,
        None,
        None,
        losses[4] - losses[2],
        losses[5] - losses[4],
    ]


async def test_a_single_node_has_nobody_to_agree_with(world: World) -> None:
    await trained(world, names="a", rounds=1)

    assert world.query("SELECT alignment FROM federated.contribution") == [{"alignment": None}]
    assert world.query("SELECT contribution_score FROM federated_node_status") == [
        {"contribution_score": None}
    ]
    assert world.query("SELECT node_variance FROM federated_convergence_diagnostics('risk')") == [
        {"node_variance": None}
    ]


async def test_under_a_budget_no_node_tells_what_its_training_took(world: World) -> None:
    await trained(world, names="ab", rounds=2, policy={"privacy_budget": 4})

    told = [one for one in metrics(world) if one["phase"] == "local_training"]

    assert len(told) == 3
    for one in told:
        assert (one["cpu_usage_percent"], one["memory_usage_gb"]) == (None, None)
        assert one["duration_seconds"] > 0
        assert one["network_received_mb"] > 0
    rounds = world.query("SELECT node_variance FROM federated_convergence_diagnostics('risk')")
    assert all(one["node_variance"] > 0 for one in rounds)


async def test_a_coordinator_that_goes_on_records_what_it_knows_and_nothing_twice(world: World) -> None:
    create_workspace(world, min_nodes=2)
    for number, name in enumerate("ab", 1):
        world.register(await world.add_site(name, rows=400, seed=0.1 * number))
    create_model(world, rounds=2)
    world.execute("START FEDERATED TRAINING risk")
    # The second combination is round 1's training: not committed; round 2's evaluation is the fifth.
    await world.start_coordinator(faults="coordinator.aggregated:2=kill").died()
    await world.start_coordinator(faults="coordinator.aggregated:4=kill").died()
    world.start_coordinator()
    await world.finished()

    found = {(one["round_number"], one["phase"]): one for one in metrics(world)}

    assert len(found) == 9
    unknown = {key for key, one in found.items() if one["duration_seconds"] is None}
    assert unknown == {(1, "distribution"), (1, "local_training"), (2, "aggregation")}
    assert {key for key, one in found.items() if one["cpu_usage_percent"] is None} == {
        (1, "distribution"),
        (2, "aggregation"),
    }
    assert found[1, "local_training"]["network_received_mb"] > 0
    scores = world.query("SELECT count(*) AS n, count(alignment) AS known FROM federated.contribution")
    assert scores == [{"n": 4, "known": 4}]
    seen = world.query(
        "SELECT duration_seconds IS NULL AS unknown FROM federated.participation WHERE step = 'train' ORDER BY round_number"
    )
    assert [one["unknown"] for one in seen] == [True, True, False, False]


async def test_a_straggler_is_slow_until_it_is_in_time_again(world: World) -> None:
    create_workspace(world, min_nodes=2, stragglers_timeout=10, round_timeout=120)
    sites = [await world.add_site(name, rows=400, seed=0.1 * number) for number, name in enumerate("abc", 1)]
    sites[2].kill()
    await world.start_site(sites[2], faults="node.task.received:4=stop")
    for site in sites:
        world.register(site)
    create_model(world, rounds=2)
    # Heartbeats would tell too; here the round alone has to.
    world.start_coordinator(heartbeat_interval=60)
    await world.reached("(SELECT count(*) = 3 FROM federated.node WHERE status = 'active')")
    await train(world)

    status = "SELECT node_name, status FROM federated_node_status ORDER BY 1"
    assert [one["status"] for one in world.query(status)] == ["active", "active", "slow"]
    (lost,) = world.query(
        "SELECT reason, bytes_sent, bytes_received FROM federated.participation WHERE outcome = 'dropped'"
    )
    assert (lost["reason"], lost["bytes_received"]) == ("timed out", 0)
    assert lost["bytes_sent"] > 0
    connected = world.query(
        "SELECT connection_status, endpoint_in_use, failure_reason FROM federated_node_diagnostics "
        "ORDER BY node_name"
    )
    assert connected == [
        {
            "connection_status": "connected",
            "endpoint_in_use": f"https://localhost:{site.port}",
            "failure_reason": None,
        }
        for site in sites
    ]

    assert sites[2].process is not None
    sites[2].process.process.send_signal(signal.SIGCONT)
    world.execute("ALTER FEDERATED WORKSPACE consortium SET (min_nodes = 3)")
    await train(world, count=2)
    assert [one["status"] for one in world.query(status)] == ["active"] * 3


@pytest.mark.parametrize("user", ["an_analyst", "an_auditor"])
def test_who_may_read_what_the_catalog_holds_may_read_the_figures(world: World, user: str) -> None:
    create_workspace(world, min_nodes=1)
    create_model(world)
    with world.cluster.connect(world.database, user=user) as connection:
        for relation in (
            "federated_performance_metrics",
            "federated_node_status",
            "federated_node_diagnostics",
            "federated_convergence_diagnostics('risk')",
        ):
            assert connection.execute(f"SELECT * FROM {relation}").fetchall() == []  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("user", "statement"),
    [
        ("a_nobody", "SELECT * FROM federated_performance_metrics"),
        ("a_nobody", "SELECT * FROM federated_node_status"),
        ("a_nobody", "SELECT * FROM federated_convergence_diagnostics('no such model')"),
        ("heliosdb_daemon", "UPDATE federated.contribution SET node_id = 1"),
        ("heliosdb_daemon", "DELETE FROM federated.contribution"),
        ("heliosdb_daemon", "DELETE FROM federated.phase"),
        ("an_admin", "INSERT INTO federated.contribution VALUES (gen_random_uuid(), 1, 1, 1)"),
    ],
)
def test_figures_are_read_and_written_by_those_alone_whose_business_they_are(
    world: World, user: str, statement: str
) -> None:
    with (
        world.cluster.connect(world.database, user=user) as connection,
        pytest.raises(errors.InsufficientPrivilege),
    ):
        connection.execute(statement)  # type: ignore[arg-type]


def test_diagnostics_of_a_model_that_is_not_there_name_it(world: World) -> None:
    with pytest.raises(errors.UndefinedObject, match='federated model "no such model" does not exist'):
        world.query("SELECT * FROM federated_convergence_diagnostics('no such model')")


def test_every_figure_that_may_be_unknown_says_why(world: World) -> None:
    found = world.query(
        "SELECT a.attrelid::regclass::text AS view, a.attname AS name, "
        "col_description(a.attrelid, a.attnum) AS comment FROM pg_attribute AS a WHERE a.attnum > 0 AND a.attrelid "
        "IN ('federated_performance_metrics'::regclass, 'federated_node_status'::regclass, "
        "'federated_node_diagnostics'::regclass)"
    )
    comments = {(one["view"], one["name"]): one["comment"] or "" for one in found}
    for view, names in {
        "federated_performance_metrics": ("duration_seconds", "cpu_usage_percent", "memory_usage_gb"),
        "federated_node_status": ("last_seen", "avg_round_time_seconds", "contribution_score"),
        "federated_node_diagnostics": (
            "last_heartbeat",
            "failure_reason",
            "certificate_expires",
            "suspicion",
        ),
    }.items():
        for name in names:
            assert "NULL" in comments[view, name], (view, name)
