"""Which table a task asks for: what a dataset's options and the task together make of its rows.

What always holds: nothing here reads a row; two tasks of a run that ask for the same table give equal
requests.
"""

from __future__ import annotations

from dataclasses import replace

from heliosdb.algorithms.encoding import task_classes
from heliosdb.catalog.participant import SharedDataset
from heliosdb.domain.limits import Limits
from heliosdb.domain.task import Task
from heliosdb.node.admission import EVERYBODY, Admission
from heliosdb.node.datasets import TableRequest
from heliosdb.node.policy import asked_mechanism
from heliosdb.transport.messages import ReceivedTask


def make_table_request(
    task: Task,
    dataset: SharedDataset,
    key: bytes,
    base_tables: tuple[int, ...] = (),
    admission: Admission = EVERYBODY,
) -> TableRequest:
    """Return the request of a task that passed the node's policy. key: of `table_key`."""
    reading, plain = task.reading, asked_mechanism(task) is None
    columns = task.encoding.columns if task.encoding is not None else ()
    return TableRequest(
        run=task.key.run.hex,
        dataset_id=dataset.dataset_id,
        dataset=dataset.name,
        base_tables=base_tables,
        features=reading.features,
        target=reading.target,
        validation_split=reading.validation_split,
        subject=dataset.subject,
        known_by=dataset.known_by,
        key=key,
        plain=plain,
        min_rows=dataset.min_rows,
        max_parameter_share=dataset.max_parameter_share,
        classes=() if plain else task_classes(task),
        levels=() if plain else tuple(column.levels for column in columns),
        fold=reading.fold,
        roles=reading.roles,
        admission=admission,
        phi_check=dataset.phi_check != "off",
        has_consent_query=dataset.consent_query is not None,
        lets_withdraw=dataset.plain_withdrawals,
    )


def computing_limits(received: ReceivedTask) -> Limits:
    """Return what of the limits that are asked holds for a task's computation.

    Under a budget the memory is the node's own word alone: whether rows fit into it shows, so who could
    choose it anew with each task would find out how many there are.
    """
    if asked_mechanism(received.task) is None:
        return received.limits
    return replace(received.limits, max_memory_gb=None)
