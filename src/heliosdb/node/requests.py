"""Which dataset and table a task asks for: what a dataset's options and the task together make of its rows.

What always holds: nothing here reads a row; two tasks of a run that ask for the same table give equal
requests.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from heliosdb.algorithms.encoding import task_classes
from heliosdb.algorithms.steps import reads_columns
from heliosdb.catalog.participant import SharedDataset
from heliosdb.domain.datasets import choose_dataset as among
from heliosdb.domain.datasets import lacking
from heliosdb.domain.disclosure_rules import NO_FLOORS
from heliosdb.domain.encoding import ColumnEncoding, ColumnKind
from heliosdb.domain.errors import ErrorCode, FederatedError, not_supported
from heliosdb.domain.limits import Limits
from heliosdb.domain.task import Reading, Task
from heliosdb.node.admission import EVERYBODY, Admission
from heliosdb.node.datasets import TableRequest
from heliosdb.node.policy import asked_mechanism, find_step
from heliosdb.transport.messages import ReceivedTask


def choose_dataset(shared: Sequence[SharedDataset], reading: Reading, workspace: str) -> SharedDataset:
    """Return the dataset that a task is about; FederatedError UNDEFINED_OBJECT or UNDEFINED_COLUMN for none.

    Paused ones count as any other: a pause does not send a run to another dataset's rows.
    """
    wanted = reading.columns
    if len(set(wanted)) != len(wanted):
        raise not_supported("a column is named twice among features and target")
    by_name = {dataset.name: dataset for dataset in shared}
    choice = among((dataset.description for dataset in shared), wanted, reading.dataset)
    if choice.chosen is not None:
        return by_name[choice.chosen.name]
    if reading.dataset is not None and not choice.considered:
        raise FederatedError(
            ErrorCode.UNDEFINED_OBJECT,
            f'no dataset "{reading.dataset}" is shared with workspace "{workspace}"',
        )
    if choice.whole:
        raise FederatedError(
            ErrorCode.UNDEFINED_OBJECT,
            "several shared datasets have all the columns",
            hint=f"Name one with the model's option dataset: {_quoted([d.name for d in choice.whole])}.",
        )
    if len(choice.considered) == 1:
        (only,) = choice.considered
        raise FederatedError(
            ErrorCode.UNDEFINED_COLUMN, f'dataset "{only.name}" has no column "{lacking(only, wanted)[0]}"'
        )
    raise FederatedError(
        ErrorCode.UNDEFINED_OBJECT,
        f'no dataset with the columns {_quoted(wanted)} is shared with workspace "{workspace}"',
        hint="Share one on the node with CREATE FEDERATED DATASET.",
    )


def make_table_request(
    task: Task,
    dataset: SharedDataset,
    key: bytes,
    base_tables: tuple[int, ...] = (),
    admission: Admission = EVERYBODY,
    *,
    site: Mapping[str, float] = NO_FLOORS,
) -> TableRequest:
    """Return the request of a task that passed the node's policy. key: of `table_key`. site: the site's word
    about rules of answers without noise, by their names."""
    rules = dataset.rules.within(site)
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
        min_rows=rules.min_rows,
        max_parameter_share=rules.max_parameter_share,
        min_cell=rules.min_cell,
        min_category=rules.min_category,
        max_dominance=rules.max_dominance,
        max_row_sets=rules.max_row_sets,
        classes=() if plain else task_classes(task),
        levels=() if plain else tuple(column.levels for column in columns),
        named=() if plain else named_columns(task),
        elements=() if plain else tuple(map(_elements, columns)),
        hashed=tuple(column.elements if column.kind is ColumnKind.TEXT else 0 for column in columns),
        shapes=_shapes(columns),
        fold=reading.fold,
        roles=reading.roles,
        admission=admission,
        phi_check=dataset.phi_check != "off",
        has_consent_query=dataset.consent_query is not None,
        lets_withdraw=dataset.plain_withdrawals,
    )


def named_columns(task: Task) -> tuple[str, ...]:
    """The categories whose values a step is told by their texts: of one that finds out which levels there
    are."""
    if task.encoding is None or not reads_columns(find_step(task)):
        return ()
    return tuple(task.encoding.columns[place].column for place in task.encoding.unnamed)


def _shapes(columns: Sequence[ColumnEncoding]) -> tuple[tuple[int, ...], ...]:
    """Of images that are bytes; () where there is none: two requests are equal then, as they were."""
    shapes = tuple(column.shape if column.kind is ColumnKind.IMAGE else () for column in columns)
    return shapes if any(shapes) else ()


def _elements(column: ColumnEncoding) -> int:
    return column.elements if column.kind.is_several else 0


def computing_limits(received: ReceivedTask) -> Limits:
    """Return what of the limits that are asked holds for a task's computation.

    Under a budget the memory is the node's own word alone: whether rows fit into it shows, so who could
    choose it anew with each task would find out how many there are.
    """
    if asked_mechanism(received.task) is None:
        return received.limits
    return replace(received.limits, max_memory_gb=None)


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)
