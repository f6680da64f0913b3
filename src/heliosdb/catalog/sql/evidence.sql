-- What a compliance report is made of. Times are text, in UTC; figures are as the views have them.

-- name: begin_reading()
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY

-- name: find_extension_schema()
SELECT pg_catalog.set_config('search_path', pg_catalog.format('pg_catalog, %I, pg_temp', n.nspname), true) AS search_path, e.extversion AS version
FROM pg_catalog.pg_extension AS e JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) e.extnamespace
WHERE e.extname OPERATOR(pg_catalog.=) 'heliosdb_federated_learning'

-- name: set_time_zone()
SELECT set_config('TimeZone', 'UTC', true) AS zone, set_config('DateStyle', 'ISO, YMD', true) AS style

-- name: read_origin()
SELECT to_char(now(), 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS made_at, current_user::text AS made_by, current_database()::text AS database,
       current_setting('server_version') AS server_version

-- name: record_check(text, text)
SELECT count(*) AS requirements FROM federated_record_compliance_check($1::text, $2::text)

-- name: list_findings(text, text)
SELECT c.requirement, c.status, c.details, c.evidence, c.reference, r.remediation
FROM federated_compliance_check($1::text, $2::text) AS c
JOIN federated._requirements() AS r ON r.regulation = upper($2::text) AND r.requirement = c.requirement
ORDER BY r.place

-- name: read_processing_record(text)
SELECT federated_processing_record($1::text)::text AS record

-- name: read_model_card(text)
SELECT federated_model_card($1::text)::text AS card

-- name: list_attestations(text)
SELECT requirement, state, author, attested_at::text AS attested_at, valid_until::text AS valid_until, statement, evidence_then, statement_sha256
FROM federated_attestations WHERE workspace = $1 ORDER BY federated_attestations.attested_at

-- name: list_nodes(text)
SELECT n.name AS node, n.status::text AS status, n.options ->> 'contact' AS contact, n.options ->> 'data_residency' AS data_residency,
       n.registered_at::text AS registered_at, n.last_seen::text AS last_seen, n.certificate_expires::text AS certificate_expires,
       n.plain_answers
FROM federated.node AS n JOIN federated.workspace AS w USING (workspace_id) WHERE w.name = $1 ORDER BY n.name

-- name: list_versions(text)
SELECT m.name AS model, v.version, v.is_current, v.created_at::text AS created_at, v.epsilon, v.global_loss, v.global_accuracy,
       encode(v.sha256, 'hex') AS parameters_sha256
FROM federated.version AS v JOIN federated.model AS m USING (model_id) JOIN federated.workspace AS w USING (workspace_id)
WHERE w.name = $1 ORDER BY m.name, v.version

-- name: list_runs(text)
SELECT r.model_name AS model, r.run, r.status, r.started_by, r.started_at::text AS started_at, r.finished_at::text AS finished_at,
       r.rounds, r.message
FROM federated_runs AS r WHERE r.workspace_name = $1 ORDER BY r.queued_at DESC, r.run_id LIMIT 1000

-- name: list_budgets(text)
SELECT b.total_budget_epsilon AS total_epsilon, b.consumed_epsilon, b.remaining_epsilon, b.delta, b.rounds_completed
FROM federated_privacy_budget_status AS b WHERE b.workspace_name = $1

-- name: list_spending(text)
SELECT l.node_name AS node, count(*) AS releases, max(l.epsilon_basic) AS epsilon_basic, max(l.epsilon_tight) AS epsilon_tight,
       max(l.recorded_at)::text AS last_at
FROM federated.ledger AS l WHERE l.workspace = $1 GROUP BY l.node_name ORDER BY l.node_name

-- name: list_audit_heads(text)
SELECT h.origin::text AS origin, h.chain_position AS entries, encode(h.hash, 'hex') AS head_hash, h.adopted
FROM federated.audit_head AS h WHERE h.workspace = $1 ORDER BY h.origin

-- name: list_signed_heads(text)
SELECT h.entries, h.root_sha256, h.signed_at::text AS signed_at, pg_catalog.array_to_string(h.witnesses, ', ') AS witnesses, h.signature
FROM federated_audit_heads AS h WHERE h.workspace = $1 ORDER BY h.signed_at DESC LIMIT 100

-- name: list_requests(text)
SELECT o.order_id::text AS request, o.kind, o.requested_at::text AS requested_at, o.deadline::text AS deadline, o.state, o.node_name AS node,
       o.node_state, o.outcome, o.answered_at::text AS answered_at
FROM federated_orders AS o WHERE o.workspace = $1 ORDER BY o.requested_at DESC, o.order_id, o.node_name LIMIT 1000

-- name: list_erasures(text)
SELECT DISTINCT ON (e.requested_at, e.request_id) e.request_id::text AS request, e.requested_at::text AS requested_at, e.deadline::text AS deadline,
       e.status, e.method, e.exactness, pg_catalog.array_to_string(e.versions, ', ') AS versions, e.completed_at::text AS completed_at
FROM federated_erasure_status AS e WHERE e.workspace = $1 ORDER BY e.requested_at DESC, e.request_id LIMIT 1000

-- name: list_exports(text)
SELECT x.order_id::text AS request, x.requested_at::text AS requested_at, x.state, x.format, x.nodes_answered, x.nodes_refused, x.nodes_pending,
       x.written_at::text AS written_at, x.sha256
FROM federated_exports AS x WHERE x.workspace = $1 ORDER BY x.requested_at DESC, x.order_id LIMIT 1000

-- name: list_consents(text)
SELECT c.purpose, c.status, count(*) AS subjects FROM federated_consent AS c WHERE c.workspace = $1
GROUP BY c.purpose, c.status ORDER BY c.purpose, c.status

-- name: list_breaches(text)
SELECT b.workspace_name AS workspace, b.alert_name AS breach, b.fired_at::text AS seen_at, b.events, b.last_event_at::text AS last_event_at,
       b.notify_authority_by::text AS notify_authority_by, b.notify_people_by::text AS notify_people_by,
       b.delivered_at::text AS told_at, b.failure
FROM federated_alerts AS b WHERE b.kind = 'breach' AND b.workspace_name IN ($1, '') ORDER BY b.fired_at DESC LIMIT 1000

-- name: list_deletions(text)
SELECT r.what, r.entries, r.older_than::text AS older_than, r.deleted_at::text AS deleted_at, r.signature
FROM federated_retention AS r WHERE r.workspace = $1 ORDER BY r.deleted_at DESC LIMIT 1000

-- name: list_security_checks(text)
SELECT s.check_name, s.status, s.recommendation FROM federated_security_audit($1::text) AS s

-- name: list_records(text)
SELECT h.recorded_at::text AS recorded_at, h.regulation, h.recorded_by,
       count(*) FILTER (WHERE h.status = 'PASS') AS pass, count(*) FILTER (WHERE h.status = 'FAIL') AS fail,
       count(*) FILTER (WHERE h.status = 'MANUAL') AS manual, h.findings_sha256
FROM federated_compliance_history AS h WHERE h.workspace = $1
GROUP BY h.record_id, h.recorded_at, h.regulation, h.recorded_by, h.findings_sha256
ORDER BY max(h.recorded_at) DESC LIMIT 1000
