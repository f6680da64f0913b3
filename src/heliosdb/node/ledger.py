"""What a private task costs the base tables it reads, and whether they can still pay it.

What always holds: the budget is the one that the workspace named first or the ceilings that DBAs set, never a
larger one that a task names later; every base table pays, and what is shown is the most charged one's.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from heliosdb.catalog.participant import BaseLedger, NodeCharge, SharedDataset
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.privacy import Budget, Mechanism, Spending
from heliosdb.domain.task import Task
from heliosdb.node.policy import asked_mechanism, refused
from heliosdb.privacy.accountant import Accountant

_MOST_KEPT = 64
"""Accountants: a coordinator that names ever other δ must not fill the memory."""

CEILING_DELTA = 1e-5
"""The largest δ at which a node holds its own ceiling: the budget's is the coordinator's to name."""


class Ledgers:
    """The accountants of one node's base tables; its methods are to be called from one thread at a time."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[int, float, str | None], Ledger] = OrderedDict()

    def price(self, ledgers: Sequence[BaseLedger], task: Task, dataset: SharedDataset) -> NodeCharge:
        """What a private task costs on top of what its base tables have spent, which are locked.

        Raises FederatedError: BUDGET_EXHAUSTED, or NODE_REFUSED for a budget beyond the terms.
        """
        budget, asked = task.budget, asked_mechanism(task)
        assert budget is not None
        assert asked is not None
        bases = tuple(one.base_table_id for one in ledgers)
        # The tables of one inheritance tree mostly have spent the same: that is composed once.
        ledgers = list(
            {(one.spent, one.spent_here, one.agreed, one.max_epsilon): one for one in ledgers}.values()
        )
        ceilings = [one.max_epsilon for one in ledgers if one.max_epsilon is not None]
        terms = budget
        if ceilings:
            terms = Budget(min(budget.epsilon, *ceilings), min(budget.delta, CEILING_DELTA))
        for one in ledgers:
            check_terms(budget, one, dataset)
            if one.max_epsilon is not None:
                own = f'max_epsilon of the table of dataset "{dataset.name}"'
                ceiling = self._ledger(one, min(budget.delta, CEILING_DELTA))
                ceiling.demand(one.spent, asked, one.max_epsilon, own)
            shown = f'the privacy budget of workspace "{task.key.workspace}"'
            if one.spent_here != one.spent:
                shown += f', of which the tables of dataset "{dataset.name}" have spent a part elsewhere'
            self._ledger(one, budget.delta).demand(one.spent, asked, budget.epsilon, shown)
        whole = [self._ledger(one, budget.delta).charge(one.spent, asked) for one in ledgers]
        here = [
            spending
            if one.spent_here == one.spent
            else self._ledger(one, budget.delta, task.key.workspace).charge(one.spent_here, asked)
            for one, spending in zip(ledgers, whole, strict=True)
        ]
        return NodeCharge(bases, asked, _most(whole), _most(here), budget.delta, terms)

    def _ledger(self, base: BaseLedger, delta: float, workspace: str | None = None) -> Ledger:
        name = (base.base_table_id, delta, workspace)
        kept = self._kept.setdefault(name, Ledger(delta))
        self._kept.move_to_end(name)
        if len(self._kept) > _MOST_KEPT:
            self._kept.popitem(last=False)
        return kept


class Ledger:
    """A table's spending at one δ, its accountant kept between releases: composing anew costs seconds."""

    def __init__(self, delta: float) -> None:
        self._accountant = Accountant(delta)
        # What the accountant has counted, in the ledger's order.
        self._counted: tuple[Mechanism, ...] = ()

    def demand(self, spent: Sequence[Mechanism], mechanism: Mechanism, limit: float, whose: str) -> None:
        """FederatedError BUDGET_EXHAUSTED where `mechanism` on top of `spent` passes `limit`."""
        accountant = self._synchronise(spent)
        if not accountant.fits(limit, mechanism):
            spent_epsilon = accountant.epsilon()
            raise FederatedError(
                ErrorCode.BUDGET_EXHAUSTED,
                f"the release would pass {whose}",
                detail=f"Spent: epsilon {spent_epsilon:.6g} of {limit:g} at delta {accountant.delta:g}.",
                hint="The ledger is never refunded; what was learned so far stays usable.",
            )

    def charge(self, spent: Sequence[Mechanism], mechanism: Mechanism) -> Spending:
        """What the ledger shows with `mechanism` on top of `spent`."""
        accountant = self._synchronise(spent)
        accountant.add(mechanism)
        self._counted = (*self._counted, mechanism)
        return accountant.spending()

    def _synchronise(self, spent: Sequence[Mechanism]) -> Accountant:
        """An accountant of exactly what was spent: a transaction may have failed, another may have spent."""
        listed = tuple(spent)
        known = len(self._counted)
        if listed[:known] == self._counted:
            self._accountant.add(*listed[known:])
        else:
            self._accountant = Accountant(self._accountant.delta, listed)
        self._counted = listed
        return self._accountant


def check_terms(budget: Budget, ledger: BaseLedger, dataset: SharedDataset) -> None:
    """FederatedError NODE_REFUSED where a task's budget is not what the table's first private release named.

    The coordinator names the budget, so it could name a larger one once the first is spent. A table with
    max_epsilon has the limit of its own DBA instead, which is held elsewhere.
    """
    agreed = ledger.agreed
    if agreed is None or ledger.max_epsilon is not None:
        return
    for name, asked, limit in (
        ("epsilon", budget.epsilon, agreed.epsilon),
        ("delta", budget.delta, agreed.delta),
    ):
        if asked > limit:
            raise refused(
                f'dataset "{dataset.name}" was first used under a privacy budget of {name} {limit:g}, '
                f"which a later one of {name} {asked:g} cannot raise",
                hint="That is for the node's own DBA to decide: sharing the dataset again "
                "WITH (max_epsilon = ...) accepts a privacy budget up to that, at a delta of at most "
                f"{CEILING_DELTA:g}.",
            )


def _most(spendings: Sequence[Spending]) -> Spending:
    return max(spendings, key=lambda one: (one.epsilon_tight, one.epsilon_basic))
