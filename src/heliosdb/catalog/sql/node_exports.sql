-- Exports in a node's own database.

-- name: count_recent_exports(text)
SELECT count(DISTINCT (e.workspace, e.order_id)) AS exports FROM federated.node_export AS e
WHERE e.dataset = $1 AND e.exported_at > clock_timestamp() - interval '24 hours'

-- name: list_columns(text)
SELECT name, type FROM federated._exported_columns($1)

-- name: read_values(text, bigint)
SELECT v AS values FROM federated._subject_values($1, $2) AS v

-- name: insert_export(text, uuid, text, text, bytea, bigint, bigint)
INSERT INTO federated.node_export (workspace, order_id, dataset, node_name, recipient, rows, value_bytes)
VALUES ($1, $2, $3, $4, $5, $6, $7)

-- name: forget_bodies()
UPDATE federated.node_order SET body = NULL WHERE body IS NOT NULL AND deadline < clock_timestamp()
