-- Subscriptions and deliveries: what a node's daemon reads and writes in its own database, and what the coordinator does in its.

-- name: has_subscriptions()
SELECT to_regprocedure('federated._list_subscriptions(text)') IS NOT NULL AS has

-- name: list_subscriptions(text)
SELECT name, model_name, wanted, takes, held_version, held_key, heard_outcome, heard_key, refused_key, kept_keys
FROM federated._list_subscriptions($1)

-- name: note_contact(text)
UPDATE federated.subscription AS s SET heard_at = clock_timestamp()
FROM (
    -- What its DBA is just changing keeps no heartbeat waiting.
    SELECT o.subscription_id FROM federated.subscription AS o
    WHERE o.workspace = $1 AND o.heard_at < clock_timestamp() - interval '1 minute' FOR UPDATE SKIP LOCKED
) AS due
WHERE s.subscription_id = due.subscription_id

-- name: limit_waiting()
SELECT set_config('lock_timeout', '15s', true)

-- name: hear_offer(text, text, text, text, text, integer, uuid, text)
SELECT federated._hear_offer($1, $2, $3, $4, $5, $6, $7, $8) AS takes

-- name: take_version(text, integer, uuid, text[], text, text, bytea, bytea, bytea, bytea, bytea, uuid)
SELECT federated._take_version($1, $2, $3, $4::text[], $5, $6, $7, $8, $9, $10, $11, $12) AS obstacle

-- name: withdraw_version(text, text, text, text, uuid)
SELECT federated._withdraw_version($1, $2, $3, $4, $5) AS withdrawn

-- name: refuse_version(text, uuid, text)
SELECT federated._refuse_version($1, $2, $3)

-- name: record_subscriptions(bigint, jsonb, jsonb)
WITH said AS (
    SELECT s.* FROM jsonb_to_recordset($3::jsonb) AS s (
        name text, model_name text, wanted text, takes boolean, held_key uuid, held_version integer, heard_outcome text,
        heard_key uuid, refused_key uuid, kept_keys uuid[])
), node AS (
    SELECT n.node_id FROM federated.node AS n WHERE n.node_id = $1 AND n.options = $2::jsonb
), gone AS (
    DELETE FROM federated.subscriber AS s USING node AS n
    WHERE s.node_id = n.node_id AND NOT EXISTS (SELECT FROM said AS o WHERE o.name = s.name)
)
INSERT INTO federated.subscriber AS s
    (node_id, name, model_name, wanted, takes, held_key, held_version, heard_outcome, heard_key, refused_key, kept_keys, reported_at)
SELECT n.node_id, o.name, o.model_name, o.wanted, o.takes, o.held_key, o.held_version, o.heard_outcome, o.heard_key, o.refused_key, o.kept_keys,
       clock_timestamp()
FROM said AS o CROSS JOIN node AS n
ON CONFLICT (node_id, name) DO UPDATE SET
    model_name = excluded.model_name, wanted = excluded.wanted, takes = excluded.takes, held_key = excluded.held_key,
    held_version = excluded.held_version, heard_outcome = excluded.heard_outcome, heard_key = excluded.heard_key,
    refused_key = excluded.refused_key, kept_keys = excluded.kept_keys, reported_at = excluded.reported_at
WHERE (s.model_name, s.wanted, s.takes, s.held_key, s.held_version, s.heard_outcome, s.heard_key, s.refused_key, s.kept_keys)
      IS DISTINCT FROM (excluded.model_name, excluded.wanted, excluded.takes, excluded.held_key, excluded.held_version,
                        excluded.heard_outcome, excluded.heard_key, excluded.refused_key, excluded.kept_keys)

-- name: record_subscription(bigint, jsonb, jsonb)
UPDATE federated.subscriber AS s SET
    takes = o.takes, held_key = o.held_key, held_version = o.held_version, heard_outcome = o.heard_outcome,
    heard_key = o.heard_key, refused_key = o.refused_key, kept_keys = o.kept_keys, failure = NULL, reported_at = clock_timestamp()
FROM jsonb_to_record($3::jsonb) AS o (
         name text, model_name text, wanted text, takes boolean, held_key uuid, held_version integer, heard_outcome text,
         heard_key uuid, refused_key uuid, kept_keys uuid[]),
     federated.node AS n
WHERE n.node_id = $1 AND n.options = $2::jsonb AND s.node_id = n.node_id AND s.name = o.name AND s.model_name = o.model_name
  AND s.wanted IS NOT DISTINCT FROM o.wanted

-- name: record_delivery_failure(bigint, text, text)
UPDATE federated.subscriber SET failure = $3 WHERE node_id = $1 AND name = $2 AND failure IS DISTINCT FROM $3

-- name: list_pending_deliveries()
SELECT node_id, workspace, node_name, name, model_name, wanted, outcome, version, version_key, carries, reason
FROM federated._pending_deliveries()

-- name: offered_version(uuid)
SELECT features, contract::text AS contract, prediction, coalesce(octet_length(prediction_arrays), 0) AS size
FROM federated._offered_version($1)

-- name: offered_size(uuid)
SELECT octet_length(prediction::text) + coalesce(octet_length(prediction_arrays), 0) AS size FROM federated.held_version WHERE numbers_id = $1

-- name: offered_arrays(uuid, integer, integer)
SELECT substring(prediction_arrays FROM $2 FOR $3) AS part FROM federated.held_version WHERE numbers_id = $1
