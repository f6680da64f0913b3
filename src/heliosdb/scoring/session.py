"""Versions in a session of the server: read once, then asked row by row or block by block.

What always holds: what is kept is numbers by their version's key, which never change; who may see them
was decided before, by who may call what calls this. Nothing is read from a table here: a version that is not
kept is None, and the caller brings it (a parallel worker may start no subtransaction, as plpy.execute does).
"""

from __future__ import annotations

import json
import sys
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from struct import Struct
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from heliosdb.domain.encoding import Encoding
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.state import NO_STATE, State, state_from_bytes
from heliosdb.domain.wording import counted
from heliosdb.scoring import soundness
from heliosdb.scoring.kinds import Scored, ScoredRow, prepare, prepare_row
from heliosdb.scoring.rows import Encoder, Slots, count_slots

MOST_KEPT = 16
"""Versions that a session keeps; of more, those that were not asked for longest are read again."""

MOST_BYTES = 512 * 2**20
"""Of the stored arrays of all that are kept; the one that was read last is, however large."""

_HEADERS = {1: 20, 2: 28}
"""Bytes before the elements of an array of one and of two dimensions without NULLs, as the server keeps it:
dimensions, place of the elements, type; then of each dimension the size, of each the lower bound; each four
bytes in the machine's order (`array.h`)."""

_PLACE, _LENGTH_WORD = slice(4, 8), 4
"""Where an array says at which byte its elements begin, 0 where there is no bitmap of NULLs before them; and
the bytes of the length that it counts and does not come with."""


@dataclass(frozen=True, slots=True)
class Numbers:
    """What is stored of a version: the kind, content and arrays of its prediction, and its encoding."""

    kind: str
    content: Mapping[str, Any]
    arrays: State
    encoding: Encoding


@dataclass(frozen=True, slots=True)
class Version:
    """How a version scores, with its numbers in place. width: the slots of a row; row: their bytes. size:
    bytes of its arrays as they are stored."""

    score: Scored
    score_one: ScoredRow
    encoder: Encoder
    width: int
    row: Struct
    numbers: Numbers
    size: int = 0

    def predict(self, slots: Slots) -> NDArray[np.float64]:
        """Return (n,) or (n, classes) for rows, (n, slots)."""
        if slots.shape[1] != self.width:
            raise FederatedError(
                ErrorCode.INTERNAL, f"a row comes as {counted(self.width, 'number')}, not {slots.shape[1]}"
            )
        with np.errstate(all="ignore"):
            return self.score(self.encoder.encode(slots))

    def predict_one(self, raw: bytes) -> float | NDArray[np.float64]:
        """Return a number or (classes,) for one row, an array of double precision as the server keeps it."""
        raw = raw if len(raw) == self.row.size else _without_bitmap(raw)
        if len(raw) != self.row.size:
            given = (len(raw) - _HEADERS[1]) // 8
            raise FederatedError(
                ErrorCode.INTERNAL, f"a row comes as {counted(self.width, 'number')}, not {given}"
            )
        return self.score_one(self.encoder.encode_one(self.row.unpack(raw)))


_kept: OrderedDict[str, Version] = OrderedDict()


def make_version(prediction: Mapping[str, Any], arrays: State, encoding: Encoding) -> Version:
    """Return a version of what is stored of its prediction; encoding: how its columns become inputs."""
    kind = prediction.get("kind", "linear")
    score, width = prepare(kind, prediction, arrays), count_slots(encoding)
    score_one = prepare_row(kind, prediction, arrays, score)
    row = Struct(f"={_HEADERS[1]}x{width}d")
    numbers = Numbers(kind, prediction, arrays, encoding)
    return Version(score, score_one, Encoder(encoding), width, row, numbers)


def keep_version(key: str, prediction: str, arrays: bytes | None, encoding: str) -> None:
    """Keep a version under its key. prediction, encoding: JSON; arrays: those of `state_to_bytes`."""
    found = make_version(
        json.loads(prediction),
        NO_STATE if arrays is None else state_from_bytes(arrays),
        Encoding.from_json(json.loads(encoding)),
    )
    _kept[key] = replace(found, size=len(arrays or b""))
    while len(_kept) > 1 and (len(_kept) > MOST_KEPT or sum(one.size for one in _kept.values()) > MOST_BYTES):
        _kept.popitem(last=False)


def find_version(key: str) -> Version | None:
    """Return the version of a key; None where it is not kept."""
    return _kept.get(key)


def score_row(key: str, slots: bytes) -> float | None:
    """Return the number for one row; None where the version is not kept. slots: the bytes of an array."""
    version = _kept.get(key)
    return None if version is None else cast(float, version.predict_one(slots))


def score_row_classes(key: str, slots: bytes) -> list[float] | None:
    """Return the probabilities of the classes for one row; None where the version is not kept."""
    version = _kept.get(key)
    return None if version is None else cast(list[float], np.asarray(version.predict_one(slots)).tolist())


def score_rows(key: str, slots: bytes) -> list[Any] | None:
    """Return the numbers for many rows, or the probabilities for each; None where the version is not kept.

    slots: the bytes of an array, (n, slots).
    """
    version = _kept.get(key)
    if version is None:
        return None
    _kept.move_to_end(key)
    return list(version.predict(read_array(slots)).tolist())


def _without_bitmap(raw: bytes) -> bytes:
    """Return an array without the bitmap of NULLs that it has where it is a part of one with NULLs, though
    there is none in it."""
    begins = int.from_bytes(raw[_PLACE], sys.byteorder)
    if not begins:
        return raw
    header = _HEADERS[int.from_bytes(raw[:4], sys.byteorder)]
    return raw[: _PLACE.start] + bytes(4) + raw[_PLACE.stop : header] + raw[begins - _LENGTH_WORD :]


def read_array(raw: bytes) -> NDArray[np.float64]:
    """Return an array of one or two dimensions as the server keeps it, in which no element is NULL."""
    raw = _without_bitmap(raw)
    dimensions = int(np.frombuffer(raw, np.int32, 1)[0])
    shape = np.frombuffer(raw, np.int32, dimensions, offset=12)
    return np.frombuffer(raw, np.float64, offset=_HEADERS[dimensions]).reshape(shape)


def find_fault(prediction: str, arrays: bytes | None, encoding: str) -> str | None:
    """Return what is wrong with the numbers of a version that another organisation made; None where they are
    sound. prediction, encoding: JSON; arrays: those of `state_to_bytes`.
    """

    def check() -> None:
        state = NO_STATE if arrays is None else state_from_bytes(arrays)
        soundness.check_version(json.loads(prediction), state, Encoding.from_json(json.loads(encoding)))

    return soundness.find_fault(check)
