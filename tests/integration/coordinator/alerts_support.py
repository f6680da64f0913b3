"""A coordinator's alerts with a clock and targets that a test moves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from heliosdb.coordinator import mail
from heliosdb.coordinator.alerts import Alerts
from heliosdb.coordinator.config import CoordinatorConfig, MailServer
from heliosdb.coordinator.session import CatalogSession
from heliosdb.coordinator.webhooks import Call, Webhooks
from heliosdb.domain.errors import FederatedError
from heliosdb.domain.ids import Epoch

NOW = 1_790_000_000.0


@dataclass
class Hand:
    """A clock that a test moves."""

    now: float = NOW

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now


@dataclass
class Desk:
    """The alerts of a term whose targets are the test's own; failures: what the next attempts raise."""

    alerts: Alerts
    session: CatalogSession
    clock: Hand
    told: list[str]
    failures: list[FederatedError]

    async def look(self, after: float = 0.0) -> None:
        self.clock.now += after
        await self.alerts.look_around(self.session)
        await self.alerts.settled()


class _Hooks(Webhooks):
    def __init__(self, told: list[str], failures: list[FederatedError]) -> None:
        self._told, self._failures = told, failures

    async def post(self, target: Any, call: Call) -> None:
        """Note the call, or fail."""
        self._told.append(call.key)
        if self._failures:
            raise self._failures.pop(0)


async def desk(config: CoordinatorConfig, epoch: Epoch, session: CatalogSession, **changed: Any) -> Desk:
    told: list[str] = []
    failures: list[FederatedError] = []
    clock = Hand()

    def send(_server: MailServer, sent: mail.Mail) -> None:
        told.append(sent.recipient)
        if failures:
            raise failures.pop(0)

    hooks = cast("Webhooks", changed.get("webhooks", _Hooks(told, failures)))
    return Desk(
        Alerts(config, epoch, clock=clock, webhooks=hooks, send_mail=send), session, clock, told, failures
    )
