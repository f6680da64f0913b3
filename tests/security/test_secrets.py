"""Runs from START to a prediction with everything logged that can be: no secret is in what they leave behind.

Secrets here: values of a row, the vector of one node, passwords of connection strings, private keys and the keys of
state at rest. What is looked through: the servers' logs with every statement and its parameters at debug level, the
daemons' logs at debug level, dumps, all rows of the product's tables and views, running statements, process titles.
"""

from __future__ import annotations

import base64
import re
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import psycopg
import pytest
from psycopg import sql

from heliosdb.domain.task import Task
from heliosdb.domain.vector import AnyVector
from tests.integration.coordinator.support import (
    MODEL,
    World,
    create_model,
    create_workspace,
    make_world,
)
from tests.integration.coordinator.test_hostile_nodes import served
from tests.integration.coordinator.test_subject_orders import dump, titles
from tests.security.test_identifiers import log_everything
from tests.support.cluster import Cluster
from tests.support.hostile_node import Said

AGE, PRESSURE = 47.28182845904, 101.64872127070
"""The values of a row at each node."""

PASSWORDS = {"heliosdb_daemon": "secret-5772156649", "heliosdb_reader": "secret-0915965594"}


@pytest.fixture
def world(cluster: Cluster, tmp_path: Path, federated_database: str) -> Iterator[World]:
    with make_world(cluster, tmp_path, federated_database) as made:
        yield made


def forms(*numbers: float) -> Iterator[bytes]:
    """Numbers as they may be written: in digits, and as bytes, these in hexadecimal and base64 too."""
    for number in numbers:
        yield f"{number:.9f}".encode()[:11]
        for order in "<>":
            yield from forms_of(struct.pack(f"{order}d", number))


def forms_of(secret: bytes) -> Iterator[bytes]:
    """Bytes as they are, and as text."""
    yield secret
    yield secret.hex().encode()
    # Of what lies anywhere in a longer text: without the first and last characters, which others decide too.
    for offset in range(3):
        encoded = base64.b64encode(bytes(offset) + secret)
        yield encoded[4 if offset else 0 : -4]


def key_forms(directory: Path) -> Iterator[bytes]:
    """The private keys, and the keys of state at rest, that lie in a directory of daemons."""
    for path in directory.rglob("*.key"):
        content = path.read_bytes()
        lines = re.findall(rb"^[A-Za-z0-9+/=]{40,}$", content, re.MULTILINE)
        yield from lines or forms_of(content)


def left_behind(world: World, logs: Iterable[Path]) -> Iterator[tuple[str, bytes]]:
    """What of each place can be read, by its name."""
    for log in logs:
        yield log.name, log.read_bytes()
    yield "titles", titles()
    for database in (world.database, *(site.database for site in world.sites)):
        with psycopg.connect(world.cluster.dsn(database), autocommit=True) as connection:
            yield "running", str(connection.execute("SELECT query FROM pg_stat_activity").fetchall()).encode()
            found = connection.execute(
                "SELECT n.nspname, c.relname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace"
                " WHERE c.relkind IN ('r', 'v') AND (n.nspname = 'federated' OR c.relname LIKE 'federated%')"
            ).fetchall()
            for schema, name in found:
                rows = connection.execute(
                    sql.SQL("SELECT t::text FROM {} AS t").format(sql.Identifier(schema, name))
                )
                yield f"{schema}.{name}", str(rows.fetchall()).encode()
    yield "dump of the coordinator's database", dump(world, world.database)


def demand_absent(secrets: Iterable[bytes], places: Iterable[tuple[str, bytes]]) -> None:
    wanted = {secret for secret in secrets if len(secret) >= 8}
    assert len(wanted) > 4
    for name, text in places:
        for secret in wanted:
            at = text.find(secret)
            assert at < 0, f"{name}: {text[max(at - 200, 0) : at + 60]!r}"


@pytest.mark.parametrize(
    ("workspace", "run"),
    [
        ({}, ""),
        ({"privacy_budget": 8.0, "delta": 1e-5}, ""),
        ({}, " WITH (secure_aggregation = true)"),
    ],
    ids=["plain", "private", "secure"],
)
async def test_no_secret_is_in_what_a_run_leaves_behind(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workspace: dict[str, object], run: str
) -> None:
    monkeypatch.setenv("HELIOSDB_TEST_LOG_LEVEL", "DEBUG")
    without = Cluster.dsn

    def with_password(cluster: Cluster, *arguments: str, user: str = "postgres") -> str:
        password = PASSWORDS.get(user)
        return without(cluster, *arguments, user=user) + (f" password={password}" if password else "")

    monkeypatch.setattr(Cluster, "dsn", with_password)
    create_workspace(world, min_nodes=3, **workspace)
    logs = [world.cluster.directory / "log"]
    world.name_peers("abc")
    for number, name in enumerate("abc"):
        site = await world.add_site(name, rows=300, seed=0.1 * number)
        with world.cluster.connect(site.database) as connection:
            connection.execute("INSERT INTO patient VALUES (9999, %s, %s, 1)", [AGE, PRESSURE])
        site.kill()
        logs.append(tmp_path / f"node-{name}.log")
        await world.start_site(site, log=logs[-1])
    log_everything(world, world.database, *(site.database for site in world.sites))
    begins = logs[0].stat().st_size
    for site in world.sites:
        world.register(site)
    create_model(world, rounds=2)
    world.execute(f"START FEDERATED TRAINING {MODEL}{run}")
    logs.append(world.start_coordinator().log)
    ended = await world.finished()

    assert ended["status"] == "completed", ended
    loud = logs[0].read_bytes()[begins:]
    # As loud as it was meant to be: statements with their parameters, of all three roles.
    assert b"COPY (SELECT coalesce" in loud
    assert b"heliosdb_daemon" in loud or b"INSERT INTO federated." in loud
    secrets = [*forms(AGE, PRESSURE), *map(str.encode, PASSWORDS.values()), *key_forms(tmp_path)]
    demand_absent(secrets, [*left_behind(world, logs[1:]), ("the servers' log", loud)])


async def test_the_vector_of_one_node_is_nowhere(world: World) -> None:
    vector = np.array([0.314159265358, -0.271828182845, 0.141421356237])

    def known(task: Task, answer: AnyVector, weight: float) -> Said:
        return (
            (vector, weight) if task.key.step == "train" and answer.size == vector.size else (answer, weight)
        )

    create_workspace(world, min_nodes=3)
    log_everything(world, world.database)
    log = world.cluster.directory / "log"
    begins = log.stat().st_size
    async with served(world, {"b": known}):
        create_model(world, rounds=2)
        world.execute(f"START FEDERATED TRAINING {MODEL}")
        coordinator = world.start_coordinator()
        ended = await world.finished()

    assert ended["status"] == "completed", ended
    loud = log.read_bytes()[begins:]
    assert b"INSERT INTO federated." in loud
    demand_absent(
        forms(*vector.tolist()), [*left_behind(world, [coordinator.log]), ("the server's log", loud)]
    )
