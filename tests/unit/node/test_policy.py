"""What a node is asked and may not answer is refused before a row is read, whatever the coordinator says."""

from __future__ import annotations

from dataclasses import replace

import pytest

from heliosdb.algorithms.works import EvaluateWork, StatisticsWork
from heliosdb.domain.coding import Coding
from heliosdb.domain.disclosure_rules import DisclosureRules
from heliosdb.domain.encoding import ColumnEncoding, ColumnKind, Encoding
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.ids import StepName
from heliosdb.domain.privacy import Mechanism
from heliosdb.domain.task import Summing, Task
from heliosdb.node.policy import asked_mechanism, check_travelling, find_step
from heliosdb.parts.algorithms import RegressionSettings
from heliosdb.transport import limits
from tests.unit.node.door_tasks import (
    BUDGET,
    KEY,
    PRIVATE,
    READING,
    SCALING,
    check,
    dataset,
    statistics,
    training,
)


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
