"""Which of the nodes that are there can answer a run, by what they said when they were last greeted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from heliosdb.algorithms.registry import coding_of
from heliosdb.coordinator.directory import Member
from heliosdb.domain import contract
from heliosdb.domain.contract import Eligibility, Offer
from heliosdb.domain.encoding import ColumnEncoding, ColumnKind, Encoding
from heliosdb.domain.errors import FederatedError
from heliosdb.domain.findings import Findings
from heliosdb.domain.handshake import DatasetDescription
from heliosdb.domain.ids import NodeName
from heliosdb.domain.run import Run, TrainingOptions
from heliosdb.parts.algorithms import extra_of, has_classes, learns


def select_nodes(members: Sequence[Member], options: TrainingOptions) -> Eligibility:
    """Sort the nodes that are there by whether they share what the run reads."""
    offers = [Offer(one.name, one.record.dataset, one.introduction) for one in members]
    return contract.select(
        offers,
        options,
        learns_classes=has_classes(options.algorithm, options.given),
        extra=extra_of(options.algorithm),
    )


def find_columns(members: Sequence[Member | None], run: Run) -> Findings:
    """Return what is known of the columns at these nodes, which were able to train; None: gone meanwhile.

    Of one that is gone, or whose dataset is meanwhile or is paused, nothing is known, so that no feature is
    boolean and no classes are declared.
    """
    there = [member for member in members if member is not None]
    able = select_nodes(there, run.options).able
    return describe_columns(able, run, are_all=len(able) == len(members))


def describe_columns(able: Mapping[NodeName, DatasetDescription], run: Run, *, are_all: bool) -> Findings:
    """Return what is known of the columns at the nodes that are able. are_all: whether there is no other
    node, of which nothing is known."""
    options, private = run.options, run.policy.budget is not None
    datasets = list(able.values())
    learned = contract.learns_classes(learns(options.algorithm, options.given), datasets, options)
    needed = private and learned and not options.target_classes
    undeclared = needed and (not are_all or bool(contract.undeclared_targets(dict(able), options)))
    encoding = _opening(datasets, run, are_all=are_all, has_classes=learned)
    booleans = contract.boolean_features(datasets if are_all else [], options)
    could = has_classes(options.algorithm, options.given)
    return Findings(None, None, booleans, undeclared, encoding, could and not learned)


def contract_problem(
    selection: Eligibility, run: Run, *, there: int, needed: frozenset[NodeName]
) -> str | None:
    """Say what no waiting cures: no node has the columns, they do not go together, or a target's classes are
    not known; None for nothing. there: how many nodes were looked at. needed: without which no round is
    opened."""
    options, policy = run.options, run.policy
    if not selection.able and there >= policy.min_nodes:
        return contract.explain_nobody(selection)
    if there < policy.min_nodes and selection.undecided is not None:
        return None
    private = policy.budget is not None
    try:
        contract.check_columns(selection, options, private=private, needed=needed)
        learned = learns(options.algorithm, options.given)
        if contract.learns_classes(learned, list(selection.able.values()), options):
            contract.check_classes(selection.able, options, private=private)
    except FederatedError as error:
        return " ".join(filter(None, (f"{error.message}:", error.detail, error.hint)))
    return None


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
