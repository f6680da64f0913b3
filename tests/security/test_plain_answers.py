"""Answers without noise: a mere operator with an honest coordinator asks twice, and subtracts.

Each attack got one person's values exactly before nodes kept rules of their own.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from heliosdb.domain.ids import RoundNumber, StepName
from heliosdb.domain.task import Reading, Scaling, Task, Work
from heliosdb.parts.algorithms import ALGORITHMS
from tests.support.asking import Asker
from tests.support.cluster import Cluster
from tests.support.federation import (
    READING,
    Federation,
    measured,
    new_run,
    running_node,
    share,
    statistics_task,
    train_task,
)

pytestmark = pytest.mark.usefixtures("forked_training")

TIMEOUT = 180.0
PEOPLE = """
CREATE TABLE person (person_id integer PRIMARY KEY, age double precision, pressure double precision,
                     outcome double precision, other double precision);
SELECT setseed(0.5);
INSERT INTO person SELECT i, 30 + 40 * random(), 90 + 60 * random(), o, o
FROM (SELECT i, (random() < 0.4)::integer AS o FROM generate_series(1, 200) AS i) AS p;
"""
COLUMNS = "person (age, pressure, outcome, other)"
FEW = "differ by fewer than min_rows = 20 subjects"


@pytest.fixture
def database(cluster: Cluster, federated_database: str) -> str:
    with cluster.connect(federated_database) as connection:
        connection.execute(PEOPLE)
    return federated_database


@pytest.fixture
def dba(cluster: Cluster, database: str) -> Any:
    with cluster.connect(database) as connection:
        yield connection


@pytest.fixture
async def asker(cluster: Cluster, database: str, tmp_path: Path) -> AsyncIterator[Asker]:
    federation = Federation(tmp_path)
    async with running_node(federation.node_config(cluster, database)) as port:
        client = federation.client(port)
        yield Asker(client, federation)
        await client.close()


async def test_two_targets_that_differ_by_one_null_do_not_give_that_person_away(
    dba: psycopg.Connection[Any], asker: Asker
) -> None:
    dba.execute("UPDATE person SET other = NULL WHERE person_id = 77")
    share(dba, "people", COLUMNS)
    whole = await asker.statistics()
    assert whole[0] == 200.0
    assert FEW in await asker.refused_statistics(target="other")
    # The same target again is the same rows, whatever the seed and the run.
    assert (await asker.statistics(seed=12345)).tobytes() == whole.tobytes()


async def test_a_row_without_a_target_is_out_for_every_later_model_alike(
    dba: psycopg.Connection[Any], asker: Asker
) -> None:
    dba.execute("UPDATE person SET other = NULL WHERE person_id = 77")
    share(dba, "people", COLUMNS)
    assert (await asker.statistics(target="other"))[0] == 199.0
    assert (await asker.statistics())[0] == 199.0


async def test_targets_that_differ_by_enough_people_are_each_answered(
    dba: psycopg.Connection[Any], asker: Asker
) -> None:
    dba.execute("UPDATE person SET other = NULL WHERE person_id <= 100")
    share(dba, "people", COLUMNS)
    assert (await asker.statistics(validation_split=0.0))[0] == 200.0
    assert (await asker.statistics(validation_split=0.0, target="other"))[0] == 100.0


async def test_all_people_against_all_but_one_is_refused_however_the_one_goes(
    dba: psycopg.Connection[Any], asker: Asker
) -> None:
    share(dba, "people", COLUMNS)
    whole = await asker.statistics()
    dba.execute("CREATE TABLE kept AS SELECT * FROM person WHERE person_id = 5")
    dba.execute("DELETE FROM person WHERE person_id = 5")
    assert FEW in await asker.refused_statistics()
    dba.execute("INSERT INTO person SELECT * FROM kept")
    assert (await asker.statistics()).tobytes() == whole.tobytes()
    share(dba, "all_but_one", "person (age, pressure, outcome, other) WHERE (person_id <> 5)")
    assert FEW in await asker.refused_statistics(dataset="all_but_one")
    share(dba, "one", "person (age, pressure, outcome, other) WHERE (person_id = 5)")
    assert "fewer than min_rows" in await asker.refused_statistics(dataset="one")


async def test_a_table_that_grows_answers_about_the_same_rows_until_enough_have_come(
    dba: psycopg.Connection[Any], asker: Asker
) -> None:
    share(dba, "people", COLUMNS)
    whole = await asker.statistics()
    insert = "INSERT INTO person SELECT i, 50, 100, 1, 1 FROM generate_series(%s::integer, %s::integer) AS i"
    dba.execute(insert, [201, 201])
    assert (await asker.statistics()).tobytes() == whole.tobytes()
    # With a quarter held out, 20 of them among the held-out ones take far more than 20 in all.
    dba.execute(insert, [202, 230])
    assert (await asker.statistics()).tobytes() == whole.tobytes()
    dba.execute(insert, [231, 600])
    assert (await asker.statistics())[0] == 600.0


async def test_a_validation_split_that_moves_a_few_people_is_refused(
    dba: psycopg.Connection[Any], asker: Asker
) -> None:
    share(dba, "people", COLUMNS)
    await asker.statistics(validation_split=0.25)
    assert FEW in await asker.refused_statistics(validation_split=0.3)
    await asker.statistics(validation_split=0.0)


async def test_a_person_with_several_rows_is_no_way_around(
    dba: psycopg.Connection[Any], asker: Asker
) -> None:
    """One row of one person loses its target: the people are the same, the sums would differ by that row."""
    dba.execute("ALTER TABLE person ADD patient integer")
    dba.execute("UPDATE person SET patient = person_id % 60")
    dba.execute("UPDATE person SET other = NULL WHERE person_id = 77")
    share(dba, "people", COLUMNS, options="WITH (subject = 'patient')")
    await asker.statistics()
    assert FEW in await asker.refused_statistics(target="other")


async def test_rows_that_are_known_by_other_columns_are_not_answered_about_again(
    dba: psycopg.Connection[Any], asker: Asker
) -> None:
    dba.execute("ALTER TABLE person DROP CONSTRAINT person_pkey")
    share(dba, "people", COLUMNS)
    await asker.statistics()
    share(dba, "fewer", "person (age, pressure, outcome) WHERE (person_id <> 5)")
    assert "cannot be compared" in await asker.refused_statistics(dataset="fewer")


async def test_a_table_that_is_made_anew_has_rows_of_its_own(
    dba: psycopg.Connection[Any], asker: Asker
) -> None:
    share(dba, "people", COLUMNS)
    await asker.statistics()
    dba.execute("CREATE TABLE kept AS SELECT * FROM person WHERE person_id <> 5; DROP TABLE person CASCADE")
    dba.execute("CALL federated.execute('DROP FEDERATED DATASET people')")
    dba.execute("ALTER TABLE kept RENAME TO person")
    share(dba, "people", COLUMNS)
    assert (await asker.statistics())[0] == 199.0


async def test_training_takes_scaling_rows_and_columns_from_its_own_round_zero(
    dba: psycopg.Connection[Any], asker: Asker
) -> None:
    share(dba, "people", COLUMNS)
    task = train_task(run=new_run())
    assert "has not asked for the statistics" in (await asker.refusal(task)).message
    await measured(asker.client, asker.federation, task)
    await asker.ask(task)
    second = train_task(run=task.key.run, round_number=2)
    silencing = Scaling((50.0, 120.0), (1e-9, 15.0))
    for changed in (
        replace(second, scaling=silencing),
        replace(second, reading=replace(READING, target="other")),
        replace(second, reading=replace(READING, validation_split=0.1)),
    ):
        assert "other rows, columns or scaling" in (await asker.refusal(changed)).message
    fresh = replace(train_task(run=new_run()), scaling=silencing)
    await measured(asker.client, asker.federation, fresh)
    assert "is not that of data" in (await asker.refusal(fresh)).message
    await asker.ask(second)


async def test_a_step_without_a_scaling_keeps_to_the_rows_and_columns_of_its_run(
    cluster: Cluster,
    database: str,
    dba: psycopg.Connection[Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # What the part registers is registered for this test alone.
    monkeypatch.setattr(ALGORITHMS, "_entries", dict(ALGORITHMS._entries))
    monkeypatch.setattr(ALGORITHMS, "_loaded", dict(ALGORITHMS._loaded))
    monkeypatch.delitem(sys.modules, "tests.support.visiting", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    share(dba, "people", COLUMNS)
    federation = Federation(tmp_path)
    config = federation.node_config(cluster, database, parts=("tests.support.visiting",))
    run = new_run()
    first = statistics_task(run=run)

    def visit(number: int) -> Task:
        key = replace(first.key, round=RoundNumber(number), step=StepName("visit"))
        return replace(first, key=key, work=Work("visiting", 2, settings={"keeps": False}))

    async with running_node(config) as port:
        client = federation.client(port)
        asker = Asker(client, federation)
        assert "has not asked for the statistics" in (await asker.refusal(visit(1))).message
        await asker.ask(visit(0))
        await asker.ask(visit(1))
        for changed in ({"validation_split": 0.0}, {"target": "other"}, {"features": ("age",)}):
            task = replace(visit(2), reading=replace(READING, **changed))
            assert "other rows, columns or scaling" in (await asker.refusal(task)).message
        other = replace(visit(2), scaling=Scaling((50.0, 120.0), (10.0, 15.0)))
        assert "other rows, columns or scaling" in (await asker.refusal(other)).message
        await asker.ask(visit(2))
        terms = dba.execute("SELECT terms IS NULL FROM federated.release ORDER BY round_number").fetchall()
        assert terms == [(True,), (False,), (False,)]
        await client.close()


async def test_a_step_over_one_row_and_more_parameters_than_a_third_of_the_rows_are_refused(
    dba: psycopg.Connection[Any], asker: Asker
) -> None:
    dba.execute("DELETE FROM person WHERE person_id > 40")
    columns = ", ".join(f"x{i} double precision DEFAULT {i}" for i in range(12))
    dba.execute(f"ALTER TABLE person {', '.join('ADD ' + column for column in columns.split(', '))}")  # type: ignore[arg-type]
    share(dba, "people", "person")
    task = train_task(run=new_run())
    single = replace(task, work=replace(task.work, settings={**task.work.settings, "batch_size": 1}))
    message = (await asker.refusal(single)).message
    assert "smallest step has 1 row, fewer than min_rows = 20" in message
    many = (*(f"x{i}" for i in range(12)), "age")
    assert "14 parameters, more than 0.333 per row" in await asker.refused_statistics(features=many)
    assert (await asker.statistics(features=many[:4], target="outcome"))[0] == 40.0


@pytest.mark.parametrize(
    "column",
    [
        "(person_id = 77)::integer",
        "CASE WHEN person_id = 77 THEN age END",
        "CASE WHEN person_id IN (3, 77) THEN 0.5 ELSE 120 END",
    ],
)
async def test_a_feature_that_singles_a_few_people_out_is_refused(
    column: str, dba: psycopg.Connection[Any], asker: Asker
) -> None:
    dba.execute(f"ALTER TABLE person ADD single double precision; UPDATE person SET single = {column}")  # type: ignore[arg-type]
    share(dba, "people", "person (age, pressure, outcome, single)")
    message = await asker.refused_statistics(features=("age", "single"))
    assert 'in column "single" of dataset "people" fewer than 5 data subjects differ' in message
    assert (await asker.statistics(features=("age", "pressure")))[0] == 200.0


async def test_under_a_compliance_mode_a_plain_answer_is_the_dbas_explicit_word(
    dba: psycopg.Connection[Any], asker: Asker
) -> None:
    share(dba, "people", COLUMNS)
    task = replace(statistics_task(run=new_run()), compliance_mode="HIPAA")
    error = await asker.refusal(task)
    assert "gives no answers without noise under compliance_mode HIPAA" in error.message
    dba.execute("CALL federated.execute('DROP FEDERATED DATASET people')")
    share(dba, "people", COLUMNS, options="WITH (plain_answers = true)")
    await asker.ask(task)


async def test_a_site_that_has_not_allowed_plain_answers_gives_none(
    cluster: Cluster, database: str, dba: psycopg.Connection[Any], tmp_path: Path
) -> None:
    federation = Federation(tmp_path)
    share(dba, "people", COLUMNS)
    async with running_node(federation.node_config(cluster, database, plain_answers=False)) as port:
        client = federation.client(port)
        asker = Asker(client, federation)
        assert "gives no answers without noise" in (await asker.refusal(statistics_task())).message
        await client.close()


async def test_the_rules_hold_after_a_restart_and_nobody_reads_who_took_part(
    cluster: Cluster, database: str, dba: psycopg.Connection[Any], tmp_path: Path
) -> None:
    federation = Federation(tmp_path)
    share(dba, "people", COLUMNS)
    config = federation.node_config(cluster, database)
    seen = []
    for statement in ("SELECT 1", "DELETE FROM person WHERE person_id = 9"):
        dba.execute(statement)  # type: ignore[arg-type]
        async with running_node(config) as port:
            client = federation.client(port)
            asker = Asker(client, federation)
            if statement == "SELECT 1":
                seen.append(await asker.statistics())
            else:
                assert FEW in await asker.refused_statistics()
            await client.close()
    [(content,)] = dba.execute("SELECT content FROM federated.row_set").fetchall()
    codes = dba.execute("SELECT int8send(hashtextextended(person_id::text, 0)) FROM person").fetchall()
    assert not any(bytes(code) in content or bytes(code)[::-1] in content for (code,) in codes)


def test_readings_differ_by_what_the_tests_change() -> None:
    assert Reading(None, ("age", "pressure"), "outcome", 0.25, 7) == READING
