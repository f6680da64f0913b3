"""What seeded runs lead to, recorded in golden_runs.json: a change that should change no result changes none.

Eight plain runs over real nodes: both algorithms, three and ten nodes, complete numbers and columns with missing
values and booleans. Of each every round's figures, two predictions and the hash of the parameters are recorded.
Everything that a result depends on is fixed: rows are made by integer arithmetic and are exact in binary, seeds
are given, and nodes have fixed secrets, which hold out rows and shuffle them.

The last bits also depend on the numerical kernels: OpenBLAS and numpy choose them by processor, the C library has
its own. Processes of the runs therefore load a module (`sitecustomize`, found by PYTHONPATH, which a node's
training process inherits) that asks for the kernels of one x86-64 generation wherever it is there. What is left is
told by a fingerprint: a hash of what such operations give. Where the fingerprint is recorded, results are
compared to the bit. Where it is not, figures are compared with all that is recorded, to 1e-9 of each, and hashes
are not compared: the test is never skipped.

HELIOSDB_RECORD_GOLDEN=1 writes the file anew, for a change that is meant to change results. What other kernels gave
is kept where it still agrees within the tolerance, and dropped where not.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from psycopg.types.json import Jsonb

from tests.integration.coordinator.support import Site, World, make_world
from tests.support.cluster import Cluster

GOLDEN = Path(__file__).with_name("golden_runs.json")
TOLERANCE = 1e-9
ROUNDS = 4
NODES = tuple(f"node_{number}" for number in range(10))
COMPLETE = ("age", "pressure")
MIXED = ("age", "weight", "smoker", "treated")
TARGETS = {"logistic_regression": "ill", "linear_regression": "stay"}
PATIENT: dict[str, float | bool] = {
    "age": 61.5,
    "pressure": 133.25,
    "weight": 80.5,
    "smoker": True,
    "treated": False,
}
Result = dict[str, Any]
"""What is recorded of a run, as JSON has it."""

# Rows whose numbers are multiples of 1/128: exact, as is what the targets are computed from. Every 16th row has no
# target; weight and treated are missing here and there. The remainders stay below 2^31, so that no square overflows.
_ROWS = """
CREATE TABLE patient (id integer PRIMARY KEY, age float8, pressure float8, weight float8, smoker boolean,
                      treated boolean, ill integer, stay float8);
CREATE FUNCTION pg_temp.drawn(row_number bigint, place bigint, below bigint) RETURNS bigint LANGUAGE sql AS $$
    SELECT (x * x % 2147483647) * 48271 % 2147483647 % below
    FROM (SELECT (row_number * 40503 + place * 65537 + {node} * 9973 + 12345) * 48271 % 2147483647 AS x) AS seed
$$;
INSERT INTO patient
SELECT id, age, pressure,
       CASE WHEN pg_temp.drawn(id, 6, 5) > 0 THEN weight END,
       smoker,
       CASE WHEN pg_temp.drawn(id, 7, 4) > 0 THEN treated END,
       CASE WHEN id % 16 > 0 THEN (risk > 145)::integer END,
       CASE WHEN id % 16 > 0 THEN risk / 8 - CASE WHEN treated THEN 5 ELSE 0 END END
FROM (SELECT *, age + pressure / 2 + weight / 4 + CASE WHEN smoker THEN 12 ELSE 0 END + noise AS risk
      FROM (SELECT id,
                   30 + pg_temp.drawn(id, 1, 5120)::float8 / 128 AS age,
                   90 + pg_temp.drawn(id, 2, 7680)::float8 / 128 AS pressure,
                   50 + pg_temp.drawn(id, 3, 6400)::float8 / 128 AS weight,
                   pg_temp.drawn(id, 4, 3) = 0 AS smoker,
                   pg_temp.drawn(id, 5, 2) = 0 AS treated,
                   pg_temp.drawn(id, 8, 2560)::float8 / 128 - 10 AS noise
            FROM generate_series(1, {rows}) AS id) AS drawn) AS measured
"""

_KERNELS = {"OPENBLAS_CORETYPE": "Haswell", "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR"}

# The operations of training and evaluation, over numbers that rounding touches.
_FINGERPRINT = """
import hashlib
import math
import numpy as np
rows = (np.arange(1200.0) * 37 % 101 - 50).reshape(200, 6) / 7
parameters = (np.arange(6.0) - 2.5) / 3
scores = rows @ parameters
found = [
    scores,
    rows[5:43] @ parameters,
    scores @ rows,
    scores[5:43] @ rows[5:43],
    rows[:, :3].copy() @ parameters[:3],
    scores @ rows[:, :3].copy(),
    scores @ scores,
    np.tanh(0.5 * scores),
    np.logaddexp(0.0, scores),
    np.array([np.logaddexp(0.0, scores).sum(), np.square(scores).sum(), scores.mean()]),
    rows.sum(axis=0),
    [math.tanh(score) for score in scores],
]
print(hashlib.sha256(b"".join(np.asarray(each).tobytes() for each in found)).hexdigest())
"""


@dataclass(frozen=True)
class Run:
    """One seeded run; its name is the model's and the key in the golden file."""

    name: str
    algorithm: str
    nodes: int
    features: tuple[str, ...]
    seed: int


RUNS = [
    Run(f"{algorithm}_{nodes}_{kind}", algorithm, nodes, features, seed)
    for seed, (algorithm, nodes, (kind, features)) in enumerate(
        itertools.product(TARGETS, (3, 10), (("complete", COMPLETE), ("mixed", MIXED))), start=11
    )
]


@pytest.fixture(scope="module")
def measured(
    cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, dict[str, Result]]]:
    """The fingerprint of the kernels, and what each run leads to; recorded first where that was asked for."""
    directory = tmp_path_factory.mktemp("golden")
    with pytest.MonkeyPatch.context() as patch:
        _choose_kernels(directory, patch)
        fingerprint = _fingerprint()
        with make_world(cluster, directory, cluster.create_database("federated_template")) as world:
            results = asyncio.run(_run_all(world))
    if os.environ.get("HELIOSDB_RECORD_GOLDEN") == "1":
        _record(fingerprint, results)
    yield fingerprint, results


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
def test_a_seeded_run_leads_to_what_is_recorded(measured: tuple[str, dict[str, Result]], run: Run) -> None:
    fingerprint, results = measured
    golden: dict[str, dict[str, Result]] = json.loads(GOLDEN.read_text())

    if fingerprint in golden:
        assert results[run.name] == golden[fingerprint][run.name]
    else:
        for recorded in golden.values():
            assert _figures(results[run.name]) == _within_tolerance(recorded[run.name])


def test_the_golden_file_has_these_runs_and_no_others() -> None:
    golden: dict[str, dict[str, Result]] = json.loads(GOLDEN.read_text())

    assert golden
    assert all(set(recorded) == {run.name for run in RUNS} for recorded in golden.values())


def _choose_kernels(directory: Path, patch: pytest.MonkeyPatch) -> None:
    """Have every Python that is started from here on use the same kernels, where the processor has them."""
    chosen = _KERNELS if "avx2" in Path("/proc/cpuinfo").read_text() else {}
    modules = directory / "modules"
    modules.mkdir()
    (modules / "sitecustomize.py").write_text(f"import os\nos.environ.update({chosen!r})\n")
    patch.setenv("PYTHONPATH", str(modules), prepend=os.pathsep)


def _fingerprint() -> str:
    """Hash what the kernels give, in a process of its own with as many threads as a training process has."""
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    found = subprocess.run(
        [sys.executable, "-c", _FINGERPRINT],
        env={**os.environ, **threads},
        check=True,
        capture_output=True,
        text=True,
    )
    return found.stdout.strip()


async def _run_all(world: World) -> dict[str, Result]:
    """Make the federation and train all models, which may run at the same time; a result depends on its own run."""
    sites = [_make_site(world, number, name) for number, name in enumerate(NODES)]
    await asyncio.gather(*map(world.start_site, sites))
    for nodes in (3, 10):
        world.execute(f"CREATE FEDERATED WORKSPACE of_{nodes} WITH (min_nodes = {nodes})")
        for site in sites[:nodes]:
            certificate = world.federation.directory / f"{site.name}.pem"
            world.execute(
                f"REGISTER FEDERATED NODE '{site.name}' IN WORKSPACE of_{nodes} WITH "
                f"(endpoint = 'https://localhost:{site.port}', certificate = '{certificate}')"
            )
    for run in RUNS:
        features = ", ".join(f"'{name}'" for name in run.features)
        world.execute(
            f"CREATE FEDERATED MODEL {run.name} IN WORKSPACE of_{run.nodes} WITH "
            f"(algorithm = '{run.algorithm}', features = [{features}], target = '{TARGETS[run.algorithm]}', "
            f"rounds = {ROUNDS}, local_epochs = 2, batch_size = 24, learning_rate = 0.1, validation_split = 0.25, "
            f"convergence_threshold = 0, seed = {run.seed})"
        )
        world.execute(f"START FEDERATED TRAINING {run.name}")
    coordinator = world.start_coordinator()
    await world.finished(count=len(RUNS))
    coordinator.kill()
    return {run.name: _read(world, run) for run in RUNS}


def _make_site(world: World, number: int, name: str) -> Site:
    """A node that does not run yet, with its rows."""
    site = Site(name, world.cluster.create_database("federated_template"))
    with world.cluster.connect(site.database) as connection:
        connection.execute(_ROWS.format(node=number, rows=130 + 10 * number).encode())
        for nodes in (3, 10):
            connection.execute(
                "CALL federated.execute(%s)",
                [f"CREATE FEDERATED DATASET of_{nodes} FOR TABLE patient IN WORKSPACE of_{nodes}"],
            )
    world.sites.append(site)
    return site


def _read(world: World, run: Run) -> Result:
    rounds = world.query(
        "SELECT r.round_number, r.global_loss, r.global_accuracy, r.node_variance FROM federated.round AS r "
        "JOIN federated.run USING (run_id) JOIN federated.model AS m USING (model_id) WHERE m.name = %s ORDER BY 1",
        run.name,
    )
    found = world.query(
        "SELECT r.status::text, encode(v.sha256, 'hex') AS parameters_sha256, "
        "federated_predict(m.name, %s) AS of_all_features, federated_predict(m.name, %s) AS of_age_alone "
        "FROM federated.run AS r JOIN federated.model AS m USING (model_id) "
        "LEFT JOIN federated.version AS v USING (run_id) WHERE m.name = %s",
        Jsonb({name: PATIENT[name] for name in run.features}),
        Jsonb({"age": PATIENT["age"]}),
        run.name,
    )
    (result,) = found
    return {**result, "rounds": [list(one.values()) for one in rounds]}


def _figures(result: Result) -> Result:
    """What can be compared to a tolerance: all but the hash."""
    return {name: value for name, value in result.items() if name != "parameters_sha256"}


def _within_tolerance(recorded: Result) -> Result:
    """The recorded figures, each equal to whatever lies within the tolerance of it."""
    return {name: _tolerant(value) for name, value in _figures(recorded).items()}


def _tolerant(value: Any) -> Any:
    match value:
        case float():
            return pytest.approx(value, rel=TOLERANCE, abs=0.0)
        case list():
            return [_tolerant(each) for each in value]
        case dict():
            return {name: _tolerant(each) for name, each in value.items()}
        case _:
            return value


def _record(fingerprint: str, results: dict[str, Result]) -> None:
    """Write the golden file anew, with what other kernels gave as far as it agrees with these results."""
    golden: dict[str, dict[str, Result]] = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    kept = {
        kernels: recorded
        for kernels, recorded in golden.items()
        if recorded.keys() == results.keys()
        and all(_figures(result) == _within_tolerance(recorded[name]) for name, result in results.items())
    }
    GOLDEN.write_text(json.dumps(kept | {fingerprint: results}, indent=1, sort_keys=True) + "\n")
