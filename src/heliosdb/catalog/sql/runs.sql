-- name: catalog_state()
SELECT EXISTS (
           SELECT FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
           WHERE n.nspname = 'federated' AND c.relname = 'lease') AS installed,
       EXISTS (
           SELECT FROM pg_roles AS r
           WHERE r.rolname = 'federated_daemon' AND pg_has_role(r.oid, 'MEMBER')) AS member,
       pg_is_in_recovery() AS replica

-- name: become_daemon()
SET ROLE federated_daemon

-- name: bound_session()
SELECT set_config('idle_in_transaction_session_timeout', '30s', false), set_config('lock_timeout', '15s', false)

-- name: strange_leader()
SELECT r.rolname::text AS name
FROM pg_locks AS l
JOIN pg_stat_get_activity(l.pid) AS a ON true
JOIN pg_roles AS r ON r.oid = a.usesysid
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
  AND l.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())
  AND (l.classid::bigint << 32) | l.objid::bigint = hashtextextended('heliosdb_federated.coordinator', 0)
  AND NOT pg_has_role(r.oid, 'federated_daemon', 'MEMBER')

-- name: listen()
LISTEN heliosdb_federated

-- name: try_lead()
SELECT pg_try_advisory_lock(hashtextextended('heliosdb_federated.coordinator', 0)) AS leads

-- name: bound_leader()
SELECT set_config('idle_session_timeout', '30s', false)

-- name: take_lease(text)
INSERT INTO federated.lease AS l (epoch, holder, acquired_at) VALUES (1, $1, clock_timestamp())
ON CONFLICT (only_one) DO UPDATE SET epoch = l.epoch + 1, holder = excluded.holder, acquired_at = excluded.acquired_at
RETURNING epoch

-- name: hold_lease()
SELECT epoch FROM federated.lease FOR SHARE

-- name: active_runs()
SELECT run_id::text AS run_id, status::text AS status, stop_requested
FROM federated.run WHERE status IN ('queued', 'running') ORDER BY created_at, run_id

-- name: claim_run(uuid)
UPDATE federated.run SET status = 'running', started_at = clock_timestamp()
WHERE run_id = $1::uuid AND status = 'queued' RETURNING run_id

-- name: find_run(uuid)
SELECT r.run_id::text AS run_id, r.model_id, m.name AS model, m.workspace_id, w.name AS workspace,
       r.options::text AS options, r.policy::text AS policy, r.scaling::text AS scaling, r.plan::text AS plan,
       r.stop_requested, w.options::text AS workspace_options
FROM federated.run AS r
JOIN federated.model AS m USING (model_id)
JOIN federated.workspace AS w USING (workspace_id)
WHERE r.run_id = $1::uuid AND r.status = 'running'

-- name: lock_run(uuid)
SELECT run_id FROM federated.run WHERE run_id = $1::uuid AND status = 'running' FOR NO KEY UPDATE

-- name: list_rounds(uuid)
SELECT round_number, status::text AS status, global_loss, global_accuracy
FROM federated.round WHERE run_id = $1::uuid ORDER BY round_number

-- name: list_participation(uuid, integer)
SELECT n.name AS node, p.step, p.outcome::text AS outcome, p.weight
FROM federated.participation AS p JOIN federated.node AS n USING (node_id)
WHERE p.run_id = $1::uuid AND p.round_number = $2

-- name: find_parameters(uuid, integer)
SELECT sealed, sha256 FROM federated.run_parameters WHERE run_id = $1::uuid AND round_number = $2

-- name: set_message(uuid, text)
UPDATE federated.run SET message = $2 WHERE run_id = $1::uuid AND status = 'running' AND message IS DISTINCT FROM $2

-- name: insert_round(uuid, integer)
INSERT INTO federated.round (run_id, round_number) VALUES ($1::uuid, $2)

-- name: insert_participation(uuid, integer, text, bigint, text[])
INSERT INTO federated.participation (run_id, round_number, step, node_id)
SELECT $1::uuid, $2, $3, n.node_id FROM federated.node AS n WHERE n.workspace_id = $4 AND n.name = ANY ($5::text[])

-- name: lock_ledger(text)
SELECT pg_advisory_xact_lock(hashtextextended('heliosdb_federated.ledger:' || $1, 0))

-- name: list_spent(text)
SELECT node_name, noise_multiplier, sampling_rate, steps, count(*) AS times
FROM federated.ledger WHERE workspace = $1 GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4

-- name: list_reached(text)
SELECT DISTINCT ON (node_name) node_name, epsilon_basic, epsilon_tight
FROM federated.ledger WHERE workspace = $1 ORDER BY node_name, ledger_id DESC

-- name: reserve(text, uuid, text, integer, jsonb)
INSERT INTO federated.ledger (workspace, run_id, model_name, round_number, node_name, step, noise_multiplier,
    sampling_rate, steps, clipping_norm, epsilon, epsilon_basic, epsilon_tight)
SELECT $1, $2::uuid, $3, $4, c.node, c.step, c.noise_multiplier, c.sampling_rate, c.steps, c.clipping_norm, c.epsilon,
       c.epsilon_basic, c.epsilon_tight
FROM jsonb_to_recordset($5::jsonb) AS c (
    place integer, node text, step text, noise_multiplier double precision, sampling_rate double precision,
    steps integer, clipping_norm double precision, epsilon double precision, epsilon_basic double precision,
    epsilon_tight double precision)
ORDER BY c.place

-- name: charge(uuid, integer, text, text[])
UPDATE federated.ledger SET state = 'charged'
WHERE run_id = $1::uuid AND round_number = $2 AND step = $3 AND node_name = ANY ($4::text[])

-- name: insert_node_spending(text, uuid, integer, text, jsonb)
INSERT INTO federated.node_spending (workspace, run_id, round_number, step, node_name, header, signature,
    noise_multiplier, sampling_rate, steps, epsilon_basic, epsilon_tight)
SELECT $1, $2::uuid, $3, $4, s.node, decode(s.header, 'hex'), decode(s.signature, 'hex'), s.noise_multiplier,
       s.sampling_rate, s.steps, s.epsilon_basic, s.epsilon_tight
FROM jsonb_to_recordset($5::jsonb) AS s (
    node text, header text, signature text, noise_multiplier double precision, sampling_rate double precision,
    steps integer, epsilon_basic double precision, epsilon_tight double precision)

-- name: delete_reservations(uuid, integer, jsonb)
DELETE FROM federated.ledger AS l USING jsonb_to_recordset($3::jsonb) AS u (node text, step text)
WHERE l.run_id = $1::uuid AND l.round_number = $2 AND l.node_name = u.node AND l.step = u.step
  AND l.state = 'reserved'
RETURNING l.ledger_id, l.node_name, l.step, l.epsilon

-- name: list_releases(text, text[])
SELECT ledger_id, node_name, noise_multiplier, sampling_rate, steps, epsilon, epsilon_basic, epsilon_tight
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
SELECT max(epsilon_tight) AS epsilon FROM federated.ledger WHERE workspace = $1

-- name: settle_participation(uuid, integer, text, bigint, jsonb)
UPDATE federated.participation AS p
SET outcome = s.outcome, reason = s.reason, weight = s.weight, bytes_sent = s.bytes_sent,
    bytes_received = s.bytes_received, duration_seconds = s.duration_seconds
FROM jsonb_to_recordset($5::jsonb) AS s (
    node text, outcome federated.participation_outcome, reason text, weight double precision, bytes_sent bigint,
    bytes_received bigint, duration_seconds double precision)
JOIN federated.node AS n ON n.workspace_id = $4 AND n.name = s.node
WHERE p.run_id = $1::uuid AND p.round_number = $2 AND p.step = $3 AND p.node_id = n.node_id

-- name: put_parameters(uuid, integer, bytea, bytea)
INSERT INTO federated.run_parameters (run_id, round_number, sealed, sha256) VALUES ($1::uuid, $2, $3, $4)

-- name: delete_parameters_before(uuid, integer)
DELETE FROM federated.run_parameters WHERE run_id = $1::uuid AND round_number < $2

-- name: set_findings(uuid, jsonb, jsonb)
UPDATE federated.run SET scaling = $2::jsonb, plan = $3::jsonb WHERE run_id = $1::uuid

-- name: close_round(uuid, integer, double precision, double precision, text)
UPDATE federated.round
SET status = 'closed', global_loss = $3, global_accuracy = $4, message = $5, finished_at = clock_timestamp()
WHERE run_id = $1::uuid AND round_number = $2 AND status = 'open' RETURNING round_number

-- name: fail_open_round(uuid, text)
UPDATE federated.round SET status = 'failed', message = $2, finished_at = clock_timestamp()
WHERE run_id = $1::uuid AND status = 'open'

-- name: finish_run(uuid, text, text)
UPDATE federated.run SET status = $2::federated.run_status, message = $3, finished_at = clock_timestamp()
WHERE run_id = $1::uuid AND status = 'running' RETURNING run_id

-- name: insert_event(bigint, uuid, integer, text, jsonb)
INSERT INTO federated.event (epoch, run_id, round_number, kind, details) VALUES ($1, $2::uuid, $3, $4, $5::jsonb)
