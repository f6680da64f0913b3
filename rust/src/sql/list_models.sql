SELECT m.name::text AS model_name, w.name::text AS workspace_name, m.owner::text AS owner, m.options::jsonb, m.created_at::timestamptz
FROM federated.model AS m JOIN federated.workspace AS w USING (workspace_id)
WHERE w.name = coalesce($1::text, w.name) AND m.name = coalesce($2::text, m.name) ORDER BY m.name
