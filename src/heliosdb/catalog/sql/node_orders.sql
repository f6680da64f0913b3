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

-- name: server_encoding()
SELECT pg_encoding_to_char(encoding)::text AS name FROM pg_database WHERE datname = current_database()

-- name: hold_subject()
SELECT federated._hold_subject()

-- name: subject_rows(text)
SELECT federated._subject_rows($1) AS rows

-- name: subject_codes(text)
SELECT DISTINCT c AS code FROM federated._subject_codes($1) AS c

-- name: withdraw(text, bytea[], text, uuid)
INSERT INTO federated.withdrawn_subject (workspace, digest, reason, order_id)
SELECT $1, d, $3, $4 FROM unnest($2::bytea[]) AS d
ON CONFLICT DO NOTHING

-- name: list_withdrawn(text)
SELECT coalesce(string_agg(DISTINCT digest, ''::bytea ORDER BY digest), ''::bytea) AS digests
FROM federated.withdrawn_subject WHERE workspace = $1
