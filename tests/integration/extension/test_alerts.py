"""CREATE and DROP FEDERATED ALERT in a database: rows, rights, the audit log, what is shown, and what goes with what."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from psycopg import errors

from tests.integration.extension.versions_support import execute, value
from tests.support.cluster import Cluster

ALERT = "CREATE FEDERATED ALERT low ON WORKSPACE clinics WHEN remaining_epsilon < 0.1 AND active_nodes <> 3 NOTIFY '{}'"
HOOK = "https://example.com:8443/in/secret-path?token=secret"


@pytest.fixture
def admin(
    cluster: Cluster, federated_database: str, catalog: psycopg.Connection
) -> Iterator[psycopg.Connection]:
    """A connection of the workspace's owner."""
    with cluster.connect(federated_database, user="an_admin") as connection:
        yield connection


def test_an_alert_is_shown_armed_and_without_what_may_be_a_secret_of_its_target(
    cluster: Cluster, federated_database: str, admin: psycopg.Connection
) -> None:
    execute(admin, ALERT.format(HOOK))

    with cluster.connect(federated_database, user="an_analyst") as analyst:
        row = analyst.execute(
            "SELECT workspace_name, alert_name, kind, conditions, target, status, fired_at, failure FROM federated_alerts"
        ).fetchall()
        metrics = analyst.execute(
            "SELECT value FROM federated_alert_metrics WHERE metric = 'remaining_epsilon'"
        ).fetchall()
        for table in ("alert", "firing", "notifier"):
            with pytest.raises(errors.InsufficientPrivilege):
                analyst.execute(f"SELECT * FROM federated.{table}")  # type: ignore[arg-type]
    assert row == [
        (
            "clinics",
            "low",
            "alert",
            "remaining_epsilon < 0.1 AND active_nodes <> 3",
            "https://example.com:8443/...",
            "armed",
            None,
            None,
        )
    ]
    assert metrics == [(0.5,)]
    assert admin.execute("SELECT owner, target FROM federated.alert").fetchall() == [("an_admin", HOOK)]


@pytest.mark.parametrize(
    ("target", "shown"),
    [
        ("https://a.example", "https://a.example"), ("https://a.example/", "https://a.example/..."), ("https://a.example?x=1", "https://a.example/..."),
        ("https://[::1]:1/x", "https://[::1]:1/..."), ("a@example.com", "a@example.com"), ("pg:https://x/y", "pg:https://x/y"),
    ],
)  # fmt: skip
@pytest.mark.changes_nothing
def test_what_is_shown_of_a_target_has_no_path(catalog: psycopg.Connection, target: str, shown: str) -> None:
    assert catalog.execute("SELECT federated._shown_target(%s)", [target]).fetchall() == [(shown,)]


def test_making_and_dropping_are_in_the_audit_log_without_the_target(
    catalog: psycopg.Connection, admin: psycopg.Connection
) -> None:
    execute(admin, ALERT.format(HOOK), "DROP FEDERATED ALERT low")

    entries = catalog.execute(
        "SELECT action, workspace, acting_role, details::text FROM federated.audit WHERE object_kind = 'alert' ORDER BY chain_position"
    ).fetchall()
    assert [entry[:3] for entry in entries] == [
        ("insert", "clinics", "an_admin"),
        ("delete", "clinics", "an_admin"),
    ]
    assert all('"metric": "remaining_epsilon"' in entry[3] for entry in entries)
    assert not any("secret" in entry[3] for entry in entries)
    assert value(catalog, "is_intact FROM federated_audit_verify('clinics')")


def test_alerts_go_with_their_workspace_and_what_they_fired_stays(
    catalog: psycopg.Connection, daemon: psycopg.Connection, admin: psycopg.Connection
) -> None:
    execute(admin, "CREATE FEDERATED WORKSPACE other", ALERT.format("pg:c").replace("clinics", "other"))
    daemon.execute(
        "INSERT INTO federated.firing (kind, alert_id, workspace, name, conditions, target, next_attempt) "
        "SELECT 'alert', alert_id, 'other', name, conditions, target, now() FROM federated.alert"
    )
    execute(admin, "DROP FEDERATED WORKSPACE other")

    row = catalog.execute(
        "SELECT workspace_name, alert_name, status, failure, next_attempt FROM federated_alerts"
    ).fetchall()
    assert row == [("other", "low", "dropped", "the alert was dropped", None)]
    actions = catalog.execute(
        "SELECT action, workspace FROM federated.audit WHERE object_kind = 'alert' ORDER BY chain_position"
    ).fetchall()
    assert actions == [("insert", "other"), ("delete", "other")]


def test_only_the_workspaces_owner_makes_and_drops_its_alerts_whichever_way(
    cluster: Cluster, federated_database: str, catalog: psycopg.Connection, admin: psycopg.Connection
) -> None:
    execute(admin, ALERT.format("pg:c"))
    catalog.execute("CREATE ROLE another_admin LOGIN IN ROLE federated_admin")
    try:
        with cluster.connect(federated_database, user="another_admin") as other:
            for statement in (ALERT.format("pg:c").replace("low", "mine"), "DROP FEDERATED ALERT low"):
                with pytest.raises(errors.InsufficientPrivilege, match="must be owner of federated"):
                    execute(other, statement)
            for query in (
                "DELETE FROM federated.alert",
                "INSERT INTO federated.alert (workspace_id, name, conditions, target) SELECT workspace_id, 'x', '[]', 'pg:c' FROM federated.workspace",
                "UPDATE federated.alert SET is_raised = true", "UPDATE federated.alert SET target = 'pg:d'",
            ):  # fmt: skip
                with pytest.raises(errors.InsufficientPrivilege):
                    other.execute(query)
    finally:
        catalog.execute("DROP ROLE another_admin")
    assert value(catalog, "count(*) FROM federated.alert") == 1


def test_the_same_name_in_two_workspaces_is_two_alerts(
    catalog: psycopg.Connection, admin: psycopg.Connection
) -> None:
    execute(admin, "CREATE FEDERATED WORKSPACE other")
    execute(admin, ALERT.format("pg:c"), ALERT.format("pg:c").replace("clinics", "other"))
    with pytest.raises(errors.DuplicateObject, match='federated alert "low" already exists'):
        execute(admin, ALERT.format("pg:d"))
    execute(admin, ALERT.format("pg:d").replace("ALERT", "ALERT IF NOT EXISTS"))

    with pytest.raises(errors.InvalidParameterValue, match='federated alert "low" is not unique'):
        execute(admin, "DROP FEDERATED ALERT low")
    execute(admin, "DROP FEDERATED ALERT low ON WORKSPACE other", "DROP FEDERATED ALERT low")
    with pytest.raises(errors.UndefinedObject, match='federated alert "low" does not exist'):
        execute(admin, "DROP FEDERATED ALERT low")
    execute(admin, "DROP FEDERATED ALERT IF EXISTS low ON WORKSPACE clinics")
    assert value(catalog, "count(*) FROM federated.alert") == 0
