"""Updates wait for room in the order in which they came, and nobody keeps others out for long."""

from __future__ import annotations

import asyncio

import pytest

from heliosdb.transport import room as module
from heliosdb.transport.room import SMALL, Place, Room

LARGE = 10 * SMALL


async def waits(task: asyncio.Task[None]) -> bool:
    """Whether a task is still waiting after the loop had its turn."""
    for _ in range(5):
        await asyncio.sleep(0)
    return not task.done()


async def test_no_more_is_held_than_the_room_has() -> None:
    room = Room(2 * LARGE)
    places = [Place(room) for _ in range(3)]
    for place in places[:2]:
        await place.take(LARGE)
    third = asyncio.create_task(places[2].take(LARGE))
    assert await waits(third)
    assert room.held == 2 * LARGE
    places[0].leave()
    await third
    assert room.held == 2 * LARGE


async def test_an_update_larger_than_the_room_is_let_in_alone() -> None:
    room = Room(LARGE)
    first, second = Place(room), Place(room)
    await first.take(3 * LARGE)
    waiting = asyncio.create_task(second.take(LARGE))
    assert await waits(waiting)
    first.leave()
    await waiting
    assert room.held == LARGE


async def test_who_waits_is_let_in_in_order_even_where_a_later_one_would_fit() -> None:
    room = Room(3 * LARGE)
    first, second, third = Place(room), Place(room), Place(room)
    await first.take(2 * LARGE)
    large = asyncio.create_task(second.take(3 * LARGE))
    assert await waits(large)
    small = asyncio.create_task(third.take(LARGE))
    assert await waits(small)
    first.leave()
    await large
    assert not small.done()
    second.leave()
    await small


async def test_who_goes_away_while_it_waits_leaves_nothing_behind() -> None:
    room = Room(LARGE)
    first, second, third = Place(room), Place(room), Place(room)
    await first.take(LARGE)
    gone, waiting = asyncio.create_task(second.take(2 * LARGE)), asyncio.create_task(third.take(LARGE))
    assert await waits(gone)
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    first.leave()
    await waiting
    third.leave()
    assert room.held == 0


async def test_who_goes_away_at_the_moment_it_is_let_in_leaves_nothing_behind() -> None:
    room = Room(LARGE)
    first, second = Place(room), Place(room)
    await first.take(LARGE)
    waiting = asyncio.create_task(second.take(LARGE))
    assert await waits(waiting)
    first.leave()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    second.leave()
    assert room.held == 0


async def test_a_place_that_is_left_twice_is_given_back_once() -> None:
    room = Room(2 * LARGE)
    first, second = Place(room), Place(room)
    await first.take(LARGE)
    await second.take(LARGE)
    first.leave()
    first.leave()
    assert room.held == LARGE


async def test_who_stalls_keeps_others_out_no_longer_than_a_slow_line_would(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "SLOWEST", 1e12)
    monkeypatch.setattr(module, "_GRACE", 0.01)
    room = Room(LARGE)
    stalling, other = Place(room), Place(room)
    await stalling.take(LARGE)
    await asyncio.wait_for(other.take(LARGE), 120.0)
    stalling.leave()
    assert room.held == LARGE


async def test_small_updates_never_wait() -> None:
    room = Room(LARGE)
    first, second = Place(room), Place(room)
    await first.take(LARGE)
    await second.take(SMALL)
    assert room.held == LARGE
