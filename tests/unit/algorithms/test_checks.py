"""What can be said against a task without a row is said, each with its code; what passes is computed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any
from uuid import UUID

import numpy as np
import pytest

from federated_sql.errors import ErrorCode, FederatedError
from heliosdb.algorithms.linear import LINEAR_REGRESSION, LOGISTIC_REGRESSION
from heliosdb.algorithms.registry import algorithm, check_step
from heliosdb.algorithms.works import EvaluateWork, PrivateTraining, StatisticsWork, TrainWork
from heliosdb.domain import bounds
from heliosdb.domain.bounds import Bounds
from heliosdb.domain.ids import NodeName, RoundNumber, RunId, StepName, WorkspaceName
from heliosdb.domain.privacy import Budget
from heliosdb.domain.settings import Setting
from heliosdb.domain.state import NO_STATE, State, make_state
from heliosdb.domain.task import Privacy, Reading, Scaling, Task, TaskKey, Work
from heliosdb.domain.vector import Dtype

SCALING = Scaling((0.0, 1.0), (1.0, 2.0))
PRIVATE = PrivateTraining(2.0, 1.0, 0.5, 10, expected_subjects=80.0)
TRAINING = TrainWork("logistic_regression", SCALING, 1, 32, 0.1, PRIVATE, classes=2)
EVALUATION = EvaluateWork("linear_regression", SCALING, 3.0, classes=0)
STATISTICS = StatisticsWork("linear_regression", 3.0, ((0.0, 1.0),) * 3, classes=0)

WINDOWS = StatisticsWork("linear_regression", 3.0, windows=((36.9, 0.1), (-1e9, 2.0), (0.0, 0.0)), classes=0)

View = StatisticsWork | TrainWork | EvaluateWork
NAN, INF, SMALLEST = math.nan, math.inf, 5e-324


def task(view: View, parameters: object = (0.5, 0.0, -1.0)) -> Task:
    step, work, scaling, state = _envelope(view, np.array(parameters, dtype=float))
    key = TaskKey(WorkspaceName("w"), RunId(UUID(int=1)), RoundNumber(1), 0, StepName(step), NodeName("n"))
    return Task(key, Reading(None, ("x", "y"), "t", 0.2, 1), work, scaling, state, Budget(1.0, 1e-5))


def _envelope(view: View, parameters: np.ndarray) -> tuple[str, Work, Scaling | None, State]:
    match view:
        case StatisticsWork():
            return "statistics" if view.windows is None else "refine", view.to_work(2), None, NO_STATE
        case TrainWork():
            return "train", view.to_work(parameters.size), view.scaling, _state(parameters)
        case EvaluateWork():
            return "evaluate", view.to_work(), view.scaling, _state(parameters)


def _state(parameters: np.ndarray) -> State:
    """As `make_state`, which refuses what is not finite."""
    return make_state(parameters=parameters) if np.isfinite(parameters).all() else {"parameters": parameters}


def check(asked: Task) -> None:
    """As a node does."""
    algorithm(asked.work.algorithm).steps[asked.key.step].check(asked)


def refusal(asked: Task) -> FederatedError:
    with pytest.raises(FederatedError) as caught:
        check(asked)
    return caught.value


def with_work(view: View, **changes: Any) -> Task:
    made = task(view)
    return replace(made, work=replace(made.work, **changes))


def with_settings(view: View, **changes: Setting | None) -> Task:
    """None: without that setting."""
    made = task(view)
    given: Mapping[str, Setting | None] = {**made.work.settings, **changes}
    return with_work(view, settings={name: value for name, value in given.items() if value is not None})


def with_mechanism(view: View, **changes: Any) -> Task:
    privacy = task(view).work.privacy
    assert privacy is not None
    mechanism = replace(privacy.mechanism, **{k: v for k, v in changes.items() if k != "weight"})
    return with_work(view, privacy=Privacy(mechanism, changes.get("weight", privacy.weight)))


def with_scaling(view: View, **changes: Any) -> Task:
    return replace(task(view), scaling=replace(SCALING, **changes))


PLAIN_TRAINING = replace(TRAINING, privacy=None)
PLAIN_EVALUATION = replace(EVALUATION, noise_multiplier=None)
PLAIN_STATISTICS = StatisticsWork("logistic_regression", None, classes=2)
EVERY: list[View] = [
    STATISTICS,
    replace(STATISTICS, ranges=None),
    WINDOWS,
    PLAIN_STATISTICS,
    TRAINING,
    PLAIN_TRAINING,
    EVALUATION,
    PLAIN_EVALUATION,
]


@pytest.mark.parametrize("view", EVERY)
def test_what_fits_passes_and_reads_back_as_it_was_written(view: View) -> None:
    asked = task(view)
    check(asked)
    read: Mapping[type, Callable[[], View]] = {
        StatisticsWork: lambda: StatisticsWork.of(asked.work),
        TrainWork: lambda: TrainWork.of(asked),
        EvaluateWork: lambda: EvaluateWork.of(asked),
    }
    assert read[type(view)]() == view


@pytest.mark.parametrize("view", [STATISTICS, TRAINING, EVALUATION, PLAIN_EVALUATION])
def test_an_algorithm_that_is_not_built_is_refused(view: View) -> None:
    assert refusal(with_work(view, algorithm="oracle")).code is ErrorCode.NOT_SUPPORTED


def test_a_step_that_the_algorithm_does_not_have_is_refused() -> None:
    check_step("linear_regression", StepName("train"))
    with pytest.raises(FederatedError) as caught:
        check_step("linear_regression", StepName("exfiltrate"))
    assert caught.value.code is ErrorCode.NOT_SUPPORTED


def _whole(its: Bounds) -> tuple[list[int], list[int]]:
    return [int(its.least), int(its.most)], [int(its.least) - 1, int(its.most) + 1, -1, 2**63 - 1]


def _real(its: Bounds) -> tuple[list[float], list[float]]:
    below, beyond = math.nextafter(its.least, -INF), math.nextafter(its.most, INF)
    return [its.least, its.most], [below, beyond, -its.most, 0.0, SMALLEST, 1e300, NAN, INF, -INF]


NOISY: list[View] = [replace(STATISTICS, ranges=None), STATISTICS, WINDOWS, TRAINING, EVALUATION]
NUMBERS: list[tuple[str, Callable[[Any], Task], tuple[list[Any], list[Any]]]] = [
    ("learning_rate", lambda x: with_settings(TRAINING, learning_rate=x), _real(bounds.LEARNING_RATE)),
    ("learning_rate", lambda x: with_settings(PLAIN_TRAINING, learning_rate=x), _real(bounds.LEARNING_RATE)),
    ("clipping_norm", lambda x: with_settings(TRAINING, clipping_norm=x), _real(bounds.CLIPPING_NORM)),
    ("local_epochs", lambda x: with_settings(PLAIN_TRAINING, local_epochs=x), _whole(bounds.EPOCHS)),
    ("batch_size", lambda x: with_settings(PLAIN_TRAINING, batch_size=x), _whole(bounds.BATCH_SIZE)),
    ("sampling_rate", lambda x: with_mechanism(TRAINING, sampling_rate=x), _real(bounds.SAMPLING_RATE)),
    ("steps", lambda x: with_mechanism(TRAINING, steps=x), _whole(bounds.STEPS)),
    ("expected_subjects", lambda x: with_mechanism(TRAINING, weight=x), _real(bounds.EXPECTED_SUBJECTS)),
    ("target_scale", lambda x: with_scaling(EVALUATION, target_scale=x), _real(bounds.SCALE)),
    ("a scale", lambda x: with_scaling(TRAINING, scales=(1.0, x)), _real(bounds.SCALE)),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "make", "numbers"), NUMBERS, ids=[f"{number}-{one[0]}" for number, one in enumerate(NUMBERS)]
)
def test_a_number_on_its_bounds_passes_and_just_outside_is_refused_by_its_name(
    name: str, make: Callable[[Any], Task], numbers: tuple[list[Any], list[Any]]
) -> None:
    inside, outside = numbers
    for number in inside:
        check(make(number))
    for number in outside:
        error = refusal(make(number))
        assert error.code is ErrorCode.INVALID_VALUE
        assert error.message.startswith(f"{name} {number:g} is outside "), number


@pytest.mark.parametrize(
    ("number", "shown"), [(10**400, "inf"), (-(10**400), "-inf")], ids=["above", "below"]
)
def test_a_whole_number_beyond_all_doubles_is_outside(number: int, shown: str) -> None:
    for name in ("local_epochs", "batch_size", "learning_rate"):
        error = refusal(with_settings(PLAIN_TRAINING, **{name: number}))
        assert error.code is ErrorCode.INVALID_VALUE
        assert error.message.startswith(f"{name} {shown} is outside ")
    assert refusal(with_settings(STATISTICS, range_uppers=(1.0, 1.0, number))).code is ErrorCode.INVALID_VALUE


@pytest.mark.parametrize("view", NOISY)
def test_noise_outside_its_bounds_is_refused(view: View) -> None:
    its = bounds.NOISE_MULTIPLIER
    for number in _real(its)[1]:
        error = refusal(with_mechanism(view, noise_multiplier=number))
        assert (error.code, error.message) == (
            ErrorCode.INVALID_VALUE,
            f"noise_multiplier {number:g} is outside 0.01 … 1e+06",
        )
    check(with_mechanism(view, noise_multiplier=its.least))


@pytest.mark.parametrize("name", ["means", "target_mean"])
def test_a_mean_outside_its_bounds_is_refused(name: str) -> None:
    for number in (bounds.LOCATION.most, bounds.LOCATION.least, 0.0):
        check(with_scaling(TRAINING, **{name: number if name == "target_mean" else (number, 0.0)}))
    for number in (math.nextafter(bounds.LOCATION.most, INF), -1e300, NAN, INF, -INF):
        for view in (TRAINING, EVALUATION, PLAIN_TRAINING, PLAIN_EVALUATION):
            made = with_scaling(view, **{name: number if name == "target_mean" else (number, 0.0)})
            assert refusal(made).code is ErrorCode.INVALID_VALUE


@pytest.mark.parametrize(
    ("one", "message"),
    [
        ((1.0, 1.0), "a range's width"),
        ((1.0, 0.0), "a range's width"),
        ((0.0, 1e-200), "a range's width"),
        ((-1e150, 1e150), "a range's width"),
        ((0.0, 1e151), "range_uppers 1e+151 is outside"),
        ((-INF, 0.0), "range_lowers -inf is outside"),
        ((NAN, 1.0), "range_lowers nan is outside"),
        ((1e9, 1e9 + 0.5), "lost to rounding"),
    ],
)
def test_a_range_that_is_none_is_refused(one: tuple[float, float], message: str) -> None:
    error = refusal(task(replace(STATISTICS, ranges=((0.0, 1.0), one, (0.0, 1.0)))))
    assert error.code is ErrorCode.INVALID_VALUE
    assert message in error.message


def test_ranges_need_both_ends_one_for_each_column_and_a_budget() -> None:
    ends = {"range_lowers": (0.0,) * 3, "range_uppers": (1.0,) * 3}
    for asked in (
        with_settings(STATISTICS, range_uppers=None),
        with_settings(STATISTICS, range_lowers=None),
        with_settings(STATISTICS, range_uppers=(1.0,) * 4),
        with_settings(STATISTICS, range_uppers=()),
        task(replace(STATISTICS, ranges=((0.0, 1.0),) * 2)),
        with_settings(PLAIN_STATISTICS, **ends),
    ):
        assert refusal(asked).code is ErrorCode.INVALID_VALUE


@pytest.mark.parametrize(
    "one",
    [(NAN, 1.0), (INF, 1.0), (0.0, INF), (0.0, NAN), (0.0, -1.0), (0.0, SMALLEST), (1e300, 1.0), (1.0, 0.0)],
)
def test_a_window_that_is_none_is_refused(one: tuple[float, float]) -> None:
    asked = task(replace(WINDOWS, windows=((0.0, 1.0), one, (0.0, 1.0))))
    assert refusal(asked).code is ErrorCode.INVALID_VALUE


def test_windows_have_both_numbers_one_for_each_column_and_a_budget_and_belong_to_a_refinement() -> None:
    for asked in (
        with_settings(WINDOWS, centres=None),
        with_settings(WINDOWS, widths=None),
        with_settings(WINDOWS, widths=(1.0,) * 4),
        with_settings(WINDOWS, widths=(), centres=()),
        with_settings(WINDOWS, range_lowers=(0.0,) * 3, range_uppers=(1.0,) * 3),
        task(replace(WINDOWS, windows=((0.0, 1.0),) * 2)),
        with_settings(PLAIN_STATISTICS, centres=(0.0,) * 3, widths=(1.0,) * 3),
        with_work(WINDOWS, settings={}),
        replace(task(STATISTICS), work=task(WINDOWS).work),
        replace(task(WINDOWS), work=task(STATISTICS).work),
        replace(task(WINDOWS), work=task(PLAIN_STATISTICS).work),
    ):
        assert refusal(asked).code is ErrorCode.INVALID_VALUE


@pytest.mark.parametrize("view", EVERY)
def test_a_strange_setting_is_refused_by_its_name(view: View) -> None:
    for name in ("proximal_mu", "", "noise_multiplier", "Learning_Rate"):
        error = refusal(with_settings(view, **{name: 1.0}))
        assert (error.code, error.message) == (ErrorCode.INVALID_VALUE, f"{name} is no setting here")


@pytest.mark.parametrize("name", ["local_epochs", "batch_size", "learning_rate"])
@pytest.mark.parametrize("value", [None, True, "1", (1,), (), (1.0, 2.0), b"1"])
def test_a_setting_that_is_missing_or_of_another_type_is_refused(name: str, value: Any) -> None:
    for view in (TRAINING, PLAIN_TRAINING):
        error = refusal(with_settings(view, **{name: value}))
        assert error.code is ErrorCode.INVALID_VALUE
        assert error.message.startswith(name)
    assert refusal(with_settings(TRAINING, local_epochs=1.0)).code is ErrorCode.INVALID_VALUE


@pytest.mark.parametrize("value", [1.0, "a", True, ("0", "0", "0"), (True, True, True), ((0.0,),) * 3])
def test_ranges_of_another_type_are_refused(value: Any) -> None:
    for name in ("range_lowers", "range_uppers"):
        assert refusal(with_settings(STATISTICS, **{name: value})).code is ErrorCode.INVALID_VALUE


def test_privacy_and_a_clipping_norm_go_together() -> None:
    for asked in (
        with_settings(TRAINING, clipping_norm=None),
        with_work(TRAINING, privacy=None),
        with_settings(PLAIN_TRAINING, clipping_norm=1.0),
        with_work(PLAIN_TRAINING, privacy=Privacy(PRIVATE.mechanism, 80.0)),
    ):
        error = refusal(asked)
        assert (error.code, error.message) == (
            ErrorCode.INVALID_VALUE,
            "clipping_norm and privacy go together",
        )


@pytest.mark.parametrize("view", [STATISTICS, replace(STATISTICS, ranges=None), WINDOWS, EVALUATION])
@pytest.mark.parametrize(
    "change", [{"sampling_rate": 0.5}, {"steps": 2}, {"steps": 0}, {"weight": 2.0}, {"weight": NAN}]
)
def test_a_sum_over_all_subjects_that_claims_to_be_sampled_repeated_or_weighted_is_refused(
    view: View, change: Mapping[str, float]
) -> None:
    assert refusal(with_mechanism(view, **change)).code is ErrorCode.INVALID_VALUE


@pytest.mark.parametrize("view", EVERY)
def test_a_vector_of_another_size_or_type_is_refused(view: View) -> None:
    size = task(view).work.size
    for wrong in (0, size - 1, size + 1, 2**62):
        assert refusal(with_work(view, size=wrong)).code is ErrorCode.INVALID_VALUE
    for dtype in set(Dtype) - {Dtype.FLOAT64}:
        assert refusal(with_work(view, dtype=dtype)).code is ErrorCode.INVALID_VALUE


MODELLED: list[View] = [TRAINING, EVALUATION, PLAIN_TRAINING, PLAIN_EVALUATION]


@pytest.mark.parametrize("parameters", [[0.0, 0.0], [0.0] * 4, [], [[0.0] * 3], 0.0])
@pytest.mark.parametrize("view", MODELLED)
def test_parameters_of_another_length_are_refused(view: View, parameters: object) -> None:
    assert refusal(task(view, parameters)).code is ErrorCode.INVALID_VALUE


@pytest.mark.parametrize("view", MODELLED)
def test_parameters_beyond_their_bounds_are_refused(view: View) -> None:
    for value in (1e9, -1e9):
        check(task(view, [0.0, value, 0.0]))
    for value in (math.nextafter(1e9, INF), -1e10, 1e300, NAN, INF, -INF):
        error = refusal(task(view, [0.0, value, 0.0]))
        assert error.code is ErrorCode.INVALID_VALUE
        assert error.message.startswith(f"a parameter {value:g} is outside")


@pytest.mark.parametrize("view", MODELLED)
def test_a_state_that_is_another_model_s_is_refused(view: View) -> None:
    three = np.zeros(3)
    for state in (
        NO_STATE,
        make_state(parameters=three, more=three),
        make_state(weights=three),
        make_state(parameters=three.astype(np.float32)),
        make_state(parameters=np.zeros(3, dtype=np.int64)),
        make_state(parameters=np.zeros((3, 1))),
        make_state(parameters=np.zeros((1, 3))),
        make_state(parameters=np.zeros(())),
    ):
        assert refusal(replace(task(view), state=state)).code is ErrorCode.INVALID_VALUE


@pytest.mark.parametrize("view", MODELLED)
def test_a_scaling_that_is_missing_or_of_other_features_is_refused(view: View) -> None:
    for scaling in (
        None,
        Scaling((0.0,), (1.0,)),
        Scaling((0.0, 1.0), (1.0,)),
        Scaling((0.0,), (1.0, 1.0)),
        Scaling((), ()),
        Scaling((0.0,) * 3, (1.0,) * 3),
    ):
        assert refusal(replace(task(view), scaling=scaling)).code is ErrorCode.INVALID_VALUE


@pytest.mark.parametrize("view", [STATISTICS, PLAIN_STATISTICS, WINDOWS])
def test_statistics_that_depend_on_a_model_are_refused(view: View) -> None:
    assert refusal(replace(task(view), scaling=SCALING)).code is ErrorCode.INVALID_VALUE
    state = make_state(parameters=np.zeros(3))
    assert refusal(replace(task(view), state=state)).code is ErrorCode.INVALID_VALUE


@pytest.mark.parametrize("view", NOISY)
def test_more_noise_than_the_lattice_takes_is_refused(view: View) -> None:
    check(with_mechanism(view, noise_multiplier=5e4))
    big = with_mechanism(view, noise_multiplier=1e6)
    if isinstance(view, StatisticsWork):
        assert refusal(big).code is ErrorCode.PROGRAM_LIMIT
    else:
        check(big)


def test_both_models_check_the_same_way() -> None:
    for model, classes in ((LINEAR_REGRESSION, 0), (LOGISTIC_REGRESSION, 2)):
        for view in (TRAINING, EVALUATION):
            check(task(replace(view, algorithm=model.name, classes=classes)))


@pytest.mark.parametrize("view", [STATISTICS, TRAINING, EVALUATION])
@pytest.mark.parametrize(("name", "classes"), [("linear_regression", 2), ("logistic_regression", 0)])
def test_a_target_that_the_algorithm_does_not_learn_is_refused(view: Any, name: str, classes: int) -> None:
    with pytest.raises(FederatedError, match="learns no target"):
        check(task(replace(view, algorithm=name, classes=classes)))
