"""What is dumped and restored of subscriptions, at a participant and at the coordinator."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from tests.integration.extension.subscriptions_support import CALL, Sides, subscribed
from tests.integration.extension.versions_support import execute, finish_run
from tests.support.cluster import Cluster
from tests.support.programs import run_program


@pytest.fixture
def sides(cluster: Cluster, trained: psycopg.Connection) -> Iterator[Sides]:
    with subscribed(cluster, trained) as both:
        yield both


def test_a_participant_is_dumped_and_restored_with_what_it_holds(
    sides: Sides, cluster: Cluster, daemon: psycopg.Connection
) -> None:
    sides.deliver()
    sides.here.execute(
        "CREATE TABLE p (age float8, smoker boolean);"
        'CREATE VIEW w AS SELECT federated_model."risk@2"(age, smoker) AS y FROM p'
    )
    finish_run(sides.there, daemon, intercept=7.25)
    sides.deliver()
    execute(sides.here, "CREATE FEDERATED SUBSCRIPTION other TO MODEL nothing IN WORKSPACE clinics")
    with cluster.connect(sides.here.info.dbname) as owner:
        owner.execute("GRANT SELECT ON p, w TO federated_admin")
    restored = cluster.create_database("template1")
    dump = run_program("pg_dump", "--format=custom", cluster.dsn(sides.here.info.dbname))
    run_program("pg_restore", "--exit-on-error", f"--dbname={cluster.dsn(restored)}", text=dump)

    with cluster.connect(restored) as copy:
        for query in (
            "SELECT * FROM federated_subscriptions ORDER BY 1",
            "SELECT * FROM federated.delivered_version ORDER BY version",
            f"SELECT {CALL}",
        ):
            expected = sides.here.execute(query).fetchall()  # type: ignore[arg-type]
            assert expected
            assert copy.execute(query).fetchall() == expected  # type: ignore[arg-type]
        moved = Sides(cluster, sides.there, copy)
        finish_run(sides.there, daemon, intercept=8.25)
        assert moved.deliver() == [None]
        assert moved.state() == ("current", 4, 4)
        execute(copy, "DROP FEDERATED SUBSCRIPTION other")


def test_a_coordinator_is_dumped_and_restored_with_grants_and_what_nodes_said(
    sides: Sides, cluster: Cluster
) -> None:
    execute(sides.there, "GRANT FEDERATED SUBSCRIBE ON MODEL risk TO NODE 'north'")
    sides.deliver()
    restored = cluster.create_database("template1")
    dump = run_program("pg_dump", "--format=custom", cluster.dsn(sides.there.info.dbname, user="an_admin"))
    run_program("pg_restore", "--exit-on-error", f"--dbname={cluster.dsn(restored)}", text=dump)
    with cluster.connect(restored) as copy:
        moved = Sides(cluster, copy, sides.here)
        assert moved.seen() == sides.seen()
        assert moved.deliver() == []
        execute(copy, "REVOKE FEDERATED SUBSCRIBE ON MODEL risk FROM ALL NODES")
        assert [granted for _, _, granted, *_ in moved.seen()] == [True]
