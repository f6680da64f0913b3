"""How well models learn under a budget: breast cancer, adult and telco at several epsilons, local and shared noise.

Five nodes of equal size, simulated by the nodes' own code (`heliosdb simulate`), and rows that no node has to measure
the model on, plainly: a fifth. local: each node adds the whole noise to what it trained (trust_model local); shared:
each its part of the noise of one secure sum a round (distributed), untuned: so by what is meant where nothing is said
of training; central: the coordinator adds it to the sum. All of the budget is for round 0 and training. Each
figure is the mean over seeds, of the split and of the noise; `none` is without a budget. What is not in shared/data is
left out. Each figure is kept when it is there: with --resume those that build/bench/privacy_utility.json has are not
measured again.

    make bench NAME=privacy-utility [ARGS="--seeds 3 --epsilons 1 8 --data breast_cancer --ways shared untuned --resume"]
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.metrics import roc_auc_score

from benchmarks.harness import Figure, keep, publish, read_figures
from heliosdb.algorithms.registry import supervised
from heliosdb.cli.simulation.command import select
from heliosdb.cli.simulation.nodes import SimulatedNode, describe_source
from heliosdb.cli.simulation.play import Play
from heliosdb.cli.simulation.settings import SimulationSettings, read_simulation
from heliosdb.cli.simulation.source import read_csv
from heliosdb.domain.ids import NodeName, RoundNumber

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
"""Beside the checkout."""

NODES = 5
EPSILONS = (0.5, 1.0, 4.0, 8.0)
WAYS = ("none", "local", "shared", "central", "untuned")
TARGETS = {("breast_cancer", "shared", 1.0): ">= .930", ("adult", "shared", 1.0): ">= .808"}

Options = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Case:
    """rows: (header, rows) of the data. options: of the model. plain, local, shared: of it without a budget, and of
    either way to add the noise."""

    name: str
    target: str
    rows: Callable[[], tuple[list[str], list[list[str]]] | None]
    options: Options
    plain: Options
    local: Options
    shared: Options
    # Whether the ranges of the columns are declared, rounded up, as who knows what is measured may.
    declares_ranges: bool = False


def breast_cancer() -> tuple[list[str], list[list[str]]]:
    """569 rows, 30 numbers."""
    data = load_breast_cancer()
    header = [*(name.replace(" ", "_") for name in data.feature_names), "benign"]
    rows = zip(data.data, data.target, strict=True)
    return header, [[*(repr(float(value)) for value in row), str(int(benign))] for row, benign in rows]


def adult() -> tuple[list[str], list[list[str]]] | None:
    """What a census says of people, and whether they earn more than 50,000 dollars."""
    found = _read("adult.csv")
    if found is None:
        return None
    header, rows = found
    kept = [place for place, name in enumerate(header) if name not in ("fnlwgt", "education")]
    named = [header[place].replace("-", "_") for place in kept]
    return named, [["" if row[place] == "?" else row[place] for place in kept] for row in rows]


def telco() -> tuple[list[str], list[list[str]]] | None:
    """Customers, and whether they left."""
    found = _read("telco_churn.csv")
    return None if found is None else ([name.lower() for name in found[0]][1:], [row[1:] for row in found[1]])


def _read(name: str) -> tuple[list[str], list[list[str]]] | None:
    path = DATA / name
    if not path.exists():
        return None
    with path.open(encoding="utf-8", newline="") as file:
        header, *rows = [[field.strip() for field in row] for row in csv.reader(file) if row]
    return header, rows


CASES = (
    Case(
        "breast_cancer",
        "benign",
        breast_cancer,
        {},
        {"optimizer": "newton", "rounds": "20", "penalty": "0.01"},
        {"rounds": "20", "batch_size": "23", "learning_rate": "0.5"},
        {"rounds": "100", "batch_size": "20", "learning_rate": "0.3"},
        declares_ranges=True,
    ),
    Case(
        "adult",
        "income",
        adult,
        {"target_classes": "<=50K,>50K"},
        {"optimizer": "newton", "rounds": "20", "penalty": "0.0001"},
        {"rounds": "5", "batch_size": "512", "learning_rate": "0.2"},
        {"rounds": "100", "learning_rate": "16", "aggregation": "fedopt"},
    ),
    Case(
        "telco",
        "churn",
        telco,
        {"target_classes": "No,Yes"},
        {"optimizer": "newton", "rounds": "20", "penalty": "0.001"},
        {"rounds": "5", "batch_size": "128", "learning_rate": "0.2"},
        {"rounds": "50", "learning_rate": "8", "aggregation": "fedopt"},
    ),
)
BUDGETED = {
    "local": {"trust_model": "local"},
    "shared": {"secure_aggregation": "true", "trust_model": "distributed"},
    "central": {"secure_aggregation": "true", "trust_model": "central"},
}


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epsilons", type=float, nargs="+", default=EPSILONS)
    parser.add_argument("--data", nargs="+", default=[case.name for case in CASES])
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--resume", action="store_true", help="leave out the figures that there are")
    asked = parser.parse_args()
    done = read_figures("privacy_utility") if asked.resume else []
    for case in CASES:
        if case.name in asked.data:
            wanted = [one for one in ways_of(case, asked.epsilons) if one.name in asked.ways]
            measure_case(case, wanted, range(1, asked.seeds + 1), done)
    publish("privacy_utility", done)


@dataclass(frozen=True, slots=True)
class Way:
    """One way to train on a case. epsilon: None without a budget. options: of its training."""

    name: str
    epsilon: float | None
    options: Options

    def label(self, case: Case) -> str:
        """In figures' names."""
        return f"{case.name}, {self.name}" + ("" if self.epsilon is None else f", epsilon {self.epsilon:g}")


def ways_of(case: Case, epsilons: Sequence[float]) -> list[Way]:
    """Without a budget, and each way to add noise at each epsilon."""
    tuned = {"local": case.local, "shared": case.shared, "central": case.shared, "untuned": {}}
    ways = [Way("none", None, case.plain)]
    for epsilon in epsilons:
        for name, given in tuned.items():
            budget = {"privacy_budget": repr(epsilon), **BUDGETED.get(name, BUDGETED["shared"])}
            ways.append(Way(name, epsilon, {**given, **budget}))
    return ways


def measure_case(case: Case, ways: Sequence[Way], seeds: Sequence[int], done: list[Figure]) -> None:
    """Add accuracy and AUC of each way that is not among the figures, and keep them."""
    known = {figure.name for figure in done}
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "rows.csv"
        features = write_rows(case, path)
        if features is None:
            print(f"{case.name} is not in {DATA}: left out", file=sys.stderr)
            return
        for way in ways:
            if f"{way.label(case)}, AUC" not in known:
                found = np.array([trained(path, options_of(case, features, way), seed) for seed in seeds])
                done += figures_of(case, way, found)
                keep("privacy_utility", done)


def options_of(case: Case, features: Sequence[str], way: Way) -> Options:
    """Everything that the statements would say."""
    options = {"algorithm": "logistic_regression", "features": ",".join(features), "target": case.target}
    if case.declares_ranges and way.epsilon is not None:
        options["feature_ranges"] = json.dumps(ranges_of(case))
    return {**options, **case.options, **way.options}


def figures_of(case: Case, way: Way, found: np.ndarray) -> list[Figure]:
    """Means over splits, and how accuracies spread. found: (splits, 2), accuracy and AUC."""
    label, (accuracy, auc) = way.label(case), found.mean(axis=0)
    target = TARGETS.get((case.name, way.name, way.epsilon or 0.0), "")
    print(label, f"accuracy {accuracy:.3f} ± {found[:, 0].std():.3f}, AUC {auc:.4f}", file=sys.stderr)
    return [
        Figure(f"{label}, accuracy", round(float(accuracy), 4), "", target),
        Figure(f"{label}, accuracy's deviation", round(float(found[:, 0].std()), 4), ""),
        Figure(f"{label}, AUC", round(float(auc), 4), ""),
    ]


def write_rows(case: Case, path: Path) -> list[str] | None:
    """Write the data where a simulation reads it; return the features."""
    found = case.rows()
    if found is None:
        return None
    header, rows = found
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return [name for name in header if name != case.target]


def ranges_of(case: Case) -> dict[str, list[float]]:
    """From 0 to the largest value, rounded up to one digit: about as exact as one knows a column beforehand."""
    found = case.rows()
    assert found is not None
    header, rows = found
    largest = {name: max(float(row[place]) for row in rows) for place, name in enumerate(header)}
    units = {name: 10.0 ** math.floor(math.log10(most)) for name, most in largest.items()}
    return {
        name: [0.0, math.ceil(most / units[name]) * units[name]]
        for name, most in largest.items()
        if name != case.target
    }


def trained(path: Path, options: Options, seed: int) -> tuple[float, float]:
    """Train on four fifths of the rows; accuracy and AUC on the others. (0.5, 0.5) where no model came of it."""
    settings = read_simulation(
        {**options, "validation_split": "0", "max_parameter_share": "1", "min_cell": "1", "seed": str(seed)},
        NODES,
    )
    source = read_csv(path, settings, None)
    dataset = describe_source(source, settings)
    order = np.random.default_rng(seed).permutation(source.size)
    tested, *parts = np.split(order, [source.size * n // 25 for n in (5, 9, 13, 17, 21)])
    nodes = [
        SimulatedNode(NodeName(f"node{number}"), source.slice(np.sort(part)), dataset, seed)
        for number, part in enumerate(parts)
    ]
    eligible = select([node.name for node in nodes], dataset.description, settings)
    play = Play(settings.run, nodes, eligible, lambda played: None)
    outcome = play.play()
    if outcome.published is None:
        print(outcome.message, file=sys.stderr)
        return 0.5, 0.5
    measured = SimulatedNode(NodeName("tested"), source.slice(np.sort(tested)), dataset, seed)
    return _tested(play, outcome.published, settings, measured)


def _tested(
    play: Play, number: RoundNumber, settings: SimulationSettings, node: SimulatedNode
) -> tuple[float, float]:
    task = play.plain_task(number)
    table = node.table_for(task)
    method = supervised(settings.run.options.algorithm)
    scores = method.score(table.features, task)
    return float(np.mean((scores > 0) == (table.target > 0.5))), float(
        roc_auc_score(table.target > 0.5, scores)
    )


if __name__ == "__main__":
    main()
