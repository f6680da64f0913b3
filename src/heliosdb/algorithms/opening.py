"""What is known of a run's columns before round 0: by what nodes say of their catalogs.

What always holds: nothing here comes from a row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from heliosdb.algorithms.registry import coding_of
from heliosdb.domain import contract
from heliosdb.domain.encoding import ColumnEncoding, ColumnKind, Encoding
from heliosdb.domain.findings import Findings
from heliosdb.domain.handshake import DatasetDescription
from heliosdb.domain.ids import NodeName
from heliosdb.domain.run import Run
from heliosdb.parts.algorithms import has_classes, learns


def describe_columns(able: Mapping[NodeName, DatasetDescription], run: Run, *, are_all: bool) -> Findings:
    """Return what is known of the columns at these nodes. are_all: whether no other node is in the run."""
    options, private = run.options, run.policy.budget is not None
    datasets = list(able.values())
    learned = contract.learns_classes(learns(options.algorithm, options.given), datasets, options)
    needed = private and learned and not options.target_classes
    undeclared = needed and (not are_all or bool(contract.undeclared_targets(dict(able), options)))
    encoding = _opening(datasets, run, are_all=are_all, has_classes=learned)
    booleans = contract.boolean_features(datasets if are_all else [], options)
    could = has_classes(options.algorithm, options.given)
    return Findings(None, None, booleans, undeclared, encoding, could and not learned)


def _opening(
    datasets: Sequence[DatasetDescription], run: Run, *, are_all: bool, has_classes: bool
) -> Encoding:
    """The encoding with which round 0 begins: what only rows can tell is missing in it."""
    options, private = run.options, run.policy.budget is not None
    columns = contract.plain_columns(datasets, options, are_all=are_all)
    if private and are_all:
        columns = tuple(_declared(column, datasets, options.algorithm) for column in columns)
    known: tuple[str, ...] | None = ()
    if has_classes:
        known = contract.known_classes(datasets if are_all else [], options, private=private)
    return Encoding(columns, known or ())


def _declared(
    column: ColumnEncoding, datasets: Sequence[DatasetDescription], algorithm: str
) -> ColumnEncoding:
    """Under a budget the levels are those that catalogs declare; a NULL has none, and counts as missing."""
    levels = contract.declared_levels(datasets, column.column)
    if column.kind is not ColumnKind.CATEGORY or levels is None:
        return column
    return replace(column, form=coding_of(algorithm), levels=levels)
