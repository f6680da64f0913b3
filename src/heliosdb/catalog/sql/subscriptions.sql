-- name: insert_subscription(text, text, text, text, boolean)
INSERT INTO federated.subscription (name, workspace, model_name, wanted, auto) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (name) DO NOTHING RETURNING subscription_id

-- name: lock_subscription(text)
SELECT subscription_id, name, model_name, federated._has_role(owner) AS owned
FROM federated.subscription WHERE name = $1 FOR UPDATE

-- name: choose_version(bigint, text)
UPDATE federated.subscription SET wanted = $2 WHERE subscription_id = $1

-- name: choose_auto(bigint, boolean)
UPDATE federated.subscription SET auto = $2 WHERE subscription_id = $1

-- name: refresh_subscription(bigint)
UPDATE federated.subscription SET wanted = wanted WHERE subscription_id = $1

-- name: delete_subscription(bigint)
DELETE FROM federated.subscription WHERE subscription_id = $1

-- name: grant_subscribe(bigint, bigint, text)
INSERT INTO federated.subscribe_grant (model_id, node_id, name)
SELECT $1, n.node_id, n.name FROM federated.node AS n WHERE n.workspace_id = $2 AND n.name = $3
UNION ALL
SELECT $1, NULL, 'ALL NODES' WHERE $3 IS NULL
ON CONFLICT (model_id, (coalesce(node_id, 0))) DO NOTHING RETURNING name

-- name: revoke_subscribe(bigint, text)
DELETE FROM federated.subscribe_grant AS g
WHERE g.model_id = $1 AND CASE WHEN $2 IS NULL THEN g.node_id IS NULL
    ELSE g.node_id = (SELECT n.node_id FROM federated.node AS n JOIN federated.model AS m USING (workspace_id)
                      WHERE m.model_id = $1 AND n.name = $2) END
RETURNING g.name

-- name: list_grants(bigint)
SELECT CASE WHEN node_id IS NOT NULL THEN name END AS node FROM federated.subscribe_grant WHERE model_id = $1 ORDER BY name

-- name: list_keepers(bigint, text)
SELECT DISTINCT o.node_name AS node, o.held_version AS version
FROM federated.offer AS o
WHERE o.model_id = $1 AND NOT o.is_granted AND o.held_version IS NOT NULL AND ($2 IS NULL OR o.node_name = $2)
ORDER BY o.node_name

-- name: list_node_subscriptions(bigint, text)
SELECT s.model_name AS model FROM federated.subscriber AS s JOIN federated.node AS n USING (node_id)
WHERE n.workspace_id = $1 AND n.name = $2 AND s.held_version IS NOT NULL ORDER BY s.model_name

-- name: is_subscribed(text)
SELECT s.name FROM federated.subscription AS s WHERE s.model_name = $1
