"""Export at a node: what the shared datasets hold about a data subject goes, sealed, to who asked for it.

What always holds: only the rows of that subject leave, and only from datasets whose DBA allows it; that they
do is written down in the transaction of the answer, before it leaves. What the coordinator can read of an
answer (the statement, and how long what follows is) is the same whether or not anything is held.
"""

from __future__ import annotations

import psycopg

from heliosdb.catalog import node_exports as exports
from heliosdb.catalog.node_orders import hold_subject
from heliosdb.catalog.participant import SharedDataset, list_shared_datasets, lock_dataset
from heliosdb.domain.errors import ErrorCode, FederatedError, invalid_value
from heliosdb.domain.orders import DatasetOutcome, OrderOutcome
from heliosdb.domain.sealed_part import KEY_BYTES, seal_part
from heliosdb.domain.subject_export import HeldDataset, Holdings, too_much
from heliosdb.node.carrying import Carrying
from heliosdb.node.database import unreadable
from heliosdb.node.policy import refused

_EXPORTED, _REFUSED, _NOT_IDENTIFIABLE = "exported", "refused", "not identifiable"


def export(carrying: Carrying) -> OrderOutcome:
    """Hand over a subject's rows; FederatedError where the subject may be asked about another time."""
    recipient = _recipient(carrying)
    exports.forget_bodies(carrying.connection)
    datasets = _locked(carrying)
    actions = {dataset.name: _action(dataset) for dataset in datasets}
    allowed = [dataset for dataset in datasets if actions[dataset.name] == _EXPORTED]
    _check_limits(carrying, allowed)
    outcomes = [DatasetOutcome(d.name, d.relation, None, actions[d.name]) for d in datasets]
    if not allowed:
        return OrderOutcome(_outcome_of_nothing(set(actions.values())), outcomes)
    is_held = hold_subject(carrying.connection, carrying.order.subject)
    held = [_read(carrying, dataset, actions[dataset.name], is_held) for dataset in datasets]
    for dataset, one in zip(datasets, held, strict=True):
        if one.action == _EXPORTED:
            exports.insert_export(carrying.connection, carrying.order, dataset.name, recipient, one)
    return OrderOutcome(_EXPORTED, outcomes, body=_sealed(carrying, recipient, held))


def _recipient(carrying: Carrying) -> bytes:
    """The public key that the terms name; FederatedError INVALID_VALUE where they name none."""
    named = carrying.order.terms.get("recipient")
    try:
        recipient = bytes.fromhex(named) if isinstance(named, str) else b""
    except ValueError:
        recipient = b""
    if len(recipient) != KEY_BYTES:
        raise invalid_value("the export names no key to which it is to be sealed")
    return recipient


def _locked(carrying: Carrying) -> list[SharedDataset]:
    """The datasets as they are until the transaction ends: one that was paused, or whose DBA took the
    permission back, before this lets nothing out."""
    connection, workspace = carrying.connection, carrying.order.workspace
    for dataset in list_shared_datasets(connection, workspace):
        lock_dataset(connection, dataset)
    return list_shared_datasets(connection, workspace)


def _action(dataset: SharedDataset) -> str:
    if not dataset.exports:
        return _REFUSED
    if dataset.paused:
        return "paused"
    return _NOT_IDENTIFIABLE if dataset.subject is None else _EXPORTED


def _outcome_of_nothing(actions: set[str]) -> str:
    """One word for why nothing leaves: a node that may tell nothing does not say that it holds nothing."""
    if not actions:
        return "not held"
    return _NOT_IDENTIFIABLE if actions == {_NOT_IDENTIFIABLE} else _REFUSED


def _check_limits(carrying: Carrying, allowed: list[SharedDataset]) -> None:
    """FederatedError PROGRAM_LIMIT where a dataset's exports of the last 24 hours are used up."""
    for dataset in allowed:
        if exports.count_recent_exports(carrying.connection, dataset.name) >= dataset.exports_per_day:
            raise FederatedError(
                ErrorCode.PROGRAM_LIMIT,
                f'dataset "{dataset.name}" lets out no more than {dataset.exports_per_day} exports within'
                " 24 hours",
                hint="The node is asked again; its DBA can raise exports_per_day.",
            )


def _read(carrying: Carrying, dataset: SharedDataset, action: str, is_held: bool) -> HeldDataset:
    """What one dataset holds; nothing where it may not be told, or no row can have such a subject."""
    if action != _EXPORTED or not is_held:
        return HeldDataset(dataset.name, dataset.relation, action)
    try:
        columns, rows = exports.read_subject(carrying.connection, dataset.name)
    except psycopg.errors.ProgramLimitExceeded:
        raise _too_much() from None
    except psycopg.Error as error:
        raise unreadable(error, dataset.name) from None
    return HeldDataset(dataset.name, dataset.relation, action, columns, rows)


def _sealed(carrying: Carrying, recipient: bytes, held: list[HeldDataset]) -> bytes:
    order = carrying.order
    try:
        part = Holdings(order.subject, tuple(held)).to_bytes()
    except FederatedError:
        raise _too_much() from None
    return seal_part(recipient, part, order.order_id, order.node)


def _too_much() -> FederatedError:
    error = too_much()
    # For good: the next attempt would find as much.
    return refused(error.message, hint=error.hint)
