"""What a node's performer does with subscriptions and audit logs where a test is not about them."""

from __future__ import annotations

from collections.abc import Sequence

from heliosdb.domain.ids import WorkspaceName
from heliosdb.domain.subscription import Subscription
from heliosdb.domain.tree_head import WitnessAnswer, WitnessRequest
from heliosdb.transport.delivery_messages import DeliveryHeader, ReceivedDelivery


class Unsubscribed:
    """A performer without subscriptions, to which nothing is ever delivered, and no witness."""

    async def subscribed(self, workspace: WorkspaceName) -> Sequence[Subscription]:
        """To none."""
        del workspace
        return ()

    async def expect(self, header: DeliveryHeader) -> None:
        """Nothing is expected."""
        raise AssertionError(header)

    async def deliver(self, received: ReceivedDelivery) -> Subscription:
        """Nothing is expected."""
        raise AssertionError(received)

    async def witness(self, request: WitnessRequest) -> WitnessAnswer:
        """No head is cosigned, and none was."""
        del request
        return WitnessAnswer(None, None, ())
