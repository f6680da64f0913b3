"""Which of the nodes that are there can answer a run, by what they said when they were last greeted."""

from __future__ import annotations

from collections.abc import Sequence

from heliosdb.algorithms.opening import describe_columns
from heliosdb.coordinator.directory import Member
from heliosdb.domain import contract
from heliosdb.domain.contract import Eligibility, Offer
from heliosdb.domain.errors import FederatedError
from heliosdb.domain.findings import Findings
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
