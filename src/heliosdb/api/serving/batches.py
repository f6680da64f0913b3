"""Rows of several calls, scored together.

What always holds: only calls of one caller and one version share a matrix; each gets the scores of its own
rows, and what is wrong with another's is not its own error. While nothing is under way a call is scored at
once; many rows are scored beside the event loop.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Hashable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from heliosdb.api.problems import Problem
from heliosdb.api.serving.tensors import Numbers
from heliosdb.api.serving.versions import ServedVersion

_THREADS = 2


@dataclass(frozen=True, slots=True)
class _Part:
    slots: Numbers
    scores: asyncio.Future[Numbers]


class Batches:
    """What waits to be scored. most: rows of one matrix, but for a call that alone has more."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._waiting: dict[Hashable, deque[_Part]] = {}
        self._busy: set[Hashable] = set()
        self._tasks: set[asyncio.Future[None]] = set()
        self._threads = ThreadPoolExecutor(_THREADS, "scoring")

    def close(self) -> None:
        """Begin nothing more."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def score(self, caller: str, version: ServedVersion, slots: Numbers) -> Numbers:
        """The scores of rows, (n, slots), each finite; a Problem 422 where one is not."""
        if version.by_row:
            if len(slots) == 1:
                return check_scores(version.score_one(slots))
            # One call's rows are one matrix always.
            return check_scores(await self._compute(version, slots))
        loop = asyncio.get_running_loop()
        part = _Part(slots, loop.create_future())
        group = (caller, version.key)
        self._waiting.setdefault(group, deque()).append(part)
        if group not in self._busy:
            self._busy.add(group)
            # Whoever is to be answered in the same turn of the loop joins.
            loop.call_soon(self._begin, group, version)
        return check_scores(await part.scores)

    def _begin(self, group: Hashable, version: ServedVersion) -> None:
        task = asyncio.ensure_future(self._run(group, version))
        # The loop itself holds tasks weakly.
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, group: Hashable, version: ServedVersion) -> None:
        """Score what waits, matrix by matrix, until nothing does."""
        try:
            while parts := self._take(group):
                await self._score_parts(parts, version)
        finally:
            self._busy.discard(group)

    def _take(self, group: Hashable) -> list[_Part]:
        waiting = self._waiting[group]
        parts: list[_Part] = []
        rows = 0
        while waiting and (not parts or rows + len(waiting[0].slots) <= self._most):
            part = waiting.popleft()
            # Nobody waits for what was cut off.
            if not part.scores.done():
                parts.append(part)
                rows += len(part.slots)
        if not waiting and not parts:
            del self._waiting[group]
        return parts

    async def _score_parts(self, parts: list[_Part], version: ServedVersion) -> None:
        slots = parts[0].slots if len(parts) == 1 else np.concatenate([part.slots for part in parts])
        try:
            scores = await self._compute(version, slots)
        except Exception as error:  # noqa: BLE001 -- it is raised where the scores are waited for
            for part in parts:
                if not part.scores.done():
                    part.scores.set_exception(error)
            return
        first = 0
        for part in parts:
            last = first + len(part.slots)
            if not part.scores.done():
                part.scores.set_result(scores[first:last])
            first = last

    async def _compute(self, version: ServedVersion, slots: Numbers) -> Numbers:
        if len(slots) <= version.few:
            return version.score(slots)
        return await asyncio.get_running_loop().run_in_executor(self._threads, version.score, slots)


def check_scores(scores: Numbers) -> Numbers:
    """The scores; a Problem 422 where one is no number, which is what SQL says too."""
    if not np.isfinite(scores).all():
        raise Problem(422, "A prediction is out of the range of a number.", sqlstate="22003")
    return scores
