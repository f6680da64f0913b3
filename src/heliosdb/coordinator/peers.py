"""What the registrar knows of one registered node: its row, the link to it, and what was recorded of it.

What always holds: nothing here dials or writes; what is stored is what the catalog has, as far as this term
knows, and decides alone whether a node is left alone, so that it does not matter which coordinator lost it.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field

from heliosdb.catalog.nodes import NodeRecord, NodeStatus
from heliosdb.coordinator.links import Link
from heliosdb.domain.handshake import Introduction
from heliosdb.transport.subscription_messages import subscriptions_sha256


@dataclass(frozen=True, slots=True)
class Stored:
    """What the catalog has of a node, as far as this term knows."""

    status: NodeStatus = NodeStatus.PENDING
    certificate: str | None = None
    endpoint: str | None = None


@dataclass(slots=True)
class Peer:
    """asked: set where its workspace changed how nodes are held on to. renewing: while the same node is met
    with other pins, and its row says that it is pending."""

    record: NodeRecord
    link: Link
    keeper: asyncio.Task[None] | None = None
    introduction: Introduction | None = None
    reason: str = "not met yet"
    tried: bool = False
    stored: Stored = Stored()
    recorded: NodeStatus = NodeStatus.PENDING
    recorded_at: float = 0.0
    heard: bool = False
    renewing: bool = False
    asked: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def present(self) -> bool:
        """Whether it was met and answers."""
        return (
            self.recorded is NodeStatus.ACTIVE
            and self.link.client is not None
            and self.introduction is not None
        )

    @property
    def is_held_once(self) -> bool:
        """Whether it was met, and is not to be dialled again by itself when it is lost."""
        return not self.record.link.auto_reconnect and self.stored.certificate is not None

    @property
    def is_left_alone(self) -> bool:
        """Whether it was lost and is not dialled: until its row changes, or what its workspace says."""
        return self.is_held_once and self.stored.status is NodeStatus.FAILED

    def is_known(self, digest: bytes) -> bool:
        """Whether a node's digest is of the subscriptions that it is known to have."""
        known = () if self.introduction is None else self.introduction.subscriptions
        return digest == subscriptions_sha256(known)

    def is_altered(self, record: NodeRecord, as_of: float) -> bool:
        """Whether the row, read at `as_of` (the loop's time) or after, was changed by a statement since."""
        if (record.options, record.residency) != (self.record.options, self.record.residency):
            return True
        forgotten = record.status is NodeStatus.PENDING and self.recorded is not NodeStatus.PENDING
        return forgotten and not self.renewing and as_of > self.recorded_at

    async def await_asked(self, seconds: float | None) -> None:
        """Wait until the workspace says anew how its nodes are held on to, at most so many seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.asked.wait()
        self.asked.clear()
