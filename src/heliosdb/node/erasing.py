"""Erasure at a node: the data subject's rows are in no answer from now on.

What always holds: rows are counted, and their subject is withdrawn, in the transaction of the answer; what is
imported again later is left out too, in datasets that are shared later as well.
"""

from __future__ import annotations

from heliosdb.catalog import node_orders as catalog
from heliosdb.catalog.participant import SharedDataset, list_shared_datasets
from heliosdb.domain.orders import DatasetOutcome, OrderOutcome
from heliosdb.node.admission import subject_digests
from heliosdb.node.carrying import Carrying

_DEEDS = ("erased", "suppressed")
"""What can be done to rows, the most first."""
_NOT_HELD = "not held"
_NOT_IDENTIFIABLE = "not identifiable"


def erase(carrying: Carrying) -> OrderOutcome:
    """Leave a subject out of all answers to the workspace, and say how many rows that are."""
    connection, order = carrying.connection, carrying.order
    datasets = list_shared_datasets(connection, order.workspace)
    if not catalog.hold_subject(connection, order.subject):
        return _summary([_nothing(dataset) for dataset in datasets])
    codes = catalog.list_subject_codes(connection, order.workspace)
    catalog.withdraw(connection, order, subject_digests(codes, carrying.key), "erased")
    return _summary([_erase_from(carrying, dataset) for dataset in datasets])


def _erase_from(carrying: Carrying, dataset: SharedDataset) -> DatasetOutcome:
    if dataset.subject is None:
        return _nothing(dataset)
    rows = catalog.count_subject_rows(carrying.connection, dataset.name)
    return DatasetOutcome(dataset.name, dataset.relation, rows, "suppressed" if rows else _NOT_HELD)


def _nothing(dataset: SharedDataset) -> DatasetOutcome:
    if dataset.subject is None:
        return DatasetOutcome(dataset.name, dataset.relation, None, _NOT_IDENTIFIABLE)
    return DatasetOutcome(dataset.name, dataset.relation, 0, _NOT_HELD)


def _summary(datasets: list[DatasetOutcome]) -> OrderOutcome:
    """One word for all: the most that was done anywhere."""
    actions = {one.action for one in datasets}
    none_known = _NOT_IDENTIFIABLE if actions == {_NOT_IDENTIFIABLE} else _NOT_HELD
    return OrderOutcome(next((word for word in _DEEDS if word in actions), none_known), datasets)
