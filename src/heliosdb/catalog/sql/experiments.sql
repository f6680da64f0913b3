-- name: check_arm(text, integer)
SELECT federated._check_arm($1, $2)

-- name: insert_experiment(bigint, text, integer)
INSERT INTO federated.experiment (model_id, name, keep_days) VALUES ($1, $2, $3)
ON CONFLICT (name) DO NOTHING RETURNING experiment_id::text AS experiment_id

-- name: insert_arms(uuid, bigint, text[], integer[], double precision[])
INSERT INTO federated.experiment_arm (experiment_id, model_id, place, name, version, share)
SELECT $1::uuid, $2, a.place, a.name, a.version, a.share
FROM unnest($3::text[], $4::integer[], $5::double precision[]) WITH ORDINALITY AS a (name, version, share, place)

-- name: find_experiment(text)
SELECT experiment_id::text AS experiment_id, federated._owns_model(model_id) AS owned FROM federated.experiment WHERE name = $1

-- name: delete_experiment(uuid)
DELETE FROM federated.experiment WHERE experiment_id = $1::uuid RETURNING name
