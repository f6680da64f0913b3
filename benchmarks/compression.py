"""How small updates become, and what that costs the model: a network over real nodes, one setting after another.

Bytes are what the coordinator counted of the nodes' answers in training exchanges, a node and round, headers and
signatures included; a figure of a problem of two classes is the AUC of rows that no node has, else the accuracy.

    make bench NAME=compression [ARGS="--data FOLDER --only adult"]
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psycopg

from benchmarks.harness import Figure, publish
from benchmarks.quality import Bench, judge, recipes
from benchmarks.tables import load
from heliosdb.cli.demo.installation import installed

SETTINGS: Mapping[str, Mapping[str, object]] = {
    "as computed": {},
    "zstd": {"compression": "'zstd'"},
    "lz4": {"compression": "'lz4'"},
    "16 bits": {"quantization": 16},
    "8 bits": {"quantization": 8},
    "8 bits, zstd": {"quantization": 8, "compression": "'zstd'"},
    "a tenth": {"gradient_sparsification": 0.9},
    "a tenth, 8 bits": {"gradient_sparsification": 0.9, "quantization": 8},
    "a tenth, 8 bits, zstd": {
        "gradient_sparsification": 0.9,
        "quantization": 8,
        "compression": "'zstd'",
    },
    "a hundredth, 8 bits, zstd": {
        "gradient_sparsification": 0.99,
        "quantization": 8,
        "compression": "'zstd'",
    },
}
SMALLER, WORSE = 10.0, 0.005
"""What is asked of one setting at least: so many times smaller, and no worse than that."""


@dataclass(frozen=True, slots=True)
class Trained:
    """A model under one setting. bytes: of an update on average; quality: of its predictions."""

    name: str
    bytes: float
    quality: float


def train(bench: Bench, name: str, options: Mapping[str, object]) -> Trained:
    """Train a network under a setting."""
    (recipe,) = (one for one in recipes(bench.problem) if one.algorithm == "neural_network")
    predicted = bench.train(recipe.algorithm, {**recipe.options, **options}, "iid")
    with psycopg.connect(bench.access.proxy, autocommit=True) as connection:
        row = connection.execute(
            "SELECT avg(bytes_received)::float8 FROM federated.participation WHERE step = 'train'"
            " AND run_id = (SELECT run_id FROM federated.run ORDER BY created_at DESC LIMIT 1)"
        ).fetchone()
    assert row is not None
    made = Trained(name, row[0], judge(bench.problem, predicted))
    print(f"{bench.problem.name}, {name}: {made.bytes:,.0f} bytes, {made.quality:.4f}", flush=True)
    return made


def tell(problem: str, unit: str, found: list[Trained]) -> Iterator[Figure]:
    """The figures of a problem, and whether some setting is as small and as good as was asked."""
    first = found[0]
    for one in found:
        yield Figure(f"{problem}, {one.name}", one.bytes, "bytes")
        yield Figure(f"{problem}, {one.name}", first.bytes / one.bytes, "x less")
        yield Figure(f"{problem}, {one.name}", one.quality, unit)
    good = [first.bytes / one.bytes for one in found if one.quality >= first.quality - WORSE]
    yield Figure(f"{problem}, at most {WORSE} worse", max(good), "x less", f">= {SMALLER:g}")


def main() -> None:
    """Train under each setting over each problem."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--only", action="append", default=[])
    given = parser.parse_args()
    figures: list[Figure] = []
    for problem in load(given.only or ["breast_cancer", "digits", "telco", "adult"], given.data):
        with installed(problem.nodes) as access:
            bench = Bench(access, problem, 20)
            found = [train(bench, name, options) for name, options in SETTINGS.items()]
        figures += tell(problem.name, "AUC" if len(problem.classes) == 2 else "acc.", found)
    publish("compression", figures)


if __name__ == "__main__":
    main()
