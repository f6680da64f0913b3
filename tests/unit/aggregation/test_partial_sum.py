"""Sums of sums: the bits of adding everything in one place, along any tree, and bytes that are read back or refused."""

from __future__ import annotations

import math
import random
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heliosdb.aggregation.agreement import SKETCH, AgreementMeter
from heliosdb.aggregation.gathering import WeightedGathering
from heliosdb.aggregation.partial_sum import (
    Adding,
    PartialGathering,
    PartialSum,
    check_length,
    most_sum_bytes,
    sum_from_bytes,
    sum_to_bytes,
)
from heliosdb.aggregation.summation import CHUNK, ExactSum
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.ids import NodeName
from heliosdb.domain.update import Total, Update, norm
from heliosdb.domain.vector import Dtype, Vector

SCATTERED = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False, max_value=1e300, min_value=-1e300),
    st.builds(math.ldexp, st.floats(-1.0, 1.0), st.integers(-1080, 990)),
    st.just(0.0),
)


def summed(terms: list[float]) -> ExactSum:
    total = ExactSum(1)
    for term in terms:
        total.add(np.array([term]))
    return total


def updates(count: int, size: int, *, seed: int = 3, dtype: str = "float64") -> list[Update]:
    rng = np.random.default_rng(seed)
    scales = 10.0 ** rng.integers(-12, 12, size=size)
    return [
        Update(
            NodeName(f"n{i:02}"), (rng.normal(size=size) * scales).astype(dtype), float(rng.integers(1, 999))
        )
        for i in range(count)
    ]


def adding(size: int, *, equally: bool = False, parts: int = 1, dtype: Dtype = Dtype.FLOAT64) -> Adding:
    return Adding(size, dtype, equally, parts, 17)


def gathered(some: list[Update], how: Adding) -> PartialSum:
    gathering = PartialGathering(how)
    for one in some:
        gathering.take(one)
    made = gathering.result()
    assert made is not None
    return made


def travelled(partial: PartialSum, size: int) -> PartialSum:
    return PartialSum(sum_from_bytes(sum_to_bytes(partial.sum), size), partial.terms)


def flat(some: list[Update], how: Adding) -> tuple[Total, AgreementMeter]:
    total, meter = WeightedGathering(how.size, how.dtype, equally=how.equally), AgreementMeter(how.sketch_key)
    for one in some:
        total.take(one)
        own = one.vector[: how.size // how.parts]
        meter.take(Update(one.node, own, one.weight))
    return total.result(), meter


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.lists(SCATTERED, min_size=1, max_size=8), min_size=1, max_size=5),
    st.randoms(use_true_random=False),
)
def test_merged_sums_are_the_sum_to_the_bit(branches: list[list[float]], shuffle: random.Random) -> None:
    everything = [term for branch in branches for term in branch]
    shuffle.shuffle(everything)
    expected = summed(everything)
    shuffle.shuffle(branches)

    total = summed(branches[0])
    for branch in branches[1:]:
        total.merge(summed(branch))

    assert sum_to_bytes(total) == sum_to_bytes(expected)
    assert total.total().tobytes() == expected.total().tobytes()


@pytest.mark.parametrize("equally", [False, True])
@pytest.mark.parametrize(("size", "parts"), [(3, 1), (CHUNK + 7, 1), (2 * SKETCH + 2, 2)])
def test_a_tree_of_any_depth_gives_what_the_flat_gathering_gives(
    size: int, parts: int, equally: bool
) -> None:
    how, some = adding(size, equally=equally, parts=parts), updates(9, size)
    total, agreement = flat(some, how)

    deepest = travelled(gathered(some[:3], how), size)
    middle = PartialGathering(how)
    middle.take(some[3])
    middle.join(deepest)
    middle_sum = middle.result()
    assert middle_sum is not None
    root, meter = WeightedGathering(size, equally=equally), AgreementMeter(how.sketch_key)
    partials = [travelled(gathered(some[5:], how), size), travelled(middle_sum, size)]
    for partial in partials:
        root.join(partial)
        for term in partial.terms:
            meter.take_term(term)
    root.take(some[4])
    meter.take(Update(some[4].node, some[4].vector[: size // parts], some[4].weight))

    found = root.result()
    assert found.vector.tobytes() == total.vector.tobytes()
    assert (found.weight, found.nodes, found.largest) == (total.weight, total.nodes, total.largest)
    assert meter.result() == agreement.result()


def test_updates_of_float32_are_added_up_as_they_are_flat() -> None:
    how, some = adding(50, dtype=Dtype.FLOAT32), updates(5, 50, dtype="float32")
    root = WeightedGathering(50, Dtype.FLOAT32)
    root.join(gathered(some, how))

    assert root.result().vector.tobytes() == flat(some, how)[0].vector.tobytes()


def test_a_node_is_in_a_sum_once() -> None:
    how, some = adding(3), updates(3, 3)
    gathering = PartialGathering(how)
    gathering.take(some[0])
    for again in (lambda: gathering.take(some[0]), lambda: gathering.join(gathered(some[:2], how))):
        with pytest.raises(FederatedError, match="sent two updates") as caught:
            again()
        assert caught.value.code is ErrorCode.UPDATE_REJECTED


def test_nothing_gathered_is_no_sum() -> None:
    assert PartialGathering(adding(3)).result() is None


def test_a_sum_with_a_product_that_is_no_double_does_not_travel() -> None:
    gathering = PartialGathering(adding(1))
    gathering.take(Update(NodeName("a"), np.array([1e308]), 1e6))

    with pytest.raises(FederatedError, match="larger than the largest number"):
        gathering.result()


def test_a_sum_longer_than_its_terms_is_found_out() -> None:
    how, some = adding(20), updates(4, 20)
    honest = gathered(some, how)
    check_length(honest, equally=False)
    alone: Vector = np.zeros(20)
    alone[0] = sum(term.weight * term.norm for term in honest.terms) * 1.01
    other = ExactSum(20)
    other.add(alone)

    with pytest.raises(FederatedError, match="longer than the updates"):
        check_length(PartialSum(other, honest.terms), equally=False)


ANCHORS = 44
"""Where the anchors begin, behind format, size, terms and a number for each bin."""


@pytest.mark.parametrize(
    "spoil",
    [
        lambda raw: raw[:-1],
        lambda raw: raw + b"\0",
        lambda raw: raw[:20],
        lambda raw: b"sum1" + raw[4:],
        lambda raw: raw[:4] + struct.pack("<Q", 4) + raw[12:],
        lambda raw: raw[:12] + struct.pack("<Q", 0) + raw[20:],
        lambda raw: raw[:12] + struct.pack("<Q", 1 << 40) + raw[20:],
        lambda raw: raw[:20] + struct.pack("<Q", 2) + raw[28:],
        lambda raw: raw[:20] + struct.pack("<Q", 4) + raw[28:],
        lambda raw: raw[:20] + struct.pack("<Q", 1 << 63) + raw[28:],
        lambda raw: raw[:ANCHORS] + b"\xff" + raw[ANCHORS + 1 :],
        lambda raw: raw[: ANCHORS + 3] + struct.pack("<q", 1 << 60) + raw[ANCHORS + 11 :],
        lambda raw: raw[: ANCHORS + 3] + struct.pack("<q", -(1 << 63)) + raw[ANCHORS + 11 :],
    ],
)
def test_bytes_that_no_sum_has_are_refused(spoil: object) -> None:
    raw = sum_to_bytes(gathered(updates(4, 3), adding(3)).sum)
    assert len(raw) <= most_sum_bytes(3)
    assert sum_to_bytes(sum_from_bytes(raw, 3)) == raw

    with pytest.raises(FederatedError):
        sum_from_bytes(spoil(raw), 3)  # type: ignore[operator]


SIZE = 100


def sum_with_few_digits() -> ExactSum:
    """At all places but three the values are whole numbers, whose lower bins hold nothing."""
    made, vector = ExactSum(SIZE), np.arange(1.0, SIZE + 1)
    vector[[0, 7, 99]] += 2.0**-40
    made.add(vector)
    made.add(vector, 3.0)
    return made


def test_bins_that_hold_little_take_few_bytes() -> None:
    made = sum_with_few_digits()
    raw = sum_to_bytes(made)

    assert len(raw) < most_sum_bytes(SIZE) // 2
    again = sum_from_bytes(raw, SIZE)
    assert again.total().tobytes() == made.total().tobytes()
    assert [one.tobytes() for one in again.parts()[1:]] == [one.tobytes() for one in made.parts()[1:]]


@pytest.mark.parametrize("bits", [b"\x00", b"\xff"], ids=["fewer", "more"])
def test_places_that_are_not_as_many_as_the_numbers_are_refused(bits: bytes) -> None:
    raw = sum_to_bytes(sum_with_few_digits())
    at = next(place for place in range(ANCHORS + SIZE, len(raw)) if raw[place : place + 2] == b"\x81\x00")

    with pytest.raises(FederatedError, match="places"):
        sum_from_bytes(raw[:at] + bits + raw[at + 1 :], SIZE)


def test_a_place_beyond_the_last_is_refused() -> None:
    """Of 100 places the bits end in the middle of a byte."""
    raw = bytearray(sum_to_bytes(sum_with_few_digits()))
    at = next(place for place in range(ANCHORS + SIZE, len(raw)) if raw[place : place + 2] == b"\x81\x00")
    assert raw[at + 12] == 0b00010000
    raw[at + 12] = 0b00001000

    with pytest.raises(FederatedError, match="places"):
        sum_from_bytes(bytes(raw), SIZE)


@pytest.mark.parametrize("scale", [1e-300, 1.0, 1e290])
def test_the_length_of_a_sum_is_that_of_its_total(scale: float) -> None:
    rng, made = np.random.default_rng(5), ExactSum(CHUNK + 100)
    for _ in range(4):
        made.add(rng.standard_normal(made.size) * scale * 10.0 ** rng.integers(-12, 12, made.size), 7.0)

    assert made.length() == pytest.approx(norm(made.total()), rel=1e-12)


def test_a_sum_that_is_no_double_has_no_length() -> None:
    made = ExactSum(2)
    for _ in range(20):
        made.add(np.array([1.7e308, 0.0]))

    assert math.isnan(made.length())


def test_the_length_of_what_cancels_is_small() -> None:
    made = ExactSum(3)
    made.add(np.array([1e10, 1.0, -5.0]))
    made.add(np.array([1e10, 1.0, -5.0]), -1.0)

    assert made.length() == 0.0
