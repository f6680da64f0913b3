"""A simulated node: a part of the rows, answered about by the node's own code, without a daemon.

What always holds: a task passes the node's policy, its table is made under the node's rules for plain
answers or read row by row under a budget, and what is computed passes the checks and the noise of the
release door. There is no catalog, so that nothing is remembered from one simulation to the next.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction

import numpy as np

from heliosdb.algorithms.draws import TaskDraws
from heliosdb.algorithms.table import Table
from heliosdb.catalog.participant import SharedDataset
from heliosdb.cli.simulation.settings import SimulationSettings
from heliosdb.cli.simulation.source import Source
from heliosdb.domain.disclosure_rules import DisclosureRules
from heliosdb.domain.encoding import ColumnKind
from heliosdb.domain.errors import FederatedError
from heliosdb.domain.handshake import DatasetDescription, DeclaredValues
from heliosdb.domain.ids import DatasetName, NodeName
from heliosdb.domain.state import NO_STATE, State, freeze
from heliosdb.domain.task import Task
from heliosdb.domain.update import Update
from heliosdb.domain.vector import AnyVector
from heliosdb.node.arranging import make_plain_table, make_table
from heliosdb.node.coding import UpdateCoder
from heliosdb.node.datasets import RawRows, TableRequest, number_levels, table_key
from heliosdb.node.guards import cast_real, check_contribution, make_private
from heliosdb.node.policy import check_policy, find_misread, find_step
from heliosdb.node.requests import make_table_request
from heliosdb.node.worker import Encoded, compute, encode_for
from heliosdb.transport.lossy import unpack
from heliosdb.transport.messages import NodeRefusedError

_MOST_DECLARED = 1_000


def describe_source(source: Source, settings: SimulationSettings) -> SharedDataset:
    """Return the dataset that every simulated node shares.

    Under a budget the values of categories count as declared, as if each node's DBA had listed them.
    """
    options, given = settings.run.options, settings.dataset
    declared: Sequence[DeclaredValues] = ()
    if settings.run.policy.budget is not None:
        declared = [
            DeclaredValues(name, tuple(sorted(values.values(), key=str.encode)))
            for name, values in source.rows.vocabularies.items()
            if 0 < len(values) <= _MOST_DECLARED
        ]
    columns = dict(zip(options.columns, source.types, strict=True))
    description = DatasetDescription(
        DatasetName("simulated"), tuple(columns), tuple(columns.values()), True, tuple(declared)
    )
    return SharedDataset(
        1,
        description,
        source.name,
        None,
        settings.subject,
        DisclosureRules.from_options(given),
        plain_answers=True,
        phi_check="off",
    )


@dataclass(slots=True)
class _Made:
    """What the node holds of its rows for the tasks of the run."""

    request: TableRequest
    table: Table
    encoded: Encoded = field(default_factory=dict)


class SimulatedNode:
    """One node of a simulation. rows: its own."""

    def __init__(self, name: NodeName, rows: RawRows, dataset: SharedDataset, seed: int) -> None:
        self.name = name
        self.size = int(rows.values.shape[0])
        self._rows = rows
        self._dataset = dataset
        secret = hashlib.sha256(f"simulated node {seed} {name}".encode()).digest()
        self._key = table_key(secret)
        self._coder = UpdateCoder(secret)
        self._memory: State = NO_STATE
        self._unsent: State = NO_STATE
        self._made: _Made | None = None

    def answer(self, task: Task, share: Fraction | None = None) -> Update:
        """Answer a task as a node does; NodeRefusedError where it refuses. share: of the noise, which it adds
        where the sum is secure; the simulation sees what there only the sum would show."""
        try:
            return self._answer(task, share)
        except FederatedError as error:
            raise NodeRefusedError(
                self.name, error.code, error.message, detail=error.detail, hint=error.hint
            ) from error

    def measure(self, task: Task) -> Update:
        """Answer a task of an evaluation from the table that the node has, without the rules for what may
        leave it; to be asked of a node that has answered before."""
        assert self._made is not None
        made = self._made
        table = replace(encode_for(task, made.table, made.request, made.encoded), min_cell=1)
        found = find_step(task).compute(table, task, NO_STATE, TaskDraws(task, self._key))
        return Update(self.name, cast_real(found.vector, task.work.dtype), found.weight)

    def table_for(self, task: Task) -> Table:
        """Return the node's rows as a task reads them, with the inputs that it names."""
        made = self._table(make_table_request(task, self._dataset, self._key))
        return encode_for(task, made.table, made.request, made.encoded)

    def _answer(self, task: Task, share: Fraction | None) -> Update:
        alone = replace(task.work, summing=replace(task.work.summing, trust="local"))
        check_policy(replace(task, work=alone), self._dataset, plain_answers=True)
        if (misread := find_misread(self._dataset.description, task)) is not None:
            raise misread
        request = make_table_request(task, self._dataset, self._key)
        made = self._table(request)
        memory = self._memory if request.plain else NO_STATE
        contribution = compute(task, made.table, request, memory, made.encoded)
        check_contribution(task, contribution)
        vector = self._send(task, cast_real(make_private(contribution, share), task.work.dtype))
        if contribution.stays is not None:
            self._memory = freeze(contribution.stays)
        return Update(self.name, vector, contribution.weight)

    def _send(self, task: Task, vector: AnyVector) -> AnyVector:
        """Return the vector as it arrives."""
        coding = task.work.coding
        if not coding.is_lossy:
            return vector
        packed = self._coder.pack(task, vector, self._unsent)
        self._unsent = packed.unsent
        return unpack(packed.vector, vector.size, task.work.dtype, coding)

    def _table(self, request: TableRequest) -> _Made:
        if self._made is None or self._made.request != request:
            rows = self._rows
            # Of a subject's rows under a budget nothing but the subject is known; see `TableRequest.names`.
            codes = rows.codes if len(request.names) == rows.codes.shape[1] else rows.codes[:, -1:]
            known = RawRows(rows.values.copy(), codes, rows.columns, _known(rows, request))
            read = number_levels(known, request)
            if request.plain:
                table, _ = make_plain_table(read.values, read.codes, request, (), read)
            else:
                table = make_table(read.values, read.codes, request, read)
            self._made = _Made(request, table)
        return self._made


def _known(rows: RawRows, request: TableRequest) -> Mapping[str, Mapping[int, str]]:
    """The values of categories that these rows have, or under a budget those that the task names."""
    found, start = {}, 0
    named = [*(request.levels or [()] * len(request.features)), *[()] * len(request.roles), request.classes]
    for column, levels in zip(rows.columns, named, strict=True):
        if column.kind is ColumnKind.CATEGORY:
            vocabulary = rows.vocabularies[column.name]
            if request.plain:
                hashes = np.unique(rows.values[:, start].copy().view(np.int64)).tolist()
                found[column.name] = {one: vocabulary[one] for one in hashes if one in vocabulary}
            else:
                wanted = set(levels)
                found[column.name] = {one: text for one, text in vocabulary.items() if text in wanted}
        start += column.width
    return found


def without_budget(task: Task) -> Task:
    """Return a task of which no privacy budget is told."""
    return replace(task, budget=None)
