"""Versions in memory, by their keys, ready to score rows.

What always holds: a key's numbers never change, so what is kept is never out of date; whether it may still be
asked is decided before, for each call. What does not predict any more is dropped when that is heard or shows.
"""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import numpy as np

from heliosdb.api.serving.signature import Signature, make_signature
from heliosdb.api.serving.tensors import Numbers
from heliosdb.domain.encoding import Encoding
from heliosdb.domain.state import NO_STATE, state_from_bytes
from heliosdb.scoring.session import Version, make_version

_FEW = {"linear": 4096, "softmax_linear": 4096}
"""Rows of a kind that take less than handing them to a thread and back; of others:"""

_FEW_OF_OTHERS = 128

_BY_ROW = ("network",)
"""Kinds whose rows by themselves and among others agree to float32 only (scoring/network.py)."""


@dataclass(frozen=True, slots=True)
class ServedVersion:
    """A version that scores. by_row: whether rows of several calls are not scored together, because what else
    is in a matrix would show in more than the last digits of float64. few: rows that are not worth a thread.
    size: bytes as it is stored."""

    key: UUID
    signature: Signature
    version: Version
    by_row: bool
    few: int
    size: int

    def score(self, slots: Numbers) -> Numbers:
        """(n,) or (n, classes) for rows, (n, slots)."""
        return self.version.predict(slots)

    def score_one(self, slots: Numbers) -> Numbers:
        """The same for one row, as SQL scores one; for one thread alone, because it may use buffers."""
        version = self.version
        with np.errstate(all="ignore"):
            found = version.score_one(version.encoder.encode_one(slots[0].tolist()))
        return np.array([found], dtype=np.float64)


def make_served(key: UUID, stored: Mapping[str, Any]) -> ServedVersion:
    """A version of what the database handed out of it: features, prediction, encoding, arrays."""
    prediction, raw = json.loads(stored["prediction"]), stored["arrays"]
    encoding = Encoding.from_json(json.loads(stored["encoding"]))
    link = prediction.get("link")
    many = link == "softmax" or prediction.get("kind") == "softmax_linear"
    classes = prediction.get("classes") or (["0", "1"] if link == "logistic" or many else [])
    signature = make_signature(
        stored["features"], encoding, classes if link == "logistic" or many else [], has_score=not many
    )
    arrays = NO_STATE if raw is None else state_from_bytes(bytes(raw))
    version = make_version(prediction, arrays, encoding)
    size = len(raw or b"") + len(stored["prediction"]) + len(stored["encoding"])
    kind = prediction.get("kind", "linear")
    few = _FEW.get(kind, _FEW_OF_OTHERS)
    return ServedVersion(key, signature, version, kind in _BY_ROW, few, size)


class Versions:
    """Those that are kept: of more than `most` bytes the ones that were not asked for longest go; the one
    that came last stays, however large."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: OrderedDict[UUID, ServedVersion] = OrderedDict()
        self._coming: dict[UUID, asyncio.Task[ServedVersion]] = {}

    @property
    def keys(self) -> list[UUID]:
        """What is kept."""
        return list(self._kept)

    async def find(self, key: UUID, read: Callable[[], Awaitable[Mapping[str, Any]]]) -> ServedVersion:
        """The version of a key; `read` is called where it is not kept, once for all who wait for it."""
        if (kept := self._kept.get(key)) is not None:
            self._kept.move_to_end(key)
            return kept
        coming = self._coming.get(key)
        if coming is None:
            coming = self._coming[key] = asyncio.create_task(self._fetch(key, read))
            coming.add_done_callback(lambda _: self._coming.pop(key))
        return await asyncio.shield(coming)

    async def _fetch(self, key: UUID, read: Callable[[], Awaitable[Mapping[str, Any]]]) -> ServedVersion:
        stored = await read()
        found = await asyncio.to_thread(make_served, key, stored)
        self._kept[key] = found
        while len(self._kept) > 1 and sum(one.size for one in self._kept.values()) > self._most:
            self._kept.popitem(last=False)
        return found

    def drop(self, keys: set[UUID]) -> None:
        """Forget these."""
        for key in keys:
            self._kept.pop(key, None)
