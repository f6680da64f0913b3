"""What every codec keeps to: round trips of every type, bounds that hold, and bytes of anybody."""

from __future__ import annotations

import tracemalloc
import zlib

import lz4.frame
import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.vector import AnyVector, Dtype
from heliosdb.parts.codecs import CODECS
from heliosdb.parts.registry import RegisteredPart
from heliosdb.transport.codecs import Codec, codec
from tests.contracts.support import entries_with
from tests.contracts.toy_codec import TOY_DEFLATED

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


def encoded(encoding: Codec, vector: AnyVector, dtype: Dtype) -> bytes:
    """The vector as bytes, at the defaults of the codec's settings."""
    entry = next(one for one in ENTRIES if one.name == encoding.name)
    return encoding.encode(vector, dtype, entry.settings())


ENTRIES = entries_with(CODECS, RegisteredPart(TOY_DEFLATED.name, TOY_DEFLATED))


@pytest.fixture(params=ENTRIES, ids=lambda entry: entry.name)
def encoding(request: pytest.FixtureRequest) -> Codec:
    found: Codec = request.param.part
    return found


def test_the_typed_accessor_gives_the_registered_part() -> None:
    for name in CODECS.names():
        assert codec(name.upper()) is CODECS.get(name)
        assert codec(name).name == name


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
        raw = encoded(encoding, vector, dtype)
        assert isinstance(raw, bytes)
        assert len(raw) <= encoding.most(length, dtype)
        found = encoding.decode(raw, length, dtype)
        assert found.shape == (length,)
        assert found.dtype.name == dtype.value
        assert vector.tobytes() == before
        assert found.tobytes() == before, "a codec loses nothing"


@pytest.mark.parametrize("dtype", DTYPES)
def test_values_that_do_not_lie_side_by_side_are_encoded_too(encoding: Codec, dtype: Dtype) -> None:
    for vector in vectors(dtype, 64):
        apart = np.repeat(vector, 2)[::2]
        raw = encoded(encoding, apart, dtype)
        assert len(raw) <= encoding.most(64, dtype)
        assert encoding.decode(raw, 64, dtype).shape == (64,)


@pytest.mark.parametrize("dtype", DTYPES)
def test_its_bound_grows_with_the_length_and_stays_near_the_values(encoding: Codec, dtype: Dtype) -> None:
    bounds = [encoding.most(length, dtype) for length in LENGTHS]
    assert bounds == sorted(bounds)
    assert encoding.most(10**6, dtype) <= 2 * 10**6 * dtype.itemsize + 4096


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("length", LENGTHS)
def test_bytes_that_are_too_short_or_too_long_are_refused(encoding: Codec, dtype: Dtype, length: int) -> None:
    for vector in vectors(dtype, length):
        raw = encoded(encoding, vector, dtype)
        for wrong in (raw[:-1], raw + b"\0", raw + raw, raw[: len(raw) // 2]):
            if wrong != raw:
                with pytest.raises(ValueError):
                    encoding.decode(wrong, length, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_whatever_length_is_announced_is_decoded_to_or_refused(encoding: Codec, dtype: Dtype) -> None:
    for vector in vectors(dtype, 64):
        raw = encoded(encoding, vector, dtype)
        for length in (0, 1, 63, 65, 1000):
            check_decoded(encoding, raw, length, dtype)


def check_decoded(encoding: Codec, raw: bytes, length: int, dtype: Dtype) -> None:
    try:
        found = encoding.decode(raw, length, dtype)
    except ValueError:
        return
    assert (found.shape, found.dtype.name) == ((length,), dtype.value)


@pytest.mark.parametrize("encoding", [entry.part for entry in ENTRIES], ids=lambda part: part.name)
@settings(max_examples=100, deadline=None)
@given(raw=st.binary(max_size=300), length=st.integers(0, 40), dtype=st.sampled_from(DTYPES))
def test_any_bytes_are_a_vector_or_refused(encoding: Codec, raw: bytes, length: int, dtype: Dtype) -> None:
    check_decoded(encoding, raw, length, dtype)


def lying_frames() -> list[bytes]:
    """Frames of 50 MB that do not say how long they are, or say that they hold 100 doubles."""
    plain = bytes(50_000_000)
    unsaid = zstandard.ZstdCompressor(write_content_size=False).compress(plain)
    said = zstandard.ZstdCompressor().compress(bytes(800))
    # Its content's size stands in bytes 5 and 6 of a short frame; the blocks that follow are of the long one.
    lying = said[:7] + unsaid[6:]
    streamed = lz4.frame.compress(plain, store_size=False)
    forged = bytearray(lz4.frame.compress(plain, store_size=True))
    forged[6:14] = (800).to_bytes(8, "little")
    forged[14] = xxh32(bytes(forged[4:14])) >> 8 & 0xFF
    assert lz4.frame.get_frame_info(bytes(forged))["content_size"] == 800
    return [unsaid, lying, streamed, bytes(forged)]


def xxh32(short: bytes) -> int:
    """The checksum of a frame's header, of fewer than 16 bytes."""
    mask, one, two, three, four, five = 2**32 - 1, 2654435761, 2246822519, 3266489917, 668265263, 374761393
    found = five + len(short)
    for start in range(0, len(short) - 3, 4):
        found = found + int.from_bytes(short[start : start + 4], "little") * three & mask
        found = ((found << 17 | found >> 15) & mask) * four & mask
    for byte in short[len(short) & ~3 :]:
        found = found + byte * five & mask
        found = ((found << 11 | found >> 21) & mask) * one & mask
    found = (found ^ found >> 15) * two & mask
    found = (found ^ found >> 13) * three & mask
    return found ^ found >> 16


def test_a_bomb_takes_no_more_memory_than_its_length_says(encoding: Codec) -> None:
    bombs = (zlib.compress(bytes(50_000_000), 9), *lying_frames())
    for raw in (*bombs, encoded(encoding, np.zeros(6_000_000), Dtype.FLOAT64)):
        tracemalloc.start()
        try:
            check_decoded(encoding, raw, 100, Dtype.FLOAT64)
            assert tracemalloc.get_traced_memory()[1] < 5_000_000
        finally:
            tracemalloc.stop()
