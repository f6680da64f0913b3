-- name: lock_ledger(text)
SELECT pg_advisory_xact_lock(hashtextextended('heliosdb_federated.ledger:' || $1, 0))

-- name: list_spent(text)
SELECT node_name, noise_multiplier, sampling_rate, steps, noise, count(*) AS times
FROM federated.ledger WHERE workspace = $1 GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 3, 4, 5

-- name: list_reached(text)
SELECT DISTINCT ON (node_name) node_name, epsilon_basic, epsilon_tight
FROM federated.ledger WHERE workspace = $1 ORDER BY node_name, ledger_id DESC

-- name: reserve(text, uuid, text, integer, jsonb)
INSERT INTO federated.ledger (workspace, run_id, model_name, round_number, exchange, node_name, step, noise_multiplier,
    sampling_rate, steps, noise, clipping_norm, epsilon, epsilon_basic, epsilon_tight)
SELECT $1, $2::uuid, $3, $4, c.exchange, c.node, c.step, c.noise_multiplier, c.sampling_rate, c.steps, c.noise, c.clipping_norm,
       c.epsilon, c.epsilon_basic, c.epsilon_tight
FROM jsonb_to_recordset($5::jsonb) AS c (
    place integer, exchange integer, node text, step text, noise_multiplier double precision, sampling_rate double precision,
    steps integer, noise text, clipping_norm double precision, epsilon double precision, epsilon_basic double precision,
    epsilon_tight double precision)
ORDER BY c.place

-- name: count_reserved(uuid, integer, integer, text, text[], double precision, double precision, integer, text)
SELECT count(*) AS lines FROM federated.ledger
WHERE run_id = $1::uuid AND round_number = $2 AND exchange = $3 AND step = $4 AND node_name = ANY ($5::text[])
  AND (noise_multiplier, sampling_rate, steps, noise) = ($6, $7, $8, $9)

-- name: list_held(uuid, integer)
SELECT node_name, exchange, step, noise_multiplier, sampling_rate, steps, noise FROM federated.ledger
WHERE run_id = $1::uuid AND round_number = $2

-- name: charge(uuid, integer, integer, text, text[])
UPDATE federated.ledger SET state = 'charged'
WHERE run_id = $1::uuid AND round_number = $2 AND exchange = $3 AND step = $4 AND node_name = ANY ($5::text[])

-- name: insert_node_spending(text, uuid, integer, integer, text, jsonb)
INSERT INTO federated.node_spending (workspace, run_id, round_number, exchange, step, node_name, header, signature,
    noise_multiplier, sampling_rate, steps, noise, epsilon_basic, epsilon_tight)
SELECT $1, $2::uuid, $3, $4, $5, s.node, decode(s.header, 'hex'), decode(s.signature, 'hex'), s.noise_multiplier,
       s.sampling_rate, s.steps, s.noise, s.epsilon_basic, s.epsilon_tight
FROM jsonb_to_recordset($6::jsonb) AS s (
    node text, header text, signature text, noise_multiplier double precision, sampling_rate double precision,
    steps integer, noise text, epsilon_basic double precision, epsilon_tight double precision)
-- A node that is asked again when its run goes on sends what it sent before.
ON CONFLICT DO NOTHING

-- name: delete_reservations(uuid, integer, integer, text[], text[])
DELETE FROM federated.ledger
WHERE run_id = $1::uuid AND round_number = $2 AND state = 'reserved'
  AND ledger_id > coalesce((SELECT r.kept_ledger_id FROM federated.run AS r WHERE r.run_id = $1::uuid), 0)
  AND (exchange = $3 AND node_name = ANY ($4::text[]) OR exchange > $3 AND node_name = ANY ($5::text[]))
RETURNING ledger_id, node_name, exchange, step, epsilon

-- name: list_entries(text, text[])
SELECT ledger_id, node_name, noise_multiplier, sampling_rate, steps, noise, epsilon, epsilon_basic, epsilon_tight
FROM federated.ledger WHERE workspace = $1 AND node_name = ANY ($2::text[]) ORDER BY ledger_id

-- name: correct_sums(jsonb)
UPDATE federated.ledger AS l SET epsilon_basic = c.epsilon_basic, epsilon_tight = c.epsilon_tight
FROM jsonb_to_recordset($1::jsonb) AS c (
    ledger_id bigint, epsilon_basic double precision, epsilon_tight double precision)
WHERE l.ledger_id = c.ledger_id

-- name: still_reserved(uuid)
SELECT max(s.epsilon) AS epsilon
FROM (SELECT sum(epsilon) AS epsilon FROM federated.ledger
      WHERE run_id = $1::uuid AND state = 'reserved' GROUP BY node_name) AS s

-- name: consumed_epsilon(text)
SELECT federated._consumed_epsilon($1) AS epsilon
