"""What a round costs, before it is asked for: reservations in the workspace's ledger.

What always holds: a reservation is made under the ledger's lock and from all that was ever reserved in the
workspace, so that runs at the same time cannot overspend together; figures are the accountant's, by the same
computation that nodes use; each line's sums follow from the line before it (the catalog lets no others in): ε
added up, and a composed ε that never falls, not even where a run has another δ than the one before.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from threading import Lock
from types import MappingProxyType

from heliosdb.catalog.ledger import Entry, Reservation, SignedSpending, Spent, Sums
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.ids import NodeName, StepName
from heliosdb.domain.opened_update import OpenedTerm, OpenedUpdate
from heliosdb.domain.privacy import Budget, Mechanism, Spending
from heliosdb.privacy.accountant import Accountant
from heliosdb.privacy.accountant import most_spent as accountant_most_spent
from heliosdb.transport.update_messages import unpack_signed_header

# Not safe for several threads, and expensive to make; nodes with the same past share what it remembers.
_lock = Lock()
Release = tuple[int, StepName, Mechanism]
"""What an exchange may cost each node: the exchange, its step and the mechanism of the answer."""
Held = Mapping[tuple[int, StepName], Mechanism]
"""What the ledger holds of a round of one node, by exchange and step."""
NOTHING_HELD: Mapping[NodeName, Held] = MappingProxyType({})
_NOTHING = Spending(0.0, 0.0)


@lru_cache(maxsize=16)
def _accountant(delta: float) -> Accountant:
    return Accountant(delta)


def plan_reservations(
    spent: Mapping[NodeName, Sequence[Spent]],
    reached: Mapping[NodeName, Spending],
    cohort: Sequence[NodeName],
    releases: Sequence[Release],
    budget: Budget,
    *,
    clipping_norms: Mapping[StepName, float],
    held: Mapping[NodeName, Held] = NOTHING_HELD,
    overlap: bool = False,
) -> list[Reservation]:
    """Return one line a node and release, in the order of the cohort; UF001 where one would be too much.

    spent: what each node's ledger holds so far. reached: where its last line brought it. releases: in the
    order in which they will be made. held: which of them the ledger holds already; 55000 where they are of
    another mechanism. overlap: whether what all nodes have spent adds up, and is held to the budget together.
    """
    by_past: dict[tuple[tuple[Spent, ...], tuple[Release, ...]], list[tuple[float, float]]] = {}
    planned: list[Reservation] = []
    brought = {node: sums.epsilon_tight for node, sums in reached.items()}
    for node in cohort:
        own, past = _not_held(releases, held.get(node, {})), tuple(spent.get(node, ()))
        figures = by_past.get((past, own))
        if figures is None:
            with _lock:
                mechanisms = [mechanism for *_, mechanism in own]
                figures = by_past[past, own] = _figures(past, mechanisms, budget.delta)
        if figures and figures[-1][1] > budget.epsilon:
            raise _exceeded(node, figures[-1][1], budget)
        sums = reached.get(node, _NOTHING)
        for (exchange, step, mechanism), (alone, composed) in zip(own, figures, strict=True):
            sums = _next_sums(sums, alone, composed)
            norm = clipping_norms.get(step)
            reached_then = sums.epsilon_basic, sums.epsilon_tight
            planned.append(Reservation(node, exchange, step, mechanism, norm, alone, *reached_then))
        brought[node] = sums.epsilon_tight
    together = math.fsum(brought.values())
    if overlap and planned and together > budget.epsilon:
        raise FederatedError(
            ErrorCode.BUDGET_EXHAUSTED,
            f"the next round would bring all nodes together to epsilon {together:.6g}, beyond the budget of"
            f" {budget.epsilon:g}: data subjects may be in several",
        )
    return planned


def allowance(reached: Mapping[NodeName, float], cohort: Sequence[NodeName], budget: Budget) -> float:
    """Return the ε to which each node of a cohort may come so that all nodes together keep to the budget.

    reached: what each node of the workspace has spent. Those that are not in the cohort keep what they have.
    """
    others = math.fsum(epsilon for node, epsilon in reached.items() if node not in set(cohort))
    # A thousandth of a millionth less: sums of as many figures are rounded.
    return (budget.epsilon - others) / len(cohort) * (1.0 - 1e-9)


def _not_held(releases: Sequence[Release], held: Held) -> tuple[Release, ...]:
    for exchange, step, mechanism in releases:
        if held.get((exchange, step), mechanism) != mechanism:
            raise FederatedError(
                ErrorCode.WRONG_STATE, f"step {step} was reserved with other noise before the run was resumed"
            )
    return tuple(one for one in releases if one[:2] not in held)


def sums_after(entries: Sequence[Entry], removed: int, delta: float) -> list[Sums]:
    """Return the sums of the lines of one node's ledger that come after a line that was taken back.

    entries: what the node's ledger holds now, in its order. removed: the id of the line.
    """
    earlier = [one for one in entries if one.id < removed]
    later = [one for one in entries if one.id > removed]
    past = [Spent(one.mechanism, 1) for one in earlier]
    with _lock:
        figures = _figures(past, [one.mechanism for one in later], delta)
    reached, corrected = earlier[-1].reached if earlier else _NOTHING, []
    for one, (_, composed) in zip(later, figures, strict=True):
        # Never more than before, though an earlier version of the product may have composed more tightly.
        reached = _next_sums(reached, one.epsilon, min(composed, one.reached.epsilon_tight))
        corrected.append(Sums(one.id, reached.epsilon_basic, reached.epsilon_tight))
    return corrected


def signed_spending(update: OpenedUpdate | OpenedTerm) -> SignedSpending | None:
    """Return what the node signed of its ledger with this update; None without a budget."""
    if update.mechanism is None or update.spending is None:
        return None
    header, signature = unpack_signed_header(update.signed_header)
    return SignedSpending(header, signature, update.mechanism, update.spending)


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
        return accountant_most_spent(
            ([one.composed for one in spent.get(node, ())] for node in cohort), accountant
        )


def _figures(past: Sequence[Spent], releases: Sequence[Mechanism], delta: float) -> list[tuple[float, float]]:
    """Return ε of each release alone, and of everything up to it composed."""
    accountant = _accountant(delta)
    figures = []
    made = [one.composed for one in past]
    for mechanism in releases:
        made.append(mechanism)
        figures.append((accountant.epsilon(mechanism), accountant.epsilon(*made)))
    return figures


def _next_sums(reached: Spending, alone: float, composed: float) -> Spending:
    return Spending(reached.epsilon_basic + alone, max(reached.epsilon_tight, composed, alone))


def _exceeded(node: NodeName, epsilon: float, budget: Budget) -> FederatedError:
    return FederatedError(
        ErrorCode.BUDGET_EXHAUSTED,
        f"the next round would bring node {node} to epsilon {epsilon:.6g}, beyond the budget of "
        f"{budget.epsilon:g}",
    )
