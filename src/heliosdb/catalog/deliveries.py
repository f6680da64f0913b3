"""Subscriptions in both databases: a participant's own, and the nodes' word about theirs at the coordinator.

What always holds: a participant's database decides by itself what it takes of what it is offered; what the
coordinator stores of it is what the node said, replaced whole.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import psycopg

from heliosdb.catalog.connection import Connection, Row, Statements
from heliosdb.catalog.nodes import NodeRecord
from heliosdb.domain.errors import invalid_value
from heliosdb.domain.ids import ModelName, NodeName, SubscriptionName, VersionKey, WorkspaceName
from heliosdb.domain.subscription import REASONS, Content, Contract, Offer, Outcome, Subscription

_SQL = Statements("deliveries.sql")

MOST_REASON_CHARACTERS = 500
PIECE_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Proof:
    """By what anybody can check later that the coordinator said it: the signed header, which holds the hash
    of the body, and of the certificate whose key signed it the SHA-256."""

    body_sha256: bytes
    header: bytes
    signature: bytes
    certificate_sha256: bytes


def list_subscriptions(connection: Connection, workspace: WorkspaceName) -> tuple[Subscription, ...]:
    """Return a participant's subscriptions to a workspace's models, in the order of their names' bytes, for
    its coordinator, which was heard thereby; none where its extension is of a release that knew none."""
    if not _SQL.query(connection, "has_subscriptions")[0]["has"]:
        return ()
    _SQL.query(connection, "note_contact", workspace)
    found = map(_subscription, _SQL.query(connection, "list_subscriptions", workspace))
    return tuple(sorted(found, key=lambda one: one.name.encode()))


def limit_waiting(connection: Connection) -> None:
    """Have the transaction fail, as one that may be tried again, rather than wait for long for a lock that a
    statement of the participant's DBA holds: other subscriptions wait behind it."""
    _SQL.query(connection, "limit_waiting")


def hear_offer(connection: Connection, offer: Offer) -> bool:
    """Record what the coordinator says; whether the version that it offers is to be taken.

    psycopg's ObjectNotInPrerequisiteState where there is no such subscription any more.
    """
    said = (offer.outcome.value, offer.version, offer.key, offer.reason[:MOST_REASON_CHARACTERS])
    named = (offer.subscription, offer.workspace, offer.model, offer.wanted)
    return bool(_SQL.query(connection, "hear_offer", *named, *said)[0]["takes"])


def take_version(
    connection: Connection, offer: Offer, content: Content, proof: Proof, personal_run: UUID | None = None
) -> str | None:
    """Make the version the participant's own; the obstacle where that is not possible, which is recorded.

    personal_run: of which the node's own part stands in the content; None: it is as it was delivered.
    """
    (row,) = _SQL.query(
        connection,
        "take_version",
        offer.subscription,
        offer.version,
        offer.key,
        list(content.features),
        _contract_json(content.contract),
        content.prediction.decode(),
        content.arrays or None,
        proof.body_sha256,
        proof.header,
        proof.signature,
        proof.certificate_sha256,
        personal_run,
    )
    return None if row["obstacle"] is None else str(row["obstacle"])


def withdraw_version(connection: Connection, offer: Offer) -> bool:
    """Have a version that was retired predict nothing here any more, and its numbers go; whether it did yet.

    psycopg's ObjectNotInPrerequisiteState where there is no such subscription any more.
    """
    named = (offer.subscription, offer.workspace, offer.model, offer.wanted)
    return bool(_SQL.query(connection, "withdraw_version", *named, offer.key)[0]["withdrawn"])


def refuse_version(connection: Connection, offer: Offer, failure: str) -> None:
    """Record why the version that is offered cannot be taken, so that it does not come again."""
    _SQL.query(connection, "refuse_version", offer.subscription, offer.key, failure[:MOST_REASON_CHARACTERS])


def record_subscriptions(connection: Connection, node: NodeRecord, said: Sequence[Subscription]) -> None:
    """Record at the coordinator what a node says of all its subscriptions to its workspace's models.

    FederatedError INVALID_VALUE where the catalog cannot store it, whose encoding may have fewer characters.
    """
    told = json.dumps([_subscription_json(one) for one in said])
    try:
        with connection.transaction():
            _SQL.query(connection, "record_subscriptions", node.id, node.options, told)
    except (psycopg.DataError, psycopg.IntegrityError) as error:
        raise invalid_value("what it says of its subscriptions cannot be stored in the catalog") from error


def record_subscription(connection: Connection, node: NodeRecord, said: Subscription) -> None:
    """Record what a node says of a subscription after a delivery that did not fail."""
    told = json.dumps(_subscription_json(said))
    _SQL.query(connection, "record_subscription", node.id, node.options, told)


def record_delivery_failure(
    connection: Connection, node: NodeRecord, subscription: SubscriptionName, failure: str
) -> None:
    """Record why the last delivery failed."""
    reason = failure[:MOST_REASON_CHARACTERS]
    _SQL.query(connection, "record_delivery_failure", node.id, subscription, reason)


@dataclass(frozen=True, slots=True)
class PendingDelivery:
    """An offer that a node has not heard, or whose version it would take. carries: the version goes along."""

    node_id: int
    offer: Offer
    carries: bool


def list_pending_deliveries(connection: Connection) -> list[PendingDelivery]:
    """Return what the nodes' own words say is to be delivered."""
    return [_pending(row) for row in _SQL.query(connection, "list_pending_deliveries")]


def measure_offered_version(connection: Connection, key: VersionKey) -> int:
    """Return about how many bytes a version has; 0 where it is gone."""
    rows = _SQL.query(connection, "offered_size", key)
    return int(rows[0]["size"]) if rows else 0


def read_offered_version(connection: Connection, key: VersionKey) -> Content | None:
    """Return what a version predicts by; None where it is gone."""
    rows = _SQL.query(connection, "offered_version", key)
    if not rows or rows[0]["prediction"] is None:
        return None
    row, named = rows[0], json.loads(rows[0]["contract"])
    columns = (named.get(role) for role in ("target", "event", "weights", "offset"))
    contract = Contract(named["algorithm"], *columns)
    arrays = _read_arrays(connection, key, row["size"])
    if len(arrays) != row["size"]:
        return None
    return Content.of(row["features"], contract, row["prediction"].encode(), arrays)


def _read_arrays(connection: Connection, key: VersionKey, size: int) -> bytes:
    """Read a version's arrays in pieces, of which a connection holds several copies."""
    parts = []
    for start in range(0, size, PIECE_BYTES):
        rows = _SQL.query(connection, "offered_arrays", key, start + 1, PIECE_BYTES)
        parts += [row["part"] for row in rows]
    return b"".join(parts)


def _subscription(row: Row) -> Subscription:
    heard = row["heard_outcome"]
    return Subscription(
        name=SubscriptionName(row["name"]),
        model=ModelName(row["model_name"]),
        wanted=row["wanted"],
        takes=row["takes"],
        held_version=row["held_version"],
        held_key=row["held_key"],
        heard_outcome=None if heard is None else Outcome(heard),
        heard_key=row["heard_key"],
        refused_key=row["refused_key"],
        kept_keys=tuple(map(VersionKey, row["kept_keys"])),
    )


def _subscription_json(said: Subscription) -> dict[str, Any]:
    return {
        "name": said.name,
        "model_name": said.model,
        "wanted": said.wanted,
        "takes": said.takes,
        "held_key": _text(said.held_key),
        "held_version": said.held_version,
        "heard_outcome": said.heard_outcome,
        "heard_key": _text(said.heard_key),
        "refused_key": _text(said.refused_key),
        "kept_keys": [str(key) for key in said.kept_keys],
    }


def _text(key: VersionKey | None) -> str | None:
    return None if key is None else str(key)


def _contract_json(contract: Contract) -> str:
    named = {
        "algorithm": contract.algorithm,
        "target": contract.target,
        "event": contract.event,
        "weights": contract.weights,
        "offset": contract.offset,
    }
    return json.dumps({name: value for name, value in named.items() if value is not None})


def _pending(row: Row) -> PendingDelivery:
    outcome = Outcome(row["outcome"])
    named = outcome in (Outcome.OFFERED, Outcome.RETIRED)
    offer = Offer(
        workspace=WorkspaceName(row["workspace"]),
        node=NodeName(row["node_name"]),
        subscription=SubscriptionName(row["name"]),
        model=ModelName(row["model_name"]),
        wanted=row["wanted"],
        outcome=outcome,
        reason=row["reason"] or REASONS[outcome],
        version=row["version"] if named else None,
        key=row["version_key"] if named else None,
    )
    return PendingDelivery(row["node_id"], offer, row["carries"])
