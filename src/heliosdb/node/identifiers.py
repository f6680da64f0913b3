"""Columns that look like identifiers of people: what the node refuses, and what it tells its own DBA.

What always holds: under a budget a refusal rests on names and types, and on what the DBA's own statement
found and told; never on rows as they are when a task comes. What a training finds by values stands in the
way of answers without noise alone, which depend on rows anyway; the coordinator hears neither which column
nor why.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Sequence

import psycopg

from federated_sql.compliance import refuses_phi
from heliosdb.catalog.compliance import TellingColumns, read_telling_columns, record_trained_findings
from heliosdb.catalog.dataset_rows import RowQuery
from heliosdb.catalog.failures import condition
from heliosdb.catalog.participant import SharedDataset
from heliosdb.domain.errors import FederatedError
from heliosdb.domain.task import Task
from heliosdb.node.database import Database
from heliosdb.node.datasets import TableRequest
from heliosdb.node.policy import refused
from heliosdb.node.reader import Rows
from heliosdb.phi.kinds import Finding
from heliosdb.phi.scan import (
    LONGEST,
    Column,
    find_in_catalog,
    find_in_values,
    has_telling_values,
    pending,
    sample_size,
)

log = logging.getLogger(__name__)

_MOST_KEPT = 1024


class Identifiers:
    """Asks the node's database what was found about a dataset, and keeps there what trainings find."""

    def __init__(self, database: Database) -> None:
        self._database = database
        # What was kept last of the values of a dataset's columns, by its id and their names.
        self._kept: OrderedDict[tuple[int, tuple[str, ...]], tuple[Finding, ...]] = OrderedDict()

    async def check(self, task: Task, dataset: SharedDataset) -> None:
        """FederatedError NODE_REFUSED where the task reads what looks like identifiers, and that is
        refused."""
        if not refuses_identifiers(dataset, task.compliance_mode):
            return
        telling = await asyncio.to_thread(
            self._database.run, lambda connection: read_telling_columns(connection, dataset.dataset_id)
        )
        if open_columns(task, dataset, telling):
            raise identifiers_refused(dataset)

    async def keep(self, request: TableRequest, found: tuple[Finding, ...]) -> None:
        """Keep what a table's values look like, where that is news; whether it can be is none of the task's
        concern."""
        place = (request.dataset_id, request.columns)
        if not request.phi_check or self._kept.get(place) == found:
            return
        try:
            await asyncio.to_thread(
                self._database.run,
                lambda connection: record_trained_findings(
                    connection, request.dataset_id, request.columns, found
                ),
            )
        except FederatedError as error:
            log.warning("dataset %s: findings were not kept: %s", request.dataset, error.message)
            return
        if found:
            log.warning(
                "dataset %s: columns have values that look like identifiers; see federated_phi_findings",
                request.dataset,
            )
        self._kept[place] = found
        if len(self._kept) > _MOST_KEPT:
            self._kept.popitem(last=False)


def refuses_identifiers(dataset: SharedDataset, mode: str) -> bool:
    """Whether columns that look like identifiers are refused: by the dataset's phi_check, else by the
    workspace's mode."""
    check = dataset.phi_check or ("refuse" if refuses_phi(mode) else "warn")
    return check == "refuse"


def open_columns(task: Task, dataset: SharedDataset, telling: TellingColumns) -> frozenset[str]:
    """The columns that a task reads, look like identifiers and were not accepted."""
    read = set(task.reading.columns)
    types = zip(dataset.description.columns, dataset.description.types, strict=True)
    named = find_in_catalog([Column(name, kind) for name, kind in types if name in read])
    values = telling.told if task.budget is not None else telling.all
    return frozenset({one.column for one in named} | (values & read)) - set(dataset.phi_accepted)


def check_plain_values(task: Task, dataset: SharedDataset, findings: Sequence[Finding]) -> None:
    """FederatedError NODE_REFUSED where a plain answer came about from values that look like identifiers, and
    that is refused."""
    if refuses_identifiers(dataset, task.compliance_mode) and pending(findings, dataset.phi_accepted):
        raise identifiers_refused(dataset)


def identifiers_refused(dataset: SharedDataset) -> FederatedError:
    """All that is said of a task about columns that look like identifiers."""
    return refused(
        f'dataset "{dataset.name}" does not answer about what the task reads: its phi_check refuses',
        hint="federated_phi_findings at the node shows its DBA which columns look like identifiers of people;"
        " phi_accepted names those that may be read.",
    )


def look_at_values(rows: Rows, query: RowQuery) -> tuple[Finding, ...]:
    """Return what a sample of the values looks like, of the columns that a table is made of.

    It is not what answers are computed from, and an error in it is none of the task's.
    """
    try:
        oids = rows.column_types(query)
        columns = [Column(name, rows.type_name(oid)) for name, oid in zip(query.columns, oids, strict=True)]
        telling = [column for column in columns if has_telling_values(column)]
        shown = _sample(rows, query, telling) if telling else []
    except psycopg.Error as error:
        log.warning("dataset %s was not looked through: %s", query.dataset, condition(error.sqlstate))
        return ()
    except UnicodeError:
        log.warning("dataset %s was not looked through: its text is not in its encoding", query.dataset)
        return ()
    return tuple(
        one for column, values in zip(telling, shown, strict=True) for one in find_in_values(column, values)
    )


def _sample(rows: Rows, query: RowQuery, columns: Sequence[Column]) -> list[list[str]]:
    names = [column.name for column in columns]
    return rows.sample_texts(query, names, LONGEST, sample_size(len(columns)))
