"""Watches alerts, verifies audit logs, counts refused statements, and has firings delivered.

What always holds: an alert's standing and its firing are committed together before anybody is told, and an
attempt is counted before it is made; so a coordinator that is killed, or another one that takes over, neither
loses a firing nor fires twice. A target may be told twice of one firing, where the coordinator ended between
telling it and recording that: the firing's id is the same. A channel is told once, with the record.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from uuid import UUID

from federated_sql.notify_targets import ChannelTarget, MailTarget, Target, WebTarget, read_target
from heliosdb import faults
from heliosdb.catalog import alerts
from heliosdb.catalog.alerts import Firing, Notifier, Watched
from heliosdb.catalog.lease import fenced
from heliosdb.catalog.psycopg_connection import PsycopgConnection
from heliosdb.coordinator import mail, notices
from heliosdb.coordinator.breaches import Breach, raise_breach
from heliosdb.coordinator.config import AlertSettings, CoordinatorConfig, MailServer
from heliosdb.coordinator.dispatcher import CATALOG_GONE
from heliosdb.coordinator.session import CatalogSession
from heliosdb.coordinator.webhooks import Call, Webhooks
from heliosdb.domain.alerts import hold, judge
from heliosdb.domain.clock import Clock, SystemClock
from heliosdb.domain.errors import ErrorCode, FederatedError, place_of
from heliosdb.domain.ids import Epoch, WorkspaceName
from heliosdb.domain.wording import counted
from heliosdb.observing import observed

log = logging.getLogger(__name__)

_FIRST_RETRY, _LONGEST_RETRY = 10.0, 3_600.0
_LEASE = 120.0
"""Seconds after which an attempt that nobody recorded the end of is made again."""
_AT_ONCE = 8

SendMail = Callable[[MailServer, mail.Mail], None]


class Alerts:
    """The alerts of a term. clock: also of what is recorded; webhooks, send_mail: for tests."""

    def __init__(
        self,
        config: CoordinatorConfig,
        epoch: Epoch,
        *,
        clock: Clock | None = None,
        webhooks: Webhooks | None = None,
        send_mail: SendMail = mail.send,
    ) -> None:
        self._settings = config.alerts
        self._conninfo = config.database.get_secret_value()
        self._epoch = epoch
        self._clock = clock or SystemClock()
        self._webhooks = webhooks or _webhooks(config.alerts)
        self._send_mail = send_mail
        self._attempts: dict[UUID, asyncio.Task[None]] = {}
        self._failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        """Look around at every period; raises what ends the term."""
        async with CatalogSession(self._conninfo, "alerts") as session:
            try:
                await session.call(self._publish)
                while True:
                    await self._look_around(session)
                    await asyncio.wait({self._failure}, timeout=self._settings.period)
                    if self._failure.done():
                        self._failure.result()
            finally:
                await self.close()

    async def _look_around(self, session: CatalogSession) -> None:
        """What is wrong with one alert, or with a log, must not end the term, which is every run's."""
        try:
            await self.look_around(session)
        except Exception as error:
            if _ends_the_term(error):
                raise
            log.error("looking at the alerts failed: %s", place_of(error))

    async def look_around(self, session: CatalogSession) -> None:
        """Evaluate all alerts once, verify a log that is due, and begin what is to be delivered."""
        now = self._clock.time()
        await session.call(evaluate, Look(self._epoch, now, self._settings.rearm))
        await session.call(see_refusals, self._epoch, now)
        await session.call(verify_audit, self._epoch, now, self._settings.audit_interval)
        room = _AT_ONCE - len(self._attempts)
        if room <= 0:
            return
        # Those on their way are not due: their next attempt lies ahead.
        for firing in await session.call(alerts.list_due, now, room):
            if firing.firing_id not in self._attempts:
                self._begin(session, firing)

    async def settled(self) -> None:
        """Wait for the attempts that were begun."""
        if self._attempts:
            await asyncio.wait(list(self._attempts.values()))

    async def close(self) -> None:
        """Leave every attempt where it is."""
        tasks = list(self._attempts.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _publish(self, connection: PsycopgConnection) -> None:
        settings = self._settings
        told = Notifier(settings.smtp is not None, self._webhooks is not None, settings.allowed_hosts)
        with fenced(connection, self._epoch):
            alerts.publish_notifier(connection, told)

    def _begin(self, session: CatalogSession, firing: Firing) -> None:
        task = asyncio.create_task(self._attempt(session, firing), name=f"firing {firing.firing_id}")
        self._attempts[firing.firing_id] = task
        task.add_done_callback(lambda ended: self._end(firing.firing_id, ended))

    def _end(self, firing_id: UUID, task: asyncio.Task[None]) -> None:
        self._attempts.pop(firing_id, None)
        error = None if task.cancelled() else task.exception()
        if error is None:
            return
        if not _ends_the_term(error):
            log.error("recording an attempt failed: %s", place_of(error))
        elif not self._failure.done():
            self._failure.set_exception(error)

    async def _attempt(self, session: CatalogSession, firing: Firing) -> None:
        try:
            target = read_target(firing.target)
        except FederatedError as error:
            await session.call(self._give_up, firing, error)
            return
        if isinstance(target, ChannelTarget):
            await session.call(self._notify, firing, target)
            observed.notification_ended(delivered=True)
            return
        if not await session.call(self._count, firing):
            return
        try:
            await self._tell(target, firing)
        except FederatedError as error:
            log.warning(
                "not delivered: firing=%s target=%s %s", firing.firing_id, target.shown, error.message
            )
            await session.call(self._record_failure, firing, error)
            observed.notification_ended(delivered=False)
            return
        except CATALOG_GONE:
            raise
        except Exception as error:  # noqa: BLE001 -- whatever one target causes must not end the term
            log.error("telling a target failed inside the coordinator: %s", place_of(error))
            failure = FederatedError(
                ErrorCode.INTERNAL, "it failed inside the coordinator; its log says more"
            )
            await session.call(self._record_failure, firing, failure)
            observed.notification_ended(delivered=False)
            return
        faults.reach("coordinator.alert.sent")
        await session.call(self._record_delivered, firing)
        observed.notification_ended(delivered=True)
        log.info("delivered: firing=%s target=%s", firing.firing_id, target.shown)

    async def _tell(self, target: Target, firing: Firing) -> None:
        match target:
            case MailTarget(address):
                await self._mail(address, firing)
            case WebTarget():
                if self._webhooks is None:
                    raise _no_setting("has no secret to sign calls with (setting alerts.webhook_secret)")
                call = Call(str(firing.firing_id), notices.to_json(firing).encode(), self._clock.time())
                await self._webhooks.post(target, call)

    async def _mail(self, address: str, firing: Firing) -> None:
        server = self._settings.smtp
        if server is None:
            raise _no_setting("has no mail server (setting alerts.smtp)")
        text, subject = notices.to_text(firing), notices.to_subject(firing)
        told = mail.Mail(address, subject, text, str(firing.firing_id), firing.fired_at)
        await asyncio.to_thread(self._send_mail, server, told)

    def _notify(self, connection: PsycopgConnection, firing: Firing, target: ChannelTarget) -> None:
        """In one transaction: who listens is told at COMMIT, once."""
        now = self._clock.time()
        with fenced(connection, self._epoch):
            if alerts.begin_attempt(connection, firing, now):
                alerts.notify_channel(connection, target.channel, notices.to_json(firing))
                alerts.record_delivered(connection, firing, now)

    def _count(self, connection: PsycopgConnection, firing: Firing) -> bool:
        with fenced(connection, self._epoch):
            return alerts.begin_attempt(connection, firing, self._clock.time() + _LEASE)

    def _record_delivered(self, connection: PsycopgConnection, firing: Firing) -> None:
        with fenced(connection, self._epoch):
            alerts.record_delivered(connection, firing, self._clock.time())

    def _give_up(self, connection: PsycopgConnection, firing: Firing, error: FederatedError) -> None:
        with fenced(connection, self._epoch):
            alerts.record_failure(connection, firing, error.message, None)

    def _record_failure(self, connection: PsycopgConnection, firing: Firing, error: FederatedError) -> None:
        now = self._clock.time()
        pause = min(_FIRST_RETRY * 2.0 ** min(firing.attempts, 20), _LONGEST_RETRY)
        ends = (
            isinstance(error, mail.FinalRefusalError)
            or now + pause > firing.fired_at + self._settings.give_up
        )
        retry_at = None if ends else now + pause
        with fenced(connection, self._epoch):
            alerts.record_failure(connection, firing, error.message, retry_at)


def _ends_the_term(error: BaseException) -> bool:
    return isinstance(error, CATALOG_GONE) or (
        isinstance(error, FederatedError) and error.code is ErrorCode.FENCED
    )


def _webhooks(settings: AlertSettings) -> Webhooks | None:
    if settings.webhook_secret is None:
        return None
    secret = settings.webhook_secret.get_secret_value().encode()
    return Webhooks(secret, settings.webhook_ca_bundle, settings.allowed_hosts)


def _no_setting(what: str) -> FederatedError:
    return FederatedError(ErrorCode.WRONG_STATE, f"the coordinator {what}")


@dataclass(frozen=True, slots=True)
class Look:
    """One look around: by whom, when (seconds since the epoch), and after how many calm seconds an alert is
    armed again."""

    epoch: Epoch
    now: float
    rearm: float


def evaluate(connection: PsycopgConnection, look: Look) -> None:
    """Evaluate every alert once: one query, and where there are alerts one more a workspace."""
    by_workspace: defaultdict[str, list[Watched]] = defaultdict(list)
    for alert in alerts.list_watched(connection):
        by_workspace[alert.workspace].append(alert)
    for workspace, watched in by_workspace.items():
        metrics = {condition.metric for alert in watched for condition in alert.conditions}
        values = alerts.read_metrics(connection, workspace, metrics)
        for alert in watched:
            _judge(connection, look, alert, values)


def _judge(
    connection: PsycopgConnection, look: Look, alert: Watched, values: Mapping[str, float | None]
) -> None:
    holds = hold(alert.conditions, values)
    judgement = judge(alert.standing, holds=holds, now=look.now, rearm=look.rearm)
    if judgement.standing == alert.standing and not judgement.fires:
        return
    with fenced(connection, look.epoch):
        alerts.set_standing(connection, alert, judgement.standing)
        if judgement.fires:
            observed = {one.metric: values.get(one.metric) for one in alert.conditions}
            firing = alerts.fire(connection, alert, observed, look.now)
            log.info("alert: workspace=%s alert=%s firing=%s", alert.workspace, alert.name, firing)
    if judgement.fires:
        faults.reach("coordinator.alert.fired")


def see_refusals(connection: PsycopgConnection, epoch: Epoch, now: float) -> None:
    """Raise a breach where statements were refused for want of a privilege: in each workspace that names whom
    to notify, for which of them they were about is not known any more; where none does, in no workspace."""
    refused, seen = alerts.count_privilege_refusals(connection)
    if refused == seen:
        return
    with fenced(connection, epoch):
        if refused > seen:
            told = counted(refused - seen, "statement")
            reason = f"{told} refused; the server's log says what they were, and whose"
            for name in alerts.list_breach_workspaces(connection) or [""]:
                workspace = WorkspaceName(name)
                raise_breach(connection, epoch, workspace, Breach.PRIVILEGE_REFUSED, reason, now=now)
        # Fewer than were seen: the sequence is of a restored dump.
        alerts.set_refusals_seen(connection, refused)


def verify_audit(connection: PsycopgConnection, epoch: Epoch, now: float, interval: float) -> None:
    """Verify the audit log of one workspace whose turn it is; one that does not hold is a breach."""
    found = alerts.find_unchecked(connection, now - interval)
    if found is None:
        return
    workspace_id, name = found
    # Not in the fenced transaction: a long log takes its time, and a new leader would wait for it.
    is_intact, reason = alerts.read_audit_state(connection, name)
    with fenced(connection, epoch):
        alerts.record_audit_check(connection, workspace_id, now, is_intact=is_intact, reason=reason)
        if not is_intact:
            workspace = WorkspaceName(name)
            raise_breach(
                connection, epoch, workspace, Breach.AUDIT_BROKEN, reason or "it does not hold", now=now
            )
