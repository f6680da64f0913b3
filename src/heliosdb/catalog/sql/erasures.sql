-- What follows from requests for erasure, at the coordinator.

-- name: has_work()
SELECT federated._has_erasure_work() AS has_work

-- name: plan_erasures()
SELECT p::text AS order_id FROM federated._plan_erasures() AS p

-- name: interrupt_runs()
SELECT run_id::text AS run_id, message FROM federated._interrupt_runs()

-- name: retrainings_due()
SELECT source_run::text AS source_run, was_interrupted FROM federated._retrainings_due()

-- name: queue_retraining(uuid, boolean)
SELECT federated._queue_retraining($1::uuid, $2)::text AS run_id

-- name: retire_erased()
SELECT model_name, version FROM federated._retire_erased()

-- name: explain_erasures()
SELECT federated._explain_erasures()

-- name: withhold_versions()
SELECT federated._withhold_versions()

-- name: uncertified()
SELECT e.order_id::text AS order_id FROM federated.erasure AS e JOIN federated.subject_order AS o USING (order_id)
WHERE e.completed_at IS NULL AND (e.retired_at IS NOT NULL OR NOT federated._retrains(o.terms)) ORDER BY o.requested_at, o.order_id

-- name: list_votes(bigint)
SELECT m.name AS model_name FROM federated.version AS v
JOIN federated.model AS m USING (model_id) JOIN federated.run AS r USING (run_id)
WHERE m.workspace_id = $1 AND v.is_current AND v.retired_at IS NULL AND r.voting_group IS NOT NULL ORDER BY m.name

-- name: read_request(uuid)
SELECT o.batch_id::text AS batch, o.workspace, o.model, encode(o.pseudonym, 'hex') AS pseudonym, CASE WHEN federated._retrains(o.terms) THEN 'retrain' ELSE 'suppress_only' END AS method, o.state,
       o.requested_at, o.deadline, o.ended_at, clock_timestamp() AS now, (
           SELECT count(DISTINCT r.run_id) FROM federated.erased_part AS p JOIN federated.run AS r USING (run_id)
           WHERE p.order_id = o.order_id AND r.erased_at IS NOT NULL) AS runs,
       ARRAY(SELECT c.path FROM federated.checkpoint AS c JOIN federated.run AS r USING (run_id)
             JOIN federated.erased_part AS p USING (run_id)
             WHERE p.order_id = o.order_id AND r.erased_at IS NOT NULL ORDER BY c.path) AS files,
       ARRAY(SELECT DISTINCT p.node_name
             FROM federated.former_part AS p JOIN federated.version AS v USING (run_id)
             JOIN federated.model AS m ON m.model_id = v.model_id JOIN federated.workspace AS w USING (workspace_id)
             WHERE w.name = o.workspace AND v.retired_at IS NULL AND NOT EXISTS (
                 SELECT FROM federated.order_answer AS a WHERE a.order_id = o.order_id AND a.node_name = p.node_name)
             ORDER BY p.node_name) AS unasked
FROM federated.subject_order AS o WHERE o.order_id = $1::uuid

-- name: read_answers(uuid)
SELECT a.node_name, a.state, a.message, a.answered_at, a.statement, a.signature, encode(a.certificate_sha256, 'hex') AS certificate_sha256,
       federated._certificate_of(o.workspace, a.node_name, a.certificate_sha256) AS certificate
FROM federated.order_answer AS a JOIN federated.subject_order AS o USING (order_id)
WHERE a.order_id = $1::uuid ORDER BY a.node_name, a.node_id

-- name: read_versions(uuid)
SELECT v.model_name, v.version, v.run_id::text AS run_id, v.first_round, encode(v.sha256_before, 'hex') AS sha256_before,
       v.retired_at, v.replaced_by, encode(v.sha256_after, 'hex') AS sha256_after, EXISTS (
           SELECT FROM federated.retraining AS t JOIN federated.version AS n ON n.run_id = t.run_id
           WHERE t.source_run = v.run_id AND NOT t.was_interrupted AND n.model_id = v.model_id) AS is_trained_anew,
       federated._parent_name(v.run_id) AS began_with
FROM federated.erasure_version AS v WHERE v.order_id = $1::uuid ORDER BY v.model_name, v.version

-- name: complete(uuid, text, text, bytea, bytea, text)
UPDATE federated.erasure SET completed_at = clock_timestamp(), message = NULL, exactness = $2, certificate = $3, certificate_sha256 = $4,
    signature = $5, signer = $6
WHERE order_id = $1::uuid AND completed_at IS NULL RETURNING order_id

-- name: retraining_cost(bigint)
SELECT model_name, epsilon, remaining, total FROM federated._retraining_cost($1)
