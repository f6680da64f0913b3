"""Tasks under a budget that are refused, each with a part of what it is refused with; and the datasets that they
are about."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from heliosdb.algorithms.certifying import CERTIFY
from heliosdb.algorithms.gradient import GradientWork
from heliosdb.algorithms.hazards import HAZARDS, HazardSettings
from heliosdb.algorithms.newton import NEWTON
from heliosdb.algorithms.norms import NORMS, NormsWork
from heliosdb.algorithms.private_concordance import count_cells
from heliosdb.algorithms.private_newton import NoisyWork
from heliosdb.algorithms.registry import algorithm
from heliosdb.algorithms.survival_report import ConcordanceSettings
from heliosdb.algorithms.vocabulary import WIDTH
from heliosdb.algorithms.works import (
    ClassesWork,
    EvaluateWork,
    PrivateReportWork,
    PrivateTraining,
    StatisticsWork,
    TrainWork,
    privacy_of_sum,
)
from heliosdb.domain.coding import Coding
from heliosdb.domain.encoding import ColumnEncoding, ColumnKind, Encoding
from heliosdb.domain.ids import ModelName, RunId, StepName
from heliosdb.domain.privacy import Budget, Mechanism
from heliosdb.domain.settings import settings_of
from heliosdb.domain.state import make_state
from heliosdb.domain.task import Privacy, Reading, Rounding, Scaling, Summing, Task, Work
from heliosdb.parts.algorithms import ALGORITHMS
from tests.support.cluster import Cluster
from tests.support.federation import (
    EVALUATE,
    SCALING,
    STATISTICS,
    TRAIN,
    key,
    new_run,
    parameters_state,
    share,
)

BUDGET = Budget(8.0, 1e-5)
READING = Reading("people", ("age", "pressure"), "outcome", 0.25, 7)
MODEL, NOISE = "logistic_regression", 4.0
PRIVATE = PrivateTraining(NOISE, 1.0, 0.5, 3, 100.0)

PEOPLE = """
CREATE TABLE person (person_id integer PRIMARY KEY, age double precision, pressure double precision,
                     outcome double precision, name text, visited date, tags integer[], ssn bigint);
INSERT INTO person SELECT i, 30 + i, 90 + i, i % 2, 'x' || i, '2020-01-01', ARRAY[i], 100000000 + i
FROM generate_series(1, 21) AS i;
UPDATE person SET age = 'NaN', pressure = 1e300, outcome = 7, name = 'only', tags = NULL WHERE person_id = 1;
CREATE TABLE capped AS SELECT age, pressure, outcome FROM person;
CREATE TABLE worded AS SELECT name AS a, name AS b, name AS c, name AS d, name AS e, pressure, outcome FROM person;
CREATE MATERIALIZED VIEW unfilled AS SELECT age, pressure, outcome FROM person WITH NO DATA;
"""
ONE_FEWER = "DELETE FROM person WHERE person_id = 1"


def make(cluster: Cluster, database: str, change: str) -> None:
    """Share people and what else refusals are about, over tables that differ by `change`."""
    with cluster.connect(database) as connection:
        connection.execute(PEOPLE)
        connection.execute(change)  # type: ignore[arg-type]
        share(connection, "people", "person (age, pressure, outcome, name, visited, tags)")
        share(connection, "asleep", "person (age, pressure, outcome)")
        connection.execute("CALL federated.execute('ALTER FEDERATED DATASET asleep SET (paused = true)')")
        share(connection, "telling", "person (age, ssn, outcome)")
        share(connection, "unfilled", "unfilled (age, pressure, outcome)")
        share(connection, "worded", "worded (a, b, c, d, e, pressure, outcome)")
        share(connection, "capped", "capped (age, pressure, outcome)", options="WITH (max_epsilon = 0.5)")


def task(step: StepName, work: Work, run: RunId | None = None, **changes: Any) -> Task:
    told = (
        {}
        if step in (STATISTICS, "refine", "classes", "vocabulary")
        else {"scaling": SCALING, "state": STATE}
    )
    given = {"budget": BUDGET, **told, **changes}
    return Task(key(step, run=run or new_run()), given.pop("reading", READING), work, **given)


STATE = parameters_state(np.zeros(3))


def counted(run: RunId | None = None, **changes: Any) -> Task:
    """Statistics, of whose work some changes are."""
    of_work = {name: changes.pop(name) for name in ("ranges", "windows") if name in changes}
    return task(STATISTICS, StatisticsWork(MODEL, NOISE, classes=2, **of_work).to_work(2), run, **changes)


def counting() -> Task:
    """Counts of the target's classes."""
    return task(StepName("classes"), ClassesWork(MODEL, NOISE).to_work())


def naming(*names: str, size: int = WIDTH) -> Task:
    """What levels columns have."""
    work = Work(MODEL, size, privacy=privacy_of_sum(NOISE))
    unnamed = [ColumnEncoding(name, ColumnKind.CATEGORY) for name in names or ("name",)]
    return encoded(task(StepName("vocabulary"), work), *unnamed)


def refined(windows: tuple[tuple[float, float], ...] | None, **changes: Any) -> Task:
    return task(
        StepName("refine"), StatisticsWork(MODEL, NOISE, windows=windows, classes=2).to_work(2), **changes
    )


def trained(run: RunId | None = None, **changes: Any) -> Task:
    """Training, of whose privacy some changes are."""
    names = ("noise_multiplier", "clipping_norm", "sampling_rate", "steps", "expected_subjects")
    privacy = replace(PRIVATE, **{name: changes.pop(name) for name in names if name in changes})
    return task(TRAIN, TrainWork(MODEL, SCALING, 1, 32, 0.1, privacy, classes=2).to_work(3), run, **changes)


def evaluated(**changes: Any) -> Task:
    return task(EVALUATE, EvaluateWork(MODEL, SCALING, NOISE, classes=2).to_work(), **changes)


def reported(classes: int = 2, size: int = 50) -> Task:
    work = PrivateReportWork(MODEL, SCALING, NOISE, classes=classes).to_work(size)
    state = STATE if classes == 2 else parameters_state(np.zeros((classes - 1, 3)))
    return task(StepName("report"), work, state=state)


def normed(**changes: Any) -> Task:
    """Counts of subjects whose gradients are no longer than the clipping norm."""
    return task(NORMS, NormsWork(MODEL, SCALING, NOISE, 1.0, 2).to_work(), **changes)


def working(asked: Task, **changes: Any) -> Task:
    """The task with changes of its work."""
    return replace(asked, work=replace(asked.work, **changes))


def setting(asked: Task, **settings: Any) -> Task:
    """The task with settings of its work; None takes one away."""
    given = {name: one for name, one in {**asked.work.settings, **settings}.items() if one is not None}
    return working(asked, settings=given)


def reading(asked: Task, **changes: Any) -> Task:
    return replace(asked, reading=replace(asked.reading, **changes))


def encoded(asked: Task, *columns: ColumnEncoding, classes: tuple[str, ...] = ("0", "1")) -> Task:
    """The task about columns that are encoded so."""
    features = tuple(column.column for column in columns)
    return replace(reading(asked, features=features), encoding=Encoding(columns, classes))


def of_columns() -> list[tuple[str, Task]]:
    """Refusals for which rows and columns a task is about."""
    age, pressure = ColumnEncoding("age"), ColumnEncoding("pressure")
    telling = reading(counted(), dataset="telling", features=("age", "ssn"))
    name = ColumnEncoding("name", ColumnKind.CATEGORY, "indicators", ("a", "b"))
    return [
        ("validation_split may be at most 0.5", reading(counted(), validation_split=0.6)),
        ("a column is named twice", reading(counted(), features=("age", "age"))),
        ('no dataset "nobody" is shared', reading(counted(), dataset="nobody")),
        ("several shared datasets have all the columns", reading(counted(), dataset=None)),
        ('dataset "people" has no column "weight"', reading(counted(), features=("age", "weight"))),
        ("no dataset with the columns", reading(counted(), dataset=None, features=("age", "weight"))),
        ('dataset "asleep" is paused', reading(counted(), dataset="asleep")),
        ("its materialized view is not populated", reading(counted(), dataset="unfilled")),
        ("its phi_check refuses", replace(telling, compliance_mode="HIPAA")),
        ('dataset "people" has no subject, and under compliance_mode', replace(counted(), compliance_mode="GDPR")),
        ("the weights column must be numeric", reading(trained(), roles=(("weights", "name"),))),
        ("and the task reads it as number", reading(counted(), features=("age", "name"))),
        ("and the task reads it as time", encoded(counted(), age, ColumnEncoding("pressure", ColumnKind.TIME))),
        ("the target must be a number", reading(counted(), target="visited")),
        ("the task says classes = 2, and names 3", encoded(counted(), age, pressure, classes=("0", "1", "2"))),
        ("is not read as value", encoded(counted(), age, replace(name, form="value"))),
        ('text "name" is not read as 5 numbers', encoded(counting(), age, ColumnEncoding("name", ColumnKind.TEXT, "hashed", elements=5))),
        ("the classes of the target are not known", encoded(counting(), age, classes=())),
        ("arrays of no declared length are not supported", encoded(counted(), age, ColumnEncoding("tags", ColumnKind.ARRAY))),
        ("is read as an image of 2 channels", encoded(counting(), age, ColumnEncoding("tags", ColumnKind.IMAGE, elements=12, shape=(2, 2, 3)))),
        ("and the task reads it as image", encoded(counting(), age, ColumnEncoding("tags", ColumnKind.IMAGE, elements=6, shape=(1, 2, 3)))),
        ("levels depend on no state and no scaling", replace(naming("name", "age", size=2 * WIDTH), scaling=SCALING)),
        ("the task does not say how its columns are read", replace(naming(), encoding=None)),
        ("not 90113 of float64", naming(size=WIDTH + 1)),
        ("is no setting here", setting(naming(), cells=300)),
        ("bins are not supported", encoded(counted(), replace(age, form="bins", edges=(1.0, 2.0)))),
    ]  # fmt: skip


def of_budgets() -> list[tuple[str, Task]]:
    """Refusals for what a task costs, or that it is private or not."""
    plain = StatisticsWork(MODEL, None, classes=2).to_work(2)
    return [
        ("asks for a plain answer although", task(STATISTICS, plain)),
        ("asks for noise although", replace(counted(), budget=None)),
        ("which a plain answer would undo", task(STATISTICS, plain, budget=None)),
        ("has a max_epsilon, and the workspace no", reading(task(STATISTICS, plain, budget=None), dataset="capped")),
        ("the release would pass max_epsilon", reading(working(counted(), privacy=Privacy(Mechanism(0.05), 1.0)), dataset="capped")),
        ("the release would pass the privacy budget", working(counted(), privacy=Privacy(Mechanism(0.01), 1.0))),
        ("which a later one of epsilon 9 cannot raise", replace(counted(), budget=Budget(9.0, 1e-5))),
        ("which a later one of delta 0.01 cannot raise", replace(counted(), budget=Budget(8.0, 1e-2))),
        ("step newton has no form with laplacian noise", task(StepName("newton"), replace(counted().work, privacy=Privacy(Mechanism(2.0, noise="laplacian"), 1.0)))),
    ]  # fmt: skip


def of_sums() -> list[tuple[str, Task]]:
    """Refusals of statistics, refinements and counts of classes."""
    windows, ranges = ((0.0, 1.0),) * 2, ((0.0, 1.0),) * 2
    ends, cells = {"range_lowers": (0.0, 0.0)}, {"centres": (0.0, 0.0)}
    plainly = working(counting(), privacy=None)
    return [
        ("statistics depend on no state and no scaling", replace(counted(), scaling=SCALING)),
        ("statistics depend on no state and no scaling", replace(refined(windows), state=STATE)),
        ("statistics begin without windows", counted(windows=windows)),
        ("a refinement counts in windows", refined(None)),
        ("one range or window for every feature", refined(((0.0, 1.0),))),
        ("the logarithmic grid has no centre", refined(((1.0, 0.0), (0.0, 1.0)))),
        ("a window's width 1e-300 is outside", refined(((0.0, 1e-300), (0.0, 1.0)))),
        ("a window has a centre and a width", setting(refined(windows), widths=None)),
        ("a range has a lower and an upper end", setting(counted(), **ends)),
        ("a column has a range or a window", setting(counted(ranges=ranges), **cells, widths=(1.0, 1.0))),
        ("a range's width 0 is outside", counted(ranges=((0.0, 0.0), (0.0, 1.0)))),
        ("is lost to rounding", counted(ranges=((1e9, 1e9 + 1e-6), (0.0, 1.0)))),
        ("range_lowers 1e+151 is outside", counted(ranges=((1e151, 2e151), (0.0, 1.0)))),
        ("ranges and privacy go together", working(counted(ranges=ranges), privacy=None)),
        ("learns no target of 0 classes", setting(counted(), classes=0)),
        ("The task asks for 5 values", working(counted(), size=5)),
        ("is neither sampled, nor repeated", working(counted(), privacy=Privacy(Mechanism(NOISE, 0.5), 1.0))),
        ("noise_multiplier 0.001 is outside", working(counted(), privacy=Privacy(Mechanism(1e-3), 1.0))),
        ("coordinates is too much", working(counted(), privacy=Privacy(Mechanism(1e6), 1.0))),
        ("counts of classes depend on no state", replace(counting(), scaling=SCALING)),
        ("counted under a privacy budget alone", plainly),
        ("bins is no setting here", setting(counting(), bins=3)),
        ("only updates that a rule combines are rounded", working(counted(), coding=Coding(bits=8))),
    ]  # fmt: skip


LAPLACIAN = Mechanism(NOISE, noise="laplacian")
LAPLACE_CLASSES = "more than two classes are not supported under noise_mechanism laplacian"


def of_models() -> list[tuple[str, Task]]:
    """Refusals of training and evaluation."""
    far = parameters_state(np.array([0.0, 2e9, 0.0]))
    of_three = {
        "state": parameters_state(np.zeros((2, 3))),
        "reading": replace(READING, classes=("0", "1", "2")),
    }
    three = replace(working(setting(trained(), classes=3), size=6), **of_three)  # type: ignore[arg-type]
    judged = replace(setting(evaluated(), classes=3), **of_three)  # type: ignore[arg-type]
    return [
        ("noise_multiplier 0.001 is outside", trained(noise_multiplier=1e-3)),

        ("clipping_norm 1e-07 is outside", trained(clipping_norm=1e-7)),
        ("sampling_rate 1e-10 is outside", trained(sampling_rate=1e-10)),
        ("steps 2e+07 is outside", trained(steps=20_000_000)),
        ("weight 1e+13 is outside", trained(expected_subjects=1e13)),
        ("learning_rate 1e-13 is outside", setting(trained(), learning_rate=1e-13)),
        ("proximal_term 1e+07 is outside", setting(trained(), proximal_term=1e7)),
        ("optimizer must be one of 'sgd',", setting(trained(), optimizer="newton")),
        ("clipping_norm and privacy go together", setting(trained(), clipping_norm=None)),
        ("there is no penalty in private training", setting(trained(), penalty=0.1)),
        ("control variates are not supported under", setting(trained(), control_variates=True)),
        ("adaptive_learning is not supported under", setting(trained(), adaptive_learning=True)),
        ("the task holds no scaling", replace(trained(), scaling=None)),
        ("scaling and inputs differ in length", replace(trained(), scaling=Scaling((0.0,), (1.0,)))),
        ("a scale 1e-300 is outside", replace(evaluated(), scaling=Scaling((0.0, 0.0), (1e-300, 1.0)))),
        ("a mean 1e+300 is outside", replace(evaluated(), scaling=Scaling((1e300, 0.0), (1.0, 1.0)))),
        ("expected_subjects 0.5 is outside", trained(expected_subjects=0.5)),
        ("target_mean 1e+300 is outside", replace(trained(), scaling=replace(SCALING, target_mean=1e300))),
        ("target_scale 1e-300 is outside", replace(trained(), scaling=replace(SCALING, target_scale=1e-300))),
        ("a parameter 2e+09 is outside", replace(trained(), state=far)),
        ("a parameter 2e+09 is outside", replace(evaluated(), state=far)),
        ("parameters do not fit its algorithm", replace(trained(), state=parameters_state(np.zeros(7)))),
        ("parameters do not fit its algorithm", replace(trained(), state={})),
        ("a report of this model under a privacy_budget has 50 values of float64", reported(size=51)),
        ("there is no report of more than 32 classes yet", reported(classes=33)),
        ("noise_multiplier 0.001 is outside", working(reported(), privacy=Privacy(Mechanism(1e-3), 1.0))),
        ("parameters do not fit its algorithm", setting(trained(), classes=3)),
        (LAPLACE_CLASSES, working(three, privacy=Privacy(LAPLACIAN, 100.0))),
        (LAPLACE_CLASSES, working(judged, privacy=Privacy(LAPLACIAN, 1.0))),
        ("norms of gradients are counted under a privacy budget alone", working(normed(), privacy=None)),
        ("clipping_norm 1e-07 is outside", setting(normed(), clipping_norm=1e-7)),
        ("a parameter 2e+09 is outside", replace(normed(), state=far)),
        ("is neither sampled, nor repeated", working(normed(), privacy=Privacy(Mechanism(NOISE, 0.5), 1.0))),
        ("The task asks for 3 values", working(normed(), size=3)),
    ]  # fmt: skip


def of_shares() -> list[tuple[str, Task]]:
    """Refusals of sums to which nodes add a share of the noise, and of the step that is for them alone."""
    secure = Summing("shamir", "keys", nodes=3, trust="distributed")
    work = GradientWork(MODEL, SCALING, NOISE, 0.5, 1.0, 2).to_work(3)
    summed = working(task(StepName("gradient"), work), summing=secure)
    repeated = Privacy(Mechanism(NOISE, 0.5, 2), 1.0)
    plain = StatisticsWork(MODEL, None, classes=2).to_work(2)
    rounded = replace(secure, trust="local", rounding=Rounding(16, 1.0, 100.0))
    in_word = replace(secure, trust="local", fraction=1)
    return [
        ("values with shares of noise are not rounded", working(summed, summing=rounded)),
        ("values with shares of noise are not rounded", working(summed, summing=in_word)),
        (
            "too few for the steps of the noise",
            working(summed, summing=replace(in_word, trust="distributed")),
        ),
        ("nothing is rounded to a lattice", working(task(STATISTICS, plain), summing=in_word)),
        ("nothing is put into one word", working(counted(), summing=replace(in_word, trust="distributed"))),
        ("nothing is rounded to a lattice", working(task(STATISTICS, plain), summing=rounded)),
        ("lets nobody know whose noise adds up", working(counted(), summing=Summing(trust="distributed"))),
        ("there is no noise to share", working(task(STATISTICS, plain), summing=secure)),
        ("step train adds its noise before", working(trained(), summing=secure)),
        ("summed under a privacy budget alone", working(summed, privacy=None)),
        ("neither repeated nor weighted", working(summed, privacy=repeated)),
        ("neither repeated nor weighted", working(summed, privacy=Privacy(Mechanism(NOISE, 0.5), 9.0))),
        ("clipping_norm 1e-07 is outside", setting(summed, clipping_norm=1e-7)),
        ("local_epochs", setting(summed, local_epochs=3)),
        ("its DBA has not said who the other participants are", summed),
    ]


def stepped(model: str = MODEL, classes: int = 2, **changes: Any) -> Task:
    """A Newton step."""
    asked = NoisyWork(NOISE, 1.0, classes).to_work(model, 3 + 6)
    return task(NEWTON, asked, **changes)


HAZARD_STATE = make_state(parameters=np.zeros(1), hazards=np.zeros(2))


def timed(**changes: Any) -> Task:
    """Hazards of two intervals."""
    given = settings_of(HazardSettings((1.0, 2.0), 1.0, 1.0))
    asked = Work("cox_regression", 3 + 1 + 4, privacy=Privacy(Mechanism(NOISE), 1.0), settings=given)
    read = replace(READING, features=("age",), roles=(("event", "pressure"),))
    told = {"reading": read, "state": HAZARD_STATE, "scaling": Scaling((0.0,), (1.0,)), **changes}
    return task(HAZARDS, asked, **told)


def ordered(**changes: Any) -> Task:
    """The histogram of a concordance over two intervals."""
    given = settings_of(ConcordanceSettings((1.0, 2.0), 1.0))
    asked = Work("cox_regression", count_cells(2), privacy=Privacy(Mechanism(NOISE), 1.0), settings=given)
    return replace(timed(state=parameters_state(np.zeros(1)), **changes), work=asked, key=reported().key)


def wide_hazards() -> Task:
    """Hazards of two intervals with more inputs than a Hessian may have."""
    levels = tuple(f"{number:03}" for number in range(1_000))
    names = [ColumnEncoding(name, ColumnKind.CATEGORY, "indicators", levels) for name in "abcde"]
    inputs = len(Encoding(tuple(names), ()).inputs)
    state = make_state(parameters=np.zeros(inputs), hazards=np.zeros(2))
    asked = timed(scaling=Scaling((0.0,) * inputs, (1.0,) * inputs), state=state)
    return encoded(reading(asked, dataset="worded"), *names, classes=())


def of_derivatives() -> list[tuple[str, Task]]:
    """Refusals of Newton steps and of hazards."""
    far = parameters_state(np.array([0.0, 200.0, 0.0]))
    three = replace(
        setting(stepped(), classes=3),
        state=parameters_state(np.zeros((2, 3))),
        reading=replace(READING, classes=("0", "1", "2")),
    )
    counts = stepped("poisson_regression", 0)
    wide = make_state(parameters=np.zeros(1), hazards=np.full(2, 200.0))
    return [
        ("clipping_norm 1e-07 is outside", setting(stepped(), clipping_norm=1e-7)),
        ("noise_multiplier 0.001 is outside", working(stepped(), privacy=Privacy(Mechanism(1e-3), 1.0))),
        ("coordinates is too much", working(stepped(), privacy=Privacy(Mechanism(1e6), 1.0))),
        ("is neither sampled, nor repeated", working(stepped(), privacy=Privacy(Mechanism(NOISE, 0.5), 1.0))),
        ("a parameter 200 is outside", replace(stepped(), state=far)),
        ("The task asks for 8 values", working(stepped(), size=8)),
        ("more than two classes are not supported under", three),
        ("the mean of counts is more than 0", replace(counts, scaling=replace(SCALING, target_mean=-1.0))),
        ("the task holds no scaling", replace(stepped(), scaling=None)),
        ("the intervals of time are none", setting(timed(), ends=(2.0, 1.0))),
        ("ends 1e+07 is outside", setting(timed(), ends=(1.0, 1e7))),
        ("unit 1e-300 is outside", setting(timed(), unit=1e-300)),
        ("reads a column with the role event", reading(timed(), roles=())),
        ("state does not fit its algorithm and step", replace(timed(), state=parameters_state(np.zeros(1)))),
        ("a parameter 200 is outside", replace(timed(), state=wide)),
        ("parameters do not fit its algorithm", replace(timed(), state={**wide, "hazards": np.zeros(3)})),
        ("hazards of intervals are asked for under a privacy budget", working(timed(), privacy=None)),
        ("the intervals of time are none", setting(ordered(), ends=(2.0, 1.0))),
        ("reads a column with the role event", reading(ordered(), roles=())),
        ("the task holds no scaling", replace(ordered(), scaling=None)),
        ("state does not fit its algorithm and step", replace(ordered(), state=HAZARD_STATE)),
        ("a parameter 200 is outside", replace(ordered(), state=parameters_state(np.full(1, 200.0)))),
        ("The task asks for 8 values", working(ordered(), size=8)),
        ("noise_multiplier 0.001 is outside", working(ordered(), privacy=Privacy(Mechanism(1e-3), 1.0))),
        ("optimizer newton takes at most 4096 parameters, and the model has", wide_hazards()),
    ]  # fmt: skip


PRIVATE_STEPS = frozenset(
    {
        "vocabulary",
        "classes",
        "statistics",
        "refine",
        "train",
        "gradient",
        "norms",
        "evaluate",
        "report",
        "leaves",
    }
) | {"newton", "hazards"}
"""Each has its neighbours in test_row_independence.py, test_private_trees.py or test_bounded_curvature.py."""

OF_COX = frozenset({"grid", "times", "newton"})
"""Steps of a Cox regression that a private one does not take."""

NOT_PRIVATE = {
    "bins": "bins are not counted under a privacy budget",
    "levels": "levels are not asked for under a privacy budget",
    "histograms": "sums without noise over rows are not asked for under a privacy_budget",
    "quantiles": "sums without noise over rows are not asked for under a privacy_budget",
    "personalize": "personalization is not supported under a privacy_budget yet",
}


BARE_SETTINGS = {
    "bins": {"columns": (0,)},
    "levels": {"cells": 300, "max_levels": 10, "min_level_count": 5},
}


def of_parts() -> list[tuple[str, Task]]:
    """Refusals of what has no private form: every other algorithm, every other step, and parts that are not there."""
    found, strange = [], StepName("gossip")
    for name in ALGORITHMS.names():
        asked = working(trained(), algorithm=name)
        if not getattr(ALGORITHMS.entry(name).settings, "has_private_form", True):
            found.append((f"{name} is not supported under a privacy_budget yet", asked))
            continue
        for step in algorithm(name).steps.keys() & OF_COX if name == "cox_regression" else ():
            told = replace(working(asked, settings={}), key=replace(asked.key, step=StepName(step)))
            found.append((f"step {step} of cox_regression is not asked for under", told))
        for step in (
            algorithm(name).steps.keys() - PRIVATE_STEPS - (OF_COX if name == "cox_regression" else set())
        ):
            bare = counted()
            given = BARE_SETTINGS.get(step, bare.work.settings)
            bare = working(bare, algorithm=name, settings=given)
            found.append((NOT_PRIVATE[step], replace(bare, key=replace(bare.key, step=step))))
    return [
        *found,
        *of_personal_parts(),
        ("counting what is certified is not supported under", replace(counted(), key=replace(counted().key, step=CERTIFY))),
        ("of a kind that this node does not know", replace(trained(), key=replace(trained().key, step=strange))),
        ("sum protocol", working(trained(), summing=Summing(protocol="whispered"))),
        ("stage", working(trained(), summing=Summing(stage="whisper"))),
        ("codec", working(trained(), coding=Coding("shrink"))),

    ]  # fmt: skip


def of_personal_parts() -> list[tuple[str, Task]]:
    """Refusals of what a node would keep of a run for itself."""
    told = "personalization is not supported under a privacy_budget yet"
    settings = trained().work.settings
    return [
        (told, working(trained(), settings={**settings, "personal_term": 0.1})),
        (told, working(evaluated(), settings={**evaluated().work.settings, "local_layers": 1})),
    ]


def of_repetition(run: RunId) -> list[tuple[str, Task]]:
    """Refusals of what was asked otherwise before. run: has been asked for `counted`."""
    return [
        ("another task was already answered under the same run", replace(counted(run), model=ModelName("m")))
    ]
