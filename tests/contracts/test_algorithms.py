"""What every algorithm keeps to, step by step, at the coordinator and at a node; no step is known by name."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heliosdb.algorithms import Table, algorithm
from heliosdb.algorithms.registry import check_step
from heliosdb.algorithms.steps import REPORT, ClipsSums, Taken
from heliosdb.coordinator.course import ModelState
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.events import Figures
from heliosdb.domain.findings import Findings, RunPlan
from heliosdb.domain.ids import RoundNumber, StepName
from heliosdb.domain.state import NO_STATE, flatten, state_from_bytes, state_to_bytes
from heliosdb.domain.task import Scaling, Task
from heliosdb.domain.update import Update
from heliosdb.domain.vector import AlreadyPrivate, ClippedSum, Contribution, Dtype, Plain
from heliosdb.node.guards import make_private, sensitivity_of
from heliosdb.parts.algorithms import ALGORITHMS, last_round
from heliosdb.privacy.mechanisms import Lattice
from heliosdb.scoring.kinds import find_kind
from heliosdb.transport.messages import encode_task, received_task, task_from_header
from tests.contracts.hostile_tasks import (
    NUMBERS,
    foreign_states,
    refused,
    with_another_number,
    with_parts_of,
    with_settings,
    with_work,
)
from tests.contracts.journeys import (
    NODES,
    Journey,
    Stop,
    compute,
    make_run,
    modes,
    travel,
)
from tests.contracts.repeats import is_repeated, place_of

NAMES = [entry.name for entry in ALGORITHMS.entries() if isinstance(entry.part, str)]
"""All but those that other tests may have registered in this process, as objects."""

TRIPS = [(name, how) for name in NAMES for how in modes(name)]
LABELS = [name + "".join(f" {mode}" for mode, on in how.items() if on) for name, how in TRIPS]
SQL = Path(__file__).parents[2] / "sql"
SEALING_KEY = b"k" * 32
SEEDS = st.integers(0, 2**32 - 1)
VALUES = [
    0.0, -0.0, 1.0, -1.0, 1 / 3, 7.25, 1e6, 1e9 + 1, 1e150, -1e150, 1e300, -1.7e308, 5e-324, -1e-310,
    math.nan, math.inf, -math.inf,
]  # fmt: skip
TARGETS = [0.0, 1.0, 1.0, 0.5, -3.0, 1e300, -1e300, 5e-324]


@pytest.fixture(scope="module", params=TRIPS, ids=LABELS)
def journey(request: pytest.FixtureRequest) -> Journey:
    name, how = request.param
    return travel(name, **how)


PRIVATE = [place for place, (_, how) in enumerate(TRIPS) if how.get("private")]


@pytest.fixture(scope="module", params=[TRIPS[i] for i in PRIVATE], ids=[LABELS[i] for i in PRIVATE])
def private_journey(request: pytest.FixtureRequest) -> Journey:
    name, how = request.param
    return travel(name, **how)


def unlike_stops(journey: Journey) -> list[Stop]:
    """Of each step the first exchange and the last of each round; trees ask hundreds alike."""
    first = {stop.step.name: stop for stop in reversed(journey.stops)}
    last = {stop.label: stop for stop in journey.stops}
    return [stop for stop in journey.stops if stop is first[stop.step.name] or stop is last[stop.label]]


@cache
def all_stops() -> list[Stop]:
    """Of all journeys."""
    return [stop for name, how in TRIPS for stop in unlike_stops(travel(name, **how))]


def of_each_stop(test: Callable[..., None]) -> Callable[[Journey], None]:
    """Make a test of a stop one of a journey: whoever only collects it need not travel."""

    def over_stops(journey: Journey) -> None:
        for stop in unlike_stops(journey):
            try:
                test(stop=stop)
            except BaseException as error:
                error.add_note(f"at {stop.label}")
                raise

    return over_stops


def of_each_private_stop(over_stops: Callable[[Journey], None]) -> Callable[[Journey], None]:
    """The same over journeys under a budget."""

    def over_private_stops(private_journey: Journey) -> None:
        over_stops(private_journey)

    return over_private_stops


def by_examples(
    often: int, seldom: int, **drawn: st.SearchStrategy[Any]
) -> Callable[[Callable[..., None]], Callable[[Journey], None]]:
    """Make a test of a stop, with what is drawn for it, one of a journey. seldom: how often an exchange is tried
    that an earlier journey had alike."""

    def decorate(test: Callable[..., None]) -> Callable[[Journey], None]:
        first, again = (settings(max_examples=most)(given(**drawn)(test)) for most in (often, seldom))

        def over_stops(journey: Journey) -> None:
            of_each_stop(lambda stop: (again if is_repeated(stop, journey, TRIPS) else first)(stop=stop))(
                journey
            )

        return over_stops

    return decorate


@pytest.mark.parametrize("name", NAMES)
def test_it_is_known_by_its_name_and_its_steps_by_theirs(name: str) -> None:
    found = algorithm(name.upper())
    assert found is ALGORITHMS.get(name)
    assert found.name == name
    assert found.steps
    for key, step in found.steps.items():
        assert key == step.name
        assert step.gathers in ("sum", "rule")
        check_step(name, key)
    for number in (0, 1, 2, 1000):
        plan = RunPlan(make_run(name), Findings(), RoundNumber(number))
        assert found.steps[found.first(plan)].required
    with pytest.raises(FederatedError) as caught:
        check_step(name, StepName("exfiltrate"))
    assert caught.value.code is ErrorCode.NOT_SUPPORTED


def test_a_task_survives_the_wire_bit_for_bit(journey: Journey) -> None:
    for stop in journey.stops:
        for task in stop.tasks.values():
            header, body = encode_task(task, SEALING_KEY)
            arrived = received_task(task_from_header(header), body).task
            assert replace(arrived, state=NO_STATE) == replace(task, state=NO_STATE)
            assert state_to_bytes(arrived.state) == state_to_bytes(task.state)
            stop.step.check(arrived)


def test_asking_again_from_what_is_committed_is_the_same_task_to_the_byte(journey: Journey) -> None:
    for stop in journey.stops:
        plan = stop.question.plan
        findings = Findings.from_json(
            _through_json(plan.findings.scaling_json()), _through_json(plan.findings.plan_json())
        )
        assert findings == plan.findings
        again = journey.course.ask(
            replace(plan, findings=findings),
            stop.question.exchange,
            stop.step.name,
            ModelState(state_from_bytes(state_to_bytes(stop.model.state))),
            len(NODES),
        )
        for node, task in stop.tasks.items():
            asked = again.task(node, "patients", NO_STATE)
            assert encode_task(asked, SEALING_KEY) == encode_task(task, SEALING_KEY)


def _through_json(value: Any) -> Any:
    return json.loads(json.dumps(value, allow_nan=False))


def test_a_model_is_a_state_and_an_update_of_a_rule_is_of_what_moves(journey: Journey) -> None:
    for stop in journey.stops:
        for state in (stop.task.state, stop.after.state):
            raw = state_to_bytes(state)
            assert state_to_bytes(state_from_bytes(raw)) == raw
        if stop.step.gathers == "rule":
            assert stop.task.work.size == flatten(stop.model.state, stop.step.moving).size
            assert stop.task.work.dtype.is_real
            assert stop.after.state.keys() == stop.model.state.keys()
        else:
            assert not stop.step.moving
    assert journey.model.state


def test_an_answer_is_of_the_size_type_and_guard_that_its_task_says(journey: Journey) -> None:
    for stop in journey.stops:
        for node, made in stop.made.items():
            check_contribution(stop.tasks[node], made)
            if isinstance(made.guard, ClippedSum):
                # By this the coordinator knows how much noise a sum needs, where it adds that.
                assert isinstance(stop.step, ClipsSums)
                assert stop.step.sensitivity(stop.tasks[node]) == made.guard.sensitivity
            least = stop.step.least_rows(stop.tasks[node])
            assert least is None or least >= 1
            rows = stop.question.rows(Update(node, make_private(made), made.weight))
            assert rows is None or (type(rows) is int and rows >= 0)


def check_contribution(task: Task, made: Contribution) -> None:
    work = task.work
    assert made.vector.shape == (work.size,)
    # A sum gets its noise in float64, in whatever type it travels.
    dtype = "float64" if isinstance(made.guard, ClippedSum) else work.dtype.value
    assert made.vector.dtype.name == dtype
    assert math.isfinite(made.weight)
    assert made.weight > 0
    if work.privacy is None:
        assert made.guard == Plain()
        return
    assert isinstance(made.guard, ClippedSum | AlreadyPrivate)
    if isinstance(made.guard, ClippedSum):
        assert made.guard.sensitivity == sensitivity_of(task)
    assert made.guard.mechanism == work.privacy.mechanism
    assert made.weight == work.privacy.weight
    assert np.isfinite(make_private(made)).all()
    assert made.stays is None


def test_a_plain_answer_is_the_same_to_the_bit_and_a_private_one_never(journey: Journey) -> None:
    for stop in journey.stops:
        for node, task in stop.tasks.items():
            again = compute(stop.step, stop.tables[node], task, stop.memory[node])
            released = [make_private(made).tobytes() for made in (again, stop.made[node])]
            assert (released[0] == released[1]) is (task.work.privacy is None)


def test_what_a_round_reserves_is_what_its_steps_ask_for(journey: Journey) -> None:
    algorithm = journey.course.algorithm
    for number in sorted({stop.question.plan.round for stop in journey.stops}):
        stops = [stop for stop in journey.stops if stop.question.plan.round == number]
        asked = [
            (stop.step.name, stop.task.work.privacy.mechanism)
            for stop in stops
            if stop.task.work.privacy is not None
        ]
        costs = algorithm.releases(stops[0].question.plan)
        reserved = [(cost.step, cost.mechanism) for cost in costs]
        reports = journey.course.report_releases(stops[-1].question.plan, 0)
        if stops[-1].step.name == REPORT:
            reserved += [(step, mechanism) for _, step, mechanism in reports]
        assert reserved == asked
        assert bool(asked) is (journey.course.run.policy.budget is not None)
        assert all(cost.clipping_norm is None or cost.clipping_norm > 0 for cost in costs)


def test_under_a_budget_no_answer_is_plain(journey: Journey) -> None:
    private = journey.course.run.policy.budget is not None
    assert all((stop.task.work.privacy is not None) is private for stop in journey.stops)


def test_a_prediction_is_finite_numbers_of_a_kind_that_the_catalog_renders(journey: Journey) -> None:
    prediction = journey.course.algorithm.predict(journey.model.state, journey.findings)
    if prediction.arrays:
        state_to_bytes(prediction.arrays)
        assert journey.findings.scaling is not None
        inputs = np.random.default_rng(5).normal(size=(20, len(journey.findings.scaling.means)))
        scored = find_kind(prediction.kind)(prediction.content, prediction.arrays, inputs)
        assert np.isfinite(scored).all()
    else:
        function = re.compile(rf"CREATE FUNCTION federated\._render_{re.escape(prediction.kind)}\(")
        assert any(function.search(path.read_text()) for path in SQL.glob("*.sql"))
    assert prediction.kind.isidentifier()
    json.dumps(dict(prediction.content), allow_nan=False)


# One subject more or less.


@lru_cache(maxsize=256)
def ugly_table(seed: int) -> Table:
    """Rows of every kind of value; the first subject has many."""
    rng = np.random.default_rng(seed)
    rows = int(rng.integers(1, 60))
    normal = rng.normal([50.0, 120.0, 75.0], 20.0, (rows, 3))
    features = np.where(rng.random((rows, 3)) < 0.5, normal, rng.choice(VALUES, size=(rows, 3)))
    subjects = np.arange(rows) if rng.random() < 0.3 else rng.integers(0, 1 + rows // 4, size=rows)
    held_out = rng.random(rows + 1)[subjects] < 0.4
    others = rng.integers(0, 2 * rows, size=int(rng.integers(0, 30)))
    return Table.from_rows(features, rng.choice(TARGETS, size=rows), subjects, held_out, others)


def without(table: Table, subject: int) -> Table:
    keep = table.subjects != subject
    rest = Table(table.features[keep], table.target[keep], table.subjects[keep], table.held_out[keep])
    return replace(rest, others=table.others[table.others != subject])


@of_each_private_stop
@by_examples(25, 5, seed=SEEDS)
def test_one_subject_moves_a_sum_by_no_more_than_declared(stop: Stop, seed: int) -> None:
    table = ugly_table(seed)
    whole = compute(stop.step, table, stop.task)
    check_contribution(stop.task, whole)
    if isinstance(whole.guard, AlreadyPrivate):
        return
    assert isinstance(whole.guard, ClippedSum)
    noise = whole.guard.mechanism.noise_multiplier
    # What the noise covers: the sensitivity and the slack for rounding.
    most = Lattice.of(whole.guard.sensitivity, noise, stop.task.work.size).std / noise
    for subject in np.unique(table.subjects)[:3]:
        rest = compute(stop.step, without(table, int(subject)), stop.task)
        assert rest.guard == whole.guard
        assert np.linalg.norm(whole.vector - rest.vector) <= most


def plain_table(features: Any, target: Any) -> Iterator[Table]:
    """The rows in training, held out, and of one subject."""
    x, y = np.array(features, dtype=float).reshape(-1, 3), np.array(target, dtype=float)
    codes, none = np.arange(y.size), np.zeros(y.size, dtype=bool)
    yield Table.from_rows(x, y, codes, none)
    yield Table.from_rows(x, y, codes, ~none)
    yield Table.from_rows(x, y, np.zeros_like(codes), none)


UGLY = {
    "no rows": ([], []),
    "one row": ([[50.0, 120.0, 75.0]], [1.0]),
    "no values": ([[math.nan] * 3] * 9, [0.0, 1.0, 0.0] * 3),
    "no target": ([[1.0, 2.0, 3.0]] * 4, [math.nan] * 4),
    "one class": ([[float(i), 2.0, -1.0] for i in range(9)], [1.0] * 9),
    "equal rows": ([[3.0, 2.0, 1.0]] * 9, [0.0, 1.0, 0.0] * 3),
    "huge values": ([[1.7e308, -1.7e308, 1e155]] * 9, [1e308, -1e308, 0.0] * 3),
    "tiny values": ([[5e-324, -1e-310, 0.0]] * 9, [5e-324, 0.0, 1.0] * 3),
    "infinite values": ([[math.inf, -math.inf, 1.0]] * 9, [0.0, 1.0, 0.0] * 3),
    "no classes": ([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], [7.0, -3.5]),
}


@of_each_stop
def test_no_table_makes_a_private_answer_fail_or_a_plain_one_break(stop: Stop) -> None:
    for features, target in UGLY.values():
        for table in plain_table(features, target):
            try:
                check_contribution(stop.task, compute(stop.step, table, stop.task))
            except FederatedError:
                assert stop.task.work.privacy is None


# What a hostile coordinator asks.


@of_each_stop
def test_a_task_of_another_size_or_type_is_refused(stop: Stop) -> None:
    size = stop.task.work.size
    for wrong in (0, size - 1, size + 1, 2 * size + 7, 2**50):
        assert refused(stop, with_work(stop.task, size=wrong))
    for dtype in set(Dtype) - {stop.task.work.dtype}:
        assert refused(stop, with_work(stop.task, dtype=dtype))


@of_each_stop
def test_a_setting_that_is_strange_or_of_another_type_is_refused(stop: Stop) -> None:
    assert refused(stop, with_settings(stop.task, no_such_setting=1))
    assert refused(stop, with_settings(stop.task, **{"": True}))
    for name, value in stop.task.work.settings.items():
        wrong: Any
        for wrong in ((), ("x",), b"1", {"a": 1}, [[1]], "\0"):
            assert refused(stop, with_settings(stop.task, **{name: wrong})), (name, wrong)
        if not isinstance(value, bool):
            assert refused(stop, with_settings(stop.task, **{name: True})), name
        if isinstance(value, float):
            for number in (math.nan, math.inf, -math.inf):
                assert refused(stop, with_settings(stop.task, **{name: number})), name


@of_each_stop
def test_another_model_s_state_is_refused(stop: Stop) -> None:
    for state in foreign_states(stop.task.state):
        assert refused(stop, replace(stop.task, state=state))


@of_each_stop
def test_another_model_s_scaling_and_other_columns_are_refused(stop: Stop) -> None:
    short = Scaling((0.0,), (1.0,))
    assert refused(stop, replace(stop.task, scaling=short))
    reading = stop.task.reading
    for features in ((), reading.features[:1], (*reading.features, "one_more")):
        asked = replace(stop.task, reading=replace(reading, features=features))
        if not refused(stop, asked):
            # A step may be about rows alone.
            table = Table(
                np.zeros((4, len(features))), np.array([0.0, 1.0] * 2), np.arange(4), np.ones(4) > 0
            )
            check_contribution(asked, compute(stop.step, table, asked))


def check_computed_as_asked(stop: Stop, task: Task, *tables: Table) -> None:
    """Under a budget on any rows: a failure after the charge would tell of one."""
    if refused(stop, task):
        return
    for table in tables:
        try:
            check_contribution(task, compute(stop.step, table, task))
        except FederatedError:
            assert task.work.privacy is None


def test_a_number_that_a_step_does_not_refuse_it_computes_with(journey: Journey) -> None:
    def of_stop(stop: Stop) -> None:
        numbers = NUMBERS
        if is_repeated(stop, journey, TRIPS):
            # Each third, of the next journey other ones.
            numbers = NUMBERS[place_of(journey, TRIPS) % 3 :: 3]
        for task in with_another_number(stop.task, numbers):
            check_computed_as_asked(stop, task, ugly_table(3), stop.tables[NODES[0]])

    of_each_stop(of_stop)(journey)


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_a_task_of_pieces_that_a_step_does_not_refuse_it_computes(data: st.DataObject) -> None:
    stop, other = (data.draw(st.sampled_from(all_stops())) for _ in range(2))
    task = data.draw(st.sampled_from(list(with_parts_of(stop.task, other.task))))
    for _ in range(data.draw(st.integers(0, 2))):
        numbers = list(with_another_number(task))
        task = data.draw(st.sampled_from(numbers)) if numbers else task
    check_computed_as_asked(stop, task, ugly_table(data.draw(SEEDS)), stop.tables[NODES[0]])


# What a hostile node answers.


@by_examples(15, 3, data=st.data())
def test_an_answer_that_cannot_be_is_rejected_and_what_is_believed_is_read(
    stop: Stop, data: st.DataObject
) -> None:
    finite = st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from([0.0, 1.0, -1.0, 1e12])
    question, gathering = stop.question, stop.question.gathering()
    for node, made in stop.made.items():
        vector = np.array(make_private(made))
        for place in data.draw(st.lists(st.integers(0, vector.size - 1), max_size=3)):
            # What is no number of the vector's type never comes this far.
            most = float(np.finfo(vector.dtype).max)
            vector[place] = min(most, max(-most, data.draw(finite)))
        weight = data.draw(st.just(made.weight) | st.floats(5e-324, 1.7e308))
        update = Update(node, vector, weight)
        try:
            question.check(update)
        except FederatedError as error:
            assert error.code is ErrorCode.UPDATE_REJECTED
        else:
            gathering.take(update)
    try:
        conclusion = question.course.conclude(question, stop.model, gathering.result())
    except FederatedError:
        return
    state_to_bytes(conclusion.model.state)
    figures = conclusion.taken.figures or Figures(None, None)
    assert all(value is None or math.isfinite(value) for value in (figures.loss, figures.accuracy))
    _ask_on(stop, conclusion.model, conclusion.taken)


def _ask_on(stop: Stop, model: ModelState, taken: Taken) -> None:
    """What follows from answers that were believed, no node would refuse."""
    plan, course = stop.question.plan, stop.question.course
    plan = replace(plan, findings=taken.findings or plan.findings, stated=dict.fromkeys(NODES, 80.0))
    exchange, name = stop.question.exchange + 1, taken.following
    if name is None:
        try:
            model = model if model.state else course.initial_model(plan)
        except FederatedError:
            # Nothing can be learnt from what was answered, which ends the run.
            return
        private = course.run.policy.budget is not None
        if private and plan.round >= last_round(course.run.options, private=True):
            # A private run ends here.
            return
        plan = replace(plan, round=RoundNumber(plan.round + 1))
        exchange, name = 0, course.algorithm.first(plan)
    question = course.ask(plan, exchange, name, model, len(NODES))
    task = question.task(NODES[0], None, NO_STATE)
    encode_task(task, SEALING_KEY)
    question.step.check(task)
