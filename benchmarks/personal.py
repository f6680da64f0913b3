"""How models with a part at each node do beside the model that all share and one of each node's own rows alone.

Eight sites have scikit-learn's digits, each a mix of classes of its own (Dirichlet, 0.3), or its breast cancer study, each
with instruments of its own (every column moved and stretched); a third of each site's rows is held out, and every figure
is the accuracy over all sites' held-out rows, each site by the model that it would predict with. Rows in one process: what
a node computes, keeps and tells is the product's steps, without databases and daemons.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, cast
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import Figure, publish
from federated_sql.options import OptionKind, defaults
from heliosdb.algorithms import Table
from heliosdb.algorithms.draws import TaskDraws
from heliosdb.algorithms.personalizing import Personalized, compare, personal_work
from heliosdb.algorithms.registry import algorithm, supervised
from heliosdb.algorithms.steps import PERSONALIZE
from heliosdb.algorithms.training import TRAIN
from heliosdb.algorithms.works import PARAMETERS, EvaluateWork
from heliosdb.catalog.run_options import parse_options, parse_policy
from heliosdb.domain.encoding import ColumnEncoding, Encoding
from heliosdb.domain.findings import Findings, RunPlan
from heliosdb.domain.ids import ModelName, NodeName, RoundNumber, RunId, StepName, WorkspaceName
from heliosdb.domain.run import Run
from heliosdb.domain.state import NO_STATE, State, freeze
from heliosdb.domain.task import Reading, Scaling, Task, TaskKey
from heliosdb.domain.vector import Contribution
from heliosdb.parts.built import built_parts

Rows = NDArray[np.float64]

_SITES, _SEEDS = 8, 3


@dataclass(frozen=True, slots=True)
class Study:
    """Rows of sites and the model that is trained on them. options: of the run; rounds: how many."""

    name: str
    options: Mapping[str, Any]
    rounds: int
    sites: list[Table]
    classes: tuple[str, ...]

    @property
    def inputs(self) -> tuple[str, ...]:
        """Columns by name."""
        return tuple(f"x{place}" for place in range(self.sites[0].features.shape[1]))

    def plan(self, **more: Any) -> RunPlan:
        """Return a run with further options, as its rounds see it."""
        given = {
            "features": list(self.inputs), "target": "y", "rounds": self.rounds, **self.options, **more,
        }  # fmt: skip
        built = built_parts()
        options = parse_options({**defaults(OptionKind.MODEL, built), **given})
        policy = parse_policy(defaults(OptionKind.WORKSPACE, built), WorkspaceName("w"))
        run = Run(RunId(UUID(int=1)), ModelName("m"), 1, 7, options, policy)
        trained = np.concatenate([one.features[~one.held_out] for one in self.sites])
        scaling = Scaling(tuple(trained.mean(axis=0)), tuple(np.maximum(trained.std(axis=0), 1e-9)))
        encoding = Encoding(tuple(map(ColumnEncoding, self.inputs)), self.classes)
        stated = {NodeName(str(place)): float(one.rows) for place, one in enumerate(self.sites)}
        return RunPlan(run, Findings(scaling, encoding=encoding), RoundNumber(1), stated=stated)


def _sited(features: list[Rows], targets: list[Rows], seed: int) -> list[Table]:
    rng, found = np.random.default_rng(seed), []
    for rows, target in zip(features, targets, strict=True):
        held_out = rng.permutation(len(target)) % 3 == 0
        found.append(replace(Table(rows, target, np.arange(len(target)), held_out), min_cell=1))
    return found


def digits(seed: int) -> Study:
    """Each site a mix of classes of its own."""
    from sklearn.datasets import load_digits

    rows, classes = load_digits(return_X_y=True)
    rng = np.random.default_rng(seed)
    owner = np.empty(len(classes), dtype=np.int64)
    for label in range(10):
        mine = classes == label
        owner[mine] = rng.choice(_SITES, mine.sum(), p=rng.dirichlet(np.full(_SITES, 0.3)))
    parts = [np.flatnonzero(owner == site) for site in range(_SITES)]
    options = {
        "algorithm": "neural_network", "layers": [32, 10], "output_activation": "softmax",
        "learning_rate": 0.05, "optimizer": "momentum", "batch_size": 16,
        "target_classes": [str(one) for one in range(10)],
    }  # fmt: skip
    chosen = [part for part in parts if len(part) >= 30]
    sites = _sited([rows[part] for part in chosen], [classes[part].astype(float) for part in chosen], seed)
    return Study("digits, classes by site", options, 20, sites, tuple(map(str, range(10))))


def cancer(seed: int) -> Study:
    """Each site with instruments of its own."""
    from sklearn.datasets import load_breast_cancer

    rows, classes = load_breast_cancer(return_X_y=True)
    rng = np.random.default_rng(seed)
    rows = (rows - rows.mean(axis=0)) / rows.std(axis=0)
    parts = np.array_split(rng.permutation(len(classes)), _SITES)
    moved = [rows[part] * rng.uniform(0.4, 2.0, 30) + rng.normal(0.0, 1.5, 30) for part in parts]
    sites = _sited(moved, [classes[part].astype(float) for part in parts], seed)
    options = {"algorithm": "logistic_regression", "learning_rate": 0.1, "batch_size": 16}
    return Study("breast cancer, instruments by site", options, 20, sites, ("0", "1"))


def _answer(
    plan: RunPlan, study: Study, site: int, name: StepName, state: State, memory: State
) -> Contribution:
    """What a node computes in a step."""
    step = algorithm(plan.run.options.algorithm).steps[name]
    asked = step.ask(plan, state)
    key = TaskKey(plan.run.policy.workspace, plan.run.id, plan.round, 0, name, NodeName(str(site)))
    reading = Reading("rows", study.inputs, "y", plan.run.options.validation_split, plan.run.seed)
    encoding = plan.findings.encoding
    task = Task(key, reading, asked.work, scaling=asked.scaling, state=asked.state, encoding=encoding)
    step.check(task)
    return step.compute(study.sites[site], task, memory, TaskDraws(task, b"secret of the node"))


def federated(study: Study, **options: Any) -> dict[str, Any]:
    """Train with fedavg; the figures of both models over all sites' held-out rows."""
    plan = study.plan(**options)
    state = algorithm(plan.run.options.algorithm).begin(plan)
    memories = [NO_STATE] * len(study.sites)
    for number in range(1, study.rounds + 1):
        plan = replace(plan, round=RoundNumber(number))
        made = [_answer(plan, study, site, TRAIN, state, memories[site]) for site in range(len(memories))]
        weights = np.array([one.weight for one in made])
        mean = np.average([one.vector for one in made], axis=0, weights=weights)
        before = state[PARAMETERS]
        state = freeze({**state, PARAMETERS: (before + mean.reshape(before.shape)).astype(before.dtype)})
        memories = [NO_STATE if one.stays is None else freeze(one.stays) for one in made]
    told = [_answer(plan, study, site, PERSONALIZE, state, memories[site]) for site in range(len(memories))]
    return compare(personal_work(plan).measuring, np.sum([one.vector for one in told], axis=0))


def alone(study: Study) -> float:
    """The accuracy where each site trains for itself, as many epochs."""
    plan = study.plan(personalization="fine_tune", personal_epochs=study.rounds)
    state = algorithm(plan.run.options.algorithm).begin(plan)
    work = personal_work(plan)
    total: Rows = np.zeros(work.measuring.size)
    for place, site in enumerate(study.sites):
        method = cast(Personalized, supervised(plan.run.options.algorithm).of(state, len(study.inputs)))
        start = state[PARAMETERS]
        moved = method.train(site, start, work.training, np.random.default_rng(place)).vector
        own, measuring = start + moved.reshape(start.shape), work.measuring
        total += method.evaluate(site, own.astype(start.dtype), cast(EvaluateWork, measuring)).vector
    return float(compare(work.measuring, np.concatenate([total, total]))["personal"]["accuracy"])


def main() -> None:
    """Compare on both studies, each figure the mean of some seeds."""
    found: list[Figure] = []
    for make, ways in ((cancer, ("fine_tune", "ditto")), (digits, ("fine_tune", "local_head", "ditto"))):
        studies = [make(seed) for seed in range(_SEEDS)]
        name = studies[0].name
        lone = [alone(study) for study in studies]
        tuned = {way: [federated(study, personalization=way) for study in studies] for way in ways}
        shared = [one["global"]["accuracy"] for one in tuned["fine_tune"]]
        found.append(Figure(f"{name}: each site alone", float(np.mean(lone)), "acc."))
        found.append(Figure(f"{name}: one model of all", float(np.mean(shared)), "acc."))
        better = max(float(np.mean(lone)), float(np.mean(shared)))
        for way, figures in tuned.items():
            own = float(np.mean([one["personal"]["accuracy"] for one in figures]))
            found.append(Figure(f"{name}: {way}", own, "acc.", f">= {better:.4g}"))
    publish("personal", found)


if __name__ == "__main__":
    main()
