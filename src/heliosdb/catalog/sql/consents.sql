-- What statements and a node's daemon read and write of consent.

-- name: clock()
SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS now

-- name: find_node_key()
SELECT sealing_key FROM federated.node_key

-- name: publish_node_key(bytea)
INSERT INTO federated.node_key (sealing_key) VALUES ($1) ON CONFLICT (only_one) DO NOTHING

-- name: find_foreign_dataset(text)
SELECT name FROM federated.dataset WHERE workspace = $1 AND NOT federated._has_role(owner) ORDER BY name LIMIT 1

-- name: create_view(text, text, name[])
SELECT federated._create_consent_view($1, $2, $3)

-- name: drop_view(text)
SELECT federated._drop_consent_view($1)

-- name: insert_request(text, text, text, text, bytea)
INSERT INTO federated.consent_request (workspace, kind, purpose, version, sealed) VALUES ($1, $2, $3, $4, $5)

-- name: list_requests(integer)
SELECT request_id, workspace, kind, purpose, version, sealed FROM federated.consent_request ORDER BY request_id LIMIT $1

-- name: record_request(bigint, bytea[], bytea[])
WITH taken AS (
    DELETE FROM federated.consent_request WHERE request_id = $1
    RETURNING workspace, kind, purpose, version, requested_by, requested_at
)
INSERT INTO federated.consent (workspace, digest, row_set_digest, kind, purpose, version, origin, given_by, said_at)
SELECT t.workspace, d.digest, d.row_set_digest, t.kind, t.purpose, t.version, 'node', t.requested_by, t.requested_at
FROM taken AS t CROSS JOIN unnest($2::bytea[], $3::bytea[]) AS d (digest, row_set_digest)

-- name: drop_request(bigint)
DELETE FROM federated.consent_request WHERE request_id = $1

-- name: record_order(text, bytea[], bytea[], text, text, text, uuid, timestamptz)
INSERT INTO federated.consent (workspace, digest, row_set_digest, kind, purpose, version, origin, order_id, said_at)
SELECT $1, d.digest, d.row_set_digest, $4, $5, $6, 'coordinator', $7, least($8, clock_timestamp())
FROM unnest($2::bytea[], $3::bytea[]) AS d (digest, row_set_digest)

-- name: read_words(bigint, boolean, boolean)
SELECT federated._withdrawn($1) AS withdrawn, CASE WHEN $2 THEN federated._granted($1) END AS granted,
       CASE WHEN $3 THEN federated._unexplained($1) END AS unexplained,
       EXISTS (SELECT FROM federated.consent_request) AS waits
