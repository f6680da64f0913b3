-- name: insert_alert(bigint, text, jsonb, text)
INSERT INTO federated.alert (workspace_id, name, conditions, target) VALUES ($1, $2, $3, $4)
ON CONFLICT (workspace_id, name) DO NOTHING RETURNING alert_id

-- name: list_alerts_named(text)
SELECT a.alert_id, w.name AS workspace, federated._has_role(w.owner) AS owned
FROM federated.alert AS a JOIN federated.workspace AS w USING (workspace_id)
WHERE a.name = $1 ORDER BY w.name

-- name: delete_alert(bigint)
DELETE FROM federated.alert WHERE alert_id = $1 RETURNING alert_id

-- name: find_notifier()
SELECT sends_mail, calls_hooks, allowed_hosts FROM federated.notifier

-- name: publish_notifier(boolean, boolean, text[])
INSERT INTO federated.notifier AS n (sends_mail, calls_hooks, allowed_hosts) VALUES ($1, $2, $3)
ON CONFLICT (only_one) DO UPDATE
SET sends_mail = excluded.sends_mail, calls_hooks = excluded.calls_hooks, allowed_hosts = excluded.allowed_hosts,
    published_at = clock_timestamp()

-- name: list_watched()
SELECT a.alert_id, w.name AS workspace, a.name, a.conditions::text AS conditions, a.is_raised,
       extract(epoch FROM a.calm_since)::double precision AS calm_since
FROM federated.alert AS a JOIN federated.workspace AS w USING (workspace_id)
ORDER BY a.workspace_id, a.alert_id

-- name: read_metrics(text, text[])
SELECT m.metric, m.value FROM federated.alert_metric AS m WHERE m.workspace = $1 AND m.metric = ANY ($2::text[])

-- name: set_standing(bigint, boolean, double precision)
UPDATE federated.alert SET is_raised = $2, calm_since = to_timestamp($3::double precision) WHERE alert_id = $1

-- name: fire(bigint, jsonb, double precision)
INSERT INTO federated.firing (kind, alert_id, workspace, name, conditions, observed, target, fired_at, last_event_at, next_attempt)
SELECT 'alert', a.alert_id, w.name, a.name, a.conditions, $2::jsonb, a.target, n.at, n.at, n.at
FROM federated.alert AS a JOIN federated.workspace AS w USING (workspace_id)
CROSS JOIN (SELECT to_timestamp($3::double precision) AS at) AS n
WHERE a.alert_id = $1
RETURNING firing_id::text AS firing_id

-- name: list_due(double precision, integer)
SELECT f.firing_id::text AS firing_id, f.kind, f.workspace, f.name, coalesce(federated._shown_conditions(f.conditions), '') AS conditions,
       f.observed::text AS observed, f.target, f.attempts, extract(epoch FROM f.fired_at)::double precision AS fired_at,
       f.events, extract(epoch FROM f.last_event_at)::double precision AS last_event_at
FROM federated.firing AS f
WHERE f.next_attempt <= to_timestamp($1::double precision) AND f.delivered_at IS NULL AND (f.kind = 'breach' OR f.alert_id IS NOT NULL)
ORDER BY f.next_attempt, f.firing_id LIMIT $2

-- name: begin_attempt(uuid, double precision)
UPDATE federated.firing SET attempts = attempts + 1, next_attempt = to_timestamp($2::double precision)
WHERE firing_id = $1::uuid AND delivered_at IS NULL AND (kind = 'breach' OR alert_id IS NOT NULL) RETURNING attempts

-- name: end_attempt(uuid, double precision, text, double precision)
UPDATE federated.firing
SET delivered_at = to_timestamp($2::double precision), failure = $3, next_attempt = to_timestamp($4::double precision)
WHERE firing_id = $1::uuid AND delivered_at IS NULL

-- name: notify_channel(text, text)
SELECT pg_notify($1, $2)

-- name: list_unchecked(double precision)
SELECT w.workspace_id, w.name FROM federated.workspace AS w LEFT JOIN federated.audit_check AS c USING (workspace_id)
WHERE c.checked_at IS NULL OR c.checked_at <= to_timestamp($1::double precision)
ORDER BY c.checked_at NULLS FIRST, w.workspace_id LIMIT 1

-- name: audit_state(text)
SELECT s.is_intact, s.reason FROM federated._audit_state($1) AS s

-- name: record_audit_check(bigint, double precision, boolean, text)
INSERT INTO federated.audit_check AS c (workspace_id, checked_at, is_intact, reason)
SELECT w.workspace_id, to_timestamp($2::double precision), $3, $4 FROM federated.workspace AS w WHERE w.workspace_id = $1
ON CONFLICT (workspace_id) DO UPDATE
SET checked_at = excluded.checked_at, is_intact = excluded.is_intact, reason = excluded.reason

-- name: count_privilege_refusals()
SELECT (CASE WHEN s.is_called THEN s.last_value ELSE 0 END) AS counted, n.refusals_seen AS seen
FROM federated.privilege_refusal AS s CROSS JOIN federated.notifier AS n

-- name: set_refusals_seen(bigint)
UPDATE federated.notifier SET refusals_seen = $1

-- name: list_breach_workspaces()
SELECT w.name FROM federated.workspace AS w WHERE w.options ? 'breach_notify' ORDER BY w.name

-- name: note_breach(text, text, text, text, double precision)
SELECT federated._note_breach($1, $2, $3, $4, coalesce(to_timestamp($5::double precision), clock_timestamp()))::text AS firing_id
