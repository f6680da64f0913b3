-- name: hold_workspace(text)
SELECT pg_advisory_xact_lock(hashtextextended('heliosdb_federated.heads ' || $1, 0))

-- name: list_held(text)
SELECT DISTINCT ON (h.origin) h.statement, h.signature, h.certificate, h.node_name, h.witnessed, h.cosignature
FROM federated.witnessed_head AS h WHERE h.workspace = $1 ORDER BY h.origin, h.tree_size DESC

-- name: count_logs()
SELECT count(*) AS logs FROM (SELECT DISTINCT h.workspace, h.origin FROM federated.witnessed_head AS h) AS l

-- name: now()
SELECT clock_timestamp() AS now

-- name: store_witnessed(text, uuid, bigint, bytea, timestamptz, bytea, bytea, text, text, bytea, bytea)
INSERT INTO federated.witnessed_head
    (workspace, origin, tree_size, root, signed_at, statement, signature, certificate, node_name, witnessed, cosignature)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)

-- name: drop_old(text, uuid, integer)
DELETE FROM federated.witnessed_head AS h
WHERE h.workspace = $1 AND h.origin = $2 AND h.tree_size <= (
    SELECT o.tree_size FROM federated.witnessed_head AS o
    WHERE o.workspace = $1 AND o.origin = $2 ORDER BY o.tree_size DESC OFFSET $3 LIMIT 1)

-- name: store_conflict(text, uuid, text, bytea, bytea, text, bytea, bytea, text, integer)
INSERT INTO federated.head_conflict
    (workspace, origin, kind, held_statement, held_signature, held_certificate, offered_statement, offered_signature, certificate)
SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9
WHERE (SELECT count(*) FROM federated.head_conflict AS c WHERE c.workspace = $1 AND c.origin = $2) < $10
ON CONFLICT DO NOTHING

-- name: list_all(text)
SELECT h.statement, h.signature, h.certificate, h.node_name, h.witnessed, h.cosignature
FROM federated.witnessed_head AS h WHERE $1::text IS NULL OR h.workspace = $1 ORDER BY h.workspace, h.origin, h.tree_size

-- name: list_conflicts(text)
SELECT c.kind, c.held_statement, c.held_signature, c.held_certificate, c.offered_statement, c.offered_signature, c.certificate
FROM federated.head_conflict AS c WHERE $1::text IS NULL OR c.workspace = $1 ORDER BY c.conflict_id
