"""Rows of more numbers than a query has columns: arrays of every type and images, read from a real database."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from heliosdb.domain.ids import DatasetName
from heliosdb.node.datasets import TableRequest, read_rows
from heliosdb.node.reader import DirectRows, connect_reader
from tests.support.cluster import Cluster
from tests.support.images import as_file
from tests.unit.node.test_roles import REQUEST

SIDE, PIXELS = 64, 64 * 64 * 3
ASKED = replace(REQUEST, dataset=DatasetName("wide"), target="y", roles=(), subject="id", known_by=("id",))


def made(cluster: Cluster, database: str, colours: np.ndarray) -> None:
    with cluster.connect(database) as connection:
        connection.execute(
            "CREATE TABLE wide AS SELECT i AS id, i % 2 AS y,"
            " CASE WHEN i <> 3 THEN ARRAY(SELECT k * i FROM generate_series(1, 12288) AS k)::real[] END AS numbers,"
            " ('[0:2]={' || i || ',NULL,1e400}')::numeric[] AS few, ARRAY[i % 2 = 0, NULL] AS flags,"
            " CASE WHEN i = 4 THEN ARRAY[[1, 2], [3, 4]] WHEN i = 5 THEN '{1}' ELSE ARRAY[i, 2, 3, 4] END::bigint[] AS ragged,"
            " NULL::bytea AS scan FROM generate_series(1, 6) AS i"
        )
        whole = as_file(colours)
        for number, scan in enumerate(
            [whole, whole[:-30], b"x" * ((1 << 20) + 1), as_file(colours[:-1]), None], 1
        ):
            connection.execute("UPDATE wide SET scan = %s WHERE id = %s", [scan, number])
        connection.execute("CREATE VIEW federated_dataset.wide AS TABLE wide")


def read(cluster: Cluster, database: str, request: TableRequest) -> np.ndarray:
    with connect_reader(cluster.dsn(database)) as raw:
        return np.asarray(read_rows(DirectRows(raw), request).values)


def test_arrays_and_images_of_thousands_of_numbers_are_read(
    cluster: Cluster, federated_database: str
) -> None:
    colours = np.random.default_rng(4).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    made(cluster, federated_database, colours)

    features = ("id", "numbers", "few", "flags", "ragged")
    values = read(cluster, federated_database, replace(ASKED, features=features))
    assert values.shape == (6, 1 + (1 + PIXELS) + 4 + 3 + 5 + 1)
    for row in values:
        number = int(row[0])
        if number == 3:
            assert np.isnan(row[1 : 2 + PIXELS]).all()
        else:
            wanted = (np.arange(1, PIXELS + 1) * number).astype(np.float32)
            assert row[1] == PIXELS
            assert np.array_equal(row[2 : 2 + PIXELS], wanted)
        few, flags, ragged, _ = np.split(row[2 + PIXELS :], [4, 7, 12])
        np.testing.assert_array_equal(few, [3, number, np.nan, np.nan])
        np.testing.assert_array_equal(flags, [2, number % 2 == 0, np.nan])
        # Of several dimensions, and of another length than the longest, there are no elements.
        other = {4: -1, 5: 1}.get(number)
        wanted_ragged = [4, number, 2, 3, 4] if other is None else [other, *[np.nan] * 4]
        np.testing.assert_array_equal(ragged, wanted_ragged)

    scans = replace(
        ASKED, features=("id", "scan"), plain=False, elements=(0, PIXELS), shapes=((), (3, SIDE, SIDE))
    )
    values = read(cluster, federated_database, scans)
    # Whole; cut short, too large and of another size; two that are not there.
    lengths = {int(row[0]): row[1] for row in values}
    np.testing.assert_array_equal([lengths[one] for one in range(1, 7)], [PIXELS, -1, -1, -1, np.nan, np.nan])
    (whole,) = values[values[:, 1] == PIXELS]
    np.testing.assert_allclose(whole[2:-1], np.moveaxis(colours, 2, 0).ravel() / 255)
    assert np.isnan(values[values[:, 1] != PIXELS][:, 2:-1]).all()
