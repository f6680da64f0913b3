"""Domain objects survive the wire exactly; what is malformed, unknown or out of range is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

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
numbers = st.floats(allow_nan=False, allow_infinity=False)
positive = st.floats(min_value=1e-300, max_value=1e300)
counts = st.integers(1, 1_000_000)
rates = st.floats(min_value=1e-9, max_value=1.0)

scalings = st.integers(1, 5).flatmap(
    lambda n: st.builds(
        Scaling,
        st.tuples(*[numbers] * n),
        st.tuples(*[positive] * n),
        numbers,
        positive,
    )
)
privacies = st.builds(PrivateTraining, positive, positive, rates, counts, positive)
trainings = st.builds(
    TrainWork,
    names,
    scalings,
    counts,
    counts,
    positive,
    st.none() | privacies,
)
evaluations = st.builds(EvaluateWork, names, scalings, st.none() | positive)
ranges = st.lists(st.tuples(numbers, numbers).filter(lambda r: r[0] < r[1]), max_size=4).map(tuple)
statistics = st.builds(StatisticsWork, names, st.none() | positive, st.none() | ranges)
STEPS = {StatisticsWork: Step.STATISTICS, TrainWork: Step.TRAIN, EvaluateWork: Step.EVALUATE}
SEALING_KEY = bytes(range(32))


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
        parameters=np.array(draw(st.lists(numbers, max_size=8)), dtype=np.float64),
        budget=draw(st.none() | st.builds(Budget, positive, st.floats(1e-12, 0.5))),
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
    ("not finite", lambda h: h.train.scaling.means.__setitem__(0, float("inf"))),
    ("not greater than 0", lambda h: h.train.scaling.scales.__setitem__(0, 0.0)),
    ("not greater than 0", _set("train.learning_rate", float("nan"))),
    ("count", _set("train.local_epochs", 0)),
    ("count", _set("train.batch_size", 2_000_000_000)),
    ("sampling rate", lambda h: h.train.privacy.CopyFrom(pb.PrivateTraining(sampling_rate=1.5))),
    ("dtype", _set("parameters.dtype", 0)),
    ("one-dimensional", lambda h: h.parameters.shape.append(2)),
    ("too large", lambda h: h.parameters.shape.__setitem__(0, 2**60)),
    ("SHA-256", _set("parameters.sha256", b"")),
    ("sealing key", _set("sealing_key", b"x" * 31)),
    ("not greater than 0", lambda h: h.budget.CopyFrom(pb.Budget(epsilon=0.0, delta=1e-5))),
    ("delta", lambda h: h.budget.CopyFrom(pb.Budget(epsilon=1.0, delta=1.0))),
]


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
