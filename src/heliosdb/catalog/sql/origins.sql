-- name: find_version(uuid, integer)
SELECT v.round_number, v.sealed, v.sha256, v.scaling::text AS scaling, v.features, v.retired_at IS NOT NULL AS is_retired,
       r.options::text AS options, r.policy::text AS policy
FROM federated.version AS v JOIN federated.run AS r USING (run_id)
WHERE v.run_id = $1::uuid AND v.version = $2

-- name: read_parent(text, jsonb, jsonb)
SELECT p.model, p.version, p.workspace, p.parent_options::text AS options, p.parent_policy::text AS policy, p.epsilon,
       federated._owns_model(p.model_id) AS is_owned
FROM federated._read_parent($1, $2, $3) AS p
