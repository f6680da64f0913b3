-- What calls of the SDK read, with the rights of who asks, in a session whose search_path is the extension's own schema.

-- Without CREATE EXTENSION, where the plain script was run, all is in public. Numbers keep all of their digits.
-- name: find_extension()
SELECT pg_catalog.to_regnamespace('federated') IS NOT NULL AS is_there,
       pg_catalog.set_config('extra_float_digits', '1', false) AS digits,
       pg_catalog.set_config('search_path', pg_catalog.format('pg_catalog, %I, pg_temp', coalesce(
           (SELECT n.nspname::text FROM pg_catalog.pg_extension AS e
            JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) e.extnamespace
            WHERE e.extname OPERATOR(pg_catalog.=) 'heliosdb_federated_learning'), 'public')), false) AS search_path

-- name: execute(text)
CALL federated.execute($1::text)

-- name: list_workspaces(text)
SELECT workspace_name, min_nodes_required, registered_nodes, active_nodes, status FROM federated_workspace_status
WHERE workspace_name = coalesce($1::text, workspace_name) ORDER BY workspace_name

-- name: list_nodes(text)
SELECT s.workspace, s.node_name, s.status, s.last_seen, s.rounds_participated, s.avg_round_time_seconds, s.dataset_size,
       s.contribution_score, d.connection_status, d.failure_reason, d.endpoint_in_use, d.certificate_expires
FROM federated_node_status AS s JOIN federated_node_diagnostics AS d USING (workspace, node_name)
WHERE s.workspace = coalesce($1::text, s.workspace) ORDER BY s.workspace, s.node_name

-- name: list_models(text, text)
SELECT m.name AS model_name, w.name AS workspace_name, m.owner::text AS owner, m.options, m.created_at
FROM federated.model AS m JOIN federated.workspace AS w USING (workspace_id)
WHERE w.name = coalesce($1::text, w.name) AND m.name = coalesce($2::text, m.name) ORDER BY m.name

-- name: list_runs(text, text)
SELECT workspace_name, model_name, run, run_id, status, started_by::text AS started_by, queued_at, started_at, finished_at,
       rounds, version, trial, fold, voting_group, group_nodes, options, message
FROM federated_runs
WHERE workspace_name = coalesce($1::text, workspace_name) AND model_name = coalesce($2::text, model_name)
ORDER BY queued_at, run

-- name: list_rounds(text, integer)
SELECT round_number, "timestamp", global_loss, global_accuracy, participating_nodes, dropped_nodes, round_duration_seconds,
       communication_mb, privacy_consumed_epsilon, global_loss_std_error, global_accuracy_std_error
FROM federated_training_metrics($1::text, $2::integer) ORDER BY round_number

-- name: list_versions(text)
SELECT version, tags, round_number, created_at, is_current, global_loss, global_accuracy, epsilon, parameters_sha256,
       global_loss_std_error, global_accuracy_std_error, retired_at, parent, ancestors
FROM federated_model_versions($1::text) ORDER BY version

-- name: list_coefficients(text)
SELECT term, estimate, std_error, statistic, p_value, conf_low, conf_high FROM federated_coefficients($1::text)

-- name: read_budget(text)
SELECT total_epsilon, consumed_epsilon, remaining_epsilon FROM federated_privacy_budget($1::text)

-- name: read_evaluation(text)
SELECT metric, value FROM federated_evaluate($1::text)

-- START refuses a model with an active run, so what is queued inside its transaction is its own: a run, or a series.
-- name: list_started(text)
SELECT r.run_id FROM federated.run AS r JOIN federated.model AS m USING (model_id)
WHERE m.name = $1::text AND r.status = 'queued'

-- The latest run that has had its turn, and with it all of its series.
-- name: list_latest(text)
SELECT r.run_id FROM federated._find_run($1::text, NULL) AS latest
JOIN federated.run AS r ON r.run_id = latest.run_id OR r.series_id = latest.series_id

-- name: follow_runs(uuid[])
SELECT r.run_id, r.status::text AS status, s.status AS series_status, s.message AS series_message,
       (r.options ->> 'rounds')::integer AS planned, d.round_number, d.global_loss, d.global_accuracy
FROM federated.run AS r
LEFT JOIN LATERAL federated._series_status(r.series_id) AS s ON r.series_id IS NOT NULL
LEFT JOIN LATERAL (
    SELECT e.round_number, e.global_loss, e.global_accuracy FROM federated.round AS e
    WHERE e.run_id = r.run_id AND e.finished_at IS NOT NULL ORDER BY e.round_number DESC LIMIT 1
) AS d ON true
WHERE r.run_id = ANY ($1::uuid[]) ORDER BY r.created_at, r.run_id

-- name: describe_version(text)
SELECT h.features, h.function_name, h.numbers_id AS version_key,
       CASE WHEN federated._has_many_classes(h.prediction) THEN federated._classes($1::text) END AS classes
FROM federated._find_held($1::text) AS h

-- name: predict(text, jsonb)
SELECT federated_predict($1::text, $2::jsonb) AS prediction

-- name: predict_probabilities(text, jsonb)
SELECT federated_predict_proba($1::text, $2::jsonb) AS prediction
