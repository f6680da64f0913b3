"""Callers are held to their rates, in bounded memory."""

from __future__ import annotations

import asyncio

import pytest

from heliosdb.api import limits
from heliosdb.api.config import RateLimit
from heliosdb.api.limits import Buckets, Places, Shares, address_key
from heliosdb.api.problems import Problem


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_is_let_through_and_then_the_rate() -> None:
    clock = Clock()
    buckets = Buckets(RateLimit(per_second=0.5, burst=3), clock)
    for _ in range(3):
        buckets.take("a")
    with pytest.raises(Problem) as caught:
        buckets.take("a")
    assert (caught.value.status, caught.value.retry_after) == (429, 2)
    buckets.take("b")
    clock.now = 1.9
    with pytest.raises(Problem) as caught:
        buckets.take("a")
    assert caught.value.retry_after == 1
    clock.now = 2.1
    buckets.take("a")
    with pytest.raises(Problem):
        buckets.take("a")


def test_a_bucket_holds_no_more_than_its_burst() -> None:
    clock = Clock()
    buckets = Buckets(RateLimit(per_second=100, burst=2), clock)
    buckets.take("a")
    clock.now = 1e6
    buckets.take("a")
    buckets.take("a")
    with pytest.raises(Problem):
        buckets.take("a")


def test_as_many_callers_are_remembered_as_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "_MOST", 2)
    buckets = Buckets(RateLimit(per_second=0.001, burst=1), Clock())
    for key in ("a", "b", "c"):
        buckets.take(key)
    buckets.take("a")  # forgotten
    with pytest.raises(Problem):
        buckets.take("c")


def test_places_are_counted_over_all_and_for_each() -> None:
    streams = Places(2, 1, "too many")
    with streams.one_more("a"):
        with pytest.raises(Problem), streams.one_more("a"):
            pass
        with streams.one_more("b"), pytest.raises(Problem), streams.one_more("c"):
            pass
    with streams.one_more("a"):
        pass


async def test_a_share_is_waited_for_and_leaves_others_theirs() -> None:
    shares, hasty = Shares(1, patience=60), Shares(1, patience=0.01)
    order: list[str] = []

    async def second() -> None:
        async with shares.one_of("a"):
            order.append("second")

    async with shares.one_of("a"):
        waiting = asyncio.create_task(second())
        async with shares.one_of("b"):
            order.append("another")
    await waiting
    assert order == ["another", "second"]
    async with hasty.one_of("a"):
        with pytest.raises(Problem) as caught:
            async with hasty.one_of("a"):
                pass
        assert (caught.value.status, caught.value.retry_after) == (429, 1)
    async with hasty.one_of("a"):
        pass
    assert not shares._turns
    assert not hasty._turns


@pytest.mark.parametrize(
    ("host", "key"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        (None, "none"),
        ("localhost", "localhost"),
    ],
)
def test_an_address_is_counted_by_what_one_caller_has(host: str | None, key: str) -> None:
    assert address_key(host) == key
