-- What `heliosdb status` and `heliosdb watch` read, with whatever rights the caller has.

-- PostgreSQL's own names first, and every call with the types that the function has: the caller may be a superuser.

-- name: enter_extension_schema()
SELECT pg_catalog.set_config('search_path', pg_catalog.format('pg_catalog, %I, pg_temp', n.nspname), false) AS search_path
FROM pg_catalog.pg_extension AS e JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) e.extnamespace
WHERE e.extname OPERATOR(pg_catalog.=) 'heliosdb_federated_learning'

-- name: list_workspaces()
SELECT s.workspace_name, s.status, s.registered_nodes, s.active_nodes, s.min_nodes_required
FROM federated_workspace_status AS s ORDER BY s.workspace_name

-- name: list_nodes()
SELECT s.workspace, s.node_name, s.status, s.last_seen, s.rounds_participated, s.dataset_size,
       floor(extract(epoch FROM d.certificate_expires - clock_timestamp()) / 86400)::integer AS certificate_days, d.failure_reason
FROM federated_node_status AS s JOIN federated_node_diagnostics AS d USING (workspace, node_name)
ORDER BY s.workspace, s.node_name

-- name: list_runs(integer)
SELECT r.workspace_name, r.model_name, r.run, r.status, r.rounds AS round_number, m.global_loss, m.global_accuracy,
       m.privacy_consumed_epsilon AS epsilon, r.queued_at, r.finished_at, r.message
FROM (
    SELECT f.* FROM federated_runs AS f
    ORDER BY f.status IN ('queued', 'running') DESC, f.queued_at DESC, f.run_id LIMIT $1
) AS r
LEFT JOIN LATERAL (
    SELECT t.* FROM federated_training_metrics(r.model_name, r.run) AS t
    -- The last round may have been given up, or not evaluated.
    WHERE t.round_number <= r.rounds ORDER BY t.global_loss IS NOT NULL DESC, t.round_number DESC LIMIT 1
) AS m ON true
ORDER BY r.status IN ('queued', 'running') DESC, r.queued_at DESC, r.run_id

-- name: list_budgets()
SELECT b.workspace_name, b.total_budget_epsilon, b.consumed_epsilon, b.remaining_epsilon, b.estimated_remaining_rounds, b.delta
FROM federated_privacy_budget_status AS b ORDER BY b.workspace_name

-- name: find_latest_run(text)
SELECT r.run, r.status, r.message FROM federated_runs AS r
WHERE r.model_name = $1
-- Of a series the one whose turn it is, and one that waits for its turn before those that have ended.
ORDER BY r.status IN ('queued', 'running') DESC, r.status = 'waiting' DESC, r.run DESC LIMIT 1

-- name: list_rounds(text, integer)
SELECT m.round_number, m.global_loss, m.global_accuracy, m.participating_nodes, m.dropped_nodes, m.privacy_consumed_epsilon AS epsilon
FROM federated_training_metrics($1::text, $2::integer) AS m
JOIN federated_training_status($1::text, $2::integer) AS s USING (round_number)
WHERE s.finished_at IS NOT NULL
ORDER BY m.round_number

-- name: how_it_ended(text)
SELECT wait_for_convergence($1::text, 0::double precision) AS status

-- name: demand_model(text)
SELECT count(*) FROM federated_training_status($1::text, NULL::integer)
