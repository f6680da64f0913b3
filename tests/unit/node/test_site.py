"""A node's look at its databases ends when it is told to, whatever comes at the same time."""

from __future__ import annotations

import asyncio
import logging

import pytest

from heliosdb.liveness.standing import Standing
from heliosdb.node import site


@pytest.mark.parametrize("turns", range(5))
async def test_watching_ends_where_a_doubt_comes_at_the_same_time(
    monkeypatch: pytest.MonkeyPatch, turns: int
) -> None:
    monkeypatch.setattr(site, "find_obstacle", lambda *conninfos: None)
    watched = site.Site("", "", Standing(None, logging.getLogger(__name__), ""))
    watching = asyncio.create_task(watched.watch())
    for _ in range(5):
        await asyncio.sleep(0)

    watched.doubt()
    for _ in range(turns):
        await asyncio.sleep(0)
    watching.cancel()
    ended, _ = await asyncio.wait({watching}, timeout=120.0)

    watching.cancel()
    assert ended
