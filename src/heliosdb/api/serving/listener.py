"""Hears that a version was committed, and has it read before anybody asks.

What always holds: nothing depends on it but how soon the first answer of a new version comes, and how soon
the numbers of a retired one are gone from memory; a call asks the database for itself.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import psycopg
from psycopg import AsyncConnection

from heliosdb.api.config import ApiConfig
from heliosdb.api.database import RECONNECT, connection_settings
from heliosdb.api.serving.inference import Inference

log = logging.getLogger(__name__)

_LISTEN = b"LISTEN heliosdb_versions"
_SOONEST = 1.0
"""Seconds from one look to the next: whoever may connect to the database may notify a channel."""


class VersionListener:
    """A connection that listens, and what is done when it hears."""

    def __init__(self, config: ApiConfig, inference: Inference) -> None:
        self._config = config
        self._inference = inference
        self._heard = False

    async def run(self) -> None:
        """Listen and look until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._listen())
            tasks.create_task(self._look())

    async def _listen(self) -> None:
        settings: dict[str, Any] = connection_settings(self._config)
        settings["application_name"] = "heliosdb api listener"
        while True:
            try:
                async with await AsyncConnection.connect(
                    self._config.database.get_secret_value(), **settings
                ) as connection:
                    await connection.execute(_LISTEN)
                    # What was committed while nobody listened.
                    self._hear()
                    async for _ in connection.notifies():
                        self._hear()
            except psycopg.Error as error:
                log.info("new versions are not heard of for now: %s", type(error).__name__)
            await asyncio.sleep(RECONNECT)

    def _hear(self) -> None:
        self._heard = True
        self._inference.doubted.set()

    async def _look(self) -> None:
        while True:
            await self._inference.doubted.wait()
            self._inference.doubted.clear()
            heard, self._heard = self._heard, False
            try:
                await self._inference.sweep()
                if heard:
                    await self._inference.prefetch()
            except psycopg.Error as error:
                log.info("versions in memory were not looked at: %s", type(error).__name__)
            await asyncio.sleep(_SOONEST)
