"""Columns of text are features and targets, over real nodes and a real coordinator."""

from __future__ import annotations

import pytest

from tests.integration.coordinator.support import World
from tests.integration.features.columns import closed_rounds, encoding, scaling, train

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
