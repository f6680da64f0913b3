"""A participant that lies: each lie is rejected with its recorded reason, and the others' model is theirs alone.

Every node here holds a valid key: what it says is well formed, sealed and signed. The reference is always the
same run in which the liar says nothing where it would lie.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from uuid import UUID

import numpy as np
import pytest

from heliosdb.aggregation import WeightedGathering
from heliosdb.algorithms.evaluation import EVALUATE
from heliosdb.algorithms.layout import COLUMN_DIGITS, SUM_DIGITS
from heliosdb.algorithms.statistics import STATISTICS
from heliosdb.algorithms.training import TRAIN, check_combined, private_reach
from heliosdb.algorithms.works import PARAMETERS, PrivateTraining
from heliosdb.coordinator.central_noise import CentralNoise
from heliosdb.coordinator.course import Course, ModelState, Question
from heliosdb.coordinator.opened import NOTHING, RoundUnderWay
from heliosdb.domain.errors import FederatedError
from heliosdb.domain.events import Figures
from heliosdb.domain.findings import Findings, RunPlan
from heliosdb.domain.ids import ModelName, NodeName, RoundNumber, RunId, StepName, WorkspaceName
from heliosdb.domain.privacy import Mechanism
from heliosdb.domain.run import Policy, Run, TrainingOptions
from heliosdb.domain.task import Task
from heliosdb.domain.update import Moved, Update
from heliosdb.domain.vector import AnyVector
from tests.support.hostile_node import FakeNode, FakeWire, Lie, Said, honest, make_nodes, silent

OPTIONS = TrainingOptions(
    algorithm="logistic_regression",
    features=("age", "pressure"),
    target="outcome",
    dataset=None,
    feature_ranges=(),
    seed=7,
    rounds=2,
    aggregation="fedavg",
    convergence_threshold=None,
    early_stopping_rounds=None,
    target_accuracy=None,
    validation_split=0.2,
    validation_frequency=1,
    given={"local_epochs": 2, "batch_size": 16, "learning_rate": 0.1},
)
POLICY = Policy(
    workspace=WorkspaceName("w"),
    privacy_budget=None,
    delta=1e-5,
    privacy_per_round=None,
    noise_multiplier=None,
    clipping_threshold=1.0,
    min_nodes=2,
    max_nodes=10,
    min_nodes_per_round=2,
    round_timeout=60.0,
    stragglers_timeout=60.0,
    data_residency=None,
)
RUN = Run(RunId(UUID(int=1)), ModelName("m"), 1, 1, OPTIONS, POLICY)
REGRESSION = replace(RUN, options=replace(OPTIONS, algorithm="linear_regression"))
PRIVATE = replace(RUN, policy=replace(POLICY, privacy_budget=1000.0))
LIAR = NodeName("b")
HUGE = 1.7e308


@dataclass
class Outcome:
    """What a run came to: its model, its figures, and every rejection by (round, step)."""

    model: ModelState = NOTHING
    figures: list[Figures | None] = field(default_factory=list)
    findings: Findings = field(default_factory=Findings)
    lost: dict[tuple[int, StepName], dict[NodeName, tuple[str, str]]] = field(default_factory=dict)

    @property
    def parameters(self) -> AnyVector:
        """The model's one array."""
        found: AnyVector = self.model.state[PARAMETERS]
        return found

    def equals(self, other: Outcome) -> bool:
        """Whether both came to the same, bit for bit."""
        return (
            self.parameters.tobytes() == other.parameters.tobytes()
            and self.figures == other.figures
            and self.findings.scaling == other.findings.scaling
        )


async def play(run: Run, nodes: list[FakeNode], *, checked: bool = True) -> Outcome:
    """Play a run's rounds as the driver does; `checked` False: every update of the right shape counts."""
    game = _Game(Course.of(run), FakeWire(nodes), checked)
    for number in range(run.options.rounds + 1):
        await game.round(RoundNumber(number))
    return game.outcome


class _Unchecked(Question):
    def check(self, update: Update) -> None:
        """Believe it."""


class _Game:
    def __init__(self, course: Course, wire: FakeWire, checked: bool) -> None:
        self.course, self.wire, self.checked = course, wire, checked
        self.stated: dict[NodeName, float] = {}
        self.outcome = Outcome()

    async def round(self, number: RoundNumber) -> None:
        course, outcome = self.course, self.outcome
        plan = RunPlan(course.run, outcome.findings, number, self.stated)
        if number == 0:
            plan = replace(plan, findings=course.algorithm.prepare(plan))
        opened, name, exchange = (
            RoundUnderWay.begin(outcome.model, plan.findings),
            course.first(plan).step,
            0,
        )
        while True:
            plan = replace(plan, findings=opened.findings, past=self._past(plan))
            following = await self._exchange(opened, plan, exchange, name)
            if following is None:
                break
            name, exchange = following, exchange + 1
        if number == 0:
            opened.begin_model(course, plan)
            self.stated = opened.stated
            self.wire.nodes = [node for node in self.wire.nodes if node.name in self.stated]
        outcome.model, outcome.findings = opened.model, opened.findings

    async def _exchange(
        self, opened: RoundUnderWay, plan: RunPlan, exchange: int, name: StepName
    ) -> StepName | None:
        asked = self.course.ask(plan, exchange, name, opened.model, len(self.wire.nodes))
        kind = Question if self.checked else _Unchecked
        question = kind(asked.course, asked.plan, asked.step, asked.exchange, asked.asked)
        opened.gather(question, 0)
        held, lost = await self.wire.ask(question)
        self.outcome.lost[plan.round, name] = dict(lost)
        nodes = sorted(held.arrived)
        for node in nodes:
            opened.take(held.hand_on(node))
        combined = opened.combine(question, CentralNoise(bytes(32)))
        opened.note(held.question, held.rows(nodes), held.weights(nodes))
        if name == EVALUATE:
            self.outcome.figures.append(combined.figures)
        return None if combined.following is None else combined.following.step

    def _past(self, plan: RunPlan) -> list[Mechanism]:
        return [mechanism for _, _, mechanism in self.course.releases(plan)] if plan.round == 0 else []


def at(step: StepName, lie: Lie, number: int | None = None) -> Lie:
    """Lie in one step (of one round), and be honest else."""

    def said(task: Task, vector: AnyVector, weight: float) -> Said:
        due = task.key.step == step and number in (None, task.key.round)
        return (lie if due else honest)(task, vector, weight)

    return said


def weighing(weight: float) -> Lie:
    return lambda _task, vector, _weight: (vector, weight)


def filled(value: float) -> Lie:
    return lambda _task, vector, weight: (np.full_like(vector, value), weight)


def changed(index: int, value: float) -> Lie:
    def lie(_task: Task, vector: AnyVector, weight: float) -> Said:
        vector = vector.copy()
        vector[index] = value
        return vector, weight

    return lie


def both(vector: list[float], weight: float) -> Lie:
    return lambda _task, _vector, _weight: (np.array(vector), weight)


def of_type(kind: type[np.generic]) -> Lie:
    return lambda _task, vector, weight: (vector.astype(kind), weight)


TRAINING_LIES = [
    (weighing(HUGE), "its weight 1.7e+308 is more than 1e+12"),
    (weighing(1e12), "its weight 1e+12 is more than the 60 rows that it stated in round 0"),
    (weighing(61.0), "its weight 61 is more than the 60 rows that it stated in round 0"),
    (weighing(0.5), "its weight 0.5 is no number of rows"),
    (filled(HUGE), "its norm inf is larger than max_update_norm 10000"),
    (filled(1e9), "its norm 1.73e+09 is larger than max_update_norm 10000"),
    (filled(6e3), "its norm 1.04e+04 is larger than max_update_norm 10000"),
    (filled(np.nan), "its vector holds values that are not finite"),
    (weighing(0.0), "its weight is not a number greater than 0"),
    (weighing(-40.0), "its weight is not a number greater than 0"),
    (weighing(np.nan), "its weight is not a number greater than 0"),
    (both([0.0] * 2, 40.0), "its vector has 2 values instead of 3"),
    (both([0.0] * 100_000, 40.0), "its vector has 100000 values instead of 3"),
    (of_type(np.float32), "its vector is of type float32 instead of float64"),
    (of_type(np.uint64), "its vector is of type uint64 instead of float64"),
]


@pytest.mark.parametrize(("lie", "reason"), TRAINING_LIES)
async def test_a_node_that_would_own_the_model_is_rejected_and_the_others_go_on(
    lie: Lie, reason: str
) -> None:
    outcome = await play(RUN, make_nodes({LIAR: at(TRAIN, lie, 1)}))
    without = await play(RUN, make_nodes({LIAR: at(TRAIN, silent, 1)}))

    outcome_of, said = outcome.lost[1, TRAIN].pop(LIAR)
    assert (outcome_of, reason in said) == ("rejected", True), said
    assert not outcome.lost[1, TRAIN]
    assert not outcome.lost[2, TRAIN]
    assert outcome.equals(without)


@pytest.mark.parametrize("lie", [weighing(1e12), weighing(61.0), filled(1e9), filled(6e3)])
async def test_unchecked_each_of_these_moves_the_model(lie: Lie) -> None:
    once = replace(RUN, options=replace(OPTIONS, rounds=1))
    owned = await play(once, make_nodes({LIAR: at(TRAIN, lie)}), checked=False)
    assert not owned.equals(await play(once, make_nodes({LIAR: at(TRAIN, silent)})))
    assert not owned.equals(await play(once, make_nodes({})))


PRESSURE = 1 + COLUMN_DIGITS
"""Where the answer to round 0 begins to be about the second feature."""


@pytest.mark.parametrize(
    ("lie", "reason"),
    [
        (weighing(HUGE), "its weight 1.7e+308 is more than 1e+12"),
        (weighing(1e9), "its weight 1e+09 is not that of the 60 rows that it states"),
        (changed(0, 1e13), "the 1e+13 rows that it states are no number of rows"),
        (changed(0, 60.5), "the 60.5 rows that it states are no number of rows"),
        (filled(HUGE), "rows that it states are no number of rows"),
        (changed(1, 61.0), "its count 61 is not of values among 60 rows in column age"),
        (changed(PRESSURE, 0.5), "its count 0.5 is not of values among 60 rows in column pressure"),
        (changed(2, HUGE), "a digit of its sums is none in column age"),
        (changed(2, 0.5), "a digit of its sums is none in column age"),
        (changed(PRESSURE, 0.0), "its sum and its sum of squares are not of 0 values in column pressure"),
        (changed(PRESSURE + SUM_DIGITS, 1.0), "its sum and its sum of squares are not of 60 values"),
        (changed(PRESSURE + COLUMN_DIGITS - 2, -1.0), "its sum and its sum of squares are not of 60 values"),
        (changed(PRESSURE + COLUMN_DIGITS - 2, 1.0), "its values are larger than 1e+290 in column pressure"),
        (changed(-1, 61.0), "the 61 rows of class 1 that it states are not among 60"),
        (changed(-1, -5.0), "the -5 rows of class 1"),
    ],
)
async def test_statistics_that_no_rows_have_are_rejected_and_scaling_is_the_others(
    lie: Lie, reason: str
) -> None:
    outcome = await play(RUN, make_nodes({LIAR: at(STATISTICS, lie)}))
    without = await play(RUN, make_nodes({}, names=("a", "c")))

    kind, said = outcome.lost[0, STATISTICS].pop(LIAR)
    assert (kind, reason in said) == ("rejected", True), said
    assert outcome.equals(without)


@pytest.mark.parametrize(
    ("run", "lie", "reason"),
    [
        (RUN, weighing(1e12), "its weight 1e+12 is not that of the 12 rows that it counts"),
        (
            RUN,
            both([1e6, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0], 1e6),
            "its weight 1e+06 is more than the 60 rows that it stated",
        ),
        (RUN, changed(0, HUGE), "is not that of the 1.7e+308 rows that it counts"),
        (RUN, changed(3, 13.0), "its counts of classes are not those of 12 rows"),
        (RUN, changed(4, 0.5), "its counts of classes are not those of 12 rows"),
        (RUN, changed(5, -1.0), "its counts of classes are not those of 12 rows"),
        (RUN, changed(1, -1.0), "its losses have sums that no rows have"),
        (RUN, changed(1, HUGE), "its losses have sums that no rows have"),
        (RUN, changed(1, 1e9), "no 12 losses have the sum 1e+09"),
        (RUN, both([0.0, 5.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], 1.0), "it measures a loss over no rows"),
        (REGRESSION, changed(2, -1.0), "its squares have sums that no rows have"),
        (REGRESSION, changed(8, HUGE), "a sum is larger than 1e+300"),
        (REGRESSION, changed(3, 1e9), "no 12 targets have the sum 1e+09"),
    ],
)
async def test_an_evaluation_that_no_rows_have_is_rejected_and_the_figures_are_the_others(
    run: Run, lie: Lie, reason: str
) -> None:
    outcome = await play(run, make_nodes({LIAR: at(EVALUATE, lie)}))
    without = await play(run, make_nodes({LIAR: at(EVALUATE, silent)}))

    kind, said = outcome.lost[1, EVALUATE].pop(LIAR)
    assert (kind, reason in said) == ("rejected", True), said
    assert outcome.equals(without)


@pytest.mark.parametrize(
    ("step", "lie", "reason"),
    [
        (STATISTICS, weighing(60.0), "its weight 60 is not the 1 that its task says"),
        (STATISTICS, changed(-1, 1e300), "is more than 1e+12 subjects and the noise can add up to"),
        (TRAIN, weighing(1e12), "its weight 1e+12 is not the"),
        (TRAIN, weighing(1.0), "its weight 1 is not the"),
        (TRAIN, filled(1e8), "is larger than max_update_norm"),
    ],
)
async def test_under_a_budget_weights_are_what_the_task_says_and_values_what_noise_can_reach(
    step: StepName, lie: Lie, reason: str
) -> None:
    outcome = await play(PRIVATE, make_nodes({LIAR: at(step, lie)}))

    for (_, asked), lost in outcome.lost.items():
        if asked == step:
            kind, said = lost.pop(LIAR)
            assert (kind, reason in said) == ("rejected", True), said
        assert not lost
    assert np.all(np.abs(outcome.parameters) < 1e4)


async def test_honest_nodes_are_never_rejected() -> None:
    for run in (RUN, REGRESSION, PRIVATE):
        outcome = await play(run, make_nodes({}))
        assert not any(outcome.lost.values()), outcome.lost


async def test_max_update_norm_bounds_what_one_round_moves() -> None:
    bounded = replace(RUN, options=replace(OPTIONS, max_update_norm=1e-6))
    outcome = await play(bounded, make_nodes({}))
    for number in (1, 2):
        lost = outcome.lost[number, TRAIN]
        assert sorted(lost) == ["a", "b", "c"]
        assert all(kind == "rejected" for kind, _ in lost.values())
        assert all("is larger than max_update_norm 1e-06" in said for _, said in lost.values())
    assert not outcome.parameters.any()
    assert not outcome.figures


def test_a_run_that_diverges_names_the_largest_update() -> None:
    gathering = WeightedGathering(2)
    gathering.take(Update(NodeName("a"), np.array([1.0, 2.0]), 10.0))
    gathering.take(Update(NodeName("b"), np.array([2e9, 0.0]), 10.0))
    largest = gathering.result().largest
    for combined in (np.array([1e9 + 1.0, 0.0]), np.array([np.inf, 0.0]), np.array([np.nan, 0.0])):
        with pytest.raises(FederatedError) as caught:
            check_combined(3, Moved(combined, 2, largest))
        assert caught.value.message == (
            "training diverged in round 3: the largest update is node b's (norm 2e+09)"
        )
        with pytest.raises(FederatedError, match=r"^training diverged in round 3$"):
            check_combined(3, Moved(combined, 2))
    check_combined(3, Moved(np.array([1e9, -1e9]), 2, largest))


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_no_private_training_meets_the_bound_of_its_norm(scale: float) -> None:
    """Noise alone, and all subjects in one node, at rates that are anything but small."""
    privacy = PrivateTraining(50.0 * scale, 2.0, 0.05, 200, 100.0)
    rate, rng, size = 10.0, np.random.default_rng(3), 30
    subjects = 300
    bound = private_reach(privacy, rate, size, subjects)
    direction = np.full(size, privacy.clipping_norm / np.sqrt(size))
    for _ in range(200):
        sampled = rng.binomial(subjects, privacy.sampling_rate, privacy.steps).sum()
        noise = rng.normal(0.0, privacy.noise_multiplier * privacy.clipping_norm, (privacy.steps, size)).sum(
            0
        )
        moved = rate / (privacy.sampling_rate * privacy.expected_subjects) * (sampled * direction + noise)
        assert np.linalg.norm(moved) < bound
    assert bound < 10.0 * np.linalg.norm(moved)
