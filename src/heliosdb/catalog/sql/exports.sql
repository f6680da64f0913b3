-- Exports: what statements ask for, what nodes sent, what is to be written.

-- name: is_path_awaited(text)
SELECT EXISTS (SELECT FROM federated.export AS e WHERE e.path = $1 AND e.state IN ('waiting', 'blocked')) AS awaited

-- name: insert_export(uuid, text, text, bytea, bytea)
INSERT INTO federated.export (order_id, path, format, salt, recipient)
SELECT o.order_id, $2, $3, $4, $5 FROM federated.subject_order AS o WHERE o.batch_id = $1

-- name: keep_part(uuid, bigint, bytea)
INSERT INTO federated.export_part (order_id, node_id, content)
SELECT e.order_id, $2, $3 FROM federated.export AS e WHERE e.order_id = $1

-- name: list_due_exports(integer)
SELECT e.order_id FROM federated.export AS e JOIN federated.subject_order AS o USING (order_id)
WHERE e.state IN ('waiting', 'blocked') AND o.state IN ('answered', 'expired', 'dropped')
ORDER BY o.ended_at, e.order_id LIMIT $1

-- name: write_export(uuid)
SELECT federated._write_export($1) AS state

-- name: lock_export(uuid)
SELECT e.path, e.format, e.salt, e.recipient, e.heading::text AS heading, CASE o.state WHEN 'dropped' THEN coalesce(o.message, 'the workspace was dropped') END AS drop_reason,
       o.deadline + interval '1 month' < clock_timestamp() AS is_too_late,
       EXISTS (SELECT FROM pg_roles AS r WHERE r.rolname = o.requested_by
               AND pg_has_role(r.oid, 'pg_write_server_files', 'USAGE') AND pg_has_role(r.oid, 'federated_admin', 'USAGE')) AS may_write
FROM federated.export AS e JOIN federated.subject_order AS o USING (order_id)
WHERE e.order_id = $1 AND e.state IN ('waiting', 'blocked') AND o.state IN ('answered', 'expired', 'dropped')
FOR UPDATE OF e

-- name: read_state(uuid)
SELECT state FROM federated.export WHERE order_id = $1

-- name: fix_heading(uuid)
UPDATE federated.export SET heading = federated._export_heading(order_id) WHERE order_id = $1 AND heading IS NULL

-- name: read_part(uuid, bigint)
SELECT content FROM federated.export_part WHERE order_id = $1 AND node_id = $2

-- name: finish_export(uuid, bigint, bytea)
WITH done AS (DELETE FROM federated.export_part WHERE order_id = $1)
UPDATE federated.export SET state = 'written', message = NULL, size_bytes = $2, sha256 = $3, ended_at = clock_timestamp()
WHERE order_id = $1

-- name: fail_export(uuid, text)
WITH done AS (DELETE FROM federated.export_part WHERE order_id = $1)
UPDATE federated.export SET state = 'failed', message = $2, ended_at = clock_timestamp() WHERE order_id = $1

-- name: block_export(uuid, text)
UPDATE federated.export SET state = 'blocked', message = $2 WHERE order_id = $1 AND ROW(state, message) IS DISTINCT FROM ROW('blocked', $2)
