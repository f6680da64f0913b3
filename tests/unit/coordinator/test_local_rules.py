"""Rules with a part at the nodes, through whole rounds: what they lead to is what their papers say."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from heliosdb.aggregation.partial_sum import term_of
from heliosdb.algorithms import Table
from heliosdb.algorithms.draws import TaskDraws
from heliosdb.algorithms.families import sigmoid
from heliosdb.algorithms.linear import LINEAR_REGRESSION, LOGISTIC_REGRESSION, scale_inputs
from heliosdb.algorithms.local_terms import LocalTerms
from heliosdb.algorithms.private_sgd import descend_privately
from heliosdb.algorithms.table import group_by_subject
from heliosdb.algorithms.works import PrivateTraining
from heliosdb.coordinator.course import Course, ModelState, Question
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.findings import Findings, RunPlan
from heliosdb.domain.ids import NodeName, RoundNumber, StepName
from heliosdb.domain.privacy import Mechanism
from heliosdb.domain.state import NO_STATE, State, freeze, make_state
from heliosdb.domain.task import Privacy, Scaling
from heliosdb.domain.update import OversizedUpdateError, Term, Update
from heliosdb.domain.vector import Vector
from heliosdb.privacy.mechanisms import Secret
from tests.support.runs import RUN, with_options, with_policy

TRAIN = StepName("train")
SCALING = Scaling((0.0, 0.0), (1.0, 1.0))
ROWS = 60


def unlike_tables(nodes: int = 3) -> dict[NodeName, Table]:
    """Nodes whose rows lie elsewhere and follow other lines, all without noise in one site each."""
    made = {}
    for number in range(nodes):
        rng = np.random.default_rng(number)
        features = rng.normal([number - 1.0, 1.0 - number], [1.0, 0.5 + number], (ROWS, 2))
        target = features @ [1.0 + number, -1.0] + 2.0 * number + rng.normal(0, 0.3, ROWS)
        nobody = np.zeros(ROWS, dtype=np.bool_)
        made[NodeName(f"node_{number}")] = Table.from_rows(features, target, np.arange(ROWS), nobody)
    return made


@dataclass
class Federation:
    """Rounds of training over tables, through the bytes-free parts of a coordinator and its nodes."""

    tables: dict[NodeName, Table]
    options: dict[str, Any]
    memories: dict[NodeName, State] = field(default_factory=dict)
    round: int = 0

    def __post_init__(self) -> None:
        base = {"algorithm": "linear_regression", "features": ("x", "y"), "batch_size": 1000}
        self.course = Course.of(with_options(RUN, **{**base, **self.options}))
        self.model = ModelState(make_state(parameters=np.zeros(3)))

    def question(self) -> Question:
        stated = {node: float(table.rows) for node, table in self.tables.items()}
        plan = RunPlan(self.course.run, Findings(scaling=SCALING), RoundNumber(self.round), stated)
        return self.course.ask(plan, 0, TRAIN, self.model, len(self.tables))

    def answer(self, question: Question, node: NodeName) -> Update:
        task = question.task(node, "patients", NO_STATE)
        question.step.check(task)
        memory = self.memories.get(node, NO_STATE)
        made = question.step.compute(self.tables[node], task, memory, TaskDraws(task, b"secret"))
        if made.stays is not None:
            self.memories[node] = freeze(made.stays)
        return Update(node, made.vector, made.weight)

    def play(self, rounds: int, *, late: Collection[str] = (), absent: Collection[str] = ()) -> Vector:
        """late: nodes that answer when it no longer counts. absent: that are not asked."""
        for _ in range(rounds):
            self.round += 1
            question = self.question()
            gathering = question.gathering()
            for node in self.tables:
                if node in absent:
                    continue
                update = self.answer(question, node)
                if node not in late:
                    question.check(update)
                    gathering.take(update)
            self.model = question.course.conclude(question, self.model, gathering.result()).model
        parameters: Vector = self.model.state["parameters"]
        return parameters


def pooled(tables: dict[NodeName, Table]) -> Vector:
    inputs = np.concatenate([scale_inputs(table.features, SCALING) for table in tables.values()])
    targets = np.concatenate([table.target for table in tables.values()])
    found: Vector = np.linalg.lstsq(inputs, targets, rcond=None)[0]
    return found


def printed_scaffold(tables: dict[NodeName, Table], rounds: int, steps: int, rate: float) -> Vector:
    """Algorithm 1 with option II, whole gradients, every node in every round."""
    data = [(scale_inputs(table.features, SCALING), table.target) for table in tables.values()]
    x, c, variates = np.zeros(3), np.zeros(3), [np.zeros(3) for _ in data]
    for _ in range(rounds):
        moves, changes = [], []
        for place, (inputs, targets) in enumerate(data):
            y = x.copy()
            for _ in range(steps):
                gradient = inputs.T @ (inputs @ y - targets) / targets.size
                y = y - rate * (gradient - variates[place] + c)
            new = variates[place] - c + (x - y) / (steps * rate)
            moves.append(y - x)
            changes.append(new - variates[place])
            variates[place] = new
        x = x + np.mean(moves, axis=0)
        c = c + np.mean(changes, axis=0)
    return x


def distance(one: Vector, other: Vector) -> float:
    return float(np.linalg.norm(one - other))


def test_scaffold_equals_its_paper() -> None:
    tables = unlike_tables()
    given = {"aggregation": "scaffold", "local_epochs": 7, "learning_rate": 0.03}
    expected = printed_scaffold(tables, 6, 7, 0.03)
    assert np.allclose(Federation(tables, given).play(6), expected, rtol=1e-10, atol=1e-12)


def test_scaffold_reaches_the_pooled_model_over_unlike_nodes_and_fedavg_does_not() -> None:
    tables, given = unlike_tables(), {"local_epochs": 20, "learning_rate": 0.05}
    best = pooled(tables)
    assert distance(Federation(tables, {**given, "aggregation": "scaffold"}).play(150), best) < 1e-6
    assert distance(Federation(tables, {**given, "aggregation": "fedavg"}).play(150), best) > 0.1


def test_what_comes_too_late_once_is_forgotten() -> None:
    tables = unlike_tables()
    federation = Federation(tables, {"aggregation": "scaffold", "local_epochs": 20, "learning_rate": 0.05})
    federation.play(3)
    federation.play(2, late=("node_1",))
    federation.play(2, absent=("node_0",))
    assert distance(federation.play(150), pooled(tables)) < 1e-6


def test_nodes_of_scaffold_count_by_their_rows_unless_they_are_to_count_alike() -> None:
    tables = unlike_tables(2)
    first = next(iter(tables))
    twice = tables[first]
    tables[first] = Table.from_rows(
        np.tile(twice.features, (3, 1)),
        np.tile(twice.target, 3),
        np.arange(3 * ROWS),
        np.zeros(3 * ROWS, np.bool_),
    )
    given = {"aggregation": "scaffold", "local_epochs": 20, "learning_rate": 0.05}
    assert distance(Federation(tables, given).play(150), pooled(tables)) < 1e-6
    alike = Federation(tables, {**given, "weighted_aggregation": False}).play(150)
    assert distance(alike, pooled({**tables, first: twice})) < 1e-6


def test_a_hostile_control_variate_is_refused_and_so_is_a_long_update_before_it() -> None:
    federation = Federation(unlike_tables(), {"aggregation": "scaffold", "max_update_norm": 5.0})
    question = federation.question()
    for vector in ([0, 0, 0, 51, 0, 0], [5.1, 0, 0, 0, 0, 0]):
        with pytest.raises(OversizedUpdateError):
            question.check(Update(NodeName("node_0"), np.array(vector, dtype=float), float(ROWS)))
    question.check(Update(NodeName("node_0"), np.array([4.9, 0, 0, 49.0, 0, 0]), float(ROWS)))


@pytest.mark.parametrize(
    ("control", "size"),
    [
        (None, 6),
        (np.zeros(2), 6),
        (np.zeros(3, dtype=np.float32), 6),
        (np.full(3, 1e17), 6),
        (np.zeros(3), 3),
    ],
)
def test_a_node_refuses_a_task_whose_control_variate_does_not_fit(control: Any, size: int) -> None:
    task = (
        Federation(unlike_tables(), {"aggregation": "scaffold"})
        .question()
        .task(NodeName("node_0"), None, NO_STATE)
    )
    arrays = {"parameters": task.state["parameters"]} | ({} if control is None else {"control": control})
    spoilt = replace(task, state=freeze(arrays), work=replace(task.work, size=size))
    with pytest.raises(FederatedError) as caught:
        LINEAR_REGRESSION.steps[TRAIN].check(spoilt)
    assert caught.value.code is ErrorCode.INVALID_VALUE


def test_scaffold_has_no_private_form_at_the_coordinator_or_at_a_node() -> None:
    run = with_policy(with_options(RUN, aggregation="scaffold"), privacy_budget=1.0)
    with pytest.raises(
        FederatedError, match="scaffold is not supported under a privacy_budget yet"
    ) as caught:
        Course.of(run)
    assert caught.value.code is ErrorCode.NOT_SUPPORTED
    task = (
        Federation(unlike_tables(), {"aggregation": "scaffold"})
        .question()
        .task(NodeName("node_0"), None, NO_STATE)
    )
    settings = {**task.work.settings, "clipping_norm": 1.0}
    private = replace(
        task, work=replace(task.work, settings=settings, privacy=Privacy(Mechanism(1.0, 0.5, 3), 50.0))
    )
    with pytest.raises(FederatedError) as caught:
        LINEAR_REGRESSION.steps[TRAIN].check(private)
    assert caught.value.code is ErrorCode.NOT_SUPPORTED


@pytest.mark.parametrize("mu", [0.0, 0.3, 10.0, 1e6])
def test_fedprox_descends_to_the_minimum_of_the_objective_with_its_term(mu: float) -> None:
    tables = dict(list(unlike_tables().items())[:1])
    given = {"aggregation": "fedprox", "proximal_term": mu, "local_epochs": 3000, "learning_rate": 0.1}
    federation = Federation(tables, given)
    origin = np.array([0.5, -0.5, 1.0])
    federation.model = ModelState(make_state(parameters=origin))
    (table,) = tables.values()
    inputs = scale_inputs(table.features, SCALING)
    curvature = inputs.T @ inputs / table.rows + mu * np.eye(3)
    expected = np.linalg.solve(curvature, inputs.T @ table.target / table.rows + mu * origin)
    assert np.allclose(federation.play(1), expected, rtol=1e-8, atol=1e-9)


def test_mu_of_fedprox_is_a_hundredth_unless_it_is_given() -> None:
    given = {"aggregation": "fedprox", "local_epochs": 50}
    default = Federation(unlike_tables(), given).play(2)
    assert np.array_equal(default, Federation(unlike_tables(), {**given, "proximal_term": 0.01}).play(2))
    assert not np.array_equal(default, Federation(unlike_tables(), {**given, "proximal_term": 0.0}).play(2))


def driven(tables: dict[NodeName, Table], rounds: int, steps: int, rate: float, mu: float) -> Vector:
    """Whole gradients at each node's own pace: halved where its objective has risen, else a twentieth more."""
    data = [(scale_inputs(table.features, SCALING), table.target) for table in tables.values()]
    x, paces, slowest = np.zeros(3), [1.0] * len(data), 1.0
    for _ in range(rounds):
        ends = []
        for place, (inputs, targets) in enumerate(data):
            y, own = x.copy(), rate * paces[place]
            for _ in range(steps):
                y = y - own * inputs.T @ (inputs @ y - targets) / targets.size
                y = (y + own * mu * x) / (1.0 + own * mu)
            before, after = (0.5 * np.mean((inputs @ at - targets) ** 2) for at in (x, y))
            rose = after + 0.5 * mu * np.sum((y - x) ** 2) > before
            paces[place] = max(0.1, 0.5 * paces[place]) if rose else min(1.0, 1.05 * paces[place])
            ends.append(y)
        x, slowest = np.mean(ends, axis=0), min(slowest, *paces)
    assert slowest <= 0.5
    assert len(set(paces)) > 1
    return x


@pytest.mark.parametrize("mu", [0.0, 0.4])
def test_each_node_takes_its_own_part_of_the_learning_rate(mu: float) -> None:
    tables = unlike_tables()
    given = {"aggregation": "fedprox", "proximal_term": mu, "local_epochs": 3, "learning_rate": 0.8}
    federation = Federation(tables, {**given, "adaptive_learning": True})
    assert np.allclose(federation.play(12), driven(tables, 12, 3, 0.8, mu), rtol=1e-9)


def test_nodes_whose_steps_are_too_long_do_not_spoil_the_model_where_they_adapt() -> None:
    tables, given = unlike_tables(), {"local_epochs": 3, "learning_rate": 0.5}
    with pytest.raises(OversizedUpdateError):
        Federation(tables, given).play(12)
    assert distance(Federation(tables, {**given, "adaptive_learning": True}).play(60), pooled(tables)) < 0.6


def test_a_pace_stays_at_its_node_and_the_answer_is_as_long_as_ever() -> None:
    federation = Federation(unlike_tables(), {"adaptive_learning": True, "learning_rate": 5.0})
    question = federation.question()
    answers = {node: federation.answer(question, node) for node in federation.tables}
    assert {update.vector.size for update in answers.values()} == {3}
    assert {float(kept["pace"][0]) for kept in federation.memories.values()} == {0.5}


@pytest.mark.parametrize(("changed", "code"), [
    ({"privacy": Privacy(Mechanism(1.0, 0.5, 3), 50.0)}, ErrorCode.NOT_SUPPORTED),
    ({"control_variates": True}, ErrorCode.INVALID_VALUE),
])  # fmt: skip
def test_a_node_refuses_to_adapt_what_is_private_or_corrected(changed: Any, code: ErrorCode) -> None:
    question = Federation(unlike_tables(), {"adaptive_learning": True}).question()
    task = question.task(NodeName("node_0"), None, NO_STATE)
    settings = {**task.work.settings, "control_variates": changed.get("control_variates", False)}
    work = replace(task.work, settings=settings, privacy=changed.get("privacy"))
    with pytest.raises(FederatedError) as caught:
        question.step.check(replace(task, work=work))
    assert caught.value.code is code


class Noiseless(Secret):
    """Everybody is sampled, and no noise is drawn."""

    def noise(self, shape: Any, noise: Any = "gaussian") -> Any:
        return np.zeros(shape)

    def poisson_sample(self, count: int, rate: float) -> Any:
        return np.ones(count, dtype=np.bool_)


@pytest.mark.parametrize("mu", [0.0, 0.5, 1e6])
def test_under_a_budget_the_term_is_added_behind_the_clipped_sum(mu: float) -> None:
    rng = np.random.default_rng(1)
    columns = np.vstack([rng.normal(size=(2, 50)), np.ones(50)])
    targets = (rng.random(50) < 0.5).astype(float)
    start, steps, rate, clip = np.array([0.3, -0.2, 0.1]), 20, 0.7, 0.5
    moved = descend_privately(
        columns, targets, group_by_subject(np.arange(50)), start, LOGISTIC_REGRESSION.residual,
        privacy=PrivateTraining(1.0, clip, 1.0, steps, 50.0), learning_rate=rate, secret=Noiseless(),
        terms=LocalTerms(mu),
    )  # fmt: skip
    expected = start
    for _ in range(steps):
        gradients = (sigmoid(expected @ columns) - targets) * columns
        gradients *= np.minimum(1.0, clip / np.linalg.norm(gradients, axis=0))
        expected = (expected - rate * gradients.mean(axis=1) + rate * mu * start) / (1.0 + rate * mu)
    assert np.allclose(moved, expected, atol=1e-6)


def test_a_control_variate_behind_an_update_is_judged_where_an_aggregator_adds_both() -> None:
    federation = Federation(unlike_tables(), {"aggregation": "scaffold", "max_update_norm": 5.0})
    question = federation.question()
    adding = question.adding(7)
    assert adding is not None
    assert adding.parts == 2

    def term(vector: list[float]) -> Term:
        return term_of(Update(NodeName("node_0"), np.array(vector, dtype=float), float(ROWS)), adding)

    for vector in ([0, 0, 0, 51, 0, 0], [5.1, 0, 0, 0, 0, 0]):
        with pytest.raises(OversizedUpdateError):
            question.check_term(term(vector))
    question.check_term(term([4.9, 0, 0, 49.0, 0, 0]))
