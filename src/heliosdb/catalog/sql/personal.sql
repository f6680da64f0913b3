-- A node's own parts of models, in its own database.

-- name: put_personal(text, uuid, text, text, integer, text, jsonb, bytea)
WITH former AS (
    DELETE FROM federated.personal_part AS p USING (
        SELECT o.workspace, o.run_id, o.node_name FROM federated.personal_part AS o
        WHERE o.workspace = $1 AND o.node_name = $3 AND o.model_name = $4 AND o.run_id <> $2
        ORDER BY o.made_at DESC, o.run_id OFFSET 7
    ) AS o
    WHERE (p.workspace, p.run_id, p.node_name) = (o.workspace, o.run_id, o.node_name)
)
INSERT INTO federated.personal_part (workspace, run_id, node_name, model_name, round_number, way, figures, sealed)
VALUES ($1, $2, $3, $4, $5, $6, $7::text::jsonb, $8)
ON CONFLICT (workspace, run_id, node_name) DO UPDATE SET
    model_name = excluded.model_name, round_number = excluded.round_number, way = excluded.way, figures = excluded.figures,
    sealed = excluded.sealed, made_at = clock_timestamp()

-- name: find_personal(text, text, integer, uuid)
SELECT p.run_id, p.round_number, p.sealed FROM federated.personal_part AS p
WHERE p.workspace = $1 AND p.node_name = $2 AND federated._version_key(p.run_id, $3) = $4

-- name: destroy_personal(text)
SELECT federated._destroy_personal($1) AS destroyed
