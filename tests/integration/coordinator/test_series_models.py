"""Networks on series over real nodes: each channel an array with missing elements, a column beside them; predicted in the
database as at a node, exported and imported; refused under a privacy budget; series of another length named."""

from __future__ import annotations

import json

import numpy as np
import psycopg
import pytest
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from heliosdb.domain.state import state_from_bytes
from heliosdb.scoring.kinds import find_kind
from tests.integration.coordinator.network_support import NODES, trained
from tests.integration.coordinator.support import (
    MODEL,
    WORKSPACE,
    Site,
    World,
    create_model,
    create_workspace,
)

pytestmark = [
    pytest.mark.usefixtures("forked_with_torch"),
    pytest.mark.xdist_group("series_models"),
]

LENGTH = 6
SHARED = "max_parameter_share = 100, min_cell = 1, min_rows = 20, max_dominance = 1.0"
Rows = NDArray[np.float64]


def stays(rows: int = 600) -> tuple[Rows, Rows]:
    """Pulse and oxygen of six hours, an age, some hours missing and some stays shorter; and who got worse, which a pulse
    that rises in the end tells."""
    rng = np.random.default_rng(11)
    pulse = 80.0 + rng.normal(0.0, 10.0, (rows, LENGTH)).cumsum(axis=1)
    oxygen = 96.0 + rng.normal(0.0, 1.5, (rows, LENGTH))
    worse = (pulse[:, -1] - pulse[:, -3] + rng.normal(0.0, 4.0, rows) > 0).astype(np.float64)
    for series in (pulse, oxygen):
        series[rng.random(series.shape) < 0.1] = np.nan
    for series in (pulse, oxygen):
        series[::7, 4:] = np.nan
    return np.column_stack([pulse, oxygen, rng.normal(60.0, 9.0, rows)]).round(2), worse


TABLES = """
    CREATE TABLE patient (patient_id integer PRIMARY KEY, age float8, worse boolean);
    CREATE TABLE vital (patient_id integer REFERENCES patient, hour integer, pulse float8, oxygen float8);
"""
VIEW = """
    CREATE VIEW stay AS SELECT p.patient_id AS id, s.pulse, s.oxygen, p.age, p.worse
    FROM patient AS p JOIN (
        SELECT patient_id,
               (array_agg(pulse ORDER BY hour) || array_fill(NULL::float8, ARRAY[{length}]))[1:{length}] AS pulse,
               (array_agg(oxygen ORDER BY hour) || array_fill(NULL::float8, ARRAY[{length}]))[1:{length}] AS oxygen
        FROM (SELECT *, row_number() OVER (PARTITION BY patient_id ORDER BY hour DESC) AS back FROM vital) AS v
        WHERE back <= {length} GROUP BY patient_id) AS s USING (patient_id)
"""
"""Of the last rows of each patient one of arrays, what is missing behind them NULL; as docs/data.md has it."""


def put(
    world: World, database: str, rows: Rows, worse: Rows, *, length: int = LENGTH, is_shared: bool
) -> None:
    with world.cluster.connect(database) as connection:
        connection.execute(TABLES)
        with connection.cursor().copy("COPY patient FROM STDIN") as copy:
            for number, (age, one) in enumerate(zip(rows[:, -1].tolist(), worse.tolist(), strict=True)):
                copy.write_row((number, age, bool(one)))
        with connection.cursor().copy("COPY vital FROM STDIN") as copy:
            for number, row in enumerate(rows):
                told = [
                    [None if np.isnan(one) else one for one in hour]
                    for hour in row[:-1].reshape(2, LENGTH).T.tolist()
                ]
                # The hours behind the last that is known are no rows.
                last = max((hour for hour, pair in enumerate(told) if pair != [None, None]), default=0)
                for hour, pair in enumerate(told[: last + 1]):
                    copy.write_row((number, hour, *pair))
        connection.execute(VIEW.format(length=length))
        if is_shared:
            share = f"CREATE FEDERATED DATASET stays FOR TABLE stay (pulse, oxygen, age, worse) IN WORKSPACE {WORKSPACE}"
            connection.execute("CALL federated.execute(%s)", [f"{share} WITH (subject = 'id', {SHARED})"])


async def split_up(world: World, rows: Rows, worse: Rows) -> None:
    """The first node's series are of another length."""
    order = np.random.default_rng(3).permutation(len(worse))
    for name, chosen in zip(NODES, np.array_split(order, len(NODES)), strict=True):
        site = Site(name, world.cluster.create_database("federated_template"))
        length = LENGTH - 1 if name == NODES[0] else LENGTH
        put(world, site.database, rows[chosen], worse[chosen], length=length, is_shared=True)
        world.sites.append(site)
        await world.start_site(site)
        world.register(site)
    put(world, world.database, rows, worse, is_shared=False)


FEATURES = ["pulse", "oxygen", "age"]
ASKED = "jsonb_build_object('pulse', pulse, 'oxygen', oxygen, 'age', age)"


async def test_series_are_learned_from_and_predicted_in_the_database_as_at_a_node(world: World) -> None:
    rows, worse = stays()
    create_workspace(world, min_nodes=2)
    await split_up(world, rows, worse)
    create_model(
        world, features=FEATURES, target="worse", algorithm="gru", input_shape=f"[{LENGTH}, 2]", width=8, rounds=4,
        local_epochs=4, batch_size=25, optimizer="adam", learning_rate=0.02, early_stopping_rounds=20,
    )  # fmt: skip
    world.start_coordinator()

    run = await trained(world)

    assert run["status"] == "completed", run
    refusals = world.query(
        "SELECT n.name, p.reason FROM federated.participation AS p JOIN federated.node AS n USING (node_id)"
        " WHERE p.reason IS NOT NULL"
    )
    assert 'column "pulse" holds arrays of another length than 6 in 200 rows' in refusals[0]["reason"]
    told = world.query(
        f"SELECT federated_predict('risk', {ASKED}) AS p, federated_predict('risk', to_jsonb(stay) - 'id' - 'worse') AS by_row"
        " FROM stay ORDER BY id"
    )
    found = np.array([one["p"] for one in told])
    assert roc_auc_score(worse, found) > 0.8
    assert [one["p"] for one in told] == [one["by_row"] for one in told]

    batch = world.query(
        "SELECT prediction FROM federated_predict_batch('risk', 'SELECT pulse, oxygen, age FROM stay ORDER BY id')"
        " AS (pulse float8[], oxygen float8[], age float8, prediction float8)"
    )
    assert [one["prediction"] for one in batch] == pytest.approx(found, abs=1e-12)
    world.query("SELECT federated_import_model(federated_export_model('risk'), 'copy')")
    copied = world.query(f"SELECT federated_predict('copy', {ASKED}) AS p FROM stay ORDER BY id")
    assert [one["p"] for one in copied] == found.tolist()
    # A shorter series ends sooner, as one whose last hours are NULL.
    short = {"pulse": [80, 90, 95], "oxygen": [96], "age": 60}
    padded = {"pulse": [80, 90, 95, None, None, None], "oxygen": [96] + [None] * 5, "age": 60}
    (ends,) = world.query(
        "SELECT federated_predict('risk', %s::jsonb) AS short, federated_predict('risk', %s::jsonb) AS padded",
        json.dumps(short),
        json.dumps(padded),
    )
    assert ends["short"] == ends["padded"]

    (version,) = world.query(
        "SELECT prediction, prediction_arrays FROM federated.version ORDER BY version DESC LIMIT 1"
    )
    assert version["prediction"]["kind"] == "series"
    arrays = state_from_bytes(version["prediction_arrays"])
    assert found == pytest.approx(find_kind("series")(version["prediction"], arrays, rows), abs=1e-6)


def test_start_refuses_a_budget(world: World) -> None:
    create_workspace(world, privacy_budget=4.0)
    create_model(world, algorithm="lstm", input_shape="[6, 2]")
    for algorithm in ("lstm", "gru", "transformer"):
        world.execute(f"ALTER FEDERATED MODEL {MODEL} SET (algorithm = '{algorithm}')")
        assert refused(world) == ("0A000", f"{algorithm} is not supported under a privacy_budget yet")


def test_start_refuses_what_is_no_series(world: World) -> None:
    create_workspace(world)
    create_model(world, algorithm="transformer", input_shape="[6, 2, 1]")
    assert refused(world) == ("22023", "input_shape has 3 entries")
    world.execute(f"ALTER FEDERATED MODEL {MODEL} SET (input_shape = '[6, 2]', heads = 3)")
    assert refused(world) == ("22023", "heads is 3, and width 32")


def refused(world: World) -> tuple[str | None, str]:
    with world.catalog() as connection, pytest.raises(psycopg.Error) as caught:
        connection.execute("CALL federated.execute(%s)", [f"START FEDERATED TRAINING {MODEL}"])
    return caught.value.sqlstate, str(caught.value.diag.message_primary)
