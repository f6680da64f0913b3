-- name: find_workspace_id(text)
SELECT workspace_id FROM federated.workspace WHERE name = $1

-- name: list_requirements()
SELECT r.requirement FROM federated._requirements() AS r GROUP BY r.requirement ORDER BY min(r.place)

-- name: insert_attestation(bigint, text, text, text)
INSERT INTO federated.attestation (workspace_id, requirement, valid_until, statement)
VALUES ($1, $2, $3::date, $4) RETURNING status
