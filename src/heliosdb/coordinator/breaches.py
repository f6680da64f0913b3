"""Which failures are breaches of security, and how they are raised.

What always holds: what may be no more than a fault of a network, a clock, a setting or of training is none; a
breach is written in the transaction that records what happened, so that neither is there without the other.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from enum import StrEnum

from heliosdb.catalog import alerts, events
from heliosdb.catalog.connection import Connection
from heliosdb.catalog.rounds import Settlement
from heliosdb.domain.errors import ErrorCode, FederatedError, StrangerError
from heliosdb.domain.ids import Epoch, NodeName, WorkspaceName
from heliosdb.domain.update import OversizedUpdateError
from heliosdb.transport.messages import NodeRefusedError

log = logging.getLogger(__name__)


class Breach(StrEnum):
    """What happened; the values are the names that federated_alerts shows."""

    NODE_REFUSED = "node_refused"
    UPDATE_REJECTED = "update_rejected"
    COORDINATOR_REFUSED = "coordinator_refused"
    PRIVILEGE_REFUSED = "privilege_refused"
    AUDIT_BROKEN = "audit_broken"


def breach_of(error: FederatedError) -> Breach | None:
    """Say which breach a failed call to a node is; None for none.

    An update that is too long is training that diverges, and a certificate whose time is over is nobody
    else's.
    """
    if isinstance(error, NodeRefusedError):
        return Breach.COORDINATOR_REFUSED if error.reason is ErrorCode.IDENTITY else None
    if isinstance(error, StrangerError):
        return Breach.NODE_REFUSED
    if error.code is ErrorCode.UPDATE_REJECTED and not isinstance(error, OversizedUpdateError):
        return Breach.UPDATE_REJECTED
    return None


def raise_breach(
    connection: Connection,
    epoch: Epoch,
    workspace: WorkspaceName,
    breach: Breach,
    reason: str,
    *,
    node: NodeName | None = None,
    now: float | None = None,
) -> None:
    """Raise a breach, or count one more event of one that goes on; in a transaction of `lease.fenced`.

    workspace "": of none. now: seconds since the epoch; None: the database's clock.
    """
    firing = alerts.note_breach(connection, workspace, breach.value, reason, node=node, now=now)
    if firing is None:
        return
    log.warning("breach: %s workspace=%s node=%s firing=%s", breach.value, workspace, node, firing)
    details = {"breach": breach.value, "workspace": workspace, "node": node, "firing": str(firing)}
    events.record_event(connection, epoch, "breach.raised", details=details)


def raise_breaches(
    connection: Connection, epoch: Epoch, workspace: WorkspaceName, settlements: Iterable[Settlement]
) -> None:
    """Raise what breaches there are among the ways in which an exchange ended for its nodes."""
    for one in sorted(settlements, key=lambda one: one.node):
        if one.breach is not None:
            raise_breach(connection, epoch, workspace, Breach(one.breach), one.reason or "", node=one.node)
