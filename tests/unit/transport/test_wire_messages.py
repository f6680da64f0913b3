"""Domain objects survive the wire exactly; what is malformed, unknown or out of range is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from federated_sql.option_table import OPTIONS, OptionKind
from heliosdb.domain import bounds
from heliosdb.domain.bounds import Bounds
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.handshake import DatasetDescription, Greeting, Introduction
from heliosdb.domain.ids import DatasetName, NodeName, RoundNumber, RunId, WorkspaceName
from heliosdb.domain.privacy import Budget
from heliosdb.domain.task import (
    EvaluateWork,
    PrivateTraining,
    Reading,
    Scaling,
    StatisticsWork,
    Step,
    Task,
    TaskKey,
    TrainWork,
    Work,
)
from heliosdb.domain.vector import vector_from_bytes
from heliosdb.transport import federation_pb2 as pb
from heliosdb.transport import limits
from heliosdb.transport.messages import (
    encode_task,
    greeting_from_proto,
    greeting_to_proto,
    introduction_from_proto,
    introduction_to_proto,
    refusal_from_proto,
    refusal_to_proto,
    task_from_header,
    task_sha256,
    with_parameters,
)

names = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=40)


def within(its: Bounds) -> st.SearchStrategy[float]:
    return st.floats(its.least, its.most)


def whole(its: Bounds) -> st.SearchStrategy[int]:
    return st.integers(int(its.least), int(its.most))


means, scales, noises = within(bounds.LOCATION), within(bounds.SCALE), within(bounds.NOISE_MULTIPLIER)

scalings = st.integers(1, 5).flatmap(
    lambda n: st.builds(
        Scaling,
        st.tuples(*[means] * n),
        st.tuples(*[scales] * n),
        means,
        scales,
    )
)
privacies = st.builds(
    PrivateTraining,
    noises,
    within(bounds.CLIPPING_NORM),
    within(bounds.SAMPLING_RATE),
    whole(bounds.STEPS),
    within(bounds.EXPECTED_SUBJECTS),
)
trainings = st.builds(
    TrainWork,
    names,
    scalings,
    whole(bounds.EPOCHS),
    whole(bounds.BATCH_SIZE),
    within(bounds.LEARNING_RATE),
    st.none() | privacies,
)
evaluations = st.builds(EvaluateWork, names, scalings, st.none() | noises)
ends = st.floats(-1e149, 1e149)
ranges = st.lists(st.tuples(ends, ends).filter(lambda r: _is_range(*r)), max_size=4).map(tuple)
statistics = st.builds(StatisticsWork, names, st.none() | noises, st.none() | ranges)
STEPS = {StatisticsWork: Step.STATISTICS, TrainWork: Step.TRAIN, EvaluateWork: Step.EVALUATE}
SEALING_KEY = bytes(range(32))


def _is_range(lower: float, upper: float) -> bool:
    width = upper - lower
    return bounds.SCALE.hold(width) and width >= 1e-9 * max(abs(lower), abs(upper))


@st.composite
def tasks(draw: st.DrawFn) -> Task:
    work: Work = draw(st.one_of(statistics, trainings, evaluations))
    n = draw(st.integers(1, 5)) if isinstance(work, StatisticsWork) else len(work.scaling.means)
    return Task(
        key=TaskKey(
            WorkspaceName(draw(names)),
            RunId(draw(st.uuids())),
            RoundNumber(draw(st.integers(0, 2**31 - 1))),
            STEPS[type(work)],
            NodeName(draw(names)),
        ),
        reading=Reading(
            draw(st.none() | names),
            tuple(draw(st.lists(names, min_size=n, max_size=n))),
            draw(names),
            draw(st.floats(0, 0.99)),
            draw(st.integers(0, 2**63 - 1)),
        ),
        work=work,
        parameters=np.array(draw(st.lists(within(bounds.PARAMETER), max_size=8)), dtype=np.float64),
        budget=draw(st.none() | st.builds(Budget, st.floats(1e-9, 1e6), st.floats(1e-12, 0.0999))),
        compliance_mode=draw(st.sampled_from(["none", "HIPAA", "GDPR", "BOTH"])),
    )


@given(tasks())
def test_a_task_survives_the_wire_bit_for_bit(task: Task) -> None:
    header, vector = encode_task(task, SEALING_KEY)
    read = task_from_header(header)
    received = with_parameters(read.task, vector_from_bytes(vector))
    assert (received.key, received.reading, received.work, received.budget) == (
        task.key,
        task.reading,
        task.work,
        task.budget,
    )
    assert received.compliance_mode == task.compliance_mode
    assert received.parameters.tobytes() == task.parameters.tobytes()
    assert read.length == len(task.parameters)
    assert read.sealing_key == SEALING_KEY
    assert encode_task(task, SEALING_KEY) == (header, vector)


def a_task() -> Task:
    work = TrainWork("logistic_regression", Scaling((1.0,), (2.0,)), 1, 32, 0.1)
    return Task(
        TaskKey(WorkspaceName("w"), RunId(UUID(int=7)), RoundNumber(1), Step.TRAIN, NodeName("n")),
        Reading(None, ("x",), "y", 0.2, 5),
        work,
        np.array([1.0, 2.0]),
        None,
    )


def test_another_vector_is_another_task() -> None:
    one, _ = encode_task(a_task(), SEALING_KEY)
    other, _ = encode_task(replace(a_task(), parameters=np.array([1.0, 2.0 + 2**-51])), SEALING_KEY)
    assert task_sha256(one) != task_sha256(other)


def _set(path: str, value: object) -> Callable[[pb.TaskHeader], None]:
    def change(header: pb.TaskHeader) -> None:
        *parents, last = path.split(".")
        target: object = header
        for parent in parents:
            target = getattr(target, parent)
        setattr(target, last, value)

    return change


MALFORMED: list[tuple[str, Callable[[pb.TaskHeader], None]]] = [
    ("run id", _set("key.run", b"short")),
    ("out of range", _set("key.round", 2**31)),
    ("empty or too long", _set("key.workspace", "")),
    ("empty or too long", _set("key.node", "n" * 256)),
    ("empty or too long", _set("reading.target", "a\0b")),
    ("not of the announced step", _set("key.step", "evaluate")),
    ("does not know", _set("key.step", "exfiltrate")),
    ("number of features", lambda h: h.reading.ClearField("features")),
    ("validation_split", _set("reading.validation_split", 1.0)),
    ("validation_split", _set("reading.validation_split", float("nan"))),
    ("no work", lambda h: h.ClearField("train")),
    ("differ in length", lambda h: h.train.scaling.means.append(1.0)),
    ("compliance_mode is none of none, HIPAA, GDPR, BOTH", _set("compliance_mode", "SOX")),
    ("compliance_mode", _set("compliance_mode", "")),
    ("dtype", _set("parameters.dtype", 0)),
    ("one-dimensional", lambda h: h.parameters.shape.append(2)),
    ("too large", lambda h: h.parameters.shape.__setitem__(0, 2**60)),
    ("SHA-256", _set("parameters.sha256", b"")),
    ("sealing key", _set("sealing_key", b"x" * 31)),
]

SMALLEST, NAN, INF = 5e-324, float("nan"), float("inf")


def _private(name: str, value: float) -> Callable[[pb.TaskHeader], None]:
    given = {
        "noise_multiplier": 1.0,
        "clipping_norm": 1.0,
        "sampling_rate": 0.1,
        "steps": 10,
        "expected_subjects": 100.0,
    }
    return lambda header: header.train.privacy.CopyFrom(pb.PrivateTraining(**given | {name: value}))  # type: ignore[arg-type]


def _budget(epsilon: float, delta: float) -> Callable[[pb.TaskHeader], None]:
    return lambda header: header.budget.CopyFrom(pb.Budget(epsilon=epsilon, delta=delta))


def _statistics(noise: float | None, *given: tuple[float, float]) -> Callable[[pb.TaskHeader], None]:
    def change(header: pb.TaskHeader) -> None:
        header.key.step = "statistics"
        ranges = pb.Ranges(ranges=[pb.Range(lower=lower, upper=upper) for lower, upper in given])
        work = pb.StatisticsWork(algorithm="a", noise_multiplier=noise, ranges=ranges if given else None)
        header.statistics.CopyFrom(work)

    return change


def _evaluation(noise: float) -> Callable[[pb.TaskHeader], None]:
    def change(header: pb.TaskHeader) -> None:
        header.key.step = "evaluate"
        scaling = header.train.scaling
        header.evaluate.CopyFrom(pb.EvaluateWork(algorithm="a", scaling=scaling, noise_multiplier=noise))

    return change


OUTSIDE: list[tuple[str, Callable[[pb.TaskHeader], None]]] = [
    *[(f"noise_multiplier {x:g} is", _private("noise_multiplier", x)) for x in (1e-300, 1e-5, 0.0, SMALLEST, NAN, INF, 2e6)],
    *[(f"noise_multiplier {x:g} is", _statistics(x)) for x in (1e-300, 0.009, NAN, INF)],
    *[(f"noise_multiplier {x:g} is", _evaluation(x)) for x in (1e-300, 0.009, NAN, INF)],
    *[(f"clipping_norm {x:g} is", _private("clipping_norm", x)) for x in (1e-300, 9e-7, 1e7, NAN, INF)],
    *[(f"sampling_rate {x:g} is", _private("sampling_rate", x)) for x in (1e-300, 9e-10, 1.5, 0.0, NAN)],
    *[(f"steps {x:g} is", _private("steps", x)) for x in (0, 10_000_001)],
    *[(f"expected_subjects {x:g} is", _private("expected_subjects", x)) for x in (0.5, SMALLEST, 1e13, NAN, INF)],
    *[(f"learning_rate {x:g} is", _set("train.learning_rate", x)) for x in (1e-300, 9e-13, 1001.0, 1e300, NAN, INF)],
    *[(f"local_epochs {x:g} is", _set("train.local_epochs", x)) for x in (0, 10_001)],
    *[(f"batch_size {x:g} is", _set("train.batch_size", x)) for x in (0, 2_000_000_000)],
    *[(f"a scale {x:g} is", lambda h, x=x: h.train.scaling.scales.__setitem__(0, x)) for x in (0.0, 1e-200, SMALLEST, 1e200, -1.0, NAN, INF)],
    *[(f"target_scale {x:g} is", _set("train.scaling.target_scale", x)) for x in (0.0, 1e-200, 1e200, NAN)],
    *[(f"a mean {x:g} is", lambda h, x=x: h.train.scaling.means.__setitem__(0, x)) for x in (1e200, -1e200, NAN, INF)],
    *[(f"target_mean {x:g} is", _set("train.scaling.target_mean", x)) for x in (1e200, NAN)],
    *[(f"epsilon {x:g} is", _budget(x, 1e-5)) for x in (0.0, -1.0, 1.1e6, NAN, INF)],
    *[(f"delta {x:g} is", _budget(1.0, x)) for x in (0.0, 0.1, 1.0, NAN)],
    *[("a range's width", _statistics(1.0, one)) for one in ((1.0, 1.0), (1.0, 0.0), (0.0, 1e-200), (-1e150, 1e150))],
    *[("a range's end", _statistics(1.0, one)) for one in ((0.0, 1e151), (-INF, 0.0), (NAN, 1.0))],
    ("lost to rounding", _statistics(1.0, (1e9, 1e9 + 0.5))),
]  # fmt: skip


@pytest.mark.parametrize(("message", "change"), OUTSIDE)
def test_a_number_outside_its_bounds_is_refused_by_its_name(
    message: str, change: Callable[[pb.TaskHeader], None]
) -> None:
    header = pb.TaskHeader.FromString(encode_task(a_task(), SEALING_KEY)[0])
    change(header)
    with pytest.raises(FederatedError) as raised:
        task_from_header(header.SerializeToString())
    assert message in raised.value.message
    assert raised.value.code is ErrorCode.INVALID_VALUE


def test_the_refusal_of_a_number_says_its_bounds() -> None:
    header = pb.TaskHeader.FromString(encode_task(a_task(), SEALING_KEY)[0])
    _private("noise_multiplier", 1e-5)(header)
    with pytest.raises(FederatedError) as raised:
        task_from_header(header.SerializeToString())
    assert raised.value.message == "noise_multiplier 1e-05 is outside 0.01 … 1e+06"


@pytest.mark.parametrize("value", [NAN, INF, -INF, 1.1e9, -1e300])
def test_a_parameter_outside_its_bounds_is_refused(value: float) -> None:
    with pytest.raises(FederatedError, match=r"a parameter .* is outside"):
        with_parameters(a_task(), np.array([0.5, value, 2.0]))


def test_no_option_allows_what_the_wire_refuses() -> None:
    workspace, training = OPTIONS[OptionKind.WORKSPACE], OPTIONS[OptionKind.TRAINING]
    for spec, its in (
        (workspace["noise_multiplier"], bounds.NOISE_MULTIPLIER),
        (workspace["clipping_threshold"], bounds.CLIPPING_NORM),
        (training["learning_rate"], bounds.LEARNING_RATE),
        (training["local_epochs"], bounds.EPOCHS),
        (training["batch_size"], bounds.BATCH_SIZE),
    ):
        assert (spec.minimum, spec.maximum) == (its.least, its.most), spec.name
    budget, delta = workspace["privacy_budget"], workspace["delta"]
    assert (budget.above, budget.maximum) == (0, bounds.MOST_EPSILON)
    assert (delta.above, delta.below) == (0, bounds.BELOW_DELTA)
    limits_of = training["feature_ranges"].range_limits
    assert limits_of is not None
    assert (-limits_of.ends, limits_of.ends) == (bounds.LOCATION.least, bounds.LOCATION.most)
    assert (limits_of.least_width, limits_of.most_width) == (bounds.SCALE.least, bounds.SCALE.most)
    assert limits_of.resolution == bounds.RANGE_RESOLUTION


@pytest.mark.parametrize(("message", "change"), MALFORMED)
def test_a_malformed_task_is_refused_by_name_of_what_is_wrong(
    message: str, change: Callable[[pb.TaskHeader], None]
) -> None:
    header = pb.TaskHeader.FromString(encode_task(a_task(), SEALING_KEY)[0])
    change(header)
    with pytest.raises(FederatedError) as raised:
        task_from_header(header.SerializeToString())
    assert message in raised.value.message
    assert raised.value.code in (ErrorCode.INVALID_VALUE, ErrorCode.NOT_SUPPORTED)


def test_a_field_of_another_version_is_refused_and_not_ignored() -> None:
    header, _ = encode_task(a_task(), SEALING_KEY)
    unknown_field_99 = b"\x98\x06\x01"
    with pytest.raises(FederatedError) as raised:
        task_from_header(header + unknown_field_99)
    assert raised.value.code is ErrorCode.NOT_SUPPORTED


def test_bytes_that_are_no_message_are_refused() -> None:
    with pytest.raises(FederatedError, match="cannot be decoded"):
        task_from_header(b"\xff" * 40)


def test_a_header_beyond_its_limit_is_refused_on_both_sides() -> None:
    wide = replace(a_task().reading, features=("x" * 255,) * 1200)
    scaling = Scaling((0.0,) * 1200, (1.0,) * 1200)
    task = replace(a_task(), reading=wide, work=TrainWork("logistic_regression", scaling, 1, 32, 0.1))
    with pytest.raises(FederatedError) as raised:
        encode_task(task, SEALING_KEY)
    assert raised.value.code is ErrorCode.PROGRAM_LIMIT
    with pytest.raises(FederatedError, match="too large"):
        task_from_header(b"\0" * (limits.MAX_HEADER_BYTES + 1))


def test_greetings_and_introductions_survive_the_wire() -> None:
    greeting = Greeting(WorkspaceName("w"), NodeName("n"))
    introduction = Introduction((DatasetDescription(DatasetName("d"), ("a", "b"), ("integer", "text")),))
    assert greeting_from_proto(greeting_to_proto(greeting)) == greeting
    assert introduction_from_proto(introduction_to_proto(introduction)) == introduction


def test_a_refusal_carries_code_message_and_hint_in_printable_text() -> None:
    error = FederatedError(ErrorCode.BUDGET_EXHAUSTED, "no more\x1b[31m", hint="wait")
    received = refusal_from_proto(refusal_to_proto(error), "n")
    assert received.code is ErrorCode.NODE_REFUSED
    assert received.reason is ErrorCode.BUDGET_EXHAUSTED
    assert received.message == 'node "n" refused: no more [31m'
    assert received.said == "no more [31m"
    assert received.hint == "wait"


def test_a_refusal_of_a_code_unknown_here_is_internal() -> None:
    assert refusal_from_proto(pb.Refusal(code="NEWER", message="m"), "n").reason is ErrorCode.INTERNAL
