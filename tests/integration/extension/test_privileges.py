"""What nobody gains by going past the statements: neither a superuser's rights nor another policy."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from psycopg import errors

from tests.support.cluster import Cluster

EVIL = "$$ BEGIN ALTER ROLE heliosdb_daemon SUPERUSER; RETURN NULL; END $$"


@pytest.mark.parametrize(
    "attack",
    [
        "CREATE FUNCTION federated_model.mine() RETURNS float8 LANGUAGE sql RETURN 1",
        "CREATE VIEW federated_model.mine AS SELECT 1",
        f"CREATE OR REPLACE FUNCTION federated_model.risk(age float8 DEFAULT NULL, bmi float8 DEFAULT NULL)"
        f" RETURNS float8 LANGUAGE plpgsql AS {EVIL}",
        "ALTER FUNCTION federated_model.risk RENAME TO other",
        "ALTER FUNCTION federated_model.risk OWNER TO heliosdb_daemon",
        "ALTER FUNCTION federated_model.risk SECURITY DEFINER",
        "DROP FUNCTION federated_model.risk",
        f"CREATE OR REPLACE FUNCTION federated._keep_model_function() RETURNS trigger LANGUAGE plpgsql AS {EVIL}",
        "ALTER FUNCTION federated._keep_model_function() RESET ALL",
        "ALTER FUNCTION federated._keep_model_function() OWNER TO heliosdb_daemon",
        "ALTER FUNCTION federated._publish_function RESET ALL",
        "SELECT federated._create_untrained_function('mine', '[]')",
        "SELECT federated._drop_model_function('risk', 'cascade')",
        "SET ROLE federated_owner",
        "INSERT INTO federated.run (model_id) SELECT model_id FROM federated.model",
        "UPDATE federated.run SET policy = '{}'",
        "UPDATE federated.workspace SET options = '{}'",
        "DELETE FROM federated.audit",
    ],
)
@pytest.mark.changes_nothing
def test_a_daemon_can_put_no_code_of_its_own_into_the_catalog(
    daemon: psycopg.Connection, attack: str
) -> None:
    for role in ("heliosdb_daemon", "federated_daemon"):
        daemon.execute(f"SET ROLE {role}")
        with pytest.raises(errors.InsufficientPrivilege):
            daemon.execute(attack)


def test_whoever_owns_what_runs_with_more_rights_has_no_members(catalog: psycopg.Connection) -> None:
    assert catalog.execute(
        "SELECT r.rolcanlogin, r.rolsuper,"
        " EXISTS (SELECT FROM pg_auth_members AS m WHERE r.oid IN (m.roleid, m.member)) AS related"
        " FROM pg_roles AS r WHERE r.rolname = 'federated_owner'"
    ).fetchall() == [(False, False, False)]
    owners = catalog.execute(
        "SELECT DISTINCT p.proowner::regrole::text FROM pg_proc AS p WHERE p.pronamespace = 'federated_model'::regnamespace"
    ).fetchall()
    assert owners == [("federated_owner",)]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("GRANT federated_owner TO a_nobody", "REVOKE federated_owner FROM a_nobody"),
        ("GRANT federated_admin TO federated_owner", "REVOKE federated_admin FROM federated_owner"),
        ("ALTER ROLE federated_owner LOGIN", "ALTER ROLE federated_owner NOLOGIN"),
    ],
)
def test_the_extension_is_not_installed_where_that_role_is_within_reach(
    cluster: Cluster, catalog: psycopg.Connection, before: str, after: str
) -> None:
    with cluster.connect(cluster.create_database("template1")) as fresh:
        catalog.execute(before)  # type: ignore[arg-type]
        try:
            with pytest.raises(errors.ObjectNotInPrerequisiteState, match='role "federated_owner" must not'):
                fresh.execute("CREATE EXTENSION heliosdb_federated_learning")
        finally:
            catalog.execute(after)  # type: ignore[arg-type]
        fresh.execute("CREATE EXTENSION heliosdb_federated_learning")


@pytest.mark.parametrize(
    "attack",
    [
        "INSERT INTO federated.run (model_id, options, policy) SELECT model_id, options, '{\"min_nodes\": 1}'"
        " FROM federated.model",
        "INSERT INTO federated.run (model_id, policy) SELECT model_id, '{}' FROM federated.model",
        "INSERT INTO federated.run (model_id, options) SELECT model_id, '{}' FROM federated.model",
        "INSERT INTO federated.run (model_id, status) SELECT model_id, 'completed' FROM federated.model",
        "INSERT INTO federated.run (model_id, requested_by) SELECT model_id, 'postgres' FROM federated.model",
        "UPDATE federated.run SET policy = '{}'",
        "UPDATE federated.run SET status = 'completed'",
        "ALTER TABLE federated.run DISABLE TRIGGER snapshot_run",
        "UPDATE federated.node SET certificate = 'x'",
    ],
)
@pytest.mark.changes_nothing
def test_an_operator_has_no_say_in_the_policy_of_a_run(operator: psycopg.Connection, attack: str) -> None:
    with pytest.raises(errors.InsufficientPrivilege):
        operator.execute(attack)


def test_a_run_inserted_by_hand_has_the_workspaces_policy_and_the_models_options(
    catalog: psycopg.Connection, operator: psycopg.Connection
) -> None:
    operator.execute(
        "INSERT INTO federated.run (model_id, overrides) SELECT model_id, '{\"rounds\": 9}' FROM federated.model"
    )
    [(policy, options)] = catalog.execute("SELECT policy, options FROM federated.run").fetchall()
    assert (policy["workspace"], policy["privacy_budget"], policy["min_nodes"]) == ("clinics", 0.5, 3)
    assert (policy["delta"], policy["round_timeout"]) == (1e-5, 300)
    assert (options["rounds"], options["features"], options["local_epochs"]) == (9, ["age", "bmi"], 1)
    assert catalog.execute(
        "SELECT acting_role, details -> 'after' -> 'policy' -> 'privacy_budget' FROM federated.audit"
        " WHERE object_kind = 'run'"
    ).fetchall() == [("an_operator", 0.5)]


@pytest.mark.parametrize("name", ["privacy_budget", "features", "algorithm", "nonsense"])
@pytest.mark.changes_nothing
def test_a_run_overrides_training_options_only(operator: psycopg.Connection, name: str) -> None:
    with pytest.raises(errors.InvalidParameterValue, match=f'"{name}"'):
        operator.execute(
            "INSERT INTO federated.run (model_id, overrides) SELECT model_id, jsonb_build_object(%s::text, 1)"
            " FROM federated.model",
            [name],
        )


def test_an_admin_changes_a_nodes_options_and_the_pinned_certificate_goes(
    cluster: Cluster, federated_database: str, catalog: psycopg.Connection
) -> None:
    register = "REGISTER FEDERATED NODE 'a' IN WORKSPACE clinics WITH (endpoint = 'https://h:1')"
    catalog.execute("CALL federated.execute(%s)", [register])
    catalog.execute("UPDATE federated.node SET status = 'active', certificate = 'pinned'")
    with cluster.connect(federated_database, user="an_admin") as admin:
        for column in ("status = 'active'", "certificate = 'other'", "failure_reason = ''"):
            with pytest.raises(errors.InsufficientPrivilege):
                admin.execute(f"UPDATE federated.node SET {column}")  # type: ignore[arg-type]
        admin.execute(
            "CALL federated.execute($$ALTER FEDERATED NODE 'a' IN WORKSPACE clinics SET (contact = 'x')$$)"
        )
    assert catalog.execute("SELECT status::text, certificate FROM federated.node").fetchall() == [
        ("pending", None)
    ]
    changes = catalog.execute(
        "SELECT details -> 'before' ->> 'certificate', details -> 'after' ->> 'certificate' FROM federated.audit"
        " WHERE object_kind = 'node' ORDER BY recorded_at"
    ).fetchall()
    assert changes == [(None, None), (None, "pinned"), ("pinned", None)]


def test_one_certificate_is_one_node_of_a_workspace(catalog: psycopg.Connection) -> None:
    for name in "ab":
        register = (
            f"REGISTER FEDERATED NODE '{name}' IN WORKSPACE clinics WITH (endpoint = 'https://{name}:1')"
        )
        catalog.execute("CALL federated.execute(%s)", [register])
    certificate = "x" * 20_000
    catalog.execute("UPDATE federated.node SET certificate = %s WHERE name = 'a'", [certificate])
    with pytest.raises(errors.UniqueViolation) as caught:
        catalog.execute("UPDATE federated.node SET certificate = %s WHERE name = 'b'", [certificate])
    assert caught.value.diag.constraint_name == "node_one_certificate"


@pytest.mark.parametrize(
    "drop",
    ["CALL federated.execute('DROP FEDERATED MODEL risk CASCADE')", "DELETE FROM federated.model"],
)
def test_a_drop_that_waits_for_a_start_does_not_delete_the_run(
    cluster: Cluster, federated_database: str, catalog: psycopg.Connection, drop: str
) -> None:
    def start(session: psycopg.Connection) -> None:
        session.execute("CALL federated.execute('START FEDERATED TRAINING risk')")

    _race(cluster, federated_database, catalog, start, drop)
    assert catalog.execute("SELECT status::text FROM federated.run").fetchall() == [("queued",)]
    with pytest.raises(errors.ObjectInUse, match='federated model "risk" is in training'):
        catalog.execute("DELETE FROM federated.model")


def _race(
    cluster: Cluster,
    database: str,
    catalog: psycopg.Connection,
    first_does: Callable[[psycopg.Connection], None],
    second_does: str,
) -> None:
    """One transaction acts and stays open until the second, which is then refused, waits for it."""
    with (
        cluster.connect(database, user="an_operator") as first,
        cluster.connect(database, user="an_operator") as second,
    ):
        first.autocommit = False
        first_does(first)
        pid = second.info.backend_pid
        with ThreadPoolExecutor(1) as pool:
            loser = pool.submit(second.execute, second_does)  # type: ignore[arg-type]
            waits = "SELECT FROM pg_locks WHERE pid = %s AND NOT granted"
            while not catalog.execute(waits, [pid]).fetchall():
                assert not loser.done(), loser.exception()
            first.commit()
            with pytest.raises(errors.ObjectInUse):
                loser.result(timeout=300)


def test_a_dropped_workspace_is_not_refunded(catalog: psycopg.Connection) -> None:
    catalog.execute(
        "INSERT INTO federated.ledger (workspace, run_id, model_name, round_number, step, node_name, noise_multiplier,"
        " sampling_rate, steps, epsilon, epsilon_basic, epsilon_tight)"
        " VALUES ('clinics', gen_random_uuid(), 'risk', 1, 'train', 'a', 1, 1, 1, 0.4, 0.4, 0.4)"
    )
    for statement in (
        "DROP FEDERATED WORKSPACE clinics CASCADE",
        "CREATE FEDERATED WORKSPACE clinics WITH (privacy_budget = 0.3)",
        "CREATE FEDERATED MODEL risk WITH (algorithm = 'logistic_regression', features = ['a'], target = 'b')",
    ):
        catalog.execute("CALL federated.execute(%s)", [statement])
    assert catalog.execute("SELECT * FROM federated_privacy_budget('clinics')").fetchall() == [(0.3, 0.4, 0)]
    with pytest.raises(psycopg.Error, match="privacy budget") as caught:
        catalog.execute("CALL federated.execute('START FEDERATED TRAINING risk')")
    assert caught.value.sqlstate == "UF001"
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="cannot be reset"):
        catalog.execute("UPDATE federated.workspace SET options = '{}'")
    catalog.execute("DELETE FROM federated.ledger")
    catalog.execute("UPDATE federated.workspace SET options = '{}'")
    assert catalog.execute("SELECT * FROM federated_privacy_budget('clinics')").fetchall() == [(None,) * 3]
