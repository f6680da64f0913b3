"""The known attacks on answers without noise, against a real node: each gets what it is after where its rule is
off, and nothing where it is on.

A rule is off where the node's own DBA has set it so; the attacker is a coordinator that asks what it likes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest

from heliosdb.algorithms.exact import read_moments
from heliosdb.algorithms.layout import COLUMN_DIGITS
from heliosdb.algorithms.works import StatisticsWork
from heliosdb.domain.encoding import ColumnEncoding, ColumnKind, Encoding
from heliosdb.domain.task import Task
from tests.support.asking import Asker, about
from tests.support.cluster import Cluster
from tests.support.federation import Federation, new_run, running_node, share, statistics_task

pytestmark = pytest.mark.usefixtures("forked_training")

PEOPLE = """
CREATE TABLE person (person_id integer PRIMARY KEY, age double precision, pressure double precision,
                     outcome double precision, extra double precision, city text);
SELECT setseed(0.5);
INSERT INTO person
SELECT i, 30 + round((40 * random())::numeric, 2), 90 + 60 * random(), (random() < 0.4)::integer, 50 + 10 * random(),
       CASE WHEN i <= 7 THEN 'Atrani' WHEN i <= 90 THEN 'Rome' ELSE 'Milan' END
FROM generate_series(1, 200) AS i;
"""
COLUMNS = "person (age, pressure, outcome, extra, city)"
ALL_OFF = "min_rows = 1, min_cell = 1, min_category = 1, max_dominance = 1, max_datasets = 10000, max_parameter_share = 1000"


@pytest.fixture
def dba(cluster: Cluster, federated_database: str) -> Any:
    with cluster.connect(federated_database) as connection:
        connection.execute(PEOPLE)
        yield connection


@pytest.fixture
async def asker(
    cluster: Cluster, federated_database: str, dba: psycopg.Connection[Any], tmp_path: Path
) -> AsyncIterator[Asker]:
    del dba
    federation = Federation(tmp_path)
    async with running_node(federation.node_config(cluster, federated_database)) as port:
        client = federation.client(port)
        yield Asker(client, federation)
        await client.close()


def switch_off(dba: psycopg.Connection[Any], *datasets: str, rules: str = ALL_OFF) -> None:
    for name in datasets:
        dba.execute(
            "CALL federated.execute(%s)",
            [f"ALTER FEDERATED DATASET {name} SET (plain_answers = true, {rules})"],
        )


def sum_of(vector: np.ndarray, place: int) -> float:
    """The sum of a column in an answer to statistics."""
    start = 1 + place * COLUMN_DIGITS
    return float(Fraction(read_moments(vector[start : start + COLUMN_DIGITS]).values, 1 << 1074))


def value_of(dba: psycopg.Connection[Any], column: str, person: int) -> float:
    [(value,)] = dba.execute(f"SELECT {column} FROM person WHERE person_id = {person}").fetchall()  # type: ignore[arg-type]
    return float(value)


@pytest.mark.parametrize(
    "victim", ["CASE WHEN person_id = 77 THEN age ELSE 0 END", "CASE WHEN person_id = 77 THEN age END"]
)
async def test_a_column_of_one_person(victim: str, dba: psycopg.Connection[Any], asker: Asker) -> None:
    """A 0/1 indicator times a value, or what only one person has: its sum is that person's value."""
    dba.execute(f"UPDATE person SET extra = {victim}")  # type: ignore[arg-type]
    share(dba, "people", COLUMNS)
    asked = {"features": ("extra",)}
    assert "fewer than 5 data subjects differ" in await asker.refused_statistics(**asked)
    switch_off(dba, "people")
    assert sum_of(await asker.statistics(**asked), 0) == value_of(dba, "age", 77)


async def test_a_target_of_one_person(dba: psycopg.Connection[Any], asker: Asker) -> None:
    """What is told of a target is told of a column, too."""
    dba.execute("UPDATE person SET outcome = (person_id = 77)::integer")
    share(dba, "people", COLUMNS)
    assert "fewer than 5 data subjects differ" in await asker.refused_statistics()
    switch_off(dba, "people")
    assert (await asker.statistics())[-1] == 1.0


async def test_everybody_and_everybody_but_one(dba: psycopg.Connection[Any], asker: Asker) -> None:
    share(dba, "people", COLUMNS)
    share(dba, "but_one", f"{COLUMNS} WHERE (person_id <> 5)")
    whole = await asker.statistics(dataset="people")
    assert "differ by fewer than min_rows" in await asker.refused_statistics(dataset="but_one")
    switch_off(dba, "people", "but_one")
    but_one = await asker.statistics(dataset="but_one")
    assert sum_of(whole, 0) - sum_of(but_one, 0) == pytest.approx(value_of(dba, "age", 5))


async def test_a_predicate_that_names_one_person(dba: psycopg.Connection[Any], asker: Asker) -> None:
    share(dba, "one", f"{COLUMNS} WHERE (person_id = 5)")
    assert "fewer than min_rows" in await asker.refused_statistics()
    switch_off(dba, "one")
    assert sum_of(await asker.statistics(), 0) == value_of(dba, "age", 5)


async def test_a_set_within_another_of_a_second_dataset(dba: psycopg.Connection[Any], asker: Asker) -> None:
    share(dba, "larger", f"{COLUMNS} WHERE (person_id <= 103)")
    share(dba, "smaller", f"{COLUMNS} WHERE (person_id <= 100)")
    larger = await asker.statistics(dataset="larger")
    assert "differ by fewer than min_rows" in await asker.refused_statistics(dataset="smaller")
    switch_off(dba, "larger", "smaller")
    smaller = await asker.statistics(dataset="smaller")
    three = sum(value_of(dba, "age", person) for person in (101, 102, 103))
    assert sum_of(larger, 0) - sum_of(smaller, 0) == pytest.approx(three)


async def test_a_class_of_three(dba: psycopg.Connection[Any], asker: Asker) -> None:
    """Of 200 people the coordinator is told how many have the disease."""
    dba.execute("UPDATE person SET outcome = (person_id IN (3, 33, 133))::integer")
    share(dba, "people", COLUMNS)
    assert "fewer than 5 data subjects" in await asker.refused_statistics()
    switch_off(dba, "people")
    assert (await asker.statistics())[-1] == 3.0


async def test_a_billionaire(dba: psycopg.Connection[Any], asker: Asker) -> None:
    """A sum over 200 people is as good as the value of who has nearly all of it."""
    dba.execute("UPDATE person SET extra = CASE person_id WHEN 77 THEN 4e9 ELSE 1000 * age END")
    share(dba, "people", COLUMNS)
    asked = {"features": ("age", "extra")}
    refused = await asker.refusal(about(**asked))
    assert refused.message.endswith(
        ': one data subject has more than max_dominance = 0.85 of a sum over dataset "people"'
    )
    assert "extra" not in f"{refused.message} {refused.hint}"
    switch_off(dba, "people")
    assert sum_of(await asker.statistics(**asked), 1) == pytest.approx(4e9, rel=0.01)


async def test_somebody_who_stands_out_beside_a_large_constant(
    dba: psycopg.Connection[Any], asker: Asker
) -> None:
    """Whoever has a sum and a count has the sum about any other origin."""
    dba.execute("UPDATE person SET extra = 1e9 + CASE person_id WHEN 77 THEN 1e6 ELSE age END")
    share(dba, "people", COLUMNS)
    asked = {"features": ("extra",)}
    assert "max_dominance = 0.85" in await asker.refused_statistics(**asked)
    switch_off(dba, "people")
    assert sum_of(await asker.statistics(**asked), 0) - 200 * 1e9 == pytest.approx(1e6, rel=0.02)


async def test_a_person_who_has_most_of_the_rows(dba: psycopg.Connection[Any], asker: Asker) -> None:
    dba.execute("ALTER TABLE person ADD patient integer")
    dba.execute("UPDATE person SET patient = CASE WHEN person_id <= 30 THEN person_id ELSE 77 END")
    dba.execute(
        "INSERT INTO person SELECT i, 40.25, 120, i % 2, 55, 'Rome', 77 FROM generate_series(201, 400) AS i"
    )
    share(dba, "people", COLUMNS, options="WITH (subject = 'patient')")
    assert "max_dominance = 0.85" in await asker.refused_statistics(validation_split=0.0)
    switch_off(dba, "people")
    assert (await asker.statistics(validation_split=0.0))[0] == 400.0


def of_levels(*levels: str) -> Task:
    """Statistics of a category, in the levels that the coordinator names."""
    task = about(features=("city",), validation_split=0.0)
    column = ColumnEncoding("city", ColumnKind.CATEGORY, "indicators", levels=levels, other_level=True)
    work = StatisticsWork("logistic_regression", None, classes=2).to_work(len(column.inputs))
    return replace(task, work=work, encoding=Encoding((column,), ("0", "1")))


async def test_a_category_that_few_have(dba: psycopg.Connection[Any], asker: Asker) -> None:
    """Seven live in Atrani: told where the DBA says five, and not where he says ten."""
    share(dba, "people", COLUMNS, options="WITH (min_category = 10)")
    asked = of_levels("Atrani", "Rome")
    pooled = await asker.ask(asked)
    assert sum_of(pooled, 1) == 117.0
    switch_off(dba, "people", rules="min_category = 5")
    told = await asker.ask(replace(asked, key=statistics_task(run=new_run()).key))
    assert sum_of(told, 1) == 110.0


@pytest.mark.parametrize(
    ("one", "other", "difference"),
    [
        # Flags of six and of seven people.
        ("(person_id <= 6)::integer", "(person_id <= 7)::integer", 1.0),
        # A column and its copy with one value missing, and in other units.
        ("age", "CASE WHEN person_id <> 7 THEN age END", None),
        ("age", "CASE WHEN person_id <> 7 THEN 12 * age - 3 END", None),
        # A flag and nearly its opposite.
        ("(person_id <= 100)::integer", "(person_id > 101)::integer", None),
    ],
)
async def test_two_columns_that_nearly_agree(
    one: str, other: str, difference: float | None, dba: psycopg.Connection[Any], asker: Asker
) -> None:
    dba.execute(f"UPDATE person SET pressure = {one}, extra = {other}")  # type: ignore[arg-type]
    share(dba, "people", COLUMNS)
    asked = {"features": ("pressure", "extra"), "validation_split": 0.0}
    assert 'the inputs "pressure" and "extra"' in await asker.refused_statistics(**asked)
    switch_off(dba, "people")
    told = await asker.statistics(**asked)
    if difference is not None:
        assert sum_of(told, 1) - sum_of(told, 0) == difference


async def test_two_columns_that_agree_in_all_or_differ_in_five_are_answered_about(
    dba: psycopg.Connection[Any], asker: Asker
) -> None:
    dba.execute("UPDATE person SET pressure = 2 * age + 1, extra = age + (person_id <= 5)::integer")
    share(dba, "people", COLUMNS)
    await asker.statistics(features=("age", "pressure"), validation_split=0.0)
    await asker.statistics(features=("age", "extra"), validation_split=0.0)


async def test_one_dataset_after_the_other(dba: psycopg.Connection[Any], asker: Asker) -> None:
    """Each choice of columns or rows is one more equation about the same people."""
    for number in range(3):
        share(
            dba,
            f"look_{number}",
            f"{COLUMNS} WHERE (person_id > {30 * number})",
            options="WITH (max_datasets = 2)",
        )
    await asker.statistics(dataset="look_0", validation_split=0.0)
    await asker.statistics(dataset="look_1", validation_split=0.0)
    refused = await asker.refused_statistics(dataset="look_2", validation_split=0.0)
    assert "one more over its tables than the max_datasets = 2" in refused
    # The same again is no further one, also under another name.
    await asker.statistics(dataset="look_1", validation_split=0.0)
    share(dba, "again", f"{COLUMNS} WHERE (person_id > 30)", options="WITH (max_datasets = 2)")
    await asker.statistics(dataset="again", validation_split=0.0)
    switch_off(dba, "look_2", rules="max_datasets = 3")
    await asker.statistics(dataset="look_2", validation_split=0.0)


async def test_a_site_is_never_laxer_than_its_settings(
    cluster: Cluster, federated_database: str, dba: psycopg.Connection[Any], tmp_path: Path
) -> None:
    dba.execute("UPDATE person SET extra = (person_id <= 7)::integer")
    share(dba, "people", COLUMNS, options=f"WITH (plain_answers = true, {ALL_OFF})")
    federation = Federation(tmp_path)
    config = federation.node_config(cluster, federated_database, disclosure={"min_cell": 8, "min_rows": 50})
    async with running_node(config) as port:
        client = federation.client(port)
        asker = Asker(client, federation)
        asked = {"features": ("age", "extra"), "validation_split": 0.0}
        assert "fewer than 8 data subjects differ" in await asker.refused_statistics(**asked)
        dba.execute("DELETE FROM person WHERE person_id > 49")
        assert "fewer than min_rows = 50" in await asker.refused_statistics(features=("age",))
        await client.close()
