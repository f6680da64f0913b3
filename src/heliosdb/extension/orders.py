"""How a statement about data subjects becomes orders to the nodes.

What always holds: an identifier is sealed here, in the caller's backend, and is in no statement that runs, no
row and no message; orders are placed with the statement's transaction or not at all.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from federated_sql.errors import ErrorCode, FederatedError
from heliosdb.catalog import commands as catalog
from heliosdb.catalog import orders
from heliosdb.domain.ids import OrderId
from heliosdb.domain.orders import MAX_SUBJECT_BYTES, OrderKind
from heliosdb.domain.sealed_box import Sealer
from heliosdb.extension.session import Session


def place_orders(
    session: Session,
    kind: OrderKind,
    workspace: str,
    subjects: Sequence[str],
    terms: Mapping[str, Any],
    *,
    model: str | None = None,
) -> UUID:
    """Ask every node of a workspace about each subject; returns the batch's id.

    FederatedError PROGRAM_LIMIT where a subject is longer than 1,024 bytes, WRONG_STATE where no coordinator
    has served this database yet.
    """
    _check_lengths(subjects)
    key = orders.read_sealing_key(session.connection)
    if key is None:
        raise FederatedError(
            ErrorCode.WRONG_STATE,
            "no coordinator has served this database yet: there is nobody who could ask the nodes",
            hint="Start the coordinator (heliosdb coordinator), and name the data subjects then: they are"
            " sealed to its key.",
        )
    sealer, sealed = Sealer(key), {}
    for subject in subjects:
        order_id = OrderId(uuid.uuid4())
        about = orders.bound_to(order_id, kind, workspace)
        sealed[order_id] = sealer.seal(subject.encode(), about=about)
    batch_id = uuid.uuid4()
    orders.insert_orders(
        session.connection, orders.NewOrders(batch_id, kind, workspace, model, terms, sealed)
    )
    catalog.notify_coordinator(session.connection)
    return batch_id


def _check_lengths(subjects: Sequence[str]) -> None:
    for place, subject in enumerate(subjects, start=1):
        if not 0 < len(subject.encode()) <= MAX_SUBJECT_BYTES:
            # By its place: an error's text ends up in logs.
            raise FederatedError(
                ErrorCode.PROGRAM_LIMIT,
                f"data subject {place} of the statement is not named by 1 to {MAX_SUBJECT_BYTES} bytes",
            )
