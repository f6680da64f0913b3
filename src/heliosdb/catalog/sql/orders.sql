-- Subject orders at the coordinator.

-- name: read_sealing_key()
SELECT sealing_key FROM federated.coordinator_key

-- name: publish_sealing_key(bytea)
INSERT INTO federated.coordinator_key AS k (sealing_key) VALUES ($1)
ON CONFLICT (only_one) DO UPDATE SET sealing_key = excluded.sealing_key, published_at = clock_timestamp()
WHERE k.sealing_key <> excluded.sealing_key

-- name: insert_orders(uuid, text, text, text, jsonb, uuid[], bytea[])
INSERT INTO federated.subject_order (batch_id, kind, workspace, model, terms, order_id, sealed)
SELECT $1, $2, $3, $4, $5, u.order_id, u.sealed FROM unnest($6::uuid[], $7::bytea[]) AS u (order_id, sealed)

-- name: list_requested_orders(integer, uuid[])
-- What failed before comes last: it keeps nobody else waiting. Nor does what its reader knows that it cannot open.
SELECT order_id FROM federated.subject_order
WHERE state = 'requested' AND deadline > clock_timestamp() AND order_id <> ALL ($2)
ORDER BY message IS NOT NULL, requested_at, order_id LIMIT $1

-- name: list_pending_answers(integer)
SELECT n.node_id, a.order_id
FROM federated.node AS n
CROSS JOIN LATERAL (
    SELECT a.order_id FROM federated.order_answer AS a JOIN federated.subject_order AS o USING (order_id)
    WHERE a.node_id = n.node_id AND a.state = 'pending' AND o.state = 'asked' AND o.deadline > clock_timestamp()
    ORDER BY a.message IS NOT NULL, o.requested_at, o.order_id LIMIT $1
) AS a

-- name: may_settle()
SELECT federated._may_settle_orders() AS may

-- name: settle_orders()
SELECT order_id, state FROM federated._settle_orders()

-- name: read_open_order(uuid)
SELECT order_id, kind, workspace, terms::text AS terms, sealed, deadline
FROM federated.subject_order WHERE order_id = $1 AND state IN ('requested', 'asked')

-- name: take_order(uuid, bytea)
SELECT federated._take_order($1, $2) AS taken

-- name: note_untaken(uuid, text)
UPDATE federated.subject_order SET message = $2 WHERE order_id = $1 AND state = 'requested' AND message IS DISTINCT FROM $2

-- name: drop_order(uuid, text)
UPDATE federated.subject_order SET state = 'dropped', sealed = NULL, message = $2, ended_at = clock_timestamp()
WHERE order_id = $1 AND state = 'requested'

-- name: is_pending(uuid, bigint)
SELECT EXISTS (SELECT FROM federated.order_answer AS a JOIN federated.subject_order AS o USING (order_id)
               WHERE a.order_id = $1 AND a.node_id = $2 AND a.state = 'pending' AND o.state = 'asked') AS pending

-- name: record_answer(uuid, bigint, text, bytea, bytea, bytea)
UPDATE federated.order_answer SET state = 'answered', outcome = $3, statement = $4, signature = $5, certificate_sha256 = $6,
    message = NULL, answered_at = clock_timestamp()
WHERE order_id = $1 AND node_id = $2 AND state = 'pending' RETURNING order_id

-- name: record_refusal(uuid, bigint, text)
UPDATE federated.order_answer SET state = 'refused', message = $3, answered_at = clock_timestamp()
WHERE order_id = $1 AND node_id = $2 AND state = 'pending'

-- name: note_failure(uuid, bigint, text)
UPDATE federated.order_answer SET message = $3
WHERE order_id = $1 AND node_id = $2 AND state = 'pending' AND message IS DISTINCT FROM $3
