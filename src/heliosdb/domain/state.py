"""What a model is: named arrays. It goes to nodes; what comes back are vectors, never a state.

What always holds: a state's arrays are read-only, of a type in `ARRAY_TYPES`, and every number in them is
finite;
its bytes are one sequence whatever the order in which arrays were named, bounded, and never pickle; what
cannot be a state raises FederatedError INVALID_VALUE.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heliosdb.domain.errors import invalid_value
from heliosdb.domain.vector import Vector

State = Mapping[str, NDArray[Any]]

NO_STATE: State = MappingProxyType({})

ARRAY_TYPES = ("float32", "float64", "int32", "int64", "uint8", "uint32", "uint64")
"""By numpy's name; stored little-endian."""

MOST_ARRAYS, MOST_DIMENSIONS, MOST_NAME_BYTES = 10_000, 8, 255
_MAGIC = b"\0helios1"
_HEAD = struct.Struct("<HBB")  # bytes of the name, number of the type, dimensions


def make_state(**arrays: NDArray[Any]) -> State:
    """A state of these arrays, each of which is copied."""
    return freeze(arrays)


def freeze(arrays: Mapping[str, NDArray[Any]]) -> State:
    """A state of read-only copies, in the order of their names."""
    frozen: dict[str, NDArray[Any]] = {}
    for name in sorted(arrays):
        array = np.array(arrays[name], order="C")
        array.flags.writeable = False
        frozen[name] = array
    _check(frozen)
    return MappingProxyType(frozen)


def state_to_bytes(state: State) -> bytes:
    """The arrays in the order of their names, each with name, type and shape in front."""
    parts: list[bytes | memoryview] = [_MAGIC, struct.pack("<I", len(state))]
    for name in sorted(state):
        array, encoded = state[name], _encoded(name)
        kind = ARRAY_TYPES.index(array.dtype.name)
        parts.append(_HEAD.pack(len(encoded), kind, array.ndim))
        parts += [encoded, struct.pack(f"<{array.ndim}Q", *array.shape), _little_endian(array)]
    return b"".join(parts)


def is_state(raw: bytes) -> bool:
    """Whether bytes claim to be a state; no numbers that one would store begin like that."""
    return raw.startswith(_MAGIC)


def state_from_bytes(raw: bytes) -> State:
    """Read what `state_to_bytes` wrote; the arrays are views of `raw`. FederatedError INVALID_VALUE for
    anything else, of which no more is ever held than `raw` itself."""
    if not is_state(raw):
        raise invalid_value("these bytes are not a state")
    try:
        return _read(raw)
    except (struct.error, OverflowError, ValueError) as error:
        raise invalid_value("a state's bytes do not hold together") from error


def state_sha256(state: State) -> bytes:
    """SHA-256 of a state: of one array, of its values, little-endian; of several, of `state_to_bytes`."""
    if len(state) == 1:
        return hashlib.sha256(_little_endian(*state.values())).digest()
    return hashlib.sha256(state_to_bytes(state)).digest()


def size_of(state: State) -> int:
    """How many numbers a state holds."""
    return sum(array.size for array in state.values())


def told_of(state: State, names: Iterable[str] | None) -> State:
    """Return a state's arrays of these names, of which it has each; None for all."""
    return state if names is None else make_state(**{name: state[name] for name in names})


def flatten(state: State, names: Iterable[str]) -> Vector:
    """The arrays of these names as one float64 vector, each in C order."""
    parts = [np.ravel(state[name]).astype(np.float64) for name in names]
    return np.concatenate(parts) if parts else np.empty(0)


def with_vector(state: State, names: Iterable[str], vector: Vector) -> State:
    """The state with the arrays of these names replaced by what `flatten` would give as `vector`."""
    arrays, start = dict(state), 0
    for name in names:
        old = state[name]
        arrays[name] = vector[start : start + old.size].reshape(old.shape).astype(old.dtype)
        start += old.size
    if start != vector.size:
        raise ValueError("the vector is not of the size of these arrays")
    return freeze(arrays)


def part_of(state: State, part: str) -> State:
    """The arrays of one owner, `part/name`, by their own names."""
    prefix = f"{part}/"
    found = {name[len(prefix) :]: array for name, array in state.items() if name.startswith(prefix)}
    return MappingProxyType(found)


def join_parts(**parts: State) -> State:
    """The arrays of several owners in one state; the inverse of `part_of`."""
    arrays = {f"{part}/{name}": array for part, state in parts.items() for name, array in state.items()}
    return MappingProxyType(dict(sorted(arrays.items())))


def _little_endian(array: NDArray[Any]) -> memoryview:
    """The values' bytes, in place where they are little-endian already."""
    values = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    return values.reshape(-1).view(np.uint8).data


def _encoded(name: str) -> bytes:
    try:
        return name.encode()
    except UnicodeEncodeError as error:
        raise invalid_value("an array's name has half a character") from error


def _read(raw: bytes) -> State:
    (count,) = struct.unpack_from("<I", raw, len(_MAGIC))
    if count > MOST_ARRAYS:
        raise ValueError("too many arrays")
    place, arrays = len(_MAGIC) + 4, {}
    for _ in range(count):
        name_bytes, kind, dimensions = _HEAD.unpack_from(raw, place)
        place += _HEAD.size
        name = raw[place : place + name_bytes].decode()
        place += name_bytes
        if kind >= len(ARRAY_TYPES) or dimensions > MOST_DIMENSIONS or name in arrays:
            raise ValueError("not an array")
        shape = struct.unpack_from(f"<{dimensions}Q", raw, place)
        place += 8 * dimensions
        dtype, size = np.dtype(ARRAY_TYPES[kind]).newbyteorder("<"), math.prod(shape)
        if size > (len(raw) - place) // dtype.itemsize:
            raise ValueError("an array is longer than what there is of it")
        array = np.frombuffer(raw, dtype=dtype, count=size, offset=place)
        arrays[name] = array.reshape(shape).astype(dtype.newbyteorder("="), copy=False)
        arrays[name].flags.writeable = False
        place += size * dtype.itemsize
    if place != len(raw) or list(arrays) != sorted(arrays):
        raise ValueError("not in order, or something behind them")
    _check(arrays)
    return MappingProxyType(arrays)


def _check(arrays: Mapping[str, NDArray[Any]]) -> None:
    if len(arrays) > MOST_ARRAYS:
        raise invalid_value(f"a state has at most {MOST_ARRAYS} arrays")
    for name, array in arrays.items():
        if not 0 < len(_encoded(name)) <= MOST_NAME_BYTES:
            raise invalid_value("an array's name is empty or too long")
        if array.dtype.name not in ARRAY_TYPES or array.ndim > MOST_DIMENSIONS:
            raise invalid_value(f'array "{name}" is of type {array.dtype}, with {array.ndim} dimensions')
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise invalid_value(f'array "{name}" holds a number that is not finite')
