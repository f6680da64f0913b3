-- What daemons delete for its age, and the stubs that they sign.

-- name: list_retained()
SELECT workspace FROM federated._retention_bounds() ORDER BY workspace

-- name: forget_expired(text)
SELECT stub_id, name, workspace, origin, first_position, last_position, entries, older_than, content_sha256, deleted_at
FROM federated._forget_expired($1)

-- name: fold_experiments(text)
SELECT federated._fold_experiments($1) AS folded

-- name: forget_node_history(integer)
SELECT stub_id, name, workspace, origin, first_position, last_position, entries, older_than, content_sha256, deleted_at
FROM federated._forget_node_history($1)

-- name: sign_stub(bigint, bytea, bytea, text)
UPDATE federated.retention_stub SET statement = $2, signature = $3, certificate = $4 WHERE stub_id = $1
