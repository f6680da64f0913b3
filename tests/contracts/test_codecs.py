"""What every codec keeps to: round trips of every type, bounds that hold, and bytes of anybody."""

from __future__ import annotations

import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.vector import AnyVector, Dtype
from heliosdb.parts.codecs import CODECS
from heliosdb.transport.codecs import Codec, codec

NAMES = CODECS.names()
LENGTHS = [0, 1, 2, 7, 64, 1000]
DTYPES = list(Dtype)


def vectors(dtype: Dtype, length: int) -> list[AnyVector]:
    """Zeros, small ones, whatever bits there are, and the ends of the type."""
    kind = np.dtype(dtype.value)
    rng = np.random.default_rng(length)
    bits = np.frombuffer(rng.bytes(length * kind.itemsize), dtype=kind)
    if dtype.is_real:
        bits = np.where(np.isfinite(bits), bits, 0.0).astype(kind)
    info = np.finfo(kind) if dtype.is_real else np.iinfo(kind)
    ends = np.resize(np.array([info.min, info.max, 0, 1], dtype=kind), length)
    return [np.zeros(length, dtype=kind), rng.normal(0, 50, length).astype(kind), bits, ends]


@pytest.fixture(params=NAMES)
def encoding(request: pytest.FixtureRequest) -> Codec:
    return codec(request.param)


def test_its_name_is_the_registered_one(encoding: Codec) -> None:
    assert codec(encoding.name.upper()) is encoding is CODECS.get(encoding.name)


def test_a_codec_that_is_not_there_is_refused() -> None:
    with pytest.raises(FederatedError) as caught:
        codec("no_such_codec")
    assert caught.value.code is ErrorCode.NOT_SUPPORTED


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("length", LENGTHS)
def test_what_was_encoded_is_decoded_to_the_same_shape_within_its_bound(
    encoding: Codec, dtype: Dtype, length: int
) -> None:
    for vector in vectors(dtype, length):
        before = vector.tobytes()
        raw = encoding.encode(vector, dtype)
        assert isinstance(raw, bytes)
        assert len(raw) <= encoding.most(length, dtype)
        found = encoding.decode(raw, length, dtype)
        assert found.shape == (length,)
        assert found.dtype.name == dtype.value
        assert vector.tobytes() == before
        if not dtype.is_real:
            assert found.tobytes() == before, "elements of a ring are exact"
        # A lossy one is lossy once: what arrived means the same to whoever passes it on.
        assert encoding.decode(encoding.encode(found, dtype), length, dtype).tobytes() == found.tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_same_vector_is_the_same_bytes(encoding: Codec, dtype: Dtype) -> None:
    for vector in vectors(dtype, 64):
        apart = np.repeat(vector, 2)[::2]
        assert encoding.encode(vector, dtype) == encoding.encode(apart, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_its_bound_grows_with_the_length_and_stays_near_the_values(encoding: Codec, dtype: Dtype) -> None:
    bounds = [encoding.most(length, dtype) for length in LENGTHS]
    assert bounds == sorted(bounds)
    assert encoding.most(10**6, dtype) <= 2 * 10**6 * dtype.itemsize + 4096


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("length", LENGTHS)
def test_bytes_that_are_too_short_or_too_long_are_refused(encoding: Codec, dtype: Dtype, length: int) -> None:
    for vector in vectors(dtype, length):
        raw = encoding.encode(vector, dtype)
        for wrong in (raw[:-1], raw + b"\0", raw + raw, raw[: len(raw) // 2]):
            if wrong != raw:
                with pytest.raises(ValueError):
                    encoding.decode(wrong, length, dtype)
        for other in (length + 1, 2 * length + 1, 0):
            if other != length:
                with pytest.raises(ValueError):
                    encoding.decode(raw, other, dtype)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=100, deadline=None)
@given(raw=st.binary(max_size=300), length=st.integers(0, 40), dtype=st.sampled_from(DTYPES))
def test_any_bytes_are_a_vector_or_refused(name: str, raw: bytes, length: int, dtype: Dtype) -> None:
    try:
        found = codec(name).decode(raw, length, dtype)
    except ValueError:
        return
    assert (found.shape, found.dtype.name) == ((length,), dtype.value)


def test_a_bomb_takes_no_more_memory_than_its_length_says(encoding: Codec) -> None:
    bomb, most = zlib.compress(bytes(50_000_000), 9), 5_000_000
    for raw in (bomb, encoding.encode(np.zeros(6_000_000), Dtype.FLOAT64)):
        tracemalloc.start()
        try:
            with pytest.raises(ValueError):
                encoding.decode(raw, 100, Dtype.FLOAT64)
            assert tracemalloc.get_traced_memory()[1] < most
        finally:
            tracemalloc.stop()
