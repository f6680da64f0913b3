"""A client's connection: HTTP/1.1 in bounds that hold before anybody is asked who it is.

What always holds: no more clients are connected than the settings say; a connection for which nothing is
under way shows a whole request head in time or is cut off; its certificate is known to its requests.
"""

from __future__ import annotations

import asyncio
from typing import Any

import h11
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from heliosdb.api.certificates import CONNECTION_STATE


class BoundedConfig(uvicorn.Config):
    """The server's settings. client_connections: how many at once; head_timeout: seconds."""

    def __init__(
        self, app: FastAPI, *, client_connections: int, head_timeout: float, **settings: Any
    ) -> None:
        super().__init__(app, http=ClientProtocol, **settings)
        self.client_connections = client_connections
        self.head_timeout = head_timeout


class ClientProtocol(H11Protocol):
    """One connection. Its certificate (DER) is handed to its requests, in their state."""

    config: BoundedConfig
    _limit: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Look at the certificate before the first request is read; cut off one client too many."""
        super().connection_made(transport)
        if len(self.connections) > self.config.client_connections:
            transport.abort()
            return
        tls = transport.get_extra_info("ssl_object")
        shown = None if tls is None else tls.getpeercert(binary_form=True)
        if shown is not None:
            # The state is the server's until here: each connection gets its own.
            self.app_state = {**self.app_state, CONNECTION_STATE: shown}
        self._bound()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the limit."""
        super().connection_lost(exc)
        self._unbound()

    def data_received(self, data: bytes) -> None:
        """Read on; what is no request yet has to become one in time."""
        super().data_received(data)
        if self._is_under_way():
            self._unbound()
        else:
            self._bound()

    def on_response_complete(self) -> None:
        """Go on with the next request; what is left of this one's body has to end in time, too."""
        super().on_response_complete()
        # Between requests the server's own limit holds, until the first byte of the next one ends that.
        if not self._is_under_way() and self.conn.their_state is h11.SEND_BODY:
            self._bound()

    def _is_under_way(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _bound(self) -> None:
        if self._limit is None and not self.transport.is_closing():
            self._limit = self.loop.call_later(self.config.head_timeout, self.transport.abort)

    def _unbound(self) -> None:
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None
