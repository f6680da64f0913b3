-- name: list_nodes()
SELECT n.node_id, n.name, w.name AS workspace, n.options::text AS options, n.status::text AS status, n.certificate, n.endpoint_in_use,
       w.options ->> 'data_residency' AS required_residency,
       coalesce(w.options ->> 'compliance_mode', 'none') AS compliance_mode,
       coalesce((w.options ->> 'keepalive_interval')::integer, 30) AS keepalive_interval,
       coalesce((w.options ->> 'auto_reconnect')::boolean, true) AS auto_reconnect,
       (w.options ->> 'reconnect_interval')::integer AS reconnect_interval,
       coalesce(w.options ->> 'communication_protocol', 'grpc') AS protocol
FROM federated.node AS n JOIN federated.workspace AS w USING (workspace_id)
ORDER BY n.node_id

-- name: activate_node(bigint, jsonb, text, timestamptz, text)
UPDATE federated.node
SET status = 'active', failure_reason = NULL, certificate = $3, certificate_expires = $4, endpoint_in_use = $5,
    last_seen = clock_timestamp()
WHERE node_id = $1 AND options = $2::jsonb

-- name: find_holder(bigint, text)
SELECT o.name
FROM federated.node AS n JOIN federated.node AS o USING (workspace_id)
WHERE n.node_id = $1 AND o.node_id <> n.node_id AND o.certificate = $2

-- name: demote_node(bigint, jsonb, text, text)
UPDATE federated.node SET status = $3::federated.node_status, failure_reason = $4
WHERE node_id = $1 AND options = $2::jsonb
  AND (status::text IS DISTINCT FROM $3 OR failure_reason IS DISTINCT FROM $4)

-- name: record_introduction(bigint, jsonb, boolean, jsonb, text[], jsonb)
UPDATE federated.node SET plain_answers = $3, datasets = $4::jsonb, extras = $5::text[], limits = $6::jsonb
WHERE node_id = $1 AND options = $2::jsonb
  AND (plain_answers, datasets, extras, limits) IS DISTINCT FROM ($3, $4::jsonb, $5::text[], $6::jsonb)

-- name: touch_nodes(bigint[])
UPDATE federated.node SET last_seen = clock_timestamp() WHERE node_id = ANY ($1::bigint[])

-- name: set_dataset_sizes(bigint, jsonb)
UPDATE federated.node AS n SET dataset_size = s.size
FROM jsonb_to_recordset($2::jsonb) AS s (node text, size bigint)
WHERE n.workspace_id = $1 AND n.name = s.node
