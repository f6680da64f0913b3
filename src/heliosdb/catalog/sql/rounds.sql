-- name: list_rounds(uuid)
SELECT round_number, status::text AS status, global_loss, global_accuracy, global_loss_std_error,
       global_accuracy_std_error, base_loss, global_precision, global_recall, global_f1_score, global_rmse,
       start_loss
FROM federated.round WHERE run_id = $1::uuid ORDER BY round_number

-- name: list_participation(uuid, integer)
SELECT n.name AS node, p.exchange, p.step, p.outcome::text AS outcome, p.weight, p.asked
FROM federated.participation AS p JOIN federated.node AS n USING (node_id)
WHERE p.run_id = $1::uuid AND p.round_number = $2
ORDER BY p.exchange, n.name

-- name: list_standings(uuid)
WITH stated AS (
    SELECT DISTINCT ON (p.node_id) p.node_id, p.stated_rows
    FROM federated.participation AS p JOIN federated.round AS d USING (run_id, round_number)
    WHERE p.run_id = $1::uuid AND p.round_number = 0 AND d.status = 'closed' AND p.stated_rows IS NOT NULL
    ORDER BY p.node_id, p.exchange DESC
), asked AS (
    SELECT DISTINCT p.run_id, p.round_number, p.node_id
    FROM federated.participation AS p JOIN federated.round AS d USING (run_id, round_number)
    WHERE p.run_id = $1::uuid AND p.round_number > 0 AND p.exchange = 0 AND d.status = 'closed'
), aligned AS (
    -- In the order of the rounds: a sum in another order may have other bits.
    SELECT a.node_id, count(*)::integer AS asked, max(a.round_number) AS last_asked,
           coalesce(sum(c.alignment ORDER BY a.round_number), 0) AS aligned
    FROM asked AS a LEFT JOIN federated.contribution AS c USING (run_id, round_number, node_id)
    GROUP BY a.node_id
)
SELECT n.name AS node, s.stated_rows, coalesce(a.asked, 0) AS asked, coalesce(a.aligned, 0) AS aligned,
       coalesce(a.last_asked, 0) AS last_asked
FROM stated AS s FULL JOIN aligned AS a USING (node_id) JOIN federated.node AS n USING (node_id)
ORDER BY n.name

-- name: list_at_work(uuid)
SELECT n.name AS node, p.round_number
FROM federated.participation AS p JOIN federated.node AS n USING (node_id)
JOIN federated.round AS d USING (run_id, round_number)
WHERE p.run_id = $1::uuid AND p.round_number > 0 AND p.exchange = 0 AND p.outcome = 'pending' AND d.status <> 'failed'
ORDER BY p.round_number, n.name

-- name: give_up_tasks(uuid, text)
UPDATE federated.participation AS p SET outcome = 'dropped', reason = $2
FROM federated.round AS d
WHERE d.run_id = p.run_id AND d.round_number = p.round_number AND d.status <> 'open'
  AND p.run_id = $1::uuid AND p.outcome = 'pending'

-- name: find_lost(uuid)
SELECT DISTINCT ON (n.name) n.name AS node, p.reason
FROM federated.participation AS p JOIN federated.node AS n USING (node_id)
WHERE p.run_id = $1::uuid AND p.round_number = 0 AND p.reason IS NOT NULL AND NOT EXISTS (
    SELECT FROM federated.participation AS o
    WHERE o.run_id = p.run_id AND o.node_id = p.node_id AND o.round_number > 0 AND o.outcome = 'received')
ORDER BY n.name, p.exchange DESC

-- name: insert_round(uuid, integer, double precision)
INSERT INTO federated.round (run_id, round_number, learning_rate) VALUES ($1::uuid, $2, $3)

-- name: delete_failed_round(uuid, integer)
WITH forgotten AS (
    DELETE FROM federated.round WHERE run_id = $1::uuid AND round_number = $2 AND status = 'failed' RETURNING round_number
), given_up AS (
    -- Of an asynchronous run: what it had taken of earlier rounds' tasks is in no model.
    UPDATE federated.participation AS p SET outcome = 'dropped', reason = 'the round that took its update was given up',
        settled_round = NULL
    FROM forgotten AS f
    WHERE p.run_id = $1::uuid AND p.settled_round = f.round_number AND p.round_number < f.round_number
      AND p.outcome = 'received'
)
SELECT round_number FROM forgotten

-- name: insert_participation(uuid, integer, integer, text, bigint, text[])
INSERT INTO federated.participation (run_id, round_number, exchange, step, node_id, asked)
SELECT $1::uuid, $2, $3, $4, n.node_id, cardinality($6::text[]) FROM federated.node AS n WHERE n.workspace_id = $5 AND n.name = ANY ($6::text[])

-- name: settle_participation(uuid, integer, integer, text, bigint, jsonb)
UPDATE federated.participation AS p
SET outcome = s.outcome, reason = s.reason, weight = s.weight, bytes_sent = s.bytes_sent,
    bytes_received = s.bytes_received, duration_seconds = s.duration_seconds, described = s.described,
    stated_rows = s.stated_rows, settled_round = CASE WHEN s.asked IS NOT NULL THEN $2 END
FROM jsonb_to_recordset($6::jsonb) AS s (
    node text, outcome federated.participation_outcome, reason text, weight double precision, bytes_sent bigint,
    bytes_received bigint, duration_seconds double precision, described jsonb, stated_rows bigint, asked integer)
JOIN federated.node AS n ON n.workspace_id = $5 AND n.name = s.node
WHERE p.run_id = $1::uuid AND p.round_number = coalesce(s.asked, $2) AND p.exchange = $3 AND p.step = $4 AND p.node_id = n.node_id

-- name: find_state(uuid, integer)
SELECT sealed, sha256, memory FROM federated.run_parameters WHERE run_id = $1::uuid AND round_number = $2

-- name: put_state(uuid, integer, bytea, bytea, bytea)
INSERT INTO federated.run_parameters (run_id, round_number, sealed, sha256, memory) VALUES ($1::uuid, $2, $3, $4, $5)
ON CONFLICT (run_id, round_number) DO UPDATE
SET sealed = excluded.sealed, sha256 = excluded.sha256, memory = excluded.memory, manifest = NULL, kept_round = NULL, file_digest = NULL

-- name: delete_other_states(uuid, integer[])
DELETE FROM federated.run_parameters AS p WHERE p.run_id = $1::uuid AND p.round_number <> ALL ($2::integer[])
  AND NOT EXISTS (
    SELECT FROM federated.internal_checkpoint AS i JOIN federated.run_parameters AS k USING (run_id, round_number)
    WHERE i.run_id = p.run_id AND p.round_number IN (k.round_number, k.kept_round))

-- name: put_figures(uuid, integer, jsonb)
UPDATE federated.round AS d
SET global_loss = f.global_loss, global_accuracy = f.global_accuracy,
    global_loss_std_error = f.global_loss_std_error, global_accuracy_std_error = f.global_accuracy_std_error,
    base_loss = f.base_loss, global_precision = f.global_precision, global_recall = f.global_recall,
    global_f1_score = f.global_f1_score, global_rmse = f.global_rmse, start_loss = f.start_loss
FROM jsonb_populate_record(NULL::federated.round, $3::jsonb) AS f
WHERE d.run_id = $1::uuid AND d.round_number = $2 AND d.status = 'open'

-- name: put_report(uuid, integer, jsonb)
UPDATE federated.round SET report = $3::jsonb WHERE run_id = $1::uuid AND round_number = $2

-- name: close_round(uuid, integer, jsonb, text)
UPDATE federated.round AS d
SET status = 'closed', global_loss = f.global_loss, global_accuracy = f.global_accuracy,
    global_loss_std_error = f.global_loss_std_error, global_accuracy_std_error = f.global_accuracy_std_error,
    base_loss = f.base_loss, global_precision = f.global_precision, global_recall = f.global_recall,
    global_f1_score = f.global_f1_score, global_rmse = f.global_rmse, start_loss = f.start_loss,
    message = $4, finished_at = clock_timestamp()
FROM jsonb_to_record($3::jsonb) AS f (
    global_loss double precision, global_accuracy double precision, global_loss_std_error double precision,
    global_accuracy_std_error double precision, base_loss double precision, global_precision double precision,
    global_recall double precision, global_f1_score double precision, global_rmse double precision,
    start_loss double precision)
WHERE d.run_id = $1::uuid AND d.round_number = $2 AND d.status = 'open' RETURNING d.round_number

-- name: fail_open_round(uuid, text)
UPDATE federated.round SET status = 'failed', message = $2, finished_at = clock_timestamp()
WHERE run_id = $1::uuid AND status = 'open'
