-- name: check_arm(text, integer)
SELECT federated._check_arm($1, $2)

-- name: insert_experiment(bigint, text)
INSERT INTO federated.experiment (model_id, name) VALUES ($1, $2)
ON CONFLICT (name) DO NOTHING RETURNING experiment_id::text AS experiment_id

-- name: insert_arm(uuid, bigint, integer, text, integer, double precision)
INSERT INTO federated.experiment_arm (experiment_id, model_id, place, name, version, share)
VALUES ($1::uuid, $2, $3, $4, $5, $6)

-- name: find_experiment(text)
SELECT experiment_id::text AS experiment_id, federated._owns_model(model_id) AS owned FROM federated.experiment WHERE name = $1

-- name: delete_experiment(uuid)
DELETE FROM federated.experiment WHERE experiment_id = $1::uuid RETURNING name
