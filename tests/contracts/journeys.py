"""A short run of an algorithm through the parts that the coordinator and its nodes use, without either.

Each exchange is asked, goes through the bytes of the wire, is looked at and computed by every node, judged, and
read; what was seen on the way is what the contract is about. Nothing here knows a step by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from heliosdb.aggregation.sums import protocol
from heliosdb.algorithms import Table
from heliosdb.algorithms.draws import TaskDraws
from heliosdb.algorithms.encoding import encode, number_classes, task_classes
from heliosdb.algorithms.steps import Step, reads_columns
from heliosdb.algorithms.table import RawColumn
from heliosdb.coordinator.course import Course, ModelState, Question
from heliosdb.domain.classes import BINARY_LABELS
from heliosdb.domain.encoding import ColumnEncoding, ColumnKind, Encoding
from heliosdb.domain.errors import ErrorCode, FederatedError, invalid_value
from heliosdb.domain.findings import Findings, RunPlan
from heliosdb.domain.ids import NodeName, RoundNumber, StepName
from heliosdb.domain.run import Run
from heliosdb.domain.settings import listed_values, option_names, read_settings, settings_of
from heliosdb.domain.state import NO_STATE, State, freeze
from heliosdb.domain.task import Task
from heliosdb.domain.update import Update
from heliosdb.domain.vector import Contribution
from heliosdb.node.guards import make_private
from heliosdb.parts.algorithms import ALGORITHMS, has_classes, last_round, roles_of
from heliosdb.parts.protocols import PLAIN
from tests.support.runs import RUN, with_options, with_policy

FEATURES, TARGET = ("age", "pressure", "weight"), "outcome"
RANGES = (("age", -10.0, 110.0), ("pressure", 0.0, 300.0), ("weight", 0.0, 200.0), (TARGET, -1.0, 2.0))
NODES = tuple(map(NodeName, ("a", "b", "ärzte")))
ROUNDS = 2
SECRET = b"a node's"


@dataclass(frozen=True)
class Stop:
    """One exchange as it was held. memory: of each node, before it computed."""

    question: Question
    model: ModelState
    tasks: Mapping[NodeName, Task]
    memory: Mapping[NodeName, State]
    tables: Mapping[NodeName, Table]
    made: Mapping[NodeName, Contribution]
    after: ModelState
    findings: Findings

    @property
    def step(self) -> Step:
        """The step that was asked."""
        return self.question.step

    @property
    def task(self) -> Task:
        """The task of the first node."""
        return self.tasks[NODES[0]]

    @property
    def label(self) -> str:
        """For the report of a test."""
        return f"round {self.question.plan.round}: {self.step.name}"


@dataclass(frozen=True)
class Journey:
    """A whole run: its exchanges in their order, and what it ended with. mode: of `travel`, what was on."""

    course: Course
    stops: tuple[Stop, ...]
    model: ModelState
    findings: Findings
    mode: frozenset[str] = frozenset()


def make_run(
    name: str,
    *,
    private: bool = False,
    ranges: bool = False,
    newton: bool = False,
    adaptive: bool = False,
    shared: bool = False,
) -> Run:
    """A run under the algorithm's own defaults, or by Newton steps; its last round alone is evaluated. Few trees
    are as many kinds of exchanges as a hundred. shared: its noise is that of secure sums."""
    given = settings_of(read_settings(ALGORITHMS.entry(name).settings, {}))
    if "channels" in given:
        given["input_shape"] = (1, 1, 2)
    if "width" in given:
        given |= {"input_shape": (2, 1), "width": 4}
    if "trees" in given:
        given["trees"] = 4
    if newton:
        given["optimizer"] = "newton"
    if survives(name):
        given["event"] = "died"
    if shared:
        # All subjects are in each sum, so that two of them can be compared.
        del given["batch_size"]
        given |= {"secure_aggregation": True, "aggregation_protocol": "shamir", "local_epochs": 1}
    run = with_options(
        RUN,
        algorithm=name,
        features=FEATURES,
        target=TARGET,
        feature_ranges=RANGES if ranges else (),
        rounds=ROUNDS,
        validation_frequency=ROUNDS,
    )
    run = replace(run, options=replace(run.options, given=given, roles=roles_of(name, given)))
    return with_policy(run, privacy_budget=1000.0 if private else None, adaptive_clipping=adaptive)


def make_rows(seed: int, rows: int = 80) -> Table:
    """Honest rows: the class depends on the features; some values are missing, some subjects have two rows."""
    rng = np.random.default_rng(seed)
    features = rng.normal([50.0, 120.0, 75.0], [10.0, 15.0, 12.0], (rows, 3))
    score = (features - [50.0, 120.0, 75.0]) @ [0.1, 0.05, -0.03] + rng.normal(0.0, 0.5, rows)
    features[rng.random(features.shape) < 0.03] = np.nan
    subjects = np.maximum(np.arange(rows), rows // 10)
    table = Table.from_rows(features, (score > 0).astype(np.float64), subjects, subjects % 5 == 0)
    # For those that learn how long something lasts: all leave at one time or the other, most with the event.
    return replace(table, roles={"event": (rng.random(rows) < 0.6).astype(np.float64)})


def make_columns(seed: int, rows: int = 80) -> Table:
    """Honest rows as they are read of a number, a category and an array; the target is a text."""
    rng, table = np.random.default_rng(seed), make_rows(seed, rows)
    levels = ("ALT", f"ört {seed % 2}", "ß" * 60)
    city = rng.choice([-1.0, 0.0, 0.0, 1.0, 2.0, np.nan], size=(rows, 1))
    array = np.column_stack([np.where(rng.random(rows) < 0.1, np.nan, 2.0), rng.normal(size=(rows, 2))])
    array[np.isnan(array[:, 0])] = np.nan
    return replace(
        table,
        features=np.concatenate([table.features[:, :1], city, array], axis=1),
        columns=(
            RawColumn(),
            RawColumn(ColumnKind.CATEGORY, levels=levels),
            RawColumn(ColumnKind.ARRAY, width=3),
        ),
        labels=("ill", "well"),
    )


OPENING = Encoding(
    (
        ColumnEncoding(FEATURES[0], missing_indicator=True, scaled=False),
        ColumnEncoding(FEATURES[1], ColumnKind.CATEGORY),
        ColumnEncoding(FEATURES[2], ColumnKind.ARRAY),
    )
)

BINNED = (f"bins({FEATURES[1]}, 4)",)
NUMBERS = Encoding(tuple(map(ColumnEncoding, FEATURES)), BINARY_LABELS)

LEVELS = ("ALT", "neu", "ört")
DECLARED = Encoding(
    (
        ColumnEncoding(FEATURES[0], missing_indicator=True),
        ColumnEncoding(FEATURES[1], ColumnKind.CATEGORY, "indicators", LEVELS),
        ColumnEncoding(FEATURES[2], scaled=False),
    ),
    ("ill", "well"),
)

UNNAMED = replace(
    DECLARED,
    columns=(DECLARED.columns[0], ColumnEncoding(FEATURES[1], ColumnKind.CATEGORY), DECLARED.columns[2]),
)


def make_declared(seed: int, rows: int = 80) -> Table:
    """Honest rows as they are read under a budget, where the levels are declared."""
    rng, table = np.random.default_rng(seed), make_rows(seed, rows)
    table.features[:, 1] = rng.choice([-1.0, 0.0, 0.0, 1.0, 2.0, np.nan], size=rows)
    columns = (RawColumn(), RawColumn(ColumnKind.CATEGORY, levels=LEVELS), RawColumn())
    return replace(table, columns=columns)


DECLARED_TABLES = {node: make_declared(number) for number, node in enumerate(NODES)}
COLUMNS = {node: make_columns(number) for number, node in enumerate(NODES)}
TABLES = {node: make_rows(number) for number, node in enumerate(NODES)}


def modes(name: str) -> list[dict[str, bool]]:
    """How `travel` can hold the algorithm's runs; a budget it may refuse as a whole."""
    plan = RunPlan(make_run(name, private=True), Findings(), RoundNumber(0))
    encoded = [
        {"encoded": True},
        {"encoded": True, "private": True},
        {"encoded": True, "private": True, "unnamed": True},
    ]
    encoded = encoded if any(map(reads_columns, ALGORITHMS.get(name).steps.values())) else []
    plain: list[dict[str, bool]] = [{}, {"newton": True}] if takes_newton_steps(name) else [{}]
    if survives(name):
        return [{"newton": True}, *({**one, "newton": True} for one in encoded[:1])]
    if takes_newton_steps(name) and encoded:
        plain.append({"newton": True, "encoded": True})
    try:
        ALGORITHMS.get(name).prepare(plan)
    except FederatedError as error:
        assert error.code is ErrorCode.NOT_SUPPORTED
        return [*plain, *encoded[:1]]
    undeclared = [{"private": True, "ranges": True, "undeclared": True}] if has_classes(name, {}) else []
    steps = ALGORITHMS.get(name).steps
    adaptive = [{"private": True, "ranges": True, "adaptive": True}] if "norms" in steps else []
    shared = [{**one, "shared": True} for one in adaptive] if "gradient" in steps else []
    private = [{"private": True}, {"private": True, "ranges": True}]
    return [*plain, *private, *adaptive, *shared, *undeclared, *encoded]


def survives(name: str) -> bool:
    """Whether it reads which rows had an event; such an algorithm takes Newton steps alone."""
    return "event" in option_names(ALGORITHMS.entry(name).settings)


def takes_newton_steps(name: str) -> bool:
    """Whether it can be trained by descent and by Newton steps alike."""
    optimizers = listed_values(ALGORITHMS.entry(name).settings).get("optimizer") or ()
    return "newton" in optimizers and len(optimizers) > 1


@cache
def travel(name: str, **how: bool) -> Journey:
    """Hold the run, once for each way of it; see `_travel`."""
    return replace(_travel(name, **how), mode=frozenset(one for one, on in how.items() if on))


def _travel(
    name: str,
    *,
    private: bool = False,
    ranges: bool = False,
    undeclared: bool = False,
    encoded: bool = False,
    newton: bool = False,
    binned: bool = False,
    adaptive: bool = False,
    shared: bool = False,
    unnamed: bool = False,
) -> Journey:
    """Hold the run. unnamed: under a budget no catalog declares the levels. adaptive: the clipping norm follows. shared: the noise is that of secure sums, whose answers
    are here as they are behind their masks. undeclared: no node's catalog declares the target's classes. encoded: the columns are more
    than numbers. binned: one of them is cut into bins."""
    run = make_run(name, private=private, ranges=ranges, newton=newton, adaptive=adaptive, shared=shared)
    course = Course.of(with_options(run, feature_transforms=BINNED) if binned else run)
    course = replace(course, protocol=protocol(PLAIN)) if shared else course
    model = ModelState(NO_STATE)
    tables, opening = TABLES, NUMBERS if binned else None
    if encoded:
        tables, opening = (DECLARED_TABLES, DECLARED) if private else (COLUMNS, OPENING)
        opening = UNNAMED if unnamed else opening
        if not has_classes(name, {}):
            # What learns no classes has a number as its target.
            tables = {node: replace(table, labels=None) for node, table in tables.items()}
    if opening is not None and not has_classes(name, {}):
        opening = replace(opening, classes=())
    findings = Findings(undeclared_target=undeclared, encoding=opening)
    stated: dict[NodeName, float] = {}
    kept: dict[NodeName, State] = dict.fromkeys(NODES, NO_STATE)
    stops: list[Stop] = []
    last = last_round(course.run.options, private=True) if private else ROUNDS
    for number in range(last + 1):
        plan = RunPlan(course.run, findings, RoundNumber(number), stated)
        if number == 0:
            plan = replace(plan, findings=course.algorithm.prepare(plan))
            plan = replace(plan, past=[cost.mechanism for cost in course.algorithm.releases(plan)])
        name_of: StepName | None = course.algorithm.first(plan)
        exchange = 0
        while name_of is not None:
            question = course.ask(plan, exchange, name_of, model, len(NODES))
            stop, name_of = _hold(question, model, kept, tables)
            stops.append(stop)
            model, findings = stop.after, stop.findings
            if number == exchange == 0:
                stated = {node: made.weight for node, made in stop.made.items()}
            plan, exchange = replace(plan, findings=findings), exchange + 1
        if not model.state:
            model = course.initial_model(replace(plan, stated=stated))
    if course.report is not None and course.may_report(plan):
        # As a run does that is about to publish its last round's model.
        question = course.ask(plan, exchange, course.report.step, model, len(NODES))
        stops.append(_hold(question, model, kept, tables)[0])
    return Journey(course, tuple(stops), model, findings)


def compute(step: Step, table: Table, task: Task, memory: State = NO_STATE) -> Contribution:
    """As a node's training process does."""
    if task.encoding is not None and not reads_columns(step):
        table = _encoded(table, task, task.encoding)
    return step.compute(table, task, memory, TaskDraws(task, SECRET))


def _encoded(table: Table, task: Task, encoding: Encoding) -> Table:
    made, classes = encode(table, encoding), task_classes(task)
    if not classes or task.work.privacy is not None:
        return made
    target = number_classes(table.target, classes, np.inf, table.labels)
    if np.isinf(target).any():
        raise invalid_value("the target is none of its classes")
    return replace(made, target=target, labels=None)


def _hold(
    question: Question, model: ModelState, kept: dict[NodeName, State], tables: Mapping[NodeName, Table]
) -> tuple[Stop, StepName | None]:
    tasks = {node: question.task(node, "patients", NO_STATE) for node in NODES}
    gathering, before, made = question.gathering(), dict(kept), {}
    for node, task in tasks.items():
        question.step.check(task)
        answer = made[node] = compute(question.step, tables[node], task, kept[node])
        if answer.stays is not None:
            kept[node] = freeze(answer.stays)
        update = Update(node, make_private(answer), answer.weight)
        question.check(update)
        gathering.take(update)
    conclusion = question.course.conclude(question, model, gathering.result())
    findings = conclusion.taken.findings or question.plan.findings
    stop = Stop(question, model, tasks, before, tables, made, conclusion.model, findings)
    return stop, conclusion.taken.following
