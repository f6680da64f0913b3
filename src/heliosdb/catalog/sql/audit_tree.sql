-- name: read_leaves(text, uuid, bigint, bigint)
SELECT array_agg(a.hash ORDER BY a.chain_position) AS hashes FROM federated.audit AS a
WHERE a.workspace = $1 AND a.origin = $2 AND a.chain_position > $3 AND a.chain_position <= $4

-- name: list_chains(text)
SELECT a.origin::text AS origin, count(*) AS entries FROM federated.audit AS a
WHERE a.workspace = $1 AND a.chain_position IS NOT NULL GROUP BY a.origin
UNION
SELECT h.origin::text, 0 FROM federated.tree_head AS h
WHERE h.workspace = $1 AND NOT EXISTS (
    SELECT FROM federated.audit AS a WHERE a.workspace = $1 AND a.origin = h.origin AND a.chain_position IS NOT NULL)
ORDER BY 1

-- name: list_heads(text, uuid)
SELECT h.origin::text AS origin, h.tree_size, h.root, h.statement, h.signature, s.certificate
FROM federated.tree_head AS h JOIN federated.signer AS s USING (certificate_sha256)
WHERE h.workspace = $1 AND ($2::uuid IS NULL OR h.origin = $2) ORDER BY h.origin, h.tree_size

-- name: list_cosignatures(text, uuid)
SELECT c.origin::text AS origin, c.tree_size, c.node_name, c.statement, c.signature, s.certificate
FROM federated.cosignature AS c JOIN federated.signer AS s USING (certificate_sha256)
WHERE c.workspace = $1 AND ($2::uuid IS NULL OR c.origin = $2) ORDER BY c.origin, c.tree_size, c.node_name

-- name: list_breaks(text)
SELECT b.origin::text AS origin, b.node_name, b.kind, b.held_size, b.own_size
FROM federated.audit_break AS b WHERE b.workspace = $1 AND b.settled_at IS NULL ORDER BY b.break_id

-- name: find_entry(text, uuid)
SELECT a.origin::text AS origin, a.workspace, a.chain_position, coalesce(encode(a.previous_hash, 'hex'), '') AS previous_hash,
       a.audit_id::text AS audit_id, to_char(a.recorded_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS recorded_at,
       a.transaction_id::text AS transaction_id, a.session_role::text AS session_role, a.acting_role::text AS acting_role,
       a.action, a.object_kind, a.object_name, a.details::text AS details, encode(a.hash, 'hex') AS hash
FROM federated.audit AS a WHERE a.workspace = $1 AND a.audit_id = $2 AND a.chain_position IS NOT NULL

-- name: list_entries(text, uuid, bigint, bigint)
SELECT a.origin::text AS origin, a.workspace, a.chain_position, coalesce(encode(a.previous_hash, 'hex'), '') AS previous_hash,
       a.audit_id::text AS audit_id, to_char(a.recorded_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS recorded_at,
       a.transaction_id::text AS transaction_id, a.session_role::text AS session_role, a.acting_role::text AS acting_role,
       a.action, a.object_kind, a.object_name, a.details::text AS details, encode(a.hash, 'hex') AS hash
FROM federated.audit AS a WHERE a.workspace = $1 AND a.origin = $2 AND a.chain_position > $3
ORDER BY a.chain_position LIMIT $4

-- name: is_known(text)
SELECT EXISTS (SELECT FROM federated.audit AS a WHERE a.workspace = $1) AS known

-- name: find_covering_head(text, uuid, bigint)
SELECT h.tree_size, h.root, h.statement, h.signature, s.certificate
FROM federated.tree_head AS h JOIN federated.signer AS s USING (certificate_sha256)
WHERE h.workspace = $1 AND h.origin = $2 AND h.tree_size >= $3
ORDER BY (SELECT count(*) FROM federated.cosignature AS c
          WHERE (c.workspace, c.origin, c.tree_size) = (h.workspace, h.origin, h.tree_size)) DESC, h.tree_size
LIMIT 1

-- name: find_edge(text, uuid, bigint)
SELECT h.tree_size, h.edge FROM federated.tree_head AS h
WHERE h.workspace = $1 AND h.origin = $2 AND h.tree_size <= $3 ORDER BY h.tree_size DESC LIMIT 1

-- name: list_head_cosignatures(text, uuid, bigint)
SELECT c.node_name, c.statement, c.signature, s.certificate
FROM federated.cosignature AS c JOIN federated.signer AS s USING (certificate_sha256)
WHERE c.workspace = $1 AND c.origin = $2 AND c.tree_size = $3 ORDER BY c.node_name

-- name: list_stubs(text)
SELECT s.stub_id, s.name, s.workspace, s.origin, s.first_position, s.last_position, s.entries, s.content_sha256,
       to_char(s.older_than AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US+00:00') AS older_than,
       to_char(s.deleted_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US+00:00') AS deleted_at, coalesce(s.statement, '') AS statement, coalesce(s.signature, '') AS signature,
       coalesce(s.certificate, '') AS certificate
FROM federated.retention_stub AS s WHERE s.workspace = $1 AND s.name = 'audit' ORDER BY s.origin, s.first_position, s.stub_id

-- name: begin_reading()
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY
