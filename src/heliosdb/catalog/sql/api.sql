-- name: find_functions()
SELECT pg_catalog.set_config('search_path', pg_catalog.format('pg_catalog, %I, pg_temp', n.nspname), false)
FROM pg_catalog.pg_extension AS e JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) e.extnamespace
WHERE e.extname OPERATOR(pg_catalog.=) 'heliosdb_federated_learning'

-- name: act_as(text)
SELECT pg_catalog.set_config('role', $1, true)

-- name: role_of_token(bytea)
SELECT federated._authenticate($1::bytea) AS role

-- name: role_vouched_for(text)
SELECT CASE WHEN federated._servable($1::name) THEN $1 END AS role

-- name: has_one_of(text[])
SELECT coalesce(pg_catalog.bool_or(pg_catalog.pg_has_role(r.oid, 'USAGE')), false) AS has
FROM pg_catalog.pg_roles AS r WHERE r.rolname OPERATOR(pg_catalog.=) ANY ($1::text[])

-- name: execute(text)
CALL federated.execute($1)

-- name: started_run()
SELECT current_setting('federated.started_run', true)::uuid AS run_id

-- name: forget_requests()
DELETE FROM federated.api_request WHERE created_at < now() - interval '1 day'

-- name: keep_request(text, text, bytea)
INSERT INTO federated.api_request (role_id, idempotency_key, request_sha256)
SELECT r.oid, $2, $3::bytea FROM pg_roles AS r WHERE r.rolname = $1
ON CONFLICT DO NOTHING RETURNING true AS is_new

-- name: kept_request(text, text)
SELECT q.request_sha256, q.run_id
FROM federated.api_request AS q JOIN pg_roles AS r ON r.oid = q.role_id WHERE r.rolname = $1 AND q.idempotency_key = $2

-- name: answer_request(text, text, uuid)
UPDATE federated.api_request AS q SET run_id = $3::uuid
FROM pg_roles AS r WHERE r.oid = q.role_id AND r.rolname = $1 AND q.idempotency_key = $2

-- name: workspaces(integer, integer)
SELECT w.name, w.owner, s.status, s.min_nodes_required, s.registered_nodes, s.active_nodes, w.created_at
FROM federated.workspace AS w JOIN federated_workspace_status AS s ON s.workspace_name = w.name
ORDER BY w.name LIMIT $1 OFFSET $2

-- name: workspace(text)
SELECT w.name, w.owner, s.status, s.min_nodes_required, s.registered_nodes, s.active_nodes, w.created_at
FROM federated.workspace AS w JOIN federated_workspace_status AS s ON s.workspace_name = w.name
WHERE w.name = $1

-- name: models(text, integer, integer)
SELECT m.name, w.name AS workspace, m.owner, m.options, m.created_at,
       (SELECT v.version FROM federated.version AS v WHERE v.model_id = m.model_id AND v.is_current) AS current_version
FROM federated.model AS m JOIN federated.workspace AS w USING (workspace_id)
WHERE w.name = $1 ORDER BY m.name LIMIT $2 OFFSET $3

-- name: model(text, text)
SELECT m.name, w.name AS workspace, m.owner, m.options, m.created_at,
       (SELECT v.version FROM federated.version AS v WHERE v.model_id = m.model_id AND v.is_current) AS current_version
FROM federated.model AS m JOIN federated.workspace AS w USING (workspace_id)
WHERE w.name = $1 AND m.name = $2

-- name: training_status(text, integer)
SELECT * FROM federated_training_status($1::text, $2::integer)

-- name: versions(text)
SELECT * FROM federated_model_versions($1::text)

-- name: named_version(text, text)
SELECT v.version
FROM federated.version AS v JOIN federated.model AS m USING (model_id)
WHERE m.name = $1 AND CASE WHEN $2::text IS NULL THEN v.is_current ELSE v.version::text = $2
    OR EXISTS (SELECT FROM federated.tag AS t WHERE t.model_id = v.model_id AND t.version = v.version AND t.name = $2) END
ORDER BY v.version LIMIT 1

-- name: evaluation(text)
SELECT metric, value FROM federated_evaluate($1::text)

-- name: has_many_classes(text)
SELECT federated._has_many_classes(f.prediction) AS has FROM federated._find_function($1::text) AS f

-- name: predict(text, jsonb)
SELECT federated_predict($1::text, e.features) AS value
FROM jsonb_array_elements($2::jsonb) WITH ORDINALITY AS e (features, place) ORDER BY e.place

-- name: predict_classes(text, jsonb)
SELECT federated_predict_class($1::text, e.features) AS class, federated_predict_proba($1::text, e.features) AS probabilities
FROM jsonb_array_elements($2::jsonb) WITH ORDINALITY AS e (features, place) ORDER BY e.place

-- name: runs(text, text, integer, integer)
SELECT * FROM federated_runs WHERE workspace_name = $1 AND model_name = $2 ORDER BY run DESC LIMIT $3 OFFSET $4

-- name: run(uuid)
SELECT * FROM federated_runs WHERE run_id = $1::uuid

-- name: run_status(uuid)
SELECT CASE WHEN r.waiting THEN 'waiting' ELSE r.status::text END AS status FROM federated.run AS r WHERE r.run_id = $1::uuid

-- name: events(uuid, bigint)
SELECT event_id, round_number, kind, details, recorded_at
FROM federated.event WHERE run_id = $1::uuid AND event_id > $2 ORDER BY event_id LIMIT 500

-- name: budget(text)
SELECT b.*, s.delta, s.rounds_completed, s.estimated_remaining_rounds
FROM federated_privacy_budget($1::text) AS b LEFT JOIN federated_privacy_budget_status AS s ON s.workspace_name = $1

-- name: nodes(text, integer, integer)
SELECT s.node_name AS name, s.status, d.connection_status, d.failure_reason, d.endpoint_in_use, d.certificate_expires, s.last_seen,
       s.rounds_participated, s.avg_round_time_seconds, s.dataset_size, s.contribution_score
FROM federated_node_status AS s JOIN federated_node_diagnostics AS d USING (workspace, node_name)
WHERE s.workspace = $1 ORDER BY s.node_name LIMIT $2 OFFSET $3

-- name: node(text, text)
SELECT s.node_name AS name, s.status, d.connection_status, d.failure_reason, d.endpoint_in_use, d.certificate_expires, s.last_seen,
       s.rounds_participated, s.avg_round_time_seconds, s.dataset_size, s.contribution_score
FROM federated_node_status AS s JOIN federated_node_diagnostics AS d USING (workspace, node_name)
WHERE s.workspace = $1 AND s.node_name = $2

-- name: erasures(text, integer, integer)
SELECT request_id, model_name, requested_at, deadline, status, node_name, node_state, answered_at, completed_at, method, exactness,
       message
FROM federated_erasure_status WHERE workspace = $1 ORDER BY requested_at DESC, request_id, node_name LIMIT $2 OFFSET $3

-- name: alerts(text, integer, integer)
SELECT alert_name, kind, conditions, target, status, firing_id, fired_at, observed, delivered_at, attempts, failure
FROM federated_alerts WHERE workspace_name = $1 ORDER BY fired_at DESC NULLS LAST, alert_name, firing_id LIMIT $2 OFFSET $3

-- name: budget_history(text, integer, integer)
SELECT "timestamp", model_name, round_number, cumulative_epsilon, epsilon_per_round, noise_multiplier, clipping_threshold,
       noise_mechanism, trust_model
FROM federated_privacy_history WHERE workspace_name = $1
ORDER BY "timestamp" DESC, model_name, round_number DESC LIMIT $2 OFFSET $3

-- name: all_runs(text, integer, integer)
SELECT * FROM federated_runs WHERE $1::text IS NULL OR workspace_name = $1
ORDER BY queued_at DESC, run_id LIMIT $2 OFFSET $3

-- name: active_run(text, text)
SELECT run_id FROM federated_runs
WHERE workspace_name = $1 AND model_name = $2 AND status IN ('queued', 'running', 'waiting')
ORDER BY status = 'waiting', run DESC LIMIT 1

-- name: rounds(uuid, integer, integer)
WITH chosen AS MATERIALIZED (
    SELECT r.run_id, r.model_name, r.run FROM federated_runs AS r WHERE r.run_id = $1::uuid
), status AS MATERIALIZED (
    SELECT s.* FROM chosen AS c CROSS JOIN LATERAL federated_training_status(c.model_name, c.run) AS s
), metrics AS MATERIALIZED (
    SELECT t.* FROM chosen AS c CROSS JOIN LATERAL federated_training_metrics(c.model_name, c.run) AS t
)
SELECT s.round_number, s.status, s.started_at, s.finished_at, s.round_duration_seconds, s.global_loss, t.global_loss_std_error,
       s.global_accuracy, t.global_accuracy_std_error, d.base_loss, d.global_precision, d.global_recall, d.global_f1_score,
       d.global_rmse, d.node_variance, s.participating_nodes, t.dropped_nodes, t.communication_mb, t.privacy_consumed_epsilon,
       s.message
FROM status AS s
LEFT JOIN metrics AS t USING (round_number)
LEFT JOIN federated.round AS d ON d.run_id = $1::uuid AND d.round_number = s.round_number
ORDER BY s.round_number LIMIT $2 OFFSET $3

-- name: participation(uuid, integer, integer)
WITH answers AS (
    SELECT p.round_number, p.node_id, p.outcome, p.reason, row_number() OVER (
               PARTITION BY p.round_number, p.node_id
               ORDER BY pg_catalog.array_position(ARRAY['rejected', 'refused', 'dropped', 'pending', 'received']::federated.participation_outcome[], p.outcome),
                        p.exchange, p.step) AS place,
           coalesce(max(p.settled_round) OVER whole, p.round_number) AS counted_in,
           sum(p.duration_seconds) OVER whole AS duration_seconds,
           (sum(p.bytes_sent) OVER whole)::bigint AS bytes_sent, (sum(p.bytes_received) OVER whole)::bigint AS bytes_received
    FROM federated.participation AS p WHERE p.run_id = $1::uuid
    WINDOW whole AS (PARTITION BY p.round_number, p.node_id)
)
SELECT a.round_number, n.name AS node_name, a.outcome::text AS outcome, a.reason,
       k.node_id IS NOT NULL AS took_part, a.duration_seconds, a.bytes_sent, a.bytes_received
FROM answers AS a
JOIN federated.node AS n USING (node_id)
LEFT JOIN federated.part_taken AS k ON k.run_id = $1::uuid AND k.round_number = a.counted_in AND k.node_id = a.node_id
WHERE a.place = 1 ORDER BY a.round_number, n.name LIMIT $2 OFFSET $3

-- name: coefficients(text)
SELECT * FROM federated_coefficients($1::text)

-- name: roc(text)
SELECT * FROM federated_roc_curve($1::text)

-- name: calibration(text)
SELECT * FROM federated_calibration($1::text)

-- name: confusion(text)
SELECT * FROM federated_confusion_matrix($1::text)

-- name: importance(text)
SELECT * FROM federated_feature_importance($1::text)

-- name: data_quality(text, integer)
SELECT $1::text AS model_name, q.* FROM federated_data_quality_check($1::text, $2::integer) AS q

-- name: workspace_data_quality(text, integer, integer)
WITH measured AS MATERIALIZED (
    SELECT m.name FROM federated.model AS m JOIN federated.workspace AS w USING (workspace_id)
    WHERE w.name = $1 AND EXISTS (SELECT FROM federated.run AS r WHERE r.model_id = m.model_id AND r.scaling ? 'means')
    ORDER BY m.name LIMIT $2 OFFSET $3
)
SELECT m.name AS model_name, q.* FROM measured AS m CROSS JOIN LATERAL federated_data_quality_check(m.name, NULL::integer) AS q
ORDER BY m.name, q.node_name NULLS FIRST

-- name: audit(text, integer, integer)
SELECT workspace, chain_position, recorded_at, session_role, acting_role, action, object_kind, object_name, details, transaction_id,
       origin, previous_hash, hash
FROM federated_audit_log WHERE $1::text IS NULL OR workspace = $1
ORDER BY recorded_at DESC, chain_position DESC, workspace LIMIT $2 OFFSET $3

-- name: version(text, text)
SELECT * FROM federated_model_versions($1::text) WHERE version::text = $2 OR $2 = ANY (tags)

-- name: asked_erasures(text)
SELECT request_id, model_name, requested_at, deadline, status, node_name, node_state, answered_at, completed_at, method, exactness,
       message
FROM federated_erasure_status WHERE workspace = $1 AND requested_at = now() ORDER BY request_id, node_name

-- name: sealing_key()
SELECT sealing_key FROM federated.coordinator_key

-- name: alert(text, text)
SELECT alert_name, kind, conditions, target, status, firing_id, fired_at, observed, delivered_at, attempts, failure
FROM federated_alerts WHERE workspace_name = $1 AND alert_name = $2 AND kind = 'alert'
ORDER BY fired_at DESC NULLS FIRST, firing_id LIMIT 1

-- name: experiments(text, integer, integer)
SELECT experiment_name, workspace_name, model_name, arms, created_by, created_at, keep_days
FROM federated_experiments WHERE $1::text IS NULL OR workspace_name = $1 ORDER BY experiment_name LIMIT $2 OFFSET $3

-- name: experiment(text)
SELECT experiment_name, workspace_name, model_name, arms, created_by, created_at, keep_days
FROM federated_experiments WHERE experiment_name = $1

-- name: experiment_arms(text)
SELECT * FROM federated_experiment($1::text)

-- name: predict_experiment(text, text, jsonb)
SELECT * FROM federated_predict_experiment($1::text, $2::text, $3::jsonb)

-- name: report_outcome(text, text, double precision)
SELECT federated_report_outcome($1::text, $2::text, $3::double precision)

-- name: admit_call(bytea, name, text)
SELECT a.outcome, a.role, a.model_name, a.version, a.numbers_id FROM federated._admit_call($1::bytea, $2::name, $3::text) AS a

-- name: served_numbers(name, text, uuid)
SELECT n.features, n.prediction, n.encoding, n.arrays FROM federated._served_numbers($1::name, $2::text, $3::uuid) AS n

-- name: still_predict(uuid[])
SELECT federated._still_predict($1::uuid[]) AS keys

-- name: served_versions(text)
SELECT v.version FROM federated.held_version AS v
WHERE v.model_name = $1::text AND NOT v.is_retired AND NOT v.is_withheld
  AND federated._may_call(current_user::name, pg_catalog.format('%s@%s', v.model_name, v.version))
ORDER BY v.version
