-- What SHOW FEDERATED shows: one view a kind of object (federated_runs stands with the other figures of runs), and a function
-- that the proxy calls for each. All of it is in the catalog for the same roles; nothing is asked of a node.

CREATE VIEW @extschema@.federated_workspaces AS
SELECT w.name AS workspace_name, w.owner, coalesce(w.options ->> 'compliance_mode', 'none') AS compliance_mode,
       s.status, s.registered_nodes AS nodes, s.active_nodes, s.min_nodes_required AS min_nodes,
       (SELECT count(*) FROM federated.model AS m WHERE m.workspace_id = w.workspace_id) AS models,
       b.total_budget_epsilon AS privacy_budget, b.consumed_epsilon, b.remaining_epsilon,
       w.options ->> 'data_residency' AS data_residency, w.options, w.created_at
FROM federated.workspace AS w
JOIN @extschema@.federated_workspace_status AS s ON s.workspace_name = w.name
JOIN @extschema@.federated_privacy_budget_status AS b ON b.workspace_name = w.name;
COMMENT ON VIEW @extschema@.federated_workspaces IS 'Every workspace: what SHOW FEDERATED WORKSPACES shows';
COMMENT ON COLUMN @extschema@.federated_workspaces.workspace_name IS 'Its name';
COMMENT ON COLUMN @extschema@.federated_workspaces.owner IS 'The role whose members may change it';
COMMENT ON COLUMN @extschema@.federated_workspaces.compliance_mode IS 'The option; none where nothing is enforced';
COMMENT ON COLUMN @extschema@.federated_workspaces.status IS 'As in federated_workspace_status: whether a run could begin in it';
COMMENT ON COLUMN @extschema@.federated_workspaces.nodes IS 'Nodes that are registered, in whatever state';
COMMENT ON COLUMN @extschema@.federated_workspaces.active_nodes IS 'Nodes that the coordinator reaches now';
COMMENT ON COLUMN @extschema@.federated_workspaces.min_nodes IS 'How many a run needs';
COMMENT ON COLUMN @extschema@.federated_workspaces.models IS 'How many models it has';
COMMENT ON COLUMN @extschema@.federated_workspaces.privacy_budget IS 'The option; NULL: answers leave without noise';
COMMENT ON COLUMN @extschema@.federated_workspaces.consumed_epsilon IS 'As in federated_privacy_budget_status';
COMMENT ON COLUMN @extschema@.federated_workspaces.remaining_epsilon IS 'Never below 0; NULL without a budget';
COMMENT ON COLUMN @extschema@.federated_workspaces.data_residency IS 'The option; NULL where data may lie anywhere';
COMMENT ON COLUMN @extschema@.federated_workspaces.options IS 'The options that a statement set; what is absent has its default';
COMMENT ON COLUMN @extschema@.federated_workspaces.created_at IS 'When it was made';

CREATE VIEW @extschema@.federated_nodes AS
SELECT w.name AS workspace_name, n.name AS node_name, n.status::text AS status, n.failure_reason,
       n.options ->> 'endpoint' AS endpoint, n.options ->> 'data_residency' AS data_residency,
       (SELECT array_agg(d ->> 'name' || CASE WHEN (d ->> 'paused')::boolean THEN ' (paused)' ELSE '' END ORDER BY d ->> 'name')
        FROM jsonb_array_elements(n.datasets) AS d) AS datasets,
       coalesce(n.dataset_size, (n.options ->> 'dataset_size')::bigint) AS dataset_size, n.plain_answers, n.extras,
       n.certificate_expires, n.last_seen, n.registered_at
FROM federated.node AS n
JOIN federated.workspace AS w USING (workspace_id);
COMMENT ON VIEW @extschema@.federated_nodes IS
    'Every registered node: what SHOW FEDERATED NODES shows. How it takes part in rounds: federated_node_status';
COMMENT ON COLUMN @extschema@.federated_nodes.workspace_name IS 'Where it is registered';
COMMENT ON COLUMN @extschema@.federated_nodes.node_name IS 'Name of the node in its workspace';
COMMENT ON COLUMN @extschema@.federated_nodes.status IS 'pending: not met yet; active; slow: it misses heartbeats; failed: failure_reason says why';
COMMENT ON COLUMN @extschema@.federated_nodes.failure_reason IS 'Why it is slow or failed; NULL of all others';
COMMENT ON COLUMN @extschema@.federated_nodes.endpoint IS 'Where it answers; NULL of a node that dials or that Flower reaches';
COMMENT ON COLUMN @extschema@.federated_nodes.data_residency IS 'Where its data lie, as registered; NULL where nothing was said';
COMMENT ON COLUMN @extschema@.federated_nodes.datasets IS 'What it shares with the workspace, by its own word when it was last greeted; NULL where it was not met or shares nothing';
COMMENT ON COLUMN @extschema@.federated_nodes.dataset_size IS
    'Rows as released in round 0 of the last run (noised under a budget), before that as declared at registration';
COMMENT ON COLUMN @extschema@.federated_nodes.plain_answers IS 'Whether its DBA lets answers leave without noise from all that it shares; NULL before it was met';
COMMENT ON COLUMN @extschema@.federated_nodes.extras IS 'What is installed there beside the product, such as neural; NULL before it was met';
COMMENT ON COLUMN @extschema@.federated_nodes.certificate_expires IS 'When the pinned certificate ends; NULL before it was met';
COMMENT ON COLUMN @extschema@.federated_nodes.last_seen IS 'When it last answered; NULL before any';
COMMENT ON COLUMN @extschema@.federated_nodes.registered_at IS 'When it was registered';

CREATE VIEW @extschema@.federated_models AS
SELECT w.name AS workspace_name, m.name AS model_name, m.owner, m.options ->> 'algorithm' AS algorithm,
       m.options -> 'features' AS features, m.options ->> 'target' AS target, coalesce(r.status, 'untrained') AS status,
       coalesce(r.runs, 0) AS runs, v.version,
       (SELECT array_agg(t.name ORDER BY t.name) FROM federated.tag AS t
        WHERE t.model_id = m.model_id AND t.version = v.version) AS tags,
       v.global_loss, v.global_accuracy, v.epsilon, v.created_at AS trained_at, m.options, m.created_at
FROM federated.model AS m
JOIN federated.workspace AS w USING (workspace_id)
LEFT JOIN federated.version AS v ON v.model_id = m.model_id AND v.is_current
LEFT JOIN LATERAL (
    SELECT q.status::text AS status, count(*) OVER () AS runs
    FROM federated.run AS q WHERE q.model_id = m.model_id
    ORDER BY q.waiting, q.created_at DESC, q.run_id DESC LIMIT 1
) AS r ON true;
COMMENT ON VIEW @extschema@.federated_models IS 'Every model: what SHOW FEDERATED MODELS shows';
COMMENT ON COLUMN @extschema@.federated_models.workspace_name IS 'Where it is trained';
COMMENT ON COLUMN @extschema@.federated_models.model_name IS 'Its name';
COMMENT ON COLUMN @extschema@.federated_models.owner IS 'The role whose members may change and train it; the owner of its workspace may too';
COMMENT ON COLUMN @extschema@.federated_models.algorithm IS 'The option; NULL where it is not set yet';
COMMENT ON COLUMN @extschema@.federated_models.features IS 'The option, as a JSON array; NULL where it is not set yet';
COMMENT ON COLUMN @extschema@.federated_models.target IS 'The option; NULL where it is not set yet';
COMMENT ON COLUMN @extschema@.federated_models.status IS 'Of its latest run, as in federated_runs; untrained where there is none';
COMMENT ON COLUMN @extschema@.federated_models.runs IS 'How many there were, those of a series each by itself';
COMMENT ON COLUMN @extschema@.federated_models.version IS 'Which version predicts; NULL where none does';
COMMENT ON COLUMN @extschema@.federated_models.tags IS 'Of that version; NULL where it has none';
COMMENT ON COLUMN @extschema@.federated_models.global_loss IS 'Of that version, as in federated_model_versions';
COMMENT ON COLUMN @extschema@.federated_models.global_accuracy IS 'Of that version, as in federated_model_versions';
COMMENT ON COLUMN @extschema@.federated_models.epsilon IS 'What its workspace had spent when the version was made; NULL without a budget';
COMMENT ON COLUMN @extschema@.federated_models.trained_at IS 'When that version was made';
COMMENT ON COLUMN @extschema@.federated_models.options IS 'The options that a statement set; what is absent has its default';
COMMENT ON COLUMN @extschema@.federated_models.created_at IS 'When the model was made';

-- Which consent counts, and which phi_check, follows from the workspace's compliance mode too, which each task names.
CREATE VIEW @extschema@.federated_datasets AS
SELECT d.name AS dataset_name, d.workspace AS workspace_name, d.relation, d.columns, d.predicate,
       CASE WHEN (d.options ->> 'paused')::boolean THEN 'paused' ELSE 'shared' END AS state,
       d.options ->> 'subject' AS subject, (d.options ->> 'require_consent')::boolean AS require_consent,
       d.options ? 'consent_query' AS has_consent_query, d.options ->> 'purpose' AS purpose,
       (d.options ->> 'plain_answers')::boolean AS plain_answers, (d.options ->> 'min_rows')::integer AS min_rows,
       (SELECT min(b.max_epsilon) FROM federated.base_table AS b WHERE b.base_table_id = ANY (d.base_tables)) AS max_epsilon,
       a.epsilon AS agreed_epsilon, a.delta AS agreed_delta, coalesce(s.charges, 0) AS charges, s.epsilon_tight,
       d.options, d.owner, d.created_at
FROM federated.dataset AS d
LEFT JOIN LATERAL (
    SELECT min(g.epsilon) AS epsilon, min(g.delta) AS delta
    FROM federated.agreement AS g WHERE g.workspace = d.workspace AND g.base_tables && d.base_tables
) AS a ON true
LEFT JOIN LATERAL (
    SELECT p.epsilon_tight, count(*) OVER () AS charges
    FROM federated.spending AS p WHERE p.base_tables && d.base_tables ORDER BY p.spending_id DESC LIMIT 1
) AS s ON true;
COMMENT ON VIEW @extschema@.federated_datasets IS
    'At a node: every dataset that this database shares, what SHOW FEDERATED DATASETS shows. What each workspace has spent: federated_dataset_budget';
COMMENT ON COLUMN @extschema@.federated_datasets.dataset_name IS 'Its name';
COMMENT ON COLUMN @extschema@.federated_datasets.workspace_name IS 'Which workspace may learn from it';
COMMENT ON COLUMN @extschema@.federated_datasets.relation IS 'The table behind it, as it was named when shared';
COMMENT ON COLUMN @extschema@.federated_datasets.columns IS 'What is shared of it, the subject aside';
COMMENT ON COLUMN @extschema@.federated_datasets.predicate IS 'Which rows are shared, as SQL; NULL where all are';
COMMENT ON COLUMN @extschema@.federated_datasets.state IS 'shared, or paused: it answers nothing for now';
COMMENT ON COLUMN @extschema@.federated_datasets.subject IS 'The column that names the data subject; NULL: every row is one';
COMMENT ON COLUMN @extschema@.federated_datasets.require_consent IS 'The option; NULL where it was not set: then the workspace''s compliance mode decides';
COMMENT ON COLUMN @extschema@.federated_datasets.has_consent_query IS 'Whether consent is read by a query of the DBA''s, beside the register';
COMMENT ON COLUMN @extschema@.federated_datasets.purpose IS 'The option: for which purpose consent is asked; NULL where none was named';
COMMENT ON COLUMN @extschema@.federated_datasets.plain_answers IS 'The option; NULL where it was not set: then the site''s setting and the compliance mode decide';
COMMENT ON COLUMN @extschema@.federated_datasets.min_rows IS 'The option; NULL where it was not set';
COMMENT ON COLUMN @extschema@.federated_datasets.max_epsilon IS 'The smallest ceiling that any dataset over its tables ever had, which holds; NULL where none had one';
COMMENT ON COLUMN @extschema@.federated_datasets.agreed_epsilon IS 'What the workspace''s first private release bound it to; NULL before any';
COMMENT ON COLUMN @extschema@.federated_datasets.agreed_delta IS 'The delta of these terms';
COMMENT ON COLUMN @extschema@.federated_datasets.charges IS 'How many tasks were charged to its tables, of all workspaces';
COMMENT ON COLUMN @extschema@.federated_datasets.epsilon_tight IS 'What the node''s ledger showed with the last of these: all of all workspaces, composed; NULL without a charge';
COMMENT ON COLUMN @extschema@.federated_datasets.options IS 'The options that a statement set; what is absent has its default';
COMMENT ON COLUMN @extschema@.federated_datasets.owner IS 'The role whose members may change it';
COMMENT ON COLUMN @extschema@.federated_datasets.created_at IS 'When it was shared';

CREATE FUNCTION federated.show_workspaces(workspace text DEFAULT NULL) RETURNS SETOF @extschema@.federated_workspaces
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF workspace IS NOT NULL THEN
        PERFORM federated._workspace_id(workspace);
    END IF;
    RETURN QUERY SELECT s.* FROM @extschema@.federated_workspaces AS s
    WHERE workspace IS NULL OR s.workspace_name = workspace ORDER BY s.workspace_name;
END
$$;
COMMENT ON FUNCTION federated.show_workspaces(text) IS 'SHOW FEDERATED WORKSPACES, as the proxy calls it';

CREATE FUNCTION federated.show_nodes(workspace text DEFAULT NULL) RETURNS SETOF @extschema@.federated_nodes
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF workspace IS NOT NULL THEN
        PERFORM federated._workspace_id(workspace);
    END IF;
    RETURN QUERY SELECT s.* FROM @extschema@.federated_nodes AS s
    WHERE workspace IS NULL OR s.workspace_name = workspace ORDER BY s.workspace_name, s.node_name;
END
$$;
COMMENT ON FUNCTION federated.show_nodes(text) IS 'SHOW FEDERATED NODES, as the proxy calls it';

CREATE FUNCTION federated.show_models(workspace text DEFAULT NULL) RETURNS SETOF @extschema@.federated_models
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF workspace IS NOT NULL THEN
        PERFORM federated._workspace_id(workspace);
    END IF;
    RETURN QUERY SELECT s.* FROM @extschema@.federated_models AS s
    WHERE workspace IS NULL OR s.workspace_name = workspace ORDER BY s.workspace_name, s.model_name;
END
$$;
COMMENT ON FUNCTION federated.show_models(text) IS 'SHOW FEDERATED MODELS, as the proxy calls it';

CREATE FUNCTION federated.show_runs(workspace text DEFAULT NULL) RETURNS SETOF @extschema@.federated_runs
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF workspace IS NOT NULL THEN
        PERFORM federated._workspace_id(workspace);
    END IF;
    RETURN QUERY SELECT s.* FROM @extschema@.federated_runs AS s
    WHERE workspace IS NULL OR s.workspace_name = workspace ORDER BY s.queued_at, s.model_name, s.run;
END
$$;
COMMENT ON FUNCTION federated.show_runs(text) IS 'SHOW FEDERATED RUNS, as the proxy calls it';

-- A participant has no row of the workspaces that it shares with.
CREATE FUNCTION federated.show_datasets(workspace text DEFAULT NULL) RETURNS SETOF @extschema@.federated_datasets
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF workspace IS NOT NULL AND NOT EXISTS (SELECT FROM federated.dataset AS d WHERE d.workspace = show_datasets.workspace) THEN
        PERFORM federated._workspace_id(workspace);
    END IF;
    RETURN QUERY SELECT s.* FROM @extschema@.federated_datasets AS s
    WHERE workspace IS NULL OR s.workspace_name = workspace ORDER BY s.workspace_name, s.dataset_name;
END
$$;
COMMENT ON FUNCTION federated.show_datasets(text) IS 'SHOW FEDERATED DATASETS, as the proxy calls it';
