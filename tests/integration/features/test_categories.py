"""Columns of text are features and targets, over real nodes and a real coordinator."""

from __future__ import annotations

import psycopg
import pytest

from tests.integration.coordinator.support import World, create_model, create_workspace
from tests.integration.features.columns import add_site, closed_rounds, encoding, scaling, train
from tests.support.cluster import PASSWORD, SUPERUSER

pytestmark = pytest.mark.xdist_group("features")

ROWS = """CREATE TABLE t (city {city}, age integer, ill {ill});
INSERT INTO t SELECT (ARRAY['Rom', 'Ulm', 'Köln', 'rare'])[CASE WHEN i = 1 THEN 4 ELSE 1 + i % 3 END], 30 + i % 40,
{is_ill} FROM generate_series(1, {rows}) AS i"""


def rows(city: str = "text", ill: str = "boolean", is_ill: str = "i % 2 = 0", count: int = 240) -> str:
    return ROWS.format(city=city, ill=ill, is_ill=is_ill, rows=count)


async def test_a_text_becomes_an_indicator_of_each_level_but_the_first_whose_means_are_those_of_all_rows(
    world: World,
) -> None:
    north = (
        rows() + "; UPDATE t SET city = 'Bonn' WHERE city = 'Ulm'; UPDATE t SET city = NULL WHERE age < 35"
    )
    run = await train(world, {"north": north, "south": rows(city="varchar(20)")}, ("city", "age"), "ill")

    assert closed_rounds(world) == 3, run
    found = encoding(world)
    assert found.columns[0].levels == ("Bonn", "Köln", "Rom", "Ulm")
    assert found.columns[0].null_level
    assert not found.columns[0].other_level
    assert found.inputs == ("city=Köln", "city=Rom", "city=Ulm", "city=NULL", "age")
    # One row of each node has a value that nobody else has: it counts as what most rows there have.
    means = scaling(world)["means"]
    assert 0.05 < means[3] < 0.1
    assert means[2] == pytest.approx(80 / 480, abs=0.005)
    assert sum(means[:4]) < 1.0


async def test_a_text_is_a_target_whose_labels_are_kept(world: World) -> None:
    run = await train(
        world,
        {name: rows(ill="text", is_ill="CASE WHEN i % 2 = 0 THEN 'well' ELSE 'ill' END") for name in "ab"},
        ("age",),
        "ill",
    )

    assert closed_rounds(world) == 3, run
    assert encoding(world).classes == ("ill", "well")


async def test_an_integer_that_no_catalog_declares_is_a_target_by_what_rows_hold(world: World) -> None:
    run = await train(
        world, {name: rows(ill="integer", is_ill="7 + 3 * (i % 2)") for name in "ab"}, ("age",), "ill"
    )

    assert closed_rounds(world) == 3, run
    assert encoding(world).classes == ("7", "10")


@pytest.mark.parametrize("fault", ["coordinator.aggregated:1=kill", "coordinator.task.sent:3=kill"])
async def test_a_coordinator_that_is_killed_behind_the_levels_goes_on_from_them(
    world: World, fault: str
) -> None:
    create_workspace(world, min_nodes=2)
    for name in "ab":
        await add_site(world, name, rows(ill="text", is_ill="(i % 2)::text"), ("city", "age", "ill"))
    create_model(world, features=("city", "age"), target="ill")
    world.execute("START FEDERATED TRAINING risk")
    await world.start_coordinator(faults=fault).died()
    world.start_coordinator()

    run = await world.finished()

    assert closed_rounds(world) == 3, run
    assert encoding(world).inputs == ("city=Rom", "city=Ulm", "age")
    assert encoding(world).classes == ("0", "1")
    steps = world.query(
        "SELECT DISTINCT exchange, step FROM federated.participation WHERE round_number = 0 ORDER BY 1"
    )
    assert [(one["exchange"], one["step"]) for one in steps] == [(0, "levels"), (1, "statistics")]


async def test_a_node_of_one_class_and_one_of_fewer_rows_than_a_batch_take_part(world: World) -> None:
    small = rows(count=60, ill="integer", is_ill="i % 2")
    run = await train(
        world,
        {"north": rows(ill="integer", is_ill="1"), "south": small},
        ("city", "age"),
        "ill",
        batch_size=64,
        validation_split=0,
    )

    # An answer over a batch of fewer rows than min_rows would be refused; over all 60 it is not.
    assert closed_rounds(world) == 3, run
    assert encoding(world).classes == ("0", "1")


async def test_where_half_the_nodes_hold_a_number_and_half_a_text_start_names_both(world: World) -> None:
    create_workspace(world, min_nodes=2)
    await add_site(world, "north", rows(), ("city", "age", "ill"))
    await add_site(world, "south", rows() + "; ALTER TABLE t ALTER age TYPE text", ("city", "age", "ill"))
    create_model(world, features=("city", "age"), target="ill")
    world.start_coordinator()
    await world.reached("(SELECT count(datasets) = 2 FROM federated.node)")

    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState) as caught:
        world.execute("START FEDERATED TRAINING risk")

    assert "do not go together" in str(caught.value)
    assert caught.value.diag.message_detail == (
        'Column "age" is of different types (north: integer, south: text).'
    )


async def test_a_foreign_table_is_read_like_any_other(world: World) -> None:
    far = world.cluster.create_database()
    with world.cluster.connect(far) as connection:
        connection.execute(rows())  # type: ignore[arg-type]
    foreign = f"""CREATE EXTENSION postgres_fdw; CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw
        OPTIONS (host '127.0.0.1', port '{world.cluster.port}', dbname '{far}');
        CREATE USER MAPPING FOR PUBLIC SERVER far OPTIONS (user '{SUPERUSER}', password '{PASSWORD}');
        CREATE FOREIGN TABLE t (city text, age integer, ill boolean) SERVER far"""

    run = await train(world, {"north": foreign, "south": rows()}, ("city", "age"), "ill")

    assert closed_rounds(world) == 3, run
    assert encoding(world).inputs == ("city=Rom", "city=Ulm", "age")
