"""An update in fewer bytes: as many as its coding says, right on average, and nothing else is unpacked."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heliosdb.domain.coding import BLOCK, Coding
from heliosdb.domain.vector import AnyVector, Dtype
from heliosdb.transport.lossy import largest, pack, unpack

REAL = (Dtype.FLOAT32, Dtype.FLOAT64)
LENGTHS = (1, 2, BLOCK - 1, BLOCK, BLOCK + 1, 1000)
CODINGS = [Coding(bits=bits, sent=sent) for bits in (None, 8, 16, 32) for sent in (None, 1, 7, 300)][1:]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def vectors(dtype: Dtype, length: int, coding: Coding) -> list[AnyVector]:
    """Zeros, usual ones, the ends of the type, the smallest there are, and one that stands alone."""
    kind = np.dtype(dtype.value)
    info = np.finfo(np.float32 if coding.bits else kind)
    ends = np.resize(np.array([info.max, info.min, 0, 1], dtype=kind), length)
    alone = np.zeros(length, dtype=kind)
    alone[-1] = -3.5
    usual = rng(length).normal(0, 0.1, length).astype(kind)
    return [
        np.zeros(length, dtype=kind),
        usual,
        ends,
        np.full(length, info.smallest_subnormal, dtype=kind),
        alone,
    ]


def arrived(vector: AnyVector, coding: Coding, seed: int = 0) -> AnyVector:
    packed = pack(vector, coding, rng(seed))
    return unpack(packed, vector.size, Dtype(vector.dtype.name), coding)


@pytest.mark.parametrize("coding", CODINGS, ids=str)
@pytest.mark.parametrize("dtype", REAL)
@pytest.mark.parametrize("length", LENGTHS)
def test_it_takes_the_bytes_that_its_coding_says_and_loses_no_more_than_a_step(
    coding: Coding, dtype: Dtype, length: int
) -> None:
    for vector in vectors(dtype, length, coding):
        before = vector.tobytes()
        packed = pack(vector, coding, rng())
        assert (packed.size, Dtype(packed.dtype.name)) == coding.travelling(length, dtype)
        found = unpack(packed, length, dtype, coding)
        assert (found.shape, found.dtype.name) == ((length,), dtype.value)
        assert np.isfinite(found).all()
        assert vector.tobytes() == before
        sent = largest(vector, coding.count(length))
        top = float(np.abs(vector).max())
        # The subtraction is of halves: two ends of the type are twice as far apart as there are numbers.
        lost = np.abs(found[sent] / 2 - vector[sent] / 2) * 2
        narrow = np.finfo(np.float32 if coding.bits else dtype.value)
        step = top * (1 / coding.levels if coding.is_scaled else narrow.eps if coding.bits else 0.0)
        assert (lost <= step * (1 + 1e-5) + narrow.smallest_subnormal).all()
        kept = np.setdiff1d(np.arange(length), sent)
        assert not found[kept].any()


@pytest.mark.parametrize("bits", [8, 16])
def test_rounding_is_right_on_average(bits: int) -> None:
    vector = rng(5).normal(0, 1, 2 * BLOCK)
    coding, times = Coding(bits=bits), 400
    mean = np.mean([arrived(vector, coding, seed) for seed in range(times)], axis=0)
    tops = np.repeat([np.abs(one).max() for one in np.split(vector, 2)], BLOCK)
    # A rounding's standard deviation is half a step at most: five of the mean's, of a fixed outcome.
    assert (np.abs(mean - vector) <= 5 * tops / coding.levels / 2 / np.sqrt(times)).all()


def test_the_same_chance_gives_the_same_bytes_and_another_others() -> None:
    vector = rng(5).normal(0, 1, 500)
    coding = Coding(bits=8, sent=300)
    assert pack(vector, coding, rng(1)).tobytes() == pack(vector, coding, rng(1)).tobytes()
    assert pack(vector, coding, rng(1)).tobytes() != pack(vector, coding, rng(2)).tobytes()


def test_what_is_not_rounded_arrives_to_the_bit() -> None:
    vector = np.array([0.1, -3.0, 0.2, 2.0, -0.1])
    assert arrived(vector, Coding(sent=2)).tolist() == [0.0, -3.0, 0.0, 2.0, 0.0]


def test_of_equal_magnitudes_the_first_are_sent() -> None:
    assert largest(np.array([1.0, -1.0, 2.0, 1.0]), 2).tolist() == [0, 2]
    assert largest(np.zeros(5), 3).tolist() == [0, 1, 2]
    assert largest(np.ones(3), 7).tolist() == [0, 1, 2]


@pytest.mark.parametrize("sent", [1, 3, 4, 100, 127])
def test_positions_are_listed_or_mapped_whichever_is_shorter(sent: int) -> None:
    coding = Coding(sent=sent)
    assert coding.position_bytes(128) == min(16, 4 * sent)
    vector = np.zeros(128)
    chosen = rng(sent).permutation(128)[:sent]
    vector[chosen] = 1.0
    assert np.array_equal(arrived(vector, coding), vector)


def test_a_block_takes_its_scale_from_its_own_values() -> None:
    vector = np.concatenate([np.full(BLOCK, 1e-6), np.full(BLOCK, 1e6)])
    assert np.allclose(arrived(vector, Coding(bits=8)), vector, rtol=1e-12)


HOSTILE = [
    ("another length", Coding(bits=8), lambda raw: raw[:-1]),
    ("a scale that is no number", Coding(bits=8), lambda raw: b"\0\0\xf8\x7f" + raw[4:]),
    ("a negative scale", Coding(bits=8), lambda raw: b"\0\0\x80\xbf" + raw[4:]),
    ("a value beyond its scale", Coding(bits=8), lambda raw: raw[:-1] + b"\x80"),
    ("a position too many", Coding(sent=40), lambda raw: b"\xff" * 13 + raw[13:]),
    ("a position too few", Coding(sent=40), lambda raw: bytes(13) + raw[13:]),
    ("a position beyond the end", Coding(sent=2), lambda raw: b"\xff" * 8 + raw[8:]),
    ("a position twice", Coding(sent=2), lambda raw: bytes(8) + raw[8:]),
]


@pytest.mark.parametrize(("name", "coding", "change"), HOSTILE, ids=[one[0] for one in HOSTILE])
def test_bytes_that_no_packing_makes_are_refused(name: str, coding: Coding, change) -> None:
    vector = rng(1).normal(0, 1, 100).astype(np.float32)
    raw = change(pack(vector, coding, rng()).tobytes())
    with pytest.raises(ValueError):
        unpack(np.frombuffer(raw, dtype=np.uint8), 100, Dtype.FLOAT32, coding)


@pytest.mark.parametrize("bits", [8, 16, 32])
def test_a_value_beyond_the_type_in_which_it_is_written_is_not_packed(bits: int) -> None:
    with pytest.raises(ValueError, match="beyond all of type float32"):
        pack(np.array([1.0, 1e39]), Coding(bits=bits), rng())


@settings(max_examples=100, deadline=None)
@given(
    raw=st.binary(max_size=400),
    length=st.integers(0, 40),
    dtype=st.sampled_from(REAL),
    bits=st.sampled_from([None, 8, 16, 32]),
    sent=st.none() | st.integers(1, 40),
)
def test_any_bytes_are_a_vector_or_refused(
    raw: bytes, length: int, dtype: Dtype, bits: int | None, sent: int | None
) -> None:
    coding = Coding(bits=bits, sent=sent)
    wanted = coding.position_bytes(length) + coding.value_bytes(length, dtype)
    for bytes_ in (raw, raw.ljust(wanted, b"\x01")[:wanted]):
        try:
            found = unpack(np.frombuffer(bytes_, dtype=np.uint8), length, dtype, coding)
        except ValueError:
            continue
        assert (found.shape, found.dtype.name) == ((length,), dtype.value)


@pytest.mark.parametrize("dtype", REAL)
@pytest.mark.parametrize("coding", CODINGS, ids=str)
def test_what_is_sent_reaches_no_further_than_is_said(coding: Coding, dtype: Dtype) -> None:
    """The largest that error feedback comes to over updates that all point the same way."""
    update = np.full(500, 1.0, dtype=dtype.value)
    rest, longest = np.zeros_like(update), 0.0
    for seed in range(200):
        found = arrived(update + rest, coding, seed)
        longest = max(longest, float(np.linalg.norm(found)))
        if coding.sent is not None:
            rest = update + rest - found
    assert longest <= coding.reach(update.size) * float(np.linalg.norm(update)) * (1 + 1e-6)
