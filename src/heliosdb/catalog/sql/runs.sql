-- name: active_runs()
SELECT run_id::text AS run_id, status::text AS status, stop_requested
FROM federated.run WHERE status IN ('queued', 'running') ORDER BY created_at, run_id

-- name: ended_runs(text)
SELECT r.run_id::text AS run_id
FROM federated.run AS r JOIN federated.model AS m USING (model_id) JOIN federated.workspace AS w USING (workspace_id)
WHERE w.name = $1 AND r.status NOT IN ('queued', 'running')
ORDER BY r.finished_at DESC LIMIT 100

-- name: claim_run(uuid)
UPDATE federated.run SET status = 'running', started_at = clock_timestamp()
WHERE run_id = $1::uuid AND status = 'queued' RETURNING run_id

-- name: find_run(uuid)
SELECT r.run_id::text AS run_id, r.model_id, m.name AS model, m.workspace_id, w.name AS workspace,
       r.options::text AS options, r.policy::text AS policy, r.scaling::text AS scaling, r.plan::text AS plan,
       r.stop_requested, w.options::text AS workspace_options
FROM federated.run AS r
JOIN federated.model AS m USING (model_id)
JOIN federated.workspace AS w USING (workspace_id)
WHERE r.run_id = $1::uuid AND r.status = 'running'

-- name: lock_run(uuid)
SELECT run_id FROM federated.run WHERE run_id = $1::uuid AND status = 'running' FOR NO KEY UPDATE

-- name: set_message(uuid, text)
UPDATE federated.run SET message = $2 WHERE run_id = $1::uuid AND status = 'running' AND message IS DISTINCT FROM $2

-- name: set_findings(uuid, jsonb, jsonb)
UPDATE federated.run SET scaling = $2::jsonb, plan = $3::jsonb WHERE run_id = $1::uuid

-- name: finish_run(uuid, text, text)
UPDATE federated.run SET status = $2::federated.run_status, message = $3, finished_at = clock_timestamp()
WHERE run_id = $1::uuid AND status = 'running' RETURNING run_id
