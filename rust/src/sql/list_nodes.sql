SELECT s.workspace::text, s.node_name::text, s.status::text, s.last_seen::timestamptz, s.rounds_participated::int8,
       s.avg_round_time_seconds::float8, s.dataset_size::int8, s.contribution_score::float8, d.connection_status::text,
       d.failure_reason::text, d.endpoint_in_use::text, d.certificate_expires::timestamptz
FROM federated_node_status AS s JOIN federated_node_diagnostics AS d USING (workspace, node_name)
WHERE s.workspace = coalesce($1::text, s.workspace) ORDER BY s.workspace, s.node_name
