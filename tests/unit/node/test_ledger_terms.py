"""A node's ledger: terms that were agreed stay, every base table pays, and what counts is what the database lists."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from heliosdb.catalog.participant import BaseLedger, LedgerState, PlainTerms
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.privacy import Budget, Mechanism
from heliosdb.node.ledger import Ledger, Ledgers, check_terms
from heliosdb.node.policy import check_never_plain
from heliosdb.privacy.accountant import spending
from tests.unit.node.door_tasks import BUDGET, dataset, statistics


def base_ledger(
    agreed: Budget | None = None, spent: tuple[Mechanism, ...] = (), max_epsilon: float | None = None
) -> BaseLedger:
    return BaseLedger(1, spent, spent, agreed, max_epsilon)


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        (Budget(1.01, 1e-5), "epsilon 1, which a later one of epsilon 1.01 cannot raise"),
        (Budget(1.0, 2e-5), "delta 1e-05, which a later one of delta 2e-05 cannot raise"),
        (Budget(0.5, 0.09), "delta"),
    ],
)
def test_terms_once_agreed_are_never_raised_by_a_task(budget: Budget, message: str) -> None:
    with pytest.raises(FederatedError, match=message) as raised:
        check_terms(budget, base_ledger(BUDGET), dataset())
    assert raised.value.code is ErrorCode.NODE_REFUSED
    assert raised.value.hint is not None
    assert "node's own DBA" in raised.value.hint


def test_lower_terms_and_those_under_the_datasets_own_ceiling_pass() -> None:
    check_terms(Budget(1000.0, 0.1), base_ledger(), dataset())
    check_terms(BUDGET, base_ledger(BUDGET), dataset())
    check_terms(Budget(0.5, 1e-6), base_ledger(BUDGET), dataset())
    check_terms(Budget(5.0, 1e-5), base_ledger(BUDGET, max_epsilon=5.0), dataset(5.0))


def test_a_plain_answer_after_spending_or_under_a_ceiling_is_refused() -> None:
    def check(*ledgers: BaseLedger) -> None:
        check_never_plain(
            LedgerState(None, ledgers, dataset(), PlainTerms(frozenset(), frozenset())).never_plain, dataset()
        )

    check(base_ledger(), base_ledger())
    for spent in (base_ledger(spent=(Mechanism(3.0),)), base_ledger(agreed=BUDGET)):
        with pytest.raises(FederatedError, match="a plain answer would undo"):
            check(base_ledger(), spent)
    with pytest.raises(FederatedError, match="has a max_epsilon"):
        check(base_ledger(max_epsilon=5.0))


def test_a_ledger_follows_what_is_listed_whatever_it_counted_itself() -> None:
    one, other, third = Mechanism(8.0), Mechanism(9.0, 0.1, 5), Mechanism(10.0)
    ledger = Ledger(1e-5)
    histories: list[tuple[Mechanism, ...]] = [
        (),
        (one,),
        (one,),  # the charge before was rolled back
        (one, other),
        (other, one, third),  # another daemon spent meanwhile
        (),
        (third,) * 3,
    ]
    for spent in histories:
        for asked in (one, other):
            assert ledger.charge(spent, asked) == spending([*spent, asked], 1e-5)
            limit = spending([*spent, asked], 1e-5).epsilon_tight
            ledger.demand(spent, asked, limit, "it")
            with pytest.raises(FederatedError, match="would pass it"):
                ledger.demand(spent, asked, math.nextafter(limit, 0.0), "it")


def test_every_base_table_pays_and_the_most_charged_one_is_shown() -> None:
    task, poor = statistics(8.0), (Mechanism(10.0),)
    fresh, spent = BaseLedger(1), BaseLedger(2, spent=poor, spent_here=())
    charge = Ledgers().price([fresh, spent], task, dataset())
    assert charge.spending == spending([*poor, Mechanism(8.0)], 1e-5)
    assert charge.workspace_spending == spending([Mechanism(8.0)], 1e-5)
    with pytest.raises(FederatedError) as raised:
        Ledgers().price([fresh, BaseLedger(2, spent=(Mechanism(2.0),))], task, dataset())
    assert raised.value.code is ErrorCode.BUDGET_EXHAUSTED


def test_a_ceiling_of_any_base_table_holds_at_the_nodes_own_delta() -> None:
    task = replace(statistics(8.0), budget=Budget(1000.0, 0.09))
    charge = Ledgers().price([BaseLedger(1, max_epsilon=0.6)], task, dataset())
    assert charge.terms == Budget(0.6, 1e-5)
    with pytest.raises(FederatedError, match="would pass max_epsilon of the table"):
        Ledgers().price([BaseLedger(1), BaseLedger(2, max_epsilon=0.1)], task, dataset())


def test_a_ledger_composes_everything_that_was_spent() -> None:
    ledger, one = Ledger(1e-5), Mechanism(8.0)
    spent: list[Mechanism] = []
    for _ in range(4):
        ledger.demand(spent, one, 1.0, "the budget")
        shown = ledger.charge(spent, one)
        spent.append(one)
        assert shown == spending(spent, 1e-5)
    with pytest.raises(FederatedError, match="would pass the budget") as raised:
        ledger.demand(spent, one, 1.0, "the budget")
    assert raised.value.code is ErrorCode.BUDGET_EXHAUSTED


def test_a_ledger_follows_the_database_and_not_its_memory() -> None:
    ledger, one = Ledger(1e-5), Mechanism(8.0)
    ledger.charge([], one)
    # The transaction failed: the database knows of nothing.
    assert ledger.charge([], one) == spending([one], 1e-5)
    # Another daemon spent meanwhile.
    assert ledger.charge([one, one, Mechanism(20.0)], one) == spending([one, one, one, Mechanism(20.0)], 1e-5)
