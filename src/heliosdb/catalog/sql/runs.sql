-- name: active_runs()
SELECT run_id::text AS run_id, status::text AS status, stop_requested, options ->> 'priority' AS priority
FROM federated.run WHERE status IN ('queued', 'running') AND NOT waiting ORDER BY created_at, run_id

-- name: ended_runs(text)
SELECT k.run_id::text AS run_id
FROM (SELECT r.* FROM federated.run AS r JOIN federated.model AS m USING (model_id)
      JOIN federated.workspace AS w USING (workspace_id)
      WHERE w.name = $1 AND r.status NOT IN ('queued', 'running')
      ORDER BY r.finished_at DESC LIMIT 100) AS k
-- What may be resumed nodes do not forget.
WHERE federated._why_not_resumed(k) IS NOT NULL

-- name: claim_run(uuid)
UPDATE federated.run SET status = 'running', started_at = coalesce(started_at, clock_timestamp()), message = NULL,
    kept_ledger_id = (SELECT max(l.ledger_id) FROM federated.ledger AS l WHERE l.run_id = $1::uuid)
WHERE run_id = $1::uuid AND status = 'queued' AND NOT waiting RETURNING run_id

-- name: find_run(uuid)
SELECT r.run_id::text AS run_id, r.model_id, m.name AS model, m.workspace_id, w.name AS workspace,
       r.options::text AS options, r.policy::text AS policy, r.scaling::text AS scaling, r.plan::text AS plan,
       r.stop_requested, w.options::text AS workspace_options, r.status::text AS status,
       r.series_id::text AS series_id, r.fold, r.seed_run::text AS seed_run, r.resumed_from IS NOT NULL AS is_resumed, r.options ? 'folds' AS has_folds,
       r.options ? 'voting_groups' AS has_voters,
       r.group_nodes, r.lineage -> 0 ->> 'model' AS parent_model, (r.lineage -> 0 ->> 'version')::integer AS parent_version,
       r.lineage -> 0 ->> 'run' AS parent_run,
       (SELECT count(*) FROM federated.run AS o
        WHERE o.series_id = r.series_id AND o.waiting AND o.status = 'queued')::integer AS to_come
FROM federated.run AS r
JOIN federated.model AS m USING (model_id)
JOIN federated.workspace AS w USING (workspace_id)
WHERE r.run_id = $1::uuid

-- name: lock_run(uuid)
SELECT run_id FROM federated.run WHERE run_id = $1::uuid AND status = 'running' FOR NO KEY UPDATE

-- name: set_message(uuid, text)
UPDATE federated.run SET message = $2 WHERE run_id = $1::uuid AND status = 'running' AND message IS DISTINCT FROM $2

-- name: say_of_waiting(jsonb)
UPDATE federated.run AS r SET message = s.message
FROM jsonb_to_recordset($1::jsonb) AS s (run_id uuid, message text)
WHERE r.run_id = s.run_id AND r.status IN ('queued', 'running') AND r.message IS DISTINCT FROM s.message

-- name: set_findings(uuid, jsonb, jsonb)
UPDATE federated.run SET scaling = $2::jsonb, plan = $3::jsonb WHERE run_id = $1::uuid

-- name: finish_run(uuid, text, text)
UPDATE federated.run SET status = $2::federated.run_status, message = $3, finished_at = clock_timestamp()
WHERE run_id = $1::uuid AND status = 'running' RETURNING run_id

-- name: set_result(uuid, integer)
UPDATE federated.run SET result_round = $2 WHERE run_id = $1::uuid

-- name: undecided_series()
SELECT s.series_id::text AS series_id
FROM (SELECT DISTINCT r.series_id FROM federated.run AS r JOIN federated.run_parameters AS p USING (run_id)
      WHERE r.series_id IS NOT NULL AND NOT r.options ? 'folds') AS s
WHERE federated._is_undecided(s.series_id)

-- name: best_trial(uuid)
SELECT r.run_id::text AS run_id, r.result_round, t.place IS NOT NULL AS is_compared
FROM federated._trials($1::uuid) AS t JOIN federated.run AS r ON r.series_id = $1::uuid AND r.trial = t.trial
WHERE r.result_round IS NOT NULL ORDER BY t.place NULLS LAST, t.trial LIMIT 1

-- name: voters(uuid)
SELECT r.run_id::text AS run_id, r.result_round, r.message FROM federated.run AS r
WHERE r.series_id = $1::uuid AND r.voting_group IS NOT NULL ORDER BY r.voting_group

-- name: certified(uuid)
SELECT d.report::text AS report FROM federated.run AS r JOIN federated.round AS d USING (run_id)
WHERE r.series_id = $1::uuid AND r.voting_group IS NULL AND r.options ? 'voting_groups' AND d.report ? 'certified'

-- name: runs_of_series(uuid)
SELECT run_id::text AS run_id FROM federated.run WHERE series_id = $1::uuid

-- name: add_to_message(uuid, text)
UPDATE federated.run SET message = concat_ws('; ', message, $2::text) WHERE run_id = $1::uuid
