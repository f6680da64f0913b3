"""A database is dumped by an ordinary administrator and restored: state, functions and predictions are the same."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.integration.coordinator.support import World, create_model, create_workspace, make_world
from tests.integration.extension.test_predictions import make_current, publish, value
from tests.integration.extension.versions_support import finish_run
from tests.support.catalog_snapshot import EXTENSION, describe, difference
from tests.support.cluster import Cluster, create_cluster, remove_cluster
from tests.support.ports import free_port
from tests.support.programs import run_program

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
ATTESTED = (
    "SELECT a.requirement, a.author, a.attested_at, a.valid_until, a.state, a.evidence_then, h.recorded_at, h.findings_sha256"
    " FROM federated_attestations AS a, federated_compliance_history AS h ORDER BY h.place"
)
EXPERIMENT = (
    "SELECT e.*, (SELECT array_agg((federated_experiment_arm('ab', g::text)).arm ORDER BY g) FROM generate_series(1, 40) AS g)"
    " FROM federated_experiment('ab') AS e"
)
SERVED = "federated_predict_experiment('ab', g::text), federated_report_outcome('ab', g::text, g)"
CALL = "federated_predict('risk', '{\"age\": 10, \"smoker\": true}')"


def test_a_member_of_federated_admin_dumps_what_predicts_the_same_after_restoring(
    cluster: Cluster, federated_database: str, catalog: psycopg.Connection, daemon: psycopg.Connection
) -> None:
    publish(daemon, link="logistic", intercept=1 / 3)
    make_current(catalog, ["age", "smoker"])
    catalog.execute("CALL federated.execute('STOP FEDERATED TRAINING risk')")
    finish_run(catalog, daemon, intercept=1 / 7)
    finish_run(catalog, daemon, intercept=1 / 9)
    for statement in (
        "TAG FEDERATED MODEL risk AS 'best'",
        "TAG FEDERATED MODEL risk VERSION 1 AS 'old'",
        "CREATE FEDERATED EXPERIMENT ab ON MODEL risk VERSIONS ('2' => 0.5, 'best' => 0.5)",
    ):
        catalog.execute("CALL federated.execute(%s)", [statement])
    catalog.execute(f"SELECT {SERVED} FROM generate_series(1, 40) AS g")  # type: ignore[arg-type]
    catalog.execute("CALL federated.execute('CREATE FEDERATED MODEL untrained IN WORKSPACE clinics')")
    catalog.execute(
        "INSERT INTO federated.ledger (workspace, run_id, model_name, round_number, step, node_name, noise_multiplier,"
        " sampling_rate, steps, epsilon, epsilon_basic, epsilon_tight)"
        " SELECT 'clinics', run_id, 'risk', 1, 'train', 'a', 1, 1, 1, 0.4, 0.4, 0.4 FROM federated.run"
    )
    catalog.execute(
        "CALL federated.execute(format($$ATTEST FEDERATED COMPLIANCE clinics FOR 'Risk analysis' UNTIL '%s' AS 'x'$$, now()::date + 1))"
    )
    # One that has ended is restored as it stands.
    catalog.execute(
        "UPDATE federated.attestation SET valid_until = valid_until - 90, attested_at = attested_at - interval '90 days'"
    )
    catalog.execute("SELECT count(*) FROM federated_record_compliance_check('clinics', 'HIPAA')")
    # What the run was started under is history: later changes of the workspace must not be read back into it.
    catalog.execute("UPDATE federated.workspace SET options = options || '{\"min_nodes\": 1}'")
    restored = cluster.create_database("template1")

    dump = run_program("pg_dump", "--format=custom", cluster.dsn(federated_database, user="an_admin"))
    run_program("pg_restore", "--exit-on-error", f"--dbname={cluster.dsn(restored)}", text=dump)

    with cluster.connect(restored) as copy:
        for query in (
            STATE,
            ATTESTED,
            FUNCTIONS,
            f"SELECT {CALL}",
            "SELECT * FROM federated.tag ORDER BY name",
            VERSIONS,
            EXPERIMENT,
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


@pytest.fixture
def new_cluster() -> Iterator[Cluster]:
    """Another server, with login roles and nothing else: no group roles, no language, no extension."""
    running = create_cluster(free_port())
    with running.connect() as connection:
        for login in ("heliosdb_daemon", "heliosdb_reader", "an_admin"):
            connection.execute(f"CREATE ROLE {login} LOGIN")  # type: ignore[arg-type]
    yield running
    remove_cluster(running)


async def test_a_federation_moves_to_a_new_cluster_predicts_the_same_and_trains_on(
    cluster: Cluster, new_cluster: Cluster, tmp_path: Path, federated_database: str, place: Path
) -> None:
    with make_world(cluster, tmp_path, federated_database) as old:
        create_workspace(old, min_nodes=2)
        for number, name in enumerate(("north", "south")):
            old.register(await old.add_site(name, seed=0.1 * (number + 1)))
        create_model(old, rounds=3, checkpoint_every=1)
        old.execute("START FEDERATED TRAINING risk")
        old.start_coordinator()
        assert (await old.finished())["status"] == "completed"
        old.execute(f"CHECKPOINT FEDERATED TRAINING risk TO '{place / 'last.bin'}'")
        kept = _checkpoints(old)
        assert len(kept) == 4
        old.end_processes()
        predicted = _predictions(old)
        names = (old.database, *(site.database for site in old.sites))
        for name in names:
            _holds_no_secret(run_program("pg_dump", cluster.dsn(name)), tmp_path)
        databases = {name: _move(cluster, new_cluster, name) for name in names}

    with new_cluster.connect() as connection:
        for login, role in (("heliosdb_daemon", "federated_daemon"), ("heliosdb_reader", "federated_reader")):
            connection.execute(f"GRANT {role} TO {login}")  # type: ignore[arg-type]
    new = World(new_cluster, old.federation, databases[old.database])
    try:
        assert _predictions(new) == predicted
        assert _checkpoints(new) == kept
        for site in old.sites:
            new.sites.append(replace(site, database=databases[site.database], process=None))
            await new.start_site(new.sites[-1])
        new.execute("START FEDERATED TRAINING risk")
        new.start_coordinator()
        assert (await new.finished(count=2))["status"] == "completed"
        versions = new.query("SELECT version, sha256, is_current FROM federated.version ORDER BY 1")
        assert [(v["version"], v["is_current"]) for v in versions] == [(1, False), (2, True)]
        # The model names its seed and the rows are the same: so are the parameters, to the bit.
        assert versions[0]["sha256"] == versions[1]["sha256"]
        assert _predictions(new) == predicted
        new.execute(f"CHECKPOINT FEDERATED TRAINING risk TO '{place / 'new.bin'}'")
        assert len(_checkpoints(new)) == 2 * len(kept)
    finally:
        new.clean_up()


def _holds_no_secret(dump: bytes, directory: Path) -> None:
    """No key of the coordinator or of a node is in the dump, in whatever spelling."""
    keys = [path for path in directory.rglob("*") if path.is_file() and "key" in path.name]
    assert len(keys) >= 3
    assert b"PRIVATE KEY" not in dump
    for path in keys:
        content = path.read_bytes()
        secrets = [line for line in content.splitlines() if not line.startswith(b"-----")] + [content]
        for secret in secrets:
            for spelled in (secret, secret.hex().encode(), b64encode(secret)):
                assert len(spelled) < 16 or spelled not in dump, path


def _checkpoints(world: World) -> list[dict[str, Any]]:
    return world.query(
        "SELECT path, round_number, sha256, size_bytes FROM federated_checkpoints('risk') ORDER BY 1, 2"
    )


def _predictions(world: World) -> list[float]:
    rows = world.query(
        "SELECT federated_predict('risk', jsonb_build_object('age', a, 'pressure', p)) AS prediction"
        " FROM generate_series(30, 70, 10) AS a, generate_series(90, 150, 20) AS p"
    )
    assert len({row["prediction"] for row in rows}) == 20
    return [row["prediction"] for row in rows]


def _move(old: Cluster, new: Cluster, database: str) -> str:
    """Dump a database as an ordinary administrator, and restore it on another server."""
    with old.connect(database) as connection:
        # Rows of the participant's own are not federated_admin's to read.
        connection.execute("GRANT pg_read_all_data TO an_admin")
        try:
            dump = run_program("pg_dump", "--format=custom", old.dsn(database, user="an_admin"))
        finally:
            connection.execute("REVOKE pg_read_all_data FROM an_admin")
    moved = new.create_database("template1")
    run_program("pg_restore", "--exit-on-error", f"--dbname={new.dsn(moved)}", text=dump)
    with old.connect(database) as before, new.connect(moved) as after:
        # Everybody's roles are there; what they are members of besides is not the extension's.
        mine, yours = (
            [line for line in describe(side) if not line.startswith("role ")] for side in (before, after)
        )
        assert not difference(mine, yours, "dumped", "restored")
    return moved


def test_every_table_and_sequence_of_the_catalog_is_dumped(catalog: psycopg.Connection) -> None:
    left_out = catalog.execute(
        "SELECT c.oid::regclass::text FROM pg_class AS c WHERE c.relnamespace = 'federated'::regnamespace"
        " AND c.relkind IN ('r', 'p', 'S') AND NOT EXISTS (SELECT FROM pg_extension AS e"
        " WHERE e.extname = %s AND c.oid = ANY (e.extconfig))",
        [EXTENSION],
    ).fetchall()
    assert left_out == [], "SELECT pg_catalog.pg_extension_config_dump('federated.…', '') is missing"


def test_a_dump_says_nothing_about_the_extensions_own_objects(
    cluster: Cluster, federated_database: str
) -> None:
    """Its owner and grants come with CREATE EXTENSION: a dump that named them would depend on who installed it."""
    text = run_program("pg_dump", "--schema-only", cluster.dsn(federated_database)).decode()
    expected = (
        "--",
        "\\",
        "SET ",
        "SELECT pg_catalog.set_config(",
        "CREATE EXTENSION ",
        "COMMENT ON EXTENSION ",
    )
    assert f"CREATE EXTENSION IF NOT EXISTS {EXTENSION} WITH SCHEMA public;" in text
    assert [line for line in text.splitlines() if line and not line.startswith(expected)] == []
