-- What the ledger says, workspace by workspace and round by round.

-- What a workspace has spent: where a subject is in one node only, as much as the most charged node; where subjects_overlap, the
-- nodes' sum. The lines of a node end at its most: what it has composed never falls.
CREATE FUNCTION federated._consumed_epsilon(workspace text) RETURNS double precision
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN coalesce((SELECT (w.options ->> 'subjects_overlap')::boolean FROM federated.workspace AS w
                               WHERE w.name = _consumed_epsilon.workspace), false)
                THEN sum(n.epsilon) ELSE max(n.epsilon) END
    FROM (SELECT max(l.epsilon_tight) AS epsilon FROM federated.ledger AS l
          WHERE l.workspace = _consumed_epsilon.workspace GROUP BY l.node_name) AS n
$$;
COMMENT ON FUNCTION federated._consumed_epsilon(text) IS
    'Composed epsilon of the most charged node of a workspace, with subjects_overlap the sum over its nodes; NULL where nothing was ever charged';

-- The epsilon that the last training rounds of the most charged node added, with subjects_overlap of all nodes together. A round's cost is the sum of what its releases
-- added to the composed epsilon; rounds whose releases added nothing that can be seen leave no mean to divide by.
CREATE FUNCTION federated._recent_round_cost(workspace text) RETURNS double precision
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH most_charged AS (
        SELECT l.node_name FROM federated.ledger AS l WHERE l.workspace = _recent_round_cost.workspace
        ORDER BY l.epsilon_tight DESC, l.node_name LIMIT 1
    ), releases AS (
        SELECT l.run_id, l.round_number, l.ledger_id,
               l.epsilon_tight - lag(l.epsilon_tight, 1, 0) OVER (PARTITION BY l.node_name ORDER BY l.ledger_id) AS added
        FROM federated.ledger AS l
        WHERE l.workspace = _recent_round_cost.workspace
          AND (l.node_name = (SELECT m.node_name FROM most_charged AS m)
               OR EXISTS (SELECT FROM federated.workspace AS w
                          WHERE w.name = l.workspace AND (w.options ->> 'subjects_overlap')::boolean))
    ), rounds AS (
        SELECT sum(r.added) AS cost FROM releases AS r
        WHERE r.round_number > 0
        GROUP BY r.run_id, r.round_number ORDER BY max(r.ledger_id) DESC LIMIT 10
    )
    SELECT CASE WHEN avg(r.cost) > 1e-9 THEN avg(r.cost) END FROM rounds AS r
$$;
COMMENT ON FUNCTION federated._recent_round_cost(text) IS
    'Mean of what each of the last ten training rounds added to the composed epsilon of the most charged node; NULL before any';

CREATE VIEW @extschema@.federated_privacy_budget_status AS
SELECT w.name AS workspace_name, b.total AS total_budget_epsilon, b.consumed AS consumed_epsilon,
       CASE WHEN b.total IS NOT NULL THEN greatest(b.total - b.consumed, 0) END AS remaining_epsilon,
       (SELECT count(*) FROM federated.model AS m
        JOIN federated.run AS r USING (model_id) JOIN federated.round AS d USING (run_id)
        WHERE m.workspace_id = w.workspace_id AND d.round_number > 0 AND d.status = 'closed') AS rounds_completed,
       floor(greatest(b.total - b.consumed, 0) / federated._recent_round_cost(w.name))::bigint AS estimated_remaining_rounds,
       coalesce((w.options ->> 'delta')::double precision, 1e-5) AS delta, b.basic AS consumed_epsilon_basic
FROM federated.workspace AS w
CROSS JOIN LATERAL (
    SELECT o.total,
           coalesce(federated._consumed_epsilon(w.name), CASE WHEN o.total IS NOT NULL THEN 0 END) AS consumed,
           coalesce((SELECT CASE WHEN (w.options ->> 'subjects_overlap')::boolean THEN sum(n.epsilon) ELSE max(n.epsilon) END
                     FROM (SELECT max(l.epsilon_basic) AS epsilon FROM federated.ledger AS l
                           WHERE l.workspace = w.name GROUP BY l.node_name) AS n),
                    CASE WHEN o.total IS NOT NULL THEN 0 END) AS basic
    FROM (SELECT (w.options ->> 'privacy_budget')::double precision AS total) AS o
) AS b;
COMMENT ON VIEW @extschema@.federated_privacy_budget_status IS 'What each workspace may spend, has spent, and how far the rest may reach';
COMMENT ON COLUMN @extschema@.federated_privacy_budget_status.workspace_name IS 'Name of the workspace';
COMMENT ON COLUMN @extschema@.federated_privacy_budget_status.total_budget_epsilon IS 'The option privacy_budget; NULL: the workspace has no budget';
COMMENT ON COLUMN @extschema@.federated_privacy_budget_status.consumed_epsilon IS
    'What the most charged node has spent, with subjects_overlap the nodes'' sum: all releases of a node composed, reserved ones included; NULL without a budget where nothing was ever charged';
COMMENT ON COLUMN @extschema@.federated_privacy_budget_status.remaining_epsilon IS 'Never below 0; NULL without a budget';
COMMENT ON COLUMN @extschema@.federated_privacy_budget_status.consumed_epsilon_basic IS
    'The same as the sum of each release''s own epsilon, for comparison: what is consumed is consumed_epsilon';
COMMENT ON COLUMN @extschema@.federated_privacy_budget_status.rounds_completed IS
    'Training rounds (round 0 is none) that were closed in all runs of the models that the workspace has now';
COMMENT ON COLUMN @extschema@.federated_privacy_budget_status.estimated_remaining_rounds IS
    'Whole rounds for which remaining_epsilon lasts if each adds as much as the last ten training rounds of the most charged node did on the mean; NULL without a budget, before any training round was charged, and where they added nothing that can be seen. Each run divides what is left among its own rounds: the next one may well plan more rounds, each with more noise';
COMMENT ON COLUMN @extschema@.federated_privacy_budget_status.delta IS
    'At which every epsilon here is stated; with subjects_overlap each node''s at delta / max_nodes, so that their sum is at delta';

-- What a workspace has spent with each line: the most that a node had until then, where subjects_overlap what its lines have added to
-- each node's, which never falls.
CREATE VIEW federated.ledger_reached AS
SELECT l.ledger_id, l.workspace, l.run_id, l.round_number,
       CASE WHEN coalesce((w.options ->> 'subjects_overlap')::boolean, false)
            THEN sum(l.added) OVER (PARTITION BY l.workspace ORDER BY l.ledger_id)
            ELSE max(l.epsilon_tight) OVER (PARTITION BY l.workspace ORDER BY l.ledger_id) END AS epsilon
FROM (SELECT g.ledger_id, g.workspace, g.run_id, g.round_number, g.epsilon_tight,
             g.epsilon_tight - lag(g.epsilon_tight, 1, 0::double precision) OVER (PARTITION BY g.workspace, g.node_name ORDER BY g.ledger_id) AS added
      FROM federated.ledger AS g) AS l
LEFT JOIN federated.workspace AS w ON w.name = l.workspace;
COMMENT ON VIEW federated.ledger_reached IS
    'Composed epsilon of the most charged node of a workspace with each line of its ledger, with subjects_overlap the sum over its nodes';

CREATE VIEW @extschema@.federated_privacy_history AS
SELECT r.recorded_at AS "timestamp", r.workspace AS workspace_name, r.model_name, r.round_number,
       r.reached AS cumulative_epsilon,
       r.cost AS epsilon_per_round, r.noise_multiplier, r.clipping_threshold, r.noise AS noise_mechanism,
       CASE WHEN u.run_id IS NULL THEN NULL
            WHEN (u.options ->> 'secure_aggregation')::boolean THEN coalesce(u.policy ->> 'trust_model', 'distributed')
            ELSE coalesce(u.policy ->> 'trust_model', 'local') END AS trust_model
FROM (
    SELECT n.workspace, n.model_name, n.run_id, n.round_number, max(n.recorded_at) AS recorded_at,
           max(n.reached) AS reached, max(n.cost) AS cost,
           max(n.noise_multiplier) AS noise_multiplier, max(n.clipping_norm) AS clipping_threshold, max(n.noise) AS noise
    FROM (
        SELECT l.workspace, l.model_name, l.run_id, l.round_number, l.node_name, max(l.recorded_at) AS recorded_at,
               max(e.epsilon) AS reached, sum(l.epsilon) AS cost,
               (array_agg(l.noise_multiplier ORDER BY l.exchange, l.ledger_id))[1] AS noise_multiplier,
               max(l.clipping_norm) AS clipping_norm, (array_agg(l.noise ORDER BY l.exchange, l.ledger_id))[1] AS noise
        FROM federated.ledger AS l JOIN federated.ledger_reached AS e USING (ledger_id)
        GROUP BY l.workspace, l.model_name, l.run_id, l.round_number, l.node_name
    ) AS n
    GROUP BY n.workspace, n.model_name, n.run_id, n.round_number
) AS r LEFT JOIN federated.run AS u USING (run_id);
COMMENT ON VIEW @extschema@.federated_privacy_history IS
    'One row for each round that was charged to a ledger, those of dropped models and workspaces included; round 0 gathers feature statistics';
COMMENT ON COLUMN @extschema@.federated_privacy_history.workspace_name IS 'Name of the workspace';
COMMENT ON COLUMN @extschema@.federated_privacy_history.model_name IS 'Name of the model as it was then';
COMMENT ON COLUMN @extschema@.federated_privacy_history.round_number IS 'The round; 0 gathers feature statistics';
COMMENT ON COLUMN @extschema@.federated_privacy_history."timestamp" IS 'When the last of the round''s charges was reserved';
COMMENT ON COLUMN @extschema@.federated_privacy_history.cumulative_epsilon IS
    'What the most charged node of the workspace, with subjects_overlap its nodes together, has spent up to and with this round, at the workspace''s delta';
COMMENT ON COLUMN @extschema@.federated_privacy_history.epsilon_per_round IS
    'Sum of the epsilon of each of the round''s releases by itself, at the node where it is most; rounds add up to more than cumulative_epsilon, because composing many is tighter than adding';
COMMENT ON COLUMN @extschema@.federated_privacy_history.noise_multiplier IS
    'Standard deviation of the noise over the sensitivity, of Laplace noise its scale: of each training step, of the feature statistics in round 0; of a round of several releases the first one''s';
COMMENT ON COLUMN @extschema@.federated_privacy_history.clipping_threshold IS
    'Norm to which a subject''s gradient was clipped, L2 or under Laplace noise L1; NULL in round 0, whose sums are bounded by construction';
COMMENT ON COLUMN @extschema@.federated_privacy_history.noise_mechanism IS 'How the noise is distributed: gaussian or laplacian';
COMMENT ON COLUMN @extschema@.federated_privacy_history.trust_model IS
    'Who added the noise: local, each node all of it; distributed, each a share of what only sums are seen of; central, the coordinator, which saw sums without noise; NULL where the run was dropped';
