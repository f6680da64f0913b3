-- What statements and daemons read and write for compliance modes: modes of runs, identifiers that were found.

-- name: list_modes_in_training(bigint)
SELECT DISTINCT m.name, coalesce(r.policy ->> 'compliance_mode', 'none') AS mode
FROM federated.run AS r JOIN federated.model AS m USING (model_id)
WHERE m.workspace_id = $1 AND r.status IN ('queued', 'running')
ORDER BY m.name

-- name: sample_dataset(text, text[], integer, integer, name[])
SELECT s::text AS shown FROM federated._sample_dataset($1, $2, $3, $4, $5) AS s

-- name: record_findings(text, jsonb)
SELECT federated._record_findings(d.dataset_id, 'statement', NULL, $2) FROM federated.dataset AS d WHERE d.name = $1

-- name: record_trained_findings(bigint, text[], jsonb)
SELECT federated._record_trained_findings($1, $2, $3)

-- name: read_shared_columns(text)
SELECT columns, types FROM federated.dataset WHERE name = $1

-- name: list_telling_columns(bigint)
SELECT column_name, bool_or(found_by = 'statement') AS was_told
FROM federated.phi_finding WHERE dataset_id = $1 AND evidence = 'values'
GROUP BY column_name ORDER BY column_name
