"""Asynchronous runs over a fake catalog: what rounds take, and that the committed order gives the same model."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from heliosdb.aggregation.fedavg import FEDAVG
from heliosdb.aggregation.gathering import WeightedGathering
from heliosdb.aggregation.staleness import discounted
from heliosdb.domain.ids import NodeName
from heliosdb.domain.run import Run
from heliosdb.domain.state import NO_STATE, make_state, state_sha256
from heliosdb.domain.task import Task
from heliosdb.domain.update import Update
from heliosdb.domain.vector import AnyVector, Vector
from heliosdb.parts.strategies import MeanSettings
from tests.support.runs import with_policy
from tests.unit.coordinator.driver_toys import REPORTED, SHORT, USUAL, outcome
from tests.unit.coordinator.fake_federation import SIZE, FakeNode, FakeWorld, Toy, refusal, steps, toy_run


def buffered(size: int = 2, **options: Any) -> Run:
    """A run whose rounds close with so many updates of the three nodes."""
    return with_policy(toy_run(**options), buffer=size)


def slowly(seconds: float) -> Callable[[Task], float | None]:
    """Takes so long to train, and evaluates at once."""
    return lambda task: seconds if task.key.round and task.key.exchange == 0 else None


def speeds(world: FakeWorld, **seconds: float) -> FakeWorld:
    for name, each in seconds.items():
        world.nodes[NodeName(name)].lie = slowly(each)
    return world


def taken(world: FakeWorld) -> dict[int, list[tuple[int, str]]]:
    """By round what it took: of which round each task was, and whose."""
    made: dict[int, list[tuple[int, str]]] = {}
    for (asked, exchange, _, node), row in sorted(world.rows.tasks.items()):
        if exchange == 0 and "settled_round" in row and row["outcome"] == "received":
            made.setdefault(row["settled_round"], []).append((asked, node))
    return made


def replayed(world: FakeWorld, rounds: int) -> str:
    """The SHA-256 of the model that the committed order of what the nodes have said leads to."""
    weights = np.array([2.0, 0.0])
    made = taken(world)
    for number in range(1, rounds + 1):
        gathering = WeightedGathering(SIZE)
        for asked, node in reversed(made[number]):
            said = next(
                vector
                for key, vector in world.nodes[NodeName(node)].said.items()
                if (key.round, key.exchange) == (asked, 0)  # type: ignore[attr-defined]
            )
            gathering.take(discounted(Update(NodeName(node), said, 10.0 + ord(node)), number - asked))
        weights, _ = FEDAVG.combine(weights, NO_STATE, gathering.result(), MeanSettings())
    return state_sha256(make_state(weights=weights)).hex()


def test_rounds_close_without_the_slow_node_and_take_its_update_later(made: Any) -> None:
    world = speeds(made(USUAL, buffered(rounds=4)), a=1.0, b=1.1, c=2.5)

    rows = world.live_on()

    assert outcome(rows) == ("completed", "all 4 rounds done")
    assert taken(world) == {
        1: [(1, "a"), (1, "b")],
        2: [(2, "a"), (2, "b")],
        3: [(1, "c"), (3, "a")],
        4: [(3, "b"), (4, "a")],
    }
    assert rows.rounds[3]["message"] == "stale: c by 2"
    assert rows.tasks[4, 0, "move", "c"]["outcome"] == "dropped"
    assert rows.tasks[4, 0, "move", "c"]["reason"] == "was at work when the run ended"


def test_a_round_is_measured_by_the_half_that_was_least_stale(made: Any) -> None:
    world = speeds(made(USUAL, buffered(rounds=3)), a=1.0, b=1.1, c=2.5)

    rows = world.live_on()

    measured = {(number, node) for number, exchange, _, node in rows.tasks if number and exchange == 1}
    assert measured == {(1, "a"), (1, "b"), (2, "a"), (2, "b"), (3, "a")}
    assert all(rows.rounds[number]["global_loss"] is not None for number in (1, 2, 3))


UNMEASURED = Toy(steps("find"), steps("move"), reports=True)
TOYS = {"short": SHORT, "usual": USUAL, "reported": REPORTED, "unmeasured": UNMEASURED}


@pytest.mark.parametrize("toy", TOYS.values(), ids=TOYS)
@pytest.mark.parametrize("size", [1, 2, 3])
def test_the_committed_order_leads_to_the_same_parameters(made: Any, toy: Toy, size: int) -> None:
    world = speeds(made(toy, buffered(size, rounds=4)), a=1.0, b=1.7, c=3.1)

    rows = world.live_on()

    assert {number: len(tasks) for number, tasks in taken(world).items()} == dict.fromkeys(range(1, 5), size)
    assert rows.versions[0]["sha256"] == replayed(world, 4)


MINIMA = {"a": np.array([3.0, -1.0]), "b": np.array([-2.0, 5.0]), "c": np.array([10.0, 0.1])}
CURVED = np.array([[1.0, 0.3], [0.3, 0.5]])


def descended(start: Vector, name: str) -> Vector:
    """How far three steps of gradient descent move towards a node's own minimum of a quadratic form."""
    x = start.copy()
    for _ in range(3):
        x -= 0.2 * CURVED @ (x - MINIMA[name])
    return x - start


@dataclass
class Descending(FakeNode):
    """A node that trains on a convex problem."""

    def _answer(self, task: Task, weight: float, factor: float) -> AnyVector:
        if task.key.round == 0:
            return super()._answer(task, weight, factor)
        return descended(np.asarray(task.state["weights"], dtype=np.float64), self.name)


def simulated(speeds: Mapping[str, float], size: int, rounds: int, start: Vector) -> list[Vector]:
    """The models of FedBuff, by its algorithm 1, with a server's rate of 1 and s(t) = (1 + t)^-1/2: whoever
    has been heard trains again once the server's model has moved."""
    models, buffered, heard = [start], [], list(speeds)
    at_work: list[tuple[float, str, int]] = []
    now = 0.0
    while len(models) <= rounds:
        for name in heard:
            heapq.heappush(at_work, (now + speeds[name], name, len(models) - 1))
        heard = []
        while len(buffered) < size:
            now, name, begun = heapq.heappop(at_work)
            staleness = len(models) - 1 - begun
            buffered.append(descended(models[begun], name) / np.sqrt(1.0 + staleness))
            heard.append(name)
        models.append(models[-1] + sum(buffered) / size)
        buffered = []
    return models


@pytest.mark.parametrize("size", [1, 2])
def test_the_models_are_those_of_fedbuff(made: Any, size: int) -> None:
    rates, rounds = {"a": 1.0, "b": 1.7, "c": 3.1}, 40
    world = made(SHORT, buffered(size, rounds=rounds, weighted_aggregation=False))
    world.nodes = {name: Descending(world, name) for name in world.nodes}
    speeds(world, **rates)

    assert outcome(world.live_on())[0] == "completed"

    found = {number: state["weights"] for (number, _), state in world.states.items() if number}
    expected = simulated(rates, size, rounds, np.array([2.0, 0.0]))
    assert max(found) == rounds
    for number, weights in found.items():
        np.testing.assert_allclose(weights, expected[number - 1], rtol=1e-12, atol=1e-12)
    assert {number - asked for number, tasks in taken(world).items() for asked, _ in tasks} > {0, 1}


@pytest.mark.parametrize("toy", [SHORT, REPORTED], ids=["short", "reported"])
def test_a_kill_anywhere_loses_nothing_and_the_model_is_that_of_the_committed_order(
    made: Any, toy: Toy
) -> None:
    run = buffered(rounds=3)
    whole = speeds(made(toy, run), a=1.0, b=1.7, c=3.1)
    whole.live_on()

    for moment in range(1, whole.ticks + 1):
        world = speeds(made(toy, run), a=1.0, b=1.7, c=3.1)
        world.kill_at = moment

        rows = world.live_on()

        assert outcome(rows) == ("completed", "all 3 rounds done"), moment
        assert [len(tasks) for _, tasks in sorted(taken(world).items())] == [2, 2, 2], moment
        assert rows.versions[0]["sha256"] == replayed(world, 3), moment
        assert not any(row["outcome"] == "pending" for row in rows.tasks.values()), moment


def test_models_with_which_tasks_begin_are_kept_as_long_as_they_are_asked_for(made: Any) -> None:
    world = speeds(made(SHORT, buffered(1, rounds=4)), a=1.0, b=1.1, c=50.0)
    world.kill_when(4, 0)

    world.live()

    assert world.rows.states.keys() == {0, 3} | {
        asked - 1
        for (asked, _, _, node), row in world.rows.tasks.items()
        if asked and row["outcome"] == "pending"
    }
    assert outcome(world.live_on()) == ("completed", "all 4 rounds done")


def test_a_node_that_refuses_is_recorded_and_asked_anew_in_the_next_round(made: Any) -> None:
    world = speeds(made(USUAL, buffered(rounds=2)), a=1.0, b=1.5)
    world.nodes[NodeName("c")].lie = lambda task: refusal(task) if task.key.round == 1 else None

    rows = world.live_on()

    assert rows.tasks[1, 0, "move", "c"]["outcome"] == "refused"
    assert rows.rounds[1]["message"] == "without c, which refused: no"
    assert rows.tasks[2, 0, "move", "c"]["outcome"] == "received"


def test_a_straggler_is_dropped_once_the_others_are_enough(made: Any) -> None:
    world = speeds(made(SHORT, buffered(rounds=30)), a=1.0, b=1.1, c=1000.0)

    rows = world.live_on()

    assert outcome(rows)[0] == "completed"
    row = rows.tasks[1, 0, "move", "c"]
    assert (row["outcome"], row["reason"]) == ("dropped", "timed out")
    asked = sorted(number for number, _, _, node in rows.tasks if node == "c" and number)
    assert len(asked) == 2
    assert asked[0] == 1
    # After stragglers_timeout, 20 seconds; a round takes one.
    assert 15 <= asked[1] <= 25


def test_a_run_ends_where_a_round_can_be_filled_no_more(made: Any) -> None:
    world = made(SHORT, buffered(3, rounds=2))
    world.nodes[NodeName("c")].lie = lambda task: refusal(task) if task.key.round == 1 else None

    rows = world.live_on()

    assert outcome(rows) == ("failed", "round 1: 0 of 3 updates needed arrived (c refused: no)")


def test_a_synchronous_run_keeps_no_round_in_which_an_update_was_taken(made: Any) -> None:
    rows = made(USUAL).live_on()

    assert not any("settled_round" in row for row in rows.tasks.values())


def committed_order_holds(world: FakeWorld, rounds: int, size: int = 2) -> None:
    rows = world.rows
    assert outcome(rows) == ("completed", f"all {rounds} rounds done")
    assert [len(tasks) for _, tasks in sorted(taken(world).items())] == [size] * rounds
    assert rows.versions[0]["sha256"] == replayed(world, rounds)
    assert not any(row["outcome"] == "pending" for row in rows.tasks.values())


@pytest.mark.parametrize(("number", "gone"), [(1, ("b", "c")), (2, ("a", "b"))])
def test_a_run_whose_nodes_are_away_waits_longer_than_a_task_may_take(
    made: Any, number: int, gone: tuple[str, str]
) -> None:
    world = speeds(made(SHORT, buffered(rounds=3)), a=1.0, b=1.7, c=3.1)
    world.leave_when(number, 0, *gone, seconds=1_000.0)

    rows = world.live_on(most=1)

    committed_order_holds(world, 3)
    waited = [text for text in rows.said if text.startswith("waiting")]
    reasons = "; ".join(f"{name}: away" for name in gone)
    assert waited[0] == f"waiting for nodes: 1 of 2 updates needed arrived ({reasons})"


def test_nodes_that_are_away_between_rounds_are_asked_no_more_once_their_time_is_over(made: Any) -> None:
    world = speeds(made(SHORT, buffered(rounds=3)), a=1.0, b=1.7, c=3.1)
    world.leave_when(2, 0, "b", "c", seconds=1_000.0)

    rows = world.live_on(most=1)

    committed_order_holds(world, 3)
    assert "waiting for nodes: 1 of 2 active, 3 registered (b: away; c: away)" in rows.said
    row = rows.tasks[2, 0, "move", "b"]
    assert (row["outcome"], row["reason"]) == ("dropped", "away")


def test_a_run_that_waits_for_nodes_is_stopped_at_once(made: Any) -> None:
    world = speeds(made(SHORT, buffered(rounds=3)), a=1.0, b=1.7, c=3.1)
    world.leave_when(2, 0, "a", "b", "c", seconds=1e6)
    world.stop_on = lambda name: name == "say" and "waiting" in world.rows.said[-1]

    rows = world.live_on(most=1)

    assert outcome(rows)[0] == "stopped"
    assert rows.versions[0]["round"] == 1
    assert not any(row["outcome"] == "pending" for row in rows.tasks.values())


def test_a_node_that_refuses_is_none_of_those_that_are_waited_for(made: Any) -> None:
    world = speeds(made(SHORT, buffered(rounds=2)), b=1.7, c=3.1)
    world.nodes[NodeName("a")].lie = lambda task: refusal(task) if task.key.round == 1 else None
    world.leave_when(1, 0, "b", "c", seconds=1_000.0)

    rows = world.live_on(most=1)

    committed_order_holds(world, 2)
    # It does not ask again and again who refuses.
    assert len([one for one in world.asked if one == (1, 0, "a")]) <= 2
    assert rows.tasks[1, 0, "move", "a"]["outcome"] == "refused"


def test_a_run_that_gives_way_after_each_round_loses_nothing(made: Any) -> None:
    world = speeds(made(USUAL, buffered(rounds=4)), a=1.0, b=1.7, c=3.1)
    world.gives_way = True

    world.live_on(most=10)

    committed_order_holds(world, 4)
