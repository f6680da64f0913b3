"""A node and columns that look like identifiers: what it refuses, on what that rests, and what its DBA sees."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from heliosdb.domain.errors import FederatedError
from heliosdb.domain.privacy import Budget
from heliosdb.domain.task import Task
from heliosdb.transport.client import NodeClient
from tests.support.cluster import Cluster
from tests.support.federation import Federation, new_run, running_node, share, statistics_task

pytestmark = pytest.mark.usefixtures("forked_training")

TIMEOUT = 180.0
BUDGET = Budget(8.0, 1e-5)
PEOPLE = """
CREATE TABLE person (person_id integer PRIMARY KEY, age integer, pressure double precision, outcome integer);
INSERT INTO person SELECT i, 30 + i % 50, 90 + i % 60, i % 2 FROM generate_series(1, 100) AS i;
"""
OLD = "UPDATE person SET age = 90 + person_id WHERE person_id <= {}"
REFUSAL = 'dataset "people" does not answer about what the task reads: its phi_check refuses'
FOUND = "SELECT column_name, kind, evidence, share, found_by FROM federated_phi_findings('people') ORDER BY found_by"
OLD_PEOPLE = ("age", "age over 89", "values", "under a tenth")


def task(mode: str, budget: Budget | None = BUDGET) -> Task:
    noise = None if budget is None else 4.0
    return replace(
        statistics_task(run=new_run(), noise_multiplier=noise, budget=budget), compliance_mode=mode
    )


async def ask(client: NodeClient, federation: Federation, asked: Task) -> str:
    """Return how the node answers: nothing, or its own words of refusal."""
    try:
        await client.perform(asked, federation.sealing, TIMEOUT)
    except FederatedError as error:
        assert "age" not in f"{error.detail} {error.message}"
        return error.message.partition(" refused: ")[2]
    return ""


def execute(connection: psycopg.Connection[Any], *statements: str) -> None:
    for statement in statements:
        if statement.startswith("ALTER FEDERATED"):
            connection.execute("CALL federated.execute(%s)", [statement])
        else:
            connection.execute(statement)  # type: ignore[arg-type]


async def test_what_the_dba_was_told_is_refused_by_mode_or_by_option_until_it_is_accepted(
    cluster: Cluster, federated_database: str, tmp_path: Path
) -> None:
    federation = Federation(tmp_path)
    with cluster.connect(federated_database) as connection:
        execute(connection, PEOPLE, OLD.format(6))
        share(connection, "people", "person (age, pressure, outcome)", options="WITH (subject = 'person_id')")
        async with running_node(federation.node_config(cluster, federated_database)) as port:
            client = federation.client(port)
            by_mode = {
                mode: await ask(client, federation, task(mode)) for mode in ("none", "HIPAA", "GDPR", "BOTH")
            }
            assert by_mode == {"none": "", "HIPAA": REFUSAL, "GDPR": "", "BOTH": REFUSAL}
            execute(connection, "ALTER FEDERATED DATASET people SET (phi_check = 'warn')")
            assert await ask(client, federation, task("HIPAA")) == ""
            execute(connection, "ALTER FEDERATED DATASET people RESET (phi_check)")
            assert await ask(client, federation, task("HIPAA")) == REFUSAL
            execute(
                connection,
                "ALTER FEDERATED DATASET people SET (phi_accepted = ['age'], phi_check = 'refuse')",
            )
            assert await ask(client, federation, task("HIPAA")) == ""
            assert await ask(client, federation, task("none")) == ""
            await client.close()
        # Refused before anything was charged.
        assert connection.execute("SELECT count(*) FROM federated.spending").fetchone() == (5,)


async def test_under_a_budget_nothing_rests_on_rows_that_came_later(
    cluster: Cluster, federated_database: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    federation = Federation(tmp_path)
    caplog.set_level(logging.WARNING, "heliosdb.node.identifiers")
    with cluster.connect(federated_database) as connection:
        execute(connection, PEOPLE)
        share(connection, "people", "person (age, pressure, outcome)", options="WITH (subject = 'person_id')")
        async with running_node(federation.node_config(cluster, federated_database)) as port:
            client = federation.client(port)
            assert await ask(client, federation, task("HIPAA")) == ""
            assert connection.execute(FOUND).fetchall() == []
            execute(connection, OLD.format(6))
            # It is found and told to the DBA, and changes no answer: not this one, nor a later run's.
            assert await ask(client, federation, task("HIPAA")) == ""
            assert connection.execute(FOUND).fetchall() == [(*OLD_PEOPLE, "training")]
            assert await ask(client, federation, task("HIPAA")) == ""
            # The DBA's own look makes it his word.
            execute(connection, "ALTER FEDERATED DATASET people SET (phi_accepted = ['pressure'])")
            assert await ask(client, federation, task("HIPAA")) == REFUSAL
            await client.close()
    assert "see federated_phi_findings" in caplog.text
    assert "age" not in caplog.text.replace("message", "")


async def test_a_plain_answer_is_refused_for_values_that_the_training_itself_finds(
    cluster: Cluster, federated_database: str, tmp_path: Path
) -> None:
    federation = Federation(tmp_path)
    with cluster.connect(federated_database) as connection:
        execute(connection, PEOPLE)
        plain = "WITH (plain_answers = true)"
        share(connection, "people", "person (age, pressure, outcome)", options=plain)
        execute(connection, OLD.format(6))
        async with running_node(federation.node_config(cluster, federated_database)) as port:
            client = federation.client(port)
            assert await ask(client, federation, task("HIPAA", budget=None)) == REFUSAL
            assert connection.execute(FOUND).fetchall() == [(*OLD_PEOPLE, "training")]
            assert connection.execute("SELECT count(*) FROM federated.release").fetchone() == (0,)
            # Known now, and so refused before a row is read.
            assert await ask(client, federation, task("HIPAA", budget=None)) == REFUSAL
            execute(connection, "ALTER FEDERATED DATASET people SET (phi_check = 'off')")
            assert await ask(client, federation, task("HIPAA", budget=None)) == ""
            await client.close()


async def test_a_name_is_enough(cluster: Cluster, federated_database: str, tmp_path: Path) -> None:
    federation = Federation(tmp_path)
    with cluster.connect(federated_database) as connection:
        execute(connection, PEOPLE, "ALTER TABLE person RENAME pressure TO zip_code")
        # The statement may have been one of an earlier version, which did not look.
        share(connection, "people", "person (age, zip_code, outcome)", options="WITH (subject = 'person_id')")
        execute(connection, "DELETE FROM federated.phi_finding")
        async with running_node(federation.node_config(cluster, federated_database)) as port:
            client = federation.client(port)
            asked = task("HIPAA")
            reading = replace(asked.reading, features=("age", "zip_code"))
            assert await ask(client, federation, replace(asked, reading=reading)) == REFUSAL
            await client.close()
