"""Which of the nodes that are there can answer a run, by what they said when they were last greeted."""

from __future__ import annotations

from collections.abc import Sequence

from heliosdb.coordinator.directory import Member
from heliosdb.domain import contract
from heliosdb.domain.contract import Eligibility, Offer
from heliosdb.domain.encoding import ColumnEncoding, Encoding
from heliosdb.domain.findings import Findings
from heliosdb.domain.handshake import DatasetDescription
from heliosdb.domain.run import Run, TrainingOptions
from heliosdb.domain.transforms import transformed
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
    """Return what is known of the columns at these nodes, which are able to train; None: gone meanwhile.

    Of one that is gone nothing is known, so that no feature is boolean and no classes are declared.
    """
    options, private = run.options, run.policy.budget is not None
    there = [member for member in members if member is not None]
    able = select_nodes(there, options).able
    are_all = len(there) == len(members)
    datasets = list(able.values())
    learned = contract.learns_classes(learns(options.algorithm, options.given), datasets, options)
    needed = private and learned and not options.target_classes
    undeclared = needed and (not are_all or bool(contract.undeclared_targets(able, options)))
    encoding = _opening(datasets, run, are_all=are_all, has_classes=learned)
    booleans = contract.boolean_features(datasets if are_all else [], options)
    could = has_classes(options.algorithm, options.given)
    return Findings(None, None, booleans, undeclared, encoding, could and not learned)


def _opening(
    datasets: Sequence[DatasetDescription], run: Run, *, are_all: bool, has_classes: bool
) -> Encoding:
    """The encoding with which round 0 begins: what only rows can tell is missing in it."""
    options, private = run.options, run.policy.budget is not None
    kinds = contract.feature_kinds(datasets, options, are_all=are_all)
    plainly = [ColumnEncoding(name, kind) for name, kind in zip(options.features, kinds, strict=True)]
    columns = transformed(plainly, options.transforms)
    known: tuple[str, ...] | None = ()
    if has_classes:
        known = contract.known_classes(datasets if are_all else [], options, private=private)
    return Encoding(columns, known or ())
