"""Levels are read of a noised sum of codewords: the frequent ones are, one person's never is, and each subject adds as
little as any other."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from heliosdb.algorithms.codewords import PARTS, SIZE, codewords, part_of, sum_codewords
from heliosdb.algorithms.decoding import read_texts
from heliosdb.algorithms.draws import TaskDraws
from heliosdb.algorithms.linear import LINEAR_REGRESSION, LOGISTIC_REGRESSION
from heliosdb.algorithms.neural import NEURAL_NETWORK
from heliosdb.algorithms.table import RawColumn, Table
from heliosdb.algorithms.vocabulary import VOCABULARY, WIDTH, VocabularyStep
from heliosdb.coordinator.course import Course
from heliosdb.domain.encoding import ColumnEncoding, ColumnKind, Encoding
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.findings import Findings, RunPlan
from heliosdb.domain.ids import RoundNumber
from heliosdb.domain.run import Run
from heliosdb.domain.state import NO_STATE
from heliosdb.domain.task import Task
from heliosdb.domain.update import Total
from heliosdb.domain.vector import ClippedSum, Contribution
from heliosdb.node.guards import make_private
from heliosdb.privacy.accountant import Accountant
from heliosdb.privacy.mechanisms import Lattice
from tests.security.private_cases import check_task
from tests.support.runs import PRIVATE, with_options, with_policy

STEP = VocabularyStep("logistic_regression")
TEXTS = ("", "m", "Rom", "Köln", "Self-emp-not-inc", "日本", "x" * 62, "y" * 120)
CITY = Encoding((ColumnEncoding("city", ColumnKind.CATEGORY), ColumnEncoding("age")), ("0", "1"))
LEVELS = ("Köln", "Rom", "Ulm", "only here", "z" * 200)


def opened(epsilon: float = 8.0, *, run: Run = PRIVATE, encoding: Encoding = CITY) -> RunPlan:
    """What is known when round 0 opens."""
    run = with_policy(with_options(run, features=("city", "age")), privacy_budget=epsilon)
    plan = RunPlan(run, Findings(encoding=encoding), RoundNumber(0))
    return replace(plan, findings=LOGISTIC_REGRESSION.prepare(plan))


def asked(plan: RunPlan) -> Task:
    work = STEP.ask(plan, NO_STATE).work
    return check_task(
        LOGISTIC_REGRESSION, "vocabulary", ("city", "age"), work, encoding=plan.findings.encoding
    )


def table(codes: list[float], subjects: list[int] | None = None) -> Table:
    places, rows = np.array(codes, dtype=float), len(codes)
    whose = np.arange(rows) if subjects is None else np.array(subjects)
    made = Table.from_rows(
        np.stack([places, np.zeros(rows)], axis=1), np.zeros(rows), whose, np.zeros(rows, dtype=bool)
    )
    return replace(made, columns=(RawColumn(ColumnKind.CATEGORY, levels=LEVELS), RawColumn()))


def answer(plan: RunPlan, codes: list[float], subjects: list[int] | None = None) -> Contribution:
    task = asked(plan)
    return STEP.compute(table(codes, subjects), task, NO_STATE, TaskDraws(task, b"key"))


def steps(plan: RunPlan, codes: list[float], subjects: list[int] | None = None) -> np.ndarray:
    made, noise = answer(plan, codes, subjects), plan.findings.plan
    assert noise is not None
    assert noise.levels_noise is not None
    return np.rint(made.vector / Lattice.of(1.0, noise.levels_noise, WIDTH).step).astype(np.int64)


def found(plan: RunPlan, codes: list[float], subjects: list[int] | None = None) -> ColumnEncoding:
    noised = make_private(answer(plan, codes, subjects))
    encoding = STEP.read(plan, NO_STATE, Total(noised, 1.0, 1)).findings
    assert encoding is not None
    assert encoding.encoding is not None
    return encoding.encoding.columns[0]


def test_a_codeword_has_one_norm_and_lies_where_its_length_says() -> None:
    for text in TEXTS:
        raw = text.encode()
        part = part_of(raw)
        made = sum_codewords([raw], np.array([3]))
        assert part.fewest <= len(raw) <= part.most
        assert np.abs(made).sum() == 3 * part.values
        assert not np.any(made[: part.start])
        assert not np.any(made[part.stop :])
    assert PARTS[-1].most >= 120


def test_codewords_of_names_that_begin_alike_are_not() -> None:
    _, words = codewords([b"Married-civ", b"Married-cov", b"Married"], part_of(b"Married-civ"))
    likeness = words.astype(float) @ words.astype(float).T / words.shape[1]
    assert abs(likeness[0, 1]) < 0.75
    assert abs(likeness[0, 2]) < 0.75


def test_what_is_frequent_is_read_with_its_count_and_error() -> None:
    raw = [text.encode() for text in TEXTS]
    times = np.array([int(600 * 2**20 / math.sqrt(part_of(text).values)) for text in raw])
    noise = np.random.default_rng(1).normal(size=SIZE) * 10.0
    read = read_texts(sum_codewords(raw, times) / 2**20 + noise, 10.0)
    assert {one.text for one in read} == set(TEXTS)
    for one in read:
        assert one.error >= 10.0 * (1.0 - 1e-9)
        assert abs(one.count - 600.0) < 5.0 * one.error


def test_of_noise_alone_nothing_is_read() -> None:
    rng = np.random.default_rng(2)
    assert [read_texts(rng.normal(size=SIZE), 1.0) for _ in range(4)] == [[]] * 4


def test_levels_of_many_are_found_and_all_else_is_other() -> None:
    column = found(opened(), [0.0] * 400 + [1.0] * 300 + [2.0] * 200 + [3.0, -1.0, 4.0] + [math.nan] * 200)
    assert column.levels == ("Köln", "Rom", "Ulm")
    assert (column.null_level, column.other_level, column.form) == (True, True, "indicators")


def test_a_level_of_one_person_is_never_told_however_little_noise_there_is() -> None:
    # Of epsilon 1000 the noise is far below one subject's share: min_level_count and delta's quantile hold it back.
    for _ in range(10):
        column = found(opened(1000.0), [1.0] * 200 + [3.0])
        assert column.levels == ("Rom",)


def test_a_subject_of_a_thousand_values_adds_no_more_than_one_of_one_value() -> None:
    plan = opened()
    one = np.linalg.norm(steps(plan, [0.0]))
    for codes in ([0.0] * 1000, [0.0, 1.0, 2.0, 3.0] * 250, [math.nan, 0.0, 4.0, -1.0] * 250):
        assert np.linalg.norm(steps(plan, codes, [0] * 1000)) <= one * (1.0 + 1e-9)


def test_levels_of_a_column_are_asked_for_once() -> None:
    """Its values are in memory, and how many times they are would be the task's to say."""
    twice = Encoding((CITY.columns[0], CITY.columns[0]), ("0", "1"))
    task = replace(asked(opened()), encoding=twice)
    task = replace(task, work=replace(task.work, size=2 * WIDTH))
    with pytest.raises(FederatedError, match="asked for twice"):
        STEP.check(task)


def test_max_levels_and_min_level_count_are_heeded() -> None:
    codes = [0.0] * 500 + [1.0] * 400 + [2.0] * 300
    run = with_options(PRIVATE, max_levels=2)
    assert found(opened(run=run), codes).levels == ("Köln", "Rom")
    run = with_options(PRIVATE, min_level_count=450)
    assert found(opened(run=run), codes).levels == ("Köln",)


def test_a_column_of_which_no_level_stands_out_ends_the_run_with_both_ways_out() -> None:
    with pytest.raises(FederatedError, match='no level of feature "city" stands out') as caught:
        found(opened(1.0), [0.0, 1.0, 2.0] * 5)
    assert caught.value.code is ErrorCode.INVALID_VALUE
    assert "declare" in (caught.value.hint or "")


def test_it_is_charged_first_of_all_and_round_0_costs_no_more_than_without_it() -> None:
    plan, declared = opened(), replace(CITY, columns=(ColumnEncoding("age"), ColumnEncoding("b")))
    costs = LOGISTIC_REGRESSION.releases(plan)
    assert costs[0].step == VOCABULARY == LOGISTIC_REGRESSION.first(plan)
    assert costs[0].mechanism.noise == "gaussian"
    accountant = Accountant(1e-5)
    before = accountant.epsilon(
        *(one.mechanism for one in LOGISTIC_REGRESSION.releases(opened(encoding=declared)))
    )
    assert accountant.epsilon(*(one.mechanism for one in costs)) == pytest.approx(before, rel=1e-3)
    assert isinstance(answer(plan, [0.0]).guard, ClippedSum)


def test_levels_are_found_under_gaussian_noise_where_the_workspace_has_laplace_noise() -> None:
    plan = opened(run=with_policy(PRIVATE, noise="laplacian"))
    first, *others = Course.of(plan.run).releases(plan)
    assert (first[1], first[2].noise) == (VOCABULARY, "gaussian")
    assert others and all(one[2].noise == "laplacian" for one in others)
    assert asked(plan).work.privacy is not None


@pytest.mark.parametrize("model", [LINEAR_REGRESSION, NEURAL_NETWORK], ids=lambda model: model.name)
def test_other_algorithms_begin_with_it_too(model: object) -> None:
    assert VOCABULARY in model.steps  # type: ignore[attr-defined]


def test_more_columns_than_an_update_holds_are_refused_when_the_run_opens() -> None:
    many = tuple(ColumnEncoding(f"c{place}", ColumnKind.CATEGORY) for place in range(257))
    with pytest.raises(FederatedError, match="levels of 257 categories are declared nowhere") as refused:
        opened(encoding=Encoding(many, ("0", "1")))
    assert refused.value.code is ErrorCode.INVALID_VALUE
    assert opened(encoding=Encoding(many[:256], ("0", "1"))).findings.plan is not None
