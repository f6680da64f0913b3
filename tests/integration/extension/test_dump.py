"""A database is dumped by an ordinary administrator and restored: state, functions and predictions are the same."""

from __future__ import annotations

import os
import subprocess

import psycopg

from tests.integration.extension.test_predictions import make_current, publish, value
from tests.integration.extension.versions_support import finish_run
from tests.support.cluster import Cluster, bin_directory

STATE = (
    "SELECT w.options, m.options, r.options, r.policy, r.status::text, v.features, l.epsilon_tight"
    " FROM federated.workspace AS w JOIN federated.model AS m USING (workspace_id)"
    " JOIN federated.run AS r USING (model_id) JOIN federated.version AS v USING (run_id)"
    " JOIN federated.ledger AS l USING (run_id)"
)
FUNCTIONS = (
    "SELECT pg_get_functiondef(oid), proowner::regrole::text, proacl::text, obj_description(oid, 'pg_proc')"
    " FROM pg_proc WHERE pronamespace = 'federated_model'::regnamespace ORDER BY 1"
)
VERSIONS = "SELECT version, is_current, prediction FROM federated.version ORDER BY version"
CALL = "federated_predict('risk', '{\"age\": 10, \"smoker\": true}')"


def test_a_member_of_federated_admin_dumps_what_predicts_the_same_after_restoring(
    cluster: Cluster, federated_database: str, catalog: psycopg.Connection, daemon: psycopg.Connection
) -> None:
    publish(daemon, link="logistic", intercept=1 / 3)
    make_current(catalog, ["age", "smoker"])
    catalog.execute("CALL federated.execute('STOP FEDERATED TRAINING risk')")
    finish_run(catalog, daemon, intercept=1 / 7)
    for statement in ("TAG FEDERATED MODEL risk AS 'best'", "TAG FEDERATED MODEL risk VERSION 1 AS 'old'"):
        catalog.execute("CALL federated.execute(%s)", [statement])
    catalog.execute("CALL federated.execute('CREATE FEDERATED MODEL untrained IN WORKSPACE clinics')")
    catalog.execute(
        "INSERT INTO federated.ledger (workspace, run_id, model_name, round_number, step, node_name, noise_multiplier,"
        " sampling_rate, steps, epsilon, epsilon_basic, epsilon_tight)"
        " SELECT 'clinics', run_id, 'risk', 1, 'train', 'a', 1, 1, 1, 0.4, 0.4, 0.4 FROM federated.run"
    )
    # What the run was started under is history: later changes of the workspace must not be read back into it.
    catalog.execute("UPDATE federated.workspace SET options = '{\"min_nodes\": 1}'")
    restored = cluster.create_database("template1")

    dump = _run("pg_dump", "--format=custom", cluster.dsn(federated_database, user="an_admin"))
    _run("pg_restore", "--exit-on-error", f"--dbname={cluster.dsn(restored)}", text=dump)

    with cluster.connect(restored) as copy:
        for query in (
            STATE,
            FUNCTIONS,
            f"SELECT {CALL}",
            "SELECT * FROM federated.tag ORDER BY name",
            VERSIONS,
        ):
            expected = catalog.execute(query).fetchall()  # type: ignore[arg-type]
            assert expected
            assert copy.execute(query).fetchall() == expected  # type: ignore[arg-type]
        for statement in (
            "CREATE FEDERATED MODEL later",
            "START FEDERATED TRAINING risk",
            "DROP FEDERATED MODEL later",
            "TAG FEDERATED MODEL risk VERSION 2 AS 'after'",
        ):
            copy.execute("CALL federated.execute(%s)", [statement])
        with cluster.connect(restored, user="heliosdb_daemon") as coordinator:
            assert (
                coordinator.execute(
                    "UPDATE federated.run SET status = 'stopped' WHERE status = 'queued'"
                ).rowcount
                == 1
            )
    with cluster.connect(restored, user="an_analyst") as analyst:
        assert value(analyst, CALL) == value(catalog, CALL)


def _run(program: str, *arguments: str, text: bytes = b"") -> bytes:
    done = subprocess.run(
        [str(bin_directory() / program), *arguments],
        input=text,
        capture_output=True,
        env={**os.environ, "PGOPTIONS": ""},
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout
