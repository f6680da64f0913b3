"""Over real sockets and a real catalog: a lying participant is recorded as rejected, and the run completes."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

import numpy as np
import pytest

from heliosdb.algorithms.training import TRAIN
from heliosdb.domain.ids import NodeName
from heliosdb.domain.task import Task
from heliosdb.domain.vector import AnyVector
from tests.integration.coordinator.support import (
    WORKSPACE,
    Site,
    World,
    create_model,
    create_workspace,
    filled,
)
from tests.support.hostile_node import FakeNode, Lie, Said, Served, honest, make_rows, serving


@asynccontextmanager
async def served(
    world: World, lies: Mapping[str, Lie], *, plain: bool = False, aggregator: bytes | None = None
) -> AsyncIterator[dict[str, Served]]:
    """Nodes a, b and c in this process, registered with the world's catalog."""
    federation = world.federation
    async with AsyncExitStack() as stack:
        found = {}
        for name in "abc":
            identity = federation.authority.issue(name, ["localhost", "127.0.0.1"])
            federation.write(name, identity)
            node = FakeNode(NodeName(name), make_rows(ord(name)), identity, lies.get(name, honest))
            pinned = federation.coordinator.certificate_pem
            found[name] = await stack.enter_async_context(
                serving(node, pinned, plain_answers=plain, aggregator=aggregator)
            )
            world.execute(
                f"REGISTER FEDERATED NODE '{name}' IN WORKSPACE {WORKSPACE} WITH "
                f"(endpoint = 'https://localhost:{found[name].port}', certificate = '{federation.directory / name}.pem')"
            )
        yield found


def rejections(world: World) -> list[dict[str, object]]:
    return world.query(
        "SELECT n.name, p.round_number AS round, p.step, p.reason FROM federated.participation AS p "
        "JOIN federated.node AS n USING (node_id) WHERE p.outcome = 'rejected' ORDER BY 2, 1"
    )


def overweight(task: Task, vector: AnyVector, weight: float) -> Said:
    """Claim one row more than there are, in the first round of training."""
    return (vector, 61.0) if (task.key.step, task.key.round) == (TRAIN, 1) else (vector, weight)


async def test_rows_stated_in_round_zero_bound_a_weight_in_every_life_of_the_coordinator(
    world: World,
) -> None:
    create_workspace(world, min_nodes=2)
    async with served(world, {"b": overweight}):
        create_model(world, rounds=2)
        world.execute("START FEDERATED TRAINING risk")
        await world.start_coordinator(faults="coordinator.round.closed:1=kill").died()
        world.start_coordinator()
        run = await world.finished()

    assert run["status"] == "completed", run
    reason = "its weight 61 is more than the 60 rows that it stated in round 0"
    assert rejections(world) == [{"name": "b", "round": 1, "step": "train", "reason": reason}]
    [said] = world.query("SELECT message FROM federated.round WHERE round_number = 1")
    assert said["message"] == f"without b: {reason}"


async def test_a_node_that_works_against_the_others_is_marked(world: World) -> None:
    def turned_round(task: Task, vector: AnyVector, weight: float) -> Said:
        return (-5 * vector, weight) if task.key.step == TRAIN else (vector, weight)

    create_workspace(world, min_nodes=2)
    async with served(world, {"b": turned_round}):
        create_model(world, rounds=4, aggregation="median")
        world.execute("START FEDERATED TRAINING risk")
        world.start_coordinator()
        run = await world.finished()
        found = world.query(
            "SELECT node_name, suspicious, suspicion FROM federated_node_diagnostics ORDER BY node_name"
        )

    assert run["status"] == "completed", run
    assert [one["suspicious"] for one in found] == [False, True, False]
    assert [one["suspicion"] for one in found][::2] == [None, None]
    told = r"(its update points against the others' in [34]; )?it is \d\.\d times as long as usual in the median, far"
    assert re.fullmatch(told + r" too long in [34] of its last 4 rounds", found[1]["suspicion"])


async def test_updates_that_all_pass_max_update_norm_end_the_run_as_diverged_with_each_nodes_reason(
    world: World,
) -> None:
    create_workspace(world, min_nodes=2)
    async with served(world, {}):
        create_model(world, rounds=2, max_update_norm=1e-6)
        world.execute("START FEDERATED TRAINING risk")
        world.start_coordinator()
        run = await world.finished()

    assert run["status"] == "diverged", run
    assert run["message"].count("is larger than max_update_norm 1e-06") >= 2
    assert "raise max_update_norm; learning_rate is 0.1" in run["message"]


async def test_a_run_whose_parameters_leave_their_bounds_names_the_largest_update(world: World) -> None:
    def push(task: Task, vector: AnyVector, weight: float) -> Said:
        return (np.full_like(vector, 5e8), weight) if task.key.step == TRAIN else (vector, weight)

    create_workspace(world, min_nodes=2)
    async with served(world, {"b": push}):
        create_model(world, rounds=20, max_update_norm=1e9, early_stopping_rounds=100)
        world.execute("START FEDERATED TRAINING risk")
        world.start_coordinator()
        run = await world.finished()

    assert run["status"] == "diverged", run
    assert ": the largest update is node b's (norm 8.66e+08)" in run["message"]
    assert "learning_rate is 0.1, and a tenth of it is worth trying" in run["message"]
    assert run["message"].startswith("training diverged in round ")


@pytest.mark.parametrize("plain", [False, True])
async def test_what_each_nodes_dba_allows_is_known_once_it_was_met_and_followed(
    world: World, plain: bool
) -> None:
    create_workspace(world, min_nodes=2, compliance_mode="HIPAA")
    async with served(world, {}, plain=plain) as nodes:
        world.start_coordinator(heartbeat_interval=0.1)
        known = "(SELECT bool_and(plain_answers IS NOT DISTINCT FROM %s) FROM federated.node)"
        await world.reached(known, plain)
        for node in nodes.values():
            node.performer.plain_answers = not plain
        await world.reached(known, not plain)


async def test_plain_training_under_a_compliance_mode_runs_where_every_dba_allows_it(world: World) -> None:
    create_workspace(world, min_nodes=2, compliance_mode="HIPAA")
    modes: set[str] = set()

    def note(task: Task, vector: AnyVector, weight: float) -> Said:
        modes.add(task.compliance_mode)
        return vector, weight

    async with served(world, {"b": note}, plain=True):
        world.start_coordinator()
        await world.reached("(SELECT bool_and(plain_answers IS TRUE) FROM federated.node)")
        create_model(world, rounds=1)
        world.execute("START FEDERATED TRAINING risk")
        run = await world.finished()

    assert run["status"] == "completed", run
    assert modes == {"HIPAA"}


async def test_a_lie_below_an_aggregator_costs_the_others_nothing_and_is_the_liars_own(world: World) -> None:
    federation = world.federation
    create_workspace(world, min_nodes=2)
    # It shares nothing, and takes part in no run: it only gathers.
    top = Site("top", filled(world.cluster, rows=10, seed=0.5, shares=False))
    world.sites.append(top)
    await world.start_site(top, aggregates=True)
    world.register(top)
    trusted = (federation.directory / "top.pem").read_bytes()
    async with served(world, {"b": overweight}, plain=True, aggregator=trusted):
        for name in "abc":
            world.execute(f"ALTER FEDERATED NODE '{name}' IN WORKSPACE {WORKSPACE} SET (aggregator = 'top')")
        create_model(world, rounds=2)
        world.execute("START FEDERATED TRAINING risk")
        coordinator = world.start_coordinator()
        run = await world.finished()

    assert run["status"] == "completed", run
    reason = "its weight 61 is more than the 60 rows that it stated in round 0"
    assert rejections(world) == [{"name": "b", "round": 1, "step": "train", "reason": reason}]
    log = coordinator.log.read_text()
    assert f"aggregator top: its sum holds what would not count by itself (b: {reason})" in log
    # In round 1 once more without the lie; in round 2 it tells none.
    assert log.count("sum received: nodes=a,c\n") == 1
    assert log.count("sum received: nodes=a,b,c\n") == 1
