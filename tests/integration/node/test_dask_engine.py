"""Rows that lie with dask workers lead to what one process makes of them, to the bit."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from operator import add
from pathlib import Path

import numpy as np
import pytest

from heliosdb.algorithms.blockwise import sum_parts
from heliosdb.algorithms.classes import count_classes
from heliosdb.algorithms.encoding import encode
from heliosdb.algorithms.features import statistics
from heliosdb.algorithms.levels import LEVELS
from heliosdb.algorithms.linear import LINEAR_REGRESSION, LOGISTIC_REGRESSION, POISSON_REGRESSION
from heliosdb.algorithms.registry import algorithm
from heliosdb.algorithms.table import BLOCK, Table
from heliosdb.algorithms.vocabulary import VOCABULARY
from heliosdb.algorithms.works import ClassesWork, EvaluateWork, StatisticsWork, TrainWork
from heliosdb.domain.encoding import ColumnEncoding, ColumnKind, Encoding
from heliosdb.domain.errors import FederatedError
from heliosdb.domain.folds import Fold
from heliosdb.domain.ids import DatasetName
from heliosdb.domain.task import Scaling
from heliosdb.node.admission import Admission, subject_digests
from heliosdb.node.allowance import Allowance
from heliosdb.node.dask_engine import DaskEngine
from heliosdb.node.dask_matrix import DaskMatrix
from heliosdb.node.dask_place import DaskPlace
from heliosdb.node.datasets import TableRequest
from heliosdb.node.disclosure import RowSet, check_scaling
from heliosdb.node.engine import PartsLostError
from heliosdb.node.worker import ReadTable, TableReader
from tests.support.cluster import Cluster

KEY = b"k" * 32
ROWS = 60_000
FEATURES = ("age", "pressure", "smoker", "city", "series")
CITIES = ("Bern", "Oslo", "Rome")
SCALING = Scaling((50.0, 120.0, 0.3), (10.0, 15.0, 0.5), 4.5, 2.5)
NUMBERS = FEATURES[:3]

# Several visits a patient, some of nobody; equal rows of one patient and of different ones; some without a target.
VISITS = """
CREATE TABLE visit (visit_id integer, patient text, age double precision, pressure double precision, smoker boolean,
                    city text, series double precision[], outcome integer, stay double precision);
INSERT INTO visit
SELECT i, CASE WHEN i % 1000 > 0 THEN 'p' || i * 7919::bigint % 20011 END, 20 + i * 31 % 601 / 10.0,
       CASE WHEN i % 11 > 0 THEN 90 + i * 17 % 997 / 15.0 END, i * 13 % 10 < 3,
       CASE WHEN i % 23 > 0 THEN (ARRAY['Bern', 'Oslo', 'Rome'])[1 + i * 5 % 3] END,
       ARRAY[i % 100 / 7.0, i % 10], CASE WHEN i % 50 > 0 THEN (i * 37 % 101 > 60)::integer END, i % 29 / 3.0
FROM generate_series(1, {rows}) AS i;
INSERT INTO visit SELECT i, 'e' || i % 1000, 40, 120, true, 'Rome', ARRAY[1, 2], 1, 2 FROM generate_series(1, 3000) AS i;
"""


@pytest.fixture(scope="module")
def database(cluster: Cluster) -> Iterator[str]:
    name = cluster.create_database("federated_template")
    with cluster.connect(name) as connection:
        connection.execute(VISITS.format(rows=ROWS).encode())
        connection.execute(
            "CALL federated.execute('CREATE FEDERATED DATASET visits FOR TABLE visit IN WORKSPACE w"
            " WITH (subject = ''patient'')')"
        )
    yield name
    cluster.drop_database(name)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskEngine]:
    made = DaskEngine(DaskPlace(workers=2), Allowance(scratch=str(tmp_path_factory.mktemp("dask"))))
    yield made
    made.close()


Read = Callable[[TableRequest], list[ReadTable]]


@pytest.fixture(scope="module")
def read(cluster: Cluster, database: str, engine: DaskEngine) -> Read:
    """Gives what one process reads, and what the workers do; a request is read once."""
    conninfo, known = cluster.dsn(database, user="heliosdb_reader"), dict[TableRequest, list[ReadTable]]()

    def both(request: TableRequest) -> list[ReadTable]:
        if request not in known:
            readers = [TableReader(), TableReader(engine=engine)]
            known[request] = [reader.read(conninfo, request, ()) for reader in readers]
            assert isinstance(known[request][1].table.features, DaskMatrix)
        return known[request]

    return both


PLAIN = TableRequest(
    run="r",
    dataset_id=1,
    dataset=DatasetName("visits"),
    base_tables=(1,),
    features=FEATURES,
    target="outcome",
    validation_split=0.15,
    subject="patient",
    # Patients have equal rows.
    known_by=("age", "pressure", "outcome"),
    key=KEY,
    plain=True,
    min_rows=5,
    max_parameter_share=1.0,
)
PRIVATE = replace(
    PLAIN,
    features=NUMBERS,
    plain=False,
    classes=("0", "1"),
    levels=((),) * len(NUMBERS),
)


def left_out(cluster: Cluster, database: str, *patients: str) -> Admission:
    """Who is left out, as an order would have it."""
    with cluster.connect(database) as connection:
        rows = connection.execute(
            "SELECT hashtextextended(p, 0) FROM unnest(%s::text[]) AS p", [list(patients)]
        ).fetchall()
    return Admission(b"".join(sorted(one.digest for one in subject_digests([row[0] for row in rows], KEY))))


REQUESTS = {
    "subjects": PLAIN,
    "rows": replace(PLAIN, subject=None, known_by=("visit_id", "patient")),
    "fold": replace(PLAIN, validation_split=0.0, fold=Fold(1, 4)),
    "nobody held out": replace(PLAIN, validation_split=0.0),
    "weights": replace(PLAIN, features=NUMBERS, target="stay", roles=(("weights", "age"),)),
    "a category as target": replace(PLAIN, features=NUMBERS, target="city"),
    "private": PRIVATE,
    "private rows": replace(PRIVATE, subject=None, known_by=("visit_id",)),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_a_table_in_parts_is_the_table(name: str, read: Read) -> None:
    own, parted = read(REQUESTS[name])
    assert own.rows_read == parted.rows_read
    assert bytes(own.row_set or b"") == bytes(parted.row_set or b"")
    assert own.table.columns == parted.table.columns
    assert own.table.labels == parted.table.labels
    for array in ("features", "target", "subjects", "held_out", "others", "places", "codes"):
        np.testing.assert_array_equal(
            np.asarray(getattr(own.table, array)), np.asarray(getattr(parted.table, array)), array
        )
    for role, column in own.table.roles.items():
        np.testing.assert_array_equal(column, parted.table.roles[role])


def test_who_is_left_out_was_never_there(read: Read, cluster: Cluster, database: str) -> None:
    everybody = read(PLAIN)
    fewer = read(replace(PLAIN, admission=left_out(cluster, database, "p1", "p7919", "e5")))
    assert fewer[0].rows_read == fewer[1].rows_read != everybody[1].rows_read
    assert bytes(fewer[0].row_set or b"") == bytes(fewer[1].row_set or b"")
    assert fewer[1].table.rows < everybody[1].table.rows
    consenting = replace(PLAIN, admission=replace(left_out(cluster, database), admitted=b""))
    assert {one.table.rows for one in read(replace(consenting, plain=False))} == {0}


def test_every_sum_over_blocks_has_the_same_bits(read: Read) -> None:
    request = replace(PLAIN, features=NUMBERS)
    tables = [one.table for one in read(request)]
    assert tables[0].training_rows > 3 * BLOCK
    counts = [one.table for one in read(replace(request, target="stay", roles=(("offset", "age"),)))]
    found = [sums(one, two) for one, two in zip(tables, counts, strict=True)]
    assert list(found[0]) == list(found[1])
    for name, vector in found[0].items():
        assert vector.tobytes() == found[1][name].tobytes(), name


def sums(table: Table, counts: Table) -> dict[str, np.ndarray]:
    """What the steps of the regressions make of a table, and of one whose target is a count."""
    start = np.linspace(-0.2, 0.2, 4)
    several = np.linspace(-0.2, 0.2, 8).reshape(2, 4)
    train = TrainWork("logistic_regression", SCALING, 1, 100, 0.1, classes=2)
    kinds = {
        "logistic": (LOGISTIC_REGRESSION, table, start, 2),
        "softmax": (LOGISTIC_REGRESSION, table, several, 3),
        "linear": (LINEAR_REGRESSION, counts, start, 0),
        "poisson": (POISSON_REGRESSION, counts, start, 0),
    }
    found = {}
    for name, (model, rows, parameters, classes) in kinds.items():
        work = EvaluateWork(model.name, SCALING, None, classes=classes)
        found[f"{name} newton"] = model.curvature(rows, parameters, SCALING).to_vector()
        found[f"{name} evaluate"] = model.evaluate(rows, parameters, work).vector
        found[f"{name} statistics"] = statistics(
            rows, StatisticsWork(model.name, None, classes=classes)
        ).vector
    found["objective"] = np.array([LOGISTIC_REGRESSION.objective(table, start, train)])
    return found


@pytest.mark.parametrize("subject", ["patient", None])
def test_under_a_budget_whole_steps_of_the_lattice_are_the_same(subject: str | None, read: Read) -> None:
    request = PRIVATE if subject else REQUESTS["private rows"]
    found = []
    for one in read(request):
        work = EvaluateWork("logistic_regression", SCALING, 2.0, classes=2)
        found.append(
            [
                statistics(one.table, StatisticsWork("logistic_regression", 1.0, classes=2)).vector.tobytes(),
                count_classes(one.table, ClassesWork("logistic_regression", 1.0)).vector.tobytes(),
                LOGISTIC_REGRESSION.evaluate(one.table, np.linspace(-0.2, 0.2, 4), work).vector.tobytes(),
            ]
        )
    assert found[0] == found[1]


def test_categories_and_arrays_become_the_same_inputs(read: Read) -> None:
    encoding = Encoding(
        (
            *map(ColumnEncoding, NUMBERS),
            ColumnEncoding(
                "city", ColumnKind.CATEGORY, "indicators", CITIES[1:], null_level=True, other_level=True
            ),
            ColumnEncoding("series", ColumnKind.ARRAY, elements=2),
        )
    )
    for smallest in (0, 5):
        own, parted = (encode(one.table, encoding, smallest_cell=smallest) for one in read(PLAIN))
        assert isinstance(parted.features, DaskMatrix)
        assert np.asarray(parted.features).tobytes() == own.features.tobytes()
    scaling = Scaling((1.0,) * own.features.shape[1], (2.0,) * own.features.shape[1])
    start = np.linspace(-0.1, 0.1, own.features.shape[1] + 1)
    both_sums = [LOGISTIC_REGRESSION.curvature(one, start, scaling).to_vector() for one in (own, parted)]
    assert both_sums[0].tobytes() == both_sums[1].tobytes()


def test_what_is_no_sum_over_blocks_is_computed_in_the_process_where_it_fits(read: Read) -> None:
    own, parted = read(replace(PLAIN, features=NUMBERS))
    forest, linear = algorithm("random_forest").steps, algorithm("logistic_regression").steps
    assert parted.for_step(linear[LEVELS], PLAIN, Allowance()) is parted
    assert parted.for_step(forest[VOCABULARY], PLAIN, Allowance()) is parted
    for step in (one for name, one in forest.items() if name != VOCABULARY):
        fetched = parted.for_step(step, PLAIN, Allowance())
        assert fetched.table.space.is_memory
        assert fetched.table.features.tobytes() == own.table.features.tobytes()
        assert parted.for_step(step, PLAIN, Allowance()) is fetched
        assert parted.for_step(step, PLAIN, Allowance(memory_bytes=1 << 20)) is parted


def test_row_sets_of_earlier_answers_decide_as_they_do_in_one_process(
    read: Read, engine: DaskEngine, cluster: Cluster, database: str
) -> None:
    first = read(PLAIN)[0]
    assert first.row_set is not None
    whole = RowSet.from_bytes(first.row_set)
    # Another answer lacked a few rows: this one is about what that was about.
    lacking = whole.at(slice(2, None)).to_bytes()
    conninfo = cluster.dsn(database, user="heliosdb_reader")
    found = [
        reader.read(conninfo, PLAIN, [lacking]) for reader in (TableReader(), TableReader(engine=engine))
    ]
    assert bytes(found[0].row_set or b"") == bytes(found[1].row_set or b"") == lacking
    assert found[0].rows_read == found[1].rows_read
    assert np.asarray(found[1].table.features).tobytes() == found[0].table.features.tobytes()


def test_a_scaling_is_looked_at_where_the_rows_are(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each task has one: rows that were fetched for it would cross the network in every round."""
    tables = [one.table for one in read(replace(PLAIN, features=NUMBERS))]
    for fetching in ("column", "rows", "take"):
        monkeypatch.delattr(DaskMatrix, fetching)
    for table in tables:
        check_scaling(SCALING, table, NUMBERS)
        for place, name in enumerate(NUMBERS):
            scales = tuple(1e-9 if place == one else scale for one, scale in enumerate(SCALING.scales))
            with pytest.raises(FederatedError, match=f'the scaling of column "{name}"'):
                check_scaling(replace(SCALING, scales=scales), table, NUMBERS)


def test_a_worker_that_dies_takes_its_rows_with_it_and_they_are_read_again(
    read: Read, engine: DaskEngine, cluster: Cluster, database: str, tmp_path: Path
) -> None:
    # The last test: rows that others have read die too.
    first, died = read(PLAIN)[0], tmp_path / "died"

    def count_or_die(rows: Table) -> int:
        # One of the two alone: where both see that no one has died, two die.
        with suppress(FileExistsError):
            died.touch(exist_ok=False)
            os.kill(os.getpid(), signal.SIGKILL)
        return rows.rows

    reader, conninfo = TableReader(engine=engine), cluster.dsn(database, user="heliosdb_reader")
    table = reader.read(conninfo, PLAIN, ()).table
    with pytest.raises(PartsLostError):
        sum_parts(table.training_blocks(), count_or_die, add)
    for _ in range(3):
        # As the training process does: what was on its way to the one that died may be lost once more.
        with suppress(PartsLostError):
            again = reader.read(conninfo, PLAIN, ())
            counted = sum_parts(again.table.training_blocks(), count_or_die, add)
            break
    assert again.rows_read == first.rows_read
    assert counted == first.table.training_rows
