-- name: read_model(text)
SELECT m.model_id, m.name, m.options::text AS options, w.workspace_id, w.name AS workspace, w.options::text AS policy,
       EXISTS (SELECT FROM pg_roles AS o WHERE o.rolname = w.owner AND pg_has_role(o.oid, 'USAGE')) AS workspace_owned,
       EXISTS (SELECT FROM pg_roles AS o WHERE o.rolname IN (m.owner, w.owner) AND pg_has_role(o.oid, 'USAGE')) AS owned
FROM federated.model AS m JOIN federated.workspace AS w USING (workspace_id)
WHERE m.name = $1

-- name: list_participants(bigint)
SELECT name, status::text AS status, failure_reason, coalesce(certificate_expires <= now(), false) AS is_expired,
       coalesce(dataset_size, (options ->> 'dataset_size')::bigint) AS dataset_size
FROM federated.node WHERE workspace_id = $1 ORDER BY name

-- name: why_not_plain(bigint, jsonb)
SELECT federated._why_not_plain($1, $2)::text AS failure

-- name: measure_rounds(bigint, bigint)
SELECT count(*) FILTER (WHERE m.model_id = $2 AND d.round_number > 0) AS own,
       count(*) FILTER (WHERE d.round_number > 0) AS all_of_workspace,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM d.finished_at - d.started_at))
           FILTER (WHERE m.model_id = $2 AND d.round_number > 0) AS own_seconds,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM d.finished_at - d.started_at))
           FILTER (WHERE d.round_number > 0) AS seconds,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM d.finished_at - d.started_at))
           FILTER (WHERE m.model_id = $2 AND d.round_number = 0) AS own_preparation,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM d.finished_at - d.started_at))
           FILTER (WHERE d.round_number = 0) AS preparation
FROM federated.round AS d
JOIN federated.run AS r USING (run_id)
JOIN federated.model AS m USING (model_id)
WHERE m.workspace_id = $1 AND d.status = 'closed'

-- name: measure_bytes(bigint)
SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY p.exchanges) AS exchanges,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY p.bytes_sent) AS bytes_down,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY p.bytes_received) AS bytes_up
FROM (
    SELECT count(*) AS exchanges, sum(q.bytes_sent) AS bytes_sent, sum(q.bytes_received) AS bytes_received
    FROM federated.participation AS q
    JOIN federated.run AS r USING (run_id)
    WHERE r.model_id = $1 AND q.round_number > 0 AND q.outcome = 'received'
    GROUP BY q.run_id, q.round_number, q.node_id
) AS p
