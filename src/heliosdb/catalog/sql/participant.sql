-- What a node's daemon reads and writes in its own database.

-- name: list_shared_datasets(text)
SELECT dataset_id, name, columns, types, options ->> 'subject' AS subject,
       (options ->> 'min_rows')::integer AS min_rows, (options ->> 'max_epsilon')::double precision AS max_epsilon
FROM federated.dataset WHERE workspace = $1 ORDER BY name

-- name: look_up(text, uuid, integer, text, text)
SELECT r.task_sha256, r.header, r.payload,
       d.dataset_id, d.name, d.columns, d.types, d.options ->> 'subject' AS subject,
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
       pg_advisory_xact_lock(hashtextextended('federated.spending ' || $1, 0))

-- name: read_ledger(text, uuid, integer, text, text)
SELECT r.task_sha256, r.header, r.payload, s.noise_multipliers, s.sampling_rates, s.steps
FROM (
    SELECT coalesce(array_agg(noise_multiplier ORDER BY spending_id), '{}') AS noise_multipliers,
           coalesce(array_agg(sampling_rate ORDER BY spending_id), '{}') AS sampling_rates,
           coalesce(array_agg(steps ORDER BY spending_id), '{}') AS steps
    FROM federated.spending WHERE dataset = $1
) AS s
LEFT JOIN federated.release AS r
    ON r.run_id = $2 AND r.round_number = $3 AND r.step = $4 AND r.node_name = $5

-- name: insert_release(text, uuid, integer, text, text, text, bytea, bytea, bytea, bigint, double precision, double precision, integer, double precision, double precision, double precision)
WITH released AS (
    INSERT INTO federated.release (workspace, run_id, round_number, step, node_name, dataset, task_sha256, header,
                                   payload, payload_bytes)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) RETURNING release_id
), charged AS (
    INSERT INTO federated.spending (dataset, release_id, noise_multiplier, sampling_rate, steps, epsilon_basic,
                                    epsilon_tight, delta)
    SELECT $6, release_id, $11::double precision, $12::double precision, $13::integer, $14::double precision,
           $15::double precision, $16::double precision
    FROM released WHERE $11::double precision IS NOT NULL
)
UPDATE federated.release SET payload = NULL
WHERE run_id = $2 AND node_name = $5 AND round_number < $3 AND payload IS NOT NULL
