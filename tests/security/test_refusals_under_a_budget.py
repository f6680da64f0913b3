"""Every refusal under a budget: before a row is read or paid for, and the same beside one person more or fewer.

The modules that say whether a task may be answered are read for the texts of their refusals: one that no task here
brings about has a reason in `ELSEWHERE`, so that a new refusal is not forgotten.
"""

from __future__ import annotations

import ast
import contextlib
import inspect
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from heliosdb.algorithms import (
    budget_plan,
    checks,
    classes,
    described_inputs,
    evaluation,
    features,
    gradient,
    hazards,
    newton,
    norms,
    private_newton,
    private_report,
    refinement,
    statistics,
    survival_report,
    survival_step,
    training,
    vocabulary,
    works,
)
from heliosdb.algorithms.registry import algorithm
from heliosdb.algorithms.steps import ClipsSums, adds_own_noise
from heliosdb.algorithms.trees import private_work
from heliosdb.domain import datasets
from heliosdb.domain.errors import FederatedError
from heliosdb.domain.ids import RunId
from heliosdb.domain.task import Task
from heliosdb.node import consenting, identifiers, ledger, policy, requests, sum_terms
from heliosdb.parts.algorithms import ALGORITHMS
from heliosdb.transport.client import NodeClient
from tests.security import private_trees
from tests.security.refused_tasks import (
    BUDGET,
    OF_COX,
    ONE_FEWER,
    PRIVATE_STEPS,
    counted,
    make,
    of_budgets,
    of_columns,
    of_derivatives,
    of_models,
    of_parts,
    of_repetition,
    of_shares,
    of_sums,
    reading,
)
from tests.support.cluster import Cluster
from tests.support.federation import (
    Federation,
    new_run,
    running_node,
)

TIMEOUT = 180.0
LOCKED = "LOCK TABLE person, capped, worded IN ACCESS EXCLUSIVE MODE"


@contextlib.contextmanager
def held(cluster: Cluster, database: str) -> Iterator[None]:
    """Lock the tables: whoever read a row would wait."""
    with cluster.connect(database) as connection, connection.transaction():
        connection.execute(LOCKED)
        yield


async def refusal(client: NodeClient, federation: Federation, asked: Task) -> tuple[object, ...]:
    """What a coordinator hears."""
    with pytest.raises(FederatedError) as raised:
        await client.perform(asked, federation.sealing, TIMEOUT)
    error = raised.value
    return error.code, getattr(error, "reason", None), error.message, error.detail, error.hint


async def heard(
    cluster: Cluster, database: str, federation: Federation, run: RunId, asked: Sequence[Task]
) -> list[tuple[object, ...]]:
    """What a node over the database says of the tasks, once it was asked for one that it answers."""
    async with running_node(federation.node_config(cluster, database)) as port:
        client = federation.client(port)
        await client.perform(counted(run), federation.sealing, TIMEOUT)
        with held(cluster, database):
            said = [await refusal(client, federation, one) for one in asked]
        await client.close()
    return said


async def test_each_is_said_before_a_row_is_read_and_is_the_same_of_neighbouring_tables(
    cluster: Cluster, federated_database: str, tmp_path: Path
) -> None:
    databases = [federated_database, cluster.create_database("template1")]
    with cluster.connect(databases[1]) as connection:
        connection.execute("CREATE EXTENSION heliosdb_federated_learning CASCADE")
    for database, change in zip(databases, ("SELECT 1", ONE_FEWER), strict=True):
        make(cluster, database, change)
    run = new_run()
    asked = [
        *of_columns(),
        *of_budgets(),
        *of_sums(),
        *of_models(),
        *of_shares(),
        *of_derivatives(),
        *of_parts(),
        *of_repetition(run),
    ]
    asked += [(text, reading(one, dataset="people")) for text, one in private_trees.refused(BUDGET)]
    federation = Federation(tmp_path)
    tasks = [one for _, one in asked]
    one, other = [await heard(cluster, database, federation, run, tasks) for database in databases]
    assert [text for (text, _), said in zip(asked, one, strict=True) if text not in str(said[2])] == []
    assert one == other
    for database in databases:
        with cluster.connect(database) as connection:
            paid = connection.execute("SELECT count(*) FROM federated.release").fetchone()
            assert paid == (1,)
    messages = [str(said[2]) for said in one]
    unheard = {shown for shown, text in texts() if not any(map(text.search, messages))}
    assert sorted(unheard - ELSEWHERE.keys()) == []
    assert sorted(ELSEWHERE.keys() - unheard) == []


@pytest.mark.parametrize("name", ALGORITHMS.names())
def test_every_step_with_a_private_form_says_whose_the_noise_is_to_add(name: str) -> None:
    there = getattr(ALGORITHMS.entry(name).settings, "has_private_form", True)
    not_taken = OF_COX if name == "cox_regression" else frozenset()
    private = [step for step in algorithm(name).steps.values() if step.name in PRIVATE_STEPS - not_taken]
    assert private
    silent = [step.name for step in private if not (isinstance(step, ClipsSums) or adds_own_noise(step))]
    assert not (there and silent)


DECIDING = (
    policy, requests, ledger, consenting, identifiers, datasets,
    budget_plan, checks, classes, described_inputs, evaluation, features, gradient, hazards, newton, norms, private_newton, private_report,
    private_work, refinement, statistics, sum_terms, survival_report, survival_step, training, vocabulary, works,
)  # fmt: skip
"""The modules that decide what is answered, before a row is read."""

REFUSING = {"refused", "invalid_value", "not_supported", "_invalid", "FederatedError", "_hold", "outside"}


def texts() -> list[tuple[str, re.Pattern[str]]]:
    """What the deciding modules refuse with: as it is shown in `ELSEWHERE`, and a pattern of it."""
    found = []
    for module in DECIDING:
        for node in ast.walk(ast.parse(inspect.getsource(module))):
            if not (isinstance(node, ast.Call) and getattr(node.func, "id", "") in REFUSING):
                continue
            text = next((one for one in node.args if isinstance(one, ast.JoinedStr | ast.Constant)), None)
            if text is not None:
                parts = text.values if isinstance(text, ast.JoinedStr) else [text]
                said = [str(one.value) if isinstance(one, ast.Constant) else None for one in parts]
                pattern = "".join(".*" if one is None else re.escape(one) for one in said)
                found.append(("".join("…" if one is None else one for one in said), re.compile(pattern)))
    return found


PLAIN = "of answers without noise: test_plain_answers.py"
AFTER = "after the charge: test_neighbouring_tables.py"
FIRST = "another rule refuses the task before"
COORDINATOR = "of the coordinator, about what was released"
SITE = "of a site's settings, or a larger sum: test_distributed_noise.py"
ORDER = "of an order about consent, which no row decides: test_consent.py"

ELSEWHERE = {
    "the node charged the task and could not compute its answer": AFTER,
    "The dataset has no row with a target to train on.": PLAIN,
    "step … does not say what a data subject adds to a private answer": FIRST,
    "a row would be … of a query, and no more than … are read": "of the task alone: test_image_columns.py",
    'column "…" cannot be read: this node lacks the extra "images"': "of what is installed: test_image_columns.py",
    "… bits behind the point leave too few before it for …": PLAIN,
    "only real numbers get noise or are summed by a protocol": FIRST,
    "the node would have to remember too much of the run": FIRST,
    'dataset "…" gives no answers without noise…': PLAIN,
    'an answer\'s smallest step has …, fewer than min_rows = … of dataset "…"': PLAIN,
    'dataset "…" would be one more over its tables than the max_datasets = … that get answers without noise': PLAIN,
    'the run has not asked for the statistics of dataset "…", with which it has to begin': PLAIN,
    "the task is about other rows, columns or scaling than its run was before": PLAIN,
    'the rows of dataset "…" have changed since the run first read them, and the node no longer holds those': PLAIN,
    'data subjects of dataset "…" were withdrawn since the run first read its rows': PLAIN,
    "the order's … is not a text of at most … bytes": ORDER,
    "the order does not say when it was given": ORDER,
    "the register of consent in the node's database was written under another node.key": ORDER,
    "The task's control variate does not fit its parameters.": FIRST,
    "a control variate": FIRST,
    "control variates are of plain steps, not of …": FIRST,
    "control variates are of steps of one length, and adaptive_learning changes it": FIRST,
    "a node keeps its last layers or trains a model of its own, not both": FIRST,
    "personalization is not supported beside what else a node keeps of a run yet": FIRST,
    "A range must rise from a finite bound to another, not (…, …).": FIRST,
    'the target "…" is neither 0 nor 1 for about … of about … subjects, as counted under the privacy budget:'
    " target_classes names its two classes, class 0 first": COORDINATOR,
    "the levels of … categories are declared nowhere, and at most … are read from noise": COORDINATOR,
    "epsilon … of … is spent: the rest trains nothing": COORDINATOR,
    "epsilon … of … is spent: with one more round 0 beside training it would be …": COORDINATOR,
    "feature_ranges does not name …": COORDINATOR,
    "what is left of the budget calls for a noise_multiplier of …, more than …": COORDINATOR,
    "a round would take … steps, more than …": COORDINATOR,
    "other nodes have spent the workspace's budget": COORDINATOR,
    "what is left of the privacy budget is less than one round needs": COORDINATOR,
    'no level of feature "…" stands out of the privacy noise: one of 8 letters shows from about … data subjects on': COORDINATOR,
    "levels are found under Gaussian noise alone": FIRST,
    "the levels of a column are asked for twice": FIRST,
    "a vocabulary is noised: without a privacy budget step levels is asked": PLAIN,
    "the task takes more than … steps of training": PLAIN,
    "only Gaussian noise is shared: shares of another do not add up to it": "there is no other in this version",
    "what is added up in steps of the noise has the weight 1": FIRST,
    "noise_multiplier … may pass the range of the secure sum": SITE,
    "the node shares no noise with others: its DBA has set distributed_noise = false": SITE,
    "the node takes part in no sum of fewer than …": SITE,
    "the node leaves no noise to the coordinator: its DBA has not set central_noise = true": SITE,
    "the node leaves no noise to the coordinator under compliance_mode …": SITE,
    "step … does not tell the coordinator how much noise its sum needs": "every step of this version tells it",
    "the node does not know whose noise adds up to the whole": SITE,
    "the option … is not supported by optimizer sgd yet": COORDINATOR,
    "the event column must be true or false, or 0 or 1, in every row": PLAIN,
    "the target, a survival time, must be 0 or more in every row": PLAIN,
}
"""Of texts that nobody hears under a budget before a row is read: why."""
