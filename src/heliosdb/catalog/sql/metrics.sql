-- What the coordinator's metrics show of the catalog. Workspaces and nodes are the oldest ones, so that the same are shown each time.

-- name: limit_time(integer)
SELECT set_config('statement_timeout', $1::text, false)

-- name: list_workspace_figures(integer)
SELECT m.workspace, m.metric, m.value FROM federated.alert_metric AS m
WHERE m.value IS NOT NULL
  AND m.workspace IN (SELECT w.name FROM federated.workspace AS w ORDER BY w.workspace_id LIMIT $1)

-- name: list_run_figures(integer)
SELECT w.name AS workspace, r.status::text AS status, count(*) AS runs
FROM (SELECT s.workspace_id, s.name FROM federated.workspace AS s ORDER BY s.workspace_id LIMIT $1) AS w
JOIN federated.model AS m USING (workspace_id) JOIN federated.run AS r USING (model_id)
GROUP BY w.name, r.status

-- name: list_node_figures(integer, integer)
SELECT w.name AS workspace, n.name AS node, n.status = 'active' AS is_up,
       extract(epoch FROM n.last_seen)::double precision AS last_seen,
       extract(epoch FROM n.certificate_expires)::double precision AS certificate_expires
FROM (SELECT s.workspace_id, s.name FROM federated.workspace AS s ORDER BY s.workspace_id LIMIT $1) AS w
JOIN federated.node AS n USING (workspace_id)
ORDER BY n.node_id LIMIT $2

-- name: count_all()
SELECT (SELECT count(*) FROM federated.workspace) AS workspaces, (SELECT count(*) FROM federated.node) AS nodes,
       (SELECT count(*) FROM federated.firing AS f
        WHERE f.next_attempt IS NOT NULL AND f.delivered_at IS NULL AND (f.kind = 'breach' OR f.alert_id IS NOT NULL)) AS notifications
