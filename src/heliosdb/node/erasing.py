"""Erasure at a node: the data subject's rows are in no answer from now on, and deleted where the DBA says so.

What always holds: rows are counted and deleted, and their subject is withdrawn, in the transaction of the
answer; whatever else fails, the subject is withdrawn. What is imported again later is left out too, in
datasets that are shared later as well. The rows that are told of are those that answers could be about until
now, and a subject that is erased twice has none the second time.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import psycopg

from heliosdb.catalog import node_orders as catalog
from heliosdb.catalog.connection import Connection
from heliosdb.catalog.failures import condition
from heliosdb.catalog.participant import SharedDataset, list_shared_datasets
from heliosdb.catalog.personal import destroy_personal
from heliosdb.domain.ids import DatasetName
from heliosdb.domain.orders import DatasetOutcome, OrderOutcome
from heliosdb.node.admission import subject_digests
from heliosdb.node.carrying import Carrying

log = logging.getLogger(__name__)

_DEEDS = ("erased", "suppressed")
"""What can be done to rows, the most first."""
_NOT_HELD = "not held"
_NOT_IDENTIFIABLE = "not identifiable"

_Counted = int | str
"""So many rows, or why they could not be counted."""


def erase(carrying: Carrying) -> OrderOutcome:
    """Leave a subject out of all answers to the workspace, and say how many rows that are."""
    connection, order = carrying.connection, carrying.order
    datasets = list_shared_datasets(connection, order.workspace)
    if not catalog.hold_subject(connection, order.subject):
        return _summary([_outcome(dataset, 0) for dataset in datasets])
    codes = catalog.list_subject_codes(connection, order.workspace)
    subject = subject_digests(codes, carrying.key)
    # Whose rows no answer is about any more has none here but those that are still to be deleted.
    gone = catalog.is_withdrawn(connection, order, subject, "erased")
    # All first: what one dataset deletes another one over the same table has held too.
    counted = [0 if gone and not one.deletes else _count(connection, one) for one in datasets]
    outcomes = [
        _erase_from(connection, dataset, rows) for dataset, rows in zip(datasets, counted, strict=True)
    ]
    if any(counted):
        # A node's own part of a model may have learned from any of its rows; so may what predicts with it.
        destroyed = destroy_personal(connection, order.workspace)
        log.info("own parts of models destroyed: workspace=%s parts=%d", order.workspace, destroyed)
    # Last: answers wait for the lock that this takes.
    catalog.withdraw(connection, order, subject, "erased")
    return _summary(outcomes)


def _count(connection: Connection, dataset: SharedDataset) -> _Counted:
    if dataset.subject is None:
        return 0
    return _try(connection, dataset.name, lambda: catalog.count_subject_rows(connection, dataset.name))


def _erase_from(connection: Connection, dataset: SharedDataset, rows: _Counted) -> DatasetOutcome:
    """Delete where that is to be; rows that stay all the same are suppressed, and it is said why."""
    if not dataset.deletes or not rows or dataset.subject is None:
        return _outcome(dataset, rows)
    deleted = _try(connection, dataset.name, lambda: catalog.erase_subject_rows(connection, dataset.name))
    left = _count(connection, dataset)
    if not left and not isinstance(deleted, str):
        return DatasetOutcome(dataset.name, dataset.relation, _number(rows), "erased")
    failure = deleted if isinstance(deleted, str) else "rows are left after they were deleted"
    return _outcome(dataset, rows, failure)


def _outcome(dataset: SharedDataset, rows: _Counted, failure: str | None = None) -> DatasetOutcome:
    if dataset.subject is None:
        return DatasetOutcome(dataset.name, dataset.relation, None, _NOT_IDENTIFIABLE)
    action = "suppressed" if rows else _NOT_HELD
    failure = failure or (rows if isinstance(rows, str) else None)
    return DatasetOutcome(dataset.name, dataset.relation, _number(rows), action, failure)


def _number(rows: _Counted) -> int | None:
    return None if isinstance(rows, str) else rows


def _try(connection: Connection, dataset: DatasetName, deed: Callable[[], int]) -> _Counted:
    """Do something to rows, or say by its condition what stands against it; what may pass is raised."""
    try:
        with connection.transaction():
            return deed()
    except psycopg.errors.ObjectNotInPrerequisiteState as error:
        found = condition(error.sqlstate)
    except (psycopg.OperationalError, psycopg.InterfaceError):
        raise
    except psycopg.Error as error:
        found = condition(error.sqlstate)
    log.warning("an order does less than it should: dataset=%s: %s", dataset, found)
    return found


def _summary(datasets: list[DatasetOutcome]) -> OrderOutcome:
    """One word for all: the most that was done anywhere."""
    actions = {one.action for one in datasets}
    none_known = _NOT_IDENTIFIABLE if actions == {_NOT_IDENTIFIABLE} else _NOT_HELD
    return OrderOutcome(next((word for word in _DEEDS if word in actions), none_known), datasets)
