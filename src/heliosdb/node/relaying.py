"""A node that Flower reaches: its ClientApp connects to a Unix socket, hands over a batch, and waits for one.

What always holds: nobody listens on a network; a connection brings one batch, and gets one back or nothing;
so many at once, and no more, are taken.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from heliosdb.domain.errors import FederatedError
from heliosdb.transport import relay_sockets
from heliosdb.transport.relayed import RelayedCalls

log = logging.getLogger(__name__)

_MOST_AT_ONCE = 4
"""Flower brings one at a time; another, where the program of the one before was ended."""


@asynccontextmanager
async def relayed_at(path: Path, calls: RelayedCalls) -> AsyncIterator[None]:
    """Take in batches at a Unix socket for the length of a block; FederatedError INVALID_VALUE."""
    under_way: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        under_way.add(task)
        try:
            if len(under_way) <= _MOST_AT_ONCE:
                await _exchange(calls, reader, writer)
            else:
                log.warning("more batches at once than are taken: %d", len(under_way))
        finally:
            under_way.discard(task)
            writer.close()

    server = await relay_sockets.listen(path, serve)
    log.info("Flower's ClientApp connects at %s", path)
    try:
        yield
    finally:
        relay_sockets.close(server, path)
        for task in under_way:
            task.cancel()
        if under_way:
            await asyncio.wait(under_way)
        await calls.close()


async def _exchange(calls: RelayedCalls, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        batch = await relay_sockets.read_blob(reader)
        if batch is not None:
            answer = await calls.exchange(batch)
            with suppress(OSError):
                await relay_sockets.write_blob(writer, answer)
    except FederatedError as error:
        log.warning("what was relayed is refused: %s", error.message)
