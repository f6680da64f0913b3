-- name: current_version(bigint)
SELECT version FROM federated.version WHERE model_id = $1 AND is_current

-- name: version_number(text, text)
SELECT federated._version_number($1, $2) AS version

-- name: has_version(bigint, text)
SELECT EXISTS (
    SELECT FROM federated.version AS v WHERE v.model_id = $1 AND CASE WHEN $2 ~ '^[0-9]+$' THEN v.version = $2::numeric
    ELSE v.version = (SELECT t.version FROM federated.tag AS t WHERE t.model_id = $1 AND t.name = $2) END
) AS has_version

-- name: tagged_version(bigint, text)
SELECT version FROM federated.tag WHERE model_id = $1 AND name = $2

-- name: insert_tag(bigint, text, integer)
INSERT INTO federated.tag (model_id, name, version) VALUES ($1, $2, $3)
ON CONFLICT (model_id, name) DO NOTHING RETURNING version

-- name: move_tag(bigint, text, integer)
UPDATE federated.tag SET version = $3 WHERE model_id = $1 AND name = $2

-- name: delete_tag(bigint, text)
DELETE FROM federated.tag WHERE model_id = $1 AND name = $2 RETURNING version

-- name: delete_version(bigint, integer)
DELETE FROM federated.version WHERE model_id = $1 AND version = $2

-- name: has_numbers(bigint, integer)
SELECT prediction IS NOT NULL AS has_numbers FROM federated.version WHERE model_id = $1 AND version = $2

-- name: make_current(bigint, integer)
UPDATE federated.version SET is_current = true WHERE model_id = $1 AND version = $2

-- name: will_promote(bigint)
SELECT EXISTS (
    SELECT FROM federated.run
    WHERE model_id = $1 AND status IN ('queued', 'running') AND coalesce((options ->> 'promote')::boolean, true)
) AS will_promote
