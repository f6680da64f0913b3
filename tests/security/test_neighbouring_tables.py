"""Two tables that differ by one person: under a budget nothing but noise tells them apart.

Every task here, honest or hostile, goes to a node over the one table and to a node over the other, as a coordinator
would ask that wants to know that one person's diagnosis: kind, code, text and place of what comes back are the same,
and so are the ledgers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, LiteralString

import numpy as np
import psycopg
import pytest

from heliosdb.algorithms.hazards import HAZARDS, HazardSettings
from heliosdb.algorithms.local_terms import LocalTerms
from heliosdb.algorithms.newton import NEWTON
from heliosdb.algorithms.norms import NORMS, NormsWork
from heliosdb.algorithms.perceptron import Perceptron
from heliosdb.algorithms.private_layout import PrivateLayout
from heliosdb.algorithms.private_newton import NoisyWork
from heliosdb.algorithms.vocabulary import VOCABULARY, WIDTH
from heliosdb.algorithms.works import (
    ClassesWork,
    EvaluateWork,
    PrivateReportWork,
    PrivateTraining,
    StatisticsWork,
    TrainWork,
    privacy_of_sum,
)
from heliosdb.domain.bounds import (
    CLIPPING_NORM,
    COEFFICIENT,
    LEARNING_RATE,
    NOISE_MULTIPLIER,
    PARAMETER,
    SCALE,
)
from heliosdb.domain.coding import Coding
from heliosdb.domain.encoding import ColumnEncoding, ColumnKind, Encoding
from heliosdb.domain.errors import FederatedError
from heliosdb.domain.folds import Fold
from heliosdb.domain.ids import RunId, StepName
from heliosdb.domain.privacy import Budget, Mechanism
from heliosdb.domain.settings import settings_of
from heliosdb.domain.state import make_state
from heliosdb.domain.task import Privacy, Scaling, Task, Work
from heliosdb.domain.vector import Dtype
from heliosdb.transport.client import NodeClient
from tests.security import private_trees
from tests.support.cluster import Cluster
from tests.support.federation import (
    Federation,
    evaluate_task,
    new_run,
    parameters_state,
    running_node,
    share,
    statistics_task,
    train_task,
)

pytestmark = pytest.mark.usefixtures("forked_training")

TIMEOUT = 180.0
BUDGET = Budget(8.0, 1e-5)
LARGE = Budget(1e6, 1e-5)

PEOPLE = """
CREATE TABLE person (person_id integer PRIMARY KEY, age double precision, pressure double precision,
                     outcome double precision, name text);
SELECT setseed(0.5);
INSERT INTO person SELECT i, 30 + 40 * random(), 90 + 60 * random(), (random() < 0.4)::integer, 'x'
FROM generate_series(1, {rows}) AS i;
"""

ONE_PERSON = {
    "there or not": "DELETE FROM person WHERE person_id = 1",
    "one more than min_rows or not": "DELETE FROM person WHERE person_id > 20",
    "all but one": "DELETE FROM person WHERE person_id > 1",
    "of another class": "UPDATE person SET outcome = 1 - outcome WHERE person_id = 1",
    "of no class": "UPDATE person SET outcome = 7 WHERE person_id = 1",
    "without a target": "UPDATE person SET outcome = NULL WHERE person_id = 1",
    "NaN": "UPDATE person SET age = 'NaN', outcome = 'NaN' WHERE person_id = 1",
    "infinite": "UPDATE person SET age = 'infinity', pressure = '-infinity' WHERE person_id = 1",
    "too large to be squared": "UPDATE person SET age = 1e300, pressure = -1e300 WHERE person_id = 1",
    "denormal": "UPDATE person SET age = 5e-324, pressure = 1e-310 WHERE person_id = 1",
    "of a name that nobody else has": "UPDATE person SET name = 'only' WHERE person_id = 1",
    "without a name": "UPDATE person SET name = NULL WHERE person_id = 1",
    "the only one with a value": "UPDATE person SET age = NULL WHERE person_id > 1",
}


REFUSED = 9
"""How many of the tasks, the last ones, are refused; test_refusals_under_a_budget.py has the others."""


@dataclass(frozen=True)
class Answer:
    """What a coordinator sees of an answer but its noise, or of a refusal."""

    kind: str
    said: tuple[object, ...]


async def ask(client: NodeClient, federation: Federation, task: Task) -> Answer:
    try:
        update = await client.perform(task, federation.sealing, TIMEOUT)
    except FederatedError as error:
        reason = getattr(error, "reason", None)
        return Answer("refusal", (error.code, reason, error.message, error.detail, error.hint))
    assert np.isfinite(update.vector).all()
    return Answer(
        "answer", (update.vector.shape, update.weight, update.mechanism, update.spending, update.usage)
    )


def private_training(**changes: object) -> PrivateTraining:
    return replace(PrivateTraining(4.0, 1.0, 0.5, 3, 100.0), **changes)  # type: ignore[arg-type]


def train(privacy: PrivateTraining, *, run: RunId, budget: Budget, **changes: object) -> Task:
    task = train_task(run=run, noise_multiplier=4.0, budget=budget)
    state = changes.pop("state", task.state)
    scaling = changes.pop("scaling", task.scaling)
    work = replace(TrainWork.of(task), privacy=privacy, **changes)  # type: ignore[arg-type]
    return replace(task, work=work.to_work(task.work.size), scaling=scaling, state=state)


def refinement(windows: tuple[tuple[float, float], ...]) -> Task:
    task = statistics_task(run=new_run(), budget=LARGE)
    work = StatisticsWork("logistic_regression", NOISE_MULTIPLIER.least, windows=windows, classes=2)
    return replace(task, key=replace(task.key, step=StepName("refine")), work=work.to_work(2))


def reported(asked: Task, classes: int) -> Task:
    """A report on the model of a task, with the least noise."""
    algorithm = "logistic_regression" if classes else "linear_regression"
    work = PrivateReportWork(algorithm, asked.scaling, NOISE_MULTIPLIER.least, classes=classes)  # type: ignore[arg-type]
    key = replace(asked.key, run=new_run(), step=StepName("report"))
    return replace(
        asked, key=key, work=work.to_work(PrivateLayout(classes, len(asked.reading.features)).size)
    )


def of_layers() -> list[Task]:
    """Three classes, a network, and the norms of its gradients, with parameters at their bounds."""
    plain = train(private_training(), run=new_run(), budget=LARGE)
    reading = replace(plain.reading, classes=("0", "1", "2"))
    several = parameters_state(np.array([[PARAMETER.most, 1.0, 0.0], [0.5, PARAMETER.least, 0.0]]))
    of_three = train(private_training(), run=new_run(), budget=LARGE, state=several, classes=3)
    measured = replace(
        evaluate_task(run=of_three.key.run, noise_multiplier=NOISE_MULTIPLIER.least),
        budget=LARGE,
        work=EvaluateWork(
            "logistic_regression", plain.scaling or Scaling((), ()), NOISE_MULTIPLIER.least, classes=3
        ).to_work(),
        state=several,
        reading=reading,
    )
    architecture = Perceptron(2, (4, 1), "tanh", "sigmoid")
    hostile = np.full(architecture.size, PARAMETER.most, dtype=np.float32)
    network = train(private_training(), run=new_run(), budget=LARGE, state=architecture.to_state(hostile))
    network = replace(
        network,
        work=replace(network.work, algorithm="neural_network", size=architecture.size, dtype=Dtype.FLOAT32),
    )
    norms = NormsWork(
        "neural_network", plain.scaling or Scaling((), ()), NOISE_MULTIPLIER.least, CLIPPING_NORM.least, 2
    )
    counted = replace(network, key=replace(network.key, run=new_run(), step=NORMS), work=norms.to_work())
    return [
        replace(of_three, work=replace(of_three.work, size=6), reading=reading),
        measured,
        network,
        counted,
    ]


def derivatives(model: str, noise: float, clipping_norm: float, **changes: object) -> Task:
    """A private Newton step, or one of a Cox regression with the blood pressure as its event."""
    asked = train(private_training(), run=new_run(), budget=LARGE, **changes)
    classes = 2 if model == "logistic_regression" else 0
    work = NoisyWork(noise, clipping_norm, classes).to_work(model, 9)
    return replace(asked, key=replace(asked.key, step=NEWTON), work=work)


def hazards(unit: float) -> Task:
    """Hazards of three intervals of age, the event being the blood pressure."""
    asked = train(
        private_training(),
        run=new_run(),
        budget=LARGE,
        scaling=Scaling((50.0,), (10.0,)),
        state=make_state(parameters=np.full(1, -50.0), hazards=np.array([-100.0, 0.0, 100.0])),
    )
    given = settings_of(HazardSettings((1e-6, 0.5, 1.0), unit, CLIPPING_NORM.most))
    private = Privacy(Mechanism(NOISE_MULTIPLIER.least), 1.0)
    reading = replace(asked.reading, features=("age",), roles=(("event", "pressure"),))
    work = Work("cox_regression", 11, privacy=private, settings=given)
    return replace(asked, key=replace(asked.key, step=HAZARDS), reading=reading, work=work)


def of_derivatives() -> list[Task]:
    least, most, silencing = NOISE_MULTIPLIER.least, CLIPPING_NORM.most, (SCALE.least, SCALE.least)
    far = parameters_state(np.array([COEFFICIENT.most, COEFFICIENT.least, 1.0]))
    return [
        derivatives("logistic_regression", 4.0, 1.0),
        derivatives("logistic_regression", least, most, scaling=Scaling((50.0, 120.0), silencing), state=far),
        derivatives("linear_regression", least, most, scaling=Scaling((50.0, 120.0), silencing)),
        derivatives("poisson_regression", least, most, scaling=Scaling((50.0, 120.0), (1.0, 1.0), 1e-9), state=far),
        hazards(SCALE.least),
        hazards(50.0),
    ]  # fmt: skip


def otherwise() -> list[Task]:
    """Tasks about columns that are encoded, with a role, in a fold, of other optimizers and in fewer bytes."""
    name = ColumnEncoding(
        "name", ColumnKind.CATEGORY, "indicators", ("x", "y"), null_level=True, other_level=True
    )
    columns = (ColumnEncoding("age", form="log1p", missing_indicator=True), name)
    scaling = Scaling((3.0, 0.0, 0.0, 0.0, 0.0), (1.0,) * 5)
    asked = train(
        private_training(), run=new_run(), budget=LARGE, state=parameters_state(np.zeros(6)), scaling=scaling
    )
    reading = replace(asked.reading, features=("age", "name"))
    encoded = replace(
        asked, work=replace(asked.work, size=6), reading=reading, encoding=Encoding(columns, ("0", "1"))
    )
    plain = train(private_training(), run=new_run(), budget=LARGE)
    weighted = train(
        private_training(),
        run=new_run(),
        budget=LARGE,
        state=parameters_state(np.zeros(2)),
        scaling=Scaling((50.0,), (10.0,)),
    )
    one_weighted = replace(weighted.reading, features=("age",), roles=(("weights", "pressure"),))
    counting = replace(
        statistics_task(run=new_run(), budget=LARGE),
        work=ClassesWork("logistic_regression", NOISE_MULTIPLIER.least).to_work(),
    )
    unnamed = (ColumnEncoding("age"), ColumnEncoding("name", ColumnKind.CATEGORY))
    naming = replace(
        statistics_task(run=new_run(), budget=LARGE),
        work=Work("logistic_regression", WIDTH, privacy=privacy_of_sum(NOISE_MULTIPLIER.least)),
        reading=reading,
        encoding=Encoding(unnamed, ("0", "1")),
    )
    return [
        *of_layers(),
        replace(naming, key=replace(naming.key, step=VOCABULARY)),
        encoded,
        reported(encoded, classes=2),
        reported(replace(plain, scaling=Scaling((50.0, 120.0), (SCALE.least, SCALE.most))), classes=0),
        replace(counting, key=replace(counting.key, step=StepName("classes"))),
        train(private_training(), run=new_run(), budget=LARGE, optimizer="adam", terms=LocalTerms(1e6)),
        *(
            replace(plain, key=replace(plain.key, run=new_run()), work=replace(plain.work, coding=coding))
            for coding in (Coding("zstd"), Coding(bits=8, sent=2), Coding("lz4", bits=16, sent=1))
        ),
        replace(plain, reading=replace(plain.reading, fold=Fold(0, 5), validation_split=0.2)),
        replace(weighted, work=replace(weighted.work, size=2), reading=one_weighted),
        *private_trees.answered(LARGE),
    ]


def tasks(run: RunId) -> list[Task]:
    """What the attacker asks, in order. The silencing scaling leaves one known person's row alone."""
    silencing = Scaling((50.0, 120.0), (SCALE.least, SCALE.least))
    least = NOISE_MULTIPLIER.least
    flipping = parameters_state(np.array([PARAMETER.most, -PARAMETER.most, 1.0]))
    asked = [
        statistics_task(run=run, noise_multiplier=least, budget=LARGE),
        replace(
            statistics_task(run=new_run(), budget=LARGE),
            work=StatisticsWork(
                "linear_regression", least, ((-1.0, 1.0), (0.0, 1e-9), (5.0, 6.0)), classes=0
            ).to_work(2),
        ),
        refinement(((50.0, SCALE.least), (-1e9, SCALE.most))),
        refinement(((0.0, 0.0), (120.0, 1e-9))),
        train(private_training(), run=run, budget=LARGE),
        train(
            private_training(noise_multiplier=least, clipping_norm=CLIPPING_NORM.most),
            run=new_run(),
            budget=LARGE,
            scaling=silencing,
            learning_rate=LEARNING_RATE.most,
            state=flipping,
        ),
        train(
            private_training(noise_multiplier=1.0, expected_subjects=1.0, sampling_rate=1e-9, steps=100),
            run=new_run(),
            budget=LARGE,
            learning_rate=LEARNING_RATE.most,
        ),
        replace(
            evaluate_task(run=run, noise_multiplier=least),
            budget=LARGE,
            work=EvaluateWork("linear_regression", silencing, least, classes=0).to_work(),
            scaling=silencing,
            state=flipping,
        ),
    ]
    refused = [
        train(private_training(noise_multiplier=1e-300), run=new_run(), budget=LARGE),
        train(private_training(), run=new_run(), budget=LARGE, scaling=Scaling((0.0, 0.0), (1e-300, 1e-300))),
        train(private_training(), run=new_run(), budget=LARGE, state=parameters_state(np.zeros(7))),
        train(private_training(), run=new_run(), budget=Budget(2e6, 1e-5)),
        train(private_training(), run=run, budget=Budget(1.0, 1e-5), learning_rate=0.5),
        train(private_training(noise_multiplier=1e6), run=new_run(), budget=Budget(1e-3, 1e-5)),
        train_task(run=new_run()),
        statistics_task(run=new_run()),
    ]
    return [*asked, *otherwise(), *of_derivatives(), asked[1], *refused, asked[0]]


def make(cluster: Cluster, database: str, rows: int, change: str, options: str) -> None:
    with cluster.connect(database) as connection:
        connection.execute(PEOPLE.format(rows=rows))
        connection.execute(change)  # type: ignore[arg-type]
        share(connection, "people", "person (age, pressure, outcome, name)", options=options)


def ledger(connection: psycopg.Connection[Any]) -> list[tuple[Any, ...]]:
    return connection.execute(
        "SELECT r.step, r.state, s.noise_multiplier, s.epsilon_tight FROM federated.release AS r"
        " LEFT JOIN federated.spending AS s USING (release_id) ORDER BY release_id"
    ).fetchall()


def written_down(connection: psycopg.Connection[Any]) -> list[list[tuple[Any, ...]]]:
    """What the node keeps for its DBA of runs and of refusals, but for when."""
    kept: tuple[LiteralString, ...] = (
        "SELECT run_id, dataset, algorithm, features, target, epsilon, delta FROM federated.node_run ORDER BY run_id",
        "SELECT run_id, step, dataset, code, message, detail, count FROM federated.refusal ORDER BY run_id, message",
    )
    return [connection.execute(each).fetchall() for each in kept]


@pytest.mark.parametrize("difference", ONE_PERSON)
async def test_no_answer_refusal_or_charge_depends_on_one_person(
    difference: str, cluster: Cluster, federated_database: str, tmp_path: Path
) -> None:
    federation = Federation(tmp_path)
    databases = [federated_database, cluster.create_database("template1")]
    with cluster.connect(databases[1]) as connection:
        connection.execute("CREATE EXTENSION heliosdb_federated_learning CASCADE")
    rows = 21 if "min_rows" in difference else 2 if difference == "all but one" else 60
    option = "WITH (subject = 'person_id')" if difference == "there or not" else ""
    for database, change in zip(databases, ("SELECT 1", ONE_PERSON[difference]), strict=True):
        make(cluster, database, rows, change, option)
    run = new_run()
    asked = tasks(run)
    heard: list[list[Answer]] = []
    for number, database in enumerate(databases):
        async with running_node(federation.node_config(cluster, database, f"node{number}")) as port:
            client = federation.client(port, f"node{number}")
            heard.append([await ask(client, federation, task) for task in asked])
            await client.close()
    for task, one, other in zip(asked, *heard, strict=True):
        assert one == other, task
    assert [answer.kind for answer in heard[0]] == ["answer"] * (len(asked) - REFUSED) + ["refusal"] * REFUSED
    with cluster.connect(databases[0]) as one_side, cluster.connect(databases[1]) as other_side:
        charged = ledger(one_side)
        assert charged == ledger(other_side)
        assert {row[1] for row in charged} == {"released"}
        assert written_down(one_side) == written_down(other_side)
        assert all(written_down(one_side))


async def test_what_fails_after_the_charge_says_one_fixed_text_and_is_not_tried_again(
    cluster: Cluster, federated_database: str, tmp_path: Path
) -> None:
    federation = Federation(tmp_path)
    with cluster.connect(federated_database) as connection:
        connection.execute(PEOPLE.format(rows=50))
        connection.execute(
            "CREATE VIEW ratio AS SELECT person_id, 1 / (person_id - 7) AS age, pressure, outcome FROM person"
        )
        share(connection, "people", "ratio (age, pressure, outcome)")
    task = train(private_training(), run=new_run(), budget=BUDGET)
    async with running_node(federation.node_config(cluster, federated_database)) as port:
        client = federation.client(port)
        first = await ask(client, federation, task)
        with cluster.connect(federated_database) as connection:
            connection.execute("DELETE FROM person WHERE person_id = 7")
        again = await ask(client, federation, task)
        other = await ask(client, federation, train(private_training(), run=new_run(), budget=BUDGET))
        await client.close()
    assert first == again
    assert first.kind == "refusal"
    assert "could not compute its answer" in str(first.said[2])
    assert "zero" not in str(first.said)
    assert other.kind == "answer"
    with cluster.connect(federated_database) as connection:
        assert [row[1] for row in ledger(connection)] == ["failed", "released"]
        refusals = connection.execute("SELECT message, detail, count FROM federated.refusal").fetchall()
        assert refusals == [(first.said[2].partition(" refused: ")[2], None, 2)]


async def test_an_exhausted_or_abandoned_question_computes_nothing(
    cluster: Cluster, federated_database: str, tmp_path: Path
) -> None:
    """A task that cannot be paid is refused while the table is locked: no row was asked for."""
    federation = Federation(tmp_path)
    make(cluster, federated_database, 60, "SELECT 1", "WITH (max_epsilon = 0.5)")
    async with running_node(federation.node_config(cluster, federated_database)) as port:
        client = federation.client(port)
        with cluster.connect(federated_database) as blocker, blocker.transaction():
            blocker.execute("LOCK TABLE person IN ACCESS EXCLUSIVE MODE")
            refusal = await ask(client, federation, train(private_training(), run=new_run(), budget=LARGE))
        await client.close()
    assert refusal.kind == "refusal"
    assert "would pass max_epsilon" in str(refusal.said[2])
    with cluster.connect(federated_database) as connection:
        assert ledger(connection) == []
