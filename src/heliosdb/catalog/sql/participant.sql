-- What a node's daemon reads and writes in its own database.

-- name: list_shared_datasets(text)
SELECT dataset_id, name, columns, types, options ->> 'subject' AS subject,
       (options ->> 'min_rows')::integer AS min_rows, (options ->> 'max_epsilon')::double precision AS max_epsilon
FROM federated.dataset WHERE workspace = $1 ORDER BY name

-- name: find_release(uuid, integer, text, text)
SELECT task_sha256, header, payload FROM federated.release
WHERE run_id = $1 AND round_number = $2 AND step = $3 AND node_name = $4

-- name: demand_durability()
SELECT set_config('synchronous_commit',
                  CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on'
                  ELSE current_setting('synchronous_commit') END, true)

-- name: lock_ledger(text)
SELECT pg_advisory_xact_lock(hashtextextended('federated.spending ' || $1, 0))

-- name: list_spending(text)
SELECT noise_multiplier, sampling_rate, steps FROM federated.spending WHERE dataset = $1 ORDER BY spending_id

-- name: insert_release(text, uuid, integer, text, text, text, bytea, bytea, bytea, bigint)
INSERT INTO federated.release (workspace, run_id, round_number, step, node_name, dataset, task_sha256, header,
                               payload, payload_bytes)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) RETURNING release_id

-- name: insert_spending(text, bigint, double precision, double precision, integer, double precision, double precision, double precision)
INSERT INTO federated.spending (dataset, release_id, noise_multiplier, sampling_rate, steps, epsilon_basic,
                                epsilon_tight, delta)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)

-- name: forget_payloads(uuid, text, integer)
UPDATE federated.release SET payload = NULL
WHERE run_id = $1 AND node_name = $2 AND round_number < $3 AND payload IS NOT NULL
