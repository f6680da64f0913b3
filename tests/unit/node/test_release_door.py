"""The door's rules, each alone: what may not leave does not, whatever the computation or the coordinator says."""

from __future__ import annotations

import math
from dataclasses import replace
from uuid import UUID

import numpy as np
import pytest

from heliosdb.algorithms.works import EvaluateWork, PrivateTraining, StatisticsWork, TrainWork
from heliosdb.catalog.participant import BaseLedger, LedgerState, PlainTerms, SharedDataset
from heliosdb.domain.coding import Coding
from heliosdb.domain.disclosure_rules import DEFAULT_RULES, DisclosureRules
from heliosdb.domain.encoding import ColumnEncoding, ColumnKind, Encoding
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.handshake import DatasetDescription
from heliosdb.domain.ids import DatasetName, NodeName, RoundNumber, RunId, StepName, WorkspaceName
from heliosdb.domain.privacy import Budget, Mechanism
from heliosdb.domain.state import make_state
from heliosdb.domain.task import Reading, Scaling, Summing, Task, TaskKey
from heliosdb.domain.usage import Usage
from heliosdb.domain.vector import AlreadyPrivate, ClippedSum, Contribution, Dtype, Plain
from heliosdb.node.guards import (
    cast_real,
    check_contribution,
    check_guard,
    check_size,
    make_private,
    sensitivity_of,
    told_usage,
)
from heliosdb.node.ledger import Ledger, Ledgers, check_terms
from heliosdb.node.policy import asked_mechanism, check_never_plain, check_policy, check_travelling, find_step
from heliosdb.parts.algorithms import RegressionSettings
from heliosdb.privacy.accountant import spending
from heliosdb.transport import limits

KEY = TaskKey(
    WorkspaceName("w"), RunId(UUID(int=1)), RoundNumber(1), 0, StepName("statistics"), NodeName("n")
)
READING = Reading(None, ("x",), "y", 0.2, 1)
SCALING = Scaling((0.0,), (1.0,))
BUDGET = Budget(1.0, 1e-5)
VECTOR = np.array([1.0, 2.0])


def statistics(noise: float | None, budget: Budget | None = BUDGET) -> Task:
    work = StatisticsWork("logistic_regression", noise, classes=2).to_work(len(READING.features))
    return Task(KEY, READING, work, budget=budget)


def training(privacy: PrivateTraining | None, budget: Budget | None = BUDGET) -> Task:
    work = TrainWork("logistic_regression", SCALING, 1, 32, 0.1, privacy, classes=2).to_work(VECTOR.size)
    key = replace(KEY, step=StepName("train"))
    return Task(key, READING, work, SCALING, make_state(parameters=VECTOR), budget)


def answering(task: Task, size: int, dtype: Dtype = Dtype.FLOAT64) -> Task:
    """The task, of a vector of another size or type."""
    return replace(task, work=replace(task.work, size=size, dtype=dtype))


def check(task: Task, dataset: SharedDataset, *, plain_answers: bool = True) -> None:
    check_policy(task, dataset, plain_answers=plain_answers)


MOST = sensitivity_of(statistics(3.0))
"""What one subject adds to these statistics."""

PRIVATE = PrivateTraining(2.0, 1.0, 0.5, 10, expected_subjects=80.0)


def dataset(max_epsilon: float | None = None) -> SharedDataset:
    description = DatasetDescription(DatasetName("d"), ("x", "y"), ("integer", "integer"))
    return SharedDataset(1, description, "public.t", None, None, DEFAULT_RULES, max_epsilon)


def test_the_mechanism_is_the_one_that_the_task_names() -> None:
    assert asked_mechanism(statistics(3.0)) == Mechanism(3.0)
    assert asked_mechanism(statistics(None)) is None
    assert asked_mechanism(training(PRIVATE)) == Mechanism(2.0, 0.5, 10)
    assert asked_mechanism(training(None)) is None
    evaluation = replace(
        statistics(None), work=EvaluateWork("logistic_regression", SCALING, 4.0, classes=2).to_work()
    )
    assert asked_mechanism(evaluation) == Mechanism(4.0)


@pytest.mark.parametrize(
    ("task", "max_epsilon", "message"),
    [
        (statistics(None), None, "plain answer although"),
        (training(None), None, "plain answer although"),
        (statistics(3.0, None), None, "asks for noise although"),
    ],
)
def test_a_task_against_policy_is_refused_before_it_is_computed(
    task: Task, max_epsilon: float | None, message: str
) -> None:
    with pytest.raises(FederatedError, match=message) as raised:
        check(task, dataset(max_epsilon))
    assert raised.value.code is ErrorCode.NODE_REFUSED


@pytest.mark.parametrize(
    ("kind", "noise", "sqlstate"),
    [
        (ColumnKind.NUMBER, None, None),
        (ColumnKind.NUMBER, 3.0, "0A000"),
        (ColumnKind.BOOLEAN, None, "22023"),
        (ColumnKind.CATEGORY, None, "22023"),
        (ColumnKind.ARRAY, None, "22023"),
    ],
)
def test_only_numbers_have_bins_and_none_under_a_budget(
    kind: ColumnKind, noise: float | None, sqlstate: str | None
) -> None:
    encoding = Encoding((ColumnEncoding("x", kind, form="bins", edges=(41.0, 42.0)),), ("0", "1"))
    work = StatisticsWork("logistic_regression", noise, classes=2).to_work(2)
    task = replace(statistics(noise, None if noise is None else BUDGET), work=work, encoding=encoding)
    if sqlstate is None:
        check(task, dataset())
        return
    with pytest.raises(FederatedError, match="bins") as raised:
        check(task, dataset())
    assert raised.value.sqlstate == sqlstate


def test_tasks_within_policy_pass() -> None:
    check(statistics(None, None), dataset())
    check(statistics(3.0), dataset(0.5))
    check(training(PRIVATE), dataset())


@pytest.mark.parametrize("task", [statistics(3.0), statistics(None), training(PRIVATE)])
def test_an_algorithm_without_a_private_form_is_refused_under_a_budget_before_anything_is_charged(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Of those that come with the product each has one.
    monkeypatch.setattr(RegressionSettings, "has_private_form", False, raising=False)
    plain = replace(task, work=replace(task.work, algorithm="linear_regression"))
    with pytest.raises(
        FederatedError, match="linear_regression is not supported under a privacy_budget yet"
    ) as raised:
        check(plain, dataset())
    assert raised.value.code is ErrorCode.NOT_SUPPORTED


@pytest.mark.parametrize("mode", ["none", "HIPAA", "GDPR", "BOTH"])
@pytest.mark.parametrize("site", [True, False])
@pytest.mark.parametrize("own", [True, False, None])
def test_a_plain_answer_is_the_dbas_to_give_then_the_sites_and_under_compliance_the_dbas_alone(
    mode: str, site: bool, own: bool | None
) -> None:
    task = replace(statistics(None, None), compliance_mode=mode)
    shared = replace(dataset(), plain_answers=own)
    if own or (own is None and site and mode == "none"):
        check(task, shared, plain_answers=site)
        return
    with pytest.raises(FederatedError, match="gives no answers without noise") as raised:
        check(task, shared, plain_answers=site)
    assert raised.value.code is ErrorCode.NODE_REFUSED
    assert raised.value.hint is not None
    assert "plain_answers = true" in raised.value.hint
    check(replace(statistics(3.0), compliance_mode=mode), shared, plain_answers=site)


def test_a_plain_step_over_fewer_rows_than_min_rows_is_refused() -> None:
    check(training(None, None), dataset())
    with pytest.raises(FederatedError, match="smallest step has 32 rows, fewer than min_rows = 33"):
        check(training(None, None), replace(dataset(), rules=DisclosureRules(min_rows=33)))
    check(training(PRIVATE), replace(dataset(), rules=DisclosureRules(min_rows=33)))


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


@pytest.mark.parametrize(
    ("changed", "code", "message"),
    [
        (replace(training(None, None), key=KEY), ErrorCode.INVALID_VALUE, "no state and no scaling"),
        (
            replace(training(None, None), key=replace(KEY, step=StepName("oracle"))),
            ErrorCode.NOT_SUPPORTED,
            "of a kind that this node does not know",
        ),
        (
            replace(training(None, None), work=replace(training(None, None).work, algorithm="oracle")),
            ErrorCode.NOT_SUPPORTED,
            'algorithm "oracle" is not supported',
        ),
        (
            replace(training(None, None), work=replace(training(None, None).work, coding=Coding("oracle"))),
            ErrorCode.NOT_SUPPORTED,
            'codec "oracle" is not supported',
        ),
        (
            replace(
                training(None, None), work=replace(training(None, None).work, summing=Summing(protocol="x"))
            ),
            ErrorCode.NOT_SUPPORTED,
            'sum protocol "x" is not supported',
        ),
        (
            replace(
                training(None, None), work=replace(training(None, None).work, summing=Summing(stage="x"))
            ),
            ErrorCode.NOT_SUPPORTED,
            'the sum protocol "plain" has no stage "x"',
        ),
        (replace(training(None, None), scaling=None), ErrorCode.INVALID_VALUE, "scaling"),
    ],
)
def test_a_task_of_parts_that_are_not_there_is_refused_before_it_is_computed(
    changed: Task, code: ErrorCode, message: str
) -> None:
    with pytest.raises(FederatedError, match=message) as raised:
        check(changed, dataset())
    assert raised.value.code is code


@pytest.mark.parametrize("coding", [Coding(bits=8), Coding(sent=2)], ids=["rounded", "in part"])
def test_only_updates_are_rounded_or_sent_in_part(coding: Coding) -> None:
    def asking(task: Task) -> Task:
        return replace(task, work=replace(task.work, coding=coding))

    check(asking(training(PRIVATE)), dataset())
    with pytest.raises(FederatedError, match="only updates that a rule combines") as raised:
        check(asking(statistics(3.0)), dataset())
    assert raised.value.code is ErrorCode.INVALID_VALUE


def test_more_than_a_node_remembers_is_refused_before_it_is_charged() -> None:
    def asking(sent: int | None) -> Task:
        task = training(PRIVATE)
        size = limits.MAX_VECTOR_BYTES // task.work.dtype.itemsize
        return replace(task, work=replace(task.work, size=size, coding=Coding(bits=8, sent=sent)))

    with pytest.raises(FederatedError, match="remember too much") as raised:
        check_travelling(asking(5), find_step(training(PRIVATE)))
    assert raised.value.code is ErrorCode.PROGRAM_LIMIT
    check_travelling(asking(None), find_step(training(PRIVATE)))


def test_a_codec_takes_its_own_settings_within_their_bounds() -> None:
    def asking(**settings: int) -> Task:
        task = statistics(3.0)
        return replace(task, work=replace(task.work, coding=Coding("zstd", settings)))

    check(asking(compression_level=22), dataset())
    for wrong in ({"compression_level": 23}, {"effort": 1}):
        with pytest.raises(FederatedError) as raised:
            check(asking(**wrong), dataset())
        assert raised.value.code is ErrorCode.INVALID_VALUE


def test_no_more_than_half_of_the_subjects_are_held_out() -> None:
    check(replace(statistics(3.0), reading=replace(READING, validation_split=0.5)), dataset())
    with pytest.raises(FederatedError, match=r"at most 0\.5"):
        check(replace(statistics(3.0), reading=replace(READING, validation_split=0.51)), dataset())


@pytest.mark.parametrize(
    ("task", "contribution"),
    [
        pytest.param(statistics(3.0), Contribution(VECTOR, 1.0, Plain()), id="plain under a budget"),
        pytest.param(
            statistics(3.0), Contribution(VECTOR, 1.0, ClippedSum(MOST, Mechanism(2.9))), id="less noise"
        ),
        pytest.param(
            statistics(3.0), Contribution(VECTOR, 1.0, ClippedSum(MOST, Mechanism(30.0))), id="charged less"
        ),
        pytest.param(
            training(PRIVATE),
            Contribution(VECTOR, 80.0, AlreadyPrivate(Mechanism(2.0, 0.5, 11))),
            id="more steps",
        ),
        pytest.param(
            training(PRIVATE),
            Contribution(VECTOR, 80.0, AlreadyPrivate(Mechanism(2.0, 0.4, 10))),
            id="a lower rate claimed",
        ),
        pytest.param(
            statistics(None, None),
            Contribution(VECTOR, 1.0, ClippedSum(MOST, Mechanism(3.0))),
            id="noise that nobody asked for",
        ),
        pytest.param(
            training(PRIVATE),
            Contribution(VECTOR, 79.0, AlreadyPrivate(Mechanism(2.0, 0.5, 10))),
            id="the true count as weight",
        ),
        pytest.param(
            statistics(3.0),
            Contribution(VECTOR, 200.0, ClippedSum(MOST, Mechanism(3.0))),
            id="the row count as weight",
        ),
        pytest.param(
            statistics(3.0),
            Contribution(VECTOR, 1.0, ClippedSum(0.0, Mechanism(3.0))),
            id="no sensitivity",
        ),
        pytest.param(
            statistics(3.0),
            Contribution(VECTOR, 1.0, ClippedSum(MOST / 2.0, Mechanism(3.0))),
            id="half of the sensitivity",
        ),
        pytest.param(
            statistics(3.0),
            Contribution(VECTOR, 1.0, ClippedSum(math.nan, Mechanism(3.0))),
            id="a sensitivity that is no number",
        ),
        pytest.param(
            training(PRIVATE),
            Contribution(VECTOR, 80.0, ClippedSum(MOST, Mechanism(2.0, 0.5, 10))),
            id="a sum where the step adds its noise",
        ),
        pytest.param(
            statistics(3.0),
            Contribution(VECTOR.astype(np.float32), 1.0, ClippedSum(MOST, Mechanism(3.0))),
            id="a sum that was rounded to float32",
        ),
        pytest.param(
            statistics(3.0),
            Contribution(VECTOR, 1.0, ClippedSum(MOST, Mechanism(3.0)), stays=make_state(rows=VECTOR)),
            id="something that stays of the rows",
        ),
    ],
)
def test_a_contribution_that_is_not_guarded_as_asked_does_not_leave(
    task: Task, contribution: Contribution
) -> None:
    with pytest.raises(FederatedError) as raised:
        check_guard(task, contribution)
    assert raised.value.code is ErrorCode.INTERNAL


def test_contributions_guarded_as_asked_pass() -> None:
    check_guard(statistics(None, None), Contribution(VECTOR, 200.0, Plain()))
    check_guard(statistics(None, None), Contribution(VECTOR, 200.0, Plain(), stays=make_state(rows=VECTOR)))
    check_guard(statistics(3.0), Contribution(VECTOR, 1.0, ClippedSum(MOST, Mechanism(3.0))))
    for vector in (VECTOR, VECTOR.astype(np.float32)):
        check_guard(training(PRIVATE), Contribution(vector, 80.0, AlreadyPrivate(Mechanism(2.0, 0.5, 10))))


@pytest.mark.parametrize(
    ("vector", "weight"),
    [([np.nan], 1.0), ([np.inf], 1.0), ([1.0], 0.0), ([1.0], -1.0), ([1.0], np.nan), ([1.0], np.inf)],
)
def test_what_is_not_finite_does_not_leave(vector: list[float], weight: float) -> None:
    task = answering(statistics(None, None), len(vector))
    with pytest.raises(FederatedError) as raised:
        check_size(task, Contribution(np.array(vector), weight, Plain()))
    assert raised.value.code is ErrorCode.UPDATE_REJECTED


@pytest.mark.parametrize(
    ("asked", "vector"),
    [
        (Dtype.FLOAT64, np.zeros(3)),
        (Dtype.FLOAT64, np.zeros((2, 1))),
        (Dtype.FLOAT64, np.zeros(2, dtype=np.uint64)),
        (Dtype.UINT64, np.zeros(2)),
        (Dtype.UINT32, np.zeros(2, dtype=np.uint64)),
    ],
)
def test_what_is_not_of_the_size_and_type_that_was_asked_for_does_not_leave(
    asked: Dtype, vector: np.ndarray
) -> None:
    task = answering(training(None, None), 2, asked)
    check_size(task, Contribution(np.ones(2, dtype=asked.value), 1.0, Plain()))
    with pytest.raises(FederatedError, match="size and type") as raised:
        check_size(task, Contribution(vector, 1.0, Plain()))
    assert raised.value.code is ErrorCode.INTERNAL


def test_a_vector_travels_in_the_type_that_was_asked_for_or_not_at_all() -> None:
    check_size(answering(training(None, None), 2, Dtype.FLOAT32), Contribution(VECTOR, 1.0, Plain()))
    assert cast_real(VECTOR, Dtype.FLOAT64) is VECTOR
    assert cast_real(VECTOR, Dtype.FLOAT32).dtype == np.float32
    with pytest.raises(FederatedError, match="not finite"):
        cast_real(np.array([1e39]), Dtype.FLOAT32)


@pytest.mark.parametrize("usage", [Usage(-1.0, 0.0, 0.0), Usage(1.0, np.nan, 0.0), Usage(1.0, 0.0, np.inf)])
def test_time_and_memory_that_cannot_be_do_not_leave(usage: Usage) -> None:
    task = answering(statistics(None, None), VECTOR.size)
    check_size(task, Contribution(VECTOR, 1.0, Plain(), Usage(1.0, 0.5, 1e8)))
    with pytest.raises(FederatedError) as raised:
        check_size(task, Contribution(VECTOR, 1.0, Plain(), usage))
    assert raised.value.code is ErrorCode.INTERNAL


def test_a_contribution_passes_that_is_what_its_task_asks_for() -> None:
    size = statistics(3.0).work.size
    check_contribution(statistics(3.0), Contribution(np.zeros(size), 1.0, ClippedSum(MOST, Mechanism(3.0))))


def test_under_a_budget_time_and_memory_are_not_told() -> None:
    usage = Usage(0.0123, 0.0042, 1e8)
    answer = Contribution(VECTOR, 1.0, Plain(), usage)
    assert told_usage(statistics(None, None), answer) == usage
    assert told_usage(statistics(3.0), answer) is None


def test_a_clipped_sum_gets_noise_of_its_mechanism_and_others_none() -> None:
    plain = Contribution(np.zeros(20_000), 1.0, Plain())
    assert make_private(plain) is plain.vector
    noisy = make_private(Contribution(np.zeros(20_000), 1.0, ClippedSum(2.0, Mechanism(3.0))))
    assert noisy.std() == pytest.approx(6.0, rel=0.05)
    assert make_private(replace(plain, guard=ClippedSum(2.0, Mechanism(3.0)))).tobytes() != noisy.tobytes()


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
