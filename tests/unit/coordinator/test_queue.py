"""The queue of runs: who is carried out, who gives way, and what the others say."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import pytest

from heliosdb.catalog.runs import ActiveRun
from heliosdb.coordinator.directory import Directory
from heliosdb.coordinator.queue import Idle, RunQueue, Sight
from heliosdb.domain.absence import Absence
from heliosdb.domain.ids import NodeName, RunId, WorkspaceName
from heliosdb.domain.run import RunStatus

W = WorkspaceName("w")


class Nodes:
    """In place of the directory: who is there, and who is not."""

    def __init__(self, there: str, away: str = "") -> None:
        self.there, self.away = there, away

    def look(self, _workspace: WorkspaceName) -> tuple[list[Any], list[Absence]]:
        return (
            [SimpleNamespace(name=NodeName(name)) for name in self.there],
            [Absence(NodeName(name), "away") for name in self.away],
        )


def r(number: int) -> RunId:
    return RunId(UUID(int=number))


def run(number: int, priority: int = 0, *, running: bool = False, stop: bool = False) -> ActiveRun:
    return ActiveRun(r(number), RunStatus.RUNNING if running else RunStatus.QUEUED, stop, priority)


def queue(room: int, nodes: Nodes | None = None) -> RunQueue:
    return RunQueue(room, cast(Directory, nodes or Nodes("ab")))


def test_runs_beyond_the_room_say_how_many_are_before_them_and_say_it_once() -> None:
    runs = queue(1)
    assert runs.refresh([run(1), run(2), run(3, 5)], {}, 0.0).starts == (r(3),)
    assert runs.take_untold() == {r(1): "queued behind 1 run", r(2): "queued behind 2 runs"}

    runs.refresh([run(1), run(2), run(3, 5, running=True)], {r(3): False}, 1.0)
    assert runs.take_untold() == {}

    assert runs.refresh([run(1), run(2)], {}, 2.0).starts == (r(1),)
    assert runs.was_told(r(1))
    assert not runs.was_told(r(1))
    assert runs.take_untold() == {r(2): "queued behind 1 run"}


def test_a_run_that_gave_way_says_so_and_comes_again() -> None:
    runs = queue(1)
    low, high = run(1, running=True), run(2, 1)
    assert runs.refresh([low, high], {r(1): False}, 0.0).leaves == (r(1),)

    runs.leave(r(1), None, 3.0)
    assert runs.refresh([low, high], {}, 3.0).starts == (r(2),)
    assert runs.take_untold() == {r(1): "gave way, and goes on behind 1 run"}
    assert runs.refresh([low], {}, 4.0).starts == (r(1),)


def test_a_run_that_waits_for_nodes_leaves_its_place_and_comes_again_when_they_do() -> None:
    nodes = Nodes("a", "b")
    runs = queue(1, nodes)
    waiting, other = run(1, running=True), run(2)
    assert runs.refresh([waiting, other], {r(1): True}, 0.0).leaves == (r(1),)
    runs.leave(r(1), Idle(W, Sight.of(cast(Directory, nodes), W)), 0.0)

    busy = {r(2): False}
    assert runs.refresh([waiting, other], {}, 0.0).starts == (r(2),)
    # What it says is for whom it waits.
    assert runs.take_untold() == {}
    assert runs.refresh([waiting, other], busy, 1_000.0).leaves == ()

    nodes.there, nodes.away = "ab", ""
    assert runs.refresh([waiting, other], busy, 1_001.0).leaves == (r(2),)


@pytest.mark.parametrize("there", ["a", "c", ""])
def test_whoever_comes_or_goes_has_the_run_look_again(there: str) -> None:
    nodes = Nodes("a", "b")
    runs = queue(1, nodes)
    runs.refresh([run(1, running=True)], {}, 0.0)
    runs.leave(r(1), Idle(W, Sight.of(cast(Directory, nodes), W)), 0.0)
    nodes.there = there
    turns = runs.refresh([run(1, running=True), run(2)], {}, 1.0)
    assert turns.starts == ((r(2),) if there == "a" else (r(1),))


def test_a_run_that_never_began_is_taken_up_once_its_time_is_over() -> None:
    nodes = Nodes("a", "b")
    runs = queue(1, nodes)
    active = [run(1, running=True), run(2)]
    runs.leave(r(1), Idle(W, Sight.of(cast(Directory, nodes), W), until=300.0), 0.0)

    assert runs.refresh(active, {r(2): False}, 299.0).leaves == ()
    assert runs.refresh(active, {r(2): False}, 300.0).leaves == (r(2),)


def test_a_run_that_is_to_stop_needs_no_turn() -> None:
    runs = queue(1)
    turns = runs.refresh([run(1, running=True), run(2, stop=True)], {r(1): False}, 0.0)
    assert (turns.starts, turns.leaves) == ((r(2),), ())


def test_a_run_that_has_ended_takes_room_until_its_driver_is_gone() -> None:
    runs = queue(1)
    assert runs.refresh([run(2)], {r(1): False}, 0.0).starts == ()
    assert runs.refresh([run(2)], {}, 0.0).starts == (r(2),)
