"""Whose turn it is: by priority, and nobody waits for ever."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from uuid import UUID

import pytest

from heliosdb.domain.ids import RunId
from heliosdb.domain.turns import AGEING, Holder, Turns, Waiter, take_turns

LEAST, MOST = -10, 10


def r(number: int) -> RunId:
    return RunId(UUID(int=number))


def test_the_oldest_come_first_while_there_is_room() -> None:
    waiters = [Waiter(r(number), 0, 0.0) for number in (3, 1, 2)]

    assert take_turns(2, (), waiters, 0.0) == Turns((r(3), r(1)), (), (r(3), r(1), r(2)))


def test_a_higher_priority_comes_first_and_takes_the_turn_of_a_lower_one() -> None:
    low, high = Waiter(r(1), 0, 0.0), Waiter(r(2), 1, 0.0)
    assert take_turns(1, (), (low, high), 0.0).starts == (r(2),)

    held = (Holder(r(3), 2), Holder(r(4), 0))
    assert take_turns(2, held, (low, high), 0.0) == Turns((), (r(4),), (r(2), r(1)))
    # One for one: what is left of the waiting is not above the other.
    assert take_turns(2, held, (Waiter(r(5), 3, 0.0), high), 0.0).leaves == (r(4),)
    assert take_turns(2, held, (Waiter(r(5), 3, 0.0), Waiter(r(6), 3, 0.0)), 0.0).leaves == (r(4), r(3))


def test_equal_ones_share_once_one_has_waited() -> None:
    held = (Holder(r(1), 0),)
    assert take_turns(1, held, (Waiter(r(2), 0, 0.0),), AGEING - 0.1).leaves == ()
    assert take_turns(1, held, (Waiter(r(2), 0, 0.0),), AGEING).leaves == (r(1),)


def test_who_waits_for_nodes_keeps_no_turn_that_another_could_use() -> None:
    idle, working = Holder(r(1), MOST, idle=True), Holder(r(2), LEAST)
    waiting = Waiter(r(3), LEAST, 0.0)

    assert take_turns(2, (idle, working), (waiting,), 0.0).leaves == (r(1),)
    assert take_turns(2, (idle, working), (), 0.0).leaves == ()
    # Nor does it take one from a run that could work.
    assert take_turns(1, (), (Waiter(r(4), MOST, 0.0, idle=True), waiting), 0.0).starts == (r(3),)
    assert take_turns(1, (working,), (Waiter(r(4), MOST, 0.0, idle=True),), 1e6).leaves == ()
    assert take_turns(1, (), (Waiter(r(4), 0, 0.0, idle=True),), 0.0).starts == (r(4),)


def test_a_clock_that_goes_back_takes_no_rank() -> None:
    assert Waiter(r(1), 2, 100.0).rank(0.0) == 2


@dataclass
class Simulated:
    """Runs of so many rounds, a second each, that give way only between rounds."""

    room: int
    now: float = 0.0
    left: dict[RunId, int] = field(default_factory=dict)
    priority: dict[RunId, int] = field(default_factory=dict)
    since: dict[RunId, float] = field(default_factory=dict)
    holding: list[RunId] = field(default_factory=list)
    longest: dict[RunId, float] = field(default_factory=dict)
    most: int = 0

    def add(self, run: RunId, priority: int, rounds: int) -> None:
        self.left[run], self.priority[run], self.since[run] = rounds, priority, self.now
        self.longest[run] = 0.0

    def second(self) -> None:
        held = [Holder(run, self.priority[run]) for run in self.holding]
        waiters = [
            Waiter(run, self.priority[run], self.since[run]) for run in self.left if run not in self.holding
        ]
        turns = take_turns(self.room, held, waiters, self.now)
        for run in turns.starts:
            self.longest[run] = max(self.longest[run], self.now - self.since[run])
            self.holding.append(run)
        self.most = max(self.most, len(self.holding))
        self.now += 1.0
        for run in list(self.holding):
            self.left[run] -= 1
            if run in turns.leaves or self.left[run] == 0:
                self.holding.remove(run)
                self.since[run] = self.now
            if self.left[run] == 0:
                del self.left[run]


def test_a_low_run_is_not_starved_by_a_stream_of_high_ones() -> None:
    world = Simulated(room=1)
    world.add(r(0), LEAST, rounds=3)
    for number in range(1, 4_000):
        if number % 10 == 1:
            world.add(r(number), MOST, rounds=10)
        world.second()

    assert r(0) not in world.left
    # For each of its rounds it has waited until it ranked above the highest, and hardly longer.
    assert world.longest[r(0)] <= (MOST - LEAST + 1) * AGEING + 12.0


def test_a_short_high_run_does_not_wait_for_a_long_low_one() -> None:
    world = Simulated(room=1)
    world.add(r(0), 0, rounds=10_000)
    world.second()
    world.add(r(1), 1, rounds=5)
    for _ in range(8):
        world.second()

    assert r(1) not in world.left
    assert world.longest[r(1)] <= 2.0


@pytest.mark.parametrize("room", [1, 2, 5])
def test_whatever_comes_nobody_waits_longer_than_ageing_and_those_before_take(room: int) -> None:
    chance = random.Random(room)
    world = Simulated(room)
    for number in range(3_000):
        if len(world.left) < 12 and chance.random() < 0.2:
            world.add(r(number), chance.randint(LEAST, MOST), chance.choice([1, 5, 50, 500]))
        world.second()
        waited = [world.now - world.since[run] for run in world.left if run not in world.holding]
        # Twelve at once: those that have aged longer come first, each for a round at least.
        assert max(waited, default=0.0) <= (MOST - LEAST + 1) * AGEING + 12 * AGEING
    assert world.most == room


def test_equal_runs_get_equal_parts_of_the_time() -> None:
    world = Simulated(room=2)
    for number in range(4):
        world.add(r(number), 0, rounds=10_000)
    for _ in range(2_400):
        world.second()

    done = [10_000 - left for left in world.left.values()]
    assert sum(done) == 2 * 2_400
    assert max(done) - min(done) <= 2 * AGEING
