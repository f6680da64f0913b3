-- name: find_current(text)
SELECT name FROM federated.root_key WHERE holder = $1 AND status = 'current'

-- name: retire_former(text, text)
UPDATE federated.root_key SET status = 'former', since = clock_timestamp() WHERE holder = $1 AND status = 'current' AND name <> $2

-- name: note_current(text, text, text)
INSERT INTO federated.root_key AS k (holder, name, status, source) VALUES ($1, $2, 'current', $3)
ON CONFLICT (holder, name) DO UPDATE SET status = 'current', source = excluded.source, since = clock_timestamp() WHERE k.status <> 'current'

-- name: list_keys(text)
SELECT name, status, source, since, since < clock_timestamp() - interval '1 minute' AS is_settled
FROM federated.root_key WHERE holder = $1 ORDER BY first_used, name

-- name: count_sealed(text, text)
SELECT rows, files FROM federated._count_sealed($1, $2)

-- name: drop_key(text, text)
UPDATE federated.root_key SET status = 'dropped', since = clock_timestamp() WHERE holder = $1 AND name = $2 AND status = 'former'

-- name: list_state(text)
SELECT v.what, v.key_name, count(*) AS rows FROM federated.sealed_value AS v WHERE v.holder = $1 GROUP BY 1, 2 ORDER BY 1, 2

-- name: stale_states(text, integer)
SELECT p.run_id, p.round_number, substring(p.sealed FROM 1 FOR 96) AS sealed, substring(p.memory FROM 1 FOR 96) AS memory,
       substring(p.manifest FROM 1 FOR 96) AS manifest
FROM federated.run_parameters AS p
WHERE federated._sealed_under(p.sealed) NOT IN ($1, '') OR federated._sealed_under(p.memory) NOT IN ($1, '')
   OR federated._sealed_under(p.manifest) NOT IN ($1, '')
ORDER BY p.run_id, p.round_number LIMIT $2

-- name: rewrap_state(uuid, integer, bytea, bytea, bytea, bytea, bytea, bytea)
UPDATE federated.run_parameters AS p
SET sealed = CASE WHEN substring(p.sealed FROM 1 FOR 96) = $3 THEN $4 || substring(p.sealed FROM 97) ELSE p.sealed END,
    memory = CASE WHEN substring(p.memory FROM 1 FOR 96) = $5 THEN $6 || substring(p.memory FROM 97) ELSE p.memory END,
    manifest = CASE WHEN substring(p.manifest FROM 1 FOR 96) = $7 THEN $8 || substring(p.manifest FROM 97) ELSE p.manifest END
WHERE p.run_id = $1::uuid AND p.round_number = $2

-- name: stale_versions(text, integer)
SELECT v.version_id, substring(v.sealed FROM 1 FOR 96) AS sealed FROM federated.version AS v
WHERE v.sealed <> '' AND federated._sealed_under(v.sealed) NOT IN ($1, '') ORDER BY v.version_id LIMIT $2

-- name: rewrap_version(bigint, bytea, bytea)
UPDATE federated.version AS v SET sealed = $3 || substring(v.sealed FROM 97)
WHERE v.version_id = $1 AND substring(v.sealed FROM 1 FOR 96) = $2

-- name: stale_memories(text, integer)
SELECT m.workspace, m.run_id, m.node_name, substring(m.sealed FROM 1 FOR 96) AS sealed FROM federated.node_memory AS m
WHERE federated._sealed_under(m.sealed) NOT IN ($1, '') ORDER BY m.workspace, m.run_id, m.node_name LIMIT $2

-- name: rewrap_memory(text, uuid, text, bytea, bytea)
UPDATE federated.node_memory AS m SET sealed = $5 || substring(m.sealed FROM 97)
WHERE m.workspace = $1 AND m.run_id = $2::uuid AND m.node_name = $3 AND substring(m.sealed FROM 1 FOR 96) = $4

-- name: stale_parts(text, integer)
SELECT p.workspace, p.run_id, p.node_name, substring(p.sealed FROM 1 FOR 96) AS sealed FROM federated.personal_part AS p
WHERE federated._sealed_under(p.sealed) NOT IN ($1, '') ORDER BY p.workspace, p.run_id, p.node_name LIMIT $2

-- name: rewrap_part(text, uuid, text, bytea, bytea)
UPDATE federated.personal_part AS p SET sealed = $5 || substring(p.sealed FROM 97)
WHERE p.workspace = $1 AND p.run_id = $2::uuid AND p.node_name = $3 AND substring(p.sealed FROM 1 FOR 96) = $4

-- name: unnamed_runs()
SELECT DISTINCT p.run_id FROM federated.run_parameters AS p
WHERE federated._sealed_under(p.sealed) = '' OR federated._sealed_under(p.memory) = '' OR federated._sealed_under(p.manifest) = ''

-- name: run_states(uuid)
SELECT p.round_number, p.sealed, p.sha256, p.memory, p.manifest, p.kept_round, r.policy ->> 'workspace' AS workspace,
    coalesce((SELECT max(t.exchange) FROM federated.participation AS t JOIN federated.round AS d USING (run_id, round_number)
        WHERE t.run_id = p.run_id AND t.round_number = p.round_number AND d.status = 'open'), 0) AS exchange
FROM federated.run_parameters AS p JOIN federated.run AS r USING (run_id) WHERE p.run_id = $1::uuid ORDER BY p.round_number

-- name: put_resealed(uuid, integer, bytea, bytea, bytea, bytea)
UPDATE federated.run_parameters AS p SET sealed = $3, memory = $4, manifest = $5,
    file_digest = CASE WHEN p.manifest IS NULL OR p.manifest = $5 THEN p.file_digest ELSE coalesce(p.file_digest, $6) END
WHERE p.run_id = $1::uuid AND p.round_number = $2

-- name: unnamed_versions()
SELECT v.version_id, v.run_id, v.round_number, v.sealed, r.policy ->> 'workspace' AS workspace
FROM federated.version AS v JOIN federated.run AS r USING (run_id) WHERE v.sealed <> '' AND federated._sealed_under(v.sealed) = ''

-- name: put_version(bigint, bytea, bytea)
UPDATE federated.version AS v SET sealed = $3 WHERE v.version_id = $1 AND v.sealed = $2

-- name: unnamed_memories()
SELECT m.workspace, m.run_id, m.node_name, m.version, m.sealed FROM federated.node_memory AS m WHERE federated._sealed_under(m.sealed) = ''

-- name: put_memory_again(text, uuid, text, bigint, bytea, bytea)
UPDATE federated.node_memory AS m SET sealed = $6
WHERE m.workspace = $1 AND m.run_id = $2::uuid AND m.node_name = $3 AND m.version = $4 AND m.sealed = $5
