-- name: list_grown(double precision)
SELECT h.workspace, h.origin::text AS origin
FROM federated.audit_head AS h
JOIN federated.audit_origin AS o USING (origin)
LEFT JOIN LATERAL (
    SELECT t.tree_size, t.signed_at FROM federated.tree_head AS t
    WHERE (t.workspace, t.origin) = (h.workspace, h.origin) ORDER BY t.tree_size DESC LIMIT 1
) AS t ON true
WHERE h.chain_position > coalesce(t.tree_size, 0)
  AND CASE WHEN t.signed_at IS NULL OR t.signed_at < clock_timestamp() - make_interval(secs => $1) THEN true
           -- While nobody trains there is nothing to wait for. In a CASE it is asked of logs that have grown alone.
           ELSE NOT EXISTS (
               SELECT FROM federated.run AS r JOIN federated.model AS m USING (model_id) JOIN federated.workspace AS w USING (workspace_id)
               WHERE w.name = h.workspace AND r.status IN ('queued', 'running')) END
ORDER BY h.workspace

-- name: read_end(text, uuid)
SELECT h.chain_position AS entries, clock_timestamp() AS now FROM federated.audit_head AS h
WHERE h.workspace = $1 AND h.origin = $2

-- name: store_signer(bytea, text)
INSERT INTO federated.signer (certificate_sha256, certificate) VALUES ($1, $2) ON CONFLICT DO NOTHING

-- name: store_head(text, uuid, bigint, bytea, bytea, bytea, bytea, bytea, timestamptz)
INSERT INTO federated.tree_head
    (workspace, origin, tree_size, root, edge, statement, signature, certificate_sha256, signed_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)

-- name: list_unwitnessed()
SELECT t.workspace, t.origin::text AS origin, t.tree_size, t.statement, t.signature, n.node_id, n.name AS node_name,
       coalesce(c.tree_size, 0) AS cosigned
FROM federated.audit_origin AS o
JOIN federated.workspace AS w ON true
JOIN federated.node AS n USING (workspace_id)
JOIN LATERAL (
    SELECT h.* FROM federated.tree_head AS h
    WHERE h.workspace = w.name AND h.origin = o.origin ORDER BY h.tree_size DESC LIMIT 1
) AS t ON true
LEFT JOIN LATERAL (
    SELECT c.tree_size FROM federated.cosignature AS c
    WHERE c.workspace = w.name AND c.origin = o.origin AND c.node_name = n.name ORDER BY c.tree_size DESC LIMIT 1
) AS c ON true
WHERE coalesce(c.tree_size, 0) < t.tree_size AND n.status IN ('active', 'slow')
ORDER BY n.node_id

-- name: store_cosignature(text, uuid, bigint, text, bytea, bytea, bytea)
INSERT INTO federated.cosignature (workspace, origin, tree_size, node_name, statement, signature, certificate_sha256)
VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING

-- name: record_break(text, uuid, text, text, bigint, bigint, bytea, bytea)
INSERT INTO federated.audit_break AS b
    (workspace, origin, node_name, kind, held_size, own_size, held_statement, held_signature)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (workspace, node_name, held_statement) DO UPDATE SET settled_at = NULL, kind = excluded.kind
WHERE b.settled_at IS NOT NULL OR b.kind <> excluded.kind
RETURNING b.break_id

-- name: settle_breaks(text, text, bytea[])
UPDATE federated.audit_break AS b SET settled_at = clock_timestamp()
WHERE b.workspace = $1 AND b.node_name = $2 AND b.settled_at IS NULL AND NOT b.held_statement = ANY ($3::bytea[])

-- name: list_signers()
SELECT s.certificate FROM federated.signer AS s
WHERE EXISTS (SELECT FROM federated.tree_head AS h WHERE h.certificate_sha256 = s.certificate_sha256)

-- name: count_entries(text, uuid)
SELECT coalesce(max(a.chain_position), 0) AS entries FROM federated.audit AS a WHERE a.workspace = $1 AND a.origin = $2
