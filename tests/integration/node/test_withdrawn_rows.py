"""A table without the rows of who was withdrawn is, to the bit, the table that never had them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import psycopg
import pytest

from heliosdb.algorithms.table import Table
from heliosdb.domain.ids import DatasetName
from heliosdb.node.admission import EVERYBODY, Admission, subject_digests
from heliosdb.node.datasets import TableRequest
from heliosdb.node.scratch import RowSpool, Scratch
from heliosdb.node.worker import ReadTable, TableReader
from tests.support.cluster import Cluster

KEY = b"k" * 32
# The withdrawn one has the longest array, the only row of a city, the youngest and the oldest visits, and two equal rows.
VISITS = """
CREATE TABLE visit (patient text, age double precision, city text, series double precision[], outcome integer);
INSERT INTO visit SELECT 'p' || i % 60, 30 + i % 37, (ARRAY['Rome', 'Oslo', 'Bern'])[1 + i % 3],
                         ARRAY[i, i + 1]::float8[], (i % 5 = 0)::integer FROM generate_series(1, 300) AS i;
INSERT INTO visit VALUES ('Ann', 1, 'Aachen', ARRAY[1, 2, 3, 4, 5], 1), ('Ann', 150, 'Zug', NULL, 0),
                         ('Ann', 150, 'Zug', NULL, 0), (NULL, 40, 'Rome', ARRAY[7], 1);
"""


@pytest.fixture
def reader(cluster: Cluster, federated_database: str) -> str:
    with cluster.connect(federated_database) as connection:
        connection.execute(VISITS)
        connection.execute(
            "CALL federated.execute('CREATE FEDERATED DATASET visits FOR TABLE visit IN WORKSPACE w"
            " WITH (subject = ''patient'')')"
        )
    return cluster.dsn(federated_database, user="heliosdb_reader")


def request(*, plain: bool, features: tuple[str, ...], target: str = "outcome") -> TableRequest:
    categories = ("Bern", "Oslo", "Rome", "Aachen")
    return TableRequest(
        run="r",
        dataset_id=1,
        dataset=DatasetName("visits"),
        base_tables=(1,),
        features=features,
        target=target,
        validation_split=0.3,
        subject="patient",
        known_by=("age", "city", "outcome", "patient"),
        key=KEY,
        plain=plain,
        min_rows=5,
        max_parameter_share=1.0,
        classes=() if plain else ("0", "1"),
        levels=() if plain else tuple(categories if name == "city" else () for name in features),
    )


def without(connection: psycopg.Connection, *subjects: str) -> Admission:
    """Who is left out, as an order would have it."""
    codes = [
        connection.execute("SELECT hashtextextended(%s, 0)", [one]).fetchone()[0]  # type: ignore[index]
        for one in subjects
    ]
    digests = sorted(one.digest for one in subject_digests(codes, KEY))
    return Admission(b"".join(digests))


def demand_equal(found: ReadTable, other: ReadTable) -> None:
    assert found.rows_read == other.rows_read
    assert bytes(found.row_set or b"") == bytes(other.row_set or b"")
    assert found.table.columns == other.table.columns
    assert found.table.labels == other.table.labels
    for one, two in zip(arrays(found.table), arrays(other.table), strict=True):
        np.testing.assert_array_equal(one, two)


def arrays(table: Table) -> list[np.ndarray]:
    # Subjects are numbered as they come: equal numbering of equal ones is what counts.
    subjects = np.unique(table.subjects, return_inverse=True)[1]
    return [table.features, table.target, subjects, table.held_out]


@pytest.mark.parametrize(
    ("plain", "features", "target"),
    [
        (True, ("age", "city", "series"), "outcome"),
        (True, ("age", "series"), "city"),
        (False, ("age", "city"), "outcome"),
    ],
)
def test_a_table_without_the_withdrawn_is_the_one_that_never_had_them(
    cluster: Cluster,
    federated_database: str,
    reader: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    plain: bool,
    features: tuple[str, ...],
    target: str,
) -> None:
    asked = request(plain=plain, features=features, target=target)
    with cluster.connect(federated_database) as connection:
        withdrawn = replace(asked, admission=without(connection, "Ann", "p7", "nobody"))
        before = TableReader().read(reader, asked, ())
        found = TableReader().read(reader, withdrawn, ())
        with monkeypatch.context() as context:
            context.setattr("heliosdb.node.engine.spool_of", lambda *_: RowSpool(64, Scratch(str(tmp_path))))
            stored = TableReader().read(reader, withdrawn, ())
        connection.execute("DELETE FROM visit WHERE patient IN ('Ann', 'p7')")
        never = TableReader().read(reader, asked, ())

    assert before.rows_read != found.rows_read
    demand_equal(found, never)
    assert (stored.table.space.is_memory, found.table.space.is_memory) == (False, True)
    demand_equal(stored, never)


def test_many_values_are_chosen_as_if_the_withdrawn_had_none(
    cluster: Cluster, federated_database: str, reader: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("heliosdb.catalog.dataset_rows.MOST_VALUES", 2)
    asked = request(plain=True, features=("age", "city"))
    with cluster.connect(federated_database) as connection:
        # With hers Oslo is more frequent than Rome, without them less; ties go by the value.
        connection.execute("INSERT INTO visit SELECT 'Ann', 50, 'Oslo', NULL, 0 FROM generate_series(1, 9)")
        withdrawn = replace(asked, admission=without(connection, "Ann"))
        before = TableReader().read(reader, asked, ())
        found = TableReader().read(reader, withdrawn, ())
        connection.execute("DELETE FROM visit WHERE patient = 'Ann'")
        never = TableReader().read(reader, asked, ())

    assert before.table.columns[1].levels == ("Oslo", "Rome")
    assert found.table.columns[1].levels == ("Bern", "Rome")
    demand_equal(found, never)


def test_who_is_not_admitted_is_left_out_and_who_has_no_name_with_them(
    cluster: Cluster, federated_database: str, reader: str
) -> None:
    asked = request(plain=True, features=("age", "city"))
    with cluster.connect(federated_database) as connection:
        some = [f"p{i}" for i in range(60)]
        admitted = without(connection, *some).withdrawn
        withdrawn = without(connection, "p3").withdrawn
        found = TableReader().read(reader, replace(asked, admission=Admission(withdrawn, admitted)), ())
        connection.execute(
            "DELETE FROM visit WHERE patient IS NULL OR patient <> ALL (%s) OR patient = 'p3'", [some]
        )
        never = TableReader().read(reader, asked, ())
        nobody = TableReader().read(
            reader,
            replace(asked, plain=False, classes=("0", "1"), levels=((), ()), admission=Admission(b"", b"")),
            (),
        )

    demand_equal(found, never)
    assert nobody.table.rows == 0


def test_nobody_left_out_changes_no_digest() -> None:
    assert not EVERYBODY.leaves_out
    assert EVERYBODY.digest == b""
    some = {Admission(b"x" * 8).digest, Admission(b"", b"x" * 8).digest, Admission(b"", b"").digest}
    assert len(some | {EVERYBODY.digest}) == 4
