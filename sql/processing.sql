-- What the catalog knows of a workspace's processing, and of a model, in the shape in which people ask for it. Nothing is
-- made up: what nobody recorded is null.

CREATE FUNCTION federated._processing_participants(workspace_id bigint) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(jsonb_agg(jsonb_build_object(
        'node', n.name, 'contact', n.options ->> 'contact', 'data_residency', n.options ->> 'data_residency',
        'status', n.status, 'registered_at', n.registered_at, 'certificate_expires', n.certificate_expires) ORDER BY n.name), '[]')
    FROM federated.node AS n WHERE n.workspace_id = _processing_participants.workspace_id
$$;
COMMENT ON FUNCTION federated._processing_participants(bigint) IS 'Who takes part in a workspace, for the record of processing';

CREATE FUNCTION federated._processing_data(workspace_id bigint) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(jsonb_agg(jsonb_build_object(
        'node', n.name, 'dataset', d ->> 'name',
        'columns', (SELECT jsonb_agg(jsonb_build_object('column', c.name, 'type', d -> 'types' ->> (c.place - 1)::integer) ORDER BY c.place)
                    FROM jsonb_array_elements_text(d -> 'columns') WITH ORDINALITY AS c (name, place)),
        'plain_answers', d -> 'plain_answers', 'paused', coalesce(d -> 'paused', 'false')) ORDER BY n.name, d ->> 'name'), '[]')
    FROM federated.node AS n CROSS JOIN LATERAL jsonb_array_elements(n.datasets) AS d
    WHERE n.workspace_id = _processing_data.workspace_id
$$;
COMMENT ON FUNCTION federated._processing_data(bigint) IS 'Which columns the nodes of a workspace share, as they last said, for the record of processing';

CREATE FUNCTION federated._processing_purposes(workspace_id bigint) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(jsonb_agg(jsonb_build_object(
        'model', m.name, 'intended_use', m.options ->> 'intended_use', 'owner', m.owner, 'owner_contact', m.options ->> 'owner_contact',
        'algorithm', m.options ->> 'algorithm', 'target', m.options ->> 'target', 'features', m.options -> 'features',
        'runs', (SELECT count(*) FROM federated.run AS r WHERE r.model_id = m.model_id)) ORDER BY m.name), '[]')
    FROM federated.model AS m WHERE m.workspace_id = _processing_purposes.workspace_id
$$;
COMMENT ON FUNCTION federated._processing_purposes(bigint) IS 'What the models of a workspace are for, for the record of processing';

CREATE FUNCTION federated._processing_recipients(workspace_id bigint) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT jsonb_build_object(
        'roles', (SELECT coalesce(jsonb_agg(jsonb_build_object('role', r.rolname, 'member_of', f.rolname) ORDER BY r.rolname, f.rolname), '[]')
                  FROM pg_roles AS r JOIN pg_roles AS f ON f.rolname IN (
                      'federated_admin', 'federated_operator', 'federated_analyst', 'federated_auditor', 'federated_daemon')
                  WHERE r.rolcanlogin AND NOT r.rolsuper AND pg_has_role(r.oid, f.oid, 'MEMBER')),
        'superusers', (SELECT coalesce(jsonb_agg(r.rolname ORDER BY r.rolname), '[]') FROM pg_roles AS r WHERE r.rolsuper AND r.rolcanlogin),
        'models_granted', (SELECT coalesce(jsonb_agg(jsonb_build_object('model', m.name, 'to', coalesce(n.name, 'all nodes')) ORDER BY m.name, n.name), '[]')
                           FROM federated.subscribe_grant AS g JOIN federated.model AS m USING (model_id)
                           LEFT JOIN federated.node AS n USING (node_id)
                           WHERE m.workspace_id = _processing_recipients.workspace_id))
$$;
COMMENT ON FUNCTION federated._processing_recipients(bigint) IS 'Who gets to see models and figures of a workspace, for the record of processing';

CREATE FUNCTION @extschema@.federated_processing_record(workspace text) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT jsonb_build_object(
        'workspace', w.name, 'made_at', now(), 'created_at', w.created_at, 'owner', w.owner,
        'participants', federated._processing_participants(w.workspace_id),
        'purposes', federated._processing_purposes(w.workspace_id),
        'categories_of_data', federated._processing_data(w.workspace_id),
        'categories_of_data_subjects', NULL,
        'recipients', federated._processing_recipients(w.workspace_id),
        'transfers', jsonb_build_object('data_residency', w.options ->> 'data_residency'),
        'retention', jsonb_build_object(
            'retention_days', (w.options ->> 'retention_days')::integer, 'legal_hold', (w.options ->> 'legal_hold')::boolean,
            'oldest_audit_entry', (SELECT min(a.recorded_at) FROM federated.audit AS a WHERE a.workspace = w.name)),
        'security_measures', jsonb_build_object(
            'compliance_mode', coalesce(w.options ->> 'compliance_mode', 'none'),
            'privacy_budget', (w.options ->> 'privacy_budget')::double precision,
            'delta', coalesce((w.options ->> 'delta')::double precision, 1e-5),
            'encryption', coalesce(w.options ->> 'encryption', 'AES-256-GCM'),
            'tls_version', coalesce(w.options ->> 'tls_version', '1.3'),
            'certificate_validation', coalesce((w.options ->> 'certificate_validation')::boolean, true),
            'min_nodes', coalesce((w.options ->> 'min_nodes')::integer, 2)))
    FROM federated.workspace AS w
    WHERE w.workspace_id = federated._workspace_id(federated_processing_record.workspace)
$$;
COMMENT ON FUNCTION @extschema@.federated_processing_record(text) IS
    'What the catalog knows for a record of processing activities (GDPR Art. 30): who takes part and whom to ask there, what the models are for (option intended_use), which columns are shared, who gets to see what comes of them, where the data are, how long what is kept, and by what it is protected. What nobody recorded is null: the categories of data subjects always are';

CREATE FUNCTION federated._card_sites(run_id uuid, round_number integer) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(jsonb_agg(jsonb_build_object(
        'node', s.name, 'data_residency', s.residency, 'rounds', s.rounds, 'rows', s.rows) ORDER BY s.name), '[]')
    FROM (
        SELECT n.name, n.options ->> 'data_residency' AS residency, count(DISTINCT p.round_number) AS rounds,
               (array_agg(p.weight ORDER BY p.round_number DESC, p.weight DESC) FILTER (WHERE p.weight IS NOT NULL))[1] AS rows
        FROM federated.run AS o
        -- The models of all groups vote in one version, and each run ends with a round of its own.
        JOIN federated.run AS r ON r.run_id = o.run_id OR r.series_id = o.series_id AND o.voting_group IS NOT NULL
        JOIN federated.participation AS p ON p.run_id = r.run_id
        JOIN federated.node AS n USING (node_id)
        WHERE o.run_id = _card_sites.run_id AND p.round_number >= 1 AND p.outcome = 'received'
          AND (p.round_number <= _card_sites.round_number OR r.run_id <> o.run_id)
        GROUP BY n.name, n.options ->> 'data_residency'
    ) AS s
$$;
COMMENT ON FUNCTION federated._card_sites(uuid, integer) IS
    'Which nodes a version was trained at, of one by vote those of all groups, in how many rounds of the run, and the rows behind what each answered last (the most of the round), as it stated them; nodes that were unregistered since are missing';

CREATE FUNCTION federated._card_metrics(subject federated.version) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT jsonb_build_object(
        'loss', (subject).global_loss, 'loss_std_error', (subject).global_loss_std_error, 'base_loss', (subject).base_loss,
        'accuracy', (subject).global_accuracy, 'accuracy_std_error', (subject).global_accuracy_std_error,
        'precision', (subject).global_precision, 'recall', (subject).global_recall, 'f1_score', (subject).global_f1_score,
        'rmse', (subject).global_rmse)
$$;
COMMENT ON FUNCTION federated._card_metrics(federated.version) IS 'The figures of a version over held-out rows; null where there is none';

-- A version by vote has learned in all of them, and is of the run of the first alone.
CREATE FUNCTION federated._card_groups(first federated.run) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce((
        SELECT jsonb_build_object(
            'started_at', min(r.started_at), 'finished_at', max(r.finished_at),
            'status', string_agg(DISTINCT r.status::text, ', ' ORDER BY r.status::text),
            'groups', jsonb_agg(jsonb_build_object(
                'voting_group', r.voting_group, 'nodes', r.group_nodes, 'run_id', r.run_id, 'status', r.status, 'started_at', r.started_at,
                'finished_at', r.finished_at, 'options', r.options, 'message', r.message) ORDER BY r.voting_group))
        FROM federated.run AS r
        WHERE first.voting_group IS NOT NULL AND r.series_id = first.series_id AND r.voting_group IS NOT NULL
        HAVING count(*) > 0), '{}')
$$;
COMMENT ON FUNCTION federated._card_groups(federated.run) IS
    'What a card says of how the groups trained that vote in a version; nothing of a run of no group';

CREATE FUNCTION federated._card_version(subject federated.version) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT jsonb_build_object(
        'version', (subject).version, 'is_current', (subject).is_current, 'created_at', (subject).created_at,
        'tags', (SELECT coalesce(jsonb_agg(t.name ORDER BY t.name), '[]') FROM federated.tag AS t
                 WHERE t.model_id = (subject).model_id AND t.version = (subject).version),
        'parameters_sha256', encode((subject).sha256, 'hex'), 'parent', federated._parent_name((subject).run_id), 'run_id', (subject).run_id, 'round_number', (subject).round_number,
        'data', jsonb_build_object(
            'features', to_jsonb((subject).features), 'target', r.options ->> 'target', 'dataset', r.options ->> 'dataset',
            'sites', federated._card_sites((subject).run_id, (subject).round_number)),
        'training', jsonb_build_object(
            'algorithm', r.options ->> 'algorithm', 'aggregation', r.options ->> 'aggregation', 'started_at', r.started_at,
            'finished_at', r.finished_at, 'status', r.status, 'started_by', r.requested_by, 'options', r.options)
            || federated._card_groups(r),
        'privacy', jsonb_build_object(
            'epsilon', (subject).epsilon, 'delta', CASE WHEN r.policy ->> 'privacy_budget' IS NOT NULL THEN (r.policy ->> 'delta')::double precision END,
            'privacy_budget', (r.policy ->> 'privacy_budget')::double precision,
            'secure_aggregation', coalesce((r.options ->> 'secure_aggregation')::boolean, false),
            'trust_model', CASE WHEN r.policy ->> 'privacy_budget' IS NOT NULL THEN coalesce(r.policy ->> 'trust_model',
                CASE WHEN (r.options ->> 'secure_aggregation')::boolean THEN 'distributed' ELSE 'local' END) END,
            'compliance_mode', r.policy ->> 'compliance_mode',
            'ancestors', federated._ancestors(r.run_id, (SELECT w.name FROM federated.model AS m JOIN federated.workspace AS w USING (workspace_id)
                                                         WHERE m.model_id = r.model_id))),
        'metrics', federated._card_metrics(subject))
    FROM federated.run AS r WHERE r.run_id = (subject).run_id
$$;
COMMENT ON FUNCTION federated._card_version(federated.version) IS 'What a model card says of a version';

CREATE FUNCTION @extschema@.federated_model_card(model text) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    subject  federated.version;
    found_id bigint := (SELECT m.model_id FROM federated.model AS m WHERE m.name = model);
BEGIN
    -- A model without a current version has a card too; a version that is named and is not there is an error.
    IF found_id IS NULL OR EXISTS (SELECT FROM federated.version AS v WHERE v.model_id = found_id AND v.is_current) THEN
        subject := federated._read_reference(model);
        found_id := subject.model_id;
    END IF;
    RETURN (
        SELECT jsonb_build_object(
            'model', m.name, 'workspace', w.name, 'made_at', now(), 'created_at', m.created_at, 'owner', m.owner,
            'owner_contact', m.options ->> 'owner_contact', 'intended_use', m.options ->> 'intended_use',
            'algorithm', m.options ->> 'algorithm', 'target', m.options ->> 'target', 'features', m.options -> 'features',
            'versions', (SELECT count(*) FROM federated.version AS v WHERE v.model_id = m.model_id),
            'version', federated._card_version(subject))
        FROM federated.model AS m JOIN federated.workspace AS w USING (workspace_id) WHERE m.model_id = found_id);
END
$$;
COMMENT ON FUNCTION @extschema@.federated_model_card(text) IS
    'The card of a model''s current version, or of the one that model@tag or model@number names: what it is for (option intended_use) and whose it is, on which data of which nodes it was trained and how, what epsilon it cost, and what the versions that its run began with cost besides, how it did over held-out rows. version is null before there is one; what nobody recorded is null; epsilon is null without a privacy_budget, and nodes that were unregistered since are not among the sites';
