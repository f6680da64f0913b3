"""An update in fewer bytes: only its largest values, each in fewer bits; and back.

Values of a block are scaled by its largest magnitude t to whole numbers from -L to L and rounded up or down
by chance, so that what arrives is right on average (the stochastic quantization of QSGD, Alistarh et al.
2017, section 3.1, with t in the place of the norm). With r of a generator a value v is sent as

    floor(v / t * L + r),   0 <= r < 1,   and arrives as   t * q / L.

Values of float64 are first written as float32, by which they are off by less than chance makes them.

What always holds: the bytes are exactly as many as the coding says for the length; `unpack` gives back what
they say, the same to the bit, and takes no other bytes; nothing that arrives is larger than its block's t.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from heliosdb.domain.coding import BLOCK, NARROW, POSITION_BYTES, Coding
from heliosdb.domain.vector import AnyVector, Dtype
from heliosdb.transport.planes import from_planes, to_planes

_CODES: Mapping[int, str] = {8: "int8", 16: "int16"}


def pack(vector: AnyVector, coding: Coding, rng: np.random.Generator) -> AnyVector:
    """Return the bytes (uint8) of a finite vector. rng: decides which way is rounded.

    ValueError where a value is beyond the type in which it is written.
    """
    dtype = coding.written(Dtype(vector.dtype.name))
    positions, values = b"", vector
    if coding.sent is not None:
        chosen = largest(vector, coding.count(vector.size))
        positions, values = _pack_positions(chosen, vector.size, coding), vector[chosen]
    with np.errstate(over="ignore"):
        values = values.astype(dtype.value, copy=False)
    if not np.isfinite(values).all():
        raise ValueError(f"a value is beyond all of type {dtype}")
    packed = _round(values, coding, rng) if coding.is_scaled else to_planes(values, dtype.value)
    return np.frombuffer(positions + packed, dtype=np.uint8)


def unpack(packed: AnyVector, length: int, dtype: Dtype, coding: Coding) -> AnyVector:
    """Return the vector of `length` values, 0 where none was sent; ValueError for bytes that are none."""
    raw, placed = packed.tobytes(), coding.position_bytes(length)
    if len(raw) != placed + coding.value_bytes(length, dtype):
        raise ValueError("not so many values")
    if coding.is_scaled:
        values = _scale_back(raw[placed:], coding.count(length), coding)
    else:
        values = from_planes(raw[placed:], coding.written(dtype).value)
    if coding.sent is None:
        return values.astype(dtype.value, copy=False)
    vector: AnyVector = np.zeros(length, dtype=dtype.value)
    vector[_unpack_positions(raw[:placed], length, coding)] = values
    return vector


def largest(vector: AnyVector, count: int) -> NDArray[np.int64]:
    """Return the positions of the `count` values of the largest magnitude, ascending; of equal ones the
    first."""
    if count >= vector.size:
        return np.arange(vector.size)
    magnitudes = np.abs(vector)
    least = np.partition(magnitudes, vector.size - count)[vector.size - count]
    above, equal = np.flatnonzero(magnitudes > least), np.flatnonzero(magnitudes == least)
    return np.sort(np.concatenate([above, equal[: count - above.size]]))


def _has_map(length: int, coding: Coding) -> bool:
    """Whether positions are a bit for each value; else the steps from one to the next."""
    return -(-length // 8) <= POSITION_BYTES * coding.count(length)


def _pack_positions(chosen: NDArray[np.int64], length: int, coding: Coding) -> bytes:
    if not _has_map(length, coding):
        return to_planes(np.diff(chosen, prepend=0), "uint32")
    sent = np.zeros(length, dtype=bool)
    sent[chosen] = True
    return np.packbits(sent).tobytes()


def _unpack_positions(raw: bytes, length: int, coding: Coding) -> NDArray[np.int64]:
    """ValueError where they are not so many positions within the length, ascending, and nothing else."""
    if _has_map(length, coding):
        bits = np.unpackbits(np.frombuffer(raw, dtype=np.uint8))
        if bits[length:].any():
            raise ValueError("a position beyond the vector")
        found = np.flatnonzero(bits)
    else:
        steps = from_planes(raw, "uint32").astype(np.int64)
        if not steps[1:].all():
            raise ValueError("a position is there twice")
        found = np.cumsum(steps)
    if found.size != coding.count(length) or (found.size and found[-1] >= length):
        raise ValueError("not so many positions")
    return found


def _round(values: AnyVector, coding: Coding, rng: np.random.Generator) -> bytes:
    """The blocks' largest magnitudes, then the values as whole numbers."""
    if not values.size:
        return b""
    assert coding.bits is not None
    tops = np.maximum.reduceat(np.abs(values), np.arange(0, values.size, BLOCK))
    scaled = values.astype(np.float64) / _of_each(np.where(tops > 0, tops, 1), values.size)
    codes = np.floor(scaled * coding.levels + rng.random(values.size))
    # The largest sum below L + 1 is L + 1 as a double.
    codes = np.minimum(codes, coding.levels)
    return to_planes(tops, values.dtype.name) + to_planes(codes, _CODES[coding.bits])


def _scale_back(raw: bytes, count: int, coding: Coding) -> NDArray[np.float64]:
    assert coding.bits is not None
    ends = -(-count // BLOCK) * NARROW.itemsize
    tops, codes = from_planes(raw[:ends], NARROW.value), from_planes(raw[ends:], _CODES[coding.bits])
    if not (np.isfinite(tops) & (tops >= 0)).all() or (codes < -coding.levels).any():
        raise ValueError("a block that nothing was rounded to")
    scaled: NDArray[np.float64] = codes / np.float64(coding.levels) * _of_each(tops, count)
    return scaled


def _of_each(tops: AnyVector, count: int) -> NDArray[np.float64]:
    """For each of so many values its block's magnitude."""
    return np.repeat(tops.astype(np.float64), BLOCK)[:count]
