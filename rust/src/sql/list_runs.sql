SELECT workspace_name::text, model_name::text, run::int8, run_id::text, status::text, started_by::text AS started_by,
       queued_at::timestamptz, started_at::timestamptz, finished_at::timestamptz, rounds::int8, version::int8, trial::int8,
       fold::int8, voting_group::int8, group_nodes::text[], options::jsonb, message::text
FROM federated_runs
WHERE workspace_name = coalesce($1::text, workspace_name) AND model_name = coalesce($2::text, model_name)
ORDER BY federated_runs.queued_at, federated_runs.run
