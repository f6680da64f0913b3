-- name: may_act_as(text)
SELECT pg_has_role(current_user, $1::name, 'USAGE') AS allowed

-- name: database_encoding()
SELECT getdatabaseencoding()::text AS encoding

-- name: role_names()
SELECT current_user::text AS current_role_name, session_user::text AS session_role_name

-- name: insert_workspace(text, jsonb)
INSERT INTO federated.workspace (name, options) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING RETURNING workspace_id

-- name: find_workspace(text)
SELECT workspace_id, name, options::text AS options, federated._has_role(owner) AS owned
FROM federated.workspace WHERE name = $1

-- name: lock_workspace(text)
SELECT workspace_id, name, options::text AS options, federated._has_role(owner) AS owned
FROM federated.workspace WHERE name = $1 FOR UPDATE

-- name: list_workspace_names()
SELECT name FROM federated.workspace ORDER BY name LIMIT 2

-- name: session_workspace()
SELECT nullif(current_setting('heliosdb.workspace', true), '') AS name

-- name: update_workspace(bigint, jsonb)
UPDATE federated.workspace SET options = $2 WHERE workspace_id = $1

-- name: rename(text, bigint, text)
SELECT federated._rename($1, $2, $3)

-- name: change_workspace_owner(bigint, text)
UPDATE federated.workspace SET owner = $2 WHERE workspace_id = $1

-- name: is_workspace_known(text)
SELECT EXISTS (SELECT FROM federated.workspace WHERE name = $1)
    OR EXISTS (SELECT FROM federated.dataset WHERE workspace = $1) AS is_known

-- name: delete_workspace(bigint)
DELETE FROM federated.workspace WHERE workspace_id = $1

-- name: list_workspace_models(bigint)
SELECT name FROM federated.model WHERE workspace_id = $1 ORDER BY name

-- name: workspace_has_plain_runs(bigint)
SELECT EXISTS (
    SELECT FROM federated.run AS r JOIN federated.model AS m USING (model_id)
    WHERE m.workspace_id = $1 AND r.policy ->> 'privacy_budget' IS NULL AND r.started_at IS NOT NULL
) AS has_plain_runs

-- name: has_ledger(text)
SELECT EXISTS (SELECT FROM federated.ledger AS l WHERE l.workspace = $1) AS has_ledger

-- name: may_have_spent(bigint, text)
SELECT EXISTS (SELECT FROM federated.ledger AS l WHERE l.workspace = $2) OR EXISTS (
    SELECT FROM federated.run AS r JOIN federated.model AS m USING (model_id)
    WHERE m.workspace_id = $1 AND r.policy ->> 'privacy_budget' IS NOT NULL AND r.status IN ('queued', 'running')
) AS may_have_spent

-- name: list_nodes(bigint)
SELECT name, status::text AS status, options::text AS options, datasets::text AS datasets, extras
FROM federated.node WHERE workspace_id = $1 ORDER BY name

-- name: insert_node(bigint, text, jsonb)
INSERT INTO federated.node (workspace_id, name, options) VALUES ($1, $2, $3)
ON CONFLICT (workspace_id, name) DO NOTHING RETURNING node_id

-- name: update_node(bigint, text, jsonb)
UPDATE federated.node SET options = $3 WHERE workspace_id = $1 AND name = $2

-- name: node_in_training(bigint, text)
SELECT m.name AS model
FROM federated.node AS n
JOIN federated.participation AS p USING (node_id)
JOIN federated.run AS r USING (run_id)
JOIN federated.model AS m USING (model_id)
WHERE n.workspace_id = $1 AND n.name = $2 AND r.status IN ('queued', 'running')
LIMIT 1

-- name: delete_node(bigint, text)
DELETE FROM federated.node WHERE workspace_id = $1 AND name = $2 RETURNING node_id

-- name: find_relation(name[], text)
SELECT n.nspname AS schema_name, c.relname AS relation_name, c.oid::bigint AS relation_oid,
       has_table_privilege(c.oid, 'SELECT') AS readable
FROM unnest($1) WITH ORDINALITY AS s (schema_name, place)
JOIN pg_namespace AS n ON n.nspname = s.schema_name
JOIN pg_class AS c ON c.relnamespace = n.oid
WHERE c.relname = $2 AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
ORDER BY s.place LIMIT 1

-- name: find_qualified_relation(text, text)
SELECT n.nspname AS schema_name, c.relname AS relation_name, c.oid::bigint AS relation_oid,
       has_table_privilege(c.oid, 'SELECT') AS readable
FROM pg_namespace AS n
JOIN pg_class AS c ON c.relnamespace = n.oid
WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
  AND has_schema_privilege(n.oid, 'USAGE')

-- name: list_columns(bigint)
SELECT attname::text AS name, format_type(atttypid, NULL) AS type
FROM pg_attribute WHERE attrelid = $1::oid AND attnum > 0 AND NOT attisdropped ORDER BY attnum

-- name: list_primary_key(bigint)
SELECT a.attname::text AS name
FROM pg_index AS i CROSS JOIN unnest(i.indkey) WITH ORDINALITY AS k (attnum, place)
JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
WHERE i.indrelid = $1::oid AND i.indisprimary AND k.place <= i.indnkeyatts ORDER BY k.place

-- name: insert_dataset(text, text, name, name, text[], text[], text, jsonb, text[])
INSERT INTO federated.dataset (name, workspace, relation, columns, types, predicate, options, row_key)
VALUES ($1, $2, format('%I.%I', $3, $4), $5, $6, $7, $8, $9)
ON CONFLICT (name) DO NOTHING RETURNING dataset_id

-- name: create_dataset_view(text, name, name, text[], text, name[])
SELECT federated._create_dataset_view($1, $2, $3, $4, $5, $6)

-- name: probe_dataset(text, name[])
SELECT code, message, place, has_rows, has_own_rows FROM federated._probe_dataset($1, $2)

-- name: delete_dataset(text)
DELETE FROM federated.dataset WHERE name = $1 RETURNING dataset_id

-- name: drop_dataset_view(text)
SELECT federated._drop_dataset_view($1)

-- name: lock_dataset(text)
SELECT dataset_id, name, options::text AS options, federated._has_role(owner) AS owned
FROM federated.dataset WHERE name = $1 FOR NO KEY UPDATE

-- name: update_dataset(bigint, jsonb)
UPDATE federated.dataset SET options = $2 WHERE dataset_id = $1

-- name: dataset_ceiling(bigint)
SELECT min(b.max_epsilon) AS ceiling
FROM federated.dataset AS d JOIN federated.base_table AS b ON b.base_table_id = ANY (d.base_tables)
WHERE d.dataset_id = $1

-- name: insert_model(bigint, text, jsonb)
INSERT INTO federated.model (workspace_id, name, options) VALUES ($1, $2, $3)
ON CONFLICT (name) DO NOTHING RETURNING model_id

-- name: lock_model(text)
SELECT m.model_id, m.name, m.options::text AS options, w.workspace_id, w.name AS workspace, w.options::text AS policy,
       federated._has_role(w.owner) AS workspace_owned,
       federated._has_role(m.owner) OR federated._has_role(w.owner) AS owned
FROM federated.model AS m JOIN federated.workspace AS w USING (workspace_id)
WHERE m.name = $1
FOR NO KEY UPDATE OF m

-- name: hold_workspace(text)
SELECT federated._hold_workspace(model_id) FROM federated.model WHERE name = $1

-- name: change_model_owner(bigint, text)
UPDATE federated.model SET owner = $2 WHERE model_id = $1

-- name: update_model(bigint, jsonb)
UPDATE federated.model SET options = $2 WHERE model_id = $1

-- name: active_run(bigint)
SELECT run_id::text AS run_id, status::text AS status
FROM federated.run WHERE model_id = $1 AND status IN ('queued', 'running')

-- name: set_drop_behavior(text)
SELECT set_config('federated.drop_behavior', $1, true)

-- name: delete_model(bigint)
DELETE FROM federated.model WHERE model_id = $1

-- name: insert_run(bigint, jsonb, uuid, integer, integer, boolean, integer, text[])
INSERT INTO federated.run (model_id, overrides, series_id, trial, fold, waiting, voting_group, group_nodes)
VALUES ($1, $2, $3::uuid, $4, $5, $6, $7, $8)
ON CONFLICT (model_id) WHERE status IN ('queued', 'running') AND NOT waiting DO NOTHING RETURNING run_id::text AS run_id

-- name: request_stop(bigint)
UPDATE federated.run SET stop_requested = true WHERE model_id = $1 AND status IN ('queued', 'running')
RETURNING run_id::text AS run_id

-- name: consumed_epsilon(text)
SELECT coalesce(federated._consumed_epsilon($1), 0) AS consumed

-- name: count_known_rows(bigint)
SELECT sum(coalesce(dataset_size, (options ->> 'dataset_size')::bigint))::bigint AS rows
FROM federated.node WHERE workspace_id = $1

-- name: list_private_nodes(bigint, text)
SELECT n.name FROM federated.node AS n
WHERE n.workspace_id = $1 AND EXISTS (
    SELECT FROM federated.ledger AS l
    LEFT JOIN federated.workspace AS w ON w.name = l.workspace
    LEFT JOIN federated.node AS o ON o.workspace_id = w.workspace_id AND o.name = l.node_name
    WHERE l.state = 'charged'
      AND (l.workspace = $2 AND l.node_name = n.name OR o.options ->> 'endpoint' = n.options ->> 'endpoint'
           OR o.options ->> 'certificate' = n.options ->> 'certificate'))
ORDER BY n.name

-- name: is_served()
SELECT EXISTS (SELECT FROM federated.lease) AS is_served

-- name: is_participant()
SELECT EXISTS (SELECT FROM federated.dataset) AND NOT EXISTS (SELECT FROM federated.lease) AS is_participant

-- name: notify_coordinator()
SELECT pg_notify('heliosdb_federated', '')

-- name: has_aggregation_function(text)
SELECT EXISTS (
    SELECT FROM pg_proc AS p
    WHERE p.pronamespace = (SELECT n.oid FROM pg_namespace AS n WHERE n.nspname = 'federated_aggregation')
      AND p.proname = $1 AND oidvectortypes(p.proargtypes) = 'double precision[], double precision[]'
) AS is_there

-- name: create_aggregation_function(text, text, text, boolean)
SELECT federated._create_aggregation_function($1, $2, $3, $4)

-- name: drop_aggregation_function(text)
SELECT federated._drop_aggregation_function($1)

-- name: list_models_with_aggregation(text)
SELECT m.name FROM federated.model AS m
WHERE m.options ->> 'aggregation' = $1
   OR EXISTS (SELECT FROM federated.run AS r WHERE r.model_id = m.model_id AND r.status IN ('queued', 'running')
                AND r.options ->> 'aggregation' = $1)
ORDER BY m.name

-- name: find_language(text)
SELECT EXISTS (SELECT FROM pg_language AS l WHERE l.lanname = $1) AS is_installed,
       EXISTS (SELECT FROM pg_available_extensions AS e WHERE e.name = $1) AS is_available,
       current_setting('server_version_num')::integer / 10000 AS server

-- name: let_erase(text, boolean)
SELECT federated._let_erase($1, $2)
