"""Cancel requests on their way to the server: each on a connection of its own, and without an answer.

What always holds: a request with a key that came through this process goes to the server that issued it;
any other may belong to a session in another process on the same sockets, and goes to each server of the
settings once, which compares the key itself; those connections are bounded in number and in time.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from typing import Protocol

from heliosdb.proxy.config import ProxyConfig, Upstream
from heliosdb.proxy.figures import Totals
from heliosdb.proxy.wire import CancelRequest

log = logging.getLogger(__name__)

BackendKey = tuple[int, bytes]

MAX_SEEKING = 16  # connections to servers at one time, of all requests with unknown keys


class CancelHost(Protocol):
    """What is needed from the proxy."""

    config: ProxyConfig
    totals: Totals
    seeking: asyncio.Semaphore

    @property
    def routes(self) -> Mapping[BackendKey, Upstream]:
        """The server that issued each key."""


async def relay_cancel(host: CancelHost, request: CancelRequest) -> None:
    """Relay the request; return when every server asked has closed its connection."""
    host.totals.cancels += 1
    issuer = host.routes.get((request.pid, request.secret))
    try:
        async with asyncio.timeout(host.config.connect_timeout_s):
            if issuer is not None:
                await _deliver(issuer, request.raw)
            else:
                await asyncio.gather(*(_seek(host, each, request.raw) for each in host.config.upstreams))
    except TimeoutError:
        log.warning("a cancel request was not taken by every server in time")


async def _seek(host: CancelHost, upstream: Upstream, raw: bytes) -> None:
    async with host.seeking:
        await _deliver(upstream, raw)


async def _deliver(upstream: Upstream, raw: bytes) -> None:
    """Send the packet on a connection of its own and wait until the server has closed it."""
    try:
        await _send(upstream, raw)
    except (OSError, ValueError) as error:  # ValueError: a host that cannot be encoded
        where, why = upstream.shown, type(error).__name__
        log.warning("a cancel request could not be relayed to %s: %s", where, why)


async def _send(upstream: Upstream, raw: bytes) -> None:
    if upstream.socket_path is not None:
        reader, writer = await asyncio.open_unix_connection(upstream.socket_path)
    else:
        reader, writer = await asyncio.open_connection(upstream.host, upstream.port)
    try:
        writer.write(raw)
        await reader.read(1)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
