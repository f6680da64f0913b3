"""RESET, and what ALTER may change of a dataset: defaults hold again, what was spent and shared stays as it is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import errors

from tests.integration.extension.versions_support import execute, notices_of, value
from tests.support.cluster import Cluster

Session = psycopg.Connection[Any]

SPEND = (
    "INSERT INTO federated.ledger (workspace, run_id, model_name, round_number, step, node_name, noise_multiplier,"
    " sampling_rate, steps, epsilon, epsilon_basic, epsilon_tight)"
    " VALUES ('clinics', %s, 'risk', 1, 'train', 'a', 5, 1, 1, 0.2, 0.2, 0.2)"
)
NODE = (
    "REGISTER FEDERATED NODE 'a' IN WORKSPACE clinics"
    " WITH (endpoint = 'https://a:1', contact = 'dba', data_residency = 'EU')"
)


@pytest.fixture
def admin(cluster: Cluster, federated_database: str, catalog: Session) -> Iterator[Session]:
    """An admin's connection, with a table of their own."""
    catalog.execute("GRANT CREATE ON SCHEMA public TO an_admin")
    with cluster.connect(federated_database, user="an_admin") as connection:
        connection.execute("CREATE TABLE patients (patient text, age float8, ill boolean)")
        yield connection


def options(session: Session, table: str) -> Any:
    return value(session, f"options FROM federated.{table}")


def test_reset_gives_options_their_defaults_again(
    catalog: Session, admin: Session, operator: Session
) -> None:
    execute(admin, NODE, "ALTER FEDERATED WORKSPACE clinics SET (round_timeout = 9, data_residency = 'EU')")

    execute(admin, "ALTER FEDERATED WORKSPACE clinics RESET (round_timeout, min_nodes, tls_version)")
    execute(admin, "ALTER FEDERATED NODE 'a' IN WORKSPACE clinics RESET (contact, max_memory_gb)")
    execute(operator, "ALTER FEDERATED MODEL risk RESET (rounds, trees)")

    assert options(catalog, "workspace") == {"privacy_budget": 0.5, "data_residency": "EU"}
    assert options(catalog, "node") == {"endpoint": "https://a:1", "data_residency": "EU"}
    assert "rounds" not in options(catalog, "model")
    execute(operator, "START FEDERATED TRAINING risk")
    assert value(catalog, "options ->> 'rounds' FROM federated.run") == "50"
    assert value(catalog, "policy ->> 'round_timeout' FROM federated.run") == "300"
    with pytest.raises(errors.InvalidParameterValue, match="not within the data residency"):
        execute(admin, "ALTER FEDERATED NODE 'a' IN WORKSPACE clinics RESET (data_residency)")


def test_a_reset_is_audited_and_is_undone_with_its_transaction(catalog: Session, operator: Session) -> None:
    before = options(catalog, "model")
    with operator.transaction(force_rollback=True):
        execute(operator, "ALTER FEDERATED MODEL risk RESET (rounds)")
    assert options(catalog, "model") == before

    execute(operator, "ALTER FEDERATED MODEL risk RESET (rounds)")
    [(action, who, details)] = catalog.execute(
        "SELECT action, session_role, details FROM federated_audit_log WHERE object_kind = 'model'"
        " ORDER BY chain_position DESC LIMIT 1"
    ).fetchall()
    assert (action, who) == ("update", "an_operator")
    assert details["before"]["options"]["rounds"] == 5
    assert "rounds" not in details["after"]["options"]


def test_only_the_owner_resets(catalog: Session, cluster: Cluster, federated_database: str) -> None:
    catalog.execute("UPDATE federated.workspace SET owner = 'postgres'")
    catalog.execute("UPDATE federated.model SET owner = 'postgres'")
    for user, statement in (
        ("an_admin", "ALTER FEDERATED WORKSPACE clinics RESET (min_nodes)"),
        ("an_operator", "ALTER FEDERATED MODEL risk RESET (rounds)"),
        ("an_operator", "ALTER FEDERATED WORKSPACE clinics RESET (min_nodes)"),
        ("an_operator", "ALTER FEDERATED DATASET elders RESET (min_rows)"),
    ):
        with (
            cluster.connect(federated_database, user=user) as session,
            pytest.raises(errors.InsufficientPrivilege),
        ):
            execute(session, statement)


def test_a_budget_that_was_spent_from_stays(catalog: Session, admin: Session, daemon: Session) -> None:
    daemon.execute(SPEND, [uuid4()])
    for change in (
        "CALL federated.execute('ALTER FEDERATED WORKSPACE clinics RESET (privacy_budget)')",
        "UPDATE federated.workspace SET options = options - 'privacy_budget'",
    ):
        with pytest.raises(errors.ObjectNotInPrerequisiteState) as caught:
            admin.execute(change)
        told = caught.value.diag
        assert told.message_primary == 'the privacy_budget of federated workspace "clinics" cannot be reset'
        assert told.message_detail == "Epsilon 0.200000 of it is consumed."
    execute(admin, "ALTER FEDERATED WORKSPACE clinics SET (privacy_budget = 2)")
    assert options(catalog, "workspace")["privacy_budget"] == 2


def test_a_spent_budget_stays_is_said_before_what_else_needs_it(admin: Session, daemon: Session) -> None:
    execute(admin, "ALTER FEDERATED WORKSPACE clinics SET (noise_mechanism = 'laplacian')")
    daemon.execute(SPEND, [uuid4()])
    with pytest.raises(errors.ObjectNotInPrerequisiteState, match="cannot be reset"):
        execute(admin, "ALTER FEDERATED WORKSPACE clinics RESET (privacy_budget)")


def test_what_each_nodes_delta_follows_from_stays_once_somebody_spent(
    admin: Session, daemon: Session
) -> None:
    """Where subjects may be in several nodes: a node that takes part no more keeps its figure at its delta."""
    overlapping = "ALTER FEDERATED WORKSPACE clinics SET (subjects_overlap = true)"
    execute(admin, overlapping, "ALTER FEDERATED WORKSPACE clinics RESET (subjects_overlap)",
            "ALTER FEDERATED WORKSPACE clinics SET (max_nodes = 20, delta = 1e-6)")  # fmt: skip
    daemon.execute(SPEND, [uuid4()])
    refuses(admin, overlapping, "subjects_overlap cannot be changed")
    # Without overlap each node's epsilon is at the workspace's delta, whatever max_nodes is.
    execute(admin, "ALTER FEDERATED WORKSPACE clinics SET (max_nodes = 10)")


def test_the_delta_of_overlapping_subjects_stays_once_somebody_spent(
    catalog: Session, admin: Session, daemon: Session
) -> None:
    execute(admin, "ALTER FEDERATED WORKSPACE clinics SET (subjects_overlap = true, max_nodes = 10)")
    daemon.execute(SPEND, [uuid4()])
    for change, message in (
        ("RESET (subjects_overlap)", "subjects_overlap cannot be changed"),
        ("SET (subjects_overlap = false)", "subjects_overlap cannot be changed"),
        ("SET (max_nodes = 11)", "max_nodes cannot be changed"),
        ("RESET (max_nodes)", "max_nodes cannot be changed"),
        ("SET (delta = 1e-4, max_nodes = 99)", "max_nodes and delta cannot be changed"),
        ("SET (delta = 1e-7)", "delta cannot be changed"),
    ):
        refuses(admin, f"ALTER FEDERATED WORKSPACE clinics {change}", message)
    kept = options(catalog, "workspace")
    execute(admin, "ALTER FEDERATED WORKSPACE clinics SET (subjects_overlap = true, max_nodes = 10, delta = 1e-5)",
            "ALTER FEDERATED WORKSPACE clinics SET (round_timeout = 9)")  # fmt: skip
    assert kept.items() <= options(catalog, "workspace").items()


def test_a_run_under_way_keeps_the_delta_of_overlapping_subjects(admin: Session, operator: Session) -> None:
    """It spends at the delta that it was started with."""
    execute(admin, NODE)
    execute(operator, "START FEDERATED TRAINING risk")
    overlapping = "ALTER FEDERATED WORKSPACE clinics SET (subjects_overlap = true)"
    refuses(admin, overlapping, "subjects_overlap cannot be changed")
    execute(operator, "STOP FEDERATED TRAINING risk")
    execute(admin, overlapping)


def test_no_workspace_of_a_name_that_has_spent_is_made_for_overlapping_subjects(
    admin: Session, daemon: Session
) -> None:
    daemon.execute(SPEND, [uuid4()])
    execute(admin, "DROP FEDERATED WORKSPACE clinics CASCADE")
    made = "CREATE FEDERATED WORKSPACE {} WITH (privacy_budget = 0.5, subjects_overlap = true)"
    refuses(
        admin, made.format("clinics"), 'subjects_overlap is not possible for federated workspace "clinics"'
    )
    execute(admin, made.format("others"), "CREATE FEDERATED WORKSPACE clinics WITH (privacy_budget = 0.5)")


def refuses(session: Session, statement: str, message: str) -> None:
    """Check that a statement is refused for the state of things, with all that a refusal says."""
    with pytest.raises(errors.ObjectNotInPrerequisiteState) as caught:
        execute(session, statement)
    told = caught.value.diag
    assert (told.message_primary or "").startswith(message)
    assert "delta / max_nodes" in (told.message_detail or "")
    assert "another name" in (told.message_hint or "")


def test_a_budget_that_nothing_was_spent_from_goes(catalog: Session, admin: Session) -> None:
    execute(admin, "ALTER FEDERATED WORKSPACE clinics RESET (privacy_budget)")
    assert options(catalog, "workspace") == {"min_nodes": 3}


def test_start_tells_of_budgets_that_stand_in_the_way(
    catalog: Session, admin: Session, operator: Session, daemon: Session
) -> None:
    """The same node, by its endpoint, has answered in another workspace; and here nearly all is spent."""
    execute(admin, NODE, "CREATE FEDERATED WORKSPACE plain",
            "REGISTER FEDERATED NODE 'same' IN WORKSPACE plain WITH (endpoint = 'https://a:1')",
            "REGISTER FEDERATED NODE 'other' IN WORKSPACE plain WITH (endpoint = 'https://b:1')",
            "CREATE FEDERATED MODEL open IN WORKSPACE plain WITH (algorithm = 'logistic_regression',"
            " features = ['age'], target = 'ill')")  # fmt: skip
    run = uuid4()
    daemon.execute(SPEND, [run])
    daemon.execute("UPDATE federated.ledger SET state = 'charged' WHERE run_id = %s", [run])
    for session, statement, told in (
        (admin, "START FEDERATED TRAINING open", "have answered under one: same; a table that has spent"),
        (operator, "START FEDERATED TRAINING risk", None),
        (operator, "STOP FEDERATED TRAINING risk", None),
        (admin, "ALTER FEDERATED WORKSPACE clinics SET (privacy_budget = 0.201)", None),
        (operator, "START FEDERATED TRAINING risk", "epsilon 0.2 of the 0.201 of federated workspace"),
    ):
        heard = notices_of(session)
        execute(session, statement)
        about = [line for line in heard if "epsilon" in line or "without noise" in line]
        assert len(about) == (told is not None), (statement, heard)
        assert told is None or told in about[0]


SHARE = (
    "CREATE FEDERATED DATASET elders FOR TABLE patients (age, ill) WHERE (age > 60) IN WORKSPACE clinics"
    " WITH (subject = patient, min_rows = 50)"
)


def test_a_dataset_is_altered_where_it_is_shared(admin: Session, catalog: Session) -> None:
    execute(admin, SHARE)
    view = value(catalog, "pg_get_viewdef('federated_dataset.elders'::regclass)")

    execute(admin, "ALTER FEDERATED DATASET elders SET (min_rows = 70, plain_answers = true)")
    assert options(catalog, "dataset") == {"subject": "patient", "min_rows": 70, "plain_answers": True}
    execute(admin, "ALTER FEDERATED DATASET elders RESET (min_rows, plain_answers)")
    assert options(catalog, "dataset") == {"subject": "patient"}
    assert value(catalog, "pg_get_viewdef('federated_dataset.elders'::regclass)") == view
    assert value(catalog, "count(*) FROM federated.audit WHERE object_kind = 'dataset'") == 3


@pytest.mark.parametrize(
    "change",
    [
        "CALL federated.execute('ALTER FEDERATED DATASET elders RESET (subject)')",
        "CALL federated.execute('ALTER FEDERATED DATASET elders SET (subject = ill)')",
        "UPDATE federated.dataset SET options = options - 'subject'",
    ],
)
def test_a_datasets_subject_is_not_altered(admin: Session, change: str) -> None:
    execute(admin, SHARE)
    with pytest.raises(errors.ObjectNotInPrerequisiteState) as caught:
        admin.execute(change)  # type: ignore[arg-type]
    assert caught.value.diag.message_primary == 'the subject of federated dataset "elders" cannot be altered'


def test_a_table_is_held_to_a_ceiling_that_is_set_later_and_keeps_it(
    admin: Session, catalog: Session
) -> None:
    execute(admin, SHARE)
    ceiling = "max_epsilon FROM federated.base_table"
    heard = notices_of(admin)

    execute(admin, "ALTER FEDERATED DATASET elders SET (max_epsilon = 0.5)")
    assert value(catalog, ceiling) == 0.5
    assert heard == []
    execute(admin, "ALTER FEDERATED DATASET elders SET (max_epsilon = 2)")
    execute(admin, "ALTER FEDERATED DATASET elders RESET (max_epsilon)")
    assert value(catalog, ceiling) == 0.5
    assert (
        heard
        == ["the table keeps its max_epsilon of 0.5: a ceiling that was ever set is not raised again"] * 2
    )


def test_nobody_alters_a_dataset_of_somebody_else(admin: Session, catalog: Session) -> None:
    execute(admin, SHARE)
    catalog.execute("CREATE ROLE another_admin LOGIN IN ROLE federated_admin")
    try:
        for change in (
            "CALL federated.execute('ALTER FEDERATED DATASET elders SET (min_rows = 1)')",
            "CALL federated.execute('ALTER FEDERATED DATASET elders RESET (min_rows)')",
            "UPDATE federated.dataset SET options = '{}'",
        ):
            catalog.execute("SET ROLE another_admin")
            with pytest.raises(errors.InsufficientPrivilege, match="must be owner of federated dataset"):
                catalog.execute(change)
            catalog.execute("RESET ROLE")
    finally:
        catalog.execute("RESET ROLE; DROP ROLE another_admin")
    assert options(catalog, "dataset") == {"subject": "patient", "min_rows": 50}


def test_what_a_statement_would_refuse_is_not_written_past_it_either(admin: Session) -> None:
    execute(admin, SHARE)
    for wrong in ('{"subject": "patient", "min_rows": 0}', '{"subject": "patient", "nonsense": 1}',
                  '{"subject": "patient", "plain_answers": true, "max_epsilon": 1.0}'):  # fmt: skip
        with pytest.raises(errors.InvalidParameterValue):
            admin.execute("UPDATE federated.dataset SET options = %s", [wrong])
