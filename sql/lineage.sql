-- Runs that begin with the parameters of a version (transfer_from): which version that is, what it had begun with, and what is kept of that.
--
-- What always holds: a run's line is written as it is queued, by what the catalog has, and stays when models are dropped; whose rows a
-- version may have learned from follows from its own run and from its line. Who queues such a run owns what it begins with.

CREATE FUNCTION federated._seals(options jsonb, policy jsonb) RETURNS boolean
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(options ->> 'prediction' = 'sealed', policy ->> 'compliance_mode' IN ('HIPAA', 'BOTH'), false)
$$;
COMMENT ON FUNCTION federated._seals(jsonb, jsonb) IS 'Whether the numbers of the version of a run of such options and policy are sealed to the database''s server';

CREATE FUNCTION federated._read_parent(reference text, options jsonb, policy jsonb)
RETURNS TABLE (model_id bigint, model text, version integer, workspace text, run_id uuid, parent_options jsonb, parent_policy jsonb,
    classes jsonb, epsilon double precision, sha256 bytea)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    subject federated.version := federated._read_reference(reference);
    source  record;
    called  text;
BEGIN
    SELECT m.name, w.name AS workspace, r.options, r.policy INTO STRICT source
    FROM federated.run AS r JOIN federated.model AS m USING (model_id) JOIN federated.workspace AS w USING (workspace_id)
    WHERE r.run_id = subject.run_id;
    called := format('version %s of federated model "%s"', subject.version, source.name);
    IF subject.withheld OR federated._is_erased(subject) THEN
        PERFORM federated._refuse_withdrawn(source.name, subject.version, false);
    ELSIF federated._is_by_vote(subject) THEN
        RAISE EXCEPTION USING ERRCODE = 'feature_not_supported', MESSAGE = format('no run begins with %s', called),
            DETAIL = 'Several models vote in it, and none of them is its parameters.',
            HINT = 'Name a version of one model in transfer_from.';
    ELSIF federated._seals(source.options, source.policy) AND NOT federated._seals(_read_parent.options, policy) THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = format('the numbers of %s are sealed, and those of this run''s version would not be', called),
            DETAIL = 'What the run leaves would tell what is sealed.',
            HINT = 'Give the model prediction = ''sealed''.';
    ELSIF source.policy ->> 'compliance_mode' NOT IN ('none', policy ->> 'compliance_mode') AND policy ->> 'compliance_mode' <> 'BOTH' THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = format('%s was trained under compliance_mode %s, and this run''s workspace is under %s', called,
                             source.policy ->> 'compliance_mode', policy ->> 'compliance_mode'),
            HINT = 'Train in a workspace whose compliance_mode asks for no less.';
    END IF;
    RETURN QUERY SELECT subject.model_id, source.name, subject.version, source.workspace, subject.run_id, source.options, source.policy,
        subject.prediction -> 'classes', subject.epsilon, subject.sha256;
END
$$;
COMMENT ON FUNCTION federated._read_parent(text, jsonb, jsonb) IS
    'The version that model[@tag] names and that a run of such options and policy may begin with; 42704 where there is none, 55000 where it was withdrawn, 0A000 and 22023 where the run may not';

CREATE FUNCTION federated._trace(new_run federated.run) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    parent record;
BEGIN
    IF (new_run).options ->> 'transfer_from' IS NULL THEN
        RETURN NULL;
    END IF;
    SELECT p.* INTO STRICT parent
    FROM federated._read_parent((new_run).options ->> 'transfer_from', (new_run).options, (new_run).policy) AS p;
    PERFORM federated._require_model_owner(parent.model_id);
    RETURN jsonb_build_array(jsonb_build_object(
            'model', parent.model, 'version', parent.version, 'workspace', parent.workspace, 'run', parent.run_id,
            'sha256', encode(parent.sha256, 'hex'), 'epsilon', parent.epsilon,
            'delta', CASE WHEN parent.parent_policy ->> 'privacy_budget' IS NOT NULL THEN parent.parent_policy -> 'delta' END,
            'nodes', federated._learned_from(parent.run_id)))
        || coalesce((SELECT r.lineage FROM federated.run AS r WHERE r.run_id = parent.run_id), '[]');
END
$$;
COMMENT ON FUNCTION federated._trace(federated.run) IS
    'The line of a run that is about to be queued, NULL where it begins with no version; 42501 for who does not own the model that it would begin with';

CREATE FUNCTION federated._is_orphaned(run uuid) RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN EXISTS (
        SELECT FROM federated.run AS r WHERE r.run_id = run AND r.lineage IS NOT NULL AND NOT EXISTS (
            SELECT FROM federated.version AS v
            WHERE v.run_id = (r.lineage -> 0 ->> 'run')::uuid AND v.version = (r.lineage -> 0 ->> 'version')::integer
              AND v.retired_at IS NULL AND NOT federated._is_erased(v)));
END
$$;
COMMENT ON FUNCTION federated._is_orphaned(uuid) IS
    'Whether the version that a run began with was dropped, or retired, or is to be: it cannot be made anew as it was';

CREATE FUNCTION federated._parent_name(run uuid) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT format('%s@%s', r.lineage -> 0 ->> 'model', r.lineage -> 0 ->> 'version')
    FROM federated.run AS r WHERE r.run_id = run AND r.lineage IS NOT NULL
$$;
COMMENT ON FUNCTION federated._parent_name(uuid) IS 'The version that a run began with, as model@number; NULL of all others';

-- Within a workspace the ledger adds up what versions and those before them cost; of another one it knows nothing.
CREATE FUNCTION federated._ancestors(run uuid, own_workspace text) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET extra_float_digits = 1 AS $$
    SELECT jsonb_agg(jsonb_build_object(
        'version', format('%s@%s', a.line ->> 'model', a.line ->> 'version'), 'workspace', a.line -> 'workspace',
        'parameters_sha256', a.line -> 'sha256', 'epsilon', a.line -> 'epsilon', 'delta', a.line -> 'delta',
        'note', CASE WHEN a.line ->> 'workspace' = own_workspace THEN NULL
            WHEN a.line ->> 'epsilon' IS NULL THEN format('and what its ancestor %s@%s learned in workspace %s, without a budget',
                a.line ->> 'model', a.line ->> 'version', a.line ->> 'workspace')
            ELSE format('and %s of its ancestor %s@%s in workspace %s', (a.line ->> 'epsilon')::double precision, a.line ->> 'model',
                a.line ->> 'version', a.line ->> 'workspace') END) ORDER BY a.place)
    FROM federated.run AS r CROSS JOIN LATERAL jsonb_array_elements(r.lineage) WITH ORDINALITY AS a (line, place)
    WHERE r.run_id = run
$$;
COMMENT ON FUNCTION federated._ancestors(uuid, text) IS
    'What a run began with, and what that had begun with, the nearest first, as JSON: of those of another workspace a note of what they cost besides; NULL where it began with no version';

CREATE FUNCTION federated._descends(run uuid, workspace text) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (SELECT FROM federated.run AS r CROSS JOIN LATERAL jsonb_array_elements(r.lineage) AS a (line)
                   WHERE r.run_id = run AND a.line ->> 'workspace' = _descends.workspace)
$$;
COMMENT ON FUNCTION federated._descends(uuid, text) IS 'Whether a run began with what was trained in a workspace, at any remove';
