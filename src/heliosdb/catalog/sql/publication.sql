-- name: next_version(bigint)
SELECT greatest(dropped_version, (SELECT max(v.version) FROM federated.version AS v WHERE v.model_id = m.model_id)) + 1 AS version
FROM federated.model AS m WHERE model_id = $1

-- name: retire_current(bigint)
UPDATE federated.version SET is_current = false WHERE model_id = $1 AND is_current

-- Where the round measured another model than the version's, the version has no figures.
-- name: insert_version(bigint, integer, uuid, integer, text[], jsonb, double precision, boolean, jsonb, bytea, boolean, jsonb)
INSERT INTO federated.version (model_id, version, run_id, round_number, features, scaling, sealed, sha256,
    global_loss, global_accuracy, epsilon, is_current, prediction, global_loss_std_error, global_accuracy_std_error,
    base_loss, global_precision, global_recall, global_f1_score, global_rmse, report, prediction_arrays)
SELECT $1, $2, d.run_id, d.round_number, $5::text[], $6::jsonb, p.sealed, p.sha256, m.global_loss,
       m.global_accuracy, $7, $8, $9::jsonb, m.global_loss_std_error, m.global_accuracy_std_error, m.base_loss,
       m.global_precision, m.global_recall, m.global_f1_score, m.global_rmse, coalesce(m.report, $12::jsonb), $10
FROM federated.round AS d
JOIN federated.run_parameters AS p USING (run_id, round_number)
LEFT JOIN federated.round AS m ON m.run_id = d.run_id AND m.round_number = d.round_number AND $11
WHERE d.run_id = $3::uuid AND d.round_number = $4
RETURNING version_id

-- name: publish_function(bigint, integer, uuid, text[], boolean[], jsonb)
SELECT federated._publish_function($1, $2, $3::uuid, $4, $5, $6) AS obstacle

-- name: sealing(uuid, integer)
SELECT federated._prediction_key() AS public, federated._version_key($1::uuid, $2) AS key
