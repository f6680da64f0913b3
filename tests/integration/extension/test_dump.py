"""A database is dumped by an ordinary administrator and restored: state, functions and predictions are the same."""

from __future__ import annotations

import os
import subprocess

import psycopg

from tests.integration.extension.test_predictions import make_current, publish, value
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
CALL = "federated_predict('risk', '{\"age\": 10, \"smoker\": true}')"


def test_a_member_of_federated_admin_dumps_what_predicts_the_same_after_restoring(
    cluster: Cluster, federated_database: str, catalog: psycopg.Connection, daemon: psycopg.Connection
) -> None:
    publish(daemon, link="logistic", intercept=1 / 3)
    make_current(catalog, ["age", "smoker"])
    catalog.execute("CALL federated.execute('STOP FEDERATED TRAINING risk')")
    catalog.execute("CALL federated.execute('CREATE FEDERATED MODEL untrained IN WORKSPACE clinics')")
    catalog.execute(
        "INSERT INTO federated.ledger (workspace, run_id, model_name, round_number, step, node_name, noise_multiplier,"
        " sampling_rate, steps, epsilon, epsilon_basic, epsilon_tight)"
        " SELECT 'clinics', run_id, 'risk', 1, 'train', 'a', 1, 1, 1, 0.4, 0.4, 0.4 FROM federated.run"
    )
    # What the run was started under is history: later changes of the workspace must not be read back into it.
    catalog.execute("UPDATE federated.workspace SET options = '{\"min_nodes\": 1}'")
    restored = cluster.create_database("template1")

    dump = run_program("pg_dump", "--format=custom", cluster.dsn(federated_database, user="an_admin"))
    run_program("pg_restore", "--exit-on-error", f"--dbname={cluster.dsn(restored)}", text=dump)

    with cluster.connect(restored) as copy:
        for query in (STATE, FUNCTIONS, f"SELECT {CALL}"):
            expected = catalog.execute(query).fetchall()  # type: ignore[arg-type]
            assert expected
            assert copy.execute(query).fetchall() == expected  # type: ignore[arg-type]
        for statement in (
            "CREATE FEDERATED MODEL later",
            "START FEDERATED TRAINING risk",
            "DROP FEDERATED MODEL later",
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


def run_program(program: str, *arguments: str, text: bytes = b"") -> bytes:
    """Run one of the server's client programs and return what it prints."""
    done = subprocess.run(
        [str(bin_directory() / program), *arguments],
        input=text,
        capture_output=True,
        env={**os.environ, "PGOPTIONS": ""},
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout
