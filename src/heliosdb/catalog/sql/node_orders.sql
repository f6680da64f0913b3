-- Subject orders in a node's own database.

-- name: limit_waiting()
SELECT set_config('lock_timeout', '15s', true)

-- name: find_order(text, uuid)
SELECT order_mac, statement, signature, certificate_sha256, body FROM federated.node_order
WHERE workspace = $1 AND order_id = $2

-- name: insert_order(text, uuid, text, timestamptz, bytea, text, bytea, bytea, bytea, bytea, bytea)
INSERT INTO federated.node_order (workspace, order_id, kind, deadline, order_mac, outcome, statement, signature,
                                  certificate_sha256, body_sha256, body)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)

-- name: sign_order_anew(text, uuid, bytea, bytea)
UPDATE federated.node_order SET signature = $3, certificate_sha256 = $4 WHERE workspace = $1 AND order_id = $2

-- name: is_text()
SELECT federated._held_subject() IS NOT NULL AS is_text

-- name: hold_subject()
SELECT federated._hold_subject()

-- name: subject_rows(text)
SELECT federated._subject_rows($1) AS rows

-- name: erase_rows(text)
SELECT federated._erase_rows($1) AS rows

-- name: check_constraints()
SET CONSTRAINTS ALL IMMEDIATE

-- name: defer_constraints()
SET CONSTRAINTS ALL DEFERRED

-- name: subject_codes(text)
SELECT DISTINCT c AS code FROM federated._subject_codes($1) AS c

-- name: lock_withdrawals()
SELECT pg_advisory_xact_lock(hashtextextended('heliosdb_federated.withdrawals', 0))

-- name: is_withdrawn(text, bytea[], text)
SELECT count(DISTINCT digest) = cardinality($2::bytea[]) AS withdrawn FROM federated.withdrawn_subject
WHERE workspace = $1 AND digest = ANY ($2::bytea[]) AND reason = $3

-- name: withdraw(text, bytea[], bytea[], text, uuid)
INSERT INTO federated.withdrawn_subject (workspace, digest, row_set_digest, reason, order_id)
SELECT $1, d.digest, d.row_set_digest, $4, $5 FROM unnest($2::bytea[], $3::bytea[]) AS d (digest, row_set_digest)
ON CONFLICT DO NOTHING

-- name: readmit(text, bytea[], text)
DELETE FROM federated.withdrawn_subject WHERE workspace = $1 AND digest = ANY ($2::bytea[]) AND reason = $3
