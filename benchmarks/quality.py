"""How good federated models are beside pooled ones: real databases, text columns as they are, no budget.

ARGS: --data FOLDER for adult.csv and telco_churn.csv; --only PROBLEM:ALGORITHM[:DEAL] some of it, repeatedly;
--rules for rows of one class a node under several aggregation rules; --min-rows N for datasets that answer
of N data subjects at least (20).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psycopg
from psycopg import sql

from benchmarks.harness import Figure, publish
from benchmarks.pooled import POOLED_BATCH, Values, epochs, predict_pooled, truth
from benchmarks.tables import Column, Problem, Row, load
from heliosdb.cli.demo.installation import Access, NodeAccess, installed

_LEAST_BATCH = 25
_LOCAL_EPOCHS = 2
_NETWORK = {"local_epochs": _LOCAL_EPOCHS, "learning_rate": 0.001, "optimizer": "'adam'"}
_LINEAR: dict[str, object] = {"optimizer": "'newton'", "rounds": 12}
_BOOSTED = {"trees": 100, "learning_rate": 0.1, "max_depth": 6, "bins": 64}


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one algorithm is trained. tolerance: how far below the pooled figure it may be, dealt either way.
    by_site: further options where rows are dealt by site."""

    algorithm: str
    options: Mapping[str, object]
    tolerance: dict[str, float]
    by_site: Mapping[str, object] = field(default_factory=dict)


def recipes(problem: Problem) -> Iterator[Recipe]:
    exact, close = {"iid": 0.002, "by site": 0.01}, {"iid": 0.005, "by site": 0.01}
    outputs = len(problem.classes) if len(problem.classes) > 2 else 1
    output = "linear" if not problem.classes else "sigmoid" if outputs == 1 else "softmax"
    layers = f"'[64, 32, {outputs}]'"
    if problem.classes:
        # As much as LogisticRegression has by default: some levels are combinations of others, or settle it.
        yield Recipe("logistic_regression", _LINEAR | {"penalty": 1.0 / len(problem.train)}, exact)
    else:
        yield Recipe("linear_regression", _LINEAR, exact)
    yield Recipe("random_forest", {"trees": 100, "max_depth": 8}, exact)
    yield Recipe("gradient_boosting", _BOOSTED, exact)
    # All nodes' batches of a step together are as many rows as one of the pooled model's, and there are as
    # many steps: but a step is of min_rows rows at least, and then more rounds make up for the fewer.
    batch = max(_LEAST_BATCH, POOLED_BATCH // problem.nodes)
    rounds = -(-epochs(problem) * batch * problem.nodes // (_LOCAL_EPOCHS * POOLED_BATCH))
    network = _NETWORK | {
        "rounds": rounds,
        "batch_size": batch,
        "layers": layers,
        "output_activation": f"'{output}'",
    }
    # Sites that differ pull less far apart where they are averaged more often, and held to where they began.
    held = {
        "aggregation": "'fedprox'",
        "proximal_term": 0.1,
        "local_epochs": 1,
        "rounds": _LOCAL_EPOCHS * rounds,
    }
    yield Recipe("neural_network", network, close, held)


def main() -> None:
    """Run all of it, or what is named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--only", action="append", default=[])
    parser.add_argument("--rules", action="store_true")
    parser.add_argument("--min-rows", type=int, default=20)
    given = parser.parse_args()
    wanted = [tuple(one.split(":")) for one in given.only]
    figures: list[Figure] = []
    for problem in load(list(dict.fromkeys(one[0] for one in wanted)), given.data):
        with installed(problem.nodes) as access:
            bench = Bench(access, problem, given.min_rows)
            for recipe, deal in _cases(problem, wanted):
                figures += bench.compare(recipe, deal)
            if given.rules and problem.name == "digits":
                figures += _one_class_a_node(bench)
    publish("quality", figures)


def _cases(problem: Problem, wanted: Sequence[tuple[str, ...]]) -> Iterator[tuple[Recipe, str]]:
    for recipe in recipes(problem):
        for deal in ("iid", "by site") if problem.site and problem.name != "digits" else ("iid",):
            named = (problem.name, recipe.algorithm, deal)
            if not wanted or any(named[: len(one)] == one for one in wanted):
                yield recipe, deal


def _one_class_a_node(bench: Bench) -> Iterator[Figure]:
    (recipe,) = (one for one in recipes(bench.problem) if one.algorithm == "neural_network")
    options = dict(recipe.options) | {
        "optimizer": "'sgd'",
        "learning_rate": 0.05,
        "local_epochs": 1,
        "rounds": 100,
    }
    for rule, extra in (
        ("fedavg", dict[str, object]()),
        ("fedprox", {"proximal_term": 0.1}),
        ("scaffold", {}),
        ("fedadam", {"server_learning_rate": 0.01}),
    ):
        found = bench.train(recipe.algorithm, options | extra | {"aggregation": f"'{rule}'"}, "by site")
        yield Figure(f"digits, one class a node, {rule}", judge(bench.problem, found), "acc.")


@dataclass(slots=True)
class Bench:
    """A running installation and one problem. min_rows: of the nodes' datasets. dealt: how their tables were
    filled last."""

    access: Access
    problem: Problem
    min_rows: int
    dealt: str = ""
    models: int = 0

    def compare(self, recipe: Recipe, deal: str) -> Iterator[Figure]:
        """Train both ways and tell how they do."""
        problem, what = self.problem, f"{self.problem.name}, {deal}, {recipe.algorithm}"
        began = time.perf_counter()
        options = dict(recipe.options) | (dict(recipe.by_site) if deal == "by site" else {})
        federated = judge(problem, self.train(recipe.algorithm, options, deal))
        seconds = time.perf_counter() - began
        pooled = judge(problem, predict_pooled(recipe.algorithm, problem))
        unit = "AUC" if len(problem.classes) == 2 else "acc." if problem.classes else "RMSE"
        target = "" if not problem.classes else f">= {pooled - recipe.tolerance[deal]:.4f}"
        print(f"{what}: {federated:.4f}, pooled {pooled:.4f} ({seconds:.0f} s)", flush=True)
        yield Figure(what, federated, unit, target)
        yield Figure(f"{what}, pooled", pooled, unit)

    def train(self, algorithm: str, options: Mapping[str, object], deal: str) -> Values:
        """Train a model and return its predictions of the rows to be judged by."""
        if not self.dealt:
            self._prepare()
        if self.dealt != deal:
            for node, rows in zip(self.access.nodes.values(), self.problem.deal(deal), strict=True):
                _refill(node, self.problem, rows, self.min_rows)
            self.dealt = deal
        self.models += 1
        model = f"model_{self.models}"
        names = ", ".join(f"'{column.name}'" for column in self.problem.features)
        given = "".join(f", {name} = {value}" for name, value in options.items())
        with psycopg.connect(self.access.proxy, autocommit=True) as connection:
            connection.execute(
                f"CREATE FEDERATED MODEL {model} WITH (algorithm = '{algorithm}', features = [{names}],"
                f" target = '{self.problem.target.name}', validation_split = 0, seed = 1{given})"
            )
            connection.execute(f"START FEDERATED TRAINING {model}")
            connection.execute("SELECT wait_for_convergence(%s, timeout_seconds => 1800)", [model])
            last = connection.execute(
                "SELECT status, message FROM federated_training_status(%s) ORDER BY round_number DESC LIMIT 1",
                [model],
            ).fetchone()
            assert last is not None
            if last[0] not in ("completed", "converged"):
                raise SystemExit(f"{algorithm} over {self.problem.name}: {last[0]}: {last[1]}")
            return self._predict(connection, model)

    def _predict(self, connection: psycopg.Connection, model: str) -> Values:
        labels = self.problem.classes
        if len(labels) > 2:
            rows = connection.execute(
                "SELECT federated_predict_proba(%s, to_jsonb(t) - 'place') FROM judged AS t ORDER BY place",
                [model],
            ).fetchall()
            return np.array([[float(row[0][label]) for label in labels] for row in rows])
        rows = connection.execute(
            "SELECT predict(%s, to_jsonb(t) - 'place') FROM judged AS t ORDER BY place", [model]
        ).fetchall()
        return np.array([float(row[0]) for row in rows])

    def _prepare(self) -> None:
        """Workspace, nodes and the rows to be judged by."""
        with psycopg.connect(self.access.proxy, autocommit=True) as connection:
            connection.execute("CREATE EXTENSION IF NOT EXISTS heliosdb_federated_learning")
            nodes = self.problem.nodes
            connection.execute(f"CREATE FEDERATED WORKSPACE study WITH (min_nodes = {nodes})")
            _fill(connection, "judged", self.problem.features, self.problem.test, numbered=True)
        for name, node in self.access.nodes.items():
            with psycopg.connect(self.access.proxy, autocommit=True) as connection:
                connection.execute(
                    f"REGISTER FEDERATED NODE '{name}' IN WORKSPACE study"
                    f" WITH (endpoint = '{node.endpoint}', certificate = '{node.certificate}')"
                )


def _refill(node: NodeAccess, problem: Problem, rows: Sequence[Row], min_rows: int) -> None:
    """A table of its own for each deal: rows that differ by a few from those of earlier answers are refused."""
    with psycopg.connect(node.proxy, autocommit=True) as connection:
        connection.execute("DROP FEDERATED DATASET IF EXISTS rows_here")
        connection.execute("DROP TABLE IF EXISTS rows_here")
        _fill(connection, "rows_here", (*problem.features, problem.target), rows)
        connection.execute(
            "CREATE FEDERATED DATASET rows_here FOR TABLE rows_here IN WORKSPACE study"
            f" WITH (plain_answers = true, max_parameter_share = 1000, min_rows = {min_rows})"
        )


def _fill(
    connection: psycopg.Connection,
    table: str,
    columns: Sequence[Column],
    rows: Sequence[Row],
    *,
    numbered: bool = False,
) -> None:
    names = [*(["place integer"] if numbered else []), *(f'"{one.name}" {one.type}' for one in columns)]
    connection.execute(f"CREATE TABLE {table} ({', '.join(names)})")
    statement = sql.SQL("COPY {} FROM STDIN").format(sql.Identifier(table))
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        for place, row in enumerate(rows):
            copy.write_row([*([place] if numbered else []), *row[: len(columns)]])


def judge(problem: Problem, predicted: Values) -> float:
    """AUC of two classes, accuracy of more, the root of the mean square error of a number."""
    from sklearn.metrics import roc_auc_score

    actual = truth(problem)
    if len(problem.classes) == 2:
        return float(roc_auc_score(actual, predicted))
    if problem.classes:
        return float(np.mean(predicted.argmax(axis=1) == actual))
    return float(np.sqrt(np.mean(np.square(predicted - actual))))


if __name__ == "__main__":
    main()
