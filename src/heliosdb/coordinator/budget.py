"""What a round costs, before it is asked for: reservations in the workspace's ledger.

What always holds: a reservation is made under the ledger's lock and from all that was ever reserved in the
workspace, so that runs at the same time cannot overspend together; figures are the accountant's, by the same
computation that nodes use.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from threading import Lock

from heliosdb.catalog.runs import Charge, Entry, Spent, Sums
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.ids import NodeName
from heliosdb.domain.privacy import Budget, Mechanism
from heliosdb.domain.task import Step
from heliosdb.privacy.accountant import Accountant

# Not safe for several threads, and expensive to make; nodes with the same past share what it remembers.
_lock = Lock()
Release = tuple[Step, Mechanism]


@lru_cache(maxsize=16)
def _accountant(delta: float) -> Accountant:
    return Accountant(delta)


def plan_charges(
    spent: Mapping[NodeName, Sequence[Spent]],
    cohort: Sequence[NodeName],
    releases: Sequence[Release],
    budget: Budget,
    clipping_norms: Mapping[Step, float],
) -> list[Charge]:
    """Return one charge a node and release, in the order of the cohort; UF001 where one would be too much.

    spent: what each node's ledger holds so far.
    """
    by_past: dict[tuple[Spent, ...], list[tuple[float, float, float]]] = {}
    charges: list[Charge] = []
    for node in cohort:
        past = tuple(spent.get(node, ()))
        figures = by_past.get(past)
        if figures is None:
            with _lock:
                mechanisms = [mechanism for _, mechanism in releases]
                figures = by_past[past] = _figures(past, mechanisms, budget.delta)
        if figures and figures[-1][2] > budget.epsilon:
            raise _exceeded(node, figures[-1][2], budget)
        charges += [
            Charge(node, step, mechanism, clipping_norms.get(step), *figure)
            for (step, mechanism), figure in zip(releases, figures, strict=True)
        ]
    return charges


def sums_after(entries: Sequence[Entry], removed: int, delta: float) -> list[Sums]:
    """Return the sums of the lines of one node's ledger that come after a line that was taken back.

    entries: what the node's ledger holds now, in its order. removed: the id of the line.
    """
    past = [Spent(one.mechanism, 1) for one in entries if one.id < removed]
    later = [one for one in entries if one.id > removed]
    with _lock:
        figures = _figures(past, [one.mechanism for one in later], delta)
    return [Sums(one.id, basic, tight) for one, (_, basic, tight) in zip(later, figures, strict=True)]


def spent_epsilon(past: Sequence[Mechanism], delta: float) -> float:
    """Return ε (tight) of these releases."""
    with _lock:
        return _accountant(delta).epsilon(*past)


def most_spent(
    spent: Mapping[NodeName, Sequence[Spent]], cohort: Sequence[NodeName], delta: float
) -> Sequence[Mechanism]:
    """Return the past of the node of the cohort that has spent the most."""
    accountant = _accountant(delta)
    with _lock:
        pasts = {tuple(one.composed for one in spent.get(node, ())) for node in cohort}
        return max(sorted(pasts, key=repr), key=lambda past: accountant.epsilon(*past), default=())


def _figures(
    past: Sequence[Spent], releases: Sequence[Mechanism], delta: float
) -> list[tuple[float, float, float]]:
    """Return ε of each release alone, the sum up to it, and the composition up to it."""
    accountant = _accountant(delta)
    basic = math.fsum(one.times * accountant.epsilon(one.mechanism) for one in past)
    figures = []
    made = [one.composed for one in past]
    for mechanism in releases:
        alone = accountant.epsilon(mechanism)
        made.append(mechanism)
        basic += alone
        figures.append((alone, basic, accountant.epsilon(*made)))
    return figures


def _exceeded(node: NodeName, epsilon: float, budget: Budget) -> FederatedError:
    return FederatedError(
        ErrorCode.BUDGET_EXHAUSTED,
        f"the next round would bring node {node} to epsilon {epsilon:.6g}, beyond the budget of "
        f"{budget.epsilon:g}",
    )
