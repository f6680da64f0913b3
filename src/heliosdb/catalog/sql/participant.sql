-- What a node's daemon reads and writes in its own database.

-- name: ping()
SELECT 1 AS answer

-- name: list_shared_datasets(text)
SELECT dataset_id, name, relation, columns, types, predicate, options ->> 'subject' AS subject,
       (options ->> 'min_rows')::integer AS min_rows, (options ->> 'max_epsilon')::double precision AS max_epsilon
FROM federated.dataset WHERE workspace = $1 ORDER BY name

-- name: look_up(text, uuid, integer, text, text)
SELECT r.task_sha256, r.header, r.payload,
       d.dataset_id, d.name, d.relation, d.columns, d.types, d.predicate, d.options ->> 'subject' AS subject,
       (d.options ->> 'min_rows')::integer AS min_rows, (d.options ->> 'max_epsilon')::double precision AS max_epsilon
FROM (SELECT) AS always
LEFT JOIN federated.release AS r
    ON r.run_id = $2 AND r.round_number = $3 AND r.step = $4 AND r.node_name = $5
LEFT JOIN federated.dataset AS d ON d.workspace = $1
ORDER BY d.name

-- name: lock_ledger(text)
SELECT set_config('synchronous_commit',
                  CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on'
                  ELSE current_setting('synchronous_commit') END, true),
       federated._lock_relation($1)

-- name: read_ledger(bigint, text, text, uuid, integer, text, text)
SELECT r.task_sha256, r.header, r.payload, s.noise_multipliers, s.sampling_rates, s.steps,
       a.epsilon AS agreed_epsilon, a.delta AS agreed_delta,
       d.dataset_id, d.name, d.relation, d.columns, d.types, d.predicate, d.options ->> 'subject' AS subject,
       (d.options ->> 'min_rows')::integer AS min_rows, (d.options ->> 'max_epsilon')::double precision AS max_epsilon
FROM (
    SELECT coalesce(array_agg(noise_multiplier ORDER BY spending_id), '{}') AS noise_multipliers,
           coalesce(array_agg(sampling_rate ORDER BY spending_id), '{}') AS sampling_rates,
           coalesce(array_agg(steps ORDER BY spending_id), '{}') AS steps
    FROM federated.spending WHERE relation = $2
) AS s
LEFT JOIN federated.release AS r
    ON r.run_id = $4 AND r.round_number = $5 AND r.step = $6 AND r.node_name = $7
LEFT JOIN federated.agreement AS a ON a.workspace = $3 AND a.relation = $2
LEFT JOIN federated.dataset AS d ON d.dataset_id = $1 AND d.workspace = $3

-- name: insert_release(text, uuid, integer, text, text, text, text, bytea, bytea, bytea, bigint, double precision, double precision, integer, double precision, double precision, double precision, double precision, double precision)
WITH released AS (
    INSERT INTO federated.release (workspace, run_id, round_number, step, node_name, dataset, task_sha256, header,
                                   payload, payload_bytes)
    VALUES ($1, $2, $3, $4, $5, $6, $8, $9, $10, $11) RETURNING release_id
), charged AS (
    INSERT INTO federated.spending (dataset, relation, release_id, noise_multiplier, sampling_rate, steps,
                                    epsilon_basic, epsilon_tight, delta)
    SELECT $6, $7, release_id, $12::double precision, $13::double precision, $14::integer, $15::double precision,
           $16::double precision, $17::double precision
    FROM released WHERE $12::double precision IS NOT NULL
), agreed AS (
    INSERT INTO federated.agreement (workspace, relation, epsilon, delta)
    SELECT $1, $7, $18::double precision, $19::double precision WHERE $18::double precision IS NOT NULL
    ON CONFLICT (workspace, relation) DO NOTHING
)
UPDATE federated.release SET payload = NULL
WHERE run_id = $2 AND node_name = $5 AND round_number < $3 AND payload IS NOT NULL
