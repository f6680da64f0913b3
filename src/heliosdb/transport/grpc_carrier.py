"""Calls over gRPC to a node that listens: a channel that is kept open, with the node's certificate pinned.

What always holds: nothing is said to a peer that is not the pinned one; the text of an error names the node's
endpoint and the kind of failure, never the inside of a library.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import contextmanager

from heliosdb.domain.errors import ErrorCode, FederatedError, StrangerError
from heliosdb.observing.tracing import HEADER
from heliosdb.transport.carriers import Method, UnsentError, UnsentToStrangerError
from heliosdb.transport.identity import Identity, pinned_bundle, split_endpoint
from heliosdb.transport.messages import printable
from heliosdb.transport.rpc import CHANNEL_OPTIONS, aio, grpc, path
from heliosdb.transport.verification import rejected


class GrpcCarrier:
    """A channel to one node.

    endpoint: `https://host:port`. pinned: the node's certificates (PEM), any of which it may show. identity:
    the coordinator's, which the node has pinned.
    """

    def __init__(self, endpoint: str, pinned: Sequence[bytes], identity: Identity) -> None:
        host, port = split_endpoint(endpoint)
        self._endpoint = endpoint
        credentials = grpc.ssl_channel_credentials(
            root_certificates=pinned_bundle(pinned),
            private_key=identity.private_key_pem,
            certificate_chain=identity.certificate_pem,
        )
        target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._channel = aio.secure_channel(target, credentials, options=CHANNEL_OPTIONS)
        # On the wire a call of one message is a stream of one: one form for all of them.
        self._calls = {method: self._channel.stream_stream(path(method), None, None) for method in Method}
        self._mistaken: FederatedError | None = None

    async def call(
        self,
        method: Method,
        messages: AsyncIterator[bytes],
        *,
        timeout: float,  # noqa: ASYNC109 - gRPC's deadline
        traceparent: str | None = None,
    ) -> AsyncGenerator[bytes]:
        """As `Carrier.call`."""
        metadata = None if traceparent is None else ((HEADER, traceparent),)
        answered = False
        with self._failures(self._calls[method](messages, timeout=timeout, metadata=metadata)) as call:
            try:
                async for raw in call:
                    answered = True
                    yield raw
            except aio.AioRpcError as error:
                # A node may answer and end a call before it has taken all of it. Of a message that was on its
                # way gRPC then says this; whether the answer is whole, who asked can tell.
                if not answered or error.code() is not grpc.StatusCode.INTERNAL:
                    raise
        self._mistaken = None

    async def close(self) -> None:
        """Close the channel; calls under way fail."""
        await self._channel.close(None)

    @contextmanager
    def _failures(
        self, call: aio.StreamStreamCall[bytes, bytes]
    ) -> Iterator[aio.StreamStreamCall[bytes, bytes]]:
        """Say clearly why a call failed below our messages; what is left of it is cancelled."""
        try:
            yield call
        except aio.AioRpcError as error:
            raise self._failure(error) from error
        except asyncio.CancelledError:
            # gRPC's word also for a channel that was closed under the call; then nobody cancelled us.
            current = asyncio.current_task()
            if current is not None and current.cancelling():
                raise
            raise FederatedError(
                ErrorCode.UNREACHABLE, f"the call to {self._endpoint} was cancelled"
            ) from None
        finally:
            call.cancel()

    def _failure(self, error: aio.AioRpcError) -> FederatedError:
        """A clear reason for a call that failed below our messages."""
        where, details = self._endpoint, error.details() or ""
        match error.code():
            case grpc.StatusCode.DEADLINE_EXCEEDED:
                return FederatedError(ErrorCode.TIMEOUT, f"{where} did not answer in time")
            case grpc.StatusCode.UNAVAILABLE:
                return self._same_mistake(_unavailable(where, details))
            case grpc.StatusCode.FAILED_PRECONDITION if details:
                return FederatedError(ErrorCode.UNREACHABLE, f"{where} cannot answer: {printable(details)}")
            case grpc.StatusCode.RESOURCE_EXHAUSTED:
                return rejected("a message is larger than messages may be")
            case grpc.StatusCode.CANCELLED:
                return FederatedError(ErrorCode.UNREACHABLE, f"the call to {where} was cancelled")
            case _:
                return FederatedError(ErrorCode.UNREACHABLE, f"{where} does not answer as a node does")

    def _same_mistake(self, failure: FederatedError) -> FederatedError:
        """The identity that was found wrong before, where a later attempt only says that it did not connect.

        gRPC tells of the last address that it tried. Where a name has two (localhost: ::1 and 127.0.0.1) and
        the node listens at one, that is now the node's wrong certificate, now the other address's refusal.
        """
        if failure.code is ErrorCode.IDENTITY:
            self._mistaken = failure
        if self._mistaken is None or not isinstance(failure, UnsentError):
            return failure
        stranger = isinstance(self._mistaken, StrangerError)
        kind = UnsentToStrangerError if stranger else UnsentError
        return kind(self._mistaken.code, self._mistaken.message)


# What gRPC says when it cannot connect, in the order in which to look for it, and what that means.
_CONNECTION_FAILURES: tuple[tuple[str, ErrorCode, str], ...] = (
    ("certificate has expired", ErrorCode.IDENTITY, "the certificate of {} has expired"),
    ("certificate is not yet valid", ErrorCode.IDENTITY, "the certificate of {} is not yet valid"),
    ("CERTIFICATE_VERIFY_FAILED", ErrorCode.IDENTITY, "the certificate of {} is not the pinned one"),
    ("Hostname Verification", ErrorCode.IDENTITY, "the pinned certificate is not for the host name of {}"),
    ("andshake failed", ErrorCode.IDENTITY, "the TLS handshake with {} failed"),
    ("Connection refused", ErrorCode.UNREACHABLE, "connection to {} refused"),
    ("DNS resolution failed", ErrorCode.UNREACHABLE, "the host name of {} is not known"),
    ("Socket closed", ErrorCode.UNREACHABLE, "{} closed the connection"),
    ("Connection reset", ErrorCode.UNREACHABLE, "{} closed the connection"),
)


_STRANGERS = ("CERTIFICATE_VERIFY_FAILED", "Hostname Verification")
_NEVER_CONNECTED = ("failed to connect to all addresses", "DNS resolution failed")


def _unavailable(where: str, details: str) -> FederatedError:
    kind = UnsentError if any(sign in details for sign in _NEVER_CONNECTED) else FederatedError
    for sign, code, message in _CONNECTION_FAILURES:
        if sign in details:
            closed = sign in ("Socket closed", "Connection reset")
            hint = (
                "The node may have stopped, or may not accept the coordinator's certificate."
                if closed
                else None
            )
            if sign in _STRANGERS:
                kind = UnsentToStrangerError if kind is UnsentError else StrangerError
            return kind(code, message.format(where), hint=hint)
    return kind(ErrorCode.UNREACHABLE, f"{where} cannot be reached")
