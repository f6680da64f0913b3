"""Every type of column that can be a feature, as real databases hold it: times, arrays, money, ugly numbers, views,
partitions, foreign tables and strange names."""

from __future__ import annotations

import math
from statistics import fmean

import pytest

from tests.integration.coordinator.support import World, create_model
from tests.integration.features.columns import add_site, closed_rounds, encoding, scaling, train

pytestmark = pytest.mark.xdist_group("features")

ROWS = 240


def made(columns: str, values: str, rows: int = ROWS) -> str:
    return (
        f"CREATE TABLE t ({columns}, ill boolean); "
        f"INSERT INTO t SELECT {values}, i % 3 = 0 FROM generate_series(1, {rows}) AS i"
    )


async def test_times_are_days_in_utc_intervals_days_and_money_a_number(world: World) -> None:
    features = ("born", "seen", "moved", "stay", "bill", "lab")
    setup = "SET TimeZone = 'Asia/Kathmandu'; CREATE DOMAIN stay_of AS interval; " + made(
        "born date, seen timestamp, moved timestamptz, stay stay_of, bill money, lab numeric",
        "CASE WHEN i % 50 = 0 THEN 'infinity' ELSE date '1970-01-01' + i END,"
        " CASE WHEN i % 50 = 0 THEN '-infinity' ELSE timestamp '1970-01-02 12:00' + i % 11 * interval '1 hour' END,"
        " timestamptz '1970-01-01 00:00+00' + i % 13 * interval '1 day',"
        " i % 17 * interval '36 hours', (i % 19 * 2.5)::numeric::money, CASE WHEN i % 40 = 0 THEN 1e999 ELSE i % 23 END",
    )
    run = await train(world, {"north": setup, "south": setup}, features, "ill")

    assert closed_rounds(world) == 3, run
    assert [column.kind.value for column in encoding(world).columns] == [
        *["time"] * 3, "interval", "number", "number",
    ]  # fmt: skip
    rows = range(1, ROWS + 1)
    dated = [i for i in rows if i % 50]
    # Columns whose numbers are nearly a line of each other would be refused.
    assert scaling(world)["means"] == pytest.approx(
        [
            fmean(dated),
            1.5 + fmean(i % 11 for i in dated) / 24,
            fmean(i % 13 for i in rows),
            1.5 * fmean(i % 17 for i in rows),
            2.5 * fmean(i % 19 for i in rows),
            fmean(i % 23 for i in rows if i % 40),
        ],
        rel=1e-12,
    )


async def test_an_array_is_its_elements_whatever_its_type_and_its_first_subscript(world: World) -> None:
    features = ("v", "w", "flags")
    setup = made(
        "v float8[], w integer[], flags boolean[]",
        "CASE WHEN i % 20 <> 0 THEN ARRAY[i, 2 * i] END, ('[0:1]={' || i || ',' || -i || '}')::integer[],"
        " ARRAY[i % 2 = 0]",
    )
    run = await train(world, {"north": setup, "south": setup.replace("float8[]", "real[]")}, features, "ill")

    assert closed_rounds(world) == 3, run
    assert encoding(world).inputs == ("v[1]", "v[2]", "w[1]", "w[2]", "flags[1]")
    there = [i for i in range(1, ROWS + 1) if i % 20]
    mean = sum(there) / len(there)
    middle = (ROWS + 1) / 2
    assert scaling(world)["means"] == pytest.approx([mean, 2 * mean, middle, -middle, 0.5], rel=1e-12)


async def test_arrays_of_differing_lengths_are_one_clear_error(world: World) -> None:
    setup = made("v float8[]", "ARRAY[i, 2 * i]")
    other = made("v float8[]", "CASE WHEN i = 7 THEN ARRAY[1] ELSE ARRAY[i, 2 * i] END")
    run = await train(world, {"north": setup, "south": other}, ("v",), "ill")

    assert run["status"] == "failed"
    assert 'column "v" holds arrays of differing lengths' in run["message"]


async def test_transforms_are_done_at_the_nodes(world: World) -> None:
    features = ("amount", "grade", "bmi", "born")
    setup = made(
        "amount float8, grade integer, bmi float8, born date",
        "CASE i % 4 WHEN 0 THEN NULL ELSE exp(i % 7) - 1 END, i % 3 + 1, 20 + i % 10,"
        " CASE WHEN i % 6 > 0 THEN date '1970-01-01' + i % 6 END",
    )
    run = await train(
        world,
        {"north": setup, "south": setup},
        features,
        "ill",
        feature_transforms=[
            "log1p(amount)",
            "missing(amount)",
            "onehot(grade)",
            "none(bmi)",
            "bins(born, 5)",
        ],
    )

    assert closed_rounds(world) == 3, run
    assert encoding(world).inputs == (
        *("log1p(amount)", "amount is missing", "grade=2", "grade=3", "bmi"),
        *(f"born > {day}.5" for day in range(1, 5)),
    )
    found = scaling(world)
    there = [i % 7 for i in range(1, ROWS + 1) if i % 4]
    assert found["means"] == pytest.approx(
        [sum(there) / len(there), 0.25, 1 / 3, 1 / 3, 24.5, 0.8, 0.6, 0.4, 0.2], rel=1e-9
    )
    assert found["scales"][4] == 1.0
    told = world.query("SELECT term, estimate FROM federated_coefficients('risk')")
    slopes = {row["term"]: row["estimate"] for row in told}
    logits = world.query(
        "SELECT ln(p / (1 - p)) AS logit FROM unnest(ARRAY[date '1970-01-02', '1970-01-03', '1980-01-01', '1990-01-01'])"
        " WITH ORDINALITY AS d (born, n), federated_predict('risk', jsonb_build_object('amount', 1.5, 'grade', 2, 'bmi', 25, 'born', born)) AS p"
        " ORDER BY n"
    )
    one, two, late, later = (row["logit"] for row in logits)
    assert two - one == pytest.approx(slopes["born > 1.5"], rel=1e-9)
    assert late - two == pytest.approx(sum(slopes[f"born > {day}.5"] for day in (2, 3, 4)), rel=1e-9)
    assert later == late
    assert found["scales"][2] == pytest.approx(math.sqrt(2) / 3, rel=1e-9)


async def test_a_view_a_partitioned_and_a_generated_table_with_strange_names_are_read_alike(
    world: World,
) -> None:
    name = 'Größe "cm"'
    features = (name, "doppelt", "Stadt der Geburt")
    quoted = '"Größe ""cm"""'
    table = (
        f"(i integer, {quoted} float8, doppelt float8 GENERATED ALWAYS AS ({quoted} * 2) STORED,"
        ' "Stadt der Geburt" text, ill boolean)'
    )
    fill = (
        f'INSERT INTO {{}} (i, {quoted}, "Stadt der Geburt", ill) SELECT i, 150 + i % 40,'
        " CASE WHEN i % 2 = 0 THEN 'Köln' ELSE 'a''b\"c' END, i % 3 = 0 FROM generate_series(1, 240) AS i"
    )
    partitioned = (
        f"CREATE TABLE t {table} PARTITION BY RANGE (i); CREATE TABLE p PARTITION OF t FOR VALUES FROM (0) TO (100);"
        " CREATE TABLE q PARTITION OF t DEFAULT; " + fill.format("t")
    )
    view = f"CREATE TABLE base {table}; {fill.format('base')}; CREATE VIEW t AS SELECT * FROM base"

    run = await train(world, {"north": partitioned, "south": view}, features, "ill")

    assert closed_rounds(world) == 3, run
    assert encoding(world).inputs == (name, "doppelt", "Stadt der Geburt=a'b\"c")
    means = scaling(world)["means"]
    assert means[1] == pytest.approx(2 * means[0], rel=1e-12)
    assert means[2] == pytest.approx(0.5)


async def test_infinite_huge_and_constant_numbers_are_features_or_named(world: World) -> None:
    setup = made(
        "x float8, c float8",
        "CASE i % 9 WHEN 0 THEN 'infinity'::float8 WHEN 1 THEN 'nan' WHEN 2 THEN NULL ELSE i END, 4",
    )
    run = await train(world, {"north": setup, "south": setup}, ("x", "c"), "ill")

    assert closed_rounds(world) == 3, run
    there = [i for i in range(1, ROWS + 1) if i % 9 > 2]
    assert scaling(world)["means"] == pytest.approx([sum(there) / len(there), 4.0], rel=1e-12)
    assert scaling(world)["scales"][1] == 1.0


async def test_under_a_budget_declared_levels_are_features_and_cost_nothing(
    world: World,
) -> None:
    world.execute("CREATE FEDERATED WORKSPACE consortium WITH (privacy_budget = 8, min_nodes = 2)")
    setup = "CREATE TYPE stage AS ENUM ('I', 'II', 'III'); " + made(
        "stage stage, city text, age integer",
        "(ARRAY['I', 'II', 'III'])[1 + i % 3]::stage, 'Rom', 30 + i % 40",
        rows=2000,
    )
    checked = (
        setup.replace("CREATE TYPE stage AS ENUM ('I', 'II', 'III');", "")
        .replace("stage stage,", "stage text CHECK (stage IN ('IV', 'III', 'II', 'I')),")
        .replace("::stage", "")
    )
    for name, one in {"north": setup, "south": checked}.items():
        await add_site(world, name, one, ("stage", "city", "age", "ill"))
    create_model(world, features=("stage", "age"), target="ill", rounds=2)
    world.start_coordinator()
    world.execute("START FEDERATED TRAINING risk")
    run = await world.finished()

    assert closed_rounds(world) == 2, run
    assert encoding(world).inputs == ("stage=II", "stage=III", "stage=IV", "age")
    assert scaling(world)["means"][:3] == [0.25] * 3
    charged = {one["step"] for one in world.query("SELECT step FROM federated.ledger")}
    assert "statistics" in charged
    assert "vocabulary" not in charged
