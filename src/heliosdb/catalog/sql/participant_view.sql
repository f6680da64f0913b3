-- What a node's daemon writes for its own DBA, and what the page of its status reads.

-- name: record_run(uuid, bytea, text, text, text, text, text, text[], text, text, double precision, double precision, text)
INSERT INTO federated.node_run (run_id, asked_sha256, workspace, node_name, dataset, model_name, algorithm, features, target,
                                roles, epsilon, delta, compliance_mode)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10::text::jsonb, $11, $12, $13)
ON CONFLICT (run_id, asked_sha256) DO UPDATE SET last_task_at = clock_timestamp()

-- name: insert_refusal(uuid, bytea, text, text, text, text, text, text, text)
WITH counted AS (
    INSERT INTO federated.refusal (run_id, said_sha256, workspace, node_name, step, code, message, dataset, detail)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
    ON CONFLICT (run_id, said_sha256)
    DO UPDATE SET count = refusal.count + 1, last_at = clock_timestamp(), detail = excluded.detail,
                  dataset = coalesce(excluded.dataset, refusal.dataset)
)
-- A refusal is a record, not a promise: its commit need not wait for the disk.
SELECT set_config('synchronous_commit', 'off', true)

-- name: drop_old_refusals(bigint)
DELETE FROM federated.refusal WHERE refusal_id IN (
    SELECT o.refusal_id FROM federated.refusal AS o ORDER BY o.last_at DESC, o.refusal_id DESC OFFSET $1)

-- name: find_extension_schema()
SELECT pg_catalog.set_config('search_path', pg_catalog.format('pg_catalog, %I, pg_temp', n.nspname), false) AS search_path
FROM pg_catalog.pg_extension AS e JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) e.extnamespace
WHERE e.extname OPERATOR(pg_catalog.=) 'heliosdb_federated_learning'

-- name: list_datasets()
SELECT d.name, d.workspace, d.relation, d.columns, coalesce((d.options ->> 'paused')::boolean, false) AS paused,
       d.options::text AS options
FROM federated.dataset AS d ORDER BY d.name

-- name: list_runs(integer)
SELECT r.workspace, r.model_name, r.run_id::text AS run_id, r.dataset, r.algorithm, r.features, r.target, r.roles::text AS roles,
       r.last_task_at, r.vectors, r.charges
FROM federated_node_runs AS r ORDER BY r.last_task_at DESC, r.run_id LIMIT $1

-- name: list_budgets()
SELECT b.dataset, b.state, b.workspace, b.max_epsilon, b.agreed_epsilon, b.epsilon_tight, b.total_epsilon_tight
FROM federated_dataset_budget AS b ORDER BY b.dataset, b.workspace

-- name: list_releases(integer)
SELECT r.day, r.workspace, r.dataset, r.private_vectors, r.plain_vectors, r.messages, r.payload_bytes, r.only_charged, r.failed, r.exports
FROM federated_node_releases AS r
WHERE r.day > (now() AT TIME ZONE 'UTC')::date - $1::integer ORDER BY r.day DESC, r.workspace, r.dataset

-- name: list_refusals(integer)
SELECT f.last_at, f.count, f.workspace, f.step, f.dataset, f.message
FROM federated_node_refusals AS f ORDER BY f.last_at DESC, f.first_at DESC LIMIT $1

-- name: has_subscriptions()
SELECT to_regclass('federated_subscriptions') IS NOT NULL AS there

-- name: list_subscriptions()
SELECT pg_catalog.to_json(s)::text AS subscription FROM federated_subscriptions AS s ORDER BY s.subscription_name

-- name: has_orders()
SELECT to_regclass('federated_node_orders') IS NOT NULL AS there

-- name: list_orders(integer)
SELECT o.received_at, o.workspace, o.kind, o.outcome,
       (SELECT sum((d ->> 'rows')::bigint)::bigint FROM jsonb_array_elements(o.datasets) AS d) AS rows, o.order_id::text AS order_id
FROM federated_node_orders AS o ORDER BY o.received_at DESC, o.order_id LIMIT $1

-- name: has_heads()
SELECT to_regclass('federated_node_heads') IS NOT NULL AS there

-- name: list_heads()
SELECT h.workspace, h.entries, h.root_sha256, h.signed_at, h.state, h.conflicts FROM federated_node_heads AS h
ORDER BY h.workspace, h.signed_at
