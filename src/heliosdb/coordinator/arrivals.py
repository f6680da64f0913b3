"""Where nodes come to the coordinator by themselves, while it leads: lines that they dial, or Flower.

What always holds: whoever only stands by lets nobody in; a way that this coordinator has not is said to be
missing by the setting that makes it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from heliosdb.catalog.nodes import CommunicationProtocol
from heliosdb.coordinator.config import CoordinatorConfig
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.transport.identity import Identity
from heliosdb.transport.reception import DialledCarrier, Reception
from heliosdb.transport.relay import Relay
from heliosdb.transport.relay_carrier import RelayedCarrier

log = logging.getLogger(__name__)

_PEER = "the node"


@dataclass(frozen=True, slots=True)
class Arrivals:
    """reception: where nodes dial in; relay: what brings their messages over Flower; None: nowhere."""

    reception: Reception | None = None
    relay: Relay | None = None

    @classmethod
    async def open(cls, config: CoordinatorConfig, identity: Callable[[], Identity]) -> Arrivals:
        """Let nodes in where the settings say; FederatedError WRONG_STATE or INVALID_VALUE says why not."""
        reception, relay = None, None
        if config.listen_port is not None:
            reception = Reception(identity)
            await reception.listen(config.listen_host, config.listen_port)
            log.info("nodes dial in at %s port %d", config.listen_host, config.listen_port)
        if config.flower_socket is not None:
            relay = Relay(identity)
            try:
                await relay.listen(config.flower_socket)
            except FederatedError:
                await cls(reception).close()
                raise
            log.info("Flower's ServerApp connects at %s", config.flower_socket)
        return cls(reception, relay)

    async def close(self) -> None:
        """Let nobody in any more; calls under way fail."""
        if self.reception is not None:
            await self.reception.close()
        if self.relay is not None:
            await self.relay.close()

    def carrier(
        self, protocol: CommunicationProtocol, pins: Sequence[bytes]
    ) -> DialledCarrier | RelayedCarrier:
        """What brings calls to a node with these certificates (PEM); FederatedError WRONG_STATE."""
        if protocol is CommunicationProtocol.FLOWER:
            if self.relay is None:
                raise _deaf(
                    "are reached over Flower, and the coordinator has no socket for it", "flower_socket"
                )
            return RelayedCarrier(self.relay, pins, _PEER)
        if self.reception is None:
            raise _deaf("dial the coordinator, and the coordinator does not listen", "listen_port")
        return self.reception.carrier(pins, _PEER)


def _deaf(what: str, setting: str) -> FederatedError:
    hint = f"Set {setting} in the coordinator's settings."
    return FederatedError(ErrorCode.WRONG_STATE, f"nodes of its workspace {what}", hint=hint)
