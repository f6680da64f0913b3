"""Attempts to have a run spend what nobody reserved, or ask again in other words, each stopped."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from heliosdb.coordinator import records
from heliosdb.domain.ids import Epoch, NodeName, StepName
from heliosdb.parts.algorithms import ALGORITHMS
from heliosdb.parts.registry import RegisteredPart
from tests.unit.coordinator.fake_federation import KEY, FakeWorld, Toy, registered, steps, toy_run

NAMES = ("a", "b", "c")
USUAL = Toy(steps("find"), steps("move", "measure"))


@pytest.mark.parametrize("budget", [None, 20.0])
def test_tasks_are_the_same_to_the_byte_though_a_node_was_unregistered_meanwhile(
    monkeypatch: pytest.MonkeyPatch, budget: float | None
) -> None:
    with registered(monkeypatch, USUAL):
        world = FakeWorld(toy_run(budget=budget))
        world.kill_when(1, 0)
        world.live()
        del world.nodes[NodeName("c")]
        world.rows.tasks = {key: row for key, row in world.rows.tasks.items() if key[3] != "c"}
        # The fake world holds every node to the first task that it was asked under a key.
        rows = world.live_on()

    assert rows.status == "completed"


class Forgetful(Toy):
    """Its releases leave the last step out."""

    def releases(self, plan: Any) -> Any:
        """All but the last."""
        return super().releases(plan)[:-1]


def skipping() -> Toy:
    """A round that leaves its middle step out."""
    toy = Toy(steps("find"), steps("count", "middle", "measure"))
    first, *others = toy.later
    return replace(toy, later=[replace(first, then=StepName("measure")), *others])


@pytest.mark.parametrize(
    "toy", [skipping(), Forgetful(steps("find", "find2"), steps("count", "count2"))], ids=["skips", "repeats"]
)
def test_nothing_private_is_asked_for_that_was_not_reserved(
    monkeypatch: pytest.MonkeyPatch, toy: Toy
) -> None:
    with registered(monkeypatch, toy):
        world = FakeWorld(toy_run(budget=8.0))
        rows = world.live_on()

    assert set(rows.spending) <= set(rows.reservations())
    assert rows.status == "failed"
    assert "is private and was not reserved" in (rows.message or "")


def test_a_run_whose_part_cannot_be_imported_fails_and_harms_nobody_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A context of its own, which is undone before the one that registers.
    with registered(monkeypatch, USUAL), monkeypatch.context() as patch:
        missing = RegisteredPart("toy", "library_that_is_not_there.net:NET")
        patch.setitem(ALGORITHMS._entries, "toy", missing)
        patch.delitem(ALGORITHMS._loaded, "toy", raising=False)
        world = FakeWorld(toy_run())
        patch.setattr(type(world.catalog), "_claim_run", lambda _self, run: [{"run_id": run}], raising=False)

        assert records.claim(world.catalog, Epoch(1), world.run.id, KEY) is False

    assert world.rows.status == "failed"
    assert 'algorithm "toy" cannot be loaded here' in (world.rows.message or "")
