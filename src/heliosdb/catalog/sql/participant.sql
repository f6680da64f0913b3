-- What a node's daemon reads and writes in its own database.

-- name: reader_state()
SELECT r.rolsuper OR r.rolbypassrls AS unbounded,
       EXISTS (SELECT FROM pg_roles AS g WHERE g.rolname = 'federated_reader' AND pg_has_role(g.oid, 'USAGE')) AS member
FROM pg_roles AS r WHERE r.rolname = current_user

-- name: list_shared_datasets(text)
SELECT dataset_id, name, relation, columns, types, predicate, row_key, options::text AS options
FROM federated.dataset WHERE workspace = $1 ORDER BY name

-- name: look_up(text, uuid, integer, integer, text, text)
SELECT r.state::text AS state, r.task_sha256, r.header, r.payload,
       d.dataset_id, d.name, d.relation, d.columns, d.types, d.predicate, d.row_key, d.options::text AS options,
       t.measured, t.terms, t.rows_read, d.base_tables, p.base_tables AS charged_tables,
       -- It may be large: the first row alone has it.
       CASE WHEN row_number() OVER (ORDER BY d.name) = 1 THEN m.sealed END AS memory, m.version AS memory_version,
       EXISTS (SELECT FROM federated.base_table AS b
               WHERE b.base_table_id = ANY (d.base_tables) AND b.max_epsilon IS NOT NULL) AS has_ceiling,
       EXISTS (
           WITH RECURSIVE behind (relation) AS (
               SELECT v.oid FROM pg_class AS v
               WHERE v.relnamespace = (SELECT n.oid FROM pg_namespace AS n WHERE n.nspname = 'federated_dataset')
                 AND v.relname = d.name
               UNION
               SELECT f.relation FROM behind AS b CROSS JOIN LATERAL (
                   SELECT w.refobjid AS relation
                   FROM pg_rewrite AS r JOIN pg_depend AS w ON w.classid = 'pg_rewrite'::regclass AND w.objid = r.oid
                   WHERE r.ev_class = b.relation AND r.ev_type = '1' AND w.refclassid = 'pg_class'::regclass
                   -- From here on, and not from all relations that there are.
                   OFFSET 0
               ) AS f
           )
           SELECT FROM behind AS b CROSS JOIN LATERAL (
               SELECT c.relispopulated FROM pg_class AS c WHERE c.oid = b.relation OFFSET 0
           ) AS c WHERE NOT c.relispopulated
       ) AS is_unpopulated,
       EXISTS (SELECT FROM federated.spending AS s WHERE s.base_tables && d.base_tables)
           OR EXISTS (SELECT FROM federated.agreement AS g WHERE g.base_tables && d.base_tables) AS has_spent
FROM (
    SELECT coalesce(array_agg(DISTINCT e.dataset) FILTER (
               WHERE e.terms IS NULL AND NOT e.is_message
                 AND NOT EXISTS (SELECT FROM federated.spending AS s WHERE s.release_id = e.release_id)), '{}') AS measured,
           coalesce(array_agg(DISTINCT e.terms) FILTER (WHERE e.terms IS NOT NULL), '{}') AS terms,
           coalesce(array_agg(DISTINCT coalesce(e.admission, ''::bytea) || e.rows_read)
                    FILTER (WHERE e.rows_read IS NOT NULL), '{}') AS rows_read
    FROM federated.release AS e WHERE e.run_id = $2 AND e.node_name = $6 AND e.state = 'released'
) AS t
LEFT JOIN federated.release AS r
    ON r.run_id = $2 AND r.round_number = $3 AND r.exchange = $4 AND r.step = $5 AND r.node_name = $6
LEFT JOIN federated.spending AS p ON p.release_id = r.release_id
LEFT JOIN federated.node_memory AS m ON m.workspace = $1 AND m.run_id = $2 AND m.node_name = $6
LEFT JOIN federated.dataset AS d ON d.workspace = $1
ORDER BY d.name

-- name: lock_dataset(bigint)
SELECT set_config('synchronous_commit',
                  CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on'
                  ELSE current_setting('synchronous_commit') END, true),
       federated._claim_base_tables($1),
       pg_advisory_xact_lock_shared(hashtextextended('heliosdb_federated.withdrawals', 0))

-- name: read_ledgers(bigint, text, uuid, integer, integer, text, text)
SELECT r.state::text AS state, r.task_sha256, r.header, r.payload,
       d.dataset_id, d.name, d.relation, d.columns, d.types, d.predicate, d.row_key, d.options::text AS options,
       b.base_table_id, b.max_epsilon, s.noise_multipliers, s.sampling_rates, s.steps, s.noises, s.here,
       a.epsilon AS agreed_epsilon, a.delta AS agreed_delta, t.measured, t.terms, t.rows_read,
       (SELECT coalesce(bool_and(w.is_accepted), true) FROM federated._withdrawals($1) AS w) AS all_accepted
FROM (
    SELECT coalesce(array_agg(DISTINCT e.dataset) FILTER (
               WHERE e.terms IS NULL AND NOT e.is_message
                 AND NOT EXISTS (SELECT FROM federated.spending AS s WHERE s.release_id = e.release_id)), '{}') AS measured,
           coalesce(array_agg(DISTINCT e.terms) FILTER (WHERE e.terms IS NOT NULL), '{}') AS terms,
           coalesce(array_agg(DISTINCT coalesce(e.admission, ''::bytea) || e.rows_read)
                    FILTER (WHERE e.rows_read IS NOT NULL), '{}') AS rows_read
    FROM federated.release AS e WHERE e.run_id = $3 AND e.node_name = $7 AND e.state = 'released'
) AS t
LEFT JOIN federated.release AS r
    ON r.run_id = $3 AND r.round_number = $4 AND r.exchange = $5 AND r.step = $6 AND r.node_name = $7
LEFT JOIN federated.dataset AS d ON d.dataset_id = $1 AND d.workspace = $2
LEFT JOIN federated.base_table AS b ON b.base_table_id = ANY (d.base_tables)
LEFT JOIN LATERAL (
    SELECT coalesce(array_agg(p.noise_multiplier ORDER BY p.spending_id), '{}') AS noise_multipliers,
           coalesce(array_agg(p.sampling_rate ORDER BY p.spending_id), '{}') AS sampling_rates,
           coalesce(array_agg(p.steps ORDER BY p.spending_id), '{}') AS steps,
           coalesce(array_agg(p.noise ORDER BY p.spending_id), '{}') AS noises,
           coalesce(array_agg(e.workspace = $2 ORDER BY p.spending_id), '{}') AS here
    FROM federated.spending AS p JOIN federated.release AS e USING (release_id)
    WHERE p.base_tables @> ARRAY[b.base_table_id]
) AS s ON true
LEFT JOIN LATERAL (
    SELECT min(g.epsilon) AS epsilon, min(g.delta) AS delta FROM federated.agreement AS g
    WHERE g.workspace = $2 AND g.base_tables @> ARRAY[b.base_table_id]
) AS a ON true
ORDER BY b.base_table_id

-- name: read_message(bigint, text, uuid, integer, integer, text, text)
SELECT r.state::text AS state, r.task_sha256, r.header, r.payload,
       d.dataset_id, d.name, d.relation, d.columns, d.types, d.predicate, d.row_key, d.options::text AS options
FROM (VALUES (1)) AS message
LEFT JOIN federated.release AS r
    ON r.run_id = $3 AND r.round_number = $4 AND r.exchange = $5 AND r.step = $6 AND r.node_name = $7
LEFT JOIN federated.dataset AS d ON d.dataset_id = $1 AND d.workspace = $2

-- name: insert_charge(text, uuid, integer, integer, text, text, text, text, bytea, bigint[], double precision, double precision, integer, double precision, double precision, double precision, double precision, double precision, double precision, double precision, text)
WITH charged AS (
    INSERT INTO federated.release (workspace, run_id, round_number, exchange, step, node_name, dataset, task_sha256, state)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $9, 'charged') RETURNING release_id
), spent AS (
    INSERT INTO federated.spending (dataset, relation, base_tables, release_id, noise_multiplier, sampling_rate, steps,
                                    epsilon_basic, epsilon_tight, workspace_epsilon_basic, workspace_epsilon_tight, delta, noise)
    SELECT $7, $8, $10::bigint[], release_id, $11::double precision, $12::double precision, $13::integer,
           $14::double precision, $15::double precision, $16::double precision, $17::double precision, $18::double precision,
           $21
    FROM charged
)
INSERT INTO federated.agreement (workspace, relation, epsilon, delta, base_tables)
VALUES ($1, $8, $19, $20, $10)
ON CONFLICT (workspace, relation, base_tables) DO NOTHING

-- name: insert_noise_share(uuid, integer, integer, text, text, integer, integer, integer, double precision)
INSERT INTO federated.noise_share (release_id, nodes, threshold, honest, share)
SELECT release_id, $6, $7, $8, $9 FROM federated.release
WHERE run_id = $1 AND round_number = $2 AND exchange = $3 AND step = $4 AND node_name = $5

-- name: read_charge(bigint, text, uuid, integer, integer, text, text)
SELECT r.state::text AS state, r.task_sha256, r.header, r.payload,
       d.dataset_id, d.name, d.relation, d.columns, d.types, d.predicate, d.row_key, d.options::text AS options,
       s.noise_multiplier, s.sampling_rate, s.steps, s.noise, s.workspace_epsilon_basic, s.workspace_epsilon_tight,
       s.base_tables @> d.base_tables AS is_paid_by_all
FROM federated.release AS r
JOIN federated.spending AS s USING (release_id)
LEFT JOIN federated.dataset AS d ON d.dataset_id = $1 AND d.workspace = $2
WHERE r.run_id = $3 AND r.round_number = $4 AND r.exchange = $5 AND r.step = $6 AND r.node_name = $7

-- name: finish_release(uuid, integer, integer, text, text, bytea, bytea, bigint)
WITH moved_on AS (
    UPDATE federated.release SET payload = NULL
    WHERE run_id = $1 AND node_name = $5 AND round_number < $2 AND payload IS NOT NULL
)
UPDATE federated.release
SET state = 'released', header = $6, payload = $7, payload_bytes = $8, released_at = clock_timestamp()
WHERE run_id = $1 AND round_number = $2 AND exchange = $3 AND step = $4 AND node_name = $5

-- name: fail_release(uuid, integer, integer, text, text, bytea)
UPDATE federated.release SET state = 'failed'
WHERE run_id = $1 AND round_number = $2 AND exchange = $3 AND step = $4 AND node_name = $5 AND task_sha256 = $6
  AND state = 'charged'

-- name: insert_free_release(text, uuid, integer, integer, text, text, text, bytea, bytea, bytea, bigint, bytea, boolean, bytea, bytea)
WITH moved_on AS (
    UPDATE federated.release SET payload = NULL
    WHERE run_id = $2 AND node_name = $6 AND round_number < $3 AND payload IS NOT NULL
)
INSERT INTO federated.release (workspace, run_id, round_number, exchange, step, node_name, dataset, task_sha256, header,
                               payload, payload_bytes, terms, is_message, rows_read, admission, state)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, 'released')

-- name: put_memory(text, uuid, text, bytea, bigint)
WITH unused AS (
    DELETE FROM federated.node_memory AS m USING (
        SELECT o.workspace, o.run_id, o.node_name FROM federated.node_memory AS o
        WHERE o.used_at < clock_timestamp() - interval '30 days'
          AND (o.workspace, o.run_id, o.node_name) IS DISTINCT FROM ($1, $2, $3)
        FOR UPDATE SKIP LOCKED
    ) AS o
    WHERE (m.workspace, m.run_id, m.node_name) = (o.workspace, o.run_id, o.node_name)
), replaced AS (
    UPDATE federated.node_memory SET sealed = $4, version = version + 1, used_at = clock_timestamp()
    WHERE workspace = $1 AND run_id = $2 AND node_name = $3 AND version = $5
    RETURNING version
), first AS (
    INSERT INTO federated.node_memory (workspace, run_id, node_name, sealed, version)
    SELECT $1, $2, $3, $4, 1 WHERE $5 = 0
    ON CONFLICT DO NOTHING
    RETURNING version
)
SELECT version FROM replaced UNION ALL SELECT version FROM first

-- name: forget_memory(text, uuid[])
DELETE FROM federated.node_memory WHERE workspace = $1 AND run_id = ANY ($2)

-- name: list_row_sets(bigint)
SELECT d.base_tables, r.row_set_id, r.known_by, r.content,
       (SELECT coalesce(string_agg(DISTINCT w.row_set_digest, ''::bytea) FILTER (WHERE w.is_accepted), '')
        FROM federated._withdrawals($1) AS w) AS accepted
FROM federated.dataset AS d
LEFT JOIN federated.row_set AS r
    ON r.base_tables && d.base_tables AND (r.base_relations && d.base_relations OR r.known_by = d.row_key)
WHERE d.dataset_id = $1
ORDER BY r.row_set_id

-- name: record_plain_dataset(bigint, bytea, bigint)
WITH shared AS (
    SELECT d.base_tables, d.name FROM federated.dataset AS d WHERE d.dataset_id = $1
), known AS (
    SELECT p.shared_sha256 FROM federated.plain_dataset AS p JOIN shared AS s ON p.base_tables && s.base_tables
), added AS (
    INSERT INTO federated.plain_dataset (base_tables, dataset, shared_sha256)
    SELECT s.base_tables, s.name, $2::bytea FROM shared AS s
    WHERE $2::bytea NOT IN (SELECT k.shared_sha256 FROM known AS k)
      AND (SELECT count(DISTINCT k.shared_sha256) FROM known AS k) < $3::bigint
    RETURNING shared_sha256
)
SELECT EXISTS (SELECT FROM added) OR EXISTS (
           SELECT FROM known AS k WHERE k.shared_sha256 = $2::bytea
       ) AS is_recorded

-- name: insert_row_set(bigint, text[], bytea, bigint)
INSERT INTO federated.row_set (base_tables, base_relations, known_by, content)
SELECT d.base_tables, d.base_relations, $2::text[], $3::bytea FROM federated.dataset AS d
WHERE d.dataset_id = $1 AND $4::bigint = (
    SELECT coalesce(max(r.row_set_id), 0) FROM federated.row_set AS r
    WHERE r.base_tables && d.base_tables AND (r.base_relations && d.base_relations OR r.known_by = d.row_key))
RETURNING row_set_id
