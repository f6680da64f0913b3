"""Predictions, whichever door the calls come by: admitted, counted, scored.

What always holds: no inputs are looked at but of a call that was admitted; an admission is at most
`_FRESH` seconds old when its rows are scored.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any
from uuid import UUID

import psycopg

from heliosdb.api.config import ApiConfig
from heliosdb.api.database import Database, Right
from heliosdb.api.identity import Claim
from heliosdb.api.limits import Buckets, Places
from heliosdb.api.problems import Problem
from heliosdb.api.serving.admission import Admissions, Admitted, Question, refer_to
from heliosdb.api.serving.batches import Batches
from heliosdb.api.serving.tensors import InferenceAnswer, InferenceRequest
from heliosdb.api.serving.versions import ServedVersion, Versions

log = logging.getLogger(__name__)

_FRESH = 1.0
_TRIES = 5
_STATE = "55"
"""SQLSTATEs of this class say that a version does not predict."""


class _MovedError(Exception):
    """The name that was admitted leads to another version by now."""


class Inference:
    """What serves. identities: calls by whose they are. doubted: set when a version may predict no more."""

    def __init__(self, config: ApiConfig, database: Database, identities: Buckets) -> None:
        self._config = config
        self._database = database
        self._identities = identities
        self._admissions = Admissions(config)
        self._versions = Versions(config.model_memory)
        self._batches = Batches(config.largest_batch)
        self.places = Places(
            config.inferences, max(1, config.inferences // 2), "Too many predictions are under way.", 1
        )
        self.doubted = asyncio.Event()

    async def open(self) -> None:
        """Begin to connect; does not wait for it."""
        await self._admissions.open()

    async def close(self) -> None:
        """Close the connections; what is under way ends with an error."""
        self._batches.close()
        await self._admissions.close()

    async def admit(self, claim: Claim, model: str, version: str | None) -> Admitted:
        """Let a call in, and count it; a Problem 401, 403, 404, 409 or 429."""
        try:
            admitted = await self._admissions.admit(Question(claim, refer_to(model, version)))
        except (psycopg.Error, Problem) as error:
            if (error.sqlstate or "").startswith(_STATE):
                self.doubted.set()
            if isinstance(error, psycopg.Error) and error.sqlstate:
                # Whoever asks for what is not there is counted as well.
                identity = await self._database.confirm(claim, Right.PREDICT)
                self._identities.take(identity.key)
            raise
        self._identities.take(admitted.identity.key)
        return admitted

    async def answer(self, admitted: Admitted, request: InferenceRequest) -> InferenceAnswer:
        """Predict; a Problem where the request does not fit the version."""
        if asyncio.get_running_loop().time() - admitted.asked > _FRESH:
            # Its inputs took their time.
            admitted = await self._ask_again(admitted)
        admitted, served = await self._find(admitted)
        slots = served.signature.slots(request.inputs, self._config.largest_batch)
        wanted = served.signature.wanted(request.outputs)
        scores = await self._batches.score(admitted.identity.key, served, slots)
        return InferenceAnswer(admitted.model, str(admitted.version), served.signature.answer(scores, wanted))

    async def describe(self, admitted: Admitted) -> tuple[ServedVersion, list[str]]:
        """The version of a call, and the numbers of all of its model that the caller may ask."""
        admitted, served = await self._find(admitted)
        async with self._database.call(admitted.identity, Right.PREDICT) as caller:
            rows = await caller.rows("served_versions", admitted.model)
        return served, [str(row["version"]) for row in rows]

    @property
    def kept(self) -> list[UUID]:
        """The keys of the versions in memory."""
        return self._versions.keys

    async def ready(self) -> bool:
        """Whether the database answers."""
        try:
            return await self._database.answers()
        except psycopg.Error:
            return False

    async def _ask_again(self, admitted: Admitted) -> Admitted:
        return await self._admissions.admit(Question(admitted.identity.claim, admitted.reference))

    async def _find(self, admitted: Admitted) -> tuple[Admitted, ServedVersion]:
        """The version in memory. Where another one took its place before it was read: that one."""
        for _ in range(_TRIES):
            try:
                return admitted, await self._fetch(admitted)
            except _MovedError:
                admitted = await self._ask_again(admitted)
        raise Problem(503, "The model's versions change too quickly.", retry_after=1)

    async def _fetch(self, admitted: Admitted) -> ServedVersion:
        async def read() -> Mapping[str, Any]:
            if (stored := await self._admissions.read(admitted)) is None:
                raise _MovedError
            return stored

        return await self._versions.find(admitted.key, read)

    async def sweep(self) -> None:
        """Forget what does not predict any more; psycopg.Error where the database cannot be asked."""
        keys = self.kept
        if keys:
            self._versions.drop(set(keys) - await self._admissions.predicting(keys))

    async def prefetch(self) -> None:
        """Read what would answer the questions that were asked lately, for the same callers."""
        for question in self._admissions.recent:
            try:
                await self._find(await self._admissions.admit(question))
            except (psycopg.Error, Problem):
                # Whoever asks is told.
                continue
