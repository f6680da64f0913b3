-- name: hold_checkpoint(bigint)
SELECT h.run_id::text AS run_id, h.round_number, h.is_of_series, h.sizes::text AS sizes
FROM federated._hold_checkpoint($1) AS h WHERE h.run_id IS NOT NULL

-- name: read_checkpoint(bigint, uuid, integer, text, integer, integer)
SELECT federated._read_checkpoint($1, $2::uuid, $3, $4, $5, $6) AS content

-- name: insert_checkpoint(bigint, uuid, text, integer, bigint, bytea)
INSERT INTO federated.checkpoint (model_id, run_id, path, round_number, size_bytes, sha256)
VALUES ($1, $2::uuid, $3, $4, $5, $6)

-- name: latest_closed_run(bigint)
SELECT r.run_id::text AS run_id, federated._why_not_resumed(r) AS obstacle,
       (SELECT max(d.round_number) FROM federated.round AS d WHERE d.run_id = r.run_id AND d.status = 'closed') AS round_number
FROM federated._latest_closed_run($1) AS r WHERE r.run_id IS NOT NULL

-- name: resume_run(uuid)
UPDATE federated.run SET stop_requested = false WHERE run_id = $1::uuid

-- name: has_run(bigint, uuid)
SELECT EXISTS (SELECT FROM federated.run AS r WHERE r.model_id = $1 AND r.run_id = $2::uuid) AS is_there

-- name: is_erased(uuid)
SELECT EXISTS (SELECT FROM federated.run AS r WHERE r.run_id = $1::uuid AND r.erased_at IS NOT NULL) OR EXISTS (
           SELECT FROM federated.erasure_version AS v JOIN federated.subject_order AS o USING (order_id)
           WHERE v.run_id = $1::uuid AND federated._retrains(o.terms)) AS is_erased

-- name: is_lost_before_erasure(uuid, text, timestamptz)
SELECT NOT EXISTS (SELECT FROM federated.run AS r WHERE r.run_id = $1::uuid) AND EXISTS (
    SELECT FROM federated.subject_order AS o LEFT JOIN federated.erasure AS e USING (order_id)
    WHERE o.kind = 'erase' AND o.workspace = $2 AND o.state <> 'dropped' AND federated._retrains(o.terms)
      AND coalesce(e.planned_at >= $3, true)) AS is_lost

-- name: is_manifest(uuid, integer, bytea)
SELECT federated._is_manifest($1::uuid, $2, $3) AS is_manifest

-- name: insert_resumed_run(bigint, uuid, integer)
INSERT INTO federated.run (model_id, overrides, resumed_from, resumed_round) VALUES ($1, '{}', $2::uuid, $3)
RETURNING run_id::text AS run_id

-- name: insert_piece(uuid, text, integer, bytea)
INSERT INTO federated.resumption (run_id, part, place, content) VALUES ($1::uuid, $2, $3, $4)

-- name: find_beginning(uuid)
SELECT r.resumed_from::text AS resumed_from, r.resumed_round, r.options = '{}' AS is_unread, r.model_id, m.name AS model,
       w.name AS workspace, k.closed, k.has_failed,
       EXISTS (SELECT FROM federated.run AS o WHERE o.run_id = r.resumed_from AND o.model_id = r.model_id) AS is_own
FROM federated.run AS r JOIN federated.model AS m USING (model_id) JOIN federated.workspace AS w USING (workspace_id)
CROSS JOIN LATERAL (
    SELECT max(d.round_number) FILTER (WHERE d.status = 'closed') AS closed, coalesce(bool_or(d.status = 'failed'), false) AS has_failed
    FROM federated.round AS d WHERE d.run_id = r.run_id
) AS k
WHERE r.run_id = $1::uuid

-- name: list_parts(uuid)
SELECT DISTINCT part FROM federated.resumption WHERE run_id = $1::uuid

-- name: read_part(uuid, text)
SELECT string_agg(content, '' ORDER BY place) AS content FROM federated.resumption WHERE run_id = $1::uuid AND part = $2

-- name: delete_resumptions(uuid)
DELETE FROM federated.resumption AS p USING federated.run AS r
WHERE r.run_id = p.run_id AND (r.run_id = $1::uuid OR r.status NOT IN ('queued', 'running'))

-- name: describe_run(uuid)
SELECT jsonb_build_object(
    'workspace', w.name, 'model', m.name, 'seed_run', coalesce(r.seed_run, r.run_id),
    'options', r.options, 'overrides', r.overrides, 'policy', r.policy, 'scaling', r.scaling, 'plan', r.plan, 'lineage', r.lineage,
    'rounds', (
        SELECT jsonb_agg(jsonb_strip_nulls(jsonb_build_object(
            'round_number', d.round_number, 'global_loss', d.global_loss, 'global_accuracy', d.global_accuracy,
            'global_loss_std_error', d.global_loss_std_error, 'global_accuracy_std_error', d.global_accuracy_std_error,
            'base_loss', d.base_loss, 'global_precision', d.global_precision, 'global_recall', d.global_recall,
            'global_f1_score', d.global_f1_score, 'global_rmse', d.global_rmse, 'start_loss', d.start_loss)) ORDER BY d.round_number)
        FROM federated.round AS d WHERE d.run_id = r.run_id AND d.status = 'closed'),
    'answers', (
        SELECT jsonb_agg(jsonb_strip_nulls(jsonb_build_object(
            'node', n.name, 'exchange', p.exchange, 'step', p.step, 'outcome', p.outcome, 'weight', p.weight, 'asked', p.asked,
            'stated_rows', p.stated_rows))
            ORDER BY p.exchange, n.name)
        FROM federated.participation AS p JOIN federated.node AS n USING (node_id)
        WHERE p.run_id = r.run_id AND p.round_number = 0))::text AS described
FROM federated.run AS r JOIN federated.model AS m USING (model_id) JOIN federated.workspace AS w USING (workspace_id)
WHERE r.run_id = $1::uuid

-- name: hash_states(uuid, integer[])
SELECT round_number, encode(federated._sealed_digest(sealed), 'hex') AS state, encode(federated._sealed_digest(memory), 'hex') AS memory,
       octet_length(sealed) + coalesce(octet_length(memory), 0) AS bytes
FROM federated.run_parameters WHERE run_id = $1::uuid AND round_number = ANY ($2::integer[]) ORDER BY round_number

-- name: put_manifest(uuid, integer, integer, bytea)
UPDATE federated.run_parameters SET kept_round = $3, manifest = $4 WHERE run_id = $1::uuid AND round_number = $2

-- name: find_manifest(uuid, integer)
SELECT manifest FROM federated.run_parameters WHERE run_id = $1::uuid AND round_number = $2 AND manifest IS NOT NULL

-- name: insert_internal(uuid, integer, bigint, bytea)
INSERT INTO federated.internal_checkpoint (run_id, round_number, size_bytes, sha256) VALUES ($1::uuid, $2, $3, $4)
ON CONFLICT (run_id, round_number) DO UPDATE SET size_bytes = excluded.size_bytes, sha256 = excluded.sha256

-- name: list_internal(uuid)
SELECT round_number, size_bytes FROM federated.internal_checkpoint WHERE run_id = $1::uuid ORDER BY round_number

-- name: delete_internal(uuid, integer[])
DELETE FROM federated.internal_checkpoint WHERE run_id = $1::uuid AND round_number = ANY ($2::integer[])

-- name: adopt_run(uuid, jsonb)
SELECT federated._adopt_run($1::uuid, $2::jsonb)

-- name: adopt_rounds(uuid, jsonb, text)
INSERT INTO federated.round (run_id, round_number, status, message, finished_at, global_loss, global_accuracy,
    global_loss_std_error, global_accuracy_std_error, base_loss, global_precision, global_recall, global_f1_score,
    global_rmse, start_loss)
SELECT $1::uuid, d.round_number, 'closed', $3, clock_timestamp(), d.global_loss, d.global_accuracy, d.global_loss_std_error,
       d.global_accuracy_std_error, d.base_loss, d.global_precision, d.global_recall, d.global_f1_score, d.global_rmse,
       d.start_loss
FROM jsonb_populate_recordset(NULL::federated.round, $2::jsonb -> 'rounds') AS d
ON CONFLICT (run_id, round_number) DO NOTHING

-- name: adopt_answers(uuid, jsonb)
INSERT INTO federated.participation (run_id, round_number, exchange, step, node_id, outcome, weight, asked, stated_rows)
SELECT $1::uuid, 0, a.exchange, a.step, n.node_id, a.outcome, a.weight, a.asked, a.stated_rows
FROM jsonb_to_recordset($2::jsonb -> 'answers') AS a (
    node text, exchange integer, step text, outcome federated.participation_outcome, weight double precision, asked integer,
    stated_rows bigint)
JOIN federated.run AS r ON r.run_id = $1::uuid
JOIN federated.model AS m USING (model_id)
JOIN federated.node AS n ON n.workspace_id = m.workspace_id AND n.name = a.node
