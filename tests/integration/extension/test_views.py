"""Every function and view of the language has exactly its columns, and shows what the catalog holds."""

from __future__ import annotations

from typing import Any, LiteralString

import psycopg
import pytest
from psycopg import errors
from psycopg.sql import SQL, Identifier

from tests.integration.extension.test_predictions import make_current
from tests.integration.extension.versions_support import finish_run
from tests.support.cluster import Cluster

# Name → columns of its result, in order. Several functions of one name: those of the named signature.
COLUMNS = {
    "federated_training_status(text,integer)": "round_number status global_loss global_accuracy participating_nodes"
    " round_duration_seconds started_at finished_at message",
    "federated_training_metrics(text,integer)": "round_number timestamp global_loss global_accuracy participating_nodes"
    " dropped_nodes round_duration_seconds communication_mb privacy_consumed_epsilon"
    " global_loss_std_error global_accuracy_std_error",
    "federated_convergence_diagnostics(text,integer)": "round_number global_loss loss_delta node_variance learning_rate",
    "federated_checkpoints(text)": "path round_number created_at size_bytes sha256",
    "federated_model_versions(text)": "version tags round_number created_at is_current global_loss global_accuracy"
    " epsilon parameters_sha256 global_loss_std_error global_accuracy_std_error retired_at parent ancestors",
    "federated_evaluate(text)": "metric value",
    "federated_data_quality_check(text,integer)": "node_name feature_statistics missing_values outliers missing_values_std_error outliers_std_error",
    "federated_confusion_matrix(text)": "predicted actual count std_error",
    "federated_roc_curve(text)": "threshold fpr tpr fpr_std_error tpr_std_error",
    "federated_calibration(text)": "bin predicted observed count observed_std_error count_std_error",
    "federated_feature_importance(text)": "feature importance std_error",
    "federated_explain(text,jsonb,integer,bigint)": "feature value contribution base_value class scale",
    "federated_explain_model(text)": "feature importance class scale rows",
    "federated_privacy_budget(text)": "total_epsilon consumed_epsilon remaining_epsilon",
    "federated_compliance_check(text,text)": "requirement status details evidence reference",
    "federated_security_audit(text)": "check_name status recommendation",
    "federated_audit_verify(text)": "is_intact entries head_hash broken_at reason signed_entries witnessed_entries",
    "federated_privacy_budget_status": "workspace_name total_budget_epsilon consumed_epsilon remaining_epsilon"
    " rounds_completed estimated_remaining_rounds delta consumed_epsilon_basic",
    "federated_privacy_history": "timestamp workspace_name model_name round_number cumulative_epsilon epsilon_per_round"
    " noise_multiplier clipping_threshold noise_mechanism trust_model",
    "federated_runs": "workspace_name model_name run run_id status started_by queued_at started_at finished_at rounds"
    " version trial fold voting_group group_nodes options message",
    "federated_workspace_status": "workspace_name min_nodes_required registered_nodes active_nodes status",
    "federated_node_status": "workspace node_name status last_seen rounds_participated avg_round_time_seconds"
    " dataset_size contribution_score",
    "federated_node_diagnostics": "workspace node_name last_heartbeat connection_status failure_reason endpoint_in_use"
    " certificate_expires max_memory_gb max_cpu_cores max_bandwidth_mbps task_limit_seconds suspicious suspicion",
    "federated_performance_metrics": "model_name round_number phase duration_seconds cpu_usage_percent memory_usage_gb"
    " network_sent_mb network_received_mb",
    "federated_audit_log": "workspace chain_position recorded_at session_role acting_role action object_kind"
    " object_name details transaction_id origin previous_hash hash",
    "federated_audit_heads": "workspace origin entries root_sha256 signed_at witnesses statement signature",
    "federated_node_heads": "workspace origin entries root_sha256 signed_at witnessed_at state conflicts last_conflict_at",
    "federated_node_runs": "workspace model_name run_id node_name dataset algorithm features target roles asked_epsilon"
    " asked_delta compliance_mode first_task_at last_task_at vectors messages payload_bytes charges epsilon_basic"
    " epsilon_tight trust_model honest_nodes",
    "federated_dataset_budget": "dataset state workspace max_epsilon agreed_epsilon agreed_delta charges epsilon_basic"
    " epsilon_tight delta last_charged_at total_epsilon_basic total_epsilon_tight total_delta",
    "federated_node_releases": "day workspace dataset private_vectors plain_vectors messages payload_bytes"
    " only_charged failed exports",
    "federated_node_refusals": "last_at first_at count workspace run_id node_name step dataset code message detail",
    "federated_personal_models": "workspace model_name run personalization made_at held_out_rows global_loss personal_loss"
    " global_accuracy personal_accuracy global_rmse personal_rmse predicts_version",
    "federated_erasure_status": "request_id workspace model_name subject_hash requested_at deadline status node_name"
    " node_state rows datasets answered_at completed_at method exactness versions sha256_before sha256_after message"
    " receipt",
    "federated_exports": "order_id workspace pseudonym path format state message nodes_answered nodes_refused"
    " nodes_pending requested_by requested_at deadline written_at size_bytes sha256",
    "federated_consent": "workspace subject_hash purpose version status granted_at revoked_at recorded_by nodes",
}
FOR_AUDITORS_ONLY = ("federated_audit_log", "federated_audit_heads", "federated_exports")
# What `heliosdb node status` shows, it reads as the daemon's role.
FOR_THE_DAEMON_TOO = (
    "federated_node_runs",
    "federated_dataset_budget",
    "federated_node_releases",
    "federated_node_refusals",
    "federated_subscriptions",
    "federated_personal_models",
    "federated_node_heads",
)
VIEWS = [name for name in COLUMNS if "(" not in name]
COLUMNS_OF: LiteralString = """
    SELECT CASE WHEN %(name)s LIKE '%%(%%' THEN
        (SELECT string_agg(a.name, ' ' ORDER BY a.place) FROM pg_proc AS p,
             unnest(p.proargnames, p.proargmodes) WITH ORDINALITY AS a (name, mode, place)
         WHERE p.oid = to_regprocedure(%(name)s) AND a.mode IN ('o', 't'))
    ELSE
        (SELECT string_agg(attname, ' ' ORDER BY attnum) FROM pg_attribute
         WHERE attrelid = to_regclass(%(name)s) AND attnum > 0) END
"""


@pytest.mark.parametrize("name", COLUMNS)
@pytest.mark.changes_nothing
def test_columns_are_exactly_those_of_the_language(catalog: psycopg.Connection, name: str) -> None:
    [(found,)] = catalog.execute(COLUMNS_OF, {"name": name}).fetchall()
    assert found == COLUMNS[name]


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.changes_nothing
def test_analysts_and_auditors_read_the_views_and_nobody_writes_them(
    cluster: Cluster, federated_database: str, catalog: psycopg.Connection, view: str
) -> None:
    may = {"an_auditor", "an_admin"}
    may |= set() if view in FOR_AUDITORS_ONLY else {"an_analyst", "an_operator"}
    may |= {"heliosdb_daemon"} if view in FOR_THE_DAEMON_TOO else set()
    for role in ("an_auditor", "an_admin", "an_analyst", "an_operator", "heliosdb_daemon", "a_nobody"):
        with cluster.connect(federated_database, user=role) as session:
            if role in may:
                session.execute(f"SELECT * FROM {view}")  # type: ignore[arg-type]
            else:
                with pytest.raises(errors.InsufficientPrivilege):
                    session.execute(f"SELECT * FROM {view}")  # type: ignore[arg-type]
            with pytest.raises((errors.InsufficientPrivilege, errors.ObjectNotInPrerequisiteState)):
                session.execute(f"DELETE FROM {view}")  # type: ignore[arg-type]
    assert catalog.execute("SELECT obj_description(%s::regclass, 'pg_class')", [view]).fetchone() != (None,)


def charge(
    catalog: psycopg.Connection, rounds: int, node: str = "a", *, before: float = 0.0, cost: float = 0.01
) -> None:
    """Write what the coordinator writes for a run of so many rounds: statistics, then training with evaluation."""
    catalog.execute(
        "WITH run AS (SELECT gen_random_uuid() AS id) INSERT INTO federated.ledger (workspace, run_id, model_name,"
        " round_number, step, node_name, noise_multiplier, sampling_rate, steps, clipping_norm, epsilon,"
        " epsilon_basic, epsilon_tight)"
        " SELECT 'clinics', run.id, 'risk', n, s.step, %(node)s, CASE n WHEN 0 THEN 7 ELSE s.noise END, 0.5, 2,"
        " CASE s.step WHEN 'train' THEN 1.5 END, %(cost)s * 1.5, 9, %(before)s + %(cost)s * (2 * n + s.place)"
        " FROM run, generate_series(0, %(rounds)s) AS n,"
        " (VALUES (0, 'statistics', 7), (1, 'train', 3), (2, 'evaluate', 5)) AS s (place, step, noise)"
        " WHERE (n = 0) = (s.step = 'statistics') ORDER BY n, s.place",
        {"rounds": rounds, "node": node, "before": before, "cost": cost},
    )


def budget_status(catalog: psycopg.Connection) -> dict[str, Any]:
    cursor = catalog.execute("SELECT * FROM federated_privacy_budget_status WHERE workspace_name = 'clinics'")
    [row] = cursor.fetchall()
    return {column.name: value for column, value in zip(cursor.description or (), row, strict=True)}


def test_a_budget_that_nobody_has_touched_has_no_estimate(catalog: psycopg.Connection) -> None:
    assert budget_status(catalog) == {
        "workspace_name": "clinics", "total_budget_epsilon": 0.5, "consumed_epsilon": 0, "remaining_epsilon": 0.5,
        "rounds_completed": 0, "estimated_remaining_rounds": None, "delta": 1e-5, "consumed_epsilon_basic": 0,
    }  # fmt: skip
    catalog.execute("UPDATE federated.workspace SET options = '{}'")
    assert budget_status(catalog) == {
        "workspace_name": "clinics", "total_budget_epsilon": None, "consumed_epsilon": None, "remaining_epsilon": None,
        "rounds_completed": 0, "estimated_remaining_rounds": None, "delta": 1e-5, "consumed_epsilon_basic": None,
    }  # fmt: skip


def test_what_is_left_lasts_for_rounds_of_the_recent_mean_cost(catalog: psycopg.Connection) -> None:
    # Dear rounds long ago do not count; the last ten add 0.22 together.
    charge(catalog, 2, "b", cost=0.01)
    charge(catalog, 2, cost=0.04)
    charge(catalog, 10, before=0.17, cost=0.01)
    status = budget_status(catalog)
    assert status["consumed_epsilon"] == pytest.approx(0.17 + 0.22)
    assert status["remaining_epsilon"] == pytest.approx(0.5 - 0.39)
    assert status["estimated_remaining_rounds"] == 5
    catalog.execute('UPDATE federated.workspace SET options = \'{"privacy_budget": 0.1, "delta": 1e-6}\'')
    status = budget_status(catalog)
    assert (status["remaining_epsilon"], status["estimated_remaining_rounds"]) == (0, 0)
    assert status["delta"] == 1e-6


def test_where_subjects_overlap_nodes_add_up_in_every_figure(catalog: psycopg.Connection) -> None:
    charge(catalog, 2, "a", cost=0.04)
    charge(catalog, 2, "b", cost=0.06)
    alone = budget_status(catalog)
    catalog.execute("UPDATE federated.workspace SET options = options || '{\"subjects_overlap\": true}'")
    together = budget_status(catalog)
    assert alone["consumed_epsilon"] == pytest.approx(0.36)
    assert together["consumed_epsilon"] == pytest.approx(0.24 + 0.36)
    assert (alone["consumed_epsilon_basic"], together["consumed_epsilon_basic"]) == (9, 18)
    shown = catalog.execute("SELECT consumed_epsilon FROM federated_privacy_budget('clinics')").fetchone()
    assert shown == (together["consumed_epsilon"],)
    reached = catalog.execute(
        "SELECT round_number, cumulative_epsilon FROM federated_privacy_history "
        "ORDER BY cumulative_epsilon, round_number DESC"
    ).fetchall()
    # Round by round, first of the one node's run, then of the other's, whose round 0 costs nothing.
    assert [number for number, _ in reached] == [0, 1, 2, 0, 1, 2]
    assert [one for _, one in reached] == pytest.approx([0.0, 0.16, 0.24, 0.24, 0.48, 0.6])


def test_a_charge_of_statistics_alone_gives_no_estimate(catalog: psycopg.Connection) -> None:
    charge(catalog, 0, before=0.1)
    status = budget_status(catalog)
    assert (status["consumed_epsilon"], status["estimated_remaining_rounds"]) == (0.1, None)


def test_defaults_in_the_views_are_those_of_the_options(catalog: psycopg.Connection) -> None:
    catalog.execute("UPDATE federated.workspace SET options = '{}'")
    assert catalog.execute(
        "SELECT (o ->> 'delta')::float8 = s.delta, (o ->> 'min_nodes')::int = w.min_nodes_required"
        " FROM (SELECT federated._options() -> 'workspace') AS f (o), federated_privacy_budget_status AS s,"
        " federated_workspace_status AS w"
    ).fetchall() == [(True, True)]


def test_the_history_has_a_row_a_round_and_never_falls(catalog: psycopg.Connection) -> None:
    charge(catalog, 2, "b", before=0.2, cost=0.01)
    charge(catalog, 2, "a", cost=0.03)
    rows = catalog.execute(
        "SELECT workspace_name, model_name, round_number, cumulative_epsilon, epsilon_per_round, noise_multiplier,"
        ' clipping_threshold FROM federated_privacy_history ORDER BY "timestamp", cumulative_epsilon, round_number'
    ).fetchall()
    assert {row[:2] for row in rows} == {("clinics", "risk")}
    found = [[None if x is None else round(x, 9) for x in row[2:]] for row in rows]
    assert found == [
        [0, 0.2, 0.015, 7.0, None], [1, 0.24, 0.03, 3.0, 1.5], [2, 0.26, 0.03, 3.0, 1.5],
        [0, 0.26, 0.045, 7.0, None], [1, 0.26, 0.09, 3.0, 1.5], [2, 0.26, 0.09, 3.0, 1.5],
    ]  # fmt: skip
    execute(catalog, "DROP FEDERATED WORKSPACE clinics CASCADE")
    assert catalog.execute("SELECT count(*) FROM federated_privacy_history").fetchall() == [(6,)]


def execute(session: psycopg.Connection, *statements: str) -> None:
    for statement in statements:
        session.execute("CALL federated.execute(%s)", [statement])


def test_a_workspace_says_whether_a_run_could_begin(catalog: psycopg.Connection) -> None:
    def status() -> tuple[int, int, int, str]:
        [row] = catalog.execute(
            "SELECT min_nodes_required, registered_nodes, active_nodes, status FROM federated_workspace_status"
        ).fetchall()
        return row

    assert status() == (3, 0, 0, "incomplete")
    for name in "abc":
        execute(
            catalog,
            f"REGISTER FEDERATED NODE '{name}' IN WORKSPACE clinics WITH (endpoint = 'https://{name}:1')",
        )
    assert status() == (3, 3, 0, "waiting")
    catalog.execute("UPDATE federated.node SET status = 'active'")
    assert status() == (3, 3, 3, "ready")
    execute(catalog, "START FEDERATED TRAINING risk")
    assert status() == (3, 3, 3, "ready")
    catalog.execute("UPDATE federated.run SET status = 'running'")
    assert status() == (3, 3, 3, "training")
    catalog.execute("UPDATE federated.run SET status = 'completed'")
    catalog.execute("UPDATE federated.node SET status = 'slow' WHERE name = 'a'")
    assert status() == (3, 3, 2, "waiting")
    charge(catalog, 0, before=0.5)
    assert status() == (3, 3, 2, "budget_exhausted")


def test_what_nodes_do_not_tell_of_their_training_is_null(catalog: psycopg.Connection) -> None:
    """As under a budget, where time and memory would tell of the rows."""
    execute(catalog, "START FEDERATED TRAINING risk")
    catalog.execute("INSERT INTO federated.round (run_id, round_number) SELECT run_id, 1 FROM federated.run")
    catalog.execute(
        "INSERT INTO federated.phase (run_id, round_number, phase, duration_seconds, cpu_seconds, busy_seconds,"
        " memory_bytes, bytes_sent, bytes_received)"
        " SELECT run_id, 1, p.*, 0, 1000 FROM federated.run,"
        " (VALUES ('local_training', 2.0, NULL, NULL, NULL), ('aggregation', 0.5, 0.1, 0.5, 1e9)) AS p"
    )
    assert catalog.execute(
        "SELECT phase, duration_seconds, cpu_usage_percent, memory_usage_gb, network_received_mb"
        " FROM federated_performance_metrics"
    ).fetchall() == [("local_training", 2.0, None, None, 0.001), ("aggregation", 0.5, 20.0, 1.0, 0.001)]
    for column in ("cpu_usage_percent", "memory_usage_gb"):
        [(comment,)] = catalog.execute(
            "SELECT col_description(attrelid, attnum) FROM pg_attribute"
            " WHERE attrelid = 'federated_performance_metrics'::regclass AND attname = %s",
            [column],
        ).fetchall()
        assert "NULL where no node told, as under a privacy budget" in comment


def make_version(catalog: psycopg.Connection) -> None:
    make_current(catalog, ["age", "bmi"])
    catalog.execute("UPDATE federated.version SET global_loss = 0.25, global_accuracy = 0.875")


def test_an_evaluation_has_what_was_measured_and_null_for_the_rest(catalog: psycopg.Connection) -> None:
    make_version(catalog)
    assert catalog.execute("SELECT metric, value FROM federated_evaluate('risk')").fetchall() == [
        ("global_loss", 0.25), ("global_accuracy", 0.875), ("global_precision", None), ("global_recall", None),
        ("global_f1_score", None), ("global_loss_std_error", None), ("global_accuracy_std_error", None),
        ("base_loss", None), ("global_rmse", None), ("global_auc", None), ("global_auc_std_error", None),
        ("global_brier", None), ("global_mae", None), ("global_r2", None), ("global_c_index", None),
        ("global_precision_std_error", None), ("global_recall_std_error", None), ("global_f1_score_std_error", None),
        ("global_rmse_std_error", None), ("global_brier_std_error", None), ("global_mae_std_error", None),
        ("global_c_index_std_error", None),
    ]  # fmt: skip
    columns = ["global_accuracy", "global_precision", "per_node_metrics"]
    assert catalog.execute(
        "SELECT federated._evaluate_columns('risk', columns => %s)", [columns]
    ).fetchall() == [([{"global_accuracy": 0.875, "global_precision": None, "per_node_metrics": None}],)]


def test_a_figure_that_is_not_known_is_null_with_the_reason_in_a_notice(catalog: psycopg.Connection) -> None:
    make_version(catalog)
    catalog.execute("UPDATE federated.version SET global_accuracy = NULL")
    catalog.execute(
        "INSERT INTO federated.round (run_id, round_number, status, message)"
        " SELECT run_id, round_number, 'closed', 'the accuracy is withheld: its error would be 0.4'"
        " FROM federated.version"
    )
    told: list[tuple[str | None, str | None]] = []
    catalog.add_notice_handler(lambda one: told.append((one.message_primary, one.message_detail)))

    found = dict(catalog.execute("SELECT metric, value FROM federated_evaluate('risk')").fetchall())

    assert (found["global_loss"], found["global_accuracy"]) == (0.25, None)
    ((message, detail),) = told
    assert message == 'not every figure of federated model "risk" is known'
    assert detail is not None
    assert detail.endswith(": the accuracy is withheld: its error would be 0.4")


def test_what_round_0_says_of_nodes_is_no_reason_for_missing_figures(catalog: psycopg.Connection) -> None:
    make_version(catalog)
    catalog.execute("UPDATE federated.version SET global_accuracy = NULL")
    catalog.execute(
        "INSERT INTO federated.round (run_id, round_number, status, message)"
        " SELECT run_id, 0, 'closed', 'left out: south shares no dataset' FROM federated.version"
    )
    told: list[str | None] = []
    catalog.add_notice_handler(lambda one: told.append(one.message_detail))

    catalog.execute("SELECT federated_evaluate('risk')")
    assert told == []
    catalog.execute('UPDATE federated.run SET plan = \'{"reason": "no loss: too little is left"}\'')
    catalog.execute("SELECT federated_evaluate('risk')")
    assert told == ["no loss: too little is left"]


def test_rounds_that_left_the_useful_models_are_shown_diverged_and_not_completed(
    catalog: psycopg.Connection,
) -> None:
    make_version(catalog)
    catalog.execute("UPDATE federated.run SET status = 'diverged'")
    catalog.execute("UPDATE federated.version SET round_number = 2")
    catalog.execute(
        "INSERT INTO federated.round (run_id, round_number, status, global_loss, base_loss)"
        " SELECT r.run_id, d.number, 'closed', d.loss, 1.0 FROM federated.run AS r,"
        " (VALUES (0, NULL), (1, 4.0), (2, 0.5), (3, 0.75), (4, 9.0), (5, 9.0)) AS d (number, loss)"
    )

    found = catalog.execute("SELECT round_number, status FROM federated_training_status('risk')").fetchall()

    assert found == [
        (0, "completed"), (1, "completed"), (2, "completed"), (3, "completed"), (4, "diverged"), (5, "diverged"),
    ]  # fmt: skip
    told: list[str | None] = []
    catalog.add_notice_handler(lambda one: told.append(one.message_primary))
    catalog.execute("UPDATE federated.run SET message = 'why'")
    assert catalog.execute("SELECT wait_for_convergence('risk')").fetchall() == [("diverged",)]
    assert told == ['training of federated model "risk" ended diverged: why']


def test_data_quality_is_what_round_zero_found_over_all_nodes(catalog: psycopg.Connection) -> None:
    make_version(catalog)
    with pytest.raises(errors.ObjectNotInPrerequisiteState, match="no feature statistics") as caught:
        catalog.execute("SELECT * FROM federated_data_quality_check('risk')")
    assert caught.value.diag.message_hint
    catalog.execute(
        'UPDATE federated.run SET scaling = \'{"booleans": [false, false], "means": [50, 25.5], "scales": [10, 4],'
        ' "target_mean": 0, "target_scale": 1}\''
    )
    statistics = {"age": {"mean": 50, "scale": 10}, "bmi": {"mean": 25.5, "scale": 4}}
    assert catalog.execute("SELECT * FROM federated_data_quality_check('risk')").fetchall() == [
        (None, statistics, None, None, None, None)
    ]
    columns = ["outliers", "feature_statistics"]
    assert catalog.execute(
        "SELECT federated._data_quality_check_columns('risk', %s)", [columns]
    ).fetchall() == [([{"outliers": None, "feature_statistics": statistics}],)]


@pytest.mark.parametrize(
    ("call", "sqlstate", "message"),
    [
        ("federated_evaluate('risk')", "55000", 'federated model "risk" has no trained version'),
        ("federated._evaluate_columns('risk', columns => '{global_loss}')", "55000", 'federated model "risk" has no trained version'),
        ("federated_evaluate('nothing')", "42704", 'federated model "nothing" does not exist'),
        ("federated_evaluate(NULL)", "22004", "the name of a federated model must not be null"),
        ("federated_data_quality_check('nothing')", "42704", 'federated model "nothing" does not exist'),
        ("federated_data_quality_check('risk')", "55000",
         'no feature statistics of federated model "risk" have been gathered yet'),
        ("federated._security_audit_columns('clinics', '{check_name,nothing,status}')", "42703",
         'federated_security_audit has no column "nothing"'),
        ("federated._compliance_check_columns('clinics', 'HIPAA', '{status,\"x y\"}')", "42703",
         'federated_compliance_check has no column "x y"'),
        ("federated._compliance_check_columns('clinics', 'HIPAA', NULL)", "22004",
         "federated_compliance_check needs the names of its columns"),
        ("federated._compliance_check_columns('clinics', 'HIPAA', '{NULL}')", "22004",
         "federated_compliance_check needs the names of its columns"),
        ("federated._security_audit_columns('nothing', '{status}')", "42704", 'federated workspace "nothing" does not exist'),
    ],
)  # fmt: skip
@pytest.mark.changes_nothing
def test_what_cannot_be_answered_is_one_clear_error(
    catalog: psycopg.Connection, call: LiteralString, sqlstate: str, message: str
) -> None:
    with pytest.raises(psycopg.Error) as caught:
        catalog.execute(f"SELECT {call}")
    assert (caught.value.sqlstate, caught.value.diag.message_primary) == (sqlstate, message)


def test_an_unknown_column_of_an_evaluation_names_those_there_are(catalog: psycopg.Connection) -> None:
    make_version(catalog)
    with pytest.raises(errors.UndefinedColumn, match='federated_evaluate has no column "auc"') as caught:
        catalog.execute("SELECT federated._evaluate_columns('risk', columns => '{global_loss,auc}')")
    assert caught.value.diag.message_hint == (
        "Its columns are global_loss, global_accuracy, global_precision, global_recall, global_f1_score,"
        " per_node_metrics, global_loss_std_error, global_accuracy_std_error, base_loss, global_rmse,"
        " global_auc, global_auc_std_error, global_brier, global_mae, global_r2, global_c_index,"
        " global_precision_std_error, global_recall_std_error, global_f1_score_std_error, global_rmse_std_error,"
        " global_brier_std_error, global_mae_std_error, global_c_index_std_error."
    )


@pytest.mark.parametrize("role", ["an_analyst", "an_auditor"])
def test_analysts_and_auditors_evaluate(
    cluster: Cluster, federated_database: str, catalog: psycopg.Connection, role: str
) -> None:
    make_version(catalog)
    with cluster.connect(federated_database, user=role) as session:
        assert len(session.execute("SELECT * FROM federated_evaluate('risk')").fetchall()) == 22
        session.execute("SELECT federated._evaluate_columns('risk', columns => '{global_loss}')")
    with cluster.connect(federated_database, user="a_nobody") as session:
        for call in ("federated_evaluate('nothing')", "federated_data_quality_check('nothing')"):
            with pytest.raises(errors.InsufficientPrivilege):
                session.execute(f"SELECT * FROM {call}")  # type: ignore[arg-type]


def test_every_run_has_a_number_by_which_it_is_shown(
    trained: psycopg.Connection, daemon: psycopg.Connection, operator: psycopg.Connection
) -> None:
    finish_run(trained, daemon, promoted=False)
    execute(operator, "START FEDERATED TRAINING risk WITH (rounds = 2)")
    found = operator.execute(
        "SELECT run, status, started_by, version, options FROM federated_runs WHERE model_name = 'risk' ORDER BY run"
    ).fetchall()
    superuser = trained.info.user
    assert found == [
        (1, "completed", superuser, 1, {}),
        (2, "completed", superuser, 2, {}),
        (3, "completed", superuser, 3, {}),
        (4, "queued", "an_operator", None, {"rounds": 2}),
    ]
    statuses = [
        operator.execute("SELECT status FROM federated_training_status('risk', run => %s)", [run]).fetchall()
        for run in (None, 1, 4)
    ]
    assert statuses == [[("queued",)], [("completed",)], [("queued",)]]
    for function in (
        "federated_training_status",
        "federated_training_metrics",
        "federated_convergence_diagnostics",
        "federated_data_quality_check",
        "federated_trials",
    ):
        for run in (0, 5, -(2**31)):
            with pytest.raises(errors.UndefinedObject, match=f'"risk" has no run {run}') as caught:
                operator.execute(
                    SQL("SELECT * FROM {}('risk', run => %s)").format(Identifier(function)), [run]
                )
            assert caught.value.diag.message_detail == "Its runs are numbered from 1 to 4."
    with pytest.raises(errors.UndefinedObject, match='"nothing" does not exist'):
        operator.execute("SELECT * FROM federated_training_status('nothing', run => 1)")


def test_what_shows_a_version_takes_its_tag_or_number(
    trained: psycopg.Connection, operator: psycopg.Connection, cluster: Cluster, federated_database: str
) -> None:
    execute(operator, "TAG FEDERATED MODEL risk VERSION 1 AS 'prod'")
    with cluster.connect(federated_database, user="an_auditor") as auditor:
        losses = [
            auditor.execute(
                "SELECT value FROM federated_evaluate(%s) WHERE metric = 'global_loss'", [name]
            ).fetchall()
            for name in ("risk", "risk@1", "risk@prod")
        ]
        assert losses == [[(0.5,)], [(1.0,)], [(1.0,)]]
        for function in ("federated_evaluate", "federated_coefficients", "federated_confusion_matrix"):
            with pytest.raises(errors.UndefinedObject, match='federated model "risk" has no version "x"'):
                auditor.execute(SQL("SELECT * FROM {}('risk@x')").format(Identifier(function)))
        with pytest.raises(errors.FeatureNotSupported) as caught:
            auditor.execute("SELECT * FROM federated_explain_model('risk@1')")
        assert "federated_feature_importance('risk@1')" in (caught.value.diag.message_hint or "")
