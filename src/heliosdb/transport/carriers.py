"""How a call travels to a node: what asks and what answers know nothing of who dialled whom.

What always holds: a call is a stream of messages each way, and one that has a single message is a stream of
one; a call that a carrier could not bring through ends in a FederatedError that says why, as `UnsentError`
where nothing of it can have reached the node, and only there.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from enum import StrEnum
from typing import Protocol, runtime_checkable

from heliosdb.domain.errors import FederatedError, StrangerError

Metadata = Sequence[tuple[str, str | bytes]]
"""What travels beside a call's messages."""


class Method(StrEnum):
    """What a node can be asked; the values are the names in federation.proto."""

    GREET = "Greet"
    HEARTBEAT = "Heartbeat"
    FORGET = "Forget"
    PERFORM = "Perform"
    DELIVER = "Deliver"
    CARRY = "Carry"
    WITNESS = "Witness"
    GATHER = "Gather"


class UnsentError(FederatedError):
    """No connection was made: not a byte of the call has left."""


class UnsentToStrangerError(UnsentError, StrangerError):
    """No connection was made, for the peer is not the one that is pinned."""


class CannotAnswerError(Exception):
    """The node cannot answer a call for which its protocol has no refusal; the text is public."""


def read_method(name: str) -> Method:
    """What a node is asked; raises CannotAnswerError for what it does not know."""
    try:
        return Method(name)
    except ValueError:
        raise CannotAnswerError("the node does not know what it is asked") from None


class Carrier(Protocol):
    """Brings calls to one node."""

    def call(
        self,
        method: Method,
        messages: AsyncIterator[bytes],
        *,
        timeout: float,
        traceparent: str | None = None,
    ) -> AsyncGenerator[bytes]:
        """Send `messages`, and give the node's answers as they come, no faster than they are taken.

        The carrier asks for another message once it has taken the one before, and so after the last one too.
        timeout: seconds for the whole call. traceparent: of the span that the node goes on under. Closing
        the generator ends the call. Raises FederatedError.
        """
        ...

    async def close(self) -> None:
        """Carry no more; calls under way fail."""
        ...


@runtime_checkable
class Awaiting(Protocol):
    """A carrier to a node that comes by itself."""

    async def arrival(self, seconds: float) -> None:
        """Wait until the node is there, at most `seconds`."""
        ...


class Answering(Protocol):
    """What a node does with a call, whichever way it came."""

    def answer(
        self, method: Method, messages: AsyncIterator[bytes], metadata: Metadata
    ) -> AsyncGenerator[bytes]:
        """Give the answers, the next once the one before was taken; CannotAnswerError where there is none."""
        ...
