"""Owners: who may change a workspace, its nodes and its models, by statement and past the statements."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from psycopg import errors

from tests.integration.extension.versions_support import execute, finish_run, value
from tests.support.cluster import Cluster

NODE = "REGISTER FEDERATED NODE 'a' IN WORKSPACE clinics WITH (endpoint = 'https://h:1')"
CHARGE = (
    "INSERT INTO federated.ledger (workspace, run_id, model_name, round_number, step, node_name, noise_multiplier,"
    " sampling_rate, steps, epsilon, epsilon_basic, epsilon_tight)"
    " VALUES ('clinics', gen_random_uuid(), 'risk', 1, 'train', 'a', 1, 1, 1, 0.4, 0.4, 0.4)"
)


@pytest.fixture
def roles(cluster: Cluster) -> Iterator[None]:
    """Another admin and another operator, and a group that they are members of."""
    with cluster.connect() as connection:
        connection.execute("CREATE ROLE a_group")
        connection.execute("CREATE ROLE other_admin LOGIN IN ROLE federated_admin, a_group")
        connection.execute("CREATE ROLE other_operator LOGIN IN ROLE federated_operator, a_group")
        yield
        for role in ("other_admin", "other_operator", "a_group"):
            connection.execute(f"DROP ROLE {role}")  # type: ignore[arg-type]


@pytest.fixture
def others(
    cluster: Cluster, federated_database: str, catalog: psycopg.Connection, roles: None
) -> Iterator[tuple[psycopg.Connection, psycopg.Connection]]:
    """Connections of an admin and an operator who own nothing."""
    with (
        cluster.connect(federated_database, user="other_admin") as admin,
        cluster.connect(federated_database, user="other_operator") as operator,
    ):
        yield admin, operator


WORKSPACE_CHANGES = (
    "ALTER FEDERATED WORKSPACE clinics SET (min_nodes = 2)",
    "ALTER FEDERATED WORKSPACE clinics RENAME TO x",
    "ALTER FEDERATED WORKSPACE clinics OWNER TO other_admin",
    "DROP FEDERATED WORKSPACE clinics CASCADE",
    "REGISTER FEDERATED NODE 'b' IN WORKSPACE clinics WITH (endpoint = 'https://h:2')",
    "ALTER FEDERATED NODE 'a' IN WORKSPACE clinics SET (contact = 'x')",
    "UNREGISTER FEDERATED NODE 'a' FROM WORKSPACE clinics",
)
WORKSPACE_ATTACKS = (
    "UPDATE federated.workspace SET options = '{}'",
    "UPDATE federated.workspace SET name = 'x'",
    "UPDATE federated.workspace SET owner = 'other_admin'",
    "DELETE FROM federated.workspace",
    "INSERT INTO federated.node (workspace_id, name, options) SELECT workspace_id, 'b', '{}' FROM federated.workspace",
    "UPDATE federated.node SET options = '{}'",
    "DELETE FROM federated.node",
)
MODEL_CHANGES = (
    "ALTER FEDERATED MODEL risk SET (rounds = 2)",
    "ALTER FEDERATED MODEL risk RENAME TO x",
    "ALTER FEDERATED MODEL risk OWNER TO other_operator",
    "DROP FEDERATED MODEL risk CASCADE",
    "START FEDERATED TRAINING risk",
    "STOP FEDERATED TRAINING risk",
    "TAG FEDERATED MODEL risk AS 'x'",
    "ROLLBACK FEDERATED MODEL risk TO VERSION '1'",
    "RESUME FEDERATED TRAINING risk",
)
MODEL_ATTACKS = (
    "UPDATE federated.model SET options = '{}'",
    "UPDATE federated.model SET name = 'x'",
    "UPDATE federated.model SET owner = 'other_operator'",
    "DELETE FROM federated.model",
    "INSERT INTO federated.run (model_id) SELECT model_id FROM federated.model",
    "UPDATE federated.run SET stop_requested = true",
    "INSERT INTO federated.tag (model_id, name, version) SELECT model_id, 'x', 1 FROM federated.model",
    "DELETE FROM federated.tag",
    "UPDATE federated.version SET is_current = true WHERE version = 1",
)


def test_only_its_owners_change_a_workspace_and_its_nodes(
    catalog: psycopg.Connection, others: tuple[psycopg.Connection, psycopg.Connection]
) -> None:
    execute(catalog, NODE)
    before = value(catalog, "count(*) FROM federated.audit")
    for statement in WORKSPACE_CHANGES:
        with pytest.raises(errors.InsufficientPrivilege) as caught:
            execute(others[0], statement)
        assert caught.value.diag.message_primary == 'must be owner of federated workspace "clinics"', (
            statement
        )
    for attack in WORKSPACE_ATTACKS:
        with pytest.raises(
            errors.InsufficientPrivilege, match='must be owner of federated workspace "clinics"'
        ):
            others[0].execute(attack)  # type: ignore[arg-type]
    assert value(catalog, "count(*) FROM federated.audit") == before


def test_only_its_owners_change_and_train_a_model(
    catalog: psycopg.Connection,
    daemon: psycopg.Connection,
    operator: psycopg.Connection,
    others: tuple[psycopg.Connection, psycopg.Connection],
) -> None:
    finish_run(catalog, daemon)
    finish_run(catalog, daemon)
    execute(catalog, "TAG FEDERATED MODEL risk AS 'mine'")
    before = value(catalog, "count(*) FROM federated.audit")
    for session in others:
        for statement in MODEL_CHANGES:
            with pytest.raises(errors.InsufficientPrivilege) as caught:
                execute(session, statement)
            assert caught.value.diag.message_primary == 'must be owner of federated model "risk"', statement
        for attack in MODEL_ATTACKS:
            with pytest.raises(errors.InsufficientPrivilege, match='must be owner of federated model "risk"'):
                session.execute(attack)  # type: ignore[arg-type]
    assert value(catalog, "count(*) FROM federated.audit") == before


def test_the_owner_of_a_workspace_may_change_every_model_in_it_and_a_group_may_own(
    cluster: Cluster,
    federated_database: str,
    catalog: psycopg.Connection,
    others: tuple[psycopg.Connection, psycopg.Connection],
) -> None:
    other_admin, other_operator = others
    with cluster.connect(federated_database, user="an_admin") as admin:
        execute(admin, "ALTER FEDERATED MODEL risk SET (rounds = 2)", NODE)
    execute(catalog, "ALTER FEDERATED WORKSPACE clinics OWNER TO a_group")
    execute(
        other_admin, "ALTER FEDERATED WORKSPACE clinics SET (min_nodes = 2)", "START FEDERATED TRAINING risk"
    )
    # A workspace's owner role gives rights over its models to operators, over itself to admins only.
    execute(other_operator, "STOP FEDERATED TRAINING risk")
    with pytest.raises(
        errors.InsufficientPrivilege, match="permission denied to alter a federated workspace"
    ):
        execute(other_operator, "ALTER FEDERATED WORKSPACE clinics SET (min_nodes = 2)")
    execute(
        other_admin,
        "ALTER FEDERATED WORKSPACE clinics OWNER TO other_admin",
        "DROP FEDERATED WORKSPACE clinics CASCADE",
    )
    assert value(catalog, "count(*) FROM federated.node") == 0


def test_ownership_goes_only_to_a_role_of_the_callers(
    cluster: Cluster,
    federated_database: str,
    catalog: psycopg.Connection,
    operator: psycopg.Connection,
    roles: None,
) -> None:
    with cluster.connect(federated_database, user="an_admin") as admin:
        for session, kind, name in ((admin, "WORKSPACE", "clinics"), (operator, "MODEL", "risk")):
            with pytest.raises(errors.UndefinedObject, match='role "nobody at all" does not exist'):
                execute(session, f'ALTER FEDERATED {kind} {name} OWNER TO "nobody at all"')
            with pytest.raises(errors.InsufficientPrivilege, match='must be able to SET ROLE "a_group"'):
                execute(session, f"ALTER FEDERATED {kind} {name} OWNER TO a_group")
            execute(session, f"ALTER FEDERATED {kind} {name} OWNER TO {session.info.user}")
            with pytest.raises(errors.UndefinedObject, match="does not exist"):
                execute(session, f"ALTER FEDERATED {kind} nothing OWNER TO a_group")
    catalog.execute("UPDATE federated.model SET owner = 'a_group'")
    with pytest.raises(errors.InsufficientPrivilege, match="must be owner"):
        execute(operator, "ALTER FEDERATED MODEL risk SET (rounds = 2)")


def test_a_model_whose_owner_was_dropped_is_its_workspaces_and_the_superusers(
    cluster: Cluster, federated_database: str, catalog: psycopg.Connection, operator: psycopg.Connection
) -> None:
    catalog.execute("ALTER TABLE federated.model DISABLE TRIGGER USER")
    catalog.execute("UPDATE federated.model SET owner = 'gone'")
    catalog.execute("ALTER TABLE federated.model ENABLE TRIGGER USER")
    with pytest.raises(errors.InsufficientPrivilege, match="must be owner"):
        execute(operator, "ALTER FEDERATED MODEL risk SET (rounds = 2)")
    with cluster.connect(federated_database, user="an_admin") as admin:
        execute(admin, "ALTER FEDERATED MODEL risk SET (rounds = 2)")
    execute(catalog, "ALTER FEDERATED MODEL risk OWNER TO an_operator")
    execute(operator, "ALTER FEDERATED MODEL risk SET (rounds = 3)")


def test_a_workspace_is_renamed_while_nobody_knows_it_by_its_name(
    catalog: psycopg.Connection, cluster: Cluster, federated_database: str
) -> None:
    rename = "ALTER FEDERATED WORKSPACE clinics RENAME TO hospitals"
    with cluster.connect(federated_database, user="an_admin") as admin:
        for new, sqlstate in (("clinics", "42710"), ('"%s"' % ("x" * 64), "42602")):
            with pytest.raises(psycopg.Error) as caught:
                execute(admin, f"ALTER FEDERATED WORKSPACE clinics RENAME TO {new}")
            assert caught.value.sqlstate == sqlstate
        execute(admin, NODE)
        with pytest.raises(errors.ObjectNotInPrerequisiteState, match="cannot be renamed") as state:
            execute(admin, rename)
        assert "Nodes are registered" in (state.value.diag.message_detail or "")
        execute(admin, "UNREGISTER FEDERATED NODE 'a' FROM WORKSPACE clinics")
        execute(catalog, "START FEDERATED TRAINING risk")
        with pytest.raises(errors.ObjectInUse, match='workspace "clinics" has a model in training'):
            execute(admin, rename)
        execute(catalog, "STOP FEDERATED TRAINING risk")
        execute(admin, rename, "START FEDERATED TRAINING risk")
        assert (
            value(catalog, "policy ->> 'workspace' FROM federated.run WHERE status = 'queued'") == "hospitals"
        )


def test_what_was_charged_stays_with_the_name(catalog: psycopg.Connection) -> None:
    catalog.execute(CHARGE)
    for rename in (
        "CALL federated.execute('ALTER FEDERATED WORKSPACE clinics RENAME TO x')",
        "UPDATE federated.workspace SET name = 'x'",
    ):
        with pytest.raises(errors.ObjectNotInPrerequisiteState, match="cannot be renamed") as caught:
            catalog.execute(rename)  # type: ignore[arg-type]
        assert "Its ledger has entries" in (caught.value.diag.message_detail or "")
    # A name that has spent keeps what it has spent, whichever workspace takes it.
    execute(catalog, "DROP FEDERATED WORKSPACE clinics CASCADE", "CREATE FEDERATED WORKSPACE x WITH (privacy_budget = 1)",
            "ALTER FEDERATED WORKSPACE x RENAME TO clinics")  # fmt: skip
    assert value(catalog, "remaining_epsilon FROM federated_privacy_budget('clinics')") == pytest.approx(0.6)


@pytest.mark.parametrize("isolation", ["READ COMMITTED", "REPEATABLE READ"])
def test_a_rename_waits_for_a_start_and_is_then_refused(
    cluster: Cluster,
    federated_database: str,
    catalog: psycopg.Connection,
    operator: psycopg.Connection,
    isolation: str,
) -> None:
    operator.execute(f"SET default_transaction_isolation = '{isolation}'")  # type: ignore[arg-type]
    with cluster.connect(federated_database, user="an_admin") as admin, ThreadPoolExecutor(1) as pool:
        with operator.transaction():
            operator.execute("INSERT INTO federated.run (model_id) SELECT model_id FROM federated.model")
            loser = pool.submit(execute, admin, "ALTER FEDERATED WORKSPACE clinics RENAME TO x")
            while not catalog.execute(
                "SELECT FROM pg_locks WHERE pid = %s AND NOT granted", [admin.info.backend_pid]
            ).fetchall():
                assert not loser.done(), loser.exception()
        with pytest.raises(errors.ObjectInUse):
            loser.result(timeout=300)


def test_a_start_that_waits_for_a_rename_runs_under_the_new_name(
    cluster: Cluster, federated_database: str, catalog: psycopg.Connection, operator: psycopg.Connection
) -> None:
    with cluster.connect(federated_database, user="an_admin") as admin, ThreadPoolExecutor(1) as pool:
        with admin.transaction():
            execute(admin, "ALTER FEDERATED WORKSPACE clinics RENAME TO x")
            start = pool.submit(execute, operator, "START FEDERATED TRAINING risk")
            while not catalog.execute(
                "SELECT FROM pg_locks WHERE pid = %s AND NOT granted", [operator.info.backend_pid]
            ).fetchall():
                assert not start.done(), start.exception()
        start.result(timeout=300)
    assert value(catalog, "policy ->> 'workspace' FROM federated.run") == "x"


def test_the_coordinator_writes_what_it_must_and_owns_nothing(
    catalog: psycopg.Connection, daemon: psycopg.Connection
) -> None:
    execute(catalog, NODE, "START FEDERATED TRAINING risk")
    daemon.execute("SET ROLE federated_daemon")
    daemon.execute("UPDATE federated.node SET status = 'active', certificate = 'c', last_seen = now()")
    daemon.execute("UPDATE federated.run SET status = 'running', started_at = now()")
    daemon.execute("INSERT INTO federated.round (run_id, round_number) SELECT run_id, 0 FROM federated.run")
    daemon.execute("UPDATE federated.run SET status = 'completed', finished_at = now()")
    with pytest.raises(errors.InsufficientPrivilege):
        daemon.execute("UPDATE federated.run SET stop_requested = true")
