"""What a role can do past the statements, by SQL of its own: no more than the statements let it."""

from __future__ import annotations

from typing import LiteralString

import psycopg
import pytest
from psycopg import errors

from tests.integration.extension.versions_support import execute, finish_run
from tests.support.cluster import Cluster

DATASET = "CREATE FEDERATED DATASET secrets FOR TABLE hidden IN WORKSPACE clinics WITH (max_epsilon = 0.1)"


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("INSERT INTO federated.workspace (name, options) VALUES ('w', '{\"privacy_budget\": \"abc\"}')", "privacy_budget"),
        ("INSERT INTO federated.workspace (name, options) VALUES ('w', '{\"trust_model\": \"central\"}')", "trust_model"),
        (
            "INSERT INTO federated.workspace (name, options) VALUES ('w', '{\"compliance_mode\": \"HIPAA\", \"audit_logging\": false}')",
            "audit_logging",
        ),
        ("UPDATE federated.workspace SET options = '{\"delta\": 0.001}'", "delta"),
        (
            "INSERT INTO federated.node (workspace_id, name, options) SELECT workspace_id, 'n', '{\"endpoint\": 5}' FROM federated.workspace",
            "endpoint",
        ),
        ("UPDATE federated.model SET options = '{\"features\": [[\"age\"]]}'", "features"),
        ("INSERT INTO federated.run (model_id, overrides) SELECT model_id, '{\"personalization\": \"mine\"}' FROM federated.model", "personalization"),
        ("INSERT INTO federated.run (model_id, overrides) SELECT model_id, '{\"rounds\": \"3\"}' FROM federated.model", "rounds"),
    ],
)  # fmt: skip
@pytest.mark.changes_nothing
def test_no_option_gets_in_that_a_statement_would_refuse(
    cluster: Cluster, catalog: psycopg.Connection, statement: LiteralString, said: str
) -> None:
    with cluster.connect(catalog.info.dbname, user="an_admin") as admin:
        with pytest.raises((errors.InvalidParameterValue, errors.FeatureNotSupported)) as refused:
            admin.execute(statement)
        assert said in str(refused.value)


@pytest.fixture
def shared(cluster: Cluster, catalog: psycopg.Connection) -> psycopg.Connection:
    """The superuser's connection to a catalog where one admin shares a table that another may not read."""
    catalog.execute("CREATE ROLE another_admin LOGIN IN ROLE federated_admin")
    try:
        catalog.execute("CREATE TABLE hidden (a float8)")
        catalog.execute("GRANT SELECT ON hidden TO an_admin")
        with cluster.connect(catalog.info.dbname, user="an_admin") as owner:
            execute(owner, DATASET)
        yield catalog
    finally:
        catalog.execute("DROP OWNED BY another_admin")
        catalog.execute("DROP ROLE another_admin")


def test_a_dataset_is_dropped_and_shared_again_by_its_owner_only(
    cluster: Cluster, shared: psycopg.Connection
) -> None:
    with cluster.connect(shared.info.dbname, user="another_admin") as other:
        with pytest.raises(errors.InsufficientPrivilege):
            execute(other, "DROP FEDERATED DATASET secrets")
        with pytest.raises(errors.InsufficientPrivilege, match="must be owner of federated dataset"):
            other.execute("DELETE FROM federated.dataset")
        shared.execute("DELETE FROM federated.dataset")
        with pytest.raises(errors.InsufficientPrivilege, match="must be owner of federated dataset"):
            other.execute(
                "INSERT INTO federated.dataset (name, workspace, relation, columns, types)"
                " VALUES ('secrets', 'plain', 'x.y', '{a}', '{double precision}')"
            )


def test_the_daemon_rewrites_no_prediction_and_takes_no_charge_back(
    catalog: psycopg.Connection, daemon: psycopg.Connection
) -> None:
    finish_run(catalog, daemon)
    catalog.execute(
        "INSERT INTO federated.ledger (workspace, run_id, model_name, round_number, step, node_name, state,"
        " noise_multiplier, sampling_rate, steps, epsilon, epsilon_basic, epsilon_tight)"
        " VALUES ('clinics', gen_random_uuid(), 'risk', 1, 'train', 'a', 'charged', 1, 1, 1, 1, 1, 1)"
    )
    with pytest.raises(errors.ObjectNotInPrerequisiteState, match="never taken back"):
        daemon.execute("UPDATE federated.ledger SET state = 'reserved'")
    for statement in (
        "UPDATE federated.ledger SET noise_multiplier = 9",
        "UPDATE federated.version SET prediction = '{}'",
        "UPDATE federated.version SET report = NULL",
        "UPDATE federated.version SET retired_at = clock_timestamp(), prediction = '{}'",
    ):
        with pytest.raises(errors.InsufficientPrivilege):
            daemon.execute(statement)  # type: ignore[arg-type]


def test_no_type_of_the_callers_search_path_is_used(cluster: Cluster, catalog: psycopg.Connection) -> None:
    catalog.execute("CREATE SCHEMA evil")
    for type_ in ("jsonb", "text"):
        catalog.execute(f"CREATE DOMAIN evil.{type_} AS pg_catalog.{type_} CHECK (false)")  # type: ignore[arg-type]
    with cluster.connect(catalog.info.dbname) as session:
        session.execute("SET search_path = evil, pg_catalog")
        with pytest.raises(errors.UndefinedObject, match="does not exist"):
            session.execute("CALL federated.execute('STOP FEDERATED TRAINING nothing')")
        with pytest.raises(errors.UndefinedObject, match="does not exist"):
            session.execute("SELECT * FROM public.federated_predict_batch('nothing', 'SELECT 1') AS (a int)")


def test_the_log_of_a_workspace_says_which_tags_went_with_a_model(
    catalog: psycopg.Connection, daemon: psycopg.Connection
) -> None:
    finish_run(catalog, daemon)
    execute(catalog, "TAG FEDERATED MODEL risk AS 'gold'", "DROP FEDERATED MODEL risk")
    assert catalog.execute(
        "SELECT workspace, action FROM federated_audit_log WHERE object_kind = 'tag' ORDER BY recorded_at"
    ).fetchall() == [("clinics", "insert"), ("clinics", "delete")]


def test_rights_on_columns_and_types_are_seen(catalog: psycopg.Connection) -> None:
    for grant, name in (
        ("GRANT SELECT (details) ON federated.audit TO PUBLIC", "federated.audit.details"),
        ("GRANT USAGE ON TYPE federated.run_status TO PUBLIC", "federated.run_status"),
    ):
        with catalog.transaction(force_rollback=True):
            catalog.execute(grant)  # type: ignore[arg-type]
            row = catalog.execute("SELECT status, evidence FROM federated._check_rights()").fetchone()
            assert row is not None
            assert row[0] == "FAIL"
            assert name in row[1]


def test_a_plain_run_under_a_compliance_mode_is_refused_whoever_queues_it(
    catalog: psycopg.Connection, operator: psycopg.Connection
) -> None:
    catalog.execute('UPDATE federated.workspace SET options = \'{"compliance_mode": "HIPAA"}\'')
    queue = "INSERT INTO federated.run (model_id) SELECT model_id FROM federated.model"
    with pytest.raises(errors.InvalidParameterValue, match="refused under compliance_mode HIPAA"):
        operator.execute(queue)
    catalog.execute(
        "INSERT INTO federated.node (workspace_id, name, plain_answers)"
        " SELECT workspace_id, 'n', true FROM federated.workspace"
    )
    for statement in (
        "UPDATE federated.node SET plain_answers = true",
        "INSERT INTO federated.run (model_id, policy) SELECT model_id, '{}' FROM federated.model",
    ):
        with pytest.raises(errors.InsufficientPrivilege):
            operator.execute(statement)  # type: ignore[arg-type]
    operator.execute(queue)
