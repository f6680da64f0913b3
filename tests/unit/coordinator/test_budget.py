"""What a round costs each node, and when it may not be opened."""

from __future__ import annotations

from dataclasses import replace

import pytest

from heliosdb.catalog.ledger import Entry, Reservation, Spent
from heliosdb.coordinator.budget import allowance, most_spent, plan_reservations, sums_after
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.ids import NodeName, StepName
from heliosdb.domain.privacy import Budget, Mechanism, Spending
from heliosdb.privacy.accountant import Accountant, spending

A, B = NodeName("a"), NodeName("b")
STATISTICS, TRAINING = Mechanism(8.0), Mechanism(4.0, 0.1, 10)
TRAIN, EVALUATE = StepName("train"), StepName("evaluate")
ROUND = [(0, TRAIN, TRAINING), (1, EVALUATE, Mechanism(20.0))]
BUDGET = Budget(5.0, 1e-5)


def plan(spent: dict[NodeName, list[Spent]], budget: Budget = BUDGET) -> list[Reservation]:
    reached = {node: spending([one.composed for one in made], budget.delta) for node, made in spent.items()}
    for node, made in spent.items():
        own = sum(one.times * spending([one.mechanism], budget.delta).epsilon_basic for one in made)
        reached[node] = replace(reached[node], epsilon_basic=own)
    return plan_reservations(spent, reached, [A, B], ROUND, budget, clipping_norms={TRAIN: 1.5})


def test_each_release_is_charged_on_top_of_the_nodes_own_past() -> None:
    past = [STATISTICS, TRAINING, TRAINING, TRAINING]

    planned = plan({A: [Spent(STATISTICS, 1), Spent(TRAINING, 3)]})

    assert [(one.node, one.exchange, one.step) for one in planned] == [
        (A, 0, TRAIN),
        (A, 1, EVALUATE),
        (B, 0, TRAIN),
        (B, 1, EVALUATE),
    ]
    made = [*past, TRAINING, Mechanism(20.0)]
    for one, releases in zip(planned, (made[:5], made, [TRAINING], made[4:]), strict=True):
        shown = spending(releases, BUDGET.delta)
        assert one.epsilon_basic == pytest.approx(shown.epsilon_basic)
        assert one.epsilon_tight == pytest.approx(shown.epsilon_tight)
    assert [one.clipping_norm for one in planned[:2]] == [1.5, None]


def test_a_round_that_one_node_cannot_pay_is_not_opened() -> None:
    spent = {B: [Spent(Mechanism(1.0), 1)]}
    enough = max(one.epsilon_tight for one in plan(spent))

    assert plan(spent, Budget(enough, 1e-5))
    with pytest.raises(FederatedError, match="node b") as caught:
        plan(spent, Budget(enough * 0.999, 1e-5))
    assert caught.value.code is ErrorCode.BUDGET_EXHAUSTED


def test_the_most_charged_node_of_the_cohort_decides_the_plan() -> None:
    spent = {A: [Spent(STATISTICS, 2)], B: [Spent(STATISTICS, 3)]}

    assert most_spent(spent, [A, B], 1e-5) == (Mechanism(8.0, steps=3),)
    assert most_spent(spent, [A], 1e-5) == (Mechanism(8.0, steps=2),)
    assert most_spent({}, [A, B], 1e-5) == ()


def test_sums_after_a_line_that_was_taken_back_are_those_of_what_is_left() -> None:
    first, last = Mechanism(2.0), Mechanism(1.5, 0.5, 3)
    node = NodeName("a")
    accountant = Accountant(1e-5)
    alone = accountant.epsilon(first), accountant.epsilon(last)
    left = [
        Entry(1, node, first, alone[0], Spending(alone[0], alone[0])),
        Entry(5, node, last, alone[1], Spending(99.0, 98.0)),
    ]

    (corrected,) = sums_after(left, 3, 1e-5)

    assert corrected.ledger_id == 5
    assert corrected.epsilon_basic == pytest.approx(accountant.epsilon(first) + accountant.epsilon(last))
    assert corrected.epsilon_tight == pytest.approx(accountant.epsilon(first, last))
    assert sums_after(left, 7, 1e-5) == []


def test_a_line_costs_no_more_after_one_before_it_was_taken_back() -> None:
    # As an earlier version of the product left it, which composed more tightly.
    line = Entry(5, A, TRAINING, 0.2, Spending(0.3, 0.25))
    (corrected,) = sums_after([line], 3, 1e-5)
    assert (corrected.epsilon_basic, corrected.epsilon_tight) == (0.2, 0.25)


def test_the_composed_sum_never_falls_where_a_run_has_a_larger_delta() -> None:
    reached = {A: spending([STATISTICS], 1e-9)}
    (train, _, *_) = plan_reservations(
        {A: [Spent(STATISTICS, 1)]}, reached, [A], ROUND, Budget(5.0, 0.1), clipping_norms={}
    )
    assert train.epsilon_tight >= reached[A].epsilon_tight
    assert train.epsilon_basic == pytest.approx(reached[A].epsilon_basic + train.epsilon)


def test_what_the_ledger_holds_of_a_round_is_not_reserved_again() -> None:
    spent = {A: [Spent(TRAINING, 1)]}
    reached = {A: spending([TRAINING], BUDGET.delta)}

    planned = plan_reservations(
        spent, reached, [A, B], ROUND, BUDGET, clipping_norms={}, held={A: {(0, TRAIN): TRAINING}}
    )

    assert [(one.node, one.exchange, one.step) for one in planned] == [
        (A, 1, EVALUATE),
        (B, 0, TRAIN),
        (B, 1, EVALUATE),
    ]
    assert planned[0].epsilon_tight == pytest.approx(
        spending([TRAINING, Mechanism(20.0)], BUDGET.delta).epsilon_tight
    )
    with pytest.raises(FederatedError, match="other noise") as caught:
        plan_reservations(
            spent, reached, [A], ROUND, BUDGET, clipping_norms={}, held={A: {(0, TRAIN): STATISTICS}}
        )
    assert caught.value.code is ErrorCode.WRONG_STATE


def test_where_subjects_are_in_several_nodes_all_of_them_are_held_to_the_budget_together() -> None:
    """A node outside the cohort counts with what it has spent."""
    alone = max(one.epsilon_tight for one in plan({}))
    reached = {NodeName("c"): Spending(1.0, 1.0)}
    enough = Budget(2.0 * alone + 1.0 + 1e-6, 1e-5)

    def reserve(budget: Budget, *, overlap: bool) -> list[Reservation]:
        return plan_reservations({}, reached, [A, B], ROUND, budget, clipping_norms={}, overlap=overlap)

    assert len(reserve(enough, overlap=True)) == 4
    less = replace(enough, epsilon=enough.epsilon - 1e-3)
    assert len(reserve(less, overlap=False)) == 4
    with pytest.raises(FederatedError) as raised:
        reserve(less, overlap=True)
    assert raised.value.code is ErrorCode.BUDGET_EXHAUSTED


def test_each_node_of_a_cohort_may_come_to_an_equal_part_of_what_others_left() -> None:
    reached = {A: 0.5, NodeName("c"): 1.0}

    assert allowance(reached, [A, B], Budget(5.0, 1e-5)) == pytest.approx(2.0)
