"""Worlds whose algorithm is registered until the test ends."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from heliosdb.domain.ids import NodeName
from heliosdb.domain.run import Run
from tests.unit.coordinator.fake_federation import FakeWorld, Lie, Toy, registered, toy_run


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Makes worlds whose algorithm is registered until the test ends."""
    contexts = []

    def make(toy: Toy, run: Run | None = None, **lies: Lie) -> FakeWorld:
        context = registered(monkeypatch, toy)
        context.__enter__()
        contexts.append(context)
        world = FakeWorld(toy_run() if run is None else run)
        for name, lie in lies.items():
            world.nodes[NodeName(name)].lie = lie
        return world

    yield make
    for context in reversed(contexts):
        context.__exit__(None, None, None)
