-- name: list_signed(text)
SELECT workspace, run_id::text AS run_id, round_number, exchange, step, node_name, header, signature, noise_multiplier,
       sampling_rate, steps, noise, epsilon_basic, epsilon_tight
FROM federated.node_spending WHERE $1::text IS NULL OR workspace = $1 ORDER BY workspace, node_name, recorded_at

-- name: list_certificates(text)
SELECT w.name AS workspace, n.name AS node_name, n.certificate
FROM federated.node AS n JOIN federated.workspace AS w USING (workspace_id)
WHERE n.certificate IS NOT NULL AND ($1::text IS NULL OR w.name = $1)
UNION
SELECT a.workspace, a.object_name, a.details -> 'after' ->> 'certificate'
FROM federated.audit AS a
WHERE a.object_kind = 'node' AND a.details -> 'after' ->> 'certificate' IS NOT NULL AND ($1::text IS NULL OR a.workspace = $1)

-- name: list_faults(text)
SELECT f.node_name, f.fault FROM federated._ledger_faults($1) AS f
