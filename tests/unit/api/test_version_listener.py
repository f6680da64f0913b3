"""What is done when a version is heard of; whoever may connect to the database may notify a channel."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, cast

from heliosdb.api.config import ApiConfig
from heliosdb.api.serving.inference import Inference
from heliosdb.api.serving.listener import VersionListener

LASTS = 1.2


class Counting:
    """What is served, as far as a listener sees it."""

    def __init__(self) -> None:
        self.doubted = asyncio.Event()
        self.prefetched = 0

    async def sweep(self) -> None:
        pass

    async def prefetch(self) -> None:
        self.prefetched += 1


class Deafened(VersionListener):
    """Hears all the time."""

    async def _listen(self) -> None:
        while True:
            self._hear()
            await asyncio.sleep(0.001)


async def test_who_notifies_all_the_time_has_versions_read_once_a_second() -> None:
    served: Any = Counting()
    loop = asyncio.get_running_loop()
    began = loop.time()
    with suppress(TimeoutError):
        async with asyncio.timeout(LASTS):
            config = ApiConfig(database="dbname=x")  # type: ignore[arg-type]
            await Deafened(config, cast(Inference, served)).run()
    assert 1 <= served.prefetched <= 1 + (loop.time() - began)
