"""What is sealed of a closed round, and which rounds the catalog keeps."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliosdb.aggregation.strategy import strategy
from heliosdb.coordinator.checkpoints import Manifest, thin
from heliosdb.coordinator.course import Course
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.folds import Series
from heliosdb.domain.ids import RunId
from heliosdb.transport.sealing import AtRestKey
from tests.support.runs import RUN, with_options
from tests.unit.coordinator.driver_toys import USUAL
from tests.unit.coordinator.fake_federation import KEY, toy_run

MANIFEST = Manifest({"state/3": "ab"}, 2, '{"scaling": null}')
ONE, OTHER = RunId(UUID(int=1)), RunId(UUID(int=2))


def test_a_manifest_opens_as_what_was_sealed() -> None:
    assert Manifest.open(MANIFEST.seal(ONE, 3, KEY), ONE, 3, KEY) == MANIFEST


@pytest.mark.parametrize("place", [0, 11, 12, 20, -17, -1])
def test_a_changed_manifest_does_not_open(place: int) -> None:
    sealed = bytearray(MANIFEST.seal(ONE, 3, KEY))
    sealed[place] ^= 1
    with pytest.raises(FederatedError) as caught:
        Manifest.open(bytes(sealed), ONE, 3, KEY)
    assert caught.value.code is ErrorCode.IDENTITY


@pytest.mark.parametrize(
    ("run", "number", "key"), [(OTHER, 3, KEY), (ONE, 2, KEY), (ONE, 3, AtRestKey(b"o" * 32))]
)
def test_a_manifest_of_another_run_round_or_coordinator_does_not_open(
    run: RunId, number: int, key: AtRestKey
) -> None:
    with pytest.raises(FederatedError, match="does not open with this coordinator's key"):
        Manifest.open(MANIFEST.seal(run, number, key), ONE, 3, KEY)


def test_every_closed_round_is_a_checkpoint_of_which_every_nth_is_kept(made: Any) -> None:
    rows = made(USUAL, toy_run(rounds=5, checkpoint_every=2, keep_best=True)).live_on()

    assert rows.manifests.keys() == set(range(6))
    assert rows.internal.keys() == {2, 4}
    run = toy_run().id
    assert [Manifest.open(rows.manifests[number], run, number, KEY).kept for number in (0, 5)] == [0, 2]


def test_a_run_of_a_series_has_no_checkpoints(made: Any) -> None:
    run = replace(toy_run(rounds=2), series=Series(UUID(int=5), publishes=False, keeps=True))
    assert made(USUAL, run).live_on().manifests == {}


@given(st.lists(st.tuples(st.integers(1, 10**6), st.integers(0, 50)), unique_by=lambda one: one[0]))
def test_what_is_kept_is_bounded_and_holds_the_newest(made: list[tuple[int, int]]) -> None:
    there = sorted(made)

    dropped = thin(there, most=5, most_bytes=100)

    left = [one for one in there if one[0] not in dropped]
    assert dropped <= {number for number, _ in there}
    assert left[-1:] == there[-1:]
    assert len(left) <= 5
    assert len(left) <= 1 or sum(size for _, size in left) <= 100


def test_what_is_kept_of_a_long_run_is_spread_over_it() -> None:
    there: list[tuple[int, int]] = []
    for number in range(1, 1001):
        there.append((number, 1))
        dropped = thin(there, most=16, most_bytes=100)
        there = [one for one in there if one[0] not in dropped]

    numbers = [number for number, _ in there]
    assert (len(numbers), numbers[0], numbers[-1]) == (16, 1, 1000)
    assert max(after - before for before, after in pairwise(numbers)) <= 4 * 1000 / 16


@pytest.mark.parametrize(
    ("options", "remembered"),
    [
        ({}, None),
        ({"aggregation": "fedadam"}, None),
        ({"aggregation": "scaffold"}, "their control variates"),
        ({"adaptive_learning": True}, "their pace"),
        ({"gradient_sparsification": 0.9}, "what of their updates they have not sent"),
        ({"quantization": 8}, None),
        ({"optimizer": "newton"}, None),
    ],
)
def test_what_nodes_remember_is_known_of_a_run(options: dict[str, object], remembered: str | None) -> None:
    course = Course.of(with_options(RUN, **options))
    assert strategy(course.run.options.aggregation) is course.strategy
    assert course.remembered == remembered


def test_a_run_that_goes_on_makes_the_choices_of_the_first() -> None:
    run = with_options(RUN, seed=None)
    again = replace(run, id=OTHER, seed_run=run.id)
    assert (again.seed, again.chance) == (run.seed, run.id)
    assert replace(run, id=OTHER).seed != run.seed
